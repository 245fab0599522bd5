//! Who is let in: every endpoint of the routers without credentials, logins, tokens that are exchanged, a proxy's word.

mod client;

use std::path::PathBuf;

use client::{Collector, report};
use collector::http::{Access, BROWSER_ENDPOINTS, REPORT_ENDPOINTS};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use wire::codec;

const TOKEN: &str = "the-first-token-of-all";
const NEXT: &str = "the-second-token-of-all";
const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// Any request; the whole answer.
async fn send(address: &str, line: &str, headers: &[&str], body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: orrery.example\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.expect("write");
    let mut text = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut text)).await.expect("in time").expect("read");
    String::from_utf8_lossy(&text).into_owned()
}

fn status(text: &str) -> u16 {
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {text}"))
}

struct Setup {
    _folder: tempfile::TempDir,
    path: PathBuf,
    collector: Collector,
}

async fn start(extra: &[&str]) -> Setup {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("tokens");
    std::fs::write(&path, format!("{TOKEN}\n")).expect("write");
    let file = path.to_str().expect("UTF-8");
    let args = [&["--ui-token-file", file, "--report-token-file", file], extra].concat();
    let collector = Collector::start(&args).await;
    Setup { _folder: folder, path, collector }
}

/// The list of endpoints is the routers' own; what is open is held against the list below.
#[tokio::test]
async fn without_credentials_every_endpoint_says_401() {
    let setup = start(&[]).await;
    let (browser, reports) = (setup.collector.browser(), setup.collector.reports());
    let mut open = Vec::new();
    let browsers = BROWSER_ENDPOINTS.iter().map(|endpoint| (browser, &endpoint.method, endpoint.path, endpoint.access));
    let agents = REPORT_ENDPOINTS.iter().map(|endpoint| (reports, &endpoint.method, endpoint.path, endpoint.access));
    for (address, method, path, access) in browsers.chain(agents) {
        let text = send(address, &format!("{method} {path}"), &[], &[]).await;
        if address == browser {
            // Whatever is answered: no script but ours, in nobody's frame, and no other page reads it.
            let head = text.to_lowercase();
            assert!(
                head.contains("content-security-policy: default-src 'self'") && head.contains("frame-ancestors 'none'")
            );
            assert!(head.contains("x-content-type-options: nosniff") && !head.contains("access-control"), "{text}");
            // Nothing is changed but sessions.
            assert!(*method == "GET" || ["/login", "/logout"].contains(&path), "{method} {path}");
        }
        match access {
            Access::Guarded => {
                assert_eq!(status(&text), 401, "{method} {path}: {text}");
                assert!(text.to_lowercase().contains("www-authenticate: bearer"), "{text}");
                // Neither another method nor a wrong credential opens what is guarded.
                for (method, header) in [
                    ("HEAD", "X-Nothing: x"),
                    ("DELETE", "X-Nothing: x"),
                    (method.as_str(), "Authorization: Bearer no"),
                ] {
                    let text = send(address, &format!("{method} {path}"), &[header], &[]).await;
                    assert_eq!(status(&text), 401, "{method} {path}: {text}");
                }
            }
            Access::Open(why) => {
                assert!(!why.is_empty() && !text.contains("edges"), "{text}");
                let port = if address == browser { "ui" } else { "reports" };
                open.push(format!("{port} {method} {path}"));
            }
        }
    }
    let expect = [
        "ui POST /login",
        "ui GET /login",
        "ui GET /login.css",
        "ui GET /healthz",
        "ui GET /readyz",
        "reports GET /healthz",
        "reports GET /readyz",
    ];
    assert_eq!(open, expect);
    // The page, its files, what is not there at all, and ways to write a path otherwise.
    for path in [
        "/",
        "/index.html",
        "/assets/x.js",
        "/none",
        "/api/v2",
        "//healthz",
        "/healthz/",
        "/%68ealthz",
        "/login/../metrics",
    ] {
        assert_eq!(status(&send(browser, &format!("GET {path}"), &[], &[]).await), 401, "{path}");
    }
    assert_eq!(status(&send(reports, "GET /metrics", &[], &[]).await), 401);
    assert!(setup.collector.get_with("/metrics", TOKEN).await.contains("{port=\"ui\",reason=\"missing\"}"));
    setup.collector.stop().await;
}

#[tokio::test]
async fn tokens_are_exchanged_without_a_restart() {
    let setup = start(&[]).await;
    let reports = setup.collector.reports().to_owned();
    let body = codec::encode_report(&report("n1", 1, 0)).expect("encode");
    let check = |token: &'static str, expect: u16| {
        let (reports, body) = (reports.clone(), body.clone());
        async move {
            let bearer = format!("Authorization: Bearer {token}");
            assert_eq!(status(&send(&reports, "POST /v1/reports", &[&bearer], &body).await), expect, "{token}");
        }
    };
    check(TOKEN, 200).await;
    check(NEXT, 401).await;
    std::fs::write(&setup.path, format!("{TOKEN}\n{NEXT}\n")).expect("write");
    check(TOKEN, 200).await;
    check(NEXT, 200).await;
    std::fs::write(&setup.path, format!("# {TOKEN}\n{NEXT}\n")).expect("write");
    check(TOKEN, 401).await;
    check(NEXT, 200).await;
    // An emptied file is nobody's wish.
    std::fs::write(&setup.path, "").expect("write");
    check(NEXT, 200).await;
    setup.collector.stop().await;
}

fn session(text: &str) -> String {
    let line = text.lines().find(|line| line.to_lowercase().starts_with("set-cookie: ")).expect("a cookie");
    line.split(": ").nth(1).and_then(|rest| rest.split(';').next()).expect("a value").to_owned()
}

#[tokio::test]
async fn a_login_is_a_session_until_it_or_its_token_ends() {
    let setup = start(&[]).await;
    let address = setup.collector.browser();
    let text = send(address, "GET /?view=%22pod", &["Accept: text/html"], &[]).await;
    assert!(status(&text) == 401 && text.contains("name=\"next\" value=\"/?view=%22pod\""), "{text}");
    let text = send(address, "POST /login", &[], b"token=wrong-but-long-enough&next=/x").await;
    assert!(status(&text) == 401 && text.contains("not valid") && text.contains("value=\"/x\""), "{text}");
    let form = format!("token={TOKEN}&next=%2F%3Fview%3Dpod");
    let text = send(address, "POST /login", &[], form.as_bytes()).await;
    assert!(status(&text) == 303 && text.contains("location: /?view=pod"), "{text}");
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=43200"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains(TOKEN));
    let cookie = format!("Cookie: a=b; {}", session(&text));
    let ask = |line: &'static str, cookie: String| async move { send(address, line, &[&cookie], &[]).await };
    let text = ask("GET /api/v1/graph", cookie.clone()).await;
    assert!(status(&text) == 200 && !text.to_lowercase().contains("access-control"), "{text}");
    assert!(text.contains("form-action 'self'") && text.contains("frame-ancestors 'none'"), "{text}");
    assert_eq!(status(&ask("POST /logout", cookie.clone()).await), 303);
    assert_eq!(status(&ask("GET /api/v1/graph", cookie).await), 401);
    // A token that is taken back takes its sessions along.
    let cookie = format!("Cookie: {}", session(&send(address, "POST /login", &[], form.as_bytes()).await));
    assert_eq!(status(&ask("GET /api/v1/graph", cookie.clone()).await), 200);
    std::fs::write(&setup.path, NEXT).expect("write");
    assert_eq!(status(&ask("GET /api/v1/graph", cookie).await), 401);
    setup.collector.stop().await;
}

#[tokio::test]
async fn guessing_ends_in_waiting() {
    let setup = start(&[]).await;
    let address = setup.collector.browser();
    let guess = || send(address, "POST /login", &[], b"token=wrong-but-long-enough");
    let cookie = format!("token={TOKEN}");
    let cookie = format!("Cookie: {}", session(&send(address, "POST /login", &[], cookie.as_bytes()).await));
    for _ in 0..collector::auth::failures::MAX_FAILURES {
        assert_eq!(status(&guess().await), 401);
    }
    let text = guess().await;
    assert!(status(&text) == 429 && text.to_lowercase().contains("retry-after: "), "{text}");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(status(&send(address, "GET /metrics", &[&bearer], &[]).await), 429, "the right one waits as well");
    assert_eq!(status(&send(address, "GET /metrics", &[&cookie], &[]).await), 200, "who is in stays in");
    let form = vec![b'x'; collector::auth::browsers::MAX_FORM_BYTES + 1];
    assert_eq!(status(&send(address, "POST /login", &[], &form).await), 413);
    setup.collector.stop().await;
}

#[tokio::test]
async fn a_header_is_believed_from_the_proxy_alone() {
    let open = |from: &'static str| async move {
        let args = ["--ui-trusted-header", "X-Forwarded-User", "--ui-trusted-proxy", from];
        let collector = Collector::start(&args).await;
        let ask = |headers: &'static [&'static str]| {
            let address = collector.browser().to_owned();
            async move { status(&send(&address, "GET /api/v1/graph", headers, &[]).await) }
        };
        let answers = [
            ask(&["X-Forwarded-User: eve"]).await,
            ask(&["X-Forwarded-User: "]).await,
            ask(&["X-Forwarded-User: eve", "X-Forwarded-User: adam"]).await,
            ask(&[]).await,
        ];
        collector.stop().await;
        answers
    };
    assert_eq!(open("127.0.0.0/8").await, [200, 401, 401, 401]);
    assert_eq!(open("10.0.0.0/8,fd00::/8").await, [401, 401, 401, 401]);
}

/// A page of somebody else's whose name was turned to the loopback reads nothing.
#[tokio::test]
async fn without_credentials_only_names_of_ours_are_served() {
    let collector = Collector::start(&[]).await;
    let text = send(collector.browser(), "GET /api/v1/graph", &[], &[]).await;
    assert!(status(&text) == 421 && text.contains("hint: ") && !text.contains("edges"), "{text}");
    assert_eq!(status(&collector.get("/api/v1/graph").await), 200);
    collector.stop().await;
    let collector = Collector::start(&["--ui-no-auth"]).await;
    assert_eq!(status(&send(collector.browser(), "GET /api/v1/graph", &[], &[]).await), 200);
    collector.stop().await;
}

/// The whole program at its most talkative: no token, no session, no key of it is in what it says.
#[tokio::test]
async fn no_credential_is_logged() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("tokens");
    std::fs::write(&path, format!("{TOKEN}\n")).expect("write");
    let file = path.to_str().expect("UTF-8");
    let free = || {
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").to_string()
    };
    let (page, reports) = (free(), free());
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_orrery-collector"));
    command.args(["--listen", &page, "--report-listen", &reports, "--log-level", "trace"]);
    command.args(["--ui-token-file", file, "--report-token-file", file]);
    let log = std::fs::File::create(folder.path().join("log")).expect("a log");
    let mut child = command.stderr(log).kill_on_drop(true).spawn().expect("run");
    let up = async {
        while TcpStream::connect(&page).await.is_err() || TcpStream::connect(&reports).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, up).await.expect("it starts");
    let wrong = "Authorization: Bearer a-wrong-one-0123456789";
    let text = send(&page, "POST /login", &[], format!("token={TOKEN}").as_bytes()).await;
    let cookie = session(&text);
    send(&page, "GET /api/v1/graph", &[&format!("Cookie: {cookie}")], &[]).await;
    send(&page, "POST /logout", &[&format!("Cookie: {cookie}")], &[]).await;
    for (address, line) in [(&page, "GET /metrics"), (&reports, "POST /v1/reports")] {
        send(address, line, &[&format!("Authorization: Bearer {TOKEN}")], b"not a report").await;
        send(address, line, &[wrong], &[]).await;
    }
    std::fs::write(&path, "short").expect("write");
    send(&page, "GET /metrics", &[wrong], &[]).await;
    // At run time, too: less on SIGUSR2 is what was asked for, more on SIGUSR1 is our own debug lines.
    let id = child.id().expect("it runs").to_string();
    let said = || std::fs::read_to_string(folder.path().join("log")).expect("read");
    for (signal, filter) in [("-USR1", "info,collector=debug"), ("-USR2", "trace")] {
        let sent = std::process::Command::new("kill").args([signal, &id]).status().expect("kill");
        assert!(sent.success());
        let told = async {
            while !said().contains(&format!("\"filter\":\"{filter}\"")) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, told).await.expect("it is told");
    }
    child.kill().await.expect("end");
    let log = std::fs::read_to_string(folder.path().join("log")).expect("read");
    for audit in ["logged in", "logged out", "credentials refused", "an agent's credentials refused", "cannot be used"]
    {
        assert!(log.contains(audit), "{audit}: {log}");
    }
    for secret in [TOKEN, "a-wrong-one", cookie.split('=').nth(1).expect("a value")] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
