//! `orrery-collector status`, the program itself: its words, its exit codes, and whom it can ask.

use std::time::Duration;

use wire::{codec, v1::Report};

use crate::{
    Files, YEAR,
    certs::Authority,
    client::{Collector, report},
};

const TOKEN: &str = "a-token-for-the-page";

/// Its exit code, and what it says.
async fn status(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_orrery-collector"));
    let run = command.arg("status").args(args).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(40), run).await.expect("in time").expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn status_says_what_is_wrong_and_ends_with_it() {
    let collector = Collector::start(&[]).await;
    let url = format!("http://{}", collector.browser());
    let (code, text, error) = status(&["--orrery", &url]).await;
    assert_eq!((code, error.as_str()), (Some(1), ""), "{text}");
    assert!(text.starts_with("0 of 0 nodes report; one thing is wrong\n"), "{text}");
    assert!(text.contains("\n- no agent has reported\n  hint: start an agent"), "{text}");
    // A node that announces its next report for a long time is not late.
    let well = Report { next_tick_ms: 60_000, ..report("n1", 1, 0) };
    assert_eq!(collector.agent().await.post(&codec::encode_report(&well).expect("encode")).await.status, 200);
    collector.until("/status", "1 of 1 nodes", Duration::from_secs(20)).await;
    let (code, text, _) = status(&["--orrery", &url]).await;
    assert_eq!((code, text.as_str()), (Some(0), "1 of 1 nodes report; all is well\n"));
    // One source: the page's words are the program's, and so are the API's.
    let page = collector.get("/status").await;
    assert!(page.contains("text/plain") && page.ends_with(&format!("\r\n\r\n{text}")), "{page}");
    let (code, json, _) = status(&["--orrery", &url, "-o", "json"]).await;
    let api = collector.get("/api/v1/status").await;
    assert_eq!((code, json.trim()), (Some(0), api.split("\r\n\r\n").nth(1).expect("a body")));
    collector.stop().await;
}

#[tokio::test]
async fn status_shows_its_token_over_tls() {
    let files = Files::new();
    let ours = Authority::new("ours");
    files.put(&ours.sign("localhost", YEAR));
    std::fs::write(files.path("token"), format!("{TOKEN}\n")).expect("write");
    std::fs::write(files.path("root"), &ours.pem).expect("write");
    std::fs::write(files.path("other"), Authority::new("theirs").pem).expect("write");
    let (cert, key, token) = (files.text("cert"), files.text("key"), files.text("token"));
    let (root, other) = (files.text("root"), files.text("other"));
    let collector = Collector::start(&["--ui-tls-cert", &cert, "--ui-tls-key", &key, "--ui-token-file", &token]).await;
    let url = format!("https://{}", collector.browser().replace("127.0.0.1", "localhost"));
    let (code, text, _) = status(&["--orrery", &url, "--orrery-ca", &root, "--orrery-token-file", &token]).await;
    assert!(code == Some(1) && text.contains("no agent has reported"), "{text}");
    for (args, words) in [
        (&["--orrery", &url, "--orrery-ca", &root][..], "401 Unauthorized; hint: --orrery-token-file"),
        (&["--orrery", &url, "--orrery-ca", &other], "hint: --orrery-ca"),
        (&["--orrery", &url], "hint: --orrery-ca"),
        (&["--orrery", "http://127.0.0.1:1"], "is the collector there?"),
        (&["--orrery", "nowhere"], "no address of a collector"),
    ] {
        let (code, text, error) = status(args).await;
        assert_eq!((code, text.as_str()), (Some(2), ""), "{args:?}: {error}");
        assert!(error.contains(words) && !error.contains(TOKEN), "{args:?}: {error}");
    }
    collector.stop().await;
}
