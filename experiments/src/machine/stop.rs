//! Signals that ask to stop: SIGINT (Ctrl-C), SIGTERM (schedulers), SIGHUP (a closed terminal), and SIGUSR1, by which a
//! scheduler announces that the time of a job is nearly over.
//!
//! Resumable work runs inside a [`section`] and calls [`check`] at every step: after a signal it saves its state and
//! returns [`Error::interrupted`]. Outside sections a signal ends the process at once. The exit code is 128 plus the
//! signal's number, and a message says how to resume. The exit code [`REQUEUE`] after SIGUSR1 asks whoever started the
//! process to start it again: the work is saved and not finished.
//!
//! A second signal ends the process at once. SIGUSR1 never counts as one, nor does any signal in the first five seconds
//! after a SIGTERM: a scheduler sends one request to the batch script, which forwards it, and to all processes of the
//! job.

use crate::machine::{shell, terminal};
use burgess_base::{Error, Result};
use std::ffi::OsString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Exit code after SIGUSR1: the state is saved, and the same command is to be started again. It is 128 plus the number
/// of the signal on Linux, so a process that is killed by the signal before it can handle it has the same exit code.
pub const REQUEUE: u8 = 138;

/// Number of sections that are entered at present.
static SECTIONS: AtomicUsize = AtomicUsize::new(0);
/// Number of the received signal; 0 before.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Whether the command resumes its work when it is started again.
static RESUMES: OnceLock<bool> = OnceLock::new();
/// What is done after a signal inside a section.
static LAST_WORK: OnceLock<&'static str> = OnceLock::new();

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

/// Says what is done after a signal inside a section, for the message about it, instead of "saving the state".
pub fn announce(last_work: &'static str) {
    let _ = LAST_WORK.set(last_work);
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
    let code = |signal: i32| match is_user_signal(signal) {
        true => REQUEUE,
        false => u8::try_from(signal).unwrap_or(127).saturating_add(128),
    };
    Some(SIGNAL.load(Ordering::SeqCst)).filter(|signal| *signal != 0).map(code)
}

/// Whether a signal is SIGUSR1, whose number differs between systems.
fn is_user_signal(signal: i32) -> bool {
    #[cfg(unix)]
    return signal == signal_hook::consts::SIGUSR1;
    #[cfg(not(unix))]
    return {
        let _ = signal;
        false
    };
}

/// Message after a signal, with the command that resumes or restarts the work.
pub fn message() -> String {
    let name = match SIGNAL.load(Ordering::SeqCst) {
        1 => "SIGHUP",
        2 => "SIGINT",
        15 => "SIGTERM",
        signal if is_user_signal(signal) => "SIGUSR1",
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
    use super::{LAST_WORK, Ordering, SECTIONS, SIGNAL, exit_code, message, terminal};
    use crate::machine::lease;
    use burgess_base::temporary;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    use signal_hook::{flag, iterator::Signals};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    /// Time after a SIGTERM in which further signals belong to the same request.
    const SAME_REQUEST: Duration = Duration::from_secs(5);

    pub fn listen() -> std::io::Result<()> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        let wanted: Vec<i32> =
            [SIGHUP, SIGINT, SIGTERM, SIGUSR1].into_iter().filter(|s| ignored >> (s - 1) & 1 == 0).collect();
        // The second signal ends the process inside its handler, even if a thread hangs.
        let second = Arc::new(AtomicBool::new(false));
        for signal in wanted.iter().filter(|signal| **signal != SIGUSR1) {
            flag::register_conditional_shutdown(*signal, 128 + signal, Arc::clone(&second))?;
        }
        let mut signals = Signals::new(&wanted)?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                arm(&second, signal);
                // The reason of the first request decides the exit code: a job that saves its state because its time
                // is nearly over asks to be requeued, also if SIGTERM follows.
                let first = SIGNAL.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok();
                if SECTIONS.load(Ordering::SeqCst) == 0 {
                    lease::release_all();
                    temporary::remove_all();
                    terminal::eprint_line(&message());
                    std::process::exit(exit_code().map_or(1, i32::from));
                }
                if first {
                    terminal::eprint_line(&match LAST_WORK.get() {
                        Some(work) => format!("stopping after {work}; a second signal stops at once"),
                        None => "stopping after the state is saved; a second signal stops at once".to_string(),
                    });
                }
            }
        })?;
        Ok(())
    }

    /// Makes the next signal the second one, which ends the process at once; see the module's description.
    fn arm(second: &Arc<AtomicBool>, signal: i32) {
        match signal {
            SIGUSR1 => {}
            SIGTERM => {
                let later = Arc::clone(second);
                let wait = move || {
                    std::thread::sleep(SAME_REQUEST);
                    later.store(true, Ordering::SeqCst);
                };
                if std::thread::Builder::new().name("second signal".into()).spawn(wait).is_err() {
                    second.store(true, Ordering::SeqCst);
                }
            }
            _ => second.store(true, Ordering::SeqCst),
        }
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
