//! HTTP requests to the hub and to other servers: token, redirects, retries, and error messages for refused requests.
//!
//! This module follows redirects itself, because only the hub's own answer carries the digest of a file (the content
//! network behind it does not repeat the digest), and because the token must not be sent to other servers.

use super::address::origin;
use super::progress::DownloadProgress;
use super::settings::{self, Settings};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use std::io::Read;
use std::time::{Duration, Instant};
use ureq::http::{Response, StatusCode, header};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

/// Largest number of attempts of one request without progress. [`FIRST_WAIT`] is the wait before the second attempt,
/// which doubles each time; [`LONGEST_WAIT`] is the longest wait that a server may ask for.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Shortest wait that is announced to the user.
const LONG_WAIT: Duration = Duration::from_secs(1);
const REDIRECTS: usize = 10;
/// Largest answer that is read into memory (lists of files, indices of shards), in bytes.
const LARGEST_ANSWER: u64 = 64 << 20;
/// Time limit of such an answer, as a multiple of the read timeout `silence`.
const SMALL: u32 = 10;

/// An HTTP client with the settings of the environment and the time limit of the download.
pub struct Client {
    agent: Agent,
    pub(super) progress: Box<dyn DownloadProgress>,
    started: Instant,
    /// Settings from the environment.
    pub settings: Settings,
}

/// A failed request.
pub(super) struct Failure {
    /// Whether the same request may succeed later.
    pub transient: bool,
    /// Wait that the server asks for.
    pub wait: Option<Duration>,
    /// Status of the server's answer; `None` without an answer.
    pub status: Option<StatusCode>,
    /// The error, if the request is not repeated.
    pub error: Error,
}

impl Failure {
    /// Makes a failure after which the same request may succeed.
    pub fn transient(error: Error) -> Self {
        Self { transient: true, ..error.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { transient: false, wait: None, status: None, error }
    }
}

/// Which answer of a chain of redirects is returned.
#[derive(Clone, Copy, PartialEq)]
enum Follow {
    /// The last answer, with the contents.
    All,
    /// The first answer that carries the digest of the file.
    UntilDigest,
}

/// Metadata of a file, from an answer without its contents.
pub(super) struct Head {
    /// ETag of the contents without quotes; on the hub it is their digest.
    pub etag: Option<String>,
    /// Size of the contents in bytes, if the server gives it.
    pub size: Option<u64>,
    /// Value by which the server can later tell whether the file is unchanged: a strong ETag as given, or a date.
    pub validator: Option<String>,
}

impl Client {
    /// Makes a client without connecting.
    ///
    /// # Errors
    /// The certificates in `SSL_CERT_FILE` cannot be read.
    pub fn new(settings: Settings, progress: impl DownloadProgress + 'static) -> Result<Self> {
        let silence = Some(settings.silence);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("burgess/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(silence)
            .timeout_connect(silence)
            .timeout_recv_response(silence)
            .timeout_per_read(silence)
            .tls_config(TlsConfig::builder().root_certs(settings::root_certificates()?).build())
            .build();
        Ok(Self { agent: config.into(), progress: Box::new(progress), started: Instant::now(), settings })
    }

    /// Remaining time of the time limit.
    ///
    /// # Errors
    /// The time limit is over.
    pub(super) fn time_left(&self) -> Result<Duration> {
        let limit = self.settings.limits.time;
        limit.checked_sub(self.started.elapsed()).ok_or_else(|| {
            Error::failed(format!("the time limit of {} is over", humantime::format_duration(limit))).hint(
                "start the download again: the received bytes are kept; BURGESS_FETCH_TIME_LIMIT sets another limit",
            )
        })
    }

    /// Requests the contents at `url`. Starts at byte `start` if the server supports it (status 206) and the file still
    /// matches `validator`.
    pub(super) fn get(&self, url: &str, start: u64, validator: Option<&str>) -> Result<Response<Body>, Failure> {
        let mut headers = Vec::new();
        if start > 0 {
            headers.push((header::RANGE, format!("bytes={start}-")));
            headers.extend(validator.map(|validator| (header::IF_RANGE, validator.to_string())));
        }
        self.follow("GET", url, &headers, Follow::All)
    }

    /// Reads a small answer into memory, with retries.
    pub(super) fn read(&self, url: &str) -> Result<Vec<u8>> {
        self.patiently(|| {
            let answer = self.follow("GET", url, &[], Follow::All)?;
            let mut body = answer.into_body().into_with_config().limit(LARGEST_ANSWER).reader();
            let (started, mut bytes, mut block) = (Instant::now(), Vec::new(), vec![0; 1 << 16]);
            loop {
                match body.read(&mut block).map_err(|e| broken(&ureq::Error::Io(e), url))? {
                    0 => return Ok(bytes),
                    n => bytes.extend_from_slice(block.get(..n).unwrap_or_default()),
                }
                self.time_left()?;
                // The read timeout does not catch a server that keeps sending a few bytes.
                if started.elapsed() > self.settings.silence * SMALL {
                    let error = Error::failed(format!(
                        "{} bytes of {url} were received in {} s without an end",
                        bytes.len(),
                        started.elapsed().as_secs()
                    ));
                    return Err(Failure::transient(error.hint(NO_HUB)));
                }
            }
        })
    }

    /// Requests the metadata of the file at `url`, with retries.
    pub(super) fn head(&self, url: &str) -> Result<Head> {
        self.patiently(|| {
            let answer = self.follow("HEAD", url, &[], Follow::UntilDigest)?;
            let redirects = answer.status().is_redirection();
            let text = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
            let number = |name: &str| text(name).and_then(|v| v.trim().parse().ok());
            let etag = text("x-linked-etag").or_else(|| text("etag"));
            Ok(Head {
                etag: etag.map(|e| e.trim_start_matches("W/").trim_matches('"').to_string()),
                size: number("x-linked-size").or_else(|| number("content-length").filter(|_| !redirects)),
                validator: etag.filter(|e| !e.starts_with("W/")).or_else(|| text("last-modified")).map(str::to_string),
            })
        })
    }

    fn patiently<T>(&self, request: impl Fn() -> Result<T, Failure>) -> Result<T> {
        let mut tries = 0;
        loop {
            match request() {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.pause(failure, &mut tries)?,
            }
        }
    }

    /// Waits before the next attempt, or returns the error if there is none.
    pub(super) fn pause(&self, failure: Failure, tries: &mut u32) -> Result<()> {
        *tries += 1;
        let wait = failure.wait.unwrap_or_else(|| FIRST_WAIT * 2u32.saturating_pow(*tries - 1));
        if !failure.transient || *tries >= TRIES || wait > LONGEST_WAIT || wait > self.time_left()? {
            return Err(failure.error);
        }
        if wait >= LONG_WAIT {
            self.progress.message(&format!("{}; next attempt in {} s", failure.error, wait.as_secs()));
        }
        std::thread::sleep(wait);
        Ok(())
    }

    fn follow(
        &self,
        method: &str,
        url: &str,
        headers: &[(header::HeaderName, String)],
        follow: Follow,
    ) -> Result<Response<Body>, Failure> {
        if self.settings.offline {
            return Err(Error::failed(format!(
                "{url} is not requested: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set"
            ))
            .hint("unset it to use the network")
            .into());
        }
        let mut at = url.to_string();
        for _ in 0..REDIRECTS {
            self.time_left()?;
            let mut request = if method == "HEAD" { self.agent.head(&at) } else { self.agent.get(&at) };
            // A compressed answer has another size and cannot be resumed.
            request = request.header(header::ACCEPT_ENCODING, "identity");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some(token) = self.settings.token.as_ref().filter(|_| origin(&at) == origin(&self.settings.endpoint))
            {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let answer = request.call().map_err(|e| broken(&e, &at))?;
            if !answer.status().is_redirection() {
                let encoding = answer.headers().get(header::CONTENT_ENCODING).and_then(|e| e.to_str().ok());
                return match encoding.filter(|e| !e.trim().is_empty() && !e.eq_ignore_ascii_case("identity")) {
                    _ if !answer.status().is_success() => Err(self.refused(&answer, &at)),
                    // The Content-Length of a compressed answer is not the size of the file.
                    Some(encoding) => Err(Error::failed(format!(
                        "{} sends its answer compressed ({}), which was not requested",
                        without_query(&at),
                        excerpt(encoding, 40)
                    ))
                    .hint(NO_HUB)
                    .into()),
                    None => Ok(answer),
                };
            }
            if follow == Follow::UntilDigest && answer.headers().contains_key("x-linked-etag") {
                return Ok(answer);
            }
            let to = answer.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
            let to = to.and_then(|to| resolve(&at, to));
            at = to.ok_or_else(|| {
                Error::failed(format!("{} redirects to an address that is not allowed", without_query(&at)))
                    .hint(NO_HUB)
            })?;
        }
        Err(Error::failed(format!("{url} redirects more than {REDIRECTS} times")).hint(NO_HUB).into())
    }

    /// Makes the error, with a hint, for an answer that is neither a success nor a redirect.
    fn refused(&self, answer: &Response<Body>, url: &str) -> Failure {
        let text = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let (status, code) = (answer.status(), text("x-error-code"));
        let shown = without_query(url);
        let error = Error::failed(match text("x-error-message") {
            "" => format!("{shown} answered {status}"),
            message => format!("{shown} answered {status}: {}", excerpt(message, 300)),
        });
        let is_hub = origin(url) == origin(&self.settings.endpoint);
        let home = || url.strip_prefix(&self.settings.endpoint).and_then(repository_in).unwrap_or_default();
        let page = || format!("{}/{}", self.settings.endpoint, home());
        let gated = || match self.settings.token {
            None => format!(
                "if it is gated or private: accept its terms at {} and set HF_TOKEN to a token of yours",
                page()
            ),
            Some(_) => format!(
                "the token in HF_TOKEN has no access: accept the terms at {} with its account, or use another",
                page()
            ),
        };
        // Headers: `Retry-After: 20`, or the hub's `RateLimit: "api";r=0;t=55`.
        let left = text("ratelimit").split(';').find_map(|part| part.trim().strip_prefix("t="));
        let seconds = text("retry-after").trim().parse().ok().or_else(|| left.and_then(|t| t.trim().parse().ok()));
        let wait = seconds.map(Duration::from_secs);
        let (transient, hint) = match (status, code) {
            (_, "GatedRepo") => (false, gated()),
            (_, "RevisionNotFound") => (false, format!("the branches and tags are listed at {}/tree/main", page())),
            (_, "EntryNotFound") => (false, format!("the files are listed at {}/tree/main", page())),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) if !is_hub => {
                (false, "this server refuses the file: check the address and proxies".into())
            }
            // The hub answers 401 for repositories that do not exist if the request has no token.
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => (false, format!("check the name; {}", gated())),
            (StatusCode::NOT_FOUND | StatusCode::GONE, _) => (false, "check the name and the revision".into()),
            (StatusCode::TOO_MANY_REQUESTS, _) => {
                let minutes = wait.map_or("some minutes".to_string(), |wait| format!("{} s", wait.as_secs()));
                (true, format!("the server asks for fewer requests: start the download again after {minutes}"))
            }
            (StatusCode::REQUEST_TIMEOUT, _) => (true, "start the download again".into()),
            (status, _) if status.is_server_error() => {
                (true, "the server failed: start the download again later".into())
            }
            _ => (false, NO_HUB.into()),
        };
        Failure { transient, wait, status: Some(status), error: error.hint(hint) }
    }
}

/// Hint for an answer that does not follow the hub's protocol.
pub(super) const NO_HUB: &str = "if HF_ENDPOINT is set, check that it is a hub; check the proxies on the way";

/// The address without its query, for messages: the query of a content network's address is a signature.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// Makes the failure for an error below HTTP: name resolution, connection, TLS.
pub(super) fn broken(error: &ureq::Error, url: &str) -> Failure {
    let host = origin(url).map_or_else(|| url.to_string(), |(_, host)| host);
    let transient = !matches!(error, ureq::Error::HostNotFound | ureq::Error::Tls(_) | ureq::Error::Rustls(_));
    let hint = match error {
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            "behind a proxy that opens connections, set SSL_CERT_FILE to its certificates"
        }
        _ => {
            "check the network, and HF_ENDPOINT if it is set, and start the download again: the received bytes are kept; without a network set HF_HUB_OFFLINE=1"
        }
    };
    let error = Error::failed(format!("requesting {host}: {error}")).hint(hint);
    Failure { transient, ..error.into() }
}

/// Target of a redirect; `None` if it leads from `https` to `http` or off the web.
fn resolve(from: &str, to: &str) -> Option<String> {
    let (scheme, host) = origin(from)?;
    let path = from.split(['?', '#']).next()?;
    let target = match to {
        _ if to.contains("://") => to.to_string(),
        _ if to.starts_with("//") => format!("{scheme}:{to}"),
        _ if to.starts_with('/') => format!("{scheme}://{host}{to}"),
        _ => format!("{}/{to}", path.rsplit_once('/')?.0),
    };
    let (new_scheme, _) = origin(&target)?;
    (scheme == "http" || new_scheme == "https").then_some(target)
}

/// Extracts `owner/name` from `/owner/name/resolve/…` or `/api/models/owner/name/…`.
fn repository_in(path: &str) -> Option<String> {
    let path = path.trim_start_matches('/');
    let mut parts = path.strip_prefix("api/models/").unwrap_or(path).split('/');
    Some(format!("{}/{}", parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say() {
        let from = "https://hub.co/a/b/resolve/main/x?y=1/2";
        assert_eq!(resolve(from, "https://cdn.co/z").as_deref(), Some("https://cdn.co/z"));
        assert_eq!(resolve(from, "//cdn.co/z").as_deref(), Some("https://cdn.co/z"));
        assert_eq!(resolve(from, "/z?q").as_deref(), Some("https://hub.co/z?q"));
        assert_eq!(resolve(from, "z").as_deref(), Some("https://hub.co/a/b/resolve/main/z"));
        for bad in ["http://hub.co/z", "ftp://hub.co/z", "file:///etc/passwd"] {
            assert_eq!(resolve(from, bad), None, "{bad}");
        }
    }

    #[test]
    fn another_port_or_scheme_is_another_server() {
        assert_eq!(origin("https://Hub.co/a"), origin("https://hub.co"));
        assert_ne!(origin("https://hub.co:1/a"), origin("https://hub.co"));
        assert_ne!(origin("http://hub.co"), origin("https://hub.co"));
        assert_eq!(origin("hub.co"), None);
    }
}
