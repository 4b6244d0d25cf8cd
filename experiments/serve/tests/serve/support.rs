//! A server on a thread of its own, and a client that sends any bytes.

use burgess_serve::{ChatModel, FakeModel, Server, ServerConfig};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A configuration for a free port.
pub fn config() -> ServerConfig {
    ServerConfig { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..ServerConfig::default() }
}

/// Milliseconds.
pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A running server, which is shut down when dropped.
pub struct Running {
    pub address: SocketAddr,
    pub model: Arc<FakeModel>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<burgess_base::Result<()>>>,
}

impl Running {
    pub fn start(config: ServerConfig) -> Self {
        Self::with(config, FakeModel::new("fake"))
    }

    pub fn with(config: ServerConfig, model: FakeModel) -> Self {
        let model = Arc::new(model);
        let server = Server::bind(config, vec![model.clone() as Arc<dyn ChatModel>]).unwrap();
        let address = server.address();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            server.run_blocking(async {
                stopped.await.ok();
            })
        });
        Self { address, model, stop: Some(stop), thread: Some(thread) }
    }

    /// Begins the shutdown.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
    }

    /// Waits for the end of the server.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// Sends bytes on a new connection.
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(bytes.as_ref()).unwrap();
        stream
    }

    /// Sends bytes on a new connection and reads one response.
    pub fn ask(&self, bytes: impl AsRef<[u8]>) -> Reply {
        Reply::read(&mut self.send(bytes)).expect("a response")
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address))
    }

    /// The bytes of a request with a JSON body.
    pub fn request(&self, path: &str, body: &Value) -> String {
        let body = body.to_string();
        format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask(self.request(path, body))
    }

    pub fn chat(&self, body: &Value) -> Reply {
        self.post("/v1/chat/completions", body)
    }

    /// The head of a chat request, with these headers about its body.
    pub fn head(&self, headers: &str) -> String {
        let address = self.address;
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n{headers}\r\n"
        )
    }

    /// Sends a body as it is.
    pub fn chat_bytes(&self, body: &[u8]) -> Reply {
        let head = self.head(&format!("Content-Length: {}\r\n", body.len()));
        self.ask([head.as_bytes(), body].concat())
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if !std::thread::panicking() {
            self.join();
        }
    }
}

/// A question that the fake model answers with `words` words besides the first three.
pub fn question(words: usize) -> Value {
    json!({"messages": [{"role": "user", "content": "word ".repeat(words).trim_end()}]})
}

/// The same as a stream.
pub fn streamed(words: usize) -> Value {
    let mut body = question(words);
    body["stream"] = true.into();
    body
}

/// A question about an image.
pub fn about_image(url: &str) -> Value {
    json!({"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]}]})
}

/// A response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// Reads a response; `None` if the connection is closed before.
    pub fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(read_byte(stream)?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let mut reply = Self { status, headers: lines.filter_map(pair).collect(), body: Vec::new() };
        if status < 200 || status == 204 {
            return Some(reply);
        }
        if let Some(length) = reply.header("content-length").map(|length| length.parse::<usize>().unwrap()) {
            reply.body = vec![0; length];
            stream.read_exact(&mut reply.body).ok()?;
        } else if reply.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = read_chunk(stream).filter(|chunk| !chunk.is_empty()) {
                reply.body.extend(chunk);
            }
        } else {
            stream.read_to_end(&mut reply.body).ok()?;
        }
        Some(reply)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The message of an error in OpenAI's form.
    pub fn error(&self) -> String {
        let error = &self.json()["error"];
        assert!(error["type"].is_string() && error.get("param").is_some() && error.get("code").is_some(), "{error}");
        error["message"].as_str().unwrap().to_owned()
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or("none").to_owned()
    }
}

fn read_byte(stream: &mut TcpStream) -> Option<u8> {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(1) => Some(byte[0]),
        Ok(_) => None,
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => None,
        Err(e) => panic!("reading a response: {e}"),
    }
}

/// Reads a chunk of a body; `None` if the connection is closed.
pub fn read_chunk(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(read_byte(stream)?);
    }
    let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
    let mut chunk = vec![0; length + 2];
    stream.read_exact(&mut chunk).ok()?;
    chunk.truncate(length);
    Some(chunk)
}

/// Waits until the server closes the connection; what it sends before is returned.
pub fn until_closed(stream: &mut TcpStream) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => all.extend(&part[..count]),
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => break,
            Err(e) => panic!("the connection stays open: {e}"),
        }
    }
    (all, began.elapsed())
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(5), "{what}");
        std::thread::sleep(ms(10));
    }
}
