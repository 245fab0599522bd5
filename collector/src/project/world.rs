//! Addresses outside the cluster: so many have a vertex of their own in a view, and further ones share one. Pure.

use std::{collections::HashSet, net::IpAddr};

use super::vertex::VertexKey;

/// Addresses with a vertex of their own.
pub(super) const MAX_ADDRESSES: usize = 16_384;

/// Who has one. An address keeps it while an edge leads to it.
#[derive(Debug, Default)]
pub(super) struct World(HashSet<IpAddr>);

impl World {
    /// The vertex that a newly seen end is part of.
    pub(super) fn place(&mut self, key: VertexKey) -> VertexKey {
        match key {
            VertexKey::External(address) if self.0.contains(&address) => key,
            VertexKey::External(_) if self.0.len() >= MAX_ADDRESSES => VertexKey::Further,
            VertexKey::External(address) => {
                self.0.insert(address);
                key
            }
            key => key,
        }
    }

    /// No edge leads there any more.
    pub(super) fn leave(&mut self, key: &VertexKey) {
        if let VertexKey::External(address) = key {
            self.0.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{MAX_ADDRESSES, VertexKey, World};

    #[test]
    fn addresses_beyond_the_bound_share_a_vertex() {
        let key =
            |index: usize| VertexKey::External(IpAddr::V4(Ipv4Addr::from(u32::try_from(index).expect("an address"))));
        let mut world = World::default();
        for index in 0..MAX_ADDRESSES {
            assert_eq!(world.place(key(index)), key(index));
        }
        assert_eq!(world.place(key(MAX_ADDRESSES)), VertexKey::Further);
        assert_eq!(world.place(key(7)), key(7), "who has one keeps it");
        assert_eq!(world.place(VertexKey::Node("n1".into())), VertexKey::Node("n1".into()));
        world.leave(&key(7));
        assert_eq!(world.place(key(MAX_ADDRESSES)), key(MAX_ADDRESSES));
        assert_eq!(world.place(key(7)), VertexKey::Further);
    }
}
