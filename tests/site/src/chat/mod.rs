//! A language model behind the OpenAI API, whose answers are derived from what it is asked.

mod answer;

use crate::fault::Fault;
use crate::http::{Reply, Request, RequestRecord, Server};
use crate::random;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A fault of the model: its connection, or what it says.
#[derive(Debug, Clone, PartialEq)]
pub enum ChatFault {
    /// A fault of the connection or of the HTTP answer.
    Http(Fault),
    /// The answer is almost JSON: a quote is missing.
    Malformed,
    /// The answer stands between sentences.
    Prose,
    /// The answer stands in a Markdown block.
    Fenced,
    /// The answer is JSON with other keys.
    WrongSchema,
    /// The answer has the right form and names what no text said.
    Ungrounded,
    /// The model refuses.
    Refusal,
    /// The answer is empty.
    Empty,
    /// `content` is null.
    Null,
    /// The answer is eight million characters long.
    Huge,
    /// The answer ends in the middle, with `finish_reason` `length`.
    Truncated,
    /// The answer is good, and `usage` is missing.
    NoUsage,
    /// The answer is good, and `usage` has texts and negative numbers.
    WrongUsage,
    /// Status 200 with a list in place of an object.
    WrongBody,
    /// Status 200 with `error` in the body.
    ErrorBody,
}

/// Options of a [`ChatSite`].
#[derive(Debug, Clone)]
pub struct ChatOptions {
    /// Port; 0 takes any free one.
    pub port: u16,
    /// Seed of the answers and of the plan of faults.
    pub seed: u64,
    /// Share of the questions that fail at first, between 0 and 1. The question is the first message of the user, so
    /// that it remains the same when a client asks again with an explanation.
    pub share: f64,
    /// A question that fails does so in at most this many of its first attempts, and then no more.
    pub attempts: usize,
    /// The faults of the plan, which are chosen with equal probability.
    pub faults: Vec<ChatFault>,
    /// Time before every answer.
    pub delay: Duration,
    /// Key that clients must send; none is needed if absent.
    pub key: Option<String>,
    /// Whether `response_format` with a JSON schema is accepted; else it is refused with status 400.
    pub schemas: bool,
    /// Topics that are named for a subfield; other subfields get topics made of their own name.
    pub topics: BTreeMap<String, Vec<String>>,
}

impl Default for ChatOptions {
    fn default() -> Self {
        let list = |words: &str| words.split(", ").map(String::from).collect();
        let topics = [
            ("Towers and mills", "Lighthouse, Windmill, Watermill"),
            ("Bridges and railways", "Suspension bridge, Steam locomotive"),
            ("Instruments", "Astrolabe, Sundial"),
            ("Plants and animals", "Leaf venation, Honeycomb, Tide pool"),
            ("Earth", "Stratovolcano"),
            ("Decoration", "Mosaic"),
        ];
        Self {
            port: 0,
            seed: 0,
            share: 0.0,
            attempts: 1,
            faults: Vec::new(),
            delay: Duration::ZERO,
            key: None,
            schemas: true,
            topics: topics.map(|(name, words)| (name.into(), list(words))).into(),
        }
    }
}

/// A request to the model.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// Time since the start of the server.
    pub at: Duration,
    /// Body of the request; null if it is no JSON.
    pub body: Value,
    /// Header `Authorization`.
    pub authorization: String,
    /// Path.
    pub path: String,
    /// Status of the answer; 0 if there was none.
    pub status: u16,
    /// Whether the answer was a fault on demand.
    pub faulty: bool,
}

impl ChatRequest {
    /// The first message of the user.
    pub fn question(&self) -> String {
        answer::question(&self.body)
    }
}

struct Chat {
    options: ChatOptions,
    /// Part of the body, remaining number of times, fault.
    by_content: Mutex<Vec<(String, usize, ChatFault)>>,
    attempts: Mutex<BTreeMap<u64, usize>>,
    planned: Mutex<bool>,
}

/// A running model.
///
/// `POST /v1/chat/completions` answers, `GET /v1/models` names `test-writer`. An answer depends only on the messages
/// and the seed, never on the attempt. Where the request has a JSON schema, the answer has its form.
pub struct ChatSite {
    server: Server,
    chat: Arc<Chat>,
}

impl ChatSite {
    /// Starts a model.
    ///
    /// # Panics
    /// The port is taken.
    pub fn start(options: ChatOptions) -> Self {
        let port = options.port;
        let (by_content, attempts) = (Mutex::default(), Mutex::default());
        let chat = Arc::new(Chat { options, by_content, attempts, planned: Mutex::new(true) });
        let answering = Arc::clone(&chat);
        let server = Server::start("127.0.0.1", port, Box::new(move |request: &Request| answering.reply(request)));
        Self { server, chat }
    }

    /// Address that clients call the base: `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.server.authority())
    }

    /// Requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.server.log().into_iter().map(request).collect()
    }

    /// Empties the log of requests.
    pub fn clear_requests(&self) {
        self.server.clear_log();
    }

    /// Applies a fault to the next `times` requests whose body contains `part`.
    pub fn fail(&self, part: &str, times: usize, fault: ChatFault) {
        self.chat.by_content.lock().expect("no thread panicked").push((part.into(), times, fault));
    }

    /// Removes all faults, and the plan.
    pub fn recover(&self) {
        self.chat.by_content.lock().expect("no thread panicked").clear();
        *self.chat.planned.lock().expect("no thread panicked") = false;
    }
}

fn request(record: RequestRecord) -> ChatRequest {
    ChatRequest {
        at: record.at,
        body: serde_json::from_str(&record.body).unwrap_or(Value::Null),
        authorization: record.header("authorization").into(),
        path: record.path().into(),
        status: record.status,
        faulty: record.faulty,
    }
}

/// An error in the form of the API.
fn error(status: u16, kind: &str, message: &str, param: Option<&str>) -> Reply {
    Reply::json(status, &json!({"error": {"message": message, "type": kind, "param": param, "code": null}}))
}

impl Chat {
    fn reply(&self, request: &Request) -> (Reply, bool) {
        if request.path == "/v1/models" {
            let list =
                json!({"object": "list", "data": [{"id": "test-writer", "object": "model", "owned_by": "tests"}]});
            return (Reply::json(200, &list), false);
        }
        if request.path != "/v1/chat/completions" || request.method != "POST" {
            return (error(404, "invalid_request_error", "there is no such path", None), false);
        }
        if let Some(key) = &self.options.key
            && request.header("authorization") != format!("Bearer {key}")
        {
            return (error(401, "invalid_request_error", "Incorrect API key provided.", None), false);
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return (
                error(400, "invalid_request_error", "We could not parse the JSON body of your request.", None),
                false,
            );
        };
        if body["model"].as_str().is_none_or(str::is_empty) {
            return (error(400, "invalid_request_error", "you must provide a model parameter", Some("model")), false);
        }
        if body["messages"].as_array().is_none_or(Vec::is_empty) {
            return (error(400, "invalid_request_error", "'messages' must not be empty", Some("messages")), false);
        }
        if !self.options.schemas && body["response_format"]["type"] == "json_schema" {
            let text = "`response_format` of type json_schema is not supported by this model";
            return (error(400, "invalid_request_error", text, Some("response_format")), false);
        }
        let fault = self.fault(&String::from_utf8_lossy(&request.body), &body);
        let mut reply = self.answer(&body, fault.as_ref());
        reply.delay = self.options.delay;
        match fault {
            Some(ChatFault::Http(fault)) => (fault.apply(reply), true),
            other => (reply, other.is_some()),
        }
    }

    /// Chooses the fault of a request.
    fn fault(&self, raw: &str, body: &Value) -> Option<ChatFault> {
        let mut by_content = self.by_content.lock().expect("no thread panicked");
        if let Some((_, times, fault)) = by_content.iter_mut().find(|(part, times, _)| *times > 0 && raw.contains(part))
        {
            *times -= 1;
            return Some(fault.clone());
        }
        if self.options.faults.is_empty() || !*self.planned.lock().expect("no thread panicked") {
            return None;
        }
        let question = random::hash(self.options.seed, answer::question(body).as_bytes());
        let mut attempts = self.attempts.lock().expect("no thread panicked");
        let attempt = attempts.entry(question).or_default();
        *attempt += 1;
        let failing = 1 + random::hash(question, b"attempts") as usize % self.options.attempts.max(1);
        if random::fraction(question) >= self.options.share || *attempt > failing {
            return None;
        }
        let choice = random::hash(question, &attempt.to_le_bytes()) as usize % self.options.faults.len();
        Some(self.options.faults[choice].clone())
    }

    fn answer(&self, body: &Value, fault: Option<&ChatFault>) -> Reply {
        let good = answer::good(body, &self.options);
        let long = "The answer follows. ".repeat(400_000);
        let text = match fault {
            Some(ChatFault::Malformed) => good.replacen('"', "", 1),
            Some(ChatFault::Prose) => {
                format!("Sure! Here is what you asked for:\n\n{good}\n\nLet me know if you need more.")
            }
            Some(ChatFault::Fenced) => format!("```json\n{good}\n```"),
            Some(ChatFault::WrongSchema) => json!({"result": {"data": [1, 2, 3], "text": good}}).to_string(),
            Some(ChatFault::Ungrounded) => answer::ungrounded(body, &self.options),
            Some(ChatFault::Refusal) => "I'm sorry, but I can't help with that request.".into(),
            Some(ChatFault::Empty) => String::new(),
            Some(ChatFault::Huge) => long,
            Some(ChatFault::Truncated) => good.chars().take(good.chars().count() * 2 / 3).collect(),
            _ => good,
        };
        let finish = if fault == Some(&ChatFault::Truncated) { "length" } else { "stop" };
        let asked: usize = answer::texts(body).iter().map(|text| text.len() / 4 + 4).sum();
        let said = text.len() / 4 + 1;
        let content = if fault == Some(&ChatFault::Null) { Value::Null } else { json!(text) };
        let mut answer = json!({
            "id": format!("chatcmpl-{:016x}", random::hash(self.options.seed, body.to_string().as_bytes())),
            "object": "chat.completion",
            "created": 1_709_290_800,
            "model": body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content, "refusal": null},
                "logprobs": null, "finish_reason": finish}],
            "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
        });
        match fault {
            Some(ChatFault::NoUsage) => {
                answer.as_object_mut().expect("an object").remove("usage");
            }
            Some(ChatFault::WrongUsage) => {
                answer["usage"] = json!({"prompt_tokens": "many", "completion_tokens": -5, "total_tokens": 1e300});
            }
            Some(ChatFault::WrongBody) => answer = json!([answer]),
            Some(ChatFault::ErrorBody) => {
                answer = json!({"error": {"message": "The engine is overloaded.", "code": 503}})
            }
            _ => {}
        }
        Reply::json(200, &answer)
    }
}
