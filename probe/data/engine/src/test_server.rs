//! A small HTTP server for tests of this crate, on the loopback interface.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub time: Instant,
    /// The path with its query.
    pub path: String,
    /// The head of the request in lower case.
    pub head: String,
}

/// A running server; its thread ends with the process.
#[derive(Clone)]
pub struct TestServer {
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<Seen>>>,
}

impl TestServer {
    /// Starts a server on 127.0.0.1 that answers each request with the bytes of `respond(request, how many requests of
    /// its path came before)`.
    pub fn start(respond: impl Fn(&Seen, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1", respond)
    }

    /// Starts a server on an address of the loopback network.
    pub fn start_at(address: &str, respond: impl Fn(&Seen, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let server = Self { address: listener.local_addr().unwrap(), log: Arc::default() };
        let (log, respond) = (server.log.clone(), Arc::new(respond));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let (log, respond) = (log.clone(), respond.clone());
                thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let seen = Seen { time: Instant::now(), path, head: head.to_lowercase() };
                    let before = {
                        let mut log = log.lock().unwrap();
                        let before = log.iter().filter(|other| other.path == seen.path).count();
                        log.push(seen.clone());
                        before
                    };
                    // The client may hang up in the middle of an endless answer.
                    stream.write_all(&respond(&seen, before)).ok();
                });
            }
        });
        server
    }

    /// Returns the address of a path on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    /// Returns how many requests came for a path.
    pub fn count(&self, path: &str) -> usize {
        self.requests().iter().filter(|seen| seen.path == path).count()
    }
}

/// An answer with status 200 and these headers, each with its line end.
pub fn ok_with(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// An answer with status 200.
pub fn ok(body: &[u8]) -> Vec<u8> {
    ok_with("", body)
}

/// An answer with another status and these headers, each with its line end, and no body.
pub fn status(status: &str, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n{headers}\r\n").into_bytes()
}
