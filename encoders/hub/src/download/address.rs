//! Addresses of web servers.

use ureq::http::Uri;

/// Scheme and host with port of an `http` or `https` address, in lower case.
pub(super) fn origin(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|s| ["http", "https"].contains(s))?;
    Some((scheme.to_string(), uri.authority()?.as_str().to_lowercase()))
}
