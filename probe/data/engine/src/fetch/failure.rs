//! Why an address could not be fetched.

use burgess_base::Error;
use std::fmt;

/// The reason of a failure, by which failures are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureReason {
    /// The address is not `http:` or `https:`, or has a user name or no host.
    BadAddress,
    /// The host has an address outside the public internet.
    PrivateAddress,
    /// No contact is given.
    NoContact,
    /// `robots.txt` does not allow the address, or cannot be read.
    Robots,
    /// The server says that there is nothing: 404 or 410.
    NotFound,
    /// The server refuses the request: another status from 400 to 499.
    Refused,
    /// The server asks for fewer requests: 429 or 503, until no try is left, or for longer than we wait.
    TooManyRequests,
    /// The server fails: a status from 500, until no try is left.
    ServerError,
    /// The name has no address.
    UnknownHost,
    /// The connection fails or ends early.
    Connection,
    /// The answer takes longer than the limit.
    TooSlow,
    /// The answer is larger than the limit, before or after decompression.
    TooLarge,
    /// There are more redirects than allowed, or one leads nowhere.
    Redirects,
    /// The answer does not follow HTTP, or its compression is damaged or unknown.
    BadAnswer,
    /// The cache lacks the address, and only the cache may be used.
    Offline,
    /// The cache directory cannot be read or written.
    Cache,
}

impl FailureReason {
    /// Returns the reason as a clause, by which failures are counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadAddress => "the address cannot be fetched",
            Self::PrivateAddress => "the address is not public",
            Self::NoContact => "no contact is given",
            Self::Robots => "robots.txt forbids it",
            Self::NotFound => "the server does not have it",
            Self::Refused => "the server refuses it",
            Self::TooManyRequests => "the server asks for fewer requests",
            Self::ServerError => "the server fails",
            Self::UnknownHost => "the host is unknown",
            Self::Connection => "the connection fails",
            Self::TooSlow => "the server is too slow",
            Self::TooLarge => "the answer is too large",
            Self::Redirects => "it redirects too often or wrongly",
            Self::BadAnswer => "the answer is malformed",
            Self::Offline => "it is not in the cache",
            Self::Cache => "the cache fails",
        }
    }

    /// Whether the same request may succeed later, so that work that lacks it should not count as finished.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::TooManyRequests | Self::ServerError | Self::Connection | Self::TooSlow | Self::UnknownHost)
    }

    /// Whether every further request would fail for the same reason, so that work must stop.
    pub fn is_fatal(self) -> bool {
        matches!(self, Self::NoContact | Self::Cache)
    }
}

/// A failure to fetch an address.
#[derive(Debug)]
pub struct FetchFailure {
    /// The reason.
    pub reason: FailureReason,
    /// The address that was asked for.
    pub url: String,
    /// What happened, with a hint.
    pub error: Error,
}

impl FetchFailure {
    /// Builds a failure for an address.
    pub(super) fn new(reason: FailureReason, url: &str, error: Error) -> Self {
        Self { reason, url: url.to_string(), error }
    }
}

impl fmt::Display for FetchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl std::error::Error for FetchFailure {}

impl From<FetchFailure> for Error {
    fn from(failure: FetchFailure) -> Self {
        let step = format!("fetching {}", burgess_base::text::excerpt(&failure.url, 300));
        failure.error.context(step)
    }
}
