//! `orrery-collector observe` and `compare`: what they are told, and how they end.

mod compare;
mod observe;

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use clap::{Args, Subcommand, ValueEnum};

use super::client::{ClientError, Server, Tls};

/// Beside serving: tools that look at Hubble's flows.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Print flows of a Hubble server, of Orrery's own, or of a file, as `hubble observe` does. Times are UTC.
    Observe(observe::Observe),
    /// Hold Hubble's edges against Orrery's, with a reason for each difference.
    Compare(compare::Compare),
}

impl Tool {
    /// Runs it; how it ended.
    ///
    /// # Errors
    /// In words, with what to do about it.
    pub async fn run(self) -> anyhow::Result<bool> {
        match self {
            Self::Observe(observe) => observe.run().await.map(|()| true),
            Self::Compare(compare) => compare.run().await,
        }
    }
}

/// TLS towards a Hubble server, under the names that `hubble` has for it.
#[derive(Debug, Clone, Args)]
pub struct TlsArgs {
    /// Speak TLS to the server.
    #[arg(long)]
    tls: bool,
    /// Authorities that sign the server's certificate, in PEM; may be given more than once.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    tls_ca_cert_files: Vec<PathBuf>,
    /// Our certificate, for servers that ask for one.
    #[arg(long, value_name = "FILE", requires = "tls_client_key_file")]
    tls_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "tls_client_cert_file")]
    tls_client_key_file: Option<PathBuf>,
    /// The name in the server's certificate, where it is not the address.
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
}

impl TlsArgs {
    fn server(self, address: &str) -> Result<Server, ClientError> {
        let asked = self.tls || !self.tls_ca_cert_files.is_empty() || self.tls_client_cert_file.is_some();
        let asked = asked || address.starts_with("tls://") || address.starts_with("https://");
        let tls = Tls {
            authorities: self.tls_ca_cert_files,
            identity: self.tls_client_cert_file.zip(self.tls_client_key_file),
            server_name: self.tls_server_name,
        };
        Server::parse(address, asked.then_some(tls))
    }
}

/// Turns `--not --pod X` into `--pod !X`, since an argument's neighbour is not told to us otherwise.
#[must_use]
pub fn negations(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut result: Vec<OsString> = Vec::new();
    let (mut negate, mut value_comes) = (false, false);
    for word in words {
        if value_comes {
            (negate, value_comes) = (false, false);
            result.push([OsStr::new("!"), &word].into_iter().collect());
        } else if word == "--not" {
            negate = true;
        } else if negate {
            match word.to_str().and_then(|word| word.split_once('=')) {
                Some((flag, value)) => {
                    negate = false;
                    result.push(format!("{flag}=!{value}").into());
                }
                None => {
                    value_comes = true;
                    result.push(word);
                }
            }
        } else {
            result.push(word);
        }
    }
    if negate && !value_comes {
        // Nothing came to be reversed: said by whoever reads the arguments.
        result.push("--not".into());
    }
    result
}

/// How flows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FlowForm {
    /// A line for people.
    Compact,
    /// One JSON object a line.
    #[value(alias = "json")]
    Jsonpb,
}

#[cfg(test)]
mod tests {
    use super::negations;

    #[test]
    fn not_reverses_what_comes_next() {
        let check = |words: &[&str], expected: &[&str]| {
            assert_eq!(negations(words.iter().map(Into::into)), expected, "{words:?}");
        };
        check(&["observe", "--pod", "a"], &["observe", "--pod", "a"]);
        check(&["observe", "--not", "--pod", "a", "--port", "80"], &["observe", "--pod", "!a", "--port", "80"]);
        check(&["--not", "--pod=a"], &["--pod=!a"]);
        check(&["--not"], &["--not"]);
    }
}
