//! One request and its answer, to an address that is checked when the connection is made.

use super::address::Address;
use super::{FailureReason, FetchFailure, FetchPolicy};
use burgess_base::network::{self, Lookup, is_public};
use burgess_base::{Error, Result, text};
use burgess_hub::download::root_certificates;
use flate2::read::MultiGzDecoder;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// Number of addresses of a name that are tried; the HTTP client has room for 16.
const ADDRESSES: usize = 8;
/// The part of an error that says that an address is refused; errors of the resolver pass through the HTTP client.
const REFUSED: &str = "is not a public address";
/// Lowest port besides 80 and 443; below are services that do not speak HTTP.
const FIRST_PORT: u16 = 1024;
/// Largest size of the headers of an answer in bytes.
const MAX_HEADERS: usize = 64 << 10;
/// Largest length in bytes of a header that is kept.
const MAX_HEADER: usize = 8192;
/// Environment variables of proxies, which are not used.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// An answer with its body.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub status: u16,
    pub location: Option<String>,
    pub content_type: Option<String>,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub retry_after: Option<String>,
    /// The body, decompressed; empty for a status other than 200.
    pub body: Vec<u8>,
}

/// What a request says besides its address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub accept: &'a str,
    pub etag: Option<&'a str>,
    pub last_modified: Option<&'a str>,
    /// Largest size of the body in bytes.
    pub most: u64,
    /// Whether a larger body is cut instead of refused.
    pub cut: bool,
}

/// Makes requests; each on a connection of its own, whose address is checked.
#[derive(Debug)]
pub(super) struct Exchange {
    agent: Agent,
}

impl Exchange {
    /// Builds the HTTP client.
    ///
    /// # Errors
    /// The file in `SSL_CERT_FILE` cannot be read.
    pub fn new(policy: &FetchPolicy, lookup: Arc<Lookup>) -> Result<Self> {
        let config = Config::builder()
            // A proxy would connect in our place, to any address.
            .proxy(None)
            // Each redirect is a request of its own, with its own checks and turn.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs_f64(policy.answer_seconds)))
            .timeout_connect(Some(Duration::from_secs_f64(policy.answer_seconds.min(30.0))))
            .max_response_header_size(MAX_HEADERS)
            .max_idle_connections(0)
            .user_agent(policy.user_agent())
            .tls_config(TlsConfig::builder().root_certs(root_certificates()?).build())
            .build();
        let guard = PublicOrAllowed { lookup, policy: policy.clone() };
        Ok(Self { agent: Agent::with_parts(config, DefaultConnector::new(), guard) })
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// The address is refused, the connection fails, or the answer is too slow, too large or malformed.
    pub fn get(&self, address: &Address, ask: &Ask<'_>) -> Result<Answer, FetchFailure> {
        let mut request = self.agent.get(address.as_str());
        request = request.header(header::ACCEPT, ask.accept).header(header::ACCEPT_ENCODING, "gzip");
        if let Some(etag) = ask.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(time) = ask.last_modified {
            request = request.header(header::IF_MODIFIED_SINCE, time);
        }
        let response = request.call().map_err(|e| failure(&e, address))?;
        let headers = response.headers();
        let mut answer = Answer {
            status: response.status().as_u16(),
            location: text_of(headers, &header::LOCATION),
            content_type: text_of(headers, &header::CONTENT_TYPE),
            etag: text_of(headers, &header::ETAG),
            last_modified: text_of(headers, &header::LAST_MODIFIED),
            retry_after: text_of(headers, &header::RETRY_AFTER),
            body: Vec::new(),
        };
        if answer.status == 200 {
            answer.body = body(response, address, ask)?;
        }
        Ok(answer)
    }
}

/// Returns a header's value if it is text of a reasonable length.
fn text_of(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    let value = headers.get(name)?;
    if value.len() > MAX_HEADER {
        return None;
    }
    // Servers write addresses in UTF-8.
    std::str::from_utf8(value.as_bytes()).ok().map(str::to_string)
}

/// Reads the body of an answer within its limit.
fn body(response: Response<ureq::Body>, address: &Address, ask: &Ask<'_>) -> Result<Vec<u8>, FetchFailure> {
    let encoding = text_of(response.headers(), &header::CONTENT_ENCODING).unwrap_or_default();
    let large = |what: &str| {
        let error = Error::failed(format!("the answer has more than {} bytes{what}", ask.most))
            .hint("raise `max_bytes` if the address is worth it");
        FetchFailure::new(FailureReason::TooLarge, address.as_str(), error)
    };
    let received = response.into_body().into_reader();
    let mut bytes = Vec::new();
    // One byte more than allowed shows that the body is too large.
    let limit = ask.most.saturating_add(1);
    let (read, what) = match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => (received.take(limit).read_to_end(&mut bytes), ""),
        "gzip" | "x-gzip" => {
            // What is received is limited too: a stream of empty gzip members has no contents.
            let packed = received.take(limit);
            (MultiGzDecoder::new(packed).take(limit).read_to_end(&mut bytes), " after decompression")
        }
        other => {
            let why = format!("the answer is encoded as `{}`, expected gzip or none", text::excerpt(other, 40));
            let error = Error::failed(why).hint("the server ignores Accept-Encoding: leave this address out");
            return Err(FetchFailure::new(FailureReason::BadAnswer, address.as_str(), error));
        }
    };
    if bytes.len() as u64 > ask.most {
        if ask.cut {
            bytes.truncate(usize::try_from(ask.most).unwrap_or(usize::MAX));
            return Ok(bytes);
        }
        return Err(large(what));
    }
    match read {
        Ok(_) => Ok(bytes),
        Err(e) => {
            let error = match e.downcast::<ureq::Error>() {
                Ok(inner) => return Err(failure(&inner, address)),
                Err(e) => e,
            };
            if !what.is_empty() && matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) {
                let error = Error::failed(format!("the gzip data of the answer are damaged: {error}"));
                return Err(FetchFailure::new(FailureReason::BadAnswer, address.as_str(), error));
            }
            Err(failure(&ureq::Error::Io(error), address))
        }
    }
}

/// Makes the failure for an error of the HTTP client.
fn failure(error: &ureq::Error, address: &Address) -> FetchFailure {
    let reason = match error {
        ureq::Error::BadUri(why) if why.contains(REFUSED) => FailureReason::PrivateAddress,
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => FailureReason::BadAddress,
        ureq::Error::HostNotFound => FailureReason::UnknownHost,
        ureq::Error::Timeout(_) => FailureReason::TooSlow,
        ureq::Error::Io(e) if e.kind() == io::ErrorKind::TimedOut => FailureReason::TooSlow,
        ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => FailureReason::BadAnswer,
        _ => FailureReason::Connection,
    };
    let hint = match reason {
        FailureReason::PrivateAddress => {
            format!("if you run this server, add `{}:{}` to `allow_hosts`", address.host, address.port)
        }
        FailureReason::BadAddress => "only addresses of web servers are fetched".to_string(),
        _ => match PROXIES.iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
            Some(name) => format!(
                "{name} is set, but proxies are not used, because a proxy connects to addresses that cannot be checked: \
                 fetch from a machine with direct access"
            ),
            None => "check the network and try again: finished pages and images are kept".to_string(),
        },
    };
    let what = match error {
        ureq::Error::BadUri(why) => why.clone(),
        other => other.to_string(),
    };
    FetchFailure::new(reason, address.as_str(), Error::failed(what).hint(hint))
}

/// Resolves names, and refuses a name if one of its addresses is not public, unless the policy allows its host.
struct PublicOrAllowed {
    lookup: Arc<Lookup>,
    policy: FetchPolicy,
}

impl std::fmt::Debug for PublicOrAllowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublicOrAllowed")
    }
}

impl Resolver for PublicOrAllowed {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let bad = |why: String| ureq::Error::BadUri(why);
        // The same parser as for the checks before, so that both mean the same host.
        let address = Address::parse(&uri.to_string()).map_err(|e| bad(e.error.to_string()))?;
        let (host, port) = (address.host.as_str(), address.port);
        let allowed = self.policy.allows(host, port);
        if !allowed && port < FIRST_PORT && port != 80 && port != 443 {
            return Err(bad(format!("port {port} is not allowed")));
        }
        let name = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let found: Vec<SocketAddr> =
            network::look_up(&self.lookup, name, port, *timeout.after).map_err(|e| match e.kind() {
                io::ErrorKind::TimedOut => ureq::Error::Timeout(ureq::Timeout::Resolve),
                // The system's look-up says an unknown name and a failing look-up in many ways.
                _ => ureq::Error::HostNotFound,
            })?;
        if let Some(private) = found.iter().find(|found| !allowed && !is_public(found.ip())) {
            return Err(bad(format!("{} ({}) {REFUSED}", text::excerpt(host, 100), private.ip())));
        }
        let mut resolved = self.empty();
        for address in found.into_iter().take(ADDRESSES) {
            resolved.push(address);
        }
        match resolved.is_empty() {
            true => Err(ureq::Error::HostNotFound),
            false => Ok(resolved),
        }
    }
}
