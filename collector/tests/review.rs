//! Agents that show a service account's token, and an API that vouches for it, does not, or is away.

mod client;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use api_mock::{MockApi, tokens::User};
use client::{Collector, report};
use collector::{
    auth::review::{AWAY, NO, Review, Verdict, YES},
    kubernetes::connect::Access,
    metrics::Metrics,
    time::Ns,
};
use wire::codec;

const AGENT: &str = "system:serviceaccount:orrery:orrery-agent";
/// Three parts, as such tokens have; nothing looks into them.
const GOOD: &str = "head.good.sign";

fn user(name: &str, audience: &str, node: Option<&str>) -> User {
    User { name: name.to_owned(), audiences: vec![audience.to_owned()], node: node.map(str::to_owned) }
}

fn reviews(api: &MockApi) -> u64 {
    let calls = api.calls().into_iter().filter(|((verb, _, kind), _)| *verb == "create" && kind == "tokenreviews");
    calls.map(|(_, count)| count).sum()
}

async fn api() -> (MockApi, tempfile::TempDir, PathBuf) {
    let api = MockApi::start().await.expect("a mock");
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, api.kubeconfig("the-collectors-own")).expect("write");
    (api, folder, path)
}

#[tokio::test]
async fn a_service_account_reports_for_its_own_node() {
    let (api, _folder, path) = api().await;
    api.know(GOOD, user(AGENT, "orrery", Some("n1")));
    api.know("head.older.sign", user(AGENT, "orrery", None));
    api.know("head.api.sign", user(AGENT, "https://kubernetes.default.svc", Some("n1")));
    api.know("head.other.sign", user("system:serviceaccount:shop:cart", "orrery", Some("n1")));
    let kubeconfig = path.to_str().expect("UTF-8");
    let args = ["--report-token-review", "--report-service-account", "orrery/orrery-agent", "--kubeconfig", kubeconfig];
    let collector = Collector::start(&args).await;
    let mut agent = collector.agent().await;
    for (token, node, status, words) in [
        (GOOD, "n1", 200, ""),
        (GOOD, "n2", 403, "the credential is another node's: n1; hint: "),
        // A server that does not tell the node.
        ("head.older.sign", "n2", 200, ""),
        ("head.api.sign", "n1", 401, "not valid"),
        ("head.other.sign", "n1", 401, "not valid"),
        ("head.unknown.sign", "n1", 401, "not valid"),
        ("no-such-token", "n1", 401, "not valid"),
        (GOOD, "n1", 200, ""),
    ] {
        let body = codec::encode_report(&report(node, 1, 0)).expect("encode");
        let reply = agent.post_with(&body, token).await;
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, status, "{token} {node}: {text}");
        assert!(text.contains(words), "{text}");
    }
    // Each token was asked about once, and what is none not at all.
    assert_eq!(reviews(&api), 5);
    let metrics = collector.get("/metrics").await;
    assert!(metrics.contains("auth_token_reviews_total{outcome=\"agent\"} 2"), "{metrics}");
    collector.stop().await;
}

static NOW: AtomicI64 = AtomicI64::new(0);

fn now() -> Ns {
    NOW.load(Ordering::Relaxed)
}

#[tokio::test]
async fn an_answer_holds_for_a_bounded_time() {
    let (api, _folder, path) = api().await;
    api.know(GOOD, user(AGENT, "orrery", None));
    let access = Access { kubeconfig: Some(path), context: None };
    let account = "orrery/orrery-agent".parse().expect("an account");
    let review = Review::new(access, vec![account], Arc::new(Metrics::default()), now);
    let yes = Verdict::Agent { node: None };
    assert_eq!(review.ask(GOOD).await, yes);
    api.forget(GOOD);
    NOW.store(YES - 1, Ordering::Relaxed);
    assert_eq!((review.ask(GOOD).await, reviews(&api)), (yes.clone(), 1));
    NOW.store(YES, Ordering::Relaxed);
    assert!(matches!(review.ask(GOOD).await, Verdict::Stranger(_)), "a minute after it was taken back");
    api.know(GOOD, user(AGENT, "orrery", None));
    assert!(matches!(review.ask(GOOD).await, Verdict::Stranger(_)), "a no holds for a moment");
    NOW.store(YES + NO, Ordering::Relaxed);
    assert_eq!(review.ask(GOOD).await, yes);
    // The API goes away: who was let in stays in for a while, and nobody else is.
    api.fail(|faults| faults.status = Some(500));
    NOW.store(YES + NO + AWAY - 1, Ordering::Relaxed);
    assert_eq!(review.ask(GOOD).await, yes);
    assert_eq!(review.ask("head.new.sign").await, Verdict::Away);
    NOW.store(YES + NO + AWAY, Ordering::Relaxed);
    assert_eq!(review.ask(GOOD).await, Verdict::Away);
    api.fail(|faults| faults.status = None);
    assert_eq!(review.ask(GOOD).await, yes);
}
