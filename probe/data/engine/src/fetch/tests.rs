//! The client against servers that behave well and badly, all on the loopback network.

use super::*;
use crate::test_server::{TestServer, ok, ok_with, status};
use flate2::{Compression, write::GzEncoder};
use std::io::Write;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use tempfile::TempDir;

/// A policy without waits that are worth mentioning, for a server of the test.
fn policy(server: &TestServer) -> FetchPolicy {
    FetchPolicy {
        requests_per_second: 1000.0,
        backoff_seconds: 0.001,
        answer_seconds: 20.0,
        tries: 3,
        allow_hosts: vec![server.address.to_string()],
        ..FetchPolicy::default()
    }
}

fn client(policy: &FetchPolicy) -> (Client, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Client::new(policy, dir.path()).unwrap(), dir)
}

fn reason(outcome: Result<Fetched, FetchFailure>) -> FailureReason {
    outcome.unwrap_err().reason
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn answers_are_cached_confirmed_and_renewed() {
    let server = TestServer::start(|seen, before| match seen.path.as_str() {
        "/tagged" if seen.head.contains("if-none-match: \"v1\"") => status("304 Not Modified", "ETag: \"v1\"\r\n"),
        "/tagged" => ok_with("ETag: \"v1\"\r\nContent-Type: text/plain\r\n", b"tagged"),
        "/dated" if seen.head.contains("if-modified-since: mon, 30 nov 2026 06:00:00 gmt") && before < 2 => {
            status("304 Not Modified", "")
        }
        "/dated" => ok_with("Last-Modified: Mon, 30 Nov 2026 06:00:00 GMT\r\n", format!("dated {before}").as_bytes()),
        "/moved" => status("301 Moved Permanently", "Location: tagged#part\r\n"),
        "/packed" => ok_with("Content-Encoding: gzip\r\n", &gzip(b"unpacked")),
        _ => status("404 Not Found", ""),
    });
    let fresh = policy(&server);
    let dir = tempfile::tempdir().unwrap();
    let new = |policy: &FetchPolicy| Client::new(policy, dir.path()).unwrap();
    let first = new(&fresh);
    let got = first.get(&server.url("/moved")).unwrap();
    assert_eq!(
        (got.bytes.as_slice(), got.cached, got.url.as_str()),
        (&b"tagged"[..], false, server.url("/tagged").as_str())
    );
    assert_eq!(got.content_type.as_deref(), Some("text/plain"));
    assert_eq!(first.get(&server.url("/packed")).unwrap().bytes, b"unpacked");
    assert_eq!(first.get(&server.url("/dated")).unwrap().bytes, b"dated 0");
    assert_eq!(reason(first.get(&server.url("/absent"))), FailureReason::NotFound);
    let sent = server.requests();
    assert!(
        sent.iter()
            .all(|seen| seen.head.contains("user-agent: burgess/") && seen.head.contains("accept-encoding: gzip"))
    );
    // A second process asks nothing, not even for robots.txt, whose absence is known.
    let second = new(&fresh);
    assert!(second.get(&server.url("/moved")).unwrap().cached);
    assert_eq!(reason(second.get(&server.url("/absent"))), FailureReason::NotFound);
    assert_eq!((server.requests().len(), second.counts().from_cache), (sent.len(), 3));
    let offline = new(&FetchPolicy { offline: true, fresh_days: 0.0, ..fresh.clone() });
    assert_eq!(offline.get(&server.url("/moved")).unwrap().bytes, b"tagged");
    assert_eq!(reason(offline.get(&server.url("/new"))), FailureReason::Offline);
    // Old answers are confirmed, and replaced when they have changed.
    let old = new(&FetchPolicy { fresh_days: 0.0, ..fresh.clone() });
    let got = old.get(&server.url("/moved")).unwrap();
    assert!(got.cached && got.bytes == b"tagged");
    assert_eq!(old.get(&server.url("/dated")).unwrap().bytes, b"dated 0");
    assert_eq!(old.counts().confirmed, 2);
    assert_eq!(old.get(&server.url("/dated")).unwrap().bytes, b"dated 2");
    // A damaged body is noticed and fetched again.
    let bodies: Vec<_> = walk(&dir.path().join("bodies"));
    assert_eq!(bodies.len() as u64, first.cache_size().unwrap().bodies);
    for body in &bodies {
        std::fs::write(body, b"damaged").unwrap();
    }
    let repaired = new(&fresh);
    assert_eq!(repaired.get(&server.url("/tagged")).unwrap().bytes, b"tagged");
    assert_eq!(repaired.counts().damaged, 1);
    assert!(new(&fresh).get(&server.url("/tagged")).unwrap().cached);
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let groups = std::fs::read_dir(dir).unwrap().map(|group| group.unwrap().path());
    groups.flat_map(|group| std::fs::read_dir(group).unwrap().map(|file| file.unwrap().path())).collect()
}

#[test]
fn rules_of_robots_txt_are_obeyed() {
    let server = TestServer::start(|seen, _| match seen.path.as_str() {
        "/robots.txt" => ok(b"User-agent: *\nDisallow: /secret\nCrawl-delay: 0.2\n"),
        "/to-secret" => status("302 Found", "Location: /secret/a\r\n"),
        _ => ok(b"x"),
    });
    let (polite, _dir) = client(&policy(&server));
    for path in ["/a", "/b", "/c"] {
        polite.get(&server.url(path)).unwrap();
    }
    assert_eq!(reason(polite.get(&server.url("/secret/a"))), FailureReason::Robots);
    assert_eq!(reason(polite.get(&server.url("/to-secret"))), FailureReason::Robots);
    let api = FetchOptions { robots: false, ..FetchOptions::default() };
    polite.get_with(&server.url("/secret/api.php"), &api).unwrap();
    assert_eq!((server.count("/robots.txt"), server.count("/secret/a")), (1, 0));
    // Crawl-delay: the third page comes at least two delays after the first took its turn.
    let times: Vec<Instant> =
        server.requests().iter().filter(|seen| seen.path.len() == 2).map(|seen| seen.time).collect();
    assert!(times[2] - times[0] >= Duration::from_millis(200), "{times:?}");
    // A server that fails allows nothing, and is asked once; what it allowed before still holds.
    let failing = TestServer::start(|seen, _| match seen.path.as_str() {
        "/robots.txt" => status("500 Internal Server Error", ""),
        _ => ok(b"x"),
    });
    let (strict, _dir) = client(&FetchPolicy { tries: 2, ..policy(&failing) });
    for _ in 0..2 {
        let failure = strict.get(&failing.url("/a")).unwrap_err();
        assert_eq!(failure.reason, FailureReason::ServerError);
        assert!(failure.error.to_string().contains("robots.txt"), "{failure}");
    }
    assert_eq!((failing.count("/robots.txt"), failing.count("/a")), (2, 0));
    let (lax, _dir) = client(&FetchPolicy { robots: false, ..policy(&failing) });
    lax.get(&failing.url("/a")).unwrap();
}

#[test]
fn failures_that_may_pass_are_tried_again() {
    let server = TestServer::start(|seen, before| match (seen.path.as_str(), before) {
        ("/limited", 0) => status("429 Too Many Requests", "Retry-After: 1\r\n"),
        ("/dated", 0) => {
            let at = SystemTime::now() + Duration::from_secs(2);
            status("503 Service Unavailable", &format!("Retry-After: {}\r\n", httpdate::fmt_http_date(at)))
        }
        ("/fails", 0 | 1) => status("502 Bad Gateway", ""),
        ("/drops", 0) => Vec::new(),
        ("/cut", 0) => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nonly this".to_vec(),
        ("/busy", 0) => ok_with("Retry-After: 0\r\n", b"{\"error\":{\"code\":\"maxlag\"}}"),
        ("/always", _) => status("500 Internal Server Error", ""),
        ("/forever", _) => status("429 Too Many Requests", "Retry-After: 86400\r\n"),
        ("/forbidden", _) => status("403 Forbidden", ""),
        ("/robots.txt", _) => status("404 Not Found", ""),
        _ => ok(b"x"),
    });
    let (client, _dir) = client(&policy(&server));
    for path in ["/limited", "/dated", "/fails", "/drops", "/cut"] {
        assert_eq!(client.get(&server.url(path)).unwrap().bytes, b"x", "{path}");
    }
    let times =
        |path: &str| -> Vec<Instant> { server.requests().iter().filter(|s| s.path == path).map(|s| s.time).collect() };
    let limited = times("/limited");
    assert!(limited[1] - limited[0] >= Duration::from_millis(900), "{limited:?}");
    let dated = times("/dated");
    assert!(dated[1] - dated[0] >= Duration::from_millis(500), "a date has no fractions of seconds: {dated:?}");
    let busy = FetchOptions { is_busy: Some(|body| body.starts_with(b"{\"error\"")), ..FetchOptions::default() };
    assert_eq!(client.get_with(&server.url("/busy"), &busy).unwrap().bytes, b"x");
    assert_eq!(client.counts().retries, 7);
    assert_eq!(reason(client.get(&server.url("/always"))), FailureReason::ServerError);
    assert_eq!(server.count("/always"), 3);
    assert_eq!(reason(client.get(&server.url("/forbidden"))), FailureReason::Refused);
    assert_eq!(server.count("/forbidden"), 1, "a refusal is not tried again");
    // A wait that is too long fails at once, and holds the host for all.
    assert_eq!(reason(client.get(&server.url("/forever"))), FailureReason::TooManyRequests);
    let failure = client.get(&server.url("/other")).unwrap_err();
    assert_eq!((failure.reason, server.count("/other")), (FailureReason::TooManyRequests, 0));
    assert!(failure.error.hint_text().is_some_and(|hint| hint.contains("longest_wait_seconds")));
}

#[test]
fn hostile_answers_are_bounded() {
    let bomb = gzip(&vec![0; 4 << 20]);
    let empty_members = gzip(b"").repeat(6_000);
    let server = TestServer::start(move |seen, _| match seen.path.as_str() {
        "/robots.txt" => ok(&[b"User-agent: *\nDisallow: /secret\n#".to_vec(), vec![b'x'; 600_000]].concat()),
        "/large" => ok(&vec![b'x'; 200_000]),
        "/endless" => [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(), vec![b'x'; 8 << 20]].concat(),
        "/bomb" => ok_with("Content-Encoding: gzip\r\n", &bomb),
        "/members" => ok_with("Content-Encoding: gzip\r\n", &empty_members),
        "/damaged" => ok_with("Content-Encoding: gzip\r\n", b"\x1f\x8b\x08\0\0\0\0\0\0\x03garbage"),
        "/brotli" => ok_with("Content-Encoding: br\r\n", b"x"),
        "/headers" => ok_with(&format!("X: {}\r\n", "y".repeat(100_000)), b"x"),
        "/garbage" => b"\x16\x03\x01 this is not HTTP\r\n\r\n".to_vec(),
        "/nowhere" => status("302 Found", ""),
        "/loop" => status("302 Found", "Location: /loop\r\n"),
        "/file" => status("302 Found", "Location: file:///etc/passwd\r\n"),
        "/script" => status("302 Found", "Location: javascript:alert(1)\r\n"),
        "/partial" => status("206 Partial Content", ""),
        "/unasked" => status("304 Not Modified", ""),
        _ => ok(b"x"),
    });
    let (client, dir) = client(&FetchPolicy { max_bytes: 100_000, tries: 1, ..policy(&server) });
    for (path, expected) in [
        ("/secret", FailureReason::Robots),
        ("/large", FailureReason::TooLarge),
        ("/endless", FailureReason::TooLarge),
        ("/bomb", FailureReason::TooLarge),
        ("/damaged", FailureReason::BadAnswer),
        ("/brotli", FailureReason::BadAnswer),
        ("/headers", FailureReason::BadAnswer),
        ("/garbage", FailureReason::BadAnswer),
        ("/nowhere", FailureReason::Redirects),
        ("/loop", FailureReason::Redirects),
        ("/file", FailureReason::BadAddress),
        ("/script", FailureReason::BadAddress),
        ("/partial", FailureReason::BadAnswer),
        ("/unasked", FailureReason::BadAnswer),
    ] {
        let failure = client.get(&server.url(path)).unwrap_err();
        assert_eq!(failure.reason, expected, "{path}: {failure}");
        assert!(failure.url.ends_with(path) && !failure.error.to_string().is_empty());
    }
    assert!(client.get(&server.url("/members")).is_err(), "more is received than allowed");
    assert_eq!(client.get(&server.url("/a")).unwrap().bytes, b"x");
    assert!(client.cache_size().unwrap().bytes < 2_000_000, "{}", dir.path().display());
    let small = FetchOptions { max_bytes: 0, ..FetchOptions::default() };
    assert_eq!(reason(client.get_with(&server.url("/b"), &small)), FailureReason::TooLarge);
}

#[test]
fn a_server_that_trickles_is_left() {
    let server = TestServer::start(|_, _| ok(b"x"));
    // Bytes of a head and of a body, one at a time, for as long as the client listens.
    let slow = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = slow.local_addr().unwrap();
    std::thread::spawn(move || {
        for (n, stream) in slow.incoming().enumerate() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let start = if n == 0 { &b"HTTP/1.1 200 OK\r\nX: "[..] } else { b"HTTP/1.1 200 OK\r\n\r\n" };
                let mut alive = stream.write_all(start).is_ok();
                while alive {
                    std::thread::sleep(Duration::from_millis(20));
                    alive = stream.write_all(b"y").is_ok();
                }
            });
        }
    });
    let allow_hosts = vec![address.to_string()];
    let policy = FetchPolicy { answer_seconds: 0.3, tries: 1, robots: false, allow_hosts, ..policy(&server) };
    let (client, _dir) = client(&policy);
    for path in ["head", "body"] {
        let failure = client.get(&format!("http://{address}/{path}")).unwrap_err();
        assert_eq!(failure.reason, FailureReason::TooSlow, "{path}: {failure}");
    }
}

/// A client for which only 127.0.0.2 is public; names ending in `.test` resolve to the address before it.
fn fake_internet(dir: &Path, policy: &FetchPolicy) -> Client {
    let lookup = |host: &str, port| match host.strip_suffix(".test") {
        Some(name) => Ok(vec![SocketAddr::new(name.replace('-', ".").parse().unwrap(), port)]),
        None => (host, port).to_socket_addrs().map(Iterator::collect),
    };
    Client::with_lookup(policy, dir, Arc::new(lookup)).unwrap()
}

#[test]
fn addresses_outside_the_public_internet_are_refused_in_every_spelling() {
    let dir = tempfile::tempdir().unwrap();
    let contact = Some("tester@example.org".to_string());
    let policy = FetchPolicy { contact, tries: 1, robots: false, ..FetchPolicy::default() };
    let client = fake_internet(dir.path(), &FetchPolicy { requests_per_second: 1000.0, ..policy });
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
        "169-254-169-254.test",
        "10-0-0-1.test.",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
    ] {
        for url in [format!("http://{host}/a.png"), format!("http://{host}:8080/latest/meta-data")] {
            let failure = client.get(&url).unwrap_err();
            assert_eq!(failure.reason, FailureReason::PrivateAddress, "{url}: {failure}");
            assert!(failure.error.hint_text().is_some_and(|hint| hint.contains("allow_hosts")));
        }
    }
    assert_eq!(reason(client.get("http://user@127.0.0.1/")), FailureReason::BadAddress);
    assert_eq!(reason(client.get("http://127.0.0.1:22/")), FailureReason::BadAddress);
}

#[test]
fn redirects_and_changing_names_lead_to_no_private_address() {
    let secret = TestServer::start_at("127.0.0.1", |_, _| ok(b"secret"));
    let port = secret.address.port();
    let server = TestServer::start_at("127.0.0.3", move |seen, _| match seen.path.as_str() {
        "/address" => status("302 Found", &format!("Location: http://127.0.0.1:{port}/a\r\n")),
        "/name" => status("302 Found", &format!("Location: http://127-0-0-1.test:{port}/a\r\n")),
        "/metadata" => status("302 Found", "Location: http://169.254.169.254/latest/meta-data/\r\n"),
        "/user" => status("302 Found", &format!("Location: http://127.0.0.3@127.0.0.1:{port}/a\r\n")),
        _ => ok(b"x"),
    });
    // The name is allowed, as a test's stand-in for a public server; what it redirects to is not.
    let name = format!("127-0-0-3.test:{}", server.address.port());
    let dir = tempfile::tempdir().unwrap();
    let contact = Some("tester@example.org".to_string());
    let policy = FetchPolicy { contact, robots: false, allow_hosts: vec![name.clone()], ..policy(&server) };
    let client = fake_internet(dir.path(), &policy);
    assert_eq!(client.get(&format!("http://{name}/good")).unwrap().bytes, b"x");
    for (path, expected) in [
        ("address", FailureReason::PrivateAddress),
        ("name", FailureReason::PrivateAddress),
        ("metadata", FailureReason::PrivateAddress),
        ("user", FailureReason::BadAddress),
    ] {
        assert_eq!(reason(client.get(&format!("http://{name}/{path}"))), expected, "{path}");
    }
    // One private address among several refuses the name.
    let both = |_: &str, port| {
        Ok(vec![SocketAddr::new(IpAddr::from([93, 184, 216, 34]), port), SocketAddr::from(([127, 0, 0, 1], port))])
    };
    let other = tempfile::tempdir().unwrap();
    let mixed = Client::with_lookup(&policy, other.path(), Arc::new(both)).unwrap();
    assert_eq!(reason(mixed.get(&format!("http://both.test:{port}/a"))), FailureReason::PrivateAddress);
    assert!(secret.requests().is_empty(), "a private address was asked");
}

#[test]
fn without_a_contact_only_listed_hosts_are_asked() {
    let server = TestServer::start(|_, _| ok(b"x"));
    let (client, _dir) = client(&policy(&server));
    client.get(&server.url("/a")).unwrap();
    client.check(&server.url("/")).unwrap();
    let failure = client.get("https://en.wikipedia.org/wiki/A").unwrap_err();
    assert_eq!(failure.reason, FailureReason::NoContact);
    assert!(failure.reason.is_fatal() && failure.error.hint_text().is_some_and(|hint| hint.contains("`contact`")));
    assert!(client.check("https://en.wikipedia.org/").is_err() && client.check("ftp://x.org/").is_err());
}

/// Run by the test below in processes of its own.
#[test]
#[ignore = "a part of `the_rate_is_that_of_all_processes_together`"]
fn asks_six_times() {
    let Ok(address) = std::env::var("BURGESS_TEST_SERVER") else { return };
    let dir = std::env::var("BURGESS_TEST_CACHE").unwrap();
    let policy = FetchPolicy {
        requests_per_second: 20.0,
        robots: false,
        allow_hosts: vec![address.clone()],
        ..FetchPolicy::default()
    };
    let client = Client::new(&policy, Path::new(&dir)).unwrap();
    for n in 0..6 {
        client.get(&format!("http://{address}/{}/{n}", std::process::id())).unwrap();
    }
}

#[test]
fn the_rate_is_that_of_all_processes_together() {
    let server = TestServer::start(|_, _| ok(b"x"));
    let dir = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let spawn = || {
        std::process::Command::new(&program)
            .args(["fetch::tests::asks_six_times", "--exact", "--ignored"])
            .env("BURGESS_TEST_SERVER", server.address.to_string())
            .env("BURGESS_TEST_CACHE", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    for mut child in [spawn(), spawn(), spawn()] {
        assert!(child.wait().unwrap().success());
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 18);
    // 18 turns at 50 ms are 850 ms apart; one process alone would take 250 ms. The first request may come late.
    let span = requests.last().unwrap().time - requests[0].time;
    assert!(span >= Duration::from_millis(550), "{span:?}");
}
