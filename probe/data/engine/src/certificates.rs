//! Trusted root certificates of TLS: Mozilla's, or those of the file in `SSL_CERT_FILE`.

use burgess_base::{Context, Error, Result};
use ureq::tls::{PemItem, RootCerts, parse_pem};

/// Returns the trusted root certificates.
///
/// # Errors
/// The file in `SSL_CERT_FILE` cannot be read, or holds no certificate.
pub fn roots() -> Result<RootCerts> {
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
