//! How a client fetches: who it says it is, how often it asks, and how much it takes.

use burgess_base::{Error, Result, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of a [`Client`](super::Client). Every key is optional in TOML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FetchPolicy {
    /// Name of the program in `User-Agent`, and the name to which rules of `robots.txt` apply.
    pub agent: String,
    /// A mail address or web page at which the operator of a server reaches whoever runs this program. Without it only
    /// [`FetchPolicy::allow_hosts`] are asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub contact: Option<String>,
    /// Largest number of requests per second to one host, over all processes that share the cache directory.
    pub requests_per_second: f64,
    /// Number of tries of one request before it fails.
    pub tries: u32,
    /// First wait in seconds after a failed try; it doubles with each try, with a random factor from 0.5 to 1.5.
    pub backoff_seconds: f64,
    /// Longest wait in seconds that a server may ask for (`Retry-After`, `Crawl-delay`); the request fails if it asks
    /// for more.
    pub longest_wait_seconds: f64,
    /// Time limit in seconds for one answer, from the look-up of the name to the last byte.
    pub answer_seconds: f64,
    /// Largest number of bytes of an answer, also after decompression.
    pub max_bytes: u64,
    /// Largest number of redirects.
    pub max_redirects: u32,
    /// Whether rules of `robots.txt` are obeyed.
    pub robots: bool,
    /// Age in days below which a cached answer is used without asking the server. An older one is confirmed by a
    /// conditional request.
    pub fresh_days: f64,
    /// Whether only the cache is used: what it lacks fails.
    pub offline: bool,
    /// Hosts (`name` or `name:port`) that may have addresses outside the public internet, such as a wiki of an
    /// intranet.
    pub allow_hosts: Vec<String>,
    /// Seed of the random factors of waits.
    pub seed: u64,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            agent: "burgess".into(),
            contact: None,
            requests_per_second: 1.0,
            tries: 5,
            backoff_seconds: 2.0,
            longest_wait_seconds: 600.0,
            answer_seconds: 120.0,
            max_bytes: 64 << 20,
            max_redirects: 5,
            robots: true,
            fresh_days: 30.0,
            offline: false,
            allow_hosts: Vec::new(),
            seed: 0,
        }
    }
}

impl FetchPolicy {
    /// Checks the options, except whether a contact is needed, which depends on the hosts.
    ///
    /// # Errors
    /// A number is out of its range, or a text cannot stand in a header.
    pub fn check(&self) -> Result<()> {
        let number = |name: &str, value: f64, least: f64, most: f64| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(Error::usage(format!("`{name}` is {value}, must be from {least} to {most}"))),
        };
        number("requests_per_second", self.requests_per_second, 1e-4, 1e4)?;
        number("backoff_seconds", self.backoff_seconds, 0.0, 3600.0)?;
        number("longest_wait_seconds", self.longest_wait_seconds, 0.0, 86_400.0)?;
        number("answer_seconds", self.answer_seconds, 0.01, 86_400.0)?;
        number("fresh_days", self.fresh_days, 0.0, 36_500.0)?;
        number("tries", f64::from(self.tries), 1.0, 100.0)?;
        number("max_bytes", self.max_bytes as f64, 1.0, f64::from(1u32 << 31))?;
        number("max_redirects", f64::from(self.max_redirects), 0.0, 20.0)?;
        let token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.agent.is_empty() || self.agent.len() > 64 || !self.agent.chars().all(token) {
            let found = text::excerpt(&self.agent, 80);
            return Err(Error::usage(format!("`agent` is `{found}`, must be 1 to 64 letters, digits, `-` or `_`")));
        }
        if let Some(contact) = &self.contact {
            check_contact(contact)?;
        }
        for host in &self.allow_hosts {
            let odd = |c: char| c == '/' || c == '@' || c.is_whitespace() || c.is_control();
            if host.is_empty() || host.contains(odd) {
                let found = text::excerpt(host, 80);
                return Err(Error::usage(format!("`allow_hosts` has `{found}`, which is not a host"))
                    .hint("write the name alone or with its port: wiki.example.org, 127.0.0.1:8080, [::1]:8080"));
            }
        }
        Ok(())
    }

    /// Returns the value of the header `User-Agent`.
    pub fn user_agent(&self) -> String {
        let about = env!("CARGO_PKG_REPOSITORY");
        let (agent, version) = (&self.agent, env!("CARGO_PKG_VERSION"));
        match &self.contact {
            Some(contact) => format!("{agent}/{version} ({about}; {contact}) ureq/3"),
            None => format!("{agent}/{version} ({about}) ureq/3"),
        }
    }

    /// Whether a host may have an address outside the public internet. `host` is as in a parsed address: lower case,
    /// IPv6 in brackets.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        let named = format!("{host}:{port}");
        self.allow_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(host) || allowed.eq_ignore_ascii_case(&named))
    }

    /// Checks that a host may be asked without a contact.
    ///
    /// # Errors
    /// There is no contact, and the host is not one of [`FetchPolicy::allow_hosts`].
    pub fn check_contact_for(&self, host: &str, port: u16) -> Result<()> {
        match self.contact.is_some() || self.allows(host, port) {
            true => Ok(()),
            false => Err(Error::usage(format!("no contact is given, and {host} is not one of `allow_hosts`")).hint(
                "set `contact` to your mail address or a web page: operators of servers must be able to reach you, and \
                 Wikimedia refuses requests without it",
            )),
        }
    }
}

/// Checks that a contact is a mail address or a web page, and can stand in a header.
fn check_contact(contact: &str) -> Result<()> {
    let page = contact.starts_with("http://") || contact.starts_with("https://");
    let mail = contact.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '(' | ')' | ';' | '\\');
    match (page || mail) && contact.len() <= 200 && contact.chars().all(plain) {
        true => Ok(()),
        false => {
            let found = text::excerpt(contact, 80);
            Err(Error::usage(format!("`contact` is `{found}`, which is neither a mail address nor a web page"))
                .hint("write name@example.org or https://example.org/crawler"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_named() {
        FetchPolicy::default().check().unwrap();
        let wrong: &[(&str, &str)] = &[
            ("requests_per_second = 0.0", "`requests_per_second` is 0"),
            ("requests_per_second = nan", "`requests_per_second` is NaN"),
            ("tries = 0", "`tries` is 0"),
            ("max_bytes = 0", "`max_bytes` is 0"),
            ("answer_seconds = 1e9", "`answer_seconds`"),
            ("agent = \"a b\"", "`agent` is `a b`"),
            ("contact = \"me\"", "`contact` is `me`"),
            ("contact = \"a@b.org\\r\\nX: y\"", "`contact` is"),
            ("contact = \"a@localhost\"", "`contact` is"),
            ("allow_hosts = [\"http://x\"]", "`allow_hosts` has `http://x`"),
        ];
        for (text, expected) in wrong {
            let policy: FetchPolicy = toml::from_str(text).unwrap();
            let error = policy.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(toml::from_str::<FetchPolicy>("contakt = \"x\"").is_err());
    }

    #[test]
    fn a_host_outside_the_list_needs_a_contact() {
        let allow_hosts = vec!["127.0.0.1:8080".into(), "Wiki.intern".into(), "[::1]".into()];
        let policy = FetchPolicy { allow_hosts, ..FetchPolicy::default() };
        for (host, port, allowed) in
            [("127.0.0.1", 8080, true), ("127.0.0.1", 80, false), ("wiki.intern", 443, true), ("[::1]", 9, true)]
        {
            assert_eq!(policy.allows(host, port), allowed, "{host}");
            assert_eq!(policy.check_contact_for(host, port).is_ok(), allowed, "{host}");
        }
        let policy = FetchPolicy { contact: Some("me@example.org".into()), ..policy };
        policy.check_contact_for("en.wikipedia.org", 443).unwrap();
        let agent = policy.user_agent();
        assert!(agent.starts_with("burgess/") && agent.contains("; me@example.org)"), "{agent}");
    }
}
