//! Images by address: downloaded from public addresses only, so that a client cannot reach through this server what
//! only the server can reach (server-side request forgery).
//!
//! The check is made on the addresses that a connection is then made to, in the resolver of the HTTP client, for every
//! connection: also after a redirect, and for names that resolve to something else the second time.

use super::ApiError;
use super::images;
use crate::{ImageBytes, Limits};
use burgess_base::text;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::Duration;
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

/// Looks up a name and port.
type Lookup = dyn Fn(&str, u16) -> std::io::Result<Vec<SocketAddr>> + Send + Sync;

/// Downloads images from public addresses.
pub(super) struct Remote {
    agent: Agent,
    limits: Limits,
    places: Semaphore,
}

impl Remote {
    pub fn new(limits: &Limits) -> Self {
        let lookup = |host: &str, port| (host, port).to_socket_addrs().map(Iterator::collect);
        Self::with(limits, Arc::new(lookup), is_public)
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
        let found = self.look_up(host.clone(), port, *timeout.after)?;
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

impl PublicOnly {
    /// Looks up a name in a thread, since the system's look-up has no deadline.
    fn look_up(&self, host: String, port: u16, time: Duration) -> Result<Vec<SocketAddr>, ureq::Error> {
        let lookup = self.lookup.clone();
        let (sender, receiver) = mpsc::sync_channel(1);
        std::thread::Builder::new().name("look-up".to_owned()).spawn(move || {
            // Nobody waits any more after the deadline.
            sender.send(lookup(&host, port)).ok();
        })?;
        match receiver.recv_timeout(time) {
            Ok(found) => Ok(found?),
            Err(_) => Err(ureq::Error::Timeout(ureq::Timeout::Resolve)),
        }
    }
}

/// Whether an address belongs to the public internet: not to this machine, a private or local network, or a range with
/// a special meaning, also not embedded in an IPv6 address.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        // This network; private; carrier-grade NAT; loopback; link-local.
        (0 | 10 | 127, ..) | (100, 64..=127, _) | (169, 254, _) | (172, 16..=31, _) | (192, 168, _) => true,
        // Protocol assignments, documentation, relays to IPv6, AS112, benchmarks.
        (192, 0, 0 | 2) | (192, 88, 99) | (192, 31, 196) | (192, 52, 193) | (192, 175, 48) => true,
        (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => true,
        // Multicast, reserved, broadcast.
        (224.., ..) => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // NAT64: the last 32 bits are the IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        // 6to4.
        [0x2002, high, low, ..] => embedded(high, low),
        // Protocol assignments and Teredo, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Only global unicast is public: not ::, ::1, mapped and compatible IPv4, local NAT64, unique local,
        // link-local, site-local, multicast.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
