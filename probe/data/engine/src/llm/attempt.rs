//! Sends one request over HTTP and turns a response without success into a [`ChatError`].

use super::error::{ChatError, ChatErrorKind};
use burgess_base::text::excerpt;
use serde_json::Value;
use std::io::Read;
use std::time::{Duration, SystemTime};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use ureq::{Agent, Body};

/// Largest size of an error's body that is read, in bytes.
const LARGEST_ERROR: u64 = 64 << 10;

/// Sends a body and returns that of a successful response.
pub(super) fn post(
    agent: &Agent,
    address: &str,
    key: Option<&(HeaderName, HeaderValue)>,
    body: &Value,
    limit: u64,
) -> Result<Vec<u8>, ChatError> {
    let bytes = serde_json::to_vec(body)
        .map_err(|e| ChatError::new(ChatErrorKind::Refused, format!("the request cannot be written as JSON: {e}")))?;
    let mut request = agent
        .post(address)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::ACCEPT_ENCODING, "identity");
    if let Some((name, value)) = key {
        request = request.header(name, value);
    }
    let response = request.send(&bytes[..]).map_err(|e| broken(&e, address))?;
    if !response.status().is_success() {
        return Err(refused(response, address));
    }
    read(response, limit).map_err(|e| match e {
        ReadError::TooLarge => {
            ChatError::new(ChatErrorKind::TooLarge, format!("the reply is larger than the limit of {limit} bytes"))
                .with_hint("set `max_tokens`, or raise `max_reply_bytes`")
        }
        ReadError::Broken(e) => broken(&e, address),
    })
}

enum ReadError {
    TooLarge,
    Broken(ureq::Error),
}

fn read(response: Response<Body>, limit: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    // One byte more than the limit tells a reply of exactly this size from a larger one.
    let reader = response.into_body().into_with_config().limit(limit + 2).reader();
    match reader.take(limit + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > limit => Err(ReadError::TooLarge),
        Ok(_) => Ok(bytes),
        Err(e) => Err(ReadError::Broken(ureq::Error::from(e))),
    }
}

/// Makes the error of a failure below HTTP: name resolution, connection, TLS, time limit.
fn broken(error: &ureq::Error, address: &str) -> ChatError {
    let host = host_of(address);
    let is_time =
        |e: &std::io::Error| matches!(e.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock);
    match error {
        ureq::Error::Timeout(_) => {
            ChatError::new(ChatErrorKind::Timeout, format!("{host} did not reply in time ({error})"))
                .with_hint("raise `timeout_seconds`, or set `max_tokens`")
        }
        ureq::Error::Io(e) if is_time(e) => {
            ChatError::new(ChatErrorKind::Timeout, format!("{host} did not reply in time ({e})"))
                .with_hint("raise `timeout_seconds`, or set `max_tokens`")
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            ChatError::new(ChatErrorKind::NotFound, format!("no secure connection to {host}: {error}")).with_hint(
                "check the address; behind a proxy that decrypts TLS, set SSL_CERT_FILE to its CA certificates",
            )
        }
        ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl => {
            ChatError::new(ChatErrorKind::NotFound, format!("requesting {host}: {error}"))
                .with_hint("check `url`, HTTP_PROXY and HTTPS_PROXY")
        }
        _ => ChatError::new(ChatErrorKind::Connection, format!("the connection to {host} failed: {error}"))
            .with_hint("check `url` and that the server runs"),
    }
}

/// Makes the error of a response that is no success.
fn refused(response: Response<Body>, address: &str) -> ChatError {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok()).unwrap_or_default();
    let location = excerpt(location, 200);
    let mut bytes = Vec::new();
    // Errors while reading the body are ignored: it is only shown, and the status decides the kind of error.
    let _ = response.into_body().into_with_config().limit(LARGEST_ERROR).reader().read_to_end(&mut bytes);
    let value: Option<Value> = burgess_base::json::from_slice(&bytes).ok();
    let error = value.as_ref().map(|v| v.get("error").unwrap_or(v));
    let field = |name: &str| error.and_then(|e| e.get(name)).and_then(Value::as_str).unwrap_or_default().to_string();
    let explanation = match field("message") {
        text if !text.is_empty() => text,
        _ => match error {
            Some(Value::String(text)) => text.clone(),
            _ => String::from_utf8_lossy(&bytes).trim().to_string(),
        },
    };
    let host = host_of(address);
    let mut message = format!("{host} answered {status}");
    if !explanation.is_empty() {
        message += &format!(": {}", excerpt(&explanation, 400));
    }
    let no_credit = field("code") == "insufficient_quota" || field("type") == "insufficient_quota";
    let (kind, hint) = match status {
        _ if status.is_redirection() => {
            message += &format!(" (to {location})");
            (
                ChatErrorKind::NotFound,
                "set `url` to the address where the server is: redirects are not followed, because \
              they would carry the key elsewhere",
            )
        }
        StatusCode::UNAUTHORIZED => {
            (ChatErrorKind::Unauthorized, "check the key in the environment variable that the endpoint names")
        }
        StatusCode::FORBIDDEN => (ChatErrorKind::Unauthorized, "the key may not use this model: check both"),
        StatusCode::PAYMENT_REQUIRED => (ChatErrorKind::NoCredit, "add credit to the account, then start again"),
        StatusCode::TOO_MANY_REQUESTS if no_credit => {
            (ChatErrorKind::NoCredit, "add credit to the account, then start again")
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE => {
            (ChatErrorKind::NotFound, "check `url` and `model`: GET URL/models lists the models")
        }
        StatusCode::TOO_MANY_REQUESTS => {
            (ChatErrorKind::RateLimited, "use fewer workers, or set `requests_per_minute`")
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_EARLY => {
            (ChatErrorKind::Server, "run the same command again later")
        }
        StatusCode::GATEWAY_TIMEOUT => (ChatErrorKind::Timeout, "set `max_tokens`, or use fewer workers"),
        _ if status.is_server_error() => {
            (ChatErrorKind::Server, "the server failed: look at its log, run the same command again later")
        }
        _ => (ChatErrorKind::Refused, "change the request as the server's message says"),
    };
    let param = Some(field("param")).filter(|p| !p.is_empty());
    let field = param.or_else(|| named_field(&explanation).map(str::to_string)).map(String::into_boxed_str);
    let status = Some(status.as_u16());
    ChatError { status, retry_after, field, ..ChatError::new(kind, message) }.with_hint(hint)
}

/// Returns the optional field of the request that an explanation names.
fn named_field(explanation: &str) -> Option<&'static str> {
    let text = explanation.to_lowercase();
    let formats = ["response_format", "json_schema", "json_object", "guided", "structured output"];
    match () {
        () if formats.iter().any(|word| text.contains(word)) => Some("response_format"),
        () if text.contains("max_completion_tokens") => Some("max_tokens"),
        () => None,
    }
}

/// Reads `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|t| t.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(ms / 1000.0).ok();
    }
    let value = text("retry-after")?;
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Returns host and port of an address, for messages.
pub(super) fn host_of(address: &str) -> String {
    let url = url::Url::parse(address).ok();
    url.map_or_else(|| excerpt(address, 80), |url| url[url::Position::BeforeHost..url::Position::AfterPort].to_string())
}
