//! The gate of the report port: a certificate, a token of the file, or a token that the Kubernetes API vouches for. Any one
//! of those that are configured will do, so that one can replace another without a gap.

use std::{path::PathBuf, sync::Arc};

use axum::http::HeaderMap;

use super::{
    Guesses, Refusal, bearer, place,
    review::{Account, Review, Verdict},
    tokens::Tokens,
};
use crate::{files::FileError, kubernetes::connect::Access, metrics::Metrics, serve::Peer, time::Ns};

/// What an agent is told whose credential will not do.
pub const HINT: &str = "an agent needs --token-file, or --cert-file and --key-file, as this collector is set up";

/// Who is let in, as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whoever shows a certificate that the port's authority signed.
    pub certificates: bool,
    /// Bearers of these tokens.
    pub token_file: Option<PathBuf>,
    /// These service accounts, by the word of this API.
    pub review: Option<(Access, Vec<Account>)>,
}

impl Rules {
    /// Whether credentials are asked for.
    #[must_use]
    pub fn ask(&self) -> bool {
        self.certificates || self.token_file.is_some() || self.review.is_some()
    }
}

/// Who reports, as far as its credential says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reporter {
    /// It speaks for this node alone.
    pub node: Option<Arc<str>>,
}

/// The gate.
#[derive(Debug)]
pub struct Gate {
    certificates: bool,
    tokens: Option<Tokens>,
    review: Option<Review>,
    asks: bool,
    guesses: Guesses,
    metrics: Arc<Metrics>,
}

impl Gate {
    /// A gate by these rules.
    ///
    /// # Errors
    /// When the file of tokens cannot be used.
    pub fn new(rules: Rules, metrics: Arc<Metrics>, clock: fn() -> Ns) -> Result<Self, FileError> {
        let asks = rules.ask();
        let tokens = rules.token_file.map(|path| Tokens::new(path, metrics.failed_files.clone())).transpose()?;
        let review = rules.review.map(|(access, accounts)| Review::new(access, accounts, Arc::clone(&metrics), clock));
        Ok(Self { certificates: rules.certificates, tokens, review, asks, guesses: Guesses::new(clock), metrics })
    }

    /// Who reports, if it is let in.
    ///
    /// # Errors
    /// When it is not, and why.
    pub async fn admit(&self, headers: &HeaderMap, peer: Peer) -> Result<Reporter, Refusal> {
        if !self.asks {
            return Ok(Reporter::default());
        }
        let outcome = self.judge(bearer(headers), peer).await;
        if let Err(refusal) = &outcome {
            self.metrics.refused_requests.get_or_create(&[("port", "reports"), ("reason", refusal.label())]).inc();
        }
        outcome
    }

    async fn judge(&self, given: Option<&str>, peer: Peer) -> Result<Reporter, Refusal> {
        if self.certificates && peer.certified {
            return Ok(Reporter::default());
        }
        let Some(token) = given else { return Err(Refusal::Missing) };
        self.guesses.may_try(peer)?;
        if self.tokens.as_ref().is_some_and(|tokens| tokens.contain(token)) {
            return Ok(Reporter::default());
        }
        let why = match &self.review {
            None => "not a token of the file",
            Some(review) => match review.ask(token).await {
                Verdict::Agent { node } => return Ok(Reporter { node }),
                Verdict::Away => return Err(Refusal::Unknown),
                Verdict::Stranger(why) => why,
            },
        };
        if self.guesses.wrong(peer) {
            tracing::warn!(target: "audit", peer = place(peer), why, "an agent's credentials refused");
        }
        Err(Refusal::Wrong)
    }
}
