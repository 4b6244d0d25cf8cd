//! Rules of `robots.txt` (RFC 9309).

use super::FailureReason;
use burgess_base::guard;
use std::time::Duration;
use texting_robots::Robot;

/// Number of bytes of a file that are read; RFC 9309 asks for at least 500 KiB.
pub(super) const MAX_BYTES: u64 = 500 << 10;

/// The rules of one origin.
#[derive(Debug)]
pub(super) enum Robots {
    /// Everything is allowed: there is no file.
    All,
    /// Nothing is allowed: the rules are unknown, for this reason.
    Nothing(FailureReason, String),
    /// The rules of the file.
    Rules(Box<Robot>),
}

impl Robots {
    /// Parses a file for this agent. One that cannot be parsed allows nothing.
    pub fn parse(agent: &str, text: &[u8]) -> Self {
        // A byte-order mark would hide the first line.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        match guard::third_party("robots.txt", || Robot::new(agent, text)) {
            Ok(Ok(rules)) => Self::Rules(Box::new(rules)),
            Ok(Err(e)) => Self::Nothing(FailureReason::Robots, format!("it cannot be parsed: {e}")),
            Err(e) => Self::Nothing(FailureReason::Robots, e.to_string()),
        }
    }

    /// Checks that an address may be fetched.
    ///
    /// # Errors
    /// The reason why not.
    pub fn check(&self, url: &str) -> Result<(), (FailureReason, String)> {
        match self {
            Self::All => Ok(()),
            Self::Nothing(reason, why) => {
                Err((*reason, format!("robots.txt of the server cannot be read, so nothing is allowed: {why}")))
            }
            Self::Rules(rules) => match guard::third_party("robots.txt", || rules.allowed(url)) {
                Ok(true) => Ok(()),
                Ok(false) => Err((FailureReason::Robots, "robots.txt of the server disallows this address".into())),
                Err(e) => Err((FailureReason::Robots, e.to_string())),
            },
        }
    }

    /// Returns the time between requests that the file asks for.
    pub fn delay(&self) -> Option<Duration> {
        let Self::Rules(rules) = self else { return None };
        rules.delay.and_then(|seconds| Duration::try_from_secs_f32(seconds).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_those_of_the_agent_or_of_all() {
        let text = "\u{feff}User-agent: *\nDisallow: /private\nCrawl-delay: 2.5\n\nUser-agent: burgess\nDisallow: /b\n\
                    Allow: /b/open\n";
        let of = |agent: &str, path: &str| Robots::parse(agent, text.as_bytes()).check(&format!("https://x.org{path}"));
        assert!(of("other", "/private/a").is_err() && of("other", "/b").is_ok());
        assert!(of("burgess", "/private/a").is_ok() && of("burgess", "/b/c").is_err());
        assert!(of("burgess", "/b/open/a").is_ok());
        assert_eq!(Robots::parse("other", text.as_bytes()).delay(), Some(Duration::from_millis(2500)));
        assert!(Robots::Nothing(FailureReason::ServerError, "500".into()).check("https://x.org/").is_err());
        assert!(Robots::All.check("https://x.org/").is_ok() && Robots::All.delay().is_none());
        for odd in [&b"\xff\xfe\0\0"[..], b"", b"<html>", b"Crawl-delay: 1e30", b"User-agent: *\nDisallow: (((\n"] {
            let robots = Robots::parse("burgess", odd);
            robots.check("https://x.org/a").unwrap();
            robots.delay();
        }
    }
}
