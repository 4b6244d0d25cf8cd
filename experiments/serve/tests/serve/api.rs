//! The exact bytes of the API, and what it lists.

use crate::support::{Running, config, question, streamed};
use burgess_serve::{ChatModel, Example, FakeModel, Server, ServerConfig};
use serde_json::{Value, json};
use std::sync::Arc;

/// Replaces what differs from answer to answer: ids, dates and times.
fn masked(text: &str) -> String {
    let mut out = text.to_owned();
    for (key, end) in [("\"id\":\"chatcmpl-", '"'), ("\"created\":", ','), ("\"timings\":{", '}')] {
        let mut from = 0;
        while let Some(at) = out[from..].find(key).map(|at| from + at + key.len()) {
            let length = out[at..].find(end).unwrap();
            out.replace_range(at..at + length, "…");
            from = at;
        }
    }
    out
}

#[test]
fn a_plain_answer() {
    let server = Running::start(config());
    let reply = server.chat(&question(1));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(
        masked(&reply.text()),
        "{\"id\":\"chatcmpl-…\",\"object\":\"chat.completion\",\"created\":…,\"model\":\"fake\",\
         \"system_fingerprint\":null,\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\
         \"content\":\"Without an image: word\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\
         \"usage\":{\"prompt_tokens\":1,\"completion_tokens\":4,\"total_tokens\":5,\
         \"prompt_tokens_details\":{\"cached_tokens\":0}},\"timings\":{…}}"
    );
    let timings = &reply.json()["timings"];
    for name in ["queued", "prompt", "generation"] {
        assert!(timings[name].as_f64().unwrap() >= 0.0, "{timings}");
    }
}

#[test]
fn a_streamed_answer() {
    let server = Running::start(config());
    let mut body = streamed(0);
    body["max_tokens"] = json!(2);
    let reply = server.chat(&body);
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let chunk = |choice: &str, rest: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-…\",\"object\":\"chat.completion.chunk\",\"created\":…,\"model\":\"fake\",\
             \"system_fingerprint\":null,\"choices\":[{choice}]{rest}}}\n\n"
        )
    };
    let choice = |delta: &str, finish: &str| {
        format!("{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}")
    };
    let expected = |rest: &str, last: &str| {
        [
            chunk(&choice("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}", "null"), rest),
            chunk(&choice("{\"content\":\"Without \"}", "null"), rest),
            chunk(&choice("{\"content\":\"an \"}", "null"), rest),
            chunk(&choice("{}", "\"length\""), &format!("{rest},\"timings\":{{…}}")),
            last.to_owned(),
            "data: [DONE]\n\n".to_owned(),
        ]
        .concat()
    };
    assert_eq!(masked(&reply.text()), expected("", ""));
    body["stream_options"] = json!({"include_usage": true});
    let usage = chunk(
        "",
        ",\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":2,\"total_tokens\":2,\
         \"prompt_tokens_details\":{\"cached_tokens\":0}},\"timings\":{…}",
    );
    assert_eq!(masked(&server.chat(&body).text()), expected(",\"usage\":null", &usage));
}

#[test]
fn log_probabilities_are_in_the_form_of_openai() {
    let server = Running::start(config());
    let mut body = question(0);
    body["logprobs"] = true.into();
    body["max_tokens"] = json!(1);
    let token = json!({"token": "Without ", "logprob": -0.25, "bytes": b"Without "});
    let mut entry = token.clone();
    entry["top_logprobs"] = json!([]);
    assert_eq!(server.chat(&body).json()["choices"][0]["logprobs"], json!({"content": [entry], "refusal": null}));
    body["top_logprobs"] = json!(2);
    let other = json!({"token": "alternative1", "logprob": -1.25, "bytes": b"alternative1"});
    entry["top_logprobs"] = json!([token, other]);
    assert_eq!(server.chat(&body).json()["choices"][0]["logprobs"]["content"], json!([entry]));
    body["stream"] = true.into();
    let text = server.chat(&body).text();
    let second: Value =
        serde_json::from_str(text.split("\n\n").nth(1).unwrap().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(second["choices"][0]["logprobs"]["content"], json!([entry]));
}

#[test]
fn sampling_fields_reach_the_model() {
    let server = Running::start(config());
    let mut body = question(3);
    let fields = json!({"temperature": 0.5, "top_p": 0.9, "seed": 7, "max_completion_tokens": 9, "stop": "image"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    assert_eq!(server.chat(&body).json()["choices"][0]["message"]["content"], "Without an ");
    let request = server.model.requests().pop().unwrap();
    assert_eq!((request.temperature, request.top_p, request.seed), (0.5, 0.9, 7));
    assert_eq!((request.max_tokens, request.stop, request.logprobs), (Some(9), vec!["image".to_owned()], None));
    // OpenAI's defaults, and a top-p of 0, which leaves the most probable token.
    server.chat(&question(1));
    let request = server.model.requests().pop().unwrap();
    assert_eq!((request.temperature, request.top_p, request.max_tokens), (1.0, 1.0, Some(4096)));
    body["top_p"] = json!(0);
    server.chat(&body);
    let request = server.model.requests().pop().unwrap();
    assert_eq!((request.temperature, request.top_p), (0.0, 1.0));
}

#[test]
fn a_conversation_of_several_turns_reaches_the_model() {
    let server = Running::start(config());
    let answer = server.chat(&question(1)).json()["choices"][0]["message"].clone();
    let messages = json!([
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        answer,
        {"role": "user", "content": "c"},
    ]);
    assert_eq!(server.chat(&json!({"messages": messages})).status, 200);
    let roles: Vec<_> =
        server.model.requests().pop().unwrap().messages.iter().map(|m| format!("{:?}", m.role)).collect();
    assert_eq!(roles, ["System", "User", "Assistant", "User"]);
}

#[test]
fn scores_are_probabilities_of_the_options() {
    let server = Running::start(config());
    let body = json!({"model": "", "messages": question(1)["messages"], "options": ["yes", "no"]});
    let reply = server.post("/v1/score", &body).json();
    let share = 1.0 / (1.0 + 0.5_f64.exp());
    assert_eq!((&reply["object"], &reply["model"]), (&json!("score"), &json!("fake")));
    assert_eq!(reply["options"][0]["text"], "yes");
    assert_eq!((&reply["options"][0]["logprob"], &reply["options"][0]["tokens"]), (&json!(-1.5), &json!(2)));
    assert!((reply["options"][0]["probability"].as_f64().unwrap() - share).abs() < 1e-12);
    assert_eq!(reply["usage"]["total_tokens"], 5);
    assert!(reply["timings"]["prompt"].is_number());
}

#[test]
fn models_are_listed_and_found_by_name() {
    let models: Vec<Arc<dyn ChatModel>> = vec![Arc::new(FakeModel::new("a/b")), Arc::new(FakeModel::new("nano"))];
    let twice = [models[0].clone(), models[0].clone()].to_vec();
    assert!(Server::bind(config(), twice).unwrap_err().to_string().contains("two models have the name `a/b`"));
    assert!(Server::bind(config(), Vec::new()).unwrap_err().to_string().contains("no model"));
    let server = Server::bind(config(), models).unwrap();
    let address = server.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        server.run_blocking(async {
            stopped.await.ok();
        })
    });
    let only = Running::start(config());
    let mut both = Running::start(config());
    both.address = address;
    let list = both.get("/v1/models").json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("a/b")));
    assert_eq!(list["data"][1]["burgess"]["image_tokens"], 64);
    assert_eq!(both.get("/v1/models/a/b").json()["id"], "a/b");
    assert_eq!(both.get("/v1/models/a%2Fb").json()["id"], "a/b");
    let absent = both.get("/v1/models/nanoo");
    assert_eq!((absent.status, absent.code().as_str()), (404, "model_not_found"));
    assert!(absent.error().contains("did you mean `nano`"), "{}", absent.error());
    let mut body = question(1);
    assert!(both.chat(&body).error().contains("several models"));
    body["model"] = "gpt-4o".into();
    assert_eq!((both.chat(&body).status, only.chat(&body).status), (404, 404));
    body["model"] = "nano".into();
    assert_eq!(both.chat(&body).json()["model"], "nano");
    body["model"] = "".into();
    assert_eq!((both.chat(&body).status, only.chat(&body).status), (400, 200));
    stop.send(()).unwrap();
    thread.join().unwrap().unwrap();
}

#[test]
fn examples_are_listed_with_their_images() {
    let example = Example {
        name: "Circle".to_owned(),
        question: "What?".to_owned(),
        options: vec!["red".to_owned()],
        image: b"png".to_vec(),
        answer: None,
    };
    let server = Running::start(ServerConfig { examples: vec![example], ..config() });
    let expected = json!([
        {"name": "Circle", "question": "What?", "options": ["red"], "answer": null, "image": "/examples/0.png"},
    ]);
    assert_eq!(server.get("/examples").json(), expected);
    let image = server.get("/examples/0.png");
    assert_eq!((image.body.as_slice(), image.header("content-type")), (&b"png"[..], Some("image/png")));
    assert_eq!(server.get("/examples/1.png").status, 404);
    assert_eq!(server.get("/examples/0").status, 404);
}

/// Each line is a comment or `name{labels} value`; each name has its type before its values; the buckets of histograms
/// rise to their count.
#[test]
fn metrics_are_in_the_text_format_of_prometheus() {
    let server = Running::with(config(), FakeModel::new("a\"b\\c"));
    server.chat(&question(1));
    server.chat(&json!({}));
    let reply = server.get("/metrics");
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = reply.text();
    let (mut kinds, mut buckets) = (std::collections::BTreeMap::new(), (String::new(), 0.0));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let name = series.split('{').next().unwrap();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let kind = kinds.get(base).or_else(|| kinds.get(name)).unwrap_or_else(|| panic!("no type: {line}"));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()), "{line}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        if name.ends_with("_bucket") {
            let labels = series.split(",le=").next().unwrap().to_owned();
            assert!(labels != buckets.0 || value >= buckets.1, "{line}");
            buckets = (labels, value);
        } else if kind == "histogram" && name.ends_with("_count") {
            assert_eq!(value, buckets.1, "{line}");
        }
    }
    for line in [
        "burgess_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1",
        "burgess_http_requests_total{route=\"/v1/chat/completions\",status=\"400\"} 1",
        "burgess_http_request_seconds_count{route=\"/v1/chat/completions\"} 2",
        "burgess_answer_first_token_seconds_count{model=\"a\\\"b\\\\c\"} 1",
        "burgess_model_completed_total{model=\"a\\\"b\\\\c\"} 1",
        "burgess_model_generated_tokens_total{model=\"a\\\"b\\\\c\"} 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}
