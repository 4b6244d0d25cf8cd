//! A small HTTP/1.1 server, which also answers wrongly: bodies that are cut, endless, slow or of a false length.
//!
//! It is written on sockets, because the libraries for servers prevent most of these faults.

mod request;

pub use request::{Request, encoded};

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes after which an endless body ends, so that no test runs for ever.
const ENDLESS: usize = 4 << 30;

/// Pause after which a slow answer looks whether the server has stopped.
const TICK: Duration = Duration::from_millis(20);

/// A request that was received, and how it was answered.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// Time since the start of the server.
    pub at: Duration,
    /// Method, such as `GET`.
    pub method: String,
    /// Path and query as they were received.
    pub target: String,
    /// Headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body of the request, as text.
    pub body: String,
    /// Status of the answer; 0 if there was none.
    pub status: u16,
    /// Whether the answer was a fault on demand.
    pub faulty: bool,
}

impl RequestRecord {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The header of this name, in lower case; empty if the request has none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Body of an answer, and how it is sent.
#[derive(Debug, Clone)]
pub enum Body {
    /// These bytes with their length.
    Whole(Vec<u8>),
    /// These bytes, of which only so many are sent.
    Cut(Vec<u8>, usize),
    /// These bytes one at a time, with a pause after each.
    Drip(Vec<u8>, Duration),
    /// These bytes again and again, without a length.
    Endless(Vec<u8>),
    /// These bytes with this text as their length.
    Declared(Vec<u8>, String),
    /// These bytes in place of status, headers and body.
    Raw(Vec<u8>),
    /// Nothing: the connection ends.
    Drop,
}

impl Body {
    /// The bytes of the answer as they were before any fault.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(b) | Self::Cut(b, _) | Self::Drip(b, _) | Self::Endless(b) | Self::Declared(b, _) => b,
            Self::Raw(bytes) => bytes,
            Self::Drop => &[],
        }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Names and values of headers; a name occurs once.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Body,
    /// Time before the first byte.
    pub delay: Duration,
}

impl Reply {
    /// An answer with these bytes.
    pub fn bytes(status: u16, kind: &str, bytes: Vec<u8>) -> Self {
        let headers = vec![("Content-Type".into(), kind.into())];
        Self { status, headers, body: Body::Whole(bytes), delay: Duration::ZERO }
    }

    /// An answer with this text.
    pub fn text(status: u16, kind: &str, text: &str) -> Self {
        Self::bytes(status, kind, text.as_bytes().to_vec())
    }

    /// An answer in JSON.
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::text(status, "application/json; charset=utf-8", &value.to_string())
    }

    /// Sets a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What answers the requests of a server: the answer, and whether it is a fault.
type Handler = dyn Fn(&Request) -> (Reply, bool) + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    start: Instant,
    log: Mutex<Vec<RequestRecord>>,
    stopped: AtomicBool,
}

/// A server with threads of its own, which end with it.
pub struct Server {
    port: u16,
    host: &'static str,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts a server on this address of the loopback interface; port 0 takes any free port.
    ///
    /// # Panics
    /// The port is taken.
    pub fn start(host: &'static str, port: u16, handler: Box<Handler>) -> Self {
        let listener = TcpListener::bind((host, port)).expect("a free port of the loopback interface");
        let port = listener.local_addr().expect("an address").port();
        let shared =
            Arc::new(Shared { handler, start: Instant::now(), log: Mutex::default(), stopped: AtomicBool::new(false) });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // A client that disconnects is not an error.
                std::thread::spawn(move || serve(&stream, &shared).ok());
            }
        });
        Self { port, host, shared }
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The requests so far, in the order in which they came.
    pub fn log(&self) -> Vec<RequestRecord> {
        self.shared.log.lock().expect("no thread panicked").clone()
    }

    /// Empties the log.
    pub fn clear_log(&self) {
        self.shared.log.lock().expect("no thread panicked").clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts connections.
        TcpStream::connect((self.host, self.port)).ok();
    }
}

/// Answers the requests of a connection until either side ends it.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream);
    while !shared.stopped.load(Ordering::Relaxed) {
        let Some(request) = Request::read(&mut reader)? else { return Ok(()) };
        let at = shared.start.elapsed();
        let (reply, faulty) = (shared.handler)(&request);
        let status = if matches!(reply.body, Body::Drop | Body::Raw(_)) { 0 } else { reply.status };
        let record = RequestRecord {
            at,
            method: request.method.clone(),
            target: request.target.clone(),
            headers: request.headers.clone(),
            body: String::from_utf8_lossy(&request.body).into_owned(),
            status,
            faulty,
        };
        shared.log.lock().expect("no thread panicked").push(record);
        if !send(stream, &request, &reply, shared)? || request.header("connection").eq_ignore_ascii_case("close") {
            break;
        }
    }
    stream.shutdown(std::net::Shutdown::Both)
}

/// Waits, unless the server stops.
fn pause(time: Duration, shared: &Shared) -> io::Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if shared.stopped.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        std::thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// Sends an answer; says whether the connection can be used again.
fn send(mut stream: &TcpStream, request: &Request, reply: &Reply, shared: &Shared) -> io::Result<bool> {
    pause(reply.delay, shared)?;
    let length = match &reply.body {
        Body::Drop => return Ok(false),
        Body::Raw(bytes) => return stream.write_all(bytes).map(|()| false),
        Body::Endless(_) => None,
        Body::Declared(_, text) => Some(text.clone()),
        Body::Whole(bytes) | Body::Cut(bytes, _) | Body::Drip(bytes, _) => Some(bytes.len().to_string()),
    };
    let again = matches!(reply.body, Body::Whole(_));
    let mut head = format!("HTTP/1.1 {} {}\r\n", reply.status, reason(reply.status));
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // 304 has no body, and no length.
    if let Some(length) = length.filter(|_| reply.status != 304) {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    head.push_str(if again { "\r\n" } else { "Connection: close\r\n\r\n" });
    stream.write_all(head.as_bytes())?;
    if request.method == "HEAD" || reply.status == 304 {
        return Ok(again);
    }
    match &reply.body {
        Body::Whole(bytes) | Body::Declared(bytes, _) => stream.write_all(bytes)?,
        Body::Cut(bytes, after) => stream.write_all(&bytes[..(*after).min(bytes.len())])?,
        Body::Drip(bytes, time) => {
            for byte in bytes {
                stream.write_all(&[*byte])?;
                pause(*time, shared)?;
            }
        }
        Body::Endless(bytes) => {
            let chunk = if bytes.is_empty() { vec![b'x'; 4096] } else { bytes.clone() };
            let mut sent = 0;
            while sent < ENDLESS && !shared.stopped.load(Ordering::Relaxed) {
                stream.write_all(&chunk)?;
                sent += chunk.len();
            }
        }
        Body::Raw(_) | Body::Drop => {}
    }
    Ok(again)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
