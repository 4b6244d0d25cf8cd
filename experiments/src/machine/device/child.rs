//! Work in a child process: a driver that crashes or hangs does not take this process along.

use burgess_base::{Context, Result};
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// What a child process is asked for. It answers with JSON on standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildRequest {
    /// The adapters, as a list of [`Adapter`](super::Adapter).
    Adapters,
    /// The self-test of the device with this name, as a [`SelfTest`](super::SelfTest).
    SelfTest(String),
}

/// Builds the command that answers a request: this program with the arguments for it.
type Program = fn(&ChildRequest) -> Result<Command>;

static PROGRAM: OnceLock<Program> = OnceLock::new();

/// Tells how this program is called to answer a request. Without this, for instance in unit tests, the work is done in
/// this process.
pub fn register_program(program: fn(&ChildRequest) -> Result<Command>) {
    // Only the first call counts.
    let _ = PROGRAM.set(program);
}

/// Whether requests are answered by child processes.
pub(super) fn has_program() -> bool {
    PROGRAM.get().is_some()
}

/// How a child process failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildFailure {
    /// A signal ended it, with its last lines on standard error.
    Crashed {
        /// Number of the signal.
        signal: i32,
        /// The last lines on standard error.
        said: String,
    },
    /// It did not end in this time and was killed.
    TooSlow {
        /// The time limit.
        limit: Duration,
        /// The last lines on standard error.
        said: String,
    },
    /// It reported an error.
    Failed {
        /// The exit code.
        code: i32,
        /// The last lines on standard error.
        said: String,
    },
    /// It could not be started, or its answer is not understood.
    Broken(String),
}

impl fmt::Display for ChildFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match self {
            ChildFailure::Crashed { signal, said } => {
                write!(f, "the driver crashed with signal {signal}{}", signal_name(*signal))?;
                said
            }
            ChildFailure::TooSlow { limit, said } => {
                write!(f, "the driver did not answer within {} seconds", limit.as_secs())?;
                said
            }
            ChildFailure::Failed { code, said } => {
                write!(f, "exit code {code}")?;
                said
            }
            ChildFailure::Broken(text) => return f.write_str(text),
        };
        if said.is_empty() { Ok(()) } else { write!(f, "; it printed: {said}") }
    }
}

/// Name and meaning of a signal that a faulty driver causes.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL, invalid instruction)",
        6 => " (SIGABRT, aborted)",
        7 => " (SIGBUS, invalid memory access)",
        8 => " (SIGFPE, invalid arithmetic)",
        9 => " (SIGKILL, killed: perhaps out of memory)",
        11 => " (SIGSEGV, invalid memory access)",
        _ => "",
    }
}

/// Asks a child process. Returns `None` if there is no program to start.
///
/// # Errors
/// This process was asked to stop.
pub fn ask<T: DeserializeOwned>(request: &ChildRequest, limit: Duration) -> Result<Option<Result<T, ChildFailure>>> {
    let Some(program) = PROGRAM.get() else { return Ok(None) };
    let answer = output(program(request)?, limit);
    // Ctrl-C in a terminal reaches the child too.
    crate::machine::stop::check()?;
    Ok(Some(answer.and_then(|bytes| {
        burgess_base::json::from_slice(&bytes)
            .map_err(|e| ChildFailure::Broken(format!("the answer of the child process is not understood: {e}")))
    })))
}

/// Runs a command and returns its standard output.
pub fn output(mut command: Command, limit: Duration) -> Result<Vec<u8>, ChildFailure> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = |child: std::io::Result<Child>| child.context("starting a child process");
    let mut child = start(command.spawn()).map_err(|e| ChildFailure::Broken(e.to_string()))?;
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let status = wait(&mut child, limit);
    // What the child started may hold the pipes open for longer than it lives.
    let received = |pipe: Option<Receiver<Vec<u8>>>| {
        pipe.and_then(|pipe| pipe.recv_timeout(Duration::from_secs(2)).ok()).unwrap_or_default()
    };
    let (bytes, said) = (received(stdout), last_lines(&received(stderr)));
    match status.map_err(|e| ChildFailure::Broken(format!("waiting for a child process: {e}")))? {
        None => Err(ChildFailure::TooSlow { limit, said }),
        Some(status) if status.success() => Ok(bytes),
        Some(status) => Err(match (signal(status), status.code()) {
            (Some(signal), _) => ChildFailure::Crashed { signal, said },
            (None, code) => ChildFailure::Failed { code: code.unwrap_or(-1), said },
        }),
    }
}

/// Waits until the child ends, or kills it after the limit.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause.min(limit.saturating_sub(start.elapsed())));
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Reads a pipe to its end in a thread.
fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is kept.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// The last three lines of what a child printed, in one line.
fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default();
    last.join(" / ")
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_: ExitStatus) -> Option<i32> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn answers_crashes_errors_and_hangs_are_told_apart() {
        let limit = Duration::from_secs(20);
        assert_eq!(output(shell("echo '[]'; echo note >&2"), limit), Ok(b"[]\n".to_vec()));
        let crashed = output(shell("echo 'UNREACHABLE: TypePointer' >&2; kill -SEGV $$"), limit).unwrap_err();
        assert_eq!(
            crashed.to_string(),
            "the driver crashed with signal 11 (SIGSEGV, invalid memory access); it printed: UNREACHABLE: TypePointer"
        );
        let failed = output(shell("printf 'a\\nb\\nc\\nd\\n' >&2; exit 3"), limit).unwrap_err();
        assert_eq!(failed, ChildFailure::Failed { code: 3, said: "b / c / d".into() });
        let slow = output(shell("echo waiting >&2; exec sleep 60"), Duration::from_millis(50)).unwrap_err();
        assert!(matches!(&slow, ChildFailure::TooSlow { said, .. } if said == "waiting"), "{slow}");
        assert!(matches!(output(Command::new("/no/such/program"), limit), Err(ChildFailure::Broken(_))));
    }
}
