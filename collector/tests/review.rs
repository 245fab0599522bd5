//! Agents that show a service account's token, and an API that vouches for it, does not, or is away.

#[expect(dead_code, reason = "the API's end of TLS is all that is needed here")]
mod certs;
mod client;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use api_mock::{MockApi, namespaced, tokens::User};
use certs::{Authority, Signed};
use client::{Agent, Collector, fetch, get, report};
use collector::{
    auth::review::{AWAY, NO, Review, Verdict, YES},
    kubernetes::connect::Access,
    metrics::Metrics,
    time::Ns,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
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

/// Speaks TLS for an API that does not: in a pod, it is never reached without. Gives the port.
async fn encrypted(api: &MockApi, signed: &Signed) -> u16 {
    let chain = vec![CertificateDer::from_pem_slice(signed.cert.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).expect("PEM");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (port, to) = (listener.local_addr().expect("an address").port(), api.address());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Whoever does not trust us hangs up, and the test sees what comes of it.
                let Ok(mut near) = acceptor.accept(stream).await else { return };
                let mut far = TcpStream::connect(to).await.expect("the mock");
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    port
}

/// The collector as in a pod: the kubelet's folder stands where the kubelet puts it, for this process alone.
fn in_a_pod(account: &Path, words: &[&str]) -> tokio::process::Command {
    let place = "/var/run/secrets/kubernetes.io/serviceaccount";
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p {place} && mount --bind {} {place} && exec \"$@\"",
        account.display()
    );
    let mut command = tokio::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
    command.arg(env!("CARGO_BIN_EXE_orrery-collector")).args(words);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pod_the_service_account_opens_the_api_for_names_and_for_reviews() {
    let api = MockApi::start().await.expect("a mock");
    api.know(GOOD, user(AGENT, "orrery", Some("n1")));
    api.put(namespaced(
        "Node",
        "",
        "n1",
        json!({ "status": { "addresses": [{ "type": "InternalIP", "address": "10.9.0.1" }] } }),
    ));
    let authority = Authority::new("kubernetes");
    let port = encrypted(&api, &authority.sign("127.0.0.1", 2099)).await;
    let folder = tempfile::tempdir().expect("folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("write");
    write("ca.crt", &authority.pem);
    write("namespace", "orrery");
    write("token", "the-collectors-own");
    // A server that knows another token: ours is over.
    api.fail(|faults| faults.bearer = Some("the-next-one".to_owned()));

    let free = || {
        std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .to_string()
    };
    let (page, reports) = (free(), free());
    let mut collector = in_a_pod(folder.path(), &["--listen", &page, "--report-listen", &reports]);
    collector.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", port.to_string());
    // The rest as the manifest has it.
    for (name, value) in [
        ("ORRERY_NAMES", "kubernetes"),
        ("ORRERY_REPORT_TOKEN_REVIEW", "true"),
        ("ORRERY_REPORT_SERVICE_ACCOUNT", "orrery/orrery-agent"),
    ] {
        assert!(include_str!("../../deploy/kubernetes/orrery.yaml").contains(name), "{name}");
        collector.env(name, value);
    }
    let mut collector = collector.spawn().expect("run");
    let said = async |wanted: &str| {
        let mut last = String::new();
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                last = fetch(&page, "/api/v1/graph?view=node").await.unwrap_or_default();
                if last.contains(wanted) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(waited.await.is_ok(), "{wanted}: {last}");
    };
    said("token has expired").await;
    assert!(get(&page, "/readyz").await.starts_with("HTTP/1.1 503"), "no names yet");
    api.fail(|faults| faults.bearer = Some("the-collectors-own".to_owned()));
    said("\"state\":\"fresh\"").await;
    assert!(get(&page, "/readyz").await.starts_with("HTTP/1.1 200"));
    let body = codec::encode_report(&report("n1", 1, 0)).expect("encode");
    let mut agent = Agent::connect(&reports).await;
    assert_eq!(agent.post_with(&body, GOOD).await.status, 200);
    assert_eq!(agent.post_with(&body, "head.unknown.sign").await.status, 401);
    collector.kill().await.expect("it ran");
}
