//! Projected tokens of service accounts, checked by the Kubernetes API's TokenReview. Answers are kept for a bounded time:
//! an agent reports five times a second, and the API is not asked as often.

use std::{
    collections::HashMap,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::Client;
use serde::Deserialize;
use tokio::{
    sync::{OnceCell, Semaphore},
    time::timeout,
};

use crate::{
    kubernetes::{connect::Access, tally::Tally},
    metrics::Metrics,
    time::{MINUTE, Ns, SECOND},
};

/// Whom such a token is made out to. One for the API itself opens nothing here, and ours opens nothing there.
pub const AUDIENCE: &str = "orrery";
/// How long a yes holds: so long may an agent go on whose pod is gone.
pub const YES: Ns = MINUTE;
/// How long a yes holds while the API is away.
pub const AWAY: Ns = 10 * MINUTE;
/// How long a no holds.
pub const NO: Ns = 10 * SECOND;
/// Answers kept: two for each node that may be, as tokens are renewed. Beyond, what is over makes room, or nothing is kept.
pub const MAX_KEPT: usize = 8_192;
/// Questions at once.
const MAX_ASKING: usize = 8;
/// The longest that an answer takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where the API tells the node of a token's pod (Kubernetes 1.30 and newer).
const NODE: &str = "authentication.kubernetes.io/node-name";

/// A service account: `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    user: String,
}

/// Not a service account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a service account; hint: NAMESPACE/NAME")]
pub struct NoAccount;

impl FromStr for Account {
    type Err = NoAccount;

    fn from_str(text: &str) -> Result<Self, NoAccount> {
        let (namespace, name) = text.split_once('/').ok_or(NoAccount)?;
        let is_name = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        };
        if !is_name(namespace) || !is_name(name) {
            return Err(NoAccount);
        }
        Ok(Self { user: format!("system:serviceaccount:{namespace}:{name}") })
    }
}

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// An agent's; of this node, where the API says so.
    Agent {
        /// The node.
        node: Option<Arc<str>>,
    },
    /// Not an agent's.
    Stranger(&'static str),
    /// Nobody could tell.
    Away,
}

/// The way to the answers.
pub struct Review {
    access: Access,
    accounts: Vec<Account>,
    client: OnceCell<Client>,
    kept: Mutex<HashMap<String, (Verdict, Ns)>>,
    turns: Semaphore,
    metrics: Arc<Metrics>,
    clock: fn() -> Ns,
}

impl std::fmt::Debug for Review {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Review").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    user: User,
}

#[derive(Deserialize, Default)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: HashMap<String, Vec<String>>,
}

impl Review {
    /// Asks this API about tokens, of which these accounts' will do.
    pub fn new(access: Access, accounts: Vec<Account>, metrics: Arc<Metrics>, clock: fn() -> Ns) -> Self {
        let (client, kept, turns) = (OnceCell::new(), Mutex::default(), Semaphore::new(MAX_ASKING));
        Self { access, accounts, client, kept, turns, metrics, clock }
    }

    /// Whose token this is.
    pub async fn ask(&self, token: &str) -> Verdict {
        // The API is not asked about what is no such token at all.
        if token.split('.').count() != 3 || token.len() > super::tokens::MAX_BYTES {
            return Verdict::Stranger("not a service account's token");
        }
        let known = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned();
        let age = known.as_ref().map(|(_, at)| (self.clock)() - at);
        match (&known, age) {
            (Some((yes @ Verdict::Agent { .. }, _)), Some(age)) if (0..YES).contains(&age) => return yes.clone(),
            (Some((no, _)), Some(age)) if !matches!(no, Verdict::Agent { .. }) && (0..NO).contains(&age) => {
                return no.clone();
            }
            _ => {}
        }
        let verdict = match timeout(PATIENCE, self.review(token)).await {
            Ok(Ok(answer)) => self.read(&answer),
            Ok(Err(error)) => {
                tracing::debug!(error, "token review failed");
                Verdict::Away
            }
            Err(_) => Verdict::Away,
        };
        let label = match verdict {
            Verdict::Agent { .. } => "agent",
            Verdict::Stranger(_) => "stranger",
            Verdict::Away => "failed",
        };
        self.metrics.token_reviews.get_or_create(&[("outcome", label)]).inc();
        if verdict == Verdict::Away {
            // Not the moment to lose all agents at once: who was one a few minutes ago still is.
            return match (known, age) {
                (Some((yes @ Verdict::Agent { .. }, _)), Some(age)) if (0..AWAY).contains(&age) => yes,
                _ => Verdict::Away,
            };
        }
        self.keep(token, &verdict);
        verdict
    }

    fn keep(&self, token: &str, verdict: &Verdict) {
        let now = (self.clock)();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (verdict, at)| {
                now - *at < if matches!(verdict, Verdict::Agent { .. }) { AWAY } else { NO }
            });
        }
        if kept.len() < MAX_KEPT || kept.contains_key(token) {
            kept.insert(token.to_owned(), (verdict.clone(), now));
        }
    }

    async fn review(&self, token: &str) -> Result<Answer, String> {
        let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
        let made = self.client.get_or_try_init(|| async {
            self.access.client(&Tally::new(Arc::clone(&self.metrics))).await.map_err(|error| error.to_string())
        });
        let client = made.await?;
        let body = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": [AUDIENCE] },
        });
        let request = http::Request::post("/apis/authentication.k8s.io/v1/tokenreviews")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|error| error.to_string())?;
        // The API's own words, which have no token in them.
        client.request(request).await.map_err(|error| error.to_string())
    }

    fn read(&self, answer: &Answer) -> Verdict {
        let Status { authenticated, audiences, user } = &answer.status;
        if !authenticated {
            return Verdict::Stranger("the API does not know the token");
        }
        // An API that knows no audiences leaves them out; its word is then about tokens of its own.
        if !audiences.iter().any(|audience| audience == AUDIENCE) {
            return Verdict::Stranger("a token of another audience");
        }
        if !self.accounts.iter().any(|account| account.user == user.username) {
            return Verdict::Stranger("a service account that is not named by --report-service-account");
        }
        let node = user.extra.get(NODE).and_then(|nodes| nodes.first()).map(|node| Arc::from(node.as_str()));
        Verdict::Agent { node }
    }
}

#[cfg(test)]
mod tests {
    use super::Account;

    #[test]
    fn accounts() {
        let account: Account = "orrery/orrery-agent".parse().expect("an account");
        assert_eq!(account.user, "system:serviceaccount:orrery:orrery-agent");
        for wrong in ["", "agent", "/agent", "orrery/", "a/b/c", "a/b:c", "a b/c"] {
            assert!(wrong.parse::<Account>().is_err(), "{wrong}");
        }
    }
}
