//! Bearer tokens from a file, one a line; several are valid at once, so that they can be exchanged one after the other.

use std::path::{Path, PathBuf};

use prometheus_client::metrics::counter::Counter;
use subtle::{Choice, ConstantTimeEq as _};

use crate::files::{self, FileError, Reread};

/// A shorter one could be guessed.
pub const MIN_BYTES: usize = 16;
/// A longer one is no token: a service account's are some 1,500 bytes.
pub const MAX_BYTES: usize = 8_192;
/// Tokens in one file.
pub const MAX_TOKENS: usize = 64;

/// The valid tokens.
#[derive(Debug)]
pub struct Tokens(Reread<List>);

/// One state of the file. It has no `Debug`: it is nothing for logs.
struct List(Vec<String>);

impl Tokens {
    /// Reads the file; it is read again when it changes.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn new(path: PathBuf, failures: Counter) -> Result<Self, FileError> {
        let from = path.clone();
        Ok(Self(Reread::new(vec![path], failures, move || list(&from))?))
    }

    /// Whether this is one of them. How long it takes depends on the lengths alone, and every token is looked at.
    pub fn contain(&self, given: &str) -> bool {
        let list = self.0.current();
        let any = |found: Choice, token: &String| found | token.as_bytes().ct_eq(given.as_bytes());
        list.0.iter().fold(Choice::from(0), any).into()
    }
}

fn list(path: &Path) -> Result<List, FileError> {
    let wrong = |what: String| FileError::Content {
        path: path.to_owned(),
        what,
        hint: "a token a line, such as `openssl rand -hex 32` makes; lines that begin with # are skipped",
    };
    let text = String::from_utf8(files::read(path)?).map_err(|_| wrong("not text".to_owned()))?;
    let tokens = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let tokens: Vec<String> = tokens.map(str::to_owned).collect();
    if tokens.is_empty() || tokens.len() > MAX_TOKENS {
        return Err(wrong(format!("{} tokens in it, where 1 to {MAX_TOKENS} may be", tokens.len())));
    }
    for (index, token) in tokens.iter().enumerate() {
        let odd = !(MIN_BYTES..=MAX_BYTES).contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic());
        if odd {
            return Err(wrong(format!("token {} is not {MIN_BYTES} to {MAX_BYTES} visible characters", index + 1)));
        }
    }
    Ok(List(tokens))
}

#[cfg(test)]
mod tests {
    use super::{Counter, MAX_TOKENS, Tokens};

    fn check(text: &str) -> Result<Tokens, String> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("tokens");
        std::fs::write(&path, text).expect("write");
        Tokens::new(path, Counter::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_line_is_a_token() {
        let tokens = check("# both\n0123456789abcdef\n\n  fedcba9876543210 \r\n").expect("two tokens");
        for (given, right) in [
            ("0123456789abcdef", true),
            ("fedcba9876543210", true),
            ("fedcba987654321", false),
            ("fedcba98765432100", false),
            ("0123456789abcdeF", false),
            ("# both", false),
            ("", false),
        ] {
            assert_eq!(tokens.contain(given), right, "{given}");
        }
        assert!(!format!("{tokens:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn a_file_that_would_let_anybody_in_is_refused() {
        let many = "0123456789abcdef\n".repeat(MAX_TOKENS + 1);
        assert!(check(&"0123456789abcdef\n".repeat(MAX_TOKENS)).is_ok());
        for text in ["", "# nothing\n", "short\n", "0123456789abcdef\nwith a space in it\n", &many] {
            let error = check(text).expect_err("refused");
            assert!(error.contains("hint: ") && !error.contains("short") && !error.contains("space in"), "{error}");
        }
    }
}
