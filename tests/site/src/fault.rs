//! Faults of a server: what it does instead of, or with, its ordinary answer; and the plans that choose them.

use crate::http::{Body, Reply, Request};
use crate::random;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// A fault of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The answer has this status, these headers and this body.
    Status {
        /// Status code.
        status: u16,
        /// Names and values of headers.
        headers: Vec<(String, String)>,
        /// Body, as text.
        body: String,
    },
    /// The connection ends without an answer.
    Drop,
    /// The connection ends after this many bytes of the body, although more are promised.
    Cut(usize),
    /// The body is complete, but ends after this many bytes: a truncated file.
    Truncate(usize),
    /// The answer is delayed by this time.
    Slow(Duration),
    /// The body is sent one byte at a time, with this pause between bytes.
    Drip(Duration),
    /// The body, without a declared length, never ends (it stops at 4 GiB).
    Endless,
    /// `Content-Length` differs from the length of the body by this number of bytes.
    WrongLength(i64),
    /// `Content-Length` says this text.
    LengthText(String),
    /// The body is compressed by gzip, with this many MiB of spaces in front of the answer.
    GzipBomb(usize),
    /// The answer has this content type.
    ContentType(String),
    /// The answer has the body of another page, with its own headers: HTML in place of what was asked.
    Html,
    /// The bytes of the answer are not HTTP.
    Garbage,
    /// A redirect to this address.
    Redirect(String),
    /// The first byte of the body is changed.
    Corrupt,
}

impl Fault {
    /// An answer with this status and a short text.
    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new(), body: format!("status {status}, on demand") }
    }

    /// An answer with status 429 or 503 and this text in `Retry-After`.
    pub fn retry_after(status: u16, value: &str) -> Self {
        Self::Status {
            status,
            headers: vec![("Retry-After".into(), value.into())],
            body: "Too many requests. Please retry later.".into(),
        }
    }

    /// An answer of `api.php` with status 200 whose body is an error with this code.
    pub fn api_error(code: &str) -> Self {
        let error = serde_json::json!({"error": {"code": code, "info": format!("Failed on demand: {code}.")},
            "servedby": "mw-test"});
        let headers = [("Content-Type", "application/json; charset=utf-8"), ("MediaWiki-API-Error", code)];
        Self::Status {
            status: 200,
            headers: headers.map(|(n, v)| (n.to_string(), v.to_string())).to_vec(),
            body: error.to_string(),
        }
    }

    /// What `api.php` answers while its database lags: status 200, an error with code `maxlag`, and `Retry-After`.
    pub fn maxlag(seconds: u32) -> Self {
        let error = serde_json::json!({"error": {"code": "maxlag", "info": "Waiting for 10.64.16.7: 6.3 seconds lagged.",
            "host": "10.64.16.7", "lag": 6.3, "type": "db"}, "servedby": "mw-test"});
        let headers = [
            ("Content-Type".to_string(), "application/json; charset=utf-8".to_string()),
            ("MediaWiki-API-Error".into(), "maxlag".into()),
            ("Retry-After".into(), seconds.to_string()),
            ("X-Database-Lag".into(), "6".into()),
        ];
        Self::Status { status: 200, headers: headers.to_vec(), body: error.to_string() }
    }

    /// Applies the fault to an answer.
    pub(crate) fn apply(&self, mut reply: Reply) -> Reply {
        let bytes = |reply: &Reply| reply.body.bytes().to_vec();
        match self {
            Self::Status { status, headers, body } => {
                let mut other = Reply::text(*status, "text/plain; charset=utf-8", body);
                for (name, value) in headers {
                    other = other.with(name, value);
                }
                return other;
            }
            Self::Redirect(to) => return Reply::text(302, "text/plain", "moved").with("Location", to),
            Self::Html => {
                return Reply::text(
                    200,
                    "text/html; charset=utf-8",
                    "<!DOCTYPE html><title>Error</title><p>Sorry.</p>",
                );
            }
            Self::Drop => reply.body = Body::Drop,
            Self::Cut(after) => reply.body = Body::Cut(bytes(&reply), *after),
            Self::Truncate(after) => {
                let mut whole = bytes(&reply);
                whole.truncate(*after);
                reply.body = Body::Whole(whole);
            }
            Self::Slow(time) => reply.delay = *time,
            Self::Drip(pause) => reply.body = Body::Drip(bytes(&reply), *pause),
            Self::Endless => reply.body = Body::Endless(bytes(&reply)),
            Self::WrongLength(by) => {
                let whole = bytes(&reply);
                let declared = (whole.len() as i64 + by).max(0).to_string();
                reply.body = Body::Declared(whole, declared);
            }
            Self::LengthText(text) => reply.body = Body::Declared(bytes(&reply), text.clone()),
            Self::GzipBomb(mebibytes) => {
                let mut packed = gzip(&[b' '; 1 << 20]).repeat(*mebibytes);
                packed.extend(gzip(reply.body.bytes()));
                reply.body = Body::Whole(packed);
                reply = reply.with("Content-Encoding", "gzip");
            }
            Self::ContentType(kind) => reply = reply.with("Content-Type", kind),
            Self::Garbage => reply.body = Body::Raw(b"\x16\x03\x01\x00\xa5 this is no HTTP \r\n\r\n\0\0\0".to_vec()),
            Self::Corrupt => {
                let mut whole = bytes(&reply);
                whole.iter_mut().take(1).for_each(|b| *b ^= 1);
                reply.body = Body::Whole(whole);
            }
        }
        reply
    }
}

/// Compresses bytes.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A seeded plan: a share of all addresses fails in the first few attempts, each attempt with one of the faults.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    /// Seed of the choice.
    pub seed: u64,
    /// Share of the addresses that fail at first, between 0 and 1.
    pub share: f64,
    /// An address that fails does so in at most this many of its first attempts, and then no more.
    pub attempts: usize,
    /// The faults, which are chosen with equal probability.
    pub faults: Vec<Fault>,
}

/// The faults of a running server.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    plan: Option<FaultPlan>,
    /// Part of the request, remaining number of times, fault.
    by_path: Vec<(String, usize, Fault)>,
    attempts: BTreeMap<String, usize>,
}

impl Faults {
    pub fn new(plan: Option<FaultPlan>) -> Self {
        Self { plan, ..Self::default() }
    }

    /// Applies a fault to the next `times` requests whose method and address contain `part`.
    pub fn add(&mut self, part: &str, times: usize, fault: Fault) {
        self.by_path.push((part.into(), times, fault));
    }

    /// Removes all faults and the plan.
    pub fn clear(&mut self) {
        self.plan = None;
        self.by_path.clear();
    }

    /// Chooses the fault of a request, which counts as an attempt.
    pub fn choose(&mut self, request: &Request) -> Option<Fault> {
        let name = format!("{} {}", request.method, request.target);
        let chosen = self.by_path.iter_mut().find(|(part, times, _)| *times > 0 && name.contains(part.as_str()));
        if let Some((_, times, fault)) = chosen {
            *times = times.saturating_sub(1);
            return Some(fault.clone());
        }
        let plan = self.plan.as_ref()?;
        let attempt = self.attempts.entry(name.clone()).or_default();
        *attempt += 1;
        let drawn = random::hash(plan.seed, name.as_bytes());
        let failing = 1 + (random::hash(drawn, b"attempts") as usize) % plan.attempts.max(1);
        if random::fraction(drawn) >= plan.share || *attempt > failing || plan.faults.is_empty() {
            return None;
        }
        let choice = random::hash(drawn, &attempt.to_le_bytes()) as usize % plan.faults.len();
        Some(plan.faults[choice].clone())
    }
}
