//! HTTP/1.1, small and correct: the shop's servers and clients, and how tests read the API (also over a Unix socket).
//! Bodies have a length or are chunked; nothing here is ever left half read.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::error::{Context, Result};

const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_BODY_BYTES: usize = 64 << 20;
const MAX_CONNECTIONS: usize = 64;

trait Stream: Read + Write + Send {
    fn set_timeout(&self, timeout: Duration) -> std::io::Result<()>;
}

impl Stream for TcpStream {
    fn set_timeout(&self, timeout: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

impl Stream for UnixStream {
    fn set_timeout(&self, timeout: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

/// A response, read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Headers,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context(|| format!("read JSON: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// Names in lower case, and values.
type Headers = Vec<(String, String)>;

/// How a body ends.
enum Length {
    Bytes(usize),
    Chunked,
    Close,
}

/// One kept-alive connection.
pub struct Client {
    stream: BufReader<Box<dyn Stream>>,
}

impl Client {
    /// Connects over TCP. `timeout` bounds each read and write, too.
    pub fn tcp(to: SocketAddr, timeout: Duration) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, timeout)?;
        stream.set_nodelay(true)?;
        Self::over(Box::new(stream), timeout)
    }

    /// Connects to a Unix socket.
    pub fn unix(path: &Path, timeout: Duration) -> std::io::Result<Self> {
        Self::over(Box::new(UnixStream::connect(path)?), timeout)
    }

    fn over(stream: Box<dyn Stream>, timeout: Duration) -> std::io::Result<Self> {
        stream.set_timeout(timeout)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// A GET, or a POST when there is a body.
    pub fn request(&mut self, host: &str, target: &str, body: &[u8]) -> std::io::Result<Response> {
        self.ask(host, target, body, "")?;
        let (status, headers, length) = self.head()?;
        let mut content = Vec::new();
        match length {
            Length::Bytes(bytes) => {
                content.resize(bytes, 0);
                self.stream.read_exact(&mut content)?;
            }
            Length::Chunked => while self.chunk(&mut content)? {},
            Length::Close => {
                let stream = &mut self.stream;
                stream.take(MAX_BODY_BYTES as u64).read_to_end(&mut content)?;
            }
        }
        Ok(Response { status, headers, body: content })
    }

    /// A GET whose answer does not end: server-sent events.
    pub fn events(mut self, host: &str, target: &str, headers: &str) -> std::io::Result<Events> {
        self.ask(host, target, &[], headers)?;
        let (status, _, length) = self.head()?;
        if status != 200 {
            return Err(Error::other(format!("status {status}")));
        }
        Ok(Events { client: self, chunked: matches!(length, Length::Chunked), text: Vec::new() })
    }

    fn ask(&mut self, host: &str, target: &str, body: &[u8], headers: &str) -> std::io::Result<()> {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let mut text =
            format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n{length}{headers}\r\n").into_bytes();
        text.extend_from_slice(body);
        self.stream.get_mut().write_all(&text)
    }

    fn head(&mut self) -> std::io::Result<(u16, Headers, Length)> {
        let text = read_head(&mut self.stream)?.ok_or(ErrorKind::UnexpectedEof)?;
        let mut fields = [httparse::EMPTY_HEADER; 48];
        let mut head = httparse::Response::new(&mut fields);
        head.parse(&text).map_err(Error::other)?;
        let status = head.code.unwrap_or(0);
        let headers: Vec<_> = head
            .headers
            .iter()
            .map(|field| (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned()))
            .collect();
        let value = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let length = if status == 204 || status == 304 {
            Length::Bytes(0)
        } else if value("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            Length::Chunked
        } else if let Some(bytes) = value("content-length") {
            Length::Bytes(bytes.parse().ok().filter(|bytes| *bytes <= MAX_BODY_BYTES).ok_or(ErrorKind::InvalidData)?)
        } else {
            Length::Close
        };
        Ok((status, headers, length))
    }

    /// Appends one chunk; false after the last.
    fn chunk(&mut self, content: &mut Vec<u8>) -> std::io::Result<bool> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let size = line.trim().split(';').next().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let size = size.filter(|size| content.len() + size <= MAX_BODY_BYTES).ok_or(ErrorKind::InvalidData)?;
        let start = content.len();
        content.resize(start + size + 2, 0);
        self.stream.read_exact(&mut content[start..])?;
        content.truncate(start + size);
        Ok(size > 0)
    }
}

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty for the default one.
    pub name: String,
    /// Its id, if it carried one.
    pub id: String,
    /// Its data lines, joined.
    pub data: String,
}

/// An open event stream.
pub struct Events {
    client: Client,
    chunked: bool,
    text: Vec<u8>,
}

impl Events {
    /// The next event; comments (heartbeats) are passed over. Fails when nothing at all came for `timeout`.
    pub fn next(&mut self, timeout: Duration) -> std::io::Result<Option<Event>> {
        self.client.stream.get_ref().set_timeout(timeout)?;
        loop {
            while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                if let Some(event) = parse_event(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(event));
                }
            }
            if self.chunked {
                if !self.client.chunk(&mut self.text)? {
                    return Ok(None);
                }
            } else {
                let more = self.client.stream.fill_buf()?;
                let read = more.len();
                self.text.extend_from_slice(more);
                self.client.stream.consume(read);
                if read == 0 {
                    return Ok(None);
                }
            }
        }
    }
}

fn parse_event(block: &str) -> Option<Event> {
    let mut event = Event::default();
    let mut data: Vec<&str> = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut event.name),
            "id" => value.clone_into(&mut event.id),
            "data" => data.push(value),
            _ => {}
        }
    }
    event.data = data.join("\n");
    (!event.name.is_empty() || !event.data.is_empty()).then_some(event)
}

fn read_head(stream: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        if stream.take(MAX_HEAD_BYTES as u64).read_until(b'\n', &mut text)? == 0 {
            return if text.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
        }
        if text.len() > MAX_HEAD_BYTES {
            return Err(ErrorKind::InvalidData.into());
        }
    }
    Ok(Some(text))
}

/// Answers every request with `bytes` bytes, in threads of its own, until the process ends.
pub(crate) fn serve(on: SocketAddr, bytes: u32) -> Result<()> {
    let listener = TcpListener::bind(on).context(|| format!("listen on {on}"))?;
    let open = std::sync::Arc::new(());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if std::sync::Arc::strong_count(&open) > MAX_CONNECTIONS {
                // Closing it is the answer of a server that is full.
                continue;
            }
            let guard = std::sync::Arc::clone(&open);
            std::thread::spawn(move || {
                let _guard = guard;
                if let Err(error) = answer(&stream, bytes) {
                    eprintln!("http on {on}: {error}");
                }
            });
        }
    });
    Ok(())
}

fn answer(stream: &TcpStream, bytes: u32) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_timeout(Duration::from_secs(60))?;
    let mut requests = BufReader::new(stream);
    let mut out = stream;
    while let Some(text) = read_head(&mut requests)? {
        let mut fields = [httparse::EMPTY_HEADER; 48];
        let mut head = httparse::Request::new(&mut fields);
        head.parse(&text).map_err(Error::other)?;
        let length = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        let length: u64 =
            length.and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse().ok()).unwrap_or(0);
        std::io::copy(&mut (&mut requests).take(length), &mut std::io::sink())?;
        let mut response =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {bytes}\r\n\r\n")
                .into_bytes();
        response.resize(response.len() + bytes as usize, b'.');
        out.write_all(&response)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Client, Event, parse_event, serve};
    use std::time::Duration;

    #[test]
    fn requests_share_a_connection() {
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
        serve(port, 1000).expect("it listens");
        let mut client = Client::tcp(port, Duration::from_secs(5)).expect("it connects");
        for body in [&b""[..], b"hello"] {
            let response = client.request("shop", "/cart", body).expect("an answer");
            assert_eq!((response.status, response.body.len()), (200, 1000));
        }
    }

    #[test]
    fn events_are_read() {
        assert_eq!(parse_event(": heartbeat\n\n"), None);
        let event = Event { name: "delta".into(), id: "1-2".into(), data: "{}".into() };
        assert_eq!(parse_event("event: delta\nid: 1-2\ndata: {}\n\n"), Some(event));
    }
}
