//! Attacks by connections: too slow, too many, and not HTTP.

use crate::support::{Reply, Running, config, eventually, ms, question, until_closed};
use burgess_serve::{Limits, ServerConfig};
use std::io::Write;
use std::time::{Duration, Instant};

fn quick() -> ServerConfig {
    let limits = Limits { header_time: ms(300), body_time: ms(400), ..Limits::default() };
    ServerConfig { limits, ..config() }
}

#[test]
fn slow_headers_are_cut_off() {
    let server = Running::start(quick());
    for head in ["", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "] {
        let (_, time) = until_closed(&mut server.send(head));
        assert!(time < Duration::from_secs(2), "{head:?}: {time:?}");
    }
    // One byte at a time does not extend the time.
    let mut stream = server.send("GET / HTTP/1.1\r\nX-A: ");
    let began = Instant::now();
    while stream.write_all(b"a").is_ok() {
        assert!(began.elapsed() < Duration::from_secs(2));
        std::thread::sleep(ms(20));
    }
}

#[test]
fn an_idle_connection_is_closed() {
    let server = Running::start(quick());
    let mut stream = server.send(format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address));
    assert_eq!(Reply::read(&mut stream).unwrap().status, 200);
    let (rest, time) = until_closed(&mut stream);
    assert!(rest.is_empty() && time < Duration::from_secs(2), "{time:?}");
}

#[test]
fn a_trickled_body_is_cut_off() {
    let server = Running::start(quick());
    let mut stream = server.send(server.head("Content-Length: 1000\r\n") + "{");
    let began = Instant::now();
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for _ in 0..60 {
            if writer.write_all(b" ").is_err() {
                break;
            }
            std::thread::sleep(ms(20));
        }
    });
    let reply = Reply::read(&mut stream).unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (408, "timeout"), "{}", reply.error());
    assert!(began.elapsed() < Duration::from_secs(2));
    until_closed(&mut stream);
    writing.join().unwrap();
}

#[test]
fn hundreds_of_half_open_connections_only_delay_others() {
    let limits = Limits { connections: 150, header_time: ms(300), ..Limits::default() };
    let server = Running::start(ServerConfig { limits, ..config() });
    let held: Vec<_> = (0..400).map(|n| server.send(if n % 2 == 0 { "" } else { "POST /v1/chat" })).collect();
    let began = Instant::now();
    assert_eq!(server.chat(&question(1)).status, 200);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop(held);
    eventually("the connections are gone", || server.metric("burgess_connections") <= 1.0);
}

#[test]
fn more_connections_than_allowed_wait_for_a_place() {
    let limits = Limits { connections: 2, header_time: ms(400), ..Limits::default() };
    let server = Running::start(ServerConfig { limits, ..config() });
    let (first, second) = (server.connect(), server.connect());
    std::thread::sleep(ms(50));
    let mut third = server.send(format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address));
    third.set_read_timeout(Some(ms(100))).unwrap();
    assert!(third.peek(&mut [0]).is_err(), "the third connection is served at once");
    drop((first, second));
    third.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(Reply::read(&mut third).unwrap().status, 200);
}

#[test]
fn what_is_no_http_1_request_is_answered_with_400_or_closed() {
    let server = Running::start(quick());
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let (answer, _) = until_closed(&mut server.send(bytes));
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{bytes:?}: {answer}");
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let server = Running::start(config());
    let many: String = (0..200).map(|n| format!("X-{n}: a\r\n")).collect();
    for head in [
        format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(200_000)),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-A: {}\r\n\r\n", "a".repeat(200_000)),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
    ] {
        let mut stream = server.connect();
        // The server may close before everything is sent.
        stream.write_all(head.as_bytes()).ok();
        let status = Reply::read(&mut stream).map(|reply| reply.status);
        assert!(matches!(status, None | Some(414 | 431)), "{status:?}");
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Running::start(config());
    let health = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    let requests =
        [&server.request("/v1/chat/completions", &question(1)), &health, "DELETE / HTTP/1.1\r\n\r\n"].concat();
    let mut stream = server.send(requests);
    assert!(Reply::read(&mut stream).unwrap().text().contains("Without an image: word"));
    assert_eq!(Reply::read(&mut stream).unwrap().text(), "ok\n");
    assert_eq!(Reply::read(&mut stream).unwrap().status, 400);
}

#[test]
fn the_end_of_a_request_is_not_ambiguous() {
    let server = Running::start(quick());
    let head = format!("POST /v1/score HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n", server.address);
    // A second request is hidden in what a proxy might take for the body of the first.
    let hidden = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for lengths in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: 0x4\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: gzip\r\n",
    ] {
        let (answer, _) = until_closed(&mut server.send(format!("{head}{lengths}\r\n{hidden}")));
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400") && !answer.contains("\r\n\r\nok"), "{lengths}: {answer}");
    }
    // With both, the length is ignored and the connection may go on; the hidden request is no part of the body then.
    let both = format!("{head}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", hidden.len() + 5);
    let (answer, _) = until_closed(&mut server.send(both));
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 400"));
}
