//! Refuses devices that crash, hang or compute something else than the CPU. The outcome of a successful self-test is
//! kept in the cache directory.

use super::child::{self, ChildRequest};
use super::name::DeviceName;
use super::self_test::{SelfTest, self_test};
use super::{fingerprint, identity};
use crate::machine::paths;
use burgess_base::{Context, Error, Result, atomic, digest};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest duration of a self-test. Software adapters on a busy machine need most of it; a driver that hangs uses it
/// up.
const LIMIT: Duration = Duration::from_secs(600);

/// What a self-test found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Name of the device.
    pub device: String,
    /// What identifies the device; see [`fingerprint`].
    pub fingerprint: String,
    /// The comparisons; `None` if the process that made them crashed or hung.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<SelfTest>,
    /// How the process ended that made the comparisons, if it gave no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Verdict {
    /// Whether the device computes what the CPU computes.
    pub fn passed(&self) -> bool {
        self.test.as_ref().is_some_and(SelfTest::passed)
    }

    /// The outcome in a few words.
    pub fn summary(&self) -> String {
        match (&self.test, &self.failure) {
            (Some(test), _) => test.summary(),
            (None, Some(failure)) => failure.clone(),
            (None, None) => "not tested".into(),
        }
    }

    /// The error of a device that must not be used.
    fn error(&self) -> Error {
        Error::failed(format!("device `{}` fails its self-test: {}", self.device, self.summary()))
            .hint(format!("update the driver, choose another device, or use flex; the device is {}", self.fingerprint))
    }
}

/// Checks that a device computes what the CPU computes, before anything is computed on it: runs a self-test in a child
/// process, or recalls that it succeeded with the same device, driver and binary. Does nothing for flex.
///
/// # Errors
/// The name is invalid, there is no such device, or the self-test crashes, hangs or finds a difference.
pub fn verify(name: &str) -> Result<()> {
    if DeviceName::parse(name)? == DeviceName::Flex {
        return Ok(());
    }
    let verdict = verdict(name, true)?;
    if verdict.passed() { Ok(()) } else { Err(verdict.error()) }
}

/// Runs the self-test of a device in a child process where there is a program to start, or recalls with `cached` that
/// it succeeded before. A failure is recalled within this process only: the driver may have been replaced, or the
/// machine busy.
///
/// # Errors
/// The name is invalid, there is no such device, or this process was asked to stop.
pub fn verdict(name: &str, cached: bool) -> Result<Verdict> {
    static KNOWN: Mutex<Option<HashMap<String, Verdict>>> = Mutex::new(None);
    let fingerprint = fingerprint(name)?;
    // One test at a time: two would slow each other down.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(verdict) = known.get(name).filter(|_| cached) {
        return Ok(verdict.clone());
    }
    let file = file(name, &fingerprint)?;
    // An unreadable file is a test that has to be done again.
    let kept = file.as_ref().filter(|_| cached).and_then(|file| atomic::read_json::<Verdict>(file).ok());
    if let Some(kept) = kept.filter(|kept| kept.passed() && kept.fingerprint == fingerprint) {
        known.insert(name.to_string(), kept.clone());
        return Ok(kept);
    }
    let (test, failure) = match child::ask(&ChildRequest::SelfTest(name.to_string()), LIMIT)? {
        None => (Some(self_test(name, &|_| {})?), None),
        Some(Ok(test)) => (Some(test), None),
        Some(Err(failure)) => (None, Some(failure.to_string())),
    };
    let verdict = Verdict { device: name.to_string(), fingerprint, test, failure };
    match &file {
        Some(file) if verdict.passed() => atomic::write_json(file, &verdict).context("keeping a self-test")?,
        Some(file) if file.exists() => std::fs::remove_file(file).context("forgetting a self-test")?,
        _ => {}
    }
    known.insert(name.to_string(), verdict.clone());
    Ok(verdict)
}

/// The file that keeps the outcome for a device and this binary; `None` where no child process is asked.
fn file(name: &str, fingerprint: &str) -> Result<Option<PathBuf>> {
    if !child::has_program() {
        return Ok(None);
    }
    let program = std::env::current_exe().context("finding the running program")?;
    let program = digest::of_file(&program)?;
    let key = digest::of_value(&(name, fingerprint, program, identity::VERSIONS))?;
    let dir = paths::cache()?.join("devices");
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(Some(dir.join(format!("{key}.json"))))
}
