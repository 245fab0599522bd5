//! `orrery-agent health`: asks the running agent, for probes in an image that has nothing else to ask with.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail};

/// An agent that does not answer in this time is not well.
const PATIENCE: Duration = Duration::from_secs(3);
/// Its answer is a few lines.
const MAX_ANSWER: u64 = 4_096;

/// Passes on what the agent behind `socket` says.
///
/// # Errors
/// When nobody answers there, or not that all is well.
pub fn run(socket: &Path, out: &mut impl io::Write) -> anyhow::Result<()> {
    let place = || format!("ask agent: {}; hint: --admin-socket PATH, where the agent has it", socket.display());
    let mut stream = UnixStream::connect(socket).with_context(place)?;
    stream.set_read_timeout(Some(PATIENCE)).with_context(place)?;
    stream.set_write_timeout(Some(PATIENCE)).with_context(place)?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").with_context(place)?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).with_context(place)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) != Some("200") {
        bail!("agent not well: {}", head.lines().next().unwrap_or("an empty answer"));
    }
    out.write_all(body.as_bytes()).context("print the answer")
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixListener,
        path::PathBuf,
    };

    use super::run;

    fn answered(answer: &'static str) -> Result<String, String> {
        let path: PathBuf = std::env::temp_dir().join(format!("orrery-health-{}-{}", std::process::id(), answer.len()));
        let listener = UnixListener::bind(&path).expect("bind");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            // What stays unread would reset the connection.
            stream.read_exact(&mut [0; 25]).expect("read the request");
            stream.write_all(answer.as_bytes())
        });
        let mut out = Vec::new();
        let outcome = run(&path, &mut out);
        server.join().expect("join").expect("answer");
        std::fs::remove_file(&path).expect("remove the socket");
        outcome.map(|()| String::from_utf8(out).expect("text")).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn only_a_200_is_health() {
        assert_eq!(answered("HTTP/1.0 200 OK\r\n\r\nok\n"), Ok("ok\n".to_owned()));
        assert!(answered("HTTP/1.0 503 Service Unavailable\r\n\r\n").is_err_and(|error| error.contains("503")));
        assert!(answered("").is_err());
        let nowhere = run(std::path::Path::new("/nonexistent/agent.sock"), &mut Vec::new());
        assert!(nowhere.is_err_and(|error| format!("{error:#}").contains("hint: ")));
    }
}
