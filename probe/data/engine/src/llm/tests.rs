//! The client against a small server that sends given bytes.

use super::*;
use burgess_base::Result;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A response of the test server.
enum Scripted {
    /// Bytes that are sent as they are, before the connection is closed.
    Raw(Vec<u8>),
    /// A response with a status line, headers and a JSON body.
    Json(&'static str, &'static str, Value),
    /// Bytes without an end.
    Endless,
    /// Nothing: the connection stays open for so many milliseconds.
    Silent(u64),
}

struct ScriptedServer {
    url: String,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedServer {
    /// Serves these responses in order, one per connection.
    fn start(script: Vec<Scripted>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/v1", listener.local_addr()?);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let thread = std::thread::spawn(move || {
            for response in script {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let (mut bytes, mut block) = (Vec::new(), [0; 4096]);
                let body = loop {
                    let n = stream.read(&mut block).unwrap_or(0);
                    bytes.extend_from_slice(&block[..n]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        if n == 0 {
                            break (text, Value::Null);
                        }
                        continue;
                    };
                    let length = head.to_lowercase();
                    let length = length.split("content-length: ").nth(1).and_then(|t| t.split("\r\n").next());
                    if n == 0 || length.and_then(|l| l.parse().ok()).is_some_and(|l: usize| body.len() >= l) {
                        break (head.to_string(), serde_json::from_str(body).unwrap_or(Value::Null));
                    }
                };
                log.lock().unwrap().push(body);
                let _ = match response {
                    Scripted::Raw(bytes) => stream.write_all(&bytes),
                    Scripted::Json(status, headers, body) => {
                        let body = body.to_string();
                        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n", body.len());
                        stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes())
                    }
                    Scripted::Endless => {
                        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"choices\": \"");
                        while sent.is_ok() {
                            sent = stream.write_all(&[b'x'; 1024]);
                        }
                        Ok(())
                    }
                    Scripted::Silent(ms) => {
                        std::thread::sleep(std::time::Duration::from_millis(ms));
                        Ok(())
                    }
                };
            }
        });
        Ok(Self { url, requests, thread: Some(thread) })
    }

    /// Waits until all responses are sent; returns heads and bodies of the requests.
    fn requests(mut self) -> Vec<(String, Value)> {
        let _ = self.thread.take().map(JoinHandle::join);
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn good(text: &str) -> Scripted {
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 3});
    let body =
        json!({"model": "m-1", "choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage});
    Scripted::Json("200 OK", "", body)
}

fn failing(status: &'static str, headers: &'static str, message: &str) -> Scripted {
    Scripted::Json(status, headers, json!({"error": {"message": message}}))
}

fn endpoint(url: &str) -> Endpoint {
    Endpoint { first_wait_seconds: 0.001, longest_wait_seconds: 0.01, timeout_seconds: 5.0, ..Endpoint::new(url, "m") }
}

/// Outcome of a request, and the paths and bodies that the server received.
type Asked = (Result<ChatReply, ChatError>, Vec<(String, Value)>);

fn ask(script: Vec<Scripted>, change: impl FnOnce(&mut Endpoint)) -> Result<Asked> {
    let server = ScriptedServer::start(script)?;
    let mut endpoint = endpoint(&server.url);
    change(&mut endpoint);
    let client = ChatClient::new(&endpoint)?;
    let reply = client.chat(&ChatRequest::new(vec![ChatMessage::user("hello")]));
    Ok((reply, server.requests()))
}

#[test]
fn what_may_pass_is_tried_again() -> Result<()> {
    let cut = Scripted::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{\"choices\": [{\"mess".to_vec());
    let script = vec![
        failing("429 Too Many Requests", "retry-after: 0\r\n", "slow down"),
        failing("500 Internal Server Error", "", "oops"),
        Scripted::Raw(Vec::new()),
        cut,
        Scripted::Json("200 OK", "", json!({"choices": []})),
        good("answer"),
    ];
    let (reply, requests) = ask(script, |_| {})?;
    let reply = reply?;
    assert_eq!((reply.text.as_str(), reply.model.as_str(), reply.attempts), ("answer", "m-1", 6));
    assert_eq!(reply.usage, Usage { prompt_tokens: 7, completion_tokens: 3, estimated: false });
    // The reply without a choice arrived, and may be charged; estimates say so. "hello" is two tokens, and four more.
    assert!(reply.lost.estimated && reply.lost.prompt_tokens >= 6, "{:?}", reply.lost);
    assert_eq!(requests.len(), 6);
    assert_eq!(requests[0].1, json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]}));
    Ok(())
}

#[test]
fn what_does_not_pass_is_reported_at_once() -> Result<()> {
    use ChatErrorKind::*;
    let quota = json!({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}});
    let table: Vec<(Scripted, ChatErrorKind, &str)> = vec![
        (failing("401 Unauthorized", "", "wrong key"), Unauthorized, "wrong key"),
        (failing("403 Forbidden", "", "no"), Unauthorized, "403"),
        (failing("400 Bad Request", "", "temperature is odd"), Refused, "temperature is odd"),
        (failing("404 Not Found", "", "no model `m`"), NotFound, "no model `m`"),
        (failing("302 Found", "location: http://else.where/\r\n", ""), NotFound, "else.where"),
        (Scripted::Json("429 Too Many Requests", "", quota), NoCredit, "quota"),
        (failing("402 Payment Required", "", ""), NoCredit, "402"),
        (Scripted::Endless, TooLarge, "2048"),
        (failing("429 Too Many Requests", "retry-after: 3600\r\n", "later"), RateLimited, "3600"),
        (
            Scripted::Json("422 Unprocessable", "", json!({"detail": [{"msg": "field required"}]})),
            Refused,
            "field required",
        ),
        (Scripted::Raw(b"HTTP/1.1 418 x\r\n\r\n<html>\x1b[31mteapot".to_vec()), Refused, "teapot"),
    ];
    for (response, kind, part) in table {
        let (reply, _) = ask(vec![response], |e| e.max_reply_bytes = 2048)?;
        let error = reply.expect_err(part);
        assert_eq!((error.kind, error.attempts), (kind, 1), "{error}");
        assert!(error.to_string().contains(part) && error.hint.is_some(), "{error}");
        assert!(!Error::from(error).to_string().contains('\x1b'));
    }
    let (reply, _) = ask(vec![Scripted::Silent(300)], |e| (e.timeout_seconds, e.attempts) = (0.05, 1))?;
    assert_eq!(reply.expect_err("time").kind, Timeout);
    let closed = endpoint("http://127.0.0.1:9/v1");
    let error =
        ChatClient::new(&Endpoint { attempts: 2, ..closed })?.chat(&ChatRequest::default()).expect_err("port 9");
    assert_eq!((error.kind, error.attempts), (Connection, 2), "{error}");
    Ok(())
}

use burgess_base::Error;

#[test]
fn requests_are_changed_for_servers_that_do_not_know_a_field() -> Result<()> {
    let param = json!({"error": {"message": "`response_format` is not supported", "param": "response_format"}});
    let script = vec![
        Scripted::Json("400 Bad Request", "", json!({"error": {"message": "json_schema is not available"}})),
        Scripted::Json("400 Bad Request", "", param),
        failing("400 Bad Request", "", "'max_tokens' is not supported; use 'max_completion_tokens'"),
        failing("400 Bad Request", "", "this chat template does not support a system message"),
        good("{}"),
        good("{}"),
    ];
    let server = ScriptedServer::start(script)?;
    let client = ChatClient::new(&Endpoint { max_tokens: Some(9), seed: Some(3), ..endpoint(&server.url) })?;
    let request = ChatRequest {
        temperature: Some(0.5),
        ..ChatRequest::new(vec![ChatMessage::system("s"), ChatMessage::user("x").with_image("image/png", b"\x89P")])
    };
    let request = request.with_shape("s", json!({"type": "object"}));
    assert_eq!(client.chat(&request)?.attempts, 1, "an adapted request is no failed attempt");
    client.chat(&request)?;
    assert_eq!(client.json_mode(), JsonMode::None);
    let notes = client.take_notes();
    assert_eq!(notes.len(), 4, "{notes:?}");
    let bodies: Vec<Value> = server.requests().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies[0]["response_format"]["json_schema"]["name"], "s");
    assert_eq!(bodies[1]["response_format"], json!({"type": "json_object"}));
    assert_eq!(bodies[2].get("response_format"), None);
    assert_eq!((&bodies[2]["max_tokens"], &bodies[4]["max_completion_tokens"]), (&json!(9), &json!(9)));
    assert_eq!(bodies[3]["messages"][0], json!({"role": "system", "content": "s"}));
    assert_eq!(bodies[5]["messages"].as_array().map(Vec::len), Some(1));
    assert_eq!(bodies[5]["messages"][0]["content"][1]["text"], "s\n\nx");
    assert_eq!((&bodies[0]["temperature"], &bodies[0]["seed"]), (&json!(0.5), &json!(3)));
    assert_eq!(bodies[0]["messages"][1]["content"][0]["image_url"]["url"], "data:image/png;base64,iVA=");
    assert_eq!(bodies[0]["messages"][1]["content"][1]["text"], "x");
    Ok(())
}

#[test]
fn replies_of_many_forms_are_read() {
    let request = ChatRequest::new(vec![ChatMessage::user("four")]);
    let read = |value: Value| reply::parse(value.to_string().as_bytes(), &request, "m");
    let message = |message: Value, finish: &str| json!({"choices": [{"message": message, "finish_reason": finish}]});
    let plain = read(message(json!({"content": "12345"}), "stop")).unwrap();
    assert_eq!(plain.usage, Usage { prompt_tokens: 5, completion_tokens: 2, estimated: true });
    let parts = read(message(json!({"content": [{"type": "text", "text": "a"}, {"text": "b"}]}), "length")).unwrap();
    assert_eq!((parts.text.as_str(), parts.finish), ("ab", FinishReason::Length));
    let refused = read(message(json!({"content": null, "refusal": "I cannot"}), "stop")).unwrap();
    assert_eq!((refused.text.as_str(), refused.refusal.as_deref()), ("", Some("I cannot")));
    assert_eq!(read(message(json!({"content": null}), "content_filter")).unwrap().finish, FinishReason::ContentFilter);
    for (bad, kind) in [
        (message(json!({"content": null}), "stop"), ChatErrorKind::Malformed),
        (message(json!({"content": 3}), "stop"), ChatErrorKind::Malformed),
        (json!({"choices": {}}), ChatErrorKind::Malformed),
        (json!([]), ChatErrorKind::Malformed),
        (json!({"error": {"message": "overloaded"}}), ChatErrorKind::Server),
    ] {
        assert_eq!(read(bad.clone()).expect_err("bad").kind, kind, "{bad}");
    }
}

#[test]
fn the_key_stays_secret() -> Result<()> {
    // The variable is always set, and its value stands in no file.
    let key = std::env::var("PATH").unwrap_or_default();
    let echo = json!({"error": {"message": format!("wrong key {key}")}});
    let (reply, requests) =
        ask(vec![Scripted::Json("401 Unauthorized", "", echo)], |e| e.key_variable = Some("PATH".into()))?;
    let error = reply.expect_err("unauthorized");
    assert!(error.message.contains("wrong key [key]"), "{error}");
    assert!(requests[0].0.contains(&format!("Bearer {key}")));
    let client = ChatClient::new(&Endpoint { key_variable: Some("PATH".into()), ..Endpoint::new("http://h/v1", "m") })?;
    assert!(!format!("{client:?}").contains(&key));
    Ok(())
}

#[test]
fn wrong_configurations_are_named() -> Result<()> {
    type Change = fn(&mut Endpoint);
    let table: [(Change, &str); 14] = [
        (|e| e.url = String::new(), "`url` is empty"),
        (|e| e.url = "localhost:8000".into(), "`url` has the scheme `localhost`"),
        (|e| e.url = "file:///etc/passwd".into(), "`url` has the scheme `file`"),
        (|e| e.url = "https://me:sk-1@host/v1".into(), "`url` holds a user name"),
        (|e| e.url = "https://host/v1?api-key=sk-1".into(), "`url` holds a user name, a password or a key"),
        (|e| e.model = " ".into(), "`model` is empty"),
        (|e| e.key_variable = Some("sk-proj-1 2".into()), "`key_variable` is not the name"),
        (|e| e.key_variable = Some("BURGESS_NO_SUCH_VARIABLE".into()), "BURGESS_NO_SUCH_VARIABLE"),
        (|e| e.temperature = Some(f64::NAN), "`temperature` is NaN"),
        (|e| e.timeout_seconds = 0.0, "`timeout_seconds` is 0"),
        (|e| e.attempts = 0, "`attempts` is 0"),
        (|e| e.longest_wait_seconds = -1.0, "`longest_wait_seconds` is -1"),
        (|e| e.max_tokens = Some(0), "`max_tokens` is 0"),
        (|e| drop(e.extra.insert("model".into(), json!(1))), "`extra.model`"),
    ];
    for (change, part) in table {
        let mut endpoint = Endpoint::new("http://127.0.0.1:1/v1", "m");
        change(&mut endpoint);
        let error = ChatClient::new(&endpoint).expect_err(part).to_string();
        assert!(error.contains(part) && !error.contains("sk-"), "{error}");
    }
    for (url, address) in [
        ("http://h:1/v1/", "http://h:1/v1/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
        ("https://h/d/m?api-version=1", "https://h/d/m/chat/completions?api-version=1"),
    ] {
        assert_eq!(Endpoint::new(url, "m").address()?, address);
    }
    Ok(())
}

#[test]
fn a_signal_ends_the_waits() -> Result<()> {
    let server = ScriptedServer::start(vec![failing("503 Service Unavailable", "", "busy")])?;
    let endpoint = Endpoint { first_wait_seconds: 600.0, longest_wait_seconds: 600.0, ..endpoint(&server.url) };
    let stopped = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    let client = ChatClient::stoppable(&endpoint, Arc::new(move || flag.load(std::sync::atomic::Ordering::SeqCst)))?;
    let asking = std::thread::spawn(move || client.chat(&ChatRequest::default()));
    assert_eq!(server.requests().len(), 1);
    stopped.store(true, std::sync::atomic::Ordering::SeqCst);
    let error = asking.join().expect("the thread ends").expect_err("interrupted");
    assert_eq!(error.kind, ChatErrorKind::Interrupted);
    Ok(())
}
