//! Errors of requests, by what helps against them.

use burgess_base::{Error, ErrorKind};
use std::fmt;
use std::time::Duration;

/// What went wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatErrorKind {
    /// The key is missing or wrong, or may not use the model (401, 403).
    Unauthorized,
    /// The account has no credit left (402, or 429 with the code `insufficient_quota`).
    NoCredit,
    /// The address or the model does not exist (404, 405), or the address redirects.
    NotFound,
    /// The server refuses this request (400, 413, 422).
    Refused,
    /// The server asks for fewer requests (429).
    RateLimited,
    /// The server failed (5xx, or an error in a successful response).
    Server,
    /// The reply was not complete in time.
    Timeout,
    /// The connection could not be made, or broke.
    Connection,
    /// The reply is cut off or not of the expected form.
    Malformed,
    /// The reply is larger than the limit.
    TooLarge,
    /// A signal asked to stop.
    Interrupted,
}

impl ChatErrorKind {
    /// Whether the same request may succeed later.
    pub fn may_retry(self) -> bool {
        match self {
            Self::RateLimited | Self::Server | Self::Timeout | Self::Connection | Self::Malformed => true,
            Self::Unauthorized
            | Self::NoCredit
            | Self::NotFound
            | Self::Refused
            | Self::TooLarge
            | Self::Interrupted => false,
        }
    }

    /// Whether only this request is at fault, so that others may succeed.
    pub fn is_of_request(self) -> bool {
        matches!(self, Self::Refused | Self::TooLarge)
    }

    /// Whether the server may have generated, and charged for, a reply that did not arrive.
    pub(super) fn may_be_charged(self) -> bool {
        matches!(self, Self::Timeout | Self::Malformed | Self::TooLarge)
    }
}

/// A request that failed.
#[derive(Debug, Clone)]
pub struct ChatError {
    /// What went wrong.
    pub kind: ChatErrorKind,
    /// What was found, in one line, without the key.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// HTTP status, if there was a response.
    pub status: Option<u16>,
    /// Wait that the server asks for.
    pub retry_after: Option<Duration>,
    /// Number of attempts.
    pub attempts: u32,
    /// Estimated tokens of replies that did not arrive: the server may charge for them.
    pub lost: super::Usage,
    /// The request's field that the server does not take, if it names one.
    pub(super) field: Option<Box<str>>,
}

impl ChatError {
    pub(super) fn new(kind: ChatErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            status: None,
            retry_after: None,
            attempts: 1,
            lost: super::Usage::default(),
            field: None,
        }
    }

    #[must_use]
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the same request may succeed later.
    pub fn may_retry(&self) -> bool {
        self.kind.may_retry()
    }
}

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.attempts {
            0 | 1 => Ok(()),
            n => write!(f, " (after {n} attempts)"),
        }
    }
}

impl std::error::Error for ChatError {}

impl From<ChatError> for Error {
    fn from(e: ChatError) -> Self {
        if e.kind == ChatErrorKind::Interrupted {
            return Error::interrupted();
        }
        let error = match e.kind {
            ChatErrorKind::Unauthorized | ChatErrorKind::NotFound => Error::usage(e.to_string()),
            _ => Error::failed(e.to_string()),
        };
        debug_assert!(error.kind() != ErrorKind::Interrupted);
        match e.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
