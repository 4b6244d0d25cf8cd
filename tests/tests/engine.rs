//! The data engine through the binary, over a wiki and a language model of this machine: killed and resumed, by several
//! processes, with a budget, with faults of both servers.
#![cfg(unix)]

use burgess_site::{ChatFault, ChatOptions, ChatSite, Fault, FaultPlan, WikiOptions, WikiSite};
use burgess_tests::{TestDir, files, stderr, stdout};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Subfields for which the model knows topics; the wiki has a page about each of them.
const FIELDS: &str = "# Fields of the test wiki\nEngineering: Towers and mills, Bridges and railways\n\
    Nature: Plants and animals, Earth\nCulture: Instruments, Decoration\n";

/// A workspace of the engine with its servers.
struct Engine {
    place: TestDir,
    wiki: WikiSite,
    chat: ChatSite,
}

impl Engine {
    fn new(wiki: WikiOptions, chat: ChatOptions) -> Self {
        Self { place: TestDir::new(), wiki: WikiSite::start(wiki), chat: ChatSite::start(chat) }
    }

    /// Writes the settings of a workspace; `rest` are further lines of `engine.toml`, `fetch` and `qa` of these tables.
    fn workspace(&self, name: &str, fetch: &str, qa: &str, rest: &str) {
        std::fs::create_dir_all(self.place.path().join(name)).expect("a directory");
        self.place.file(&format!("{name}/fields.txt"), FIELDS);
        let host = self.wiki.base_url().replace("http://", "");
        let images = self.place.path().join("benchmark");
        std::fs::create_dir_all(&images).expect("a directory");
        std::fs::write(images.join("chart.png"), WikiSite::benchmark_image()).expect("an image");
        let toml = format!(
            "[endpoint]\nurl = \"{}\"\nmodel = \"test-writer\"\nfirst_wait_seconds = 0.01\nlongest_wait_seconds = 5.0\n\
             [topics]\nfields = \"fields.txt\"\nper_subfield = 3\nat_least = 1\nasks = 5\nsubfields_per_shard = 2\n\
             [pages.source]\nkind = \"mediawiki\"\napi = \"{}\"\npages_per_topic = 2\n\
             [fetch]\ncontact = \"tests@example.org\"\nallow_hosts = [\"{host}\"]\nbackoff_seconds = 0.01\n{fetch}\n\
             [images]\nbenchmarks = [\"charts=../benchmark\"]\n[qa]\nasks = 5\n{qa}\n{rest}\n",
            self.chat.base_url(),
            self.wiki.api_url(),
        );
        self.place.file(&format!("{name}/engine.toml"), &toml);
    }

    /// A command of the engine on a workspace, with a cache of its own, so that each asks the wiki itself.
    fn command(&self, verb: &str, name: &str, more: &[&str]) -> Command {
        let mut command = self.place.burgess(&[&["data", "engine", verb, name], more].concat());
        command.env("BURGESS_CACHE", self.place.path().join(format!("cache-{name}"))).stdin(Stdio::null());
        command
    }

    fn call(&self, verb: &str, name: &str, more: &[&str]) -> Output {
        self.command(verb, name, more).output().expect("burgess starts")
    }

    /// Runs all stages, which must succeed.
    fn run(&self, name: &str) -> String {
        let output = self.call("run", name, &[]);
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
        stdout(&output)
    }

    fn start(&self, name: &str) -> Child {
        self.command("run", name, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("burgess starts")
    }

    fn status(&self, name: &str) -> Value {
        let output = self.call("status", name, &["--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_str(&stdout(&output)).expect("JSON")
    }

    fn requests(&self) -> usize {
        self.wiki.requests().len() + self.chat.requests().len()
    }

    /// The records, rejections and images of all stages: what must not depend on interruptions, threads and processes.
    /// Markers, manifest and card also say what was paid, with the replies that were on their way at a kill.
    fn shards(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let dir = self.place.path().join(name);
        let mut all = BTreeMap::new();
        for stage in ["topics", "pages", "images", "qa", "pack"] {
            for path in files(&dir.join(stage)) {
                let file = path.strip_prefix(&dir).expect("a file of the workspace").display().to_string();
                // The replies stand in the order in which they came, with their times; hidden files are leases.
                let is_lease = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
                let counts_tokens = file.ends_with(".done") || file == "pack/README.md" || file == "pack/manifest.json";
                if !file.contains(".replies.") && !is_lease && !counts_tokens {
                    all.insert(file, std::fs::read(&path).expect("a file"));
                }
            }
        }
        all
    }

    fn assert_same(&self, name: &str, expected: &BTreeMap<String, Vec<u8>>) {
        let found = self.shards(name);
        let only = |a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>| {
            a.keys().filter(|file| !b.contains_key(*file)).cloned().collect::<Vec<_>>()
        };
        assert_eq!((only(&found, expected), only(expected, &found)), (Vec::new(), Vec::new()), "{name}");
        for (file, bytes) in expected {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(4000).collect::<String>();
            assert!(&found[file] == bytes, "{name}/{file} differs:\n{}\n{}", text(&found[file]), text(bytes));
        }
    }

    /// Every request went where it may go, with a contact.
    fn assert_polite(&self) {
        for request in self.wiki.requests() {
            assert!(request.header("user-agent").contains("tests@example.org"), "{request:?}");
            let path = request.path();
            let allowed = path == "/robots.txt" || path == "/w/api.php" || path.starts_with("/images/");
            assert!(allowed, "{request:?}");
        }
        assert!(self.wiki.secret_requests().is_empty(), "{:?}", self.wiki.secret_requests());
    }
}

/// Sum of the numbers of an object.
fn sum(counts: &Value) -> u64 {
    counts.as_object().map_or(0, |all| all.values().filter_map(Value::as_u64).sum())
}

fn stage<'a>(status: &'a Value, name: &str) -> &'a Value {
    let stages = status["stages"].as_array().expect("stages");
    stages.iter().find(|stage| stage["stage"] == name).expect(name)
}

/// Lines of the JSON lines of a stage.
fn records(engine: &Engine, name: &str, stage: &str) -> Vec<Value> {
    let all = engine
        .shards(name)
        .into_iter()
        .filter(|(file, _)| file.starts_with(stage) && file.ends_with(".jsonl") && !file.contains(".rejected."));
    let lines = |(_, bytes): (String, Vec<u8>)| {
        let text = String::from_utf8(bytes).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    all.flat_map(lines).collect()
}

const FAST: &str = "requests_per_second = 5000.0";

#[test]
fn nothing_is_lost_without_a_reason_and_the_servers_are_asked_politely() {
    let engine = Engine::new(WikiOptions::default(), ChatOptions::default());
    engine.workspace("one", FAST, "", "");
    let said = engine.run("one");
    engine.assert_polite();
    let status = engine.status("one");
    for name in ["topics", "pages", "images", "qa", "pack"] {
        assert_eq!(stage(&status, name)["done"], status["shards"], "{said}{status:#}");
    }
    // Every figure of a page is an image or has a reason.
    let figures: usize = records(&engine, "one", "pages/").iter().flat_map(sections).map(|s| list(s, "figures")).sum();
    let images = stage(&status, "images");
    let kept: usize = records(&engine, "one", "images/").iter().flat_map(sections).map(|s| list(s, "figures")).sum();
    assert_eq!(images["items"].as_u64(), Some(figures as u64), "{images:#}");
    assert_eq!(kept as u64 + sum(&images["rejected"]), figures as u64, "{images:#}");
    let reasons: Vec<String> = images["rejected"].as_object().expect("reasons").keys().cloned().collect();
    for part in ["too small", "repeats", "benchmark"] {
        assert!(reasons.iter().any(|reason| reason.contains(part)), "{part}: {reasons:?}");
    }
    // Every image is a conversation or has a reason.
    let qa = stage(&status, "qa");
    let pairs = records(&engine, "one", "qa/").len() as u64;
    assert_eq!(qa["records"].as_u64(), Some(pairs), "{qa:#}");
    assert_eq!(pairs + sum(&qa["rejected"]), qa["items"].as_u64().expect("a number"), "{qa:#}");
    // The benchmark's image is on a page and in no data; neither are the repeated ones.
    let mentions = |stage: &str, word: &str| {
        let all = engine.shards("one");
        all.iter().any(|(file, bytes)| file.starts_with(stage) && String::from_utf8_lossy(bytes).contains(word))
    };
    assert!(mentions("pages/", "Chart_on_the_wall") && !mentions("pack/shard", "Chart_on_the_wall"));
    // Each image of the data has a licence, and a row in the attribution.
    let packed = records(&engine, "one", "pack/");
    assert!(packed.len() > 20, "{}", packed.len());
    let attribution = std::fs::read_to_string(engine.place.path().join("one/pack/attribution.csv")).expect("text");
    for entry in &packed {
        let image = entry["image"].as_str().expect("an image");
        assert!(engine.place.path().join("one/pack").join(image).is_file(), "{entry}");
        assert!(attribution.contains(image) || attribution.contains(entry["id"].as_str().unwrap_or(image)), "{image}");
    }
    // What is finished is not asked for again.
    let asked = engine.requests();
    engine.run("one");
    assert_eq!(engine.requests(), asked);
    // Burgess reads what it wrote.
    let shown = engine.place.run(&["data", "mix", "cambrian-10m", "--pool", "one/pack", "--dry-run", "--json"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
}

fn sections(page: &Value) -> Vec<&Value> {
    page["sections"].as_array().map_or_else(Vec::new, |all| all.iter().collect())
}

fn list(value: &Value, key: &str) -> usize {
    value[key].as_array().map_or(0, Vec::len)
}

/// Numbers that a seed chooses.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}

/// Kills runs until so many have been killed; the moments are numbers of requests to the servers, or short times after
/// the last question was answered. `same` compares a finished workspace. Returns how often each stage was killed.
fn killed(engine: &Engine, kills: usize, seed: u64, asked: u64, same: &dyn Fn(&str)) -> BTreeMap<String, usize> {
    let (mut draws, mut done, mut round) = (Draws(seed), 0, 0);
    let mut stages = BTreeMap::new();
    while done < kills {
        round += 1;
        let name = format!("killed-{round}");
        engine.workspace(&name, FAST, "", "");
        let dir = engine.place.path().join(&name);
        loop {
            let mut child = engine.start(&name);
            let limit = engine.requests() as u64 + draws.below(asked / 6 + 1);
            let late = draws.below(8) == 0;
            let pause = Duration::from_millis(draws.below(60));
            let deadline = Instant::now() + Duration::from_secs(120);
            let ended = loop {
                assert!(Instant::now() < deadline, "a run does not go on");
                if child.try_wait().expect("a child").is_some() {
                    break true;
                }
                let due = if late { is_packing(&dir) } else { engine.requests() as u64 >= limit };
                if due {
                    std::thread::sleep(pause);
                    break child.try_wait().expect("a child").is_some();
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            if ended || done == kills {
                let output = child.wait_with_output().expect("a child");
                assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
                break;
            }
            *stages.entry(open_stage(&dir)).or_default() += 1;
            let signal = if draws.below(2) == 0 { "KILL" } else { "TERM" };
            Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().expect("kill");
            let output = child.wait_with_output().expect("a child");
            assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
            done += 1;
        }
        same(&name);
    }
    stages
}

/// Whether all questions are written.
fn is_packing(dir: &Path) -> bool {
    dir.join("qa").is_dir()
        && files(&dir.join("qa")).iter().filter(|p| p.extension().is_some_and(|e| e == "done")).count() == 3
}

/// The first stage that is not finished.
fn open_stage(dir: &Path) -> String {
    let is_done = |stage: &&&str| {
        let dir = dir.join(stage);
        dir.is_dir() && files(&dir).iter().filter(|p| p.extension().is_some_and(|e| e == "done")).count() == 3
    };
    let stages = ["topics", "pages", "images", "qa", "pack"];
    stages.iter().find(|stage| !is_done(stage)).map_or("end", |stage| stage).to_string()
}

#[test]
fn twenty_kills_and_two_processes_give_the_shards_of_one_run() {
    let engine = Engine::new(WikiOptions { articles: 6, ..WikiOptions::default() }, ChatOptions::default());
    engine.workspace("whole", FAST, "", "");
    engine.run("whole");
    let asked = engine.requests() as u64;
    let whole = engine.shards("whole");
    let stages = killed(&engine, 20, 1, asked, &|name| engine.assert_same(name, &whole));
    eprintln!("kills by stage: {stages:?}");
    engine.workspace("two", FAST, "", "");
    let both = [engine.start("two"), engine.start("two")];
    for child in both {
        let output = child.wait_with_output().expect("a child");
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    }
    engine.assert_same("two", &whole);
    engine.assert_polite();
}

/// The same on the whole wiki with a hundred kills, then with faults of both servers and two processes of which one is
/// killed; about ten minutes:
///
/// ```sh
/// cargo test --release -p burgess-tests --test engine -- --ignored --nocapture
/// ```
#[test]
#[ignore = "takes minutes"]
fn a_hundred_kills_and_pairs_of_processes_give_the_shards_of_one_run() {
    let engine = Engine::new(WikiOptions::default(), ChatOptions::default());
    engine.workspace("whole", FAST, "", "");
    engine.run("whole");
    let asked = engine.requests() as u64;
    let whole = engine.shards("whole");
    let stages = killed(&engine, 100, 7, asked, &|name| engine.assert_same(name, &whole));
    eprintln!("kills by stage: {stages:?}");
    let mut draws = Draws(11);
    for round in 0..10 {
        // New servers, whose faults are not used up.
        let engine = faulty(round);
        let name = "pair";
        engine.workspace(name, FAST, "", "");
        let (mut first, second) = (engine.start(name), engine.start(name));
        std::thread::sleep(Duration::from_millis(draws.below(2500)));
        first.kill().ok();
        first.wait().expect("a child");
        let output = second.wait_with_output().expect("a child");
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
        engine.wiki.recover();
        engine.chat.recover();
        engine.workspace("whole", FAST, "", "");
        engine.run("whole");
        assert_eq!(conversations(&engine, name), conversations(&engine, "whole"));
        engine.assert_polite();
    }
}

/// Servers whose answers fail in the first attempts at many addresses and questions.
fn faulty(seed: u64) -> Engine {
    let faults = vec![
        Fault::status(500),
        Fault::retry_after(503, "0"),
        Fault::retry_after(429, "0"),
        Fault::Drop,
        Fault::Cut(200),
    ];
    let plan = Some(FaultPlan { seed, share: 0.3, attempts: 2, faults });
    let faults = vec![
        ChatFault::Malformed,
        ChatFault::Prose,
        ChatFault::Fenced,
        ChatFault::WrongSchema,
        ChatFault::Empty,
        ChatFault::Truncated,
        ChatFault::NoUsage,
        ChatFault::WrongUsage,
        ChatFault::WrongBody,
        ChatFault::ErrorBody,
        ChatFault::Http(Fault::status(500)),
        ChatFault::Http(Fault::retry_after(429, "0")),
        ChatFault::Http(Fault::Drop),
        ChatFault::Http(Fault::Cut(30)),
    ];
    let chat = ChatOptions { seed, share: 0.4, attempts: 2, faults, ..ChatOptions::default() };
    let engine = Engine::new(WikiOptions { plan, ..WikiOptions::default() }, chat);
    engine.wiki.fail("action=query", 2, Fault::maxlag(0));
    engine.wiki.fail("action=parse", 2, Fault::maxlag(0));
    engine
}

/// What a data set says, without how often was asked for it.
fn conversations(engine: &Engine, name: &str) -> BTreeSet<String> {
    let text = |entry: &Value| {
        let image = entry["image"].as_str().expect("an image").rsplit('/').next().unwrap_or_default().to_string();
        format!("{image} {}", entry["conversations"])
    };
    records(engine, name, "pack/").iter().map(text).collect()
}

#[test]
fn faults_of_both_servers_change_nothing_or_are_counted() {
    let good = Engine::new(WikiOptions::default(), ChatOptions { seed: 3, ..ChatOptions::default() });
    good.workspace("one", FAST, "", "");
    good.run("one");
    let bad = faulty(3);
    bad.workspace("one", FAST, "", "");
    bad.run("one");
    assert!(bad.wiki.requests().iter().any(|r| r.faulty) && bad.chat.requests().iter().any(|r| r.faulty));
    assert_eq!(conversations(&bad, "one"), conversations(&good, "one"));
    bad.assert_polite();

    // What never succeeds is rejected with its reason, and does not stop the others.
    let always = usize::MAX;
    let engine = Engine::new(WikiOptions::default(), ChatOptions::default());
    engine.chat.fail("lamp room of Skerry Point", always, ChatFault::Ungrounded);
    engine.chat.fail("northern anchorage", always, ChatFault::Refusal);
    engine.chat.fail("Maple leaf", always, ChatFault::Malformed);
    engine.chat.fail("Palmate veins", always, ChatFault::WrongSchema);
    engine.chat.fail("Sheets", always, ChatFault::Huge);
    engine.wiki.fail("Fresnel_lens_diagram", always, Fault::status(404));
    engine.wiki.fail("Cone_of_Tarvos", always, Fault::status(404));
    engine.wiki.fail("Eddystone_courses", always, Fault::ContentType("text/html".into()));
    engine.wiki.fail("Tower_profile", always, Fault::Html);
    engine.wiki.fail("Ash_layers", always, Fault::Truncate(500));
    engine.wiki.fail(
        "Comb_close_view",
        always,
        Fault::Redirect(format!("http://{}/x.png", engine.wiki.secret_authority())),
    );
    engine.workspace("one", FAST, "", "");
    let said = engine.run("one");
    let status = engine.status("one");
    let qa = stage(&status, "qa");
    assert_eq!(qa["records"].as_u64().unwrap() + sum(&qa["rejected"]), qa["items"].as_u64().unwrap(), "{qa:#}");
    assert!(sum(&qa["rejected"]) >= 3, "{said}{qa:#}");
    let images = stage(&status, "images");
    assert!(sum(&images["rejected"]) > sum(&stage(&good.status("one"), "images")["rejected"]), "{images:#}");
    let packed: String = conversations(&engine, "one").into_iter().collect();
    assert!(!packed.contains("Zenobia") && !packed.contains("lamp room of Skerry Point"));
    // The file is an image, whatever its header says.
    assert!(packed.contains("Dovetailed stones"), "{packed}");
    engine.assert_polite();
}

#[test]
fn the_work_stops_at_the_budget_and_goes_on_with_a_higher_one() {
    let engine = Engine::new(WikiOptions { articles: 6, ..WikiOptions::default() }, ChatOptions::default());
    engine.workspace("whole", FAST, "", "");
    engine.run("whole");
    let whole = engine.shards("whole");
    let asked = engine.chat.requests().len();
    engine.chat.clear_requests();
    let spent = |name: &str| {
        let status = engine.status(name);
        let sums = status["stages"].as_array().expect("stages").iter().map(|stage| &stage["spent"]["used"]);
        sums.map(|used| used["prompt_tokens"].as_u64().unwrap_or(0) + used["completion_tokens"].as_u64().unwrap_or(0))
            .sum::<u64>()
    };
    let needed = spent("whole");
    assert!(needed > 5000, "{needed}");
    // A request is reserved with more than it takes, so the work stops well before the end.
    let limit = needed / 2;
    engine.workspace("limited", FAST, "", &format!("[budget]\nmax_tokens = {limit}\n"));
    let dry = engine.call("run", "limited", &["--dry-run"]);
    assert!(dry.status.success() && stdout(&dry).contains("requests"), "{}{}", stdout(&dry), stderr(&dry));
    assert!(engine.chat.requests().is_empty());
    let stopped = engine.call("run", "limited", &[]);
    assert_eq!(stopped.status.code(), Some(1), "{}", stderr(&stopped));
    assert!(stderr(&stopped).contains("budget") || stderr(&stopped).contains("max_tokens"), "{}", stderr(&stopped));
    let first = engine.chat.requests();
    assert!(!first.is_empty() && first.len() < asked && spent("limited") <= limit, "{} of {asked}", first.len());
    engine.workspace("limited", FAST, "", "[budget]\nmax_tokens = 10000000\n");
    engine.run("limited");
    assert_eq!(engine.chat.requests().len(), asked, "no reply is paid for twice");
    let records = |shards: &BTreeMap<String, Vec<u8>>| -> BTreeMap<String, Vec<u8>> {
        shards.iter().filter(|(file, _)| file.ends_with(".jsonl")).map(|(f, b)| (f.clone(), b.clone())).collect()
    };
    assert_eq!(records(&engine.shards("limited")), records(&whole));
}

#[test]
fn the_rate_limit_holds_over_two_processes() {
    let engine = Engine::new(WikiOptions { articles: 3, ..WikiOptions::default() }, ChatOptions::default());
    engine.workspace("slow", "requests_per_second = 25.0", "", "");
    let both = [engine.start("slow"), engine.start("slow")];
    for child in both {
        let output = child.wait_with_output().expect("a child");
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    }
    let times: Vec<Duration> = engine.wiki.requests().iter().map(|r| r.at).collect();
    let (first, last) = (times.first().expect("requests"), times.last().expect("requests"));
    let least = Duration::from_millis(40) * (times.len() as u32 - 1);
    // A request may be late by some milliseconds, but never all of them early.
    assert!(*last - *first + Duration::from_millis(100) >= least, "{} requests in {:?}", times.len(), *last - *first);
}

#[test]
fn a_wiki_that_may_not_be_asked_leaves_the_work_open() {
    let engine = Engine::new(WikiOptions { articles: 3, ..WikiOptions::default() }, ChatOptions::default());
    engine.workspace("one", FAST, "", "");
    let file = engine.place.path().join("one/engine.toml");
    let right = std::fs::read_to_string(&file).expect("text");
    let host = engine.wiki.base_url().replace("http://", "");
    std::fs::write(&file, right.replace(&format!("allow_hosts = [\"{host}\"]"), "")).expect("written");
    let refused = engine.call("run", "one", &[]);
    assert_eq!(refused.status.code(), Some(1), "{}", stdout(&refused));
    assert!(stderr(&refused).contains("allow_hosts"), "{}", stderr(&refused));
    assert!(engine.wiki.requests().is_empty());
    // With the right settings the same command goes on.
    std::fs::write(&file, right).expect("written");
    engine.run("one");
    assert!(!records(&engine, "one", "pack/").is_empty());
}
