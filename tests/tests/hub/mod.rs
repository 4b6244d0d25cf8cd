//! A small server with the hub's protocol: lists of files, redirects of large files to a "content network" (the same
//! server under its other name, `localhost`), digests in headers, ranges. It fails on demand.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Initial commit of every repository's `main`.
pub const COMMIT: &str = "00112233445566778899aabbccddeeff00112233";

/// A received request.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// Host without the port.
    pub host: String,
    pub range: Option<String>,
    pub if_range: Option<String>,
    pub token: Option<String>,
}

/// A fault of an answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The answer has this status and these headers (each ended by a line break).
    Status(u16, &'static str),
    /// The connection ends after this many bytes of the body.
    Cut(usize),
    /// As `Cut`, and the answer ignores the requested range and begins at the first byte.
    CutWhole(usize),
    /// One byte of the body is wrong.
    Corrupt,
    /// The answer ignores the requested range and holds the whole file.
    NoRange,
    /// The answer is delayed by this time.
    Slow(Duration),
    /// The body is sent one byte at a time, with this time between bytes.
    Drip(Duration),
    /// The answer has no Content-Length: the body ends with the connection.
    NoLength,
}

struct Stored {
    bytes: Vec<u8>,
    large: bool,
}

#[derive(Default)]
struct State {
    commit: String,
    files: BTreeMap<String, Stored>,
    asked: Vec<Asked>,
    faults: Vec<(&'static str, usize, Fault)>,
}

/// The server; its thread runs until the test's process ends.
pub struct Hub {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Hub {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State { commit: COMMIT.into(), ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A client that disconnects is not an error.
                std::thread::spawn(move || serve(stream, port, &shared).ok());
            }
        });
        Self { port, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panicked")
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a file of a repository, `owner/name/path`; a `large` one is redirected to the content network.
    pub fn put(&self, path: &str, bytes: &[u8], large: bool) {
        self.state().files.insert(path.into(), Stored { bytes: bytes.into(), large });
    }

    /// Sets the commit of all branches.
    pub fn moves_to(&self, commit: &str) {
        self.state().commit = commit.into();
    }

    /// Applies a fault to the next `times` requests for which `METHOD path` contains `what`.
    pub fn breaks(&self, what: &'static str, times: usize, fault: Fault) {
        self.state().faults.push((what, times, fault));
    }

    /// Removes all faults.
    pub fn recovers(&self) {
        self.state().faults.clear();
    }

    /// Returns the requests since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }
}

/// SHA-256 of contents, by which the hub names large files.
pub fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// SHA-1 of a git blob, by which the hub names small files.
pub fn git_sha1(bytes: &[u8]) -> String {
    let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &blob).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn serve(mut stream: TcpStream, port: u16, state: &Mutex<State>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut first = head.lines().next().unwrap_or_default().split(' ');
    let (method, path) = (first.next().unwrap_or_default().to_string(), first.next().unwrap_or_default().to_string());
    let header = |wanted: &str| {
        let line = head.lines().filter_map(|l| l.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        line.map(|(_, value)| value.trim().to_string())
    };
    let asked = Asked {
        host: header("host").unwrap_or_default().split(':').next().unwrap_or_default().to_string(),
        range: header("range"),
        if_range: header("if-range"),
        token: header("authorization"),
        method,
        path,
    };
    let (fault, answer) = {
        let mut state = state.lock().expect("no thread panicked");
        state.asked.push(asked.clone());
        let request = format!("{} {}", asked.method, asked.path);
        let fault = state.faults.iter_mut().find(|(what, times, _)| *times > 0 && request.contains(what));
        let fault = fault.map(|(_, times, fault)| {
            *times -= 1;
            fault.clone()
        });
        let ranged = !matches!(fault, Some(Fault::NoRange | Fault::CutWhole(_)));
        (fault, answer(&state, &asked, port, ranged))
    };
    let (mut status, mut headers, mut body) = answer;
    let (length, mut sent) = (body.len(), body.len());
    match fault {
        Some(Fault::Status(other, lines)) => (status, headers) = (other, lines.replace('\n', "\r\n")),
        Some(Fault::Cut(after) | Fault::CutWhole(after)) => sent = sent.min(after),
        Some(Fault::Corrupt) => body.iter_mut().take(1).for_each(|b| *b ^= 1),
        Some(Fault::Slow(time)) => std::thread::sleep(time),
        Some(Fault::NoRange | Fault::NoLength | Fault::Drip(_)) | None => {}
    }
    let length = match fault {
        Some(Fault::NoLength) => String::new(),
        _ => format!("Content-Length: {length}\r\n"),
    };
    write!(stream, "HTTP/1.1 {status} X\r\nConnection: close\r\n{length}{headers}\r\n")?;
    if asked.method != "HEAD" {
        match fault {
            Some(Fault::Drip(time)) => {
                for byte in &body[..sent] {
                    stream.write_all(&[*byte])?;
                    stream.flush()?;
                    std::thread::sleep(time);
                }
            }
            _ => stream.write_all(&body[..sent])?,
        }
    }
    stream.flush()
}

/// Makes the status, headers and body of an answer.
fn answer(state: &State, asked: &Asked, port: u16, ranged: bool) -> (u16, String, Vec<u8>) {
    let path = asked.path.split('?').next().unwrap_or_default();
    let absent = |code: &str| (404, format!("X-Error-Code: {code}\r\nX-Error-Message: not found\r\n"), Vec::new());
    let commit = &state.commit;
    if let Some((id, _)) = path.strip_prefix("/api/models/").and_then(|rest| rest.split_once("/revision/")) {
        let names: Vec<&str> = state.files.keys().filter_map(|name| name.strip_prefix(id)?.strip_prefix('/')).collect();
        let siblings: Vec<_> = names.iter().map(|name| serde_json::json!({"rfilename": name})).collect();
        return match names.is_empty() {
            true => absent("RepoNotFound"),
            false => (200, String::new(), serde_json::json!({"sha": commit, "siblings": siblings}).to_string().into()),
        };
    }
    if let Some(sha) = path.strip_prefix("/cdn/") {
        let stored = state.files.values().find(|stored| sha256(&stored.bytes) == sha);
        return stored.map_or_else(|| absent(""), |stored| part(&stored.bytes, asked, "", ranged));
    }
    if let Some(stored) = path.strip_prefix("/files/").and_then(|name| state.files.get(name)) {
        let etag = git_sha1(&stored.bytes);
        return part(&stored.bytes, asked, &etag, ranged);
    }
    let Some((id, rest)) = path.trim_start_matches('/').split_once("/resolve/") else { return absent("") };
    let Some((revision, name)) = rest.split_once('/') else { return absent("RevisionNotFound") };
    match state.files.get(&format!("{id}/{name}")) {
        _ if revision != commit => absent("RevisionNotFound"),
        None => absent("EntryNotFound"),
        Some(stored) if stored.large => {
            let (sha, size) = (sha256(&stored.bytes), stored.bytes.len());
            let headers = format!(
                "X-Repo-Commit: {commit}\r\nX-Linked-Etag: \"{sha}\"\r\nX-Linked-Size: {size}\r\nETag: \"other\"\r\nLocation: http://localhost:{port}/cdn/{sha}?Signature=secret\r\n"
            );
            (302, headers, b"moved".to_vec())
        }
        Some(stored) => {
            let headers = format!("X-Repo-Commit: {commit}\r\nETag: W/\"{}\"\r\n", git_sha1(&stored.bytes));
            (200, headers, stored.bytes.clone())
        }
    }
}

/// Makes the answer with a file, or with its end from the requested byte.
fn part(bytes: &[u8], asked: &Asked, etag: &str, ranged: bool) -> (u16, String, Vec<u8>) {
    let etag = if etag.is_empty() { String::new() } else { format!("ETag: \"{etag}\"\r\n") };
    let same = asked.if_range.as_ref().is_none_or(|wanted| etag.contains(wanted));
    let start = asked.range.as_ref().filter(|_| ranged && same);
    let start = start.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match start {
        None => (200, etag, bytes.to_vec()),
        Some(start) if start >= bytes.len() => (416, etag, Vec::new()),
        Some(start) => {
            let range = format!("Content-Range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len());
            (206, etag + &range, bytes[start..].to_vec())
        }
    }
}
