//! End-to-end tests: the `burgess` binary as a user runs it, in directories of their own.
//!
//! `golden/` holds values made by the reference libraries, `reference/` the scripts that made them. The
//! crates' own tests read both; nothing here needs Python or a network.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The binary under test: cargo builds it beside the test executables (`target/<profile>/burgess`).
///
/// # Panics
/// When it was not built, which `cargo test --workspace` always does.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests lie in target/<profile>/deps");
    let binary = profile.join(format!("burgess{}", std::env::consts::EXE_SUFFIX));
    assert!(binary.is_file(), "{} is not built: run `cargo test --release` for the whole workspace", binary.display());
    binary
}

/// What a user's environment may say about the hub and the way to it.
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

/// A directory of its own for one test: results, cache, home.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// An empty place.
    ///
    /// # Panics
    /// When there is no temporary directory.
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `burgess` with these arguments, started here, with a cache of its own and no colours.
    pub fn burgess(&self, args: &[&str]) -> Command {
        let mut command = self.here(Command::new(binary()));
        command.args(args);
        command
    }

    /// A line of `sh`, started here, in which `"$0"` is the binary.
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

    /// Runs it to its end.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub fn run(&self, args: &[&str]) -> Output {
        self.burgess(args).output().expect("burgess starts")
    }

    /// Writes a file here and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("a file in a temporary directory");
        path
    }
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
