//! Checks of an address before it is fetched.

use super::{FailureReason, FetchFailure};
use burgess_base::{Error, text};
use url::{Host, Url};

/// Largest length of an address in bytes.
const MAX_LENGTH: usize = 8192;

/// An address that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The address, normalised and without a fragment.
    pub url: Url,
    /// The host in lower case; IPv6 in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// Parses an absolute address.
    ///
    /// # Errors
    /// It is no address, its scheme is neither `http` nor `https`, or it has a user name or no host.
    pub fn parse(address: &str) -> Result<Self, FetchFailure> {
        let bad = |why: String| {
            let shown = text::excerpt(address, 200);
            let error =
                Error::failed(format!("`{shown}` {why}")).hint("write an address such as https://example.org/a");
            FetchFailure::new(FailureReason::BadAddress, address, error)
        };
        if address.len() > MAX_LENGTH {
            return Err(bad(format!("has {} bytes, an address may have {MAX_LENGTH}", address.len())));
        }
        let url = Url::parse(address).map_err(|e| bad(format!("is not an address: {e}")))?;
        Self::of(url).map_err(|why| bad(why.to_string()))
    }

    /// Parses the target of a redirect, which may be relative to this address.
    ///
    /// # Errors
    /// As [`Address::parse`].
    pub fn join(&self, target: &str) -> Result<Self, FetchFailure> {
        match self.url.join(target.trim()) {
            Ok(url) => Self::parse(url.as_str()),
            Err(_) => Self::parse(target),
        }
    }

    fn of(mut url: Url) -> Result<Self, &'static str> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err("is neither http: nor https:");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("has a user name or a password");
        }
        url.set_fragment(None);
        let host = match url.host() {
            None => return Err("has no host"),
            Some(Host::Domain("")) => return Err("has no host"),
            Some(Host::Domain(name)) => name.trim_end_matches('.').to_ascii_lowercase(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => format!("[{ip}]"),
        };
        let port = url.port_or_known_default().ok_or("has no port")?;
        Ok(Self { url, host, port })
    }

    /// Returns scheme, host and port, to which one `robots.txt` applies.
    pub fn origin(&self) -> String {
        format!("{}://{}:{}", self.url.scheme(), self.host, self.port)
    }

    /// Returns the address as text.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised_and_odd_ones_refused() {
        let of = |text: &str| Address::parse(text).map(|a| (a.host.clone(), a.port, a.as_str().to_string()));
        // The spellings of an IPv4 address that browsers accept become the address that is checked.
        for (text, host, port) in [
            ("HTTP://Example.ORG./a#b", "example.org", 80),
            ("https://example.org:8443/", "example.org", 8443),
            ("http://0x7f.1/", "127.0.0.1", 80),
            ("http://2130706433/", "127.0.0.1", 80),
            ("http://0177.0.0.1/", "127.0.0.1", 80),
            ("http://[::ffff:7f00:1]/", "[::ffff:127.0.0.1]", 80),
            ("http://b\u{fc}cher.example/", "xn--bcher-kva.example", 80),
        ] {
            let found = of(text).unwrap();
            assert_eq!((found.0.as_str(), found.1), (host, port), "{text}");
            assert!(!found.2.contains('#'));
        }
        for text in [
            "file:///etc/passwd",
            "ftp://example.org/",
            "gopher://example.org/",
            "data:text/plain,x",
            "http://user@example.org/",
            "http://:secret@example.org/",
            "http://",
            "//example.org/a",
            "a.png",
            "",
            "http://exa mple.org/",
            "http://example.org:99999/",
            "http://[::1/",
        ] {
            assert_eq!(of(text).unwrap_err().reason, FailureReason::BadAddress, "{text}");
        }
        assert!(Address::parse(&format!("http://x.org/{}", "a".repeat(9000))).is_err());
        let base = Address::parse("https://x.org/a/b").unwrap();
        assert_eq!(base.join("../c").unwrap().as_str(), "https://x.org/c");
        assert_eq!(base.join("//y.org/d").unwrap().origin(), "https://y.org:443");
        assert!(base.join("javascript:alert(1)").is_err() && base.join("http://u@y.org/").is_err());
    }
}
