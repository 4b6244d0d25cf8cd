//! Runs a target's inputs in a child process, enforces the limits, and saves inputs that fail.

use crate::child::{self, Inputs};
use crate::{FuzzTarget, MEMORY, SECONDS};
use burgess_base::{Error, Result, text};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Number of different failures after which a target is stopped.
const MOST_FAILURES: usize = 12;
/// Number of ended processes after which a target is stopped.
const MOST_LOST: usize = 60;
/// Seconds without progress, at any processor time, after which a process counts as stuck, as when it waits for a pipe.
const STUCK: u64 = 300;

/// Result of a target's run.
#[derive(Debug, Default)]
pub struct TargetOutcome {
    /// Number of inputs that were run.
    pub inputs: u64,
    /// Number of inputs that were parsed without an error.
    pub read: u64,
    /// Number of inputs that were rejected with an error.
    pub refused: u64,
    /// Failures, one of each kind.
    pub failures: Vec<FuzzFailure>,
    /// Number of processes that ended early.
    pub lost: usize,
    /// Duration in seconds.
    pub seconds: f64,
}

/// An input that failed.
#[derive(Debug)]
pub struct FuzzFailure {
    /// Description of the failure, one line.
    pub what: String,
    /// Number of the input under the seed.
    pub number: u64,
    /// Path of the saved input.
    pub saved: PathBuf,
    /// Command that runs the input again.
    pub command: String,
}

/// Runs `count` inputs of a target in processes of `program`, which is this crate's binary.
///
/// # Errors
/// A process cannot be started, or the target has no corpus.
pub fn target(program: &Path, target: &'static FuzzTarget, seed: u64, count: u64) -> Result<TargetOutcome> {
    let start = Instant::now();
    let mut outcome = TargetOutcome::default();
    let mut next = 0;
    while next < count {
        let dir = scratch()?;
        let args = [
            "--child".to_string(),
            target.name.to_string(),
            format!("--seed={seed}"),
            format!("--from={next}"),
            format!("--inputs={}", count - next),
            format!("--scratch={}", dir.path().display()),
        ];
        let ended = watched(program, &args, dir.path(), seconds(target))?;
        let progress = progress(dir.path());
        let [_, read, refused] = progress.unwrap_or_default();
        outcome.read += read;
        outcome.refused += refused;
        if ended.what.is_empty() {
            outcome.inputs += count - next;
            break;
        }
        let Some(number) = progress.map(|[number, ..]| number).filter(|n| (next..count).contains(n)) else {
            return Err(Error::failed(format!("the process of {} did not start: {}", target.name, ended.what)));
        };
        outcome.lost += 1;
        outcome.inputs += number + 1 - next;
        next = number + 1;
        if !outcome.failures.iter().any(|f| alike(&f.what, &ended.what)) {
            outcome.failures.push(keep(target, seed, number, ended.what)?);
        }
        if outcome.failures.len() >= MOST_FAILURES || outcome.lost >= MOST_LOST {
            break;
        }
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Runs one input from a file in a child process. Returns its output, or the failure.
///
/// # Errors
/// The process cannot be started.
pub fn file(program: &Path, target: &FuzzTarget, file: &Path, beside: Option<&Path>) -> Result<Result<String, String>> {
    let dir = scratch()?;
    let beside = beside.unwrap_or(file);
    let args = [
        "--child".to_string(),
        target.name.to_string(),
        format!("--file={}", file.display()),
        format!("--beside={}", beside.display()),
        format!("--scratch={}", dir.path().display()),
    ];
    let ended = watched(program, &args, dir.path(), seconds(target))?;
    Ok(if ended.what.is_empty() { Ok(ended.output) } else { Err(ended.what) })
}

/// Makes a temporary directory, in memory if possible.
fn scratch() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    Ok(made?)
}

/// Limit of processor time in seconds; targets that fail on purpose have a shorter one.
fn seconds(target: &FuzzTarget) -> u64 {
    if target.name.starts_with("fault-") { 1 } else { SECONDS }
}

struct Ended {
    /// Description of the failure; empty if there is none.
    what: String,
    output: String,
}

fn watched(program: &Path, args: &[String], dir: &Path, seconds: u64) -> Result<Ended> {
    let (out, err) = (dir.join("stdout"), dir.join("stderr"));
    let mut command = limited(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?)
        .env("RAYON_NUM_THREADS", "2")
        .env("MALLOC_ARENA_MAX", "1")
        .env("NO_COLOR", "1")
        .env("BURGESS_CACHE", dir.join("cache"))
        .env("HF_HOME", dir.join("hub"))
        .env_remove("BURGESS_ZOO");
    let mut child = command.spawn()?;
    let slow = wait(&mut child, dir, seconds)?;
    let status = child.wait()?;
    let said = String::from_utf8_lossy(&fs::read(&err)?).into_owned();
    let output = String::from_utf8_lossy(&fs::read(&out)?).into_owned();
    let what = match slow {
        Some(slow) => slow,
        None if status.success() => String::new(),
        None => format!("{}: {}", ending(status), text::excerpt(first_lines(&said).trim(), 600)),
    };
    Ok(Ended { what, output })
}

fn first_lines(said: &str) -> String {
    said.lines().filter(|line| !line.trim().is_empty()).take(4).collect::<Vec<_>>().join(" | ")
}

/// Prepares the program with a limited address space, on systems with a shell that can limit it.
fn limited(program: &Path) -> Command {
    if cfg!(unix) {
        let mut command = Command::new("sh");
        let limit = format!("ulimit -c 0; ulimit -v {} && exec \"$0\" \"$@\"", MEMORY >> 10);
        command.args(["-c", &limit]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Waits for the end of a process. Kills it if one input takes too long, and returns a description.
fn wait(child: &mut Child, dir: &Path, seconds: u64) -> Result<Option<String>> {
    let (mut at, mut since, mut used) = (None, Instant::now(), 0.0);
    let mut pause = Duration::from_millis(1);
    loop {
        if child.try_wait()?.is_some() {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
        let now = progress(dir).map(|[number, ..]| number);
        if now != at {
            (at, since, used) = (now, Instant::now(), processor(child.id()));
        }
        let busy = processor(child.id()) - used;
        let stuck = since.elapsed().as_secs() > STUCK;
        if busy > seconds as f64 || stuck {
            child.kill()?;
            let what = if stuck { "nothing happens any more" } else { "more processor time than an input may take" };
            return Ok(Some(format!("slow: {what} ({seconds} s)")));
        }
    }
}

/// Processor time of a process in seconds, from Linux's `/proc`; 0 elsewhere.
fn processor(id: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The process name, in parentheses, may contain spaces and parentheses.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Reads the child's progress: the number of the present input, and how many before it were parsed and rejected.
fn progress(dir: &Path) -> Option<[u64; 3]> {
    let bytes = fs::read(dir.join(child::NUMBER)).ok()?;
    let (numbers, []) = bytes.as_chunks::<8>() else { return None };
    <[u64; 3]>::try_from(numbers.iter().map(|n| u64::from_le_bytes(*n)).collect::<Vec<_>>()).ok()
}

fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(child::PANIC) => "panic".into(),
        Some(child::MESSAGE) => "message".into(),
        Some(code) => format!("exit code {code}"),
        None => format!("{status}"),
    }
}

/// Whether two failures are of one kind: their descriptions begin alike, except for digits.
fn alike(a: &str, b: &str) -> bool {
    let shape = |text: &str| {
        let kept = text.split(" characters: ").last().unwrap_or(text);
        let head = text.chars().take(12).collect::<String>();
        head + &kept.chars().filter(|c| !c.is_ascii_digit()).take(70).collect::<String>()
    };
    shape(a) == shape(b)
}

/// Saves an input in a directory beside the binary.
fn keep(target: &'static FuzzTarget, seed: u64, number: u64, what: String) -> Result<FuzzFailure> {
    let (bytes, origin) = Inputs::new(target, seed)?.get(number);
    let dir = std::env::current_exe()?.parent().unwrap_or(Path::new(".")).join("fuzz-failures");
    fs::create_dir_all(&dir)?;
    let saved = dir.join(format!("{}-{seed}-{number}", target.name));
    fs::write(&saved, bytes)?;
    let command = format!(
        "cargo run --release -p burgess-fuzz -- {} --file '{}' --beside '{}'",
        target.name,
        saved.display(),
        origin.display()
    );
    Ok(FuzzFailure { what, number, saved, command })
}
