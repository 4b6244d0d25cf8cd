//! `burgess serve` through the binary: its answers over HTTP are those of `burgess ask`, alone and many at once.

use base64::Engine;
use burgess_tests::{TestDir, stderr, stdout};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const LENGTH: usize = 24;

/// A small multimodal model in `place`, trained for a few steps, and some images.
fn model(place: &TestDir, connector: &str) -> PathBuf {
    let images = place.path().join("images");
    std::fs::create_dir_all(&images).expect("a directory");
    let (mut align, mut tune) = (Vec::new(), Vec::new());
    for i in 0..8_u8 {
        let image = format!("{i}.png");
        // Of several sizes, because some connectors leave out the padding of images that are not square.
        image::RgbImage::from_fn(96, 96 - 8 * u32::from(i % 4), |x, y| {
            image::Rgb([(x * 2) as u8 ^ (i * 30), (y * 2) as u8, 30 * i])
        })
        .save(images.join(&image))
        .expect("an image");
        let entry = |question: &str, answer: &str| {
            json!({"id": format!("c{i}"), "image": image, "conversations": [
                {"from": "human", "value": format!("<image>\n{question}")}, {"from": "gpt", "value": answer}]})
        };
        align.push(entry("Describe the image.", "red boat"));
        tune.push(entry("What is it?", ["a red boat", "two cups and a green tree"][usize::from(i % 2)]));
    }
    place.file("align.json", &Value::from(align).to_string());
    place.file("tune.json", &Value::from(tune).to_string());
    let stage = "steps = 2\nbatch = 4\nlr = 1e-3\n";
    place.file(
        "run.toml",
        &format!(
            "name = \"small\"\nencoders = [\"nano-sup\"]\n[evaluator]\nllm = \"nano-lm\"\nconnector = {connector}\n\
             [evaluator.data.files]\nalign = \"align.json\"\ntune = \"tune.json\"\nimages = \"images\"\n\
             [evaluator.recipe.align]\n{stage}trainable = [\"connector\"]\n\
             [evaluator.recipe.tune]\n{stage}trainable = [\"connector\", \"llm\"]\n"
        ),
    );
    let output = place.run(&["train", "run.toml", "--out", "trained"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let found = burgess_tests::files(&place.path().join("trained"));
    let model = found.iter().find(|file| file.ends_with("model/connector.safetensors")).expect("a model");
    model.parent().expect("a directory").to_path_buf()
}

/// A running server, which is killed at the end of the test.
struct Served {
    child: Child,
    address: String,
    models: Vec<String>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    fn start(place: &TestDir, args: &[&str]) -> Self {
        let mut command = place.burgess(&[&["serve", "--port", "0", "--json"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("burgess starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        if line.is_empty() {
            let mut text = String::new();
            child.stderr.take().expect("stderr").read_to_string(&mut text).expect("text");
            panic!("the server did not start: {text}");
        }
        // Emptied, so that the server never waits for its stderr to be read.
        let mut messages = child.stderr.take().expect("stderr");
        std::thread::spawn(move || std::io::copy(&mut messages, &mut std::io::sink()));
        let said: Value = serde_json::from_str(&line).expect("JSON");
        let address = said["address"].as_str().expect("an address").strip_prefix("http://").expect("http").to_string();
        let models = said["models"].as_array().expect("names").iter();
        let models = models.map(|name| name.as_str().expect("a name").to_string()).collect();
        Self { child, address, models }
    }

    /// Sends a request; the response is read later. With HTTP/1.0 a response ends with its connection.
    fn send(&self, method: &str, path: &str, body: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all((head + body).as_bytes()).expect("sent");
        BufReader::new(stream)
    }

    /// Sends a request and returns status and body.
    fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut text = String::new();
        self.send(method, path, body).read_to_string(&mut text).expect("a response");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, body.to_string())
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.call("POST", path, &body.to_string());
        (status, serde_json::from_str(&text).expect("JSON"))
    }

    fn answer(&self, body: &Value) -> Value {
        let (status, answer) = self.post("/v1/chat/completions", body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Asks with a streamed answer; returns the joined text, the finish reason and the number of chunks with text.
    fn streamed(&self, body: &Value) -> (String, String, usize) {
        let mut body = body.clone();
        body["stream"] = true.into();
        let (status, text) = self.call("POST", "/v1/chat/completions", &body.to_string());
        assert_eq!(status, 200, "{text}");
        let events: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(events.last(), Some(&"[DONE]"), "{text}");
        let (mut answer, mut finish, mut chunks) = (String::new(), String::new(), 0);
        for event in &events[..events.len() - 1] {
            let event: Value = serde_json::from_str(event).expect("JSON");
            let choice = &event["choices"][0];
            if let Some(new) = choice["delta"]["content"].as_str().filter(|new| !new.is_empty()) {
                answer += new;
                chunks += 1;
            }
            finish = choice["finish_reason"].as_str().map_or(finish, str::to_string);
        }
        (answer, finish, chunks)
    }

    /// A number of `/metrics` of the first model.
    fn count(&self, name: &str) -> f64 {
        let (status, text) = self.call("GET", "/metrics", "");
        assert_eq!(status, 200);
        let prefix = format!("burgess_model_{name}{{model=\"{}\"}} ", self.models[0]);
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix)).expect(&prefix);
        line.parse().expect("a number")
    }

    /// Waits until a condition holds.
    fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            assert!(Instant::now() < end, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn image_url(image: &Path) -> String {
    let bytes = std::fs::read(image).expect("an image");
    format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn image(place: &TestDir, i: usize) -> PathBuf {
    place.path().join("images").join(format!("{i}.png"))
}

/// A request with one question, at temperature 0.
fn request(question: &str, image: Option<&Path>) -> Value {
    let mut content = vec![json!({"type": "text", "text": question})];
    content.extend(image.map(|image| json!({"type": "image_url", "image_url": {"url": image_url(image)}})));
    json!({"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": LENGTH})
}

/// What `burgess ask` answers, as JSON.
fn asked(place: &TestDir, model: &Path, question: &str, image: Option<&Path>, more: &[&str]) -> Value {
    let (model, length) = (model.display().to_string(), LENGTH.to_string());
    let image = image.map(|image| image.display().to_string());
    let mut args = vec!["ask", "--model", &model, question, "--json"];
    if !more.contains(&"--continuation") {
        args.extend(["--max-new-tokens", &length]);
    }
    args.extend(image.iter().flat_map(|image| ["--image", image.as_str()]));
    args.extend(more);
    let output = place.run(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let last = if more.contains(&"--continuation") { text.lines().last().unwrap_or_default() } else { &text };
    serde_json::from_str(last).expect("JSON")
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().expect("an answer")
}

const QUESTIONS: [(&str, Option<usize>); 6] = [
    ("What is it?", Some(0)),
    ("How many cups are there?\nAnswer with a number.", Some(1)),
    ("What is it?", Some(2)),
    ("Where does the cat live, and why?", None),
    ("Describe the image.", Some(5)),
    ("Is there a boat?", Some(1)),
];

#[test]
fn answers_over_http_are_those_of_ask() {
    let sva = "{ sva = { hidden = 32, heads = 4, depth = 1, query_grids = [4, 2], grid = 4, \
               samplers = { start = 0, stride = 2, number = 2 } } }";
    for connector in ["\"mlp2x_gelu\"", sva] {
        let place = TestDir::new();
        let dir = model(&place, connector);
        let served = Served::start(&place, &["--model", &format!("small={}", dir.display()), "--max-batch", "8"]);
        assert_eq!(served.models, ["small"]);
        let image_of = |i: Option<usize>| i.map(|i| image(&place, i));
        let mut expected = Vec::new();
        for (question, i) in QUESTIONS {
            let wanted = asked(&place, &dir, question, image_of(i).as_deref(), &[]);
            let answer = served.answer(&request(question, image_of(i).as_deref()));
            assert_eq!(text(&answer), wanted["answer"], "{connector}: {question}");
            assert_eq!(answer["usage"]["prompt_tokens"], wanted["prompt_tokens"]);
            assert_eq!(answer["usage"]["completion_tokens"], wanted["answer_tokens"]);
            let at_limit = wanted["answer_tokens"] == LENGTH;
            assert_eq!(answer["choices"][0]["finish_reason"], if at_limit { "length" } else { "stop" });
            let (streamed, finish, chunks) = served.streamed(&request(question, image_of(i).as_deref()));
            assert_eq!((streamed.as_str(), finish == "length"), (text(&answer), at_limit), "{question}");
            assert!(chunks > 1 || streamed.split_whitespace().count() < 3, "{chunks} chunks for {streamed}");
            expected.push(text(&answer).to_string());
        }
        assert!(expected.iter().any(|answer| answer.split_whitespace().count() > 2), "{expected:?}");
        // A question about a known image costs only its text, and many at once get the answers of one at a time.
        let before = served.count("images_total");
        let hits = served.count("prefix_hits_total");
        let served_ref = &served;
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for round in 0..4 {
                for ((question, i), expected) in QUESTIONS.iter().zip(&expected) {
                    let mut body = request(question, image_of(*i).as_deref());
                    if round % 2 == 1 {
                        body["logprobs"] = true.into();
                        body["top_logprobs"] = 3.into();
                    }
                    threads.push(scope.spawn(move || {
                        let answer = served_ref.answer(&body);
                        assert_eq!(text(&answer), expected, "{question}");
                        if i.is_some() {
                            let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
                            assert!(cached.as_u64().is_some_and(|n| n > 1), "{answer}");
                        }
                        if round % 2 == 1 {
                            check_logprobs(&answer);
                        }
                    }));
                }
            }
            threads.into_iter().for_each(|thread| thread.join().expect("an answer"));
        });
        assert_eq!(served.count("images_total"), before);
        assert_eq!(served.count("prefix_hits_total"), hits + 20.0);
        assert_eq!(served.count("active"), 0.0);
        assert!(served.count("generated_tokens_total") > served.count("steps_total"), "nothing was batched");
        sampling(&place, &dir, &served);
        scores(&place, &dir, &served);
    }
}

fn check_logprobs(answer: &Value) {
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().expect("log-probabilities");
    assert_eq!(tokens.len(), answer["usage"]["completion_tokens"].as_u64().expect("a number") as usize);
    let bytes = tokens.iter().flat_map(|t| t["bytes"].as_array().expect("bytes"));
    let bytes: Vec<u8> = bytes.map(|b| b.as_u64().expect("a byte") as u8).collect();
    assert_eq!(String::from_utf8_lossy(&bytes).trim(), text(answer));
    for token in tokens {
        let top = token["top_logprobs"].as_array().expect("alternatives");
        assert_eq!(top.len(), 3);
        // Greedy decoding takes the most probable token.
        assert_eq!(top[0]["logprob"], token["logprob"]);
    }
}

/// Sampling depends on the seed and the prompt only.
fn sampling(place: &TestDir, dir: &Path, served: &Served) {
    let image = image(place, 0);
    let more = ["--temperature", "1.5", "--top-p", "0.9", "--seed", "7"];
    let wanted = asked(place, dir, "What is it?", Some(&image), &more);
    let mut body = request("What is it?", Some(&image));
    body["temperature"] = 1.5.into();
    body["top_p"] = 0.9.into();
    body["seed"] = 7.into();
    let answer = served.answer(&body);
    assert_eq!(text(&answer), wanted["answer"]);
    // A stop text ends the answer before it.
    let whole = text(&answer).to_string();
    if let Some((first, _)) = whole.split_once(' ') {
        body["stop"] = " ".into();
        let cut = served.answer(&body);
        assert_eq!(text(&cut), first);
        assert_eq!(cut["choices"][0]["finish_reason"], "stop");
    }
}

/// Scores of options are the log-probabilities of their tokens and the end token.
fn scores(place: &TestDir, dir: &Path, served: &Served) {
    let image = image(place, 3);
    let mut body = request("What is it?", Some(&image));
    let options = ["a red boat", "a cup", "Yes"];
    body.as_object_mut().expect("an object").retain(|key, _| key == "messages");
    body["options"] = options.into();
    let (status, scored) = served.post("/v1/score", &body);
    assert_eq!(status, 200, "{scored}");
    let mut sum = 0.0;
    for (option, scored) in options.iter().zip(scored["options"].as_array().expect("scores")) {
        let more = ["--continuation", &format!("{option}<|eos|>")];
        let wanted = asked(place, dir, "What is it?", Some(&image), &more);
        let (found, wanted) = (scored["logprob"].as_f64().expect("a number"), wanted["logprob"].as_f64().expect("one"));
        assert!((found - wanted).abs() < 1e-3, "{option}: {found} {wanted}");
        assert_eq!(scored["text"], **option);
        sum += scored["probability"].as_f64().expect("a probability");
    }
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
}

#[test]
fn what_cannot_be_answered_says_why_and_the_server_goes_on() {
    let place = TestDir::new();
    let dir = model(&place, "\"mlp2x_gelu\"");
    let mut served =
        Served::start(&place, &["--model", &format!("small={}", dir.display()), "--max-batch", "2", "--queue", "3"]);
    let refused = |body: &Value, code: u16, words: &[&str]| {
        let (status, answer) = served.post("/v1/chat/completions", body);
        let message = answer["error"]["message"].as_str().expect("a message");
        assert_eq!(status, code, "{message}");
        words.iter().for_each(|word| assert!(message.contains(word), "{word}: {message}"));
    };
    let picture = image(&place, 0);
    let mut two = request("Which?", Some(&picture));
    let again = two["messages"][0]["content"][1].clone();
    two["messages"][0]["content"].as_array_mut().expect("parts").push(again);
    refused(&two, 400, &["2 images", "one"]);
    refused(&request(&"many words ".repeat(600), None), 400, &["positions", "512"]);
    refused(&request("a <image> here", None), 400, &["<image>"]);
    let mut system = request("What is it?", Some(&picture));
    system["messages"].as_array_mut().expect("messages").insert(0, json!({"role": "system", "content": "Be short."}));
    refused(&system, 400, &["system message"]);
    // The header is that of an image, the rest is cut off.
    let cut = place.path().join("cut.png");
    std::fs::write(&cut, &std::fs::read(&picture).expect("an image")[..120]).expect("written");
    refused(&request("What is it?", Some(&cut)), 400, &["image"]);

    // Clients that go away free the batch.
    let mut long = request("What is it?", Some(&picture));
    (long["stream"], long["temperature"], long["max_tokens"]) = (true.into(), 2.into(), 400.into());
    for seed in 0..4 {
        long["seed"] = seed.into();
        let mut response = served.send("POST", "/v1/chat/completions", &long.to_string());
        let mut line = String::new();
        while !line.contains("content") {
            line.clear();
            assert!(response.read_line(&mut line).expect("a line") > 0, "no text came");
        }
    }
    served.wait("cancelled requests leave the batch", |s| s.count("active") == 0.0 && s.count("queued") == 0.0);
    assert!(served.count("cancelled_total") >= 1.0);

    // A full queue refuses with the time after which to try again; clients that wait may leave.
    served.wait("the queue fills", |s| {
        let waiting = (0..12).map(|seed| {
            let mut asked = long.clone();
            asked["seed"] = (100 + seed).into();
            s.send("POST", "/v1/chat/completions", &asked.to_string())
        });
        let waiting: Vec<_> = waiting.collect();
        // The connections of those that still wait are dropped at the first refusal.
        waiting.into_iter().any(|mut response| {
            let mut status = String::new();
            response.read_line(&mut status).expect("a status");
            assert!(status.contains(" 200 ") || status.contains(" 429 "), "{status}");
            status.contains(" 429 ")
        })
    });
    served.wait("clients that left are forgotten", |s| s.count("active") == 0.0 && s.count("queued") == 0.0);
    assert!(!text(&served.answer(&request("What is it?", Some(&picture)))).is_empty());

    // SIGTERM: the request in progress is answered to its end.
    long["seed"] = 1.into();
    let mut response = served.send("POST", "/v1/chat/completions", &long.to_string());
    let mut seen = String::new();
    while !seen.contains("content") {
        assert!(response.read_line(&mut seen).expect("a line") > 0, "no text came");
    }
    served.signal("-TERM");
    response.read_to_string(&mut seen).expect("the rest");
    assert!(seen.trim_end().ends_with("[DONE]"), "{seen}");
    assert_eq!(served.wait_for_end().code(), Some(0));
}

#[test]
fn wrong_arguments_are_refused() {
    let place = TestDir::new();
    let complaint = |args: &[&str], code: i32| {
        let output = place.run(&[&["serve"], args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        stderr(&output)
    };
    assert!(complaint(&[], 2).contains("--model"));
    assert!(complaint(&["--model", "nowhere"], 2).contains("nowhere"));
    assert!(complaint(&["--model", "a=x", "--model", "a=y"], 2).contains("two models"));
    assert!(complaint(&["--model", "x", "--max-batch", "0"], 2).contains("--max-batch"));
    let token = place.file("token", "");
    assert!(complaint(&["--model", "x", "--token-file", &token.display().to_string()], 2).contains("token"));
}
