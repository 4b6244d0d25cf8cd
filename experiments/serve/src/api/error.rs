//! Errors of the API in OpenAI's form: a status, and `{"error": {"message", "type", "param", "code"}}`.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use burgess_base::{Error, ErrorKind, text};
use serde_json::{Value, json};

/// An error as a client sees it.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    /// OpenAI's `type`.
    kind: &'static str,
    message: String,
    hint: Option<String>,
    /// The request's field at fault.
    param: Option<String>,
    code: Option<&'static str>,
    /// Seconds after which the client should try again.
    retry_after: Option<u32>,
    /// How the client shall send the token.
    authenticate: Option<Scheme>,
    /// Whether the connection is closed after the response, since the rest of the request is not read.
    closes: bool,
}

/// A way to send the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// In a header that programs set.
    Bearer,
    /// As the password that a browser asks its user for.
    Basic,
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            hint: None,
            param: None,
            code: None,
            retry_after: None,
            authenticate: None,
            closes: false,
        }
    }

    /// The request is wrong in itself: status 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    /// The request is allowed and has a field that is not supported: status 400.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self { code: Some("unsupported_parameter"), ..Self::invalid(message) }
    }

    /// The token is missing or wrong: status 401.
    pub fn unauthorized(given: bool, scheme: Scheme) -> Self {
        let message = match given {
            true => "the token is wrong",
            false => "the token is missing",
        };
        Self {
            code: Some("invalid_api_key"),
            authenticate: Some(scheme),
            ..Self::new(StatusCode::UNAUTHORIZED, INVALID, message)
        }
        .with_hint("send the header `Authorization: Bearer TOKEN` with the token that the server was started with")
    }

    /// The client may not use the server: status 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    /// There is no model of this name: status 404.
    pub fn no_model(name: &str) -> Self {
        let message = format!("the model `{}` does not exist", text::excerpt(name, 200));
        Self {
            code: Some("model_not_found"),
            param: Some("model".to_owned()),
            ..Self::new(StatusCode::NOT_FOUND, INVALID, message)
        }
    }

    /// There is nothing at this path: status 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { code: Some("not_found"), ..Self::new(StatusCode::NOT_FOUND, INVALID, message) }
    }

    /// The fallback of the routes.
    pub async fn no_route(request: Request) -> Self {
        let path = text::excerpt(request.uri().path(), 200);
        Self::not_found(format!("there is nothing at {path}")).with_hint("see /v1/models and POST /v1/chat/completions")
    }

    /// The fallback of a route for other methods: status 405.
    pub async fn wrong_method(request: Request) -> Self {
        let (method, path) = (request.method(), text::excerpt(request.uri().path(), 200));
        let message = format!("the method {} is not supported at {path}", text::excerpt(method.as_str(), 20));
        Self { code: Some("method_not_allowed"), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, message) }
    }

    /// The body did not arrive in time: status 408.
    pub fn slow_body(seconds: f64) -> Self {
        let message = format!("the body did not arrive within {seconds} s");
        Self { closes: true, code: Some("timeout"), ..Self::new(StatusCode::REQUEST_TIMEOUT, INVALID, message) }
    }

    /// The body is too large: status 413.
    pub fn large_body(limit: usize) -> Self {
        let message = format!("the body is larger than the limit of {limit} bytes");
        Self {
            closes: true,
            code: Some("body_too_large"),
            ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, message)
        }
        .with_hint("send fewer or smaller images")
    }

    /// The body is not of a type that can be read: status 415.
    pub fn media_type(message: impl Into<String>) -> Self {
        let code = Some("unsupported_media_type");
        Self { closes: true, code, ..Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, message) }
    }

    /// All places are taken: status 429.
    pub fn busy(retry_after: u64) -> Self {
        let seconds = u32::try_from(retry_after).unwrap_or(u32::MAX).max(1);
        Self {
            code: Some("queue_full"),
            retry_after: Some(seconds),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "the queue of the model is full")
        }
        .with_hint(format!("try again in {seconds} s"))
    }

    /// The server has no memory left for bodies: status 503.
    pub fn no_memory() -> Self {
        let message = "the requests in progress hold as many bytes as the server allows";
        Self {
            closes: true,
            code: Some("overloaded"),
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message)
        }
        .with_hint("try again in 1 s")
    }

    /// The server is about to end: status 503.
    pub fn shutting_down() -> Self {
        Self {
            closes: true,
            code: Some("shutting_down"),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "the server is shutting down")
        }
    }

    /// The answer was not complete in time: status 504.
    pub fn timeout(seconds: f64) -> Self {
        let message = format!("the request took longer than the limit of {seconds} s and was cancelled");
        Self { code: Some("timeout"), ..Self::new(StatusCode::GATEWAY_TIMEOUT, SERVER, message) }
            .with_hint("ask for fewer tokens")
    }

    /// The server failed: status 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, message)
    }

    /// An error of the model: status 400 if the request is at fault, else 500.
    pub fn from_model(error: &Error) -> Self {
        let new = match error.kind() {
            ErrorKind::Usage => Self::invalid(error.to_string()),
            ErrorKind::Interrupted => Self::shutting_down(),
            ErrorKind::Failed => Self::internal(error.to_string()),
        };
        match error.hint_text() {
            Some(hint) => new.with_hint(hint),
            None => new,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Adds the field at fault, such as `messages[0].content`.
    #[must_use]
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param.get_or_insert_with(|| param.into());
        self
    }

    /// Adds the program's name of the error.
    #[must_use]
    pub fn coded(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Returns the body in OpenAI's form.
    pub fn body(&self) -> Value {
        let message = match &self.hint {
            Some(hint) => format!("{}. Hint: {hint}.", self.message),
            None => format!("{}.", self.message),
        };
        json!({"error": {"message": message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(scheme) = self.authenticate {
            let value = match scheme {
                Scheme::Bearer => "Bearer",
                Scheme::Basic => "Basic realm=\"burgess\"",
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        // OpenAI's clients try again after any 5xx; the same request would take as long again.
        if self.status == StatusCode::GATEWAY_TIMEOUT {
            headers.insert(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"));
        }
        response
    }
}
