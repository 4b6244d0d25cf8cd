//! Signals that ask to stop: SIGINT (Ctrl-C), SIGTERM (schedulers) and SIGHUP (a terminal that goes away).
//!
//! Work that can be gone on with stands inside of a [`section`] and asks [`check`] at every step: at a signal it keeps its
//! state and returns [`Error::interrupted`]. Outside of sections a signal ends the process at once; so does a second one
//! anywhere. The exit code is 128 and the signal's number, and one line says how to go on.

use crate::terminal;
use burgess_base::{Error, Result};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Sections that are entered now.
static SECTIONS: AtomicUsize = AtomicUsize::new(0);
/// The signal that came, 0 before.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Whether the command goes on where it was when it is given again.
static GOES_ON: OnceLock<bool> = OnceLock::new();

/// Work that keeps its state at a signal, for as long as this value lives.
#[derive(Debug)]
pub struct Section(());

impl Drop for Section {
    fn drop(&mut self) {
        SECTIONS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Enters a section.
///
/// # Errors
/// A signal came before.
pub fn section() -> Result<Section> {
    SECTIONS.fetch_add(1, Ordering::SeqCst);
    let section = Section(());
    check().map(|()| section)
}

/// Whether a signal asked to stop.
pub fn requested() -> bool {
    SIGNAL.load(Ordering::SeqCst) != 0
}

/// Ends the work at hand if a signal asked to stop.
///
/// # Errors
/// It did.
pub fn check() -> Result<()> {
    if requested() { Err(Error::interrupted()) } else { Ok(()) }
}

/// The exit code after a signal.
pub fn exit_code() -> Option<u8> {
    u8::try_from(SIGNAL.load(Ordering::SeqCst)).ok().filter(|s| *s != 0).map(|s| 128 + s)
}

/// The line that says how to go on.
pub fn farewell() -> String {
    let name = match SIGNAL.load(Ordering::SeqCst) {
        1 => "SIGHUP",
        2 => "SIGINT",
        15 => "SIGTERM",
        _ => "a signal",
    };
    let command = command_line(std::env::args_os().map(|a| a.to_string_lossy().into_owned()));
    match GOES_ON.get() {
        Some(true) => format!("stopped by {name}; what was done is kept. To go on: {command}"),
        _ => format!("stopped by {name}; what was not finished is not written. To start again: {command}"),
    }
}

/// A command as it can be typed into a shell.
fn command_line(words: impl Iterator<Item = String>) -> String {
    let plain = |word: &str| {
        let safe = |b: u8| b.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&b);
        !word.is_empty() && word.bytes().all(safe)
    };
    let quoted = |word: String| if plain(&word) { word } else { format!("'{}'", word.replace('\'', r"'\''")) };
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// Listens for signals from now on; `goes_on` says whether the command, given again, goes on where it was. Signals that
/// are ignored already (`nohup`, jobs in the background of a script) stay ignored.
pub fn listen(goes_on: bool) {
    let _ = GOES_ON.set(goes_on);
    #[cfg(unix)]
    if let Err(e) = unix::listen() {
        terminal::say(&format!("note: signals cannot be caught ({e}): an interruption loses what is not kept yet"));
    }
}

#[cfg(unix)]
mod unix {
    use super::{Ordering, SECTIONS, SIGNAL, farewell, terminal};
    use burgess_base::leftovers;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::{flag, iterator::Signals};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    pub fn listen() -> std::io::Result<()> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        let wanted: Vec<i32> = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|s| ignored >> (s - 1) & 1 == 0).collect();
        // The second signal ends the process from within its handler: no thread that hangs can prevent it.
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
                    leftovers::abandon();
                    terminal::say(&farewell());
                    std::process::exit(128 + signal);
                }
                terminal::say("stopping when the work at hand is kept; a second signal stops at once");
            }
        })?;
        Ok(())
    }

    /// The signals that are ignored, a bit for each, from the text of `/proc/self/status`.
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
        let line = command_line(words.iter().map(ToString::to_string));
        assert_eq!(line, r"burgess ask 'What'\''s this?' '' a/b-c.toml");
    }

    #[cfg(unix)]
    #[test]
    fn ignored_signals_are_known() {
        assert_eq!(unix::ignored("Name:\tx\nSigBlk:\t0\nSigIgn:\t0000000000001003\n"), 0x1003);
        assert_eq!(unix::ignored(""), 0);
    }
}
