//! Attacks by names: of hosts, pages, paths, methods and tokens.

use crate::support::{Reply, Running, config, question};
use burgess_serve::{Server, ServerConfig};
use std::net::{Ipv4Addr, SocketAddr};

fn with_token() -> ServerConfig {
    ServerConfig { token: Some("s3cret".to_owned()), ..config() }
}

/// A request for a chat completion with these headers besides those of the body.
fn chat_with(server: &Running, headers: &str) -> Reply {
    let body = question(1).to_string();
    server.ask(format!(
        "POST /v1/chat/completions HTTP/1.1\r\n{headers}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn only_own_names_are_accepted_as_host() {
    let server = Running::start(ServerConfig { hosts: vec!["Burgess.example".to_owned()], ..config() });
    for host in ["localhost", "LOCALHOST:8080", "localhost.", "127.0.0.1", "127.0.0.1:1", "[::1]:80", "burgess.example"]
    {
        let reply = server.ask(format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(reply.status, 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "192.168.1.1",
        "",
        "[",
        "127.0.0.2",
    ] {
        let reply = server.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(reply.status, 403, "{host}");
        assert!(reply.error().contains("not a name of this server"), "{}", reply.error());
    }
    let own = server.address;
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nHost: {own}\r\nHost: evil.example\r\n\r\n"), 400),
        (format!("GET http://evil.example/ HTTP/1.1\r\nHost: {own}\r\n\r\n"), 403),
        (format!("GET http://localhost/healthz HTTP/1.1\r\nHost: {own}\r\n\r\n"), 200),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\n\r\n".to_owned(), 403),
        ("GET / HTTP/1.1\r\nHost: user@localhost\r\n\r\n".to_owned(), 403),
    ] {
        assert_eq!(server.ask(&head).status, status, "{head}");
    }
}

#[test]
fn a_server_for_the_network_accepts_addresses_but_no_foreign_names() {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut server = Running::start(ServerConfig { address, ..config() });
    server.address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address.port()));
    for (host, status) in [("192.168.1.7:8080", 200), ("[fe80::1]", 200), ("localhost", 200), ("evil.example", 403)] {
        let reply = server.ask(format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(reply.status, status, "{host}");
    }
}

#[test]
fn pages_of_other_sites_are_kept_out() {
    let server = Running::start(config());
    let own = server.address;
    assert_eq!(chat_with(&server, &format!("Host: {own}\r\nOrigin: http://{own}\r\n")).status, 200);
    for origin in [
        "http://evil.example",
        "null",
        "file://",
        "http://127.0.0.1:1",
        "http://localhost",
        &format!("http://{own}.evil.example"),
        &format!("http://evil.example#{own}"),
    ] {
        let reply = chat_with(&server, &format!("Host: {own}\r\nOrigin: {origin}\r\n"));
        assert_eq!(reply.status, 403, "{origin}");
        assert!(reply.header("access-control-allow-origin").is_none());
        let reply = server.ask(format!("GET /v1/models HTTP/1.1\r\nHost: {own}\r\nOrigin: {origin}\r\n\r\n"));
        assert_eq!(reply.status, 403, "{origin}");
    }
    // DNS rebinding: the name of the other site resolves to this machine, and the origins are equal.
    let reply = chat_with(&server, "Host: evil.example:8080\r\nOrigin: http://evil.example:8080\r\n");
    assert_eq!(reply.status, 403);
    // What a browser asks before it sends JSON to another site.
    let reply = server.ask(format!(
        "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: {own}\r\nOrigin: http://evil.example\r\n\
         Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\r\n"
    ));
    assert_eq!(reply.status, 403);
    assert!(!reply.headers.iter().any(|(name, _)| name.starts_with("access-control")));
    // What a form or a script without permission can send.
    let body = question(1).to_string();
    let reply = server.ask(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {own}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(reply.status, 415);
    assert_eq!(server.model.requests().len(), 1);
}

#[test]
fn a_token_is_needed_where_it_is_set() {
    let server = Running::start(with_token());
    let own = server.address;
    for header in [
        "",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer s3cre\r\n",
        "Authorization: Bearer s3cret1\r\n",
        "Authorization: Bearer S3CRET\r\n",
        "Authorization: s3cret\r\n",
        "Authorization: Basic OnMzY3JldA==\r\n",
        "X-Api-Key: s3cret\r\n",
        "Authorization: Bearer \u{e9}\r\n",
        "Authorization: Bearer s3cret\r\nAuthorization: Bearer s3cret\r\n",
    ] {
        let reply = chat_with(&server, &format!("Host: {own}\r\n{header}"));
        assert!(matches!(reply.status, 400 | 401), "{header}: {}", reply.status);
        if reply.status == 401 {
            assert_eq!((reply.code().as_str(), reply.header("www-authenticate")), ("invalid_api_key", Some("Bearer")));
        }
        assert!(!reply.text().contains("s3cret"));
    }
    for path in ["/v1/models", "/v1/models/fake", "/metrics", "/v1/absent", "/v1"] {
        assert_eq!(server.get(path).status, 401, "{path}");
    }
    for path in ["/healthz", "/", "/examples"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let reply = chat_with(
            &server,
            &format!("Host: any.example\r\nOrigin: http://other\r\nAuthorization: {scheme} s3cret\r\n"),
        );
        assert_eq!(reply.status, 200, "{scheme}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert!(reply.header("access-control-allow-credentials").is_none());
    }
    let reply = server.ask(format!(
        "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: {own}\r\nOrigin: http://other\r\n\
         Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n\r\n"
    ));
    let allowed = reply.header("access-control-allow-headers");
    assert_eq!((reply.status, allowed), (200, Some("authorization,content-type")));
    assert!(Server::bind(ServerConfig { token: Some(" ".to_owned()), ..config() }, Vec::new()).is_err());
}

#[test]
fn paths_lead_nowhere_else() {
    let server = Running::start(config());
    for path in [
        "/../etc/passwd",
        "/examples/../../etc/passwd",
        "/examples/..%2f..%2fetc%2fpasswd",
        "/examples/%2e%2e/%2e%2e/etc/passwd",
        "/examples/0.png%00.txt",
        "/examples/-1.png",
        "/examples/99999999999999999999999.png",
        "/examples/0.png",
        "/page/../../Cargo.toml",
        "/page/..%5c..%5cCargo.toml",
        "//etc/passwd",
        "/%ff",
        "/v1/models/../../etc/passwd",
        "/v1/models/%3Cscript%3E",
        "/.git/config",
    ] {
        let reply = server.get(path);
        assert!(matches!(reply.status, 400 | 404), "{path}: {}", reply.status);
        assert!(!reply.text().contains("root:"), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn methods_without_a_meaning_are_refused() {
    let server = Running::start(config());
    let own = server.address;
    for method in ["DELETE", "PUT", "PATCH", "TRACE", "OPTIONS", "GET", "FOO"] {
        let reply = server.ask(format!("{method} /v1/chat/completions HTTP/1.1\r\nHost: {own}\r\n\r\n"));
        assert_eq!((reply.status, reply.code().as_str()), (405, "method_not_allowed"), "{method}");
        assert_eq!(reply.header("allow"), Some("POST"), "{method}");
    }
    let reply = server.ask(format!("CONNECT example.org:443 HTTP/1.1\r\nHost: {own}\r\n\r\n"));
    assert!(matches!(reply.status, 400..=405), "{}", reply.status);
    assert_eq!(server.ask(format!("POST /v1/models HTTP/1.1\r\nHost: {own}\r\nContent-Length: 0\r\n\r\n")).status, 405);
}

#[test]
fn every_response_has_the_security_headers() {
    let server = Running::start(config());
    for path in ["/", "/healthz", "/absent", "/v1/models", "/metrics", "/examples"] {
        let reply = server.get(path);
        let policy = reply.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'));
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{path}");
        }
    }
}

#[test]
fn pages_ask_for_the_token_as_a_password() {
    let pages = || axum::Router::new().route("/", axum::routing::get(|| async { "secret" }));
    let server = Server::bind_pages(with_token(), pages()).unwrap();
    let address = server.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        server.run_blocking(async {
            stopped.await.ok();
        })
    });
    let ask = |header: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: {address}\r\n{header}\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        Reply::read(&mut stream).unwrap()
    };
    let reply = ask("");
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Basic realm=\"burgess\"")));
    // `me:s3cret`, `me:wrong`, and what is no pair.
    assert_eq!(ask("Authorization: Basic bWU6czNjcmV0\r\n").text(), "secret");
    assert_eq!(ask("Authorization: Bearer s3cret\r\n").text(), "secret");
    for wrong in ["bWU6d3Jvbmc=", "czNjcmV0", "????", ""] {
        assert_eq!(ask(&format!("Authorization: Basic {wrong}\r\n")).status, 401, "{wrong}");
    }
    // Browsers send the password on their own, so no other site may read or use the pages.
    let reply = ask("Authorization: Basic bWU6czNjcmV0\r\nOrigin: http://evil.example\r\n");
    assert!(reply.header("access-control-allow-origin").is_none());
    stop.send(()).unwrap();
    thread.join().unwrap().unwrap();
}
