//! Full queues, clients that leave, clients that do not read, and the end of the server.

use crate::support::{Reply, Running, config, eventually, ms, question, streamed, until_closed};
use burgess_serve::{ChatModel, FakeModel, Limits, ServerConfig};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn slow(rows: usize, queue: usize) -> FakeModel {
    FakeModel::new("fake").with_interval(ms(20)).with_capacity(rows, queue)
}

#[test]
fn a_full_queue_answers_429_with_the_time_to_try_again() {
    let server = Running::with(config(), slow(1, 1));
    let request = server.request("/v1/chat/completions", &question(1000));
    let held = [server.send(&request), server.send(&request)];
    eventually("one runs and one waits", || {
        let stats = server.model.stats();
        (stats.active, stats.queued) == (1, 1)
    });
    let reply = server.chat(&question(1));
    assert_eq!((reply.status, reply.code().as_str()), (429, "queue_full"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    let reply = server.post("/v1/score", &json!({"messages": question(1)["messages"], "options": ["a"]}));
    assert_eq!(reply.status, 429);
    drop(held);
    eventually("there is a place again", || server.chat(&question(1)).status == 200);
}

#[test]
fn a_client_that_leaves_cancels_its_request() {
    let server = Running::with(config(), slow(1, 8));
    let cancelled = |count| eventually("the request is cancelled", || server.model.stats().cancelled == count);
    // While it waits for the whole answer.
    let waits = server.send(server.request("/v1/chat/completions", &question(1000)));
    eventually("it runs", || server.model.stats().active == 1);
    // While it is in the queue, plain and streamed.
    let queued = [question(1), streamed(1)].map(|body| server.send(server.request("/v1/chat/completions", &body)));
    eventually("they wait", || server.model.stats().queued == 2);
    drop(queued);
    cancelled(2);
    drop(waits);
    cancelled(3);
    // While it reads a stream.
    let mut reads = server.send(server.request("/v1/chat/completions", &streamed(1000)));
    reads.read_exact(&mut [0; 600]).unwrap();
    drop(reads);
    cancelled(4);
    // While its options are scored, or wait to be.
    let runs = server.send(server.request("/v1/chat/completions", &question(1000)));
    eventually("it runs", || server.model.stats().active == 1);
    let body = json!({"messages": question(1)["messages"], "options": ["a"]});
    let scored = server.send(server.request("/v1/score", &body));
    eventually("it waits", || server.model.stats().queued == 1);
    drop(scored);
    cancelled(5);
    drop(runs);
    cancelled(6);
    let stats = server.model.stats();
    assert_eq!((stats.active, stats.queued, stats.completed), (0, 0, 0));
    eventually("they are counted", || {
        server.get("/metrics").text().contains("route=\"/v1/chat/completions\",status=\"499\"} 4")
    });
}

#[test]
fn a_client_that_closes_only_its_side_has_left() {
    let server = Running::with(config(), slow(1, 8));
    let stream = server.send(server.request("/v1/chat/completions", &question(1000)));
    eventually("it runs", || server.model.stats().active == 1);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    eventually("it is cancelled", || server.model.stats().cancelled == 1);
}

#[test]
fn a_client_that_never_reads_loses_its_connection() {
    let limits = Limits { write_time: ms(300), text_bytes: 10 << 20, ..Limits::default() };
    let server = Running::start(ServerConfig { limits, ..config() });
    // More than the buffers of the two sockets hold.
    let words = format!("{} ", "w".repeat(300)).repeat(4000);
    let mut body = json!({"messages": [{"role": "user", "content": words}], "stream": true});
    body["logprobs"] = true.into();
    body["top_logprobs"] = json!(20);
    let stream = server.send(server.request("/v1/chat/completions", &body));
    eventually("it is answered", || server.model.stats().completed == 1);
    eventually("the connection is closed", || server.metric("burgess_connections") <= 1.0);
    drop(stream);
}

#[test]
fn the_time_of_a_request_is_limited() {
    let limits = Limits { request_time: ms(300), ..Limits::default() };
    let server = Running::with(ServerConfig { limits, ..config() }, slow(1, 8));
    let reply = server.chat(&question(1000));
    assert_eq!((reply.status, reply.code().as_str()), (504, "timeout"), "{}", reply.error());
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    eventually("the row is free", || server.model.stats().active == 0);
    // A stream has begun, and ends with the error.
    let reply = server.chat(&streamed(1000));
    let text = reply.text();
    assert!(reply.status == 200 && text.contains("\"content\":\"an \""), "{text}");
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("event: error\ndata: {\"error\":{") && last.contains("\"code\":\"timeout\""), "{last}");
    eventually("the row is free", || server.model.stats().cancelled == 2);
}

#[test]
fn comments_keep_a_waiting_stream_alive() {
    let limits = Limits { comment_time: ms(50), ..Limits::default() };
    let server = Running::with(ServerConfig { limits, ..config() }, FakeModel::new("fake").with_interval(ms(200)));
    let text = server.chat(&streamed(0)).text();
    assert!(text.contains("\n\n: keep-alive\n\n") && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[test]
fn failures_are_statuses_before_the_stream_and_events_within_it() {
    let server = Running::with(config(), FakeModel::new("fake").with_failure_at(2));
    let reply = server.chat(&question(5));
    assert_eq!((reply.status, reply.json()["error"]["type"].as_str()), (500, Some("server_error")));
    assert!(reply.error().contains("fails at token 2"));
    let text = server.chat(&streamed(5)).text();
    let events: Vec<&str> = text.trim_end().split("\n\n").collect();
    assert_eq!(events.len(), 4, "{text}");
    assert!(events[3].starts_with("event: error\ndata: {\"error\":{\"message\":\"the fake model fails at token 2.\""));
    let long = json!({"messages": [{"role": "user", "content": "a ".repeat(5000)}], "stream": true});
    let reply = server.chat(&long);
    assert_eq!((reply.status, reply.json()["error"]["param"].as_str()), (400, Some("messages")));
}

#[test]
fn the_shutdown_lets_requests_finish_and_accepts_no_more() {
    let mut server = Running::with(config(), slow(4, 8));
    let mut streams: Vec<TcpStream> = [question(20), streamed(20), streamed(20), streamed(20)]
        .map(|body| server.send(server.request("/v1/chat/completions", &body)))
        .into();
    let idle = server.connect();
    let mut kept = server.send(format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address));
    assert_eq!(Reply::read(&mut kept).unwrap().status, 200);
    eventually("all run", || server.model.stats().active == 4);
    let began = Instant::now();
    server.stop();
    until_closed(&mut kept);
    eventually("no connection is accepted", || TcpStream::connect(server.address).is_err());
    for stream in &mut streams {
        let text = Reply::read(stream).unwrap().text();
        assert!(text.contains("\"finish_reason\":\"stop\""), "{text}");
    }
    server.join();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(server.model.stats().completed, 4);
    drop(idle);
}

#[test]
fn the_shutdown_under_load_ends_in_time() {
    let limits = Limits { shutdown_time: ms(300), ..Limits::default() };
    let mut server = Running::with(ServerConfig { limits, ..config() }, slow(2, 100));
    let request = server.request("/v1/chat/completions", &streamed(2000));
    let mut held: Vec<TcpStream> = (0..40).map(|_| server.send(&request)).collect();
    held.push(server.send("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"));
    eventually("they run and wait", || server.model.stats().queued == 38);
    let began = Instant::now();
    server.stop();
    server.join();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    for stream in &mut held {
        until_closed(stream);
    }
}

#[test]
fn many_clients_at_once_get_their_own_answers() {
    let server = Running::with(config(), FakeModel::new("fake").with_capacity(8, 200));
    std::thread::scope(|scope| {
        for client in 0..16 {
            let server = &server;
            scope.spawn(move || {
                let mut stream = server.connect();
                for turn in 0..10 {
                    let word = format!("client{client}turn{turn}");
                    let body = json!({"messages": [{"role": "user", "content": word}], "stream": turn % 2 == 0});
                    stream.write_all(server.request("/v1/chat/completions", &body).as_bytes()).unwrap();
                    let reply = Reply::read(&mut stream).unwrap();
                    assert!(reply.status == 200 && reply.text().contains(&word), "{}", reply.text());
                }
            });
        }
    });
    assert_eq!(server.model.stats().completed, 160);
}
