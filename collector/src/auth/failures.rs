//! How often an address showed wrong credentials. Pure.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use crate::time::{Ns, SECOND};

/// Wrong credentials of one address within a window; then it is told to wait.
pub const MAX_FAILURES: u32 = 30;
/// How long such a window lasts.
pub const WINDOW: Ns = 60 * SECOND;
/// Addresses remembered; further ones share one account.
pub const MAX_ADDRESSES: usize = 4_096;

/// Wrong credentials by address.
#[derive(Debug, Default)]
pub struct Failures {
    windows: HashMap<IpAddr, Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Ns,
    failures: u32,
}

impl Failures {
    /// Seconds to wait before this address may try again; none where it may now.
    #[must_use]
    pub fn wait(&self, address: IpAddr, now: Ns) -> Option<u64> {
        let window = self.windows.get(&self.account(address)).filter(|window| is_open(window, now))?;
        let left = window.began + WINDOW - now;
        (window.failures >= MAX_FAILURES).then(|| u64::try_from(left / SECOND).unwrap_or(0) + 1)
    }

    /// Notes a failure; says whether it is the first of its window, which is worth a line in the log.
    pub fn note(&mut self, address: IpAddr, now: Ns) -> bool {
        if self.windows.len() >= MAX_ADDRESSES {
            self.windows.retain(|_, window| is_open(window, now));
        }
        let account = self.account(address);
        let window = self.windows.entry(account).or_insert(Window { began: now, failures: 0 });
        if !is_open(window, now) {
            *window = Window { began: now, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
        window.failures == 1
    }

    /// Whose account an address is on: whoever has an IPv6 address has the 64 bits behind it, too.
    fn account(&self, address: IpAddr) -> IpAddr {
        let account = match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 @ IpAddr::V4(_) => v4,
        };
        let has_room = self.windows.len() < MAX_ADDRESSES || self.windows.contains_key(&account);
        if has_room { account } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) }
    }
}

fn is_open(window: &Window, now: Ns) -> bool {
    (0..WINDOW).contains(&(now - window.began))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{Failures, MAX_ADDRESSES, MAX_FAILURES, SECOND, WINDOW};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn an_address_waits_out_its_window_and_no_other_does() {
        let mut failures = Failures::default();
        let guess = ip("10.0.0.1");
        for n in 0..MAX_FAILURES {
            assert_eq!(failures.wait(guess, SECOND), None, "{n}");
            assert_eq!(failures.note(guess, SECOND), n == 0);
        }
        assert_eq!(failures.wait(guess, 11 * SECOND), Some(51));
        assert_eq!(failures.wait(ip("::ffff:10.0.0.1"), SECOND), failures.wait(guess, SECOND));
        assert_eq!(failures.wait(ip("10.0.0.2"), SECOND), None);
        assert_eq!(failures.wait(guess, SECOND + WINDOW), None);
        assert!(failures.note(guess, SECOND + WINDOW), "a new window begins");
    }

    #[test]
    fn a_network_of_addresses_is_one_guesser() {
        let mut failures = Failures::default();
        for n in 0..MAX_FAILURES {
            failures.note(ip(&format!("2001:db8::{n:x}")), 0);
        }
        assert!(failures.wait(ip("2001:db8::ffff"), 0).is_some());
        assert!(failures.wait(ip("2001:db8:0:1::1"), 0).is_none());
    }

    #[test]
    fn beyond_the_bound_of_addresses_guessers_share_an_account() {
        let mut failures = Failures::default();
        let nth = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n));
        for n in 0..MAX_ADDRESSES as u32 {
            failures.note(nth(n), 0);
        }
        for n in 0..MAX_FAILURES {
            assert_eq!(failures.wait(nth(1 << 24 | n), 0), None);
            failures.note(nth(1 << 24 | n), 0);
        }
        assert!(failures.wait(nth(1 << 25), 0).is_some());
        assert!(failures.windows.len() <= MAX_ADDRESSES + 1);
        assert!(failures.wait(nth(1), 0).is_none(), "who was known keeps an account");
        assert!(failures.note(nth(1 << 25), WINDOW) && failures.windows.len() == 1);
    }
}
