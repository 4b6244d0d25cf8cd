//! Checks of every request before its route is called: the host it names, the page it comes from, and the token.
//!
//! A page of another site that a user visits can send requests to a server on the user's machine. It is kept out in two
//! ways. A request with an `Origin` of another host is refused. And since a name of the other site can resolve to this
//! machine (DNS rebinding), which makes the origins equal, the `Host` must be a name of this server. A server with a
//! token needs neither: a page does not know the token, and browsers do not add it on their own.

use crate::ServerConfig;
use crate::api::{ApiError, Scheme};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

/// What a server consists of, which decides what needs the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Realm {
    /// The API and its page: `/v1/…` and `/metrics` need the token, the page asks for it.
    Api,
    /// Pages that show data: all of them need the token.
    Pages,
}

/// The checks of a server.
#[derive(Debug)]
pub(super) struct Guard {
    realm: Realm,
    token: Option<String>,
    /// Names of this server in lower case.
    hosts: Vec<String>,
    /// Whether any IP address is accepted as host: not if the server listens on the loopback interface.
    any_address: bool,
}

impl Guard {
    pub fn new(config: &ServerConfig, realm: Realm) -> Self {
        let mut hosts: Vec<String> =
            config.hosts.iter().map(|name| name.trim_end_matches('.').to_lowercase()).collect();
        hosts.extend(["localhost".to_owned(), config.address.ip().to_string()]);
        hosts.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        let any_address = !config.address.ip().is_loopback();
        if any_address {
            let name = burgess_base::process::host().to_lowercase();
            hosts.push(format!("{name}.local"));
            hosts.push(name);
        }
        Self { realm, token: config.token.clone(), hosts, any_address }
    }

    /// Checks the names in a request's head.
    fn check_names(&self, request: &Request) -> Result<(), ApiError> {
        let host = one(request.headers(), &header::HOST)?
            .ok_or_else(|| ApiError::invalid("the request has no Host header").with_hint("send one"))?;
        let named = request.uri().authority().map(|authority| authority.as_str());
        for name in [Some(host), named].into_iter().flatten() {
            if self.token.is_none() && !self.is_own(name) {
                let message = format!("`{}` is not a name of this server", burgess_base::text::escaped_lines(name));
                let hint = "use its address, or start it with this host name or with a token";
                return Err(ApiError::forbidden(message).with_hint(hint));
            }
        }
        let origin = one(request.headers(), &header::ORIGIN)?;
        match origin {
            Some(origin) if self.token.is_none() && !is_same_origin(origin, host) => {
                let message =
                    format!("a page of `{}` may not use this server", burgess_base::text::escaped_lines(origin));
                let hint = "open the page of the server itself, or start the server with a token and send it";
                Err(ApiError::forbidden(message).with_hint(hint))
            }
            _ => Ok(()),
        }
    }

    /// Whether a host, perhaps with a port, is a name of this server.
    fn is_own(&self, authority: &str) -> bool {
        let host = host_of(authority).trim_end_matches('.').to_lowercase();
        self.hosts.contains(&host) || self.any_address && host.parse::<IpAddr>().is_ok()
    }

    /// Whether a request for this path needs the token.
    fn is_secret(&self, path: &str) -> bool {
        match self.realm {
            Realm::Api => path.starts_with("/v1") || path == "/metrics",
            Realm::Pages => path != "/healthz",
        }
    }

    /// Checks the token of a request.
    fn check_token(&self, request: &Request) -> Result<(), ApiError> {
        let Some(token) = &self.token else { return Ok(()) };
        if !self.is_secret(request.uri().path()) {
            return Ok(());
        }
        let given = one(request.headers(), &header::AUTHORIZATION)?.and_then(|value| self.given(value));
        match given {
            Some(given) if is_equal(&given, token) => Ok(()),
            given => {
                let scheme = match self.realm {
                    Realm::Api => Scheme::Bearer,
                    Realm::Pages => Scheme::Basic,
                };
                Err(ApiError::unauthorized(given.is_some(), scheme))
            }
        }
    }

    /// The token in the value of an `Authorization` header.
    fn given(&self, value: &str) -> Option<String> {
        let (scheme, rest) = value.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(rest.trim().to_owned());
        }
        if scheme.eq_ignore_ascii_case("basic") && self.realm == Realm::Pages {
            let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
            return Some(pair.split_once(':')?.1.to_owned());
        }
        None
    }
}

/// The value of a header that must not be given twice.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::invalid(format!("the header `{name}` is given twice")).with_hint("send it once"));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| ApiError::invalid(format!("the header `{name}` is not ASCII")).with_hint("correct it"))
}

/// The host of `host`, `host:port`, `[address]` or `[address]:port`.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// Whether an `Origin` is that of the pages of `host`. The scheme may differ: a proxy in front may add TLS.
fn is_same_origin(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

/// Compares in a time that does not depend on where the texts differ.
fn is_equal(a: &str, b: &str) -> bool {
    let (a, b) = (burgess_base::digest::of_bytes(a.as_bytes()), burgess_base::digest::of_bytes(b.as_bytes()));
    black_box(a.bytes().zip(b.bytes()).fold(0, |difference, (x, y)| difference | (x ^ y))) == 0
}

/// Checks a request, calls its route, and adds the security headers to the response.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let preflight = request.method() == Method::OPTIONS && guard.token.is_some();
    let mut response = match guard.check_names(&request) {
        Err(error) => error.into_response(),
        Ok(()) if preflight => ().into_response(),
        Ok(()) => match guard.check_token(&request) {
            Err(error) => error.into_response(),
            Ok(()) => next.run(request).await,
        },
    };
    let headers = response.headers_mut();
    if guard.token.is_some() && guard.realm == Realm::Api {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        if preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
            // Clients in browsers add headers of their own; none has an effect here.
            if let Some(asked) = asked {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
            }
        }
    }
    for (name, value) in SECURITY {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Headers of every response whose route does not set them itself: a page runs only scripts of this server, is shown in
/// no frame of another page, and sends nothing elsewhere.
const SECURITY: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; \
         font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];
