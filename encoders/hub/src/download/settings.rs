//! Settings of the hub from the environment, with the rules of `huggingface_hub`.

use super::address::origin;
use crate::home;
use burgess_base::{Context, Error, Result};
use std::time::Duration;
use ureq::tls::{PemItem, RootCerts, parse_pem};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const SILENCE: Duration = Duration::from_secs(30);

/// Settings of the hub and of other servers.
pub struct Settings {
    /// Address of the hub, `HF_ENDPOINT`, without a trailing slash.
    pub endpoint: String,
    /// Access token: `HF_TOKEN`, or the file that `hf auth login` writes.
    pub token: Option<String>,
    /// Whether the network must not be used: `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`.
    pub offline: bool,
    /// Timeout of a connection without data: `HF_HUB_DOWNLOAD_TIMEOUT`, default 30 s.
    pub silence: Duration,
    /// Limits of a download: `BURGESS_FETCH_TIME_LIMIT` and `BURGESS_FETCH_MAX_SIZE`.
    pub limits: Limits,
}

/// Limits of a download that hold whatever a server sends.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest duration of the whole download.
    pub time: Duration,
    /// Largest number of bytes of a file whose size the server does not give.
    pub unnamed: u64,
}

impl Limits {
    /// The default: 24 hours, and 64 GB, which exceeds every published file of weights.
    pub const DEFAULT: Self = Self { time: Duration::from_hours(24), unnamed: 64_000_000_000 };

    /// Parses a duration such as `90s`, `6h` or `1h 30m`; a bare number is in seconds.
    ///
    /// # Errors
    /// The text is no duration, or 0.
    pub fn parse_time(text: &str) -> Result<Duration, String> {
        let seconds = text.trim().parse().map(Duration::from_secs).ok();
        match seconds.map_or_else(|| humantime::parse_duration(text.trim()).map_err(|e| e.to_string()), Ok) {
            Ok(Duration::ZERO) => Err("the time limit must be longer than 0".into()),
            Ok(time) => Ok(time),
            Err(e) => Err(format!("not a duration: {e}; write 90s, 30m or 6h")),
        }
    }

    /// Parses a size in bytes, or as `500MB`, `64GB` (powers of 1000), `1TiB` (powers of 1024).
    ///
    /// # Errors
    /// The text is no size, or less than 1 byte.
    pub fn parse_size(text: &str) -> Result<u64, String> {
        let upper = text.trim().to_uppercase();
        let decimal = [("KB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("B", 1.0)];
        let binary =
            [("KIB", 10), ("MIB", 20), ("GIB", 30), ("TIB", 40)].map(|(unit, bits)| (unit, f64::from(bits).exp2()));
        let mut units = binary.into_iter().chain(decimal);
        let found = units.find_map(|(unit, factor)| upper.strip_suffix(unit).map(|number| (number.trim(), factor)));
        let (number, factor) = found.unwrap_or((upper.as_str(), 1.0));
        let size = number.parse::<f64>().map(|n| n * factor).ok().filter(|n| n.is_finite() && *n >= 1.0 && *n < 1e18);
        size.map(|n| n as u64).ok_or_else(|| format!("`{text}` is not a size: write 500MB or 64GB"))
    }
}

impl Settings {
    /// Reads the settings from the environment, with the rules of `huggingface_hub`.
    ///
    /// # Errors
    /// The endpoint is no address, the token holds invalid characters, or the timeout is not a positive number.
    pub fn from_environment() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
        let on = |name: &str| {
            variable(name).is_some_and(|v| ["1", "true", "yes", "on"].contains(&v.trim().to_lowercase().as_str()))
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.into());
        let endpoint = endpoint.trim().trim_end_matches('/').to_string();
        if origin(&endpoint).is_none() {
            return Err(Error::usage(format!("HF_ENDPOINT is `{endpoint}`, not the address of a server"))
                .hint(format!("unset it, or set it to an address such as {DEFAULT_ENDPOINT}")));
        }
        let file = || {
            let path =
                variable("HF_TOKEN_PATH").map_or_else(|| Ok(home()?.join("token")), |p| Ok::<_, Error>(p.into()));
            std::fs::read_to_string(path.ok()?).ok()
        };
        let token = match on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            true => None,
            false => variable("HF_TOKEN").or_else(file).map(|t| t.trim().to_string()).filter(|t| !t.is_empty()),
        };
        if token.as_ref().is_some_and(|t| !t.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::usage(
                "the token in HF_TOKEN (or in the token file) holds spaces or control characters",
            )
            .hint("copy it again; tokens look like hf_…"));
        }
        let silence = match variable("HF_HUB_DOWNLOAD_TIMEOUT") {
            None => SILENCE,
            Some(text) => text.trim().parse().ok().filter(|s| *s > 0).map(Duration::from_secs).ok_or_else(|| {
                Error::usage(format!("HF_HUB_DOWNLOAD_TIMEOUT is `{text}`, not a positive number of seconds"))
            })?,
        };
        let mut limits = Limits::DEFAULT;
        let invalid = |name: &str, why: String| Error::usage(format!("{name}: {why}"));
        if let Some(text) = variable("BURGESS_FETCH_TIME_LIMIT") {
            limits.time = Limits::parse_time(&text).map_err(|why| invalid("BURGESS_FETCH_TIME_LIMIT", why))?;
        }
        if let Some(text) = variable("BURGESS_FETCH_MAX_SIZE") {
            limits.unnamed = Limits::parse_size(&text).map_err(|why| invalid("BURGESS_FETCH_MAX_SIZE", why))?;
        }
        Ok(Self { endpoint, token, offline: on("HF_HUB_OFFLINE") || on("TRANSFORMERS_OFFLINE"), silence, limits })
    }
}

/// Returns the trusted root certificates: Mozilla's, or those in `SSL_CERT_FILE`.
///
/// # Errors
/// The file in `SSL_CERT_FILE` cannot be read, or holds no certificate.
pub fn root_certificates() -> Result<RootCerts> {
    let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|p| !p.is_empty()) else {
        return Ok(RootCerts::WebPki);
    };
    let step = || format!("reading the certificates of SSL_CERT_FILE, {}", path.display());
    let pem = std::fs::read(&path).with_context(step)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(one) = item.map_err(|e| Error::failed(e.to_string())).with_context(step)? {
            certificates.push(one);
        }
    }
    match certificates.is_empty() {
        true => Err(Error::failed("the file holds no certificates")).with_context(step),
        false => Ok(RootCerts::new_with_certs(&certificates)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_people_write_them() {
        assert_eq!(Limits::parse_time("90"), Ok(Duration::from_secs(90)));
        assert_eq!(Limits::parse_time("24h"), Ok(Limits::DEFAULT.time));
        assert_eq!(Limits::parse_time("1h 30m"), Ok(Duration::from_mins(90)));
        assert_eq!(Limits::parse_size("64GB"), Ok(Limits::DEFAULT.unnamed));
        assert_eq!(Limits::parse_size("1.5 MiB"), Ok(3 << 19));
        assert_eq!(Limits::parse_size("500"), Ok(500));
        for bad in ["0", "", "-1", "1e400", "ten", "5XB", "NaN"] {
            assert!(Limits::parse_size(bad).is_err(), "{bad}");
        }
        for bad in ["0", "0s", "", "soon", "-5"] {
            assert!(Limits::parse_time(bad).is_err(), "{bad}");
        }
    }
}
