//! Bodies of requests: read with limits of size and time, and parsed as JSON of limited depth.

use super::ApiError;
use crate::Limits;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::timeout;

/// How many times the limit of a body is read and thrown away before the connection is closed: a client that is still
/// sending would not see the response otherwise.
const DRAINED: usize = 4;

/// Bytes that the bodies of all requests in progress may hold together.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    free: Arc<AtomicUsize>,
}

/// The part of the budget that one request holds; it is given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    free: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        Self { free: Arc::new(AtomicUsize::new(bytes)) }
    }

    fn hold(&self) -> Held {
        Held { free: self.free.clone(), bytes: 0 }
    }
}

impl Held {
    /// Takes more bytes of the budget; `false` if there are not as many.
    pub fn take(&mut self, bytes: usize) -> bool {
        let taken = self.free.try_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(bytes)).is_ok();
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Held {
    fn give_back(&mut self) {
        self.free.fetch_add(std::mem::take(&mut self.bytes), Ordering::SeqCst);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Reads the body of a request as a JSON object, and makes of it what `build` makes, in a thread for such work: images
/// in the body are decoded from base64. What is returned beside it is to be kept as long as the request holds memory.
pub(super) async fn read<T: Send + 'static>(
    request: Request,
    limits: &Limits,
    budget: &Budget,
    build: fn(Map<String, Value>, &Limits) -> Result<T, ApiError>,
) -> Result<(T, Held), ApiError> {
    check_headers(request.headers())?;
    let stated = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let expects = request.headers().contains_key(header::EXPECT);
    let mut held = budget.hold();
    let reading = collect(request.into_body(), stated, expects, limits.body_bytes, &mut held);
    let bytes =
        timeout(limits.body_time, reading).await.map_err(|_| ApiError::slow_body(limits.body_time.as_secs_f64()))??;
    let limits = limits.clone();
    let work = tokio::task::spawn_blocking(move || {
        let object = parse(&bytes, &limits)?;
        // The values are copies.
        drop(bytes);
        build(object, &limits)
    });
    let built = work.await.map_err(|e| ApiError::internal(format!("the body cannot be read: {e}")))??;
    Ok((built, held))
}

/// Checks that the body is said to be plain JSON. A page of another site can send other types without being asked for
/// permission.
fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let kind = text(header::CONTENT_TYPE).unwrap_or("missing");
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let kind = burgess_base::text::excerpt(kind, 100);
        return Err(ApiError::media_type(format!("the content type is `{kind}`, must be `application/json`"))
            .with_hint("send JSON with the header `Content-Type: application/json`"));
    }
    match text(header::CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        None => Ok(()),
        Some(_) => Err(ApiError::media_type("compressed bodies are not supported")
            .with_hint("send the body without `Content-Encoding`")),
    }
}

/// Reads all bytes of a body up to the limit.
async fn collect(
    mut body: Body,
    stated: Option<usize>,
    expects: bool,
    limit: usize,
    held: &mut Held,
) -> Result<Vec<u8>, ApiError> {
    if stated.is_some_and(|length| length > limit) {
        // A client that waits for permission has not begun to send.
        if !expects {
            drain(&mut body, limit.saturating_mul(DRAINED)).await?;
        }
        return Err(ApiError::large_body(limit));
    }
    // What a client only announces takes address space, not memory.
    let mut bytes = Vec::with_capacity(stated.unwrap_or(0));
    while let Some(data) = next(&mut body).await? {
        let error = if bytes.len() + data.len() > limit {
            ApiError::large_body(limit)
        // The text is parsed into copies of its parts, and images are decoded.
        } else if !held.take(data.len().saturating_mul(2)) {
            ApiError::no_memory()
        } else {
            bytes.extend_from_slice(&data);
            continue;
        };
        drop(bytes);
        held.give_back();
        drain(&mut body, limit.saturating_mul(DRAINED)).await?;
        return Err(error);
    }
    Ok(bytes)
}

/// Reads and throws away up to `limit` bytes.
async fn drain(body: &mut Body, mut limit: usize) -> Result<(), ApiError> {
    while let Some(data) = next(body).await? {
        match limit.checked_sub(data.len()) {
            Some(rest) => limit = rest,
            None => break,
        }
    }
    Ok(())
}

/// The next bytes of a body, without trailers.
async fn next(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        let Some(frame) = body.frame().await else { return Ok(None) };
        let frame = frame.map_err(|e| ApiError::invalid(format!("the body is broken off: {e}")))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

/// Parses a JSON object whose size in memory is bounded by the limits.
fn parse(bytes: &[u8], limits: &Limits) -> Result<Map<String, Value>, ApiError> {
    check_shape(bytes, limits)?;
    let invalid = |what: String| ApiError::invalid(what).coded("invalid_json");
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(invalid("the body is not a JSON object".to_owned()).with_hint("send {\"messages\": …}")),
        Err(e) if bytes.is_empty() => Err(invalid(format!("the body is empty: {e}")).with_hint("send a JSON object")),
        Err(e) => Err(invalid(format!("the body is not valid JSON: {e}")).with_hint("send a JSON object in UTF-8")),
    }
}

/// Counts depth and number of values outside of strings, before anything is allocated for them.
fn check_shape(bytes: &[u8], limits: &Limits) -> Result<(), ApiError> {
    let (mut depth, mut values) = (0_usize, 0_usize);
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => skip_string(&mut rest),
            b'[' | b'{' => (depth, values) = (depth + 1, values + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' | b':' => values += 1,
            _ => {}
        }
        if depth > limits.json_depth {
            let message = format!("the body has more than {} nested arrays and objects", limits.json_depth);
            return Err(ApiError::invalid(message).coded("invalid_json"));
        }
        if values > limits.json_values {
            let message = format!("the body has more than {} values", limits.json_values);
            return Err(ApiError::invalid(message).coded("invalid_json"));
        }
    }
    Ok(())
}

/// Advances past the end of a string.
fn skip_string(rest: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => {
                rest.next();
            }
            b'"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_number_of_values_are_limited() {
        let limits = Limits { json_depth: 3, json_values: 10, ..Limits::default() };
        assert!(parse(br#"{"a": [[1]], "b": "[[[[[["}"#, &limits).is_ok());
        assert!(parse(br#"{"a": "\"[[[[\\"}"#, &limits).is_ok());
        let deep = parse(br#"{"a": [[[1]]]}"#, &limits).unwrap_err().body().to_string();
        assert!(deep.contains("more than 3 nested"), "{deep}");
        let many = parse(br#"{"a": [1,1,1,1,1,1,1,1,1,1,1]}"#, &limits).unwrap_err().body().to_string();
        assert!(many.contains("more than 10 values"), "{many}");
    }

    #[test]
    fn what_is_no_json_object_is_an_error_that_says_so() {
        let limits = Limits::default();
        for bytes in
            [&b""[..], b"[1]", b"{", b"{\"a\": NaN}", b"{\"a\": 1e999}", b"{\"a\": \"\xff\"}", b"\"\\ud800\"", b"nul"]
        {
            let body = parse(bytes, &limits).unwrap_err().body();
            assert_eq!(body["error"]["code"], "invalid_json", "{bytes:?}");
        }
    }

    #[test]
    fn the_budget_is_given_back() {
        let budget = Budget::new(10);
        let mut first = budget.hold();
        assert!(first.take(8));
        let mut second = budget.hold();
        assert!(!second.take(3) && second.take(2));
        drop(first);
        assert!(second.take(8));
    }
}
