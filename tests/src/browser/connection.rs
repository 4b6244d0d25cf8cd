//! The pipe to the browser: commands with answers, and the events that tests ask for (DevTools protocol).

use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Events that are kept; the others are dropped as they come.
const KEPT: [&str; 7] = [
    "Network.requestWillBeSent",
    "Network.webSocketCreated",
    "Runtime.exceptionThrown",
    "Runtime.consoleAPICalled",
    "Log.entryAdded",
    "Page.loadEventFired",
    "Inspector.targetCrashed",
];

/// A connection that several tabs share. A thread reads what the browser sends.
pub(super) struct Connection {
    writer: Mutex<Writer>,
    inbox: Arc<Inbox>,
}

struct Writer {
    pipe: ChildStdin,
    last_id: u64,
}

#[derive(Default)]
struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Answers that nobody has taken yet, by the id of their command.
    answers: HashMap<u64, Value>,
    /// Kept events in order, by session.
    events: HashMap<String, Vec<Value>>,
    /// The browser closed its end.
    closed: bool,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock leaves a state that is still valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    pub(super) fn new(input: ChildStdin, output: ChildStdout) -> Self {
        let inbox = Arc::new(Inbox::default());
        let reader = Arc::clone(&inbox);
        std::thread::spawn(move || read(output, &reader));
        Self { writer: Mutex::new(Writer { pipe: input, last_id: 0 }), inbox }
    }

    /// Sends a command to a tab (or to the browser if `session` is empty) and waits for its result.
    pub(super) fn call(&self, session: &str, method: &str, params: &Value, limit: Duration) -> Result<Value, String> {
        let id = self.send(session, method, params)?;
        let deadline = Instant::now() + limit;
        let mut state = self.inbox.state();
        loop {
            if let Some(mut answer) = state.answers.remove(&id) {
                return match answer.get("error") {
                    Some(error) => Err(format!("{method}: {}", error["message"].as_str().unwrap_or("unknown error"))),
                    None => Ok(answer["result"].take()),
                };
            }
            if state.closed {
                return Err(format!("{method}: the browser has ended"));
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(format!("{method}: no answer within {} s", limit.as_secs_f64()));
            };
            state = self.inbox.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn send(&self, session: &str, method: &str, params: &Value) -> Result<u64, String> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.last_id += 1;
        let mut command = json!({ "id": writer.last_id, "method": method, "params": params });
        if !session.is_empty() {
            command["sessionId"] = session.into();
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        writer.pipe.write_all(&bytes).map_err(|e| format!("{method}: writing to the browser: {e}"))?;
        Ok(writer.last_id)
    }

    /// Kept events of a tab, in order.
    pub(super) fn events(&self, session: &str) -> Vec<Value> {
        self.inbox.state().events.get(session).cloned().unwrap_or_default()
    }

    /// Waits until a tab has more than `count` events of this kind.
    pub(super) fn wait_for_event(&self, session: &str, method: &str, count: usize, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.inbox.state();
        loop {
            let events = state.events.get(session).map_or(&[][..], Vec::as_slice);
            if events.iter().filter(|event| event["method"] == method).count() > count {
                return true;
            }
            let left = deadline.checked_duration_since(Instant::now());
            let (false, Some(left)) = (state.closed, left) else { return false };
            state = self.inbox.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Reads messages, each ended by a zero byte, until the browser closes its end.
fn read(output: impl Read, inbox: &Inbox) {
    let mut output = BufReader::with_capacity(1 << 16, output);
    let mut bytes = Vec::new();
    while matches!(output.read_until(0, &mut bytes), Ok(1..)) {
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        if let Ok(message) = serde_json::from_slice::<Value>(&bytes) {
            let mut state = inbox.state();
            if let Some(id) = message["id"].as_u64() {
                state.answers.insert(id, message);
            } else if message["method"].as_str().is_some_and(|method| KEPT.contains(&method)) {
                let session = message["sessionId"].as_str().unwrap_or_default().to_owned();
                state.events.entry(session).or_default().push(message);
            }
            drop(state);
            inbox.changed.notify_all();
        }
        bytes.clear();
    }
    inbox.state().closed = true;
    inbox.changed.notify_all();
}
