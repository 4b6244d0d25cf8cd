//! Attacks by bodies: too large, too deep, and not what they say they are.

use crate::support::{Reply, Running, config, ms, question, read_chunk, until_closed};
use burgess_serve::{Limits, ServerConfig};
use serde_json::{Value, json};
use std::io::{Read, Write};

const LIMIT: usize = 10_000;

fn small() -> ServerConfig {
    ServerConfig { limits: Limits { body_bytes: LIMIT, body_time: ms(2000), ..Limits::default() }, ..config() }
}

#[test]
fn a_body_that_is_too_large_by_its_length_is_refused() {
    let server = Running::start(small());
    let reply = server.chat_bytes(&vec![b' '; LIMIT + 1]);
    assert_eq!((reply.status, reply.code().as_str()), (413, "body_too_large"));
    assert!(reply.error().contains("10000 bytes") && reply.header("connection") == Some("close"));
    assert_eq!(server.chat_bytes(&vec![b' '; LIMIT]).code(), "invalid_json");
    // A client that asks first is told at once, without permission to send.
    let reply = server.ask(format!(
        "POST /v1/score HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\
         Expect: 100-continue\r\n\r\n",
        server.address
    ));
    assert_eq!(reply.status, 413);
    assert!(server.model.requests().is_empty());
}

#[test]
fn an_endless_chunked_body_is_cut_off() {
    let server = Running::start(small());
    let mut stream = server.send(server.head("Transfer-Encoding: chunked\r\n"));
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let chunk = [b"1000\r\n".as_slice(), &[b' '; 4096], b"\r\n"].concat();
        (0..100_000).take_while(|_| writer.write_all(&chunk).is_ok()).count()
    });
    let reply = Reply::read(&mut stream);
    assert!(reply.is_none_or(|reply| reply.status == 413));
    // Far less than the 400 MB that the client wants to send.
    assert!(writing.join().unwrap() * 4096 < 20_000_000);
}

#[test]
fn a_client_that_sends_a_large_chunked_body_to_its_end_sees_the_error() {
    let server = Running::start(small());
    let chunks = [b"1000\r\n".as_slice(), &[b' '; 4096], b"\r\n"].concat().repeat(5);
    let head = server.head("Transfer-Encoding: chunked\r\n");
    let reply = server.ask([head.as_bytes(), &chunks, b"0\r\n\r\n"].concat());
    assert_eq!(reply.status, 413);
}

#[test]
fn broken_chunks_are_refused() {
    let server = Running::start(small());
    for chunk in ["FFFFFFFFFFFFFFFFFF\r\n", "-1\r\n", "zz\r\n", "1\r\nab\r\n", "5;a=\"\n\"\r\n"] {
        let bytes = format!(
            "POST /v1/score HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n",
            server.address
        );
        let (answer, _) = until_closed(&mut server.send(bytes));
        assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 400"), "{chunk:?}");
    }
}

#[test]
fn json_that_is_deep_long_or_broken_is_refused() {
    let server = Running::start(config());
    let many = [b"{\"a\":[".as_slice(), &b"1,".repeat(50_000), b"1]}"].concat();
    for (body, expected) in [
        ("[".repeat(1_000_000).into_bytes(), "nested"),
        ("{\"a\":".repeat(1_000_000).into_bytes(), "nested"),
        (many, "more than 20000 values"),
        (b"{\"messages\": \"\xff\xfe\"}".to_vec(), "not valid JSON"),
        (b"{\"messages\": \"\\ud800\"}".to_vec(), "not valid JSON"),
        (b"{\"temperature\": 1e999}".to_vec(), "not valid JSON"),
        (b"{\"temperature\": NaN}".to_vec(), "not valid JSON"),
        (b"{\"temperature\": Infinity}".to_vec(), "not valid JSON"),
        (b"\xef\xbb\xbf{}".to_vec(), "not valid JSON"),
        (b"{} {}".to_vec(), "not valid JSON"),
        (b"{\"a\": \"".to_vec(), "not valid JSON"),
        (b"".to_vec(), "empty"),
        (b"null".to_vec(), "not a JSON object"),
    ] {
        let reply = server.chat_bytes(&body);
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_json"), "{}", reply.error());
        assert!(reply.error().contains(expected), "{}", reply.error());
    }
}

#[test]
fn numbers_outside_of_their_range_are_refused() {
    let server = Running::start(config());
    for (name, value) in [
        ("temperature", json!(-0.1)),
        ("temperature", json!(1e300)),
        ("temperature", json!("0")),
        ("top_p", json!(1.1)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(-1)),
        ("max_tokens", json!(1.5)),
        ("max_tokens", json!(1e300)),
        ("max_completion_tokens", json!("16")),
        ("seed", json!(0.5)),
        ("seed", json!(1e30)),
        ("top_logprobs", json!(21)),
        ("top_logprobs", json!(3)),
        ("stream", json!("true")),
        ("stop", json!([""])),
        ("stop", json!([1])),
        ("stop", json!(vec!["a"; 17])),
        ("model", json!(3)),
        ("messages", json!({})),
        ("messages", json!([])),
        ("messages", json!([1])),
        ("stream_options", json!({"include_usage": true})),
    ] {
        let mut body = question(1);
        body[name] = value.clone();
        let reply = server.chat(&body);
        assert_eq!(reply.status, 400, "{name}: {value}");
        let param = reply.json()["error"]["param"].as_str().unwrap_or_default().to_owned();
        assert!(param.starts_with(name), "{name}: {value}: {}", reply.error());
    }
    let mut body = question(1);
    body["max_tokens"] = json!(u64::MAX);
    body["seed"] = json!(-1);
    assert_eq!(server.chat(&body).status, 200);
    let request = server.model.requests().pop().unwrap();
    assert_eq!((request.max_tokens, request.seed), (Some(4096), u64::MAX));
}

#[test]
fn fields_that_would_change_the_answer_are_not_ignored() {
    let server = Running::start(config());
    for (name, value) in [
        ("n", json!(2)),
        ("tools", json!([{"type": "function", "function": {"name": "a"}}])),
        ("tool_choice", json!("required")),
        ("presence_penalty", json!(0.5)),
        ("frequency_penalty", json!(-1)),
        ("logit_bias", json!({"50256": -100})),
        ("response_format", json!({"type": "json_object"})),
        ("audio", json!({"voice": "alloy"})),
        ("modalities", json!(["text", "audio"])),
        ("top_k", json!(5)),
        ("repetition_penalty", json!(1.1)),
        ("reasoning_effort", json!("medium")),
        ("guided_choice", json!(["a", "b"])),
        ("chat_template_kwargs", json!({"enable_thinking": false})),
        ("max_new_tokens", json!(5)),
    ] {
        let mut body = question(1);
        body[name] = value.clone();
        let reply = server.chat(&body);
        assert_eq!((reply.status, reply.json()["error"]["param"].as_str()), (400, Some(name)), "{name}: {value}");
        let hinted = reply.error().contains("Hint: ");
        assert!(hinted, "{}", reply.error());
    }
    assert!(server.model.requests().is_empty());
    let neutral = json!({
        "n": 1, "tools": null, "functions": [], "tool_choice": "none", "presence_penalty": 0, "frequency_penalty": 0.0,
        "logit_bias": {}, "response_format": {"type": "text"}, "modalities": ["text"], "user": "a",
        "metadata": {"a": "b"}, "store": false, "service_tier": "auto", "top_k": -1, "repetition_penalty": 1.0,
        "min_p": 0, "stop": null, "logprobs": false, "top_logprobs": null, "stream": false, "stream_options": null,
        "parallel_tool_calls": true,
    });
    let mut body = question(1);
    body.as_object_mut().unwrap().extend(neutral.as_object().unwrap().clone());
    let reply = server.chat(&body);
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn messages_of_other_kinds_are_refused_with_what_to_write() {
    let server = Running::start(config());
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    for (messages, param, expected) in [
        (json!([{"role": "tool", "content": "a"}]), "messages[0].role", "tool"),
        (json!([{"role": "boss", "content": "a"}]), "messages[0].role", "`system`, `user` or `assistant`"),
        (json!([{"content": "a"}]), "messages[0].role", "`user`"),
        (json!([{"role": "user"}]), "messages[0].content", "a string or an array"),
        (json!([{"role": "assistant", "content": "a"}]), "messages[0].role", "last message"),
        (json!([{"role": "user", "content": "a"}, {"role": "system", "content": "a"}]), "messages[1].role", "first"),
        (json!([{"role": "user", "content": "a", "contents": "b"}]), "messages[0].contents", "did you mean `content`"),
        (user(json!([{"type": "input_image", "image_url": "a"}])), "messages[0].content[0].type", "\"image_url\": {"),
        (user(json!([{"type": "input_text", "text": "a"}])), "messages[0].content[0].type", "\"type\": \"text\""),
        (
            user(json!([{"type": "input_audio", "input_audio": {}}])),
            "messages[0].content[0].type",
            "only texts and images",
        ),
        (user(json!([{"type": "video_url", "video_url": {}}])), "messages[0].content[0].type", "frames of a video"),
        (user(json!([{"text": "a"}])), "messages[0].content[0].type", "`text` or `image_url`"),
        (user(json!([{"type": "text"}])), "messages[0].content[0].text", "a string"),
        (
            user(json!([{"type": "image_url", "image_url": "data:"}])),
            "messages[0].content[0].image_url",
            "put the address into `url`",
        ),
        (user(json!([{"type": "image_url", "image_url": {}}])), "messages[0].content[0].image_url.url", "an address"),
        (user(json!([{"type": "image_url"}])), "messages[0].content[0].image_url", "an object"),
        (user(json!(["a"])), "messages[0].content[0]", "an object"),
    ] {
        let reply = server.chat(&json!({"messages": messages}));
        assert_eq!(
            (reply.status, reply.json()["error"]["param"].as_str()),
            (400, Some(param)),
            "{messages}: {}",
            reply.text()
        );
        assert!(reply.error().contains(expected), "{messages}: {}", reply.error());
    }
    let system_image = json!([
        {"role": "system", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        {"role": "user", "content": "a"},
    ]);
    assert!(server.chat(&json!({"messages": system_image})).error().contains("message of the user"));
}

#[test]
fn the_counts_of_messages_texts_and_options_are_limited() {
    let limits = Limits { messages: 3, text_bytes: 100, options: 2, ..Limits::default() };
    let server = Running::start(ServerConfig { limits, ..config() });
    let message = json!({"role": "user", "content": "a"});
    assert!(server.chat(&json!({"messages": vec![message; 4]})).error().contains("4 messages, the limit is 3"));
    assert!(server.chat(&question(50)).error().contains("the limit is 100"));
    let score =
        |options: Value| server.post("/v1/score", &json!({"messages": question(1)["messages"], "options": options}));
    assert!(score(json!(["a", "b", "c"])).error().contains("3 options, the limit is 2"));
    assert!(score(json!(["a".repeat(101)])).error().contains("the limit is 100"));
    for options in [json!([]), json!(null), json!("a"), json!([""]), json!([1])] {
        assert_eq!(score(options.clone()).status, 400, "{options}");
    }
    assert_eq!(score(json!(["a", "b"])).status, 200);
}

#[test]
fn the_memory_for_bodies_is_limited_over_all_requests() {
    let limits = Limits { total_body_bytes: 60_000, body_time: ms(3000), ..Limits::default() };
    let server = Running::start(ServerConfig { limits, ..config() });
    // One request holds most of the memory while its body arrives.
    let head = server.head("Transfer-Encoding: chunked\r\n");
    let mut holder = server.send([head.as_bytes(), b"6000\r\n", &[b' '; 0x6000], b"\r\n"].concat());
    std::thread::sleep(ms(100));
    let reply = server.chat_bytes(&[b' '; 20_000]);
    assert_eq!((reply.status, reply.code().as_str(), reply.header("retry-after")), (503, "overloaded", Some("1")));
    holder.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut holder).unwrap().status, 400);
    assert_eq!(server.chat_bytes(&[b' '; 20_000]).code(), "invalid_json");
}

#[test]
fn other_types_of_bodies_are_refused() {
    let server = Running::start(config());
    let body = question(1).to_string();
    for headers in [
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=a\r\n",
        "",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
    ] {
        let reply = server.ask(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            server.address,
            body.len()
        ));
        assert_eq!((reply.status, reply.code().as_str()), (415, "unsupported_media_type"), "{headers}");
    }
}

#[test]
fn a_body_that_ends_early_is_an_error_for_nobody_else() {
    let server = Running::start(small());
    let stream = server.send(server.head("Content-Length: 500\r\n") + "{\"a");
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    (&stream).read_to_end(&mut rest).ok();
    assert_eq!(server.chat(&question(1)).status, 200);
    // Chunks of answers are read with the same reader as elsewhere.
    let mut stream = server.send(server.request("/v1/chat/completions", &crate::support::streamed(1)));
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(read_chunk(&mut stream).unwrap().starts_with(b"data: {"));
}
