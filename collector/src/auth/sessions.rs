//! Who is logged in: cookies of bounded life, kept in memory, so that a restart ends them all.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use rustls::crypto::ring;
use subtle::ConstantTimeEq as _;

use crate::time::{Ns, SECOND};

/// Sessions at once; the one that ends first makes room.
pub const MAX_SESSIONS: usize = 1_024;
/// A session ends this long after its login, whatever happened in it.
pub const LIFE: Ns = 12 * 3_600 * SECOND;

/// A cookie is a name to look up and a secret to compare, both in hex.
const NAME: usize = 16;
const SECRET: usize = 32;

struct Session {
    secret: [u8; SECRET],
    /// What it was opened with: a token that is taken back takes its sessions along.
    token: String,
    ends: Ns,
}

/// All sessions.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<[u8; NAME], Session>>);

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Sessions {
    /// Begins one; none where the system has no random numbers.
    pub fn open(&self, token: &str, now: Ns) -> Option<String> {
        let mut bytes = [0; NAME + SECRET];
        ring::default_provider().secure_random.fill(&mut bytes).ok()?;
        let (name, secret) = (bytes[..NAME].try_into().ok()?, bytes[NAME..].try_into().ok()?);
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, session| session.ends > now);
        if table.len() >= MAX_SESSIONS
            && let Some(first) = table.iter().min_by_key(|(_, session)| session.ends).map(|(name, _)| *name)
        {
            table.remove(&first);
        }
        table.insert(name, Session { secret, token: token.to_owned(), ends: now + LIFE });
        Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The token that a cookie's session was opened with, while it lasts.
    pub fn token(&self, cookie: &str, now: Ns) -> Option<String> {
        let (name, secret) = parse(cookie)?;
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = table.get(&name)?;
        let same: bool = session.secret.ct_eq(&secret).into();
        (same && session.ends > now).then(|| session.token.clone())
    }

    /// Ends a session; whether there was one.
    pub fn close(&self, cookie: &str, now: Ns) -> bool {
        let is_open = self.token(cookie, now).is_some();
        if is_open && let Some((name, _)) = parse(cookie) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        }
        is_open
    }
}

fn parse(cookie: &str) -> Option<([u8; NAME], [u8; SECRET])> {
    if cookie.len() != 2 * (NAME + SECRET) || !cookie.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        (0..NAME + SECRET).map(|at| u8::from_str_radix(&cookie[2 * at..2 * at + 2], 16).ok()).collect();
    let bytes = bytes?;
    Some((bytes[..NAME].try_into().ok()?, bytes[NAME..].try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{LIFE, MAX_SESSIONS, Sessions};

    #[test]
    fn a_session_ends_by_time_by_logout_and_by_no_other_cookie() {
        let sessions = Sessions::default();
        let cookie = sessions.open("the token", 0).expect("random numbers");
        let other = sessions.open("the token", 0).expect("random numbers");
        assert_ne!(cookie, other);
        assert_eq!(sessions.token(&cookie, LIFE - 1).as_deref(), Some("the token"));
        assert_eq!(sessions.token(&cookie, LIFE), None);
        // One's name with the other's secret is nobody's.
        let mixed = format!("{}{}", &cookie[..32], &other[32..]);
        for wrong in [mixed.as_str(), "", "zz", &cookie[1..], &"é".repeat(48)] {
            assert_eq!(sessions.token(wrong, 1), None);
            assert!(!sessions.close(wrong, 1));
        }
        assert!(sessions.close(&cookie, 1) && !sessions.close(&cookie, 1));
        assert!(sessions.token(&other, 1).is_some());
    }

    #[test]
    fn the_bound_of_sessions_holds() {
        let sessions = Sessions::default();
        let first = sessions.open("t", 0).expect("random numbers");
        let second = sessions.open("t", 1).expect("random numbers");
        for now in 2..=MAX_SESSIONS as i64 {
            sessions.open("t", now).expect("random numbers");
        }
        assert!(sessions.token(&first, 5_000).is_none() && sessions.token(&second, 5_000).is_some());
        assert_eq!(sessions.0.lock().expect("lock").len(), MAX_SESSIONS);
    }
}
