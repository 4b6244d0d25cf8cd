//! `burgess fetch` against a local server with the hub's protocol.

mod hub;

use burgess_tests::{TestDir, stderr, stdout};
use hub::{COMMIT, Fault, Hub, git_sha1, sha256};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const TOKEN: &str = "hf_secret";
const CARD: &str = "dinov2-l14-518";
const CARD_FILE: &str = "facebook/dinov2-large/model.safetensors";

fn fetch(place: &TestDir, hub: &Hub, args: &[&str]) -> Command {
    let mut command = place.burgess(args);
    command.env("HF_ENDPOINT", hub.endpoint()).env("HF_TOKEN", TOKEN);
    command
}

fn run(place: &TestDir, hub: &Hub, args: &[&str]) -> Output {
    fetch(place, hub, args).output().expect("burgess starts")
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", stdout(output), stderr(output));
    stdout(output)
}

fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}{}", stdout(output), stderr(output));
    let text = stderr(output);
    assert!(text.contains("hint: ") && !text.contains(TOKEN) && !text.contains("Signature"), "{text}");
    text
}

/// Folder of a repository in the hub's cache.
fn folder(place: &TestDir, repository: &str) -> PathBuf {
    place.path().join("huggingface/hub").join(format!("models--{}", repository.replace('/', "--")))
}

/// Makes contents that are no valid weights, but large enough to be interrupted.
fn contents(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 % 251) as u8).collect()
}

/// Starts a hub with the weights of a card.
fn with_card(bytes: &[u8]) -> Hub {
    let hub = Hub::new();
    hub.put(CARD_FILE, bytes, true);
    hub
}

fn card_blob(place: &TestDir, bytes: &[u8]) -> PathBuf {
    folder(place, "facebook/dinov2-large").join("blobs").join(sha256(bytes))
}

fn incomplete(blob: &std::path::Path) -> PathBuf {
    blob.with_file_name(format!("{}.incomplete", blob.file_name().expect("a name").to_string_lossy()))
}

/// Starts a hub with a small, valid DINOv2.
fn with_model() -> (Hub, Vec<u8>) {
    let hub = Hub::new();
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/encoders/dinov2");
    let read = |name: &str| std::fs::read(golden.join(name)).expect("a golden file");
    hub.put("maker/small/config.json", &read("config.json"), false);
    hub.put("maker/small/preprocessor_config.json", &read("preprocessor_config.json"), false);
    hub.put("maker/small/README.md", b"# small", false);
    hub.put("maker/small/pytorch_model.bin", b"the same again", true);
    let weights = read("model.safetensors");
    hub.put("maker/small/model.safetensors", &weights, true);
    (hub, weights)
}

#[test]
fn a_model_of_the_hub_is_fetched_and_encodes() {
    let (place, (hub, weights)) = (TestDir::new(), with_model());
    image::RgbImage::new(40, 30).save(place.path().join("a.png")).expect("an image");
    let encode = ["encode", "a.png", "--encoder", "maker/small", "-o", "f.safetensors"];
    let before = failed(&place.run(&encode));
    assert!(before.contains("burgess fetch maker/small"), "{before}");

    let text = done(&run(&place, &hub, &["fetch", "maker/small"]));
    for (file, checked) in [("config.json", "git hash"), ("model.safetensors", "SHA-256")] {
        assert!(text.lines().any(|l| l.starts_with(file) && l.contains("fetched") && l.contains(checked)), "{text}");
    }
    let asked = hub.asked();
    assert!(!asked.iter().any(|a| a.path.contains("README") || a.path.contains(".bin")), "{asked:?}");
    let hosts: BTreeSet<&str> = asked.iter().map(|a| a.host.as_str()).collect();
    assert_eq!(hosts, BTreeSet::from(["127.0.0.1", "localhost"]));
    for request in asked {
        let expected = (request.host == "127.0.0.1").then(|| format!("Bearer {TOKEN}"));
        assert_eq!(request.token, expected, "the token is sent only to the hub: {} {}", request.host, request.path);
    }

    let cache = folder(&place, "maker/small");
    let link = cache.join("snapshots").join(COMMIT).join("model.safetensors");
    assert_eq!(std::fs::read(&link).expect("the weights"), weights);
    assert_eq!(std::fs::read_to_string(cache.join("refs/main")).expect("a branch"), COMMIT);
    #[cfg(unix)]
    assert_eq!(
        std::fs::read_link(&link).expect("a link"),
        PathBuf::from("../../blobs").join(sha256(&weights)),
        "a relative link, as by huggingface_hub"
    );
    assert_eq!(std::fs::read_dir(cache.join("blobs")).expect("blobs").count(), 3);

    assert!(done(&run(&place, &hub, &["fetch", "maker/small"])).contains("here already"));
    assert_eq!(hub.asked().len(), 1, "only the list of files is requested");
    done(&place.run(&encode));
    let pinned = format!("maker/small@{COMMIT}");
    let card: serde_json::Value =
        serde_json::from_str(&done(&place.run(&["encoders", &pinned, "--json"]))).expect("JSON");
    assert_eq!(card["card"]["source"]["revision"], COMMIT);
    assert_eq!(card["card"]["id"], "maker/small");
}

#[test]
fn a_card_is_fetched_once_and_then_here() {
    let (place, bytes) = (TestDir::new(), contents(5000));
    let hub = with_card(&bytes);
    let here = |id: &str| {
        let list = stdout(&place.run(&["encoders"]));
        list.lines().any(|l| l.starts_with(id) && !l.contains("not here"))
    };
    place.file("a.png", "");
    let text = failed(&place.run(&["encode", "a.png", "--encoder", CARD, "-o", "f.safetensors"]));
    assert!(text.contains(&format!("burgess fetch {CARD}")) && !here(CARD), "{text}");

    let plan = done(&run(&place, &hub, &["fetch", CARD, "--dry-run"]));
    assert!(plan.contains("5.00 kB  would be fetched"), "{plan}");
    assert!(!place.path().join("huggingface").exists(), "a dry run writes nothing");

    // Two cards share one file.
    let text = done(&run(&place, &hub, &["fetch", CARD, "dinov2-l14-336"]));
    assert_eq!(text.matches("SHA-256 as published").count(), 1, "{text}");
    assert!(here(CARD) && here("dinov2-l14-336") && !here("mae-l16"));
    hub.asked();
    let json: serde_json::Value =
        serde_json::from_str(&done(&run(&place, &hub, &["fetch", CARD, "--json"]))).expect("JSON");
    assert_eq!((&json[0]["files"][0]["state"], &json[0]["files"][0]["size"]), (&"here".into(), &5000.into()));
    assert_eq!(hub.asked(), [], "no request for files that are in the cache");
    let doctor = stdout(&run(&place, &hub, &["doctor", "--quick"]));
    assert!(doctor.contains(&format!("{}, with a token", hub.endpoint())) && !doctor.contains(TOKEN), "{doctor}");
    assert!(doctor.lines().any(|l| l.contains("published encoders") && l.contains(" 2 of ")), "{doctor}");
}

#[test]
fn a_branch_that_moved_is_fetched_when_asked_to() {
    let (place, (hub, weights)) = (TestDir::new(), with_model());
    done(&run(&place, &hub, &["fetch", "maker/small"]));
    let later = COMMIT.replace("00", "ff");
    hub.moves_to(&later);
    hub.put("maker/small/config.json", b"{}", false);
    hub.asked();
    let text = done(&run(&place, &hub, &["fetch", "maker/small", "--update"]));
    assert!(text.lines().any(|l| l.starts_with("model.safetensors") && l.contains("here already")), "{text}");
    assert!(!hub.asked().iter().any(|a| a.host == "localhost"), "the same weights are not fetched again");
    let cache = folder(&place, "maker/small");
    assert_eq!(std::fs::read_to_string(cache.join("refs/main")).expect("a branch"), later);
    let read = |commit: &str, name: &str| std::fs::read(cache.join("snapshots").join(commit).join(name)).expect(name);
    assert_eq!((read(&later, "config.json"), read(&later, "model.safetensors")), (b"{}".to_vec(), weights));
    assert_ne!(read(COMMIT, "config.json"), b"{}", "the older snapshot is not changed");
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let (place, bytes) = (TestDir::new(), contents(500_000));
    let hub = with_card(&bytes);
    // The first interruption is resumed in the same process.
    hub.breaks("GET /cdn/", 1, Fault::Cut(100_000));
    // The second interruption ends the process.
    hub.breaks("GET /cdn/", 1, Fault::Cut(200_000));
    hub.breaks("GET /cdn/", 1, Fault::Status(404, ""));
    failed(&run(&place, &hub, &["fetch", CARD]));
    let ranges = |hub: &Hub| -> Vec<String> {
        hub.asked().into_iter().filter(|a| a.host == "localhost").map(|a| a.range.unwrap_or_default()).collect()
    };
    assert_eq!(ranges(&hub), ["", "bytes=100000-", "bytes=300000-"]);
    let blob = card_blob(&place, &bytes);
    assert!(!blob.exists() && incomplete(&blob).metadata().expect("the part").len() == 300_000);
    // The next process resumes the download.
    let text = done(&run(&place, &hub, &["fetch", CARD]));
    assert!(text.contains("300.00 kB of it before"), "{text}");
    assert_eq!(ranges(&hub), ["bytes=300000-"]);
    assert_eq!(std::fs::read(&blob).expect("the weights"), bytes);
    assert!(!incomplete(&blob).exists());
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let (place, bytes) = (TestDir::new(), contents(500_000));
    let hub = with_card(&bytes);
    hub.breaks("GET /cdn/", 1, Fault::Cut(100_000));
    hub.breaks("GET /cdn/", 1, Fault::NoRange);
    done(&run(&place, &hub, &["fetch", CARD]));
    assert_eq!(std::fs::read(card_blob(&place, &bytes)).expect("the weights"), bytes);
    // A server that always restarts and disconnects is given up after a limited number of attempts.
    let place = TestDir::new();
    hub.breaks("GET /cdn/", 100, Fault::CutWhole(100_000));
    hub.asked();
    assert!(failed(&run(&place, &hub, &["fetch", CARD])).contains("broke off after 100000 "));
    assert_eq!(hub.asked().iter().filter(|a| a.host == "localhost").count(), 5);
}

#[test]
fn damaged_contents_never_get_their_final_name() {
    let (place, (hub, weights)) = (TestDir::new(), with_model());
    hub.breaks("GET /cdn/", 1, Fault::Corrupt);
    let text = failed(&run(&place, &hub, &["fetch", "maker/small"]));
    assert!(text.contains(&format!("the published file {}", sha256(&weights))), "{text}");
    let cache = folder(&place, "maker/small");
    let blob = cache.join("blobs").join(sha256(&weights));
    assert!(!blob.exists() && !incomplete(&blob).exists() && !cache.join("refs").exists());
    // Files that arrived undamaged are kept, and small files are verified too.
    assert!(cache.join("snapshots").join(COMMIT).join("config.json").is_file());
    done(&run(&place, &hub, &["fetch", "maker/small"]));
    let (place, small) = (TestDir::new(), "GET /maker/small/resolve/00112233445566778899aabbccddeeff00112233/config");
    hub.breaks(small, 1, Fault::Corrupt);
    assert!(failed(&run(&place, &hub, &["fetch", "maker/small"])).contains("digest"));
}

#[test]
fn refusals_say_what_to_do() {
    let (place, hub) = (TestDir::new(), with_card(&contents(100)));
    let say = |fault: Fault| {
        hub.recovers();
        hub.breaks("HEAD", 100, fault);
        failed(&run(&place, &hub, &["fetch", CARD]))
    };
    let gated = say(Fault::Status(403, "X-Error-Code: GatedRepo\nX-Error-Message: Access is restricted.\n"));
    assert!(gated.contains("restricted") && gated.contains("accept the terms at http") && gated.contains("HF_TOKEN"));
    assert!(gated.contains("/facebook/dinov2-large "), "{gated}");
    assert!(say(Fault::Status(401, "")).contains("401"));
    assert!(say(Fault::Status(404, "X-Error-Code: EntryNotFound\n")).contains("/tree/main"));
    let started = Instant::now();
    let busy = say(Fault::Status(429, "Retry-After: 9999\n"));
    assert!(busy.contains("429") && busy.contains("after 9999 s") && started.elapsed() < Duration::from_secs(5));
    hub.recovers();
    let nobody = failed(&run(&place, &hub, &["fetch", "nobody/nothing"]));
    assert!(nobody.contains("404") && nobody.contains("check the name"), "{nobody}");
    let unknown = place.run(&["fetch", "dinov2-l14-51"]);
    assert!(unknown.status.code() == Some(2) && stderr(&unknown).contains(CARD));
    let nowhere = fetch(&place, &hub, &["fetch", CARD]).env("HF_ENDPOINT", "hub").output().expect("burgess starts");
    assert!(nowhere.status.code() == Some(2) && stderr(&nowhere).contains("HF_ENDPOINT"));
    assert!(!folder(&place, "facebook/dinov2-large").join("snapshots").exists());
}

#[test]
fn passing_troubles_are_waited_out() {
    let (place, bytes) = (TestDir::new(), contents(100));
    let hub = with_card(&bytes);
    hub.breaks("GET /api/", 2, Fault::Status(503, ""));
    hub.breaks("HEAD", 1, Fault::Status(429, "Retry-After: 2\n"));
    hub.breaks("GET /cdn/", 1, Fault::Status(500, ""));
    let started = Instant::now();
    let output = run(&place, &hub, &["fetch", CARD]);
    done(&output);
    assert!(started.elapsed() >= Duration::from_secs(2), "the server asked for two seconds");
    assert!(stderr(&output).contains("next attempt in 2 s"), "{}", stderr(&output));
    // A server that sends nothing for longer than the timeout.
    let (place, url) = (TestDir::new(), format!("{}/files/x.pth", hub.endpoint()));
    hub.put("x.pth", &bytes, false);
    hub.breaks("GET /files/", 1, Fault::Slow(Duration::from_secs(30)));
    let started = Instant::now();
    let output = fetch(&place, &hub, &["fetch", &url]).env("HF_HUB_DOWNLOAD_TIMEOUT", "1").output();
    done(&output.expect("burgess starts"));
    assert!(started.elapsed() < Duration::from_secs(20), "the request was repeated");
    // The number of attempts is limited.
    hub.breaks("GET /api/", 100, Fault::Status(500, ""));
    hub.asked();
    let text = failed(&run(&place, &hub, &["fetch", "maker/other"]));
    assert!(text.contains("the server failed") && hub.asked().len() == 5, "{text}");
}

#[test]
fn offline_nothing_is_asked() {
    let (place, hub) = (TestDir::new(), with_card(&contents(100)));
    let offline = || fetch(&place, &hub, &["fetch", CARD]).env("HF_HUB_OFFLINE", "1").output().expect("burgess starts");
    assert!(failed(&offline()).contains("HF_HUB_OFFLINE"));
    assert_eq!(hub.asked(), []);
    done(&run(&place, &hub, &["fetch", CARD]));
    hub.asked();
    assert!(done(&offline()).contains("here already"));
    assert_eq!(hub.asked(), []);
}

#[test]
fn shards_come_with_their_index() {
    let (place, hub) = (TestDir::new(), Hub::new());
    let index =
        r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    hub.put("maker/big/config.json", b"{}", false);
    hub.put("maker/big/model.safetensors.index.json", index.as_bytes(), false);
    hub.put("maker/big/model-1.safetensors", b"one", true);
    let text = failed(&run(&place, &hub, &["fetch", "maker/big"]));
    assert!(text.contains("model-2.safetensors"), "{text}");
    hub.put("maker/big/model-2.safetensors", b"two", true);
    hub.put("maker/big/model-3.safetensors", b"not in the index", true);
    let plan = done(&run(&place, &hub, &["fetch", "maker/big", "--dry-run"]));
    assert_eq!(plan.matches("would be fetched").count(), 2, "{plan}");
    done(&run(&place, &hub, &["fetch", "maker/big"]));
    let snapshot = folder(&place, "maker/big").join("snapshots").join(COMMIT);
    assert!(snapshot.join("model-2.safetensors").is_file() && !snapshot.join("model-3.safetensors").exists());
    // A missing shard is detected and fetched again.
    std::fs::remove_file(folder(&place, "maker/big").join("blobs").join(sha256(b"two"))).expect("a blob");
    let text = failed(&place.run(&["encoders", "maker/big"]));
    assert!(text.contains("model-2.safetensors") && text.contains("burgess fetch maker/big"), "{text}");
    done(&run(&place, &hub, &["fetch", "maker/big"]));
    assert!(snapshot.join("model-2.safetensors").is_file());
}

#[test]
fn two_processes_fetch_a_file_once() {
    let (place, bytes) = (TestDir::new(), contents(300_000));
    let hub = with_card(&bytes);
    hub.breaks("GET /cdn/", 1, Fault::Slow(Duration::from_secs(2)));
    let start = || {
        use std::process::Stdio;
        let mut command = fetch(&place, &hub, &["fetch", CARD]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("burgess starts")
    };
    let both = [start(), start()].map(|child| child.wait_with_output().expect("burgess ends"));
    let texts = both.each_ref().map(done);
    assert_eq!(hub.asked().iter().filter(|a| a.host == "localhost").count(), 1, "{texts:?}");
    assert!(
        texts.iter().any(|t| t.contains("here already")) && texts.iter().any(|t| t.contains("SHA-256")),
        "{texts:?}"
    );
    assert!(both.iter().any(|o| stderr(o).contains("waiting for another process")));
    assert_eq!(std::fs::read(card_blob(&place, &bytes)).expect("the weights"), bytes);
}

/// `/dev/full` stands for a disk without space.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_leaves_nothing_half() {
    let (place, bytes) = (TestDir::new(), contents(1000));
    let hub = with_card(&bytes);
    let blob = card_blob(&place, &bytes);
    std::fs::create_dir_all(blob.parent().expect("a folder")).expect("a folder");
    std::os::unix::fs::symlink("/dev/full", incomplete(&blob)).expect("a link");
    let text = failed(&run(&place, &hub, &["fetch", CARD]));
    assert!(text.contains("No space left") && text.contains("HF_HUB_CACHE"), "{text}");
    assert!(!blob.exists() && !folder(&place, "facebook/dinov2-large").join("snapshots").exists());
    // A file larger than the free disk space is rejected before the download begins.
    hub.recovers();
    hub.breaks("HEAD", 1, Fault::Status(200, "X-Linked-Etag: \"aa\"\nX-Linked-Size: 1000000000000000000\n"));
    let text = failed(&run(&place, &hub, &["fetch", CARD]));
    assert!(text.contains("only") && text.contains("free"), "{text}");
}

#[test]
fn files_of_makers_servers_are_resumed_unless_they_changed() {
    let (place, bytes) = (TestDir::new(), contents(400_000));
    let hub = Hub::new();
    hub.put("sam.pth", &bytes, false);
    let url = format!("{}/files/sam.pth", hub.endpoint());
    let part_then_nothing = || {
        hub.recovers();
        hub.breaks("GET /files/", 1, Fault::Cut(100_000));
        hub.breaks("GET /files/", 1, Fault::Status(404, ""));
        failed(&run(&place, &hub, &["fetch", &url]));
        hub.asked();
    };
    let last = || hub.asked().pop().expect("a request");
    part_then_nothing();
    let text = done(&run(&place, &hub, &["fetch", &url]));
    assert!(text.contains("no digest") && text.contains("100.00 kB of it before"), "{text}");
    let request = last();
    assert_eq!(request.range.as_deref(), Some("bytes=100000-"));
    assert_eq!(request.if_range, Some(format!("\"{}\"", git_sha1(&bytes))));
    let path = PathBuf::from(text.trim().rsplit(": ").next().expect("the path"));
    assert!(path.starts_with(place.path().join("cache/weights")), "{text}");
    assert_eq!(std::fs::read(&path).expect("the file"), bytes);
    assert!(done(&run(&place, &hub, &["fetch", &url])).contains("here already") && hub.asked().is_empty());

    std::fs::remove_file(&path).expect("the file");
    part_then_nothing();
    let other: Vec<u8> = bytes.iter().map(|b| b ^ 1).collect();
    hub.put("sam.pth", &other, false);
    done(&run(&place, &hub, &["fetch", &url]));
    assert_eq!(
        std::fs::read(&path).expect("the file"),
        other,
        "the partial download of the old file is not continued with the new one"
    );
    let beside: Vec<_> = std::fs::read_dir(path.parent().expect("a folder")).expect("a folder").flatten().collect();
    assert_eq!(beside.len(), 3, "the file, its lock and its checksum: {beside:?}");
    // All requests went to the maker's server, and none to the content network.
    assert!(hub.asked().iter().all(|a| a.host == "127.0.0.1"));
}

#[test]
fn a_study_is_fetched_by_its_arms() {
    let (place, hub) = (TestDir::new(), with_card(&contents(100)));
    let nano = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../experiments/studies/nano.toml");
    let nano = std::fs::read_to_string(nano).expect("the study");
    place.file("mine.toml", &nano.replacen("\"nano-siglip\"", &format!("\"{CARD}\""), 1));
    let text = done(&run(&place, &hub, &["fetch", "--study", "mine.toml"]));
    assert!(text.contains("fetched, SHA-256") && text.contains("nano-sup.safetensors"), "{text}");
}

#[test]
fn what_a_hostile_hub_says_stays_in_the_cache() {
    let (place, hub) = (TestDir::new(), Hub::new());
    hub.put("maker/evil/../../x.json", b"{}", false);
    assert!(failed(&run(&place, &hub, &["fetch", "maker/evil"])).contains("../../x.json"));
    hub.put("maker/worse/model.safetensors", b"{}", true);
    hub.breaks("HEAD", 1, Fault::Status(200, "ETag: \"../../../x\"\n"));
    assert!(failed(&run(&place, &hub, &["fetch", "maker/worse"])).contains("etag"));
    hub.put("maker/index/model.safetensors.index.json", br#"{"weight_map": {"a": "../x"}}"#, false);
    assert!(
        failed(&run(&place, &hub, &["fetch", "maker/index"])).contains("expected the name of a file in its directory")
    );
    hub.put("maker/moved/model.safetensors", b"{}", true);
    hub.breaks("GET /maker/moved", 1, Fault::Status(302, "Location: file:///etc/passwd\n"));
    assert!(
        failed(&run(&place, &hub, &["fetch", "maker/moved"])).contains("redirects to an address that is not allowed")
    );
}

#[test]
fn what_is_cut_off_in_the_cache_is_fetched_again() {
    let (place, (hub, weights)) = (TestDir::new(), with_model());
    done(&run(&place, &hub, &["fetch", "maker/small"]));
    let blob = folder(&place, "maker/small").join("blobs").join(sha256(&weights));
    hub.asked();
    done(&run(&place, &hub, &["fetch", "maker/small"]));
    assert!(!hub.asked().iter().any(|a| a.method == "GET" && a.path.contains("resolve")), "nothing is fetched twice");
    for bytes in [weights[..weights.len() / 2].to_vec(), [&weights[1..], &[0]].concat()] {
        std::fs::write(&blob, bytes).expect("the blob");
        let offline =
            fetch(&place, &hub, &["fetch", "maker/small"]).env("HF_HUB_OFFLINE", "1").output().expect("starts");
        assert!(failed(&offline).contains("differs from the published file"));
        let plan = done(&run(&place, &hub, &["fetch", "maker/small", "--dry-run"]));
        assert!(plan.lines().any(|l| l.starts_with("model.safetensors") && l.contains("would be fetched")), "{plan}");
        let output = run(&place, &hub, &["fetch", "maker/small"]);
        assert!(done(&output).contains("SHA-256 as published") && stderr(&output).contains("is damaged:"));
        assert_eq!(std::fs::read(&blob).expect("the blob"), weights);
    }
    // A maker's server gives no digest: the digest of the received file is stored.
    let bytes = contents(5000);
    hub.put("weights.bin", &bytes, false);
    let url = format!("{}/files/weights.bin", hub.endpoint());
    let text = done(&run(&place, &hub, &["fetch", &url]));
    let file = PathBuf::from(text.lines().last().and_then(|l| l.rsplit_once(": ")).expect("a path").1);
    assert_eq!(std::fs::read(&file).expect("the file"), bytes);
    std::fs::write(&file, &bytes[..4000]).expect("the file");
    let output = run(&place, &hub, &["fetch", &url]);
    assert!(stderr(&output).contains("weights.bin is damaged:"), "{}", stderr(&output));
    assert_eq!((done(&output).contains("fetched"), std::fs::read(&file).expect("the file")), (true, bytes));
}

#[test]
fn no_server_takes_more_than_the_limits() {
    let bytes = contents(40_000);
    let hub = with_card(&bytes);
    // A server that keeps sending slowly runs into the time limit, and the received part is kept.
    let place = TestDir::new();
    hub.breaks("GET /cdn/", 1, Fault::Drip(Duration::from_millis(5)));
    let started = Instant::now();
    let text = failed(&run(&place, &hub, &["fetch", CARD, "--time-limit", "2s"]));
    assert!(text.contains("the time limit of 2s is over") && text.contains("the received bytes are kept"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(incomplete(&card_blob(&place, &bytes)).metadata().expect("the part").len() > 0);
    hub.breaks("GET /api", 1, Fault::Drip(Duration::from_millis(100)));
    let place = TestDir::new();
    assert!(failed(&run(&place, &hub, &["fetch", CARD, "--time-limit", "1s"])).contains("time limit"));
    // Circular redirects.
    hub.recovers();
    hub.breaks("HEAD", 100, Fault::Status(302, "Location: /facebook/dinov2-large/resolve/x\n"));
    assert!(failed(&run(&place, &hub, &["fetch", CARD])).contains("redirects more than"));
    // A compressed answer that was not requested.
    hub.recovers();
    hub.breaks("GET /cdn/", 1, Fault::Status(200, "Content-Encoding: gzip\n"));
    assert!(failed(&run(&place, &hub, &["fetch", CARD])).contains("compressed (gzip)"));
    // An answer without a size.
    hub.recovers();
    hub.put("weights.bin", &bytes, false);
    let url = format!("{}/files/weights.bin", hub.endpoint());
    hub.breaks("/files/", 4, Fault::NoLength);
    let text = failed(&run(&place, &hub, &["fetch", &url, "--max-size", "30kB"]));
    assert!(text.contains("sends more than 30.00 kB") && text.contains("BURGESS_FETCH_MAX_SIZE"), "{text}");
    let text = done(&run(&place, &hub, &["fetch", &url, "--max-size", "50kB"]));
    assert!(text.contains("neither digest nor size"), "{text}");
    for bad in [["--time-limit", "0"], ["--max-size", "much"]] {
        let output = run(&place, &hub, &[["fetch", CARD], bad].concat());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
}
