//! Which classes of hooks counted an edge's packets: a set. Pure.

use wire::v1::Point;

/// Classes of hooks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Points(u8);

impl Points {
    const ALL: [Point; 5] = [Point::Pod, Point::Tunnel, Point::Uplink, Point::Cgroup, Point::Socket];

    /// These and the report's.
    #[must_use]
    pub fn with(self, point: i32) -> Self {
        Self(
            self.0 | Self::ALL.iter().filter(|known| **known as i32 == point).fold(0, |bits, known| bits | bit(*known)),
        )
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This is one of them.
    #[must_use]
    pub fn has(self, point: Point) -> bool {
        self.0 & bit(point) != 0
    }

    /// None was told.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Only sockets told: no packets were seen.
    #[must_use]
    pub fn is_blind(self) -> bool {
        self.0 == bit(Point::Socket)
    }

    /// The best first.
    pub fn iter(self) -> impl Iterator<Item = Point> {
        Self::ALL.into_iter().filter(move |point| self.0 & bit(*point) != 0)
    }
}

const fn bit(point: Point) -> u8 {
    1 << point as u8
}
