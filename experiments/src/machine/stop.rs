//! Signals that ask to stop: SIGINT (Ctrl-C), SIGTERM (schedulers) and SIGHUP (a closed terminal).
//!
//! Resumable work runs inside a [`section`] and calls [`check`] at every step: after a signal it saves its state and
//! returns [`Error::interrupted`]. Outside sections a signal ends the process at once; a second signal always does. The
//! exit code is 128 plus the signal's number, and a message says how to resume.

use crate::machine::{shell, terminal};
use burgess_base::{Error, Result};
use std::ffi::OsString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Number of sections that are entered at present.
static SECTIONS: AtomicUsize = AtomicUsize::new(0);
/// Number of the received signal; 0 before.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Whether the command resumes its work when it is started again.
static RESUMES: OnceLock<bool> = OnceLock::new();

/// A section: work that saves its state after a signal, while this value lives.
#[derive(Debug)]
pub struct Section(());

impl Drop for Section {
    fn drop(&mut self) {
        SECTIONS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Enters a section, in which a signal does not end the process at once.
///
/// # Errors
/// A signal was received before.
pub fn section() -> Result<Section> {
    SECTIONS.fetch_add(1, Ordering::SeqCst);
    let section = Section(());
    check().map(|()| section)
}

/// Whether a signal asked to stop.
pub fn requested() -> bool {
    SIGNAL.load(Ordering::SeqCst) != 0
}

/// Returns an error if a signal asked to stop.
///
/// # Errors
/// A signal was received.
pub fn check() -> Result<()> {
    if requested() { Err(Error::interrupted()) } else { Ok(()) }
}

/// Exit code after a signal: 128 plus its number; `None` without a signal.
pub fn exit_code() -> Option<u8> {
    u8::try_from(SIGNAL.load(Ordering::SeqCst)).ok().filter(|s| *s != 0).map(|s| 128 + s)
}

/// Message after a signal, with the command that resumes or restarts the work.
pub fn message() -> String {
    let name = match SIGNAL.load(Ordering::SeqCst) {
        1 => "SIGHUP",
        2 => "SIGINT",
        15 => "SIGTERM",
        _ => "a signal",
    };
    let command = command_line(std::env::args_os());
    match RESUMES.get() {
        Some(true) => format!("stopped by {name}; finished work is saved. To resume: {command}"),
        _ => format!("stopped by {name}; unfinished work is not saved. To start again: {command}"),
    }
}

/// Formats a command so that it can be typed into a shell.
fn command_line(words: impl Iterator<Item = OsString>) -> String {
    words.map(|word| shell::quoted(&word)).collect::<Vec<_>>().join(" ")
}

/// Starts listening for signals; `resumes` says whether the command resumes its work when started again. Signals that
/// are already ignored (`nohup`, background jobs of a script) stay ignored.
pub fn listen(resumes: bool) {
    let _ = RESUMES.set(resumes);
    #[cfg(unix)]
    if let Err(e) = unix::listen() {
        terminal::eprint_line(&format!("note: signals cannot be caught ({e}): an interruption loses unsaved work"));
    }
}

#[cfg(unix)]
mod unix {
    use super::{Ordering, SECTIONS, SIGNAL, message, terminal};
    use burgess_base::temporary;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::{flag, iterator::Signals};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    pub fn listen() -> std::io::Result<()> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        let wanted: Vec<i32> = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|s| ignored >> (s - 1) & 1 == 0).collect();
        // The second signal ends the process inside its handler, even if a thread hangs.
        let second = Arc::new(AtomicBool::new(false));
        for signal in &wanted {
            flag::register_conditional_shutdown(*signal, 128 + signal, Arc::clone(&second))?;
        }
        let mut signals = Signals::new(&wanted)?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                second.store(true, Ordering::SeqCst);
                SIGNAL.store(signal, Ordering::SeqCst);
                if SECTIONS.load(Ordering::SeqCst) == 0 {
                    temporary::remove_all();
                    terminal::eprint_line(&message());
                    std::process::exit(128 + signal);
                }
                terminal::eprint_line("stopping after the state is saved; a second signal stops at once");
            }
        })?;
        Ok(())
    }

    /// Bit mask of the ignored signals, from the text of `/proc/self/status`.
    pub(super) fn ignored(status: &str) -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_typed_again() {
        let words = ["burgess", "ask", "What's this?", "", "a/b-c.toml"];
        let line = command_line(words.iter().map(OsString::from));
        assert_eq!(line, r"burgess ask 'What'\''s this?' '' a/b-c.toml");
    }

    #[cfg(unix)]
    #[test]
    fn ignored_signals_are_known() {
        assert_eq!(unix::ignored("Name:\tx\nSigBlk:\t0\nSigIgn:\t0000000000001003\n"), 0x1003);
        assert_eq!(unix::ignored(""), 0);
    }
}
