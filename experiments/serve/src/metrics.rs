//! Counts and times of the server in the text format of Prometheus.

use crate::{ModelStats, Timings};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Upper bounds of the histograms, in seconds.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// The status of a request whose client went away before the response, as nginx counts it.
const CLIENT_GONE: u16 = 499;

/// Counts and times since the start of the server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    open: Arc<AtomicUsize>,
    connections: AtomicU64,
    refused: AtomicU64,
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    times: Mutex<BTreeMap<&'static str, Histogram>>,
    answers: Mutex<BTreeMap<String, Answers>>,
}

/// Where the time of a model's answers went.
#[derive(Debug, Default)]
struct Answers {
    queued: Histogram,
    first_token: Histogram,
    generation: Histogram,
}

/// Numbers of values up to each of [`BOUNDS`].
#[derive(Debug, Default)]
struct Histogram {
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn add(&mut self, seconds: f64) {
        for (count, bound) in self.counts.iter_mut().zip(BOUNDS) {
            *count += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum += seconds;
    }

    fn write(&self, out: &mut String, name: &str, label: &str) {
        let rows = BOUNDS.iter().zip(self.counts).map(|(bound, count)| (bound.to_string(), count));
        for (bound, count) in rows.chain([("+Inf".to_owned(), self.count)]) {
            line(out, &format!("{name}_bucket{{{label},le=\"{bound}\"}}"), count);
        }
        line(out, &format!("{name}_sum{{{label}}}"), self.sum);
        line(out, &format!("{name}_count{{{label}}}"), self.count);
    }
}

fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing into a string cannot fail.
    let _ = writeln!(out, "{name} {value}");
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// The text of a label's value.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A mutex whose holder panicked still holds valid counts.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that is counted as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts a new connection.
    pub fn connection(&self) -> OpenConnection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.open.clone())
    }

    /// Counts a connection that the system could not accept.
    pub fn connection_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts where the time of an answer went.
    pub fn answered(&self, model: &str, timings: &Timings) {
        let mut answers = locked(&self.answers);
        if !answers.contains_key(model) {
            answers.insert(model.to_owned(), Answers::default());
        }
        if let Some(times) = answers.get_mut(model) {
            times.queued.add(timings.queued);
            times.first_token.add(timings.queued + timings.prompt);
            times.generation.add(timings.generation);
        }
    }

    /// Returns all counts as text.
    pub fn text(&self, models: &[(&str, ModelStats)]) -> String {
        let mut out = String::new();
        let open = self.open.load(Ordering::Relaxed);
        head(&mut out, "burgess_connections", "gauge", "Open connections.");
        line(&mut out, "burgess_connections", open);
        head(&mut out, "burgess_connections_total", "counter", "Connections since the start.");
        line(&mut out, "burgess_connections_total", self.connections.load(Ordering::Relaxed));
        head(&mut out, "burgess_connections_failed_total", "counter", "Connections that the system did not accept.");
        line(&mut out, "burgess_connections_failed_total", self.refused.load(Ordering::Relaxed));
        const REQUESTS: &str = "burgess_http_requests_total";
        head(&mut out, REQUESTS, "counter", "Requests by route and status; 499 if the client went away before.");
        for ((route, status), count) in locked(&self.requests).iter() {
            line(&mut out, &format!("{REQUESTS}{{route=\"{route}\",status=\"{status}\"}}"), count);
        }
        const TIMES: &str = "burgess_http_request_seconds";
        head(&mut out, TIMES, "histogram", "Time from the head of a request to the end of its response.");
        for (route, times) in locked(&self.times).iter() {
            times.write(&mut out, TIMES, &format!("route=\"{route}\""));
        }
        self.write_answers(&mut out);
        write_models(&mut out, models);
        out
    }

    fn write_answers(&self, out: &mut String) {
        type Choice = fn(&Answers) -> &Histogram;
        let rows: [(&str, &str, Choice); 3] = [
            ("burgess_answer_queued_seconds", "Time in the queue.", |a| &a.queued),
            ("burgess_answer_first_token_seconds", "Time from arrival to the first token.", |a| &a.first_token),
            ("burgess_answer_generation_seconds", "Time from the first token to the last.", |a| &a.generation),
        ];
        for (name, help, choice) in rows {
            head(out, name, "histogram", help);
            for (model, times) in locked(&self.answers).iter() {
                choice(times).write(out, name, &format!("model=\"{}\"", escaped(model)));
            }
        }
    }
}

/// Writes what the models counted.
fn write_models(out: &mut String, models: &[(&str, ModelStats)]) {
    type Choice = fn(&ModelStats) -> f64;
    let rows: [(&str, &str, &str, Choice); 11] = [
        ("queued", "gauge", "Requests that wait.", |s| s.queued as f64),
        ("active", "gauge", "Requests in the batch.", |s| s.active as f64),
        ("completed_total", "counter", "Requests that ended with an answer.", |s| s.completed as f64),
        ("cancelled_total", "counter", "Requests that were cancelled.", |s| s.cancelled as f64),
        ("failed_total", "counter", "Requests that failed.", |s| s.failed as f64),
        ("prompt_tokens_total", "counter", "Positions of prompts that were computed.", |s| s.prompt_tokens as f64),
        ("generated_tokens_total", "counter", "Tokens that were generated.", |s| s.generated_tokens as f64),
        ("images_total", "counter", "Images that were encoded.", |s| s.images_encoded as f64),
        ("prefix_hits_total", "counter", "Image prefixes taken from the cache.", |s| s.prefix_hits as f64),
        ("steps_total", "counter", "Decoding steps of the batch.", |s| s.steps as f64),
        ("busy_seconds_total", "counter", "Seconds in which the device computed.", |s| s.busy_seconds),
    ];
    for (name, kind, help, choice) in rows {
        let name = format!("burgess_model_{name}");
        head(out, &name, kind, help);
        for (model, stats) in models {
            line(out, &format!("{name}{{model=\"{}\"}}", escaped(model)), choice(stats));
        }
    }
}

/// A request that is counted when it ends, by its response or by its client.
struct Observation {
    metrics: Arc<Metrics>,
    route: &'static str,
    status: u16,
    began: Instant,
}

impl Drop for Observation {
    fn drop(&mut self) {
        *locked(&self.metrics.requests).entry((self.route, self.status)).or_default() += 1;
        locked(&self.metrics.times).entry(self.route).or_default().add(self.began.elapsed().as_secs_f64());
    }
}

/// The label of a path: few values, whatever clients ask for.
fn route(path: &str) -> &'static str {
    const FIXED: [&str; 7] =
        ["/", "/v1/chat/completions", "/v1/score", "/v1/models", "/healthz", "/metrics", "/examples"];
    match FIXED.into_iter().find(|fixed| *fixed == path) {
        Some(fixed) => fixed,
        None if path.starts_with("/v1/models/") => "/v1/models/{id}",
        None if path.starts_with("/examples/") => "/examples/{n}",
        None => "other",
    }
}

/// Counts a request when its response was sent, or its client has gone.
pub(crate) async fn observe(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let route = route(request.uri().path());
    let mut observation = Observation { metrics, route, status: CLIENT_GONE, began: Instant::now() };
    let response = next.run(request).await;
    observation.status = response.status().as_u16();
    // The body owns the observation, which ends with it.
    response.map(|body| {
        Body::new(body.map_err(move |error| {
            let _ = &observation;
            error
        }))
    })
}
