//! Images by address: downloaded from public addresses only, so that a client cannot reach through this server what
//! only the server can reach (server-side request forgery).
//!
//! The check is made on the addresses that a connection is then made to, in the resolver of the HTTP client, for every
//! connection: also after a redirect, and for names that resolve to something else the second time.

use super::ApiError;
use super::images;
use crate::{ImageBytes, Limits};
use burgess_base::network::{self, Lookup, is_public};
use burgess_base::text;
use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{StatusCode, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// Number of downloads at the same time.
const DOWNLOADS: usize = 8;
/// Number of redirects that are followed.
const REDIRECTS: u32 = 3;
/// Number of addresses of a name that are tried; the HTTP client has room for 16.
const ADDRESSES: usize = 8;
/// The part of an error that says that an address is refused; errors of the resolver pass through the HTTP client.
const REFUSED: &str = "is not a public address";
/// Lowest port besides 80 and 443; below are services that do not speak HTTP.
const FIRST_PORT: u16 = 1024;

/// Downloads images from public addresses.
pub(super) struct Remote {
    agent: Agent,
    limits: Limits,
    places: Semaphore,
}

impl Remote {
    pub fn new(limits: &Limits) -> Self {
        Self::with(limits, network::system_lookup(), is_public)
    }

    /// Builds a downloader with its own look-up of names and decision which addresses are allowed.
    fn with(limits: &Limits, lookup: Arc<Lookup>, allows: fn(IpAddr) -> bool) -> Self {
        let config = Config::builder()
            // A proxy would connect in our place, to any address.
            .proxy(None)
            .max_redirects(REDIRECTS)
            .max_redirects_will_error(true)
            .http_status_as_error(false)
            .timeout_global(Some(limits.remote_time))
            .max_response_header_size(16 << 10)
            // Each download makes a connection of its own, whose address is checked.
            .max_idle_connections(0)
            .user_agent("burgess-serve")
            .accept("image/*")
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::new(), PublicOnly { lookup, allows });
        Self { agent, limits: limits.clone(), places: Semaphore::new(DOWNLOADS) }
    }

    /// Downloads an image and checks it as one that was sent.
    pub async fn image(&self, url: String) -> Result<Arc<ImageBytes>, ApiError> {
        let _place = self.places.acquire().await.map_err(|_| ApiError::shutting_down())?;
        let (agent, limits) = (self.agent.clone(), self.limits.clone());
        tokio::task::spawn_blocking(move || download(&agent, &url, &limits))
            .await
            .map_err(|e| ApiError::internal(format!("the download of an image failed: {e}")))?
    }
}

fn download(agent: &Agent, url: &str, limits: &Limits) -> Result<Arc<ImageBytes>, ApiError> {
    let failed = |why: String| {
        ApiError::invalid(format!("downloading {}: {why}", text::excerpt(url, 100)))
            .with_hint("check the address, or send the image itself: data:image/png;base64,…")
            .coded("invalid_image_url")
    };
    let response = agent.get(url).call().map_err(|e| failed(e.to_string()))?;
    if response.status() != StatusCode::OK {
        return Err(failed(format!("the server answered {}", response.status())));
    }
    let mut bytes = Vec::new();
    let limit = limits.image_bytes as u64;
    // One byte more than allowed shows that the image is too large.
    let mut body = response.into_body().into_reader().take(limit.saturating_add(1));
    body.read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    images::check(bytes, limits)
}

/// Resolves names, and refuses a name if one of its addresses is not public.
struct PublicOnly {
    lookup: Arc<Lookup>,
    allows: fn(IpAddr) -> bool,
}

impl std::fmt::Debug for PublicOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublicOnly")
    }
}

impl Resolver for PublicOnly {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let bad = |why: String| ureq::Error::BadUri(why);
        let port = match (uri.scheme_str(), uri.port_u16()) {
            (Some("http" | "https"), Some(port)) => port,
            (Some("http"), None) => 80,
            (Some("https"), None) => 443,
            _ => return Err(bad("only http: and https: are supported".to_owned())),
        };
        if port < FIRST_PORT && port != 80 && port != 443 {
            return Err(bad(format!("port {port} is not allowed")));
        }
        let host = uri.host().ok_or_else(|| bad("it has no host".to_owned()))?;
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).to_owned();
        let found = network::look_up(&self.lookup, &host, port, *timeout.after).map_err(|e| match e.kind() {
            std::io::ErrorKind::TimedOut => ureq::Error::Timeout(ureq::Timeout::Resolve),
            _ => ureq::Error::Io(e),
        })?;
        if let Some(address) = found.iter().find(|address| !(self.allows)(address.ip())) {
            return Err(bad(format!("{} ({}) {REFUSED}", text::excerpt(&host, 100), address.ip())));
        }
        let mut resolved = self.empty();
        for address in found.into_iter().take(ADDRESSES) {
            resolved.push(address);
        }
        match resolved.is_empty() {
            true => Err(ureq::Error::HostNotFound),
            false => Ok(resolved),
        }
    }
}

#[cfg(test)]
mod tests;
