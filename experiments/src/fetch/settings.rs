//! What the environment says about the hub, by the rules of `huggingface_hub`.

use super::client::origin;
use burgess_base::{Context, Error, Result};
use burgess_encoders::hub;
use std::time::Duration;
use ureq::tls::{PemItem, RootCerts, parse_pem};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const SILENCE: Duration = Duration::from_secs(30);

/// What the environment says about the hub.
pub struct Settings {
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: String,
    /// `HF_TOKEN`, or the file that `hf auth login` writes.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// Silence after which a connection counts as broken: `HF_HUB_DOWNLOAD_TIMEOUT`, in seconds.
    pub silence: Duration,
}

impl Settings {
    /// From the environment, by the rules of `huggingface_hub`.
    ///
    /// # Errors
    /// The endpoint is no address, the token holds characters that no token has, the silence is no number.
    pub fn from_environment() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
        let on = |name: &str| {
            variable(name).is_some_and(|v| ["1", "true", "yes", "on"].contains(&v.trim().to_lowercase().as_str()))
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.into());
        let endpoint = endpoint.trim().trim_end_matches('/').to_string();
        if origin(&endpoint).is_none() {
            return Err(Error::usage(format!("HF_ENDPOINT is `{endpoint}`, which is no address of a server"))
                .hint(format!("unset it, or give one as {DEFAULT_ENDPOINT}")));
        }
        let file = || {
            let path =
                variable("HF_TOKEN_PATH").map_or_else(|| Ok(hub::home()?.join("token")), |p| Ok::<_, Error>(p.into()));
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
        Ok(Self { endpoint, token, offline: on("HF_HUB_OFFLINE") || on("TRANSFORMERS_OFFLINE"), silence })
    }
}

/// Mozilla's certificates, or those of `SSL_CERT_FILE`.
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
        true => Err(Error::failed("there are none")).with_context(step),
        false => Ok(RootCerts::new_with_certs(&certificates)),
    }
}
