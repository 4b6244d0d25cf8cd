//! Which network addresses belong to the public internet, for programs that fetch what untrusted data name (server-side
//! request forgery).
//!
//! An address is checked after its name was looked up, and the connection is made to the checked address: a name that
//! resolves to something else the second time gains nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Looks up the addresses of a name and port.
pub type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Returns the operating system's look-up.
pub fn system_lookup() -> Arc<Lookup> {
    Arc::new(|host: &str, port| (host, port).to_socket_addrs().map(Iterator::collect))
}

/// Looks up a name in a thread of its own, since the system's look-up has no deadline.
///
/// # Errors
/// The name is unknown, or the look-up takes longer than `time` ([`io::ErrorKind::TimedOut`]).
pub fn look_up(lookup: &Arc<Lookup>, host: &str, port: u16, time: Duration) -> io::Result<Vec<SocketAddr>> {
    let (lookup, host) = (lookup.clone(), host.to_owned());
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("look-up".to_owned()).spawn(move || {
        // After the deadline there is no receiver.
        sender.send(lookup(&host, port)).ok();
    })?;
    let late = || io::Error::new(io::ErrorKind::TimedOut, "looking up the name takes too long");
    receiver.recv_timeout(time).map_err(|_| late())?
}

/// Whether an address belongs to the public internet: not to this machine, a private or local network, or a range with
/// a special meaning, also not embedded in an IPv6 address.
pub fn is_public(address: IpAddr) -> bool {
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
        // ISATAP: the last 32 bits are an IPv4 address behind a global prefix.
        [0x2000..=0x3fff, _, _, _, 0 | 0x200, 0x5efe, high, low] => embedded(high, low),
        // Only global unicast is public: not ::, ::1, mapped and compatible IPv4, local NAT64, unique local,
        // link-local, site-local, multicast.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_those_of_the_internet() {
        for address in [
            "1.1.1.1",
            "93.184.216.34",
            "172.32.0.1",
            "100.128.0.1",
            "192.1.0.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
        ] {
            assert!(address.parse().is_ok_and(is_public), "{address}");
        }
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.0.1",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::",
            "2606:4700::5efe:a9fe:a9fe",
            "3fff::1",
            "100::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(address.parse().is_ok_and(|ip| !is_public(ip)), "{address}");
        }
    }

    #[test]
    fn a_slow_look_up_is_left() {
        let (release, wait) = mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let slow: Arc<Lookup> = Arc::new(move |_: &str, _| {
            let ended = wait.lock().map(|wait| wait.recv().is_err());
            assert!(ended.is_ok());
            Ok(Vec::new())
        });
        let found = look_up(&slow, "slow.test", 80, Duration::from_millis(10));
        assert_eq!(found.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(release);
        let found = look_up(&system_lookup(), "127.0.0.1", 80, Duration::from_secs(10)).unwrap();
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 80))]);
    }
}
