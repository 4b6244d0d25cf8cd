//! End-to-end tests, which run the `burgess` binary like a user, each in a temporary directory.
//!
//! `golden/` holds reference values from the original libraries, and `reference/` the scripts that made them. The tests
//! of the crates read them too; no test needs Python or a network.

pub mod browser;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Path of the binary under test, which cargo builds beside the test executables (`target/<profile>/burgess`).
///
/// # Panics
/// The binary is not built; `cargo test --workspace` always builds it.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests lie in target/<profile>/deps");
    let binary = profile.join(format!("burgess{}", std::env::consts::EXE_SUFFIX));
    assert!(binary.is_file(), "{} is not built: run `cargo test --release` for the whole workspace", binary.display());
    binary
}

/// Environment variables about the hub, which are removed so that a user's settings do not affect tests.
const HUB: [&str; 9] = [
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "HF_HUB_DOWNLOAD_TIMEOUT",
];

/// A temporary directory for one test, with its own results, cache and home.
pub struct TestDir {
    dir: tempfile::TempDir,
}

impl Default for TestDir {
    fn default() -> Self {
        Self::new()
    }
}

impl TestDir {
    /// Makes an empty temporary directory.
    ///
    /// # Panics
    /// The temporary directory cannot be created.
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Prepares a call of `burgess` with these arguments, in this directory with its own cache and without colours.
    pub fn burgess(&self, args: &[&str]) -> Command {
        let mut command = self.here(Command::new(binary()));
        command.args(args);
        command
    }

    /// Prepares a call of `sh` with this command line, in this directory; `"$0"` is the binary.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = self.here(Command::new("sh"));
        command.args(["-c", line]).arg(binary());
        command
    }

    fn here(&self, mut command: Command) -> Command {
        command
            .current_dir(self.path())
            .env("BURGESS_CACHE", self.path().join("cache"))
            .env("HF_HOME", self.path().join("huggingface"))
            .env("NO_PROXY", "*")
            .env("NO_COLOR", "1")
            .env("COLUMNS", "100")
            .env_remove("BURGESS_ZOO");
        for name in HUB {
            command.env_remove(name);
        }
        command
    }

    /// Runs `burgess` with these arguments and waits for its end.
    ///
    /// # Panics
    /// The binary cannot be started.
    pub fn run(&self, args: &[&str]) -> Output {
        self.burgess(args).output().expect("burgess starts")
    }

    /// Writes a file into this directory and returns its path.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("a file in a temporary directory");
        path
    }
}

/// Standard output of a process as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error of a process as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All files below a directory, sorted.
///
/// # Panics
/// A directory cannot be read.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Removes what may differ between two runs from the content of `results.json`: times, dates, memory, throughput.
///
/// # Panics
/// The value has no results.
pub fn remove_measured(results: &mut Value) {
    results["date"] = Value::Null;
    for key in ["train_seconds", "images_per_second", "peak_memory_bytes"] {
        results["cost"][key] = Value::Null;
    }
    for (_, benchmark) in results["results"].as_object_mut().expect("results") {
        benchmark["seconds"] = Value::Null;
    }
}
