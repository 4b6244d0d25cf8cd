//! The rate limit per host, over all threads and processes that share a cache directory.
//!
//! Each host has a small file with the time of its next turn. A process locks the file, takes that turn, moves it on by
//! the interval, unlocks the file and waits for its turn. `Retry-After` holds the host for all.

use burgess_base::{Context, Error, Result, digest};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time further in the future than this cannot come from us: a clock was wrong.
const FURTHEST: u64 = 7 * 86_400_000;

/// The turns of all hosts.
#[derive(Debug)]
pub(super) struct Hosts {
    dir: PathBuf,
}

/// The file of a host; times are in milliseconds since 1970.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct HostState {
    host: String,
    /// The earliest time of the next request.
    next: u64,
    /// The time until which the server asked for no requests.
    hold: u64,
}

/// A turn that was taken, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The turn has come.
    Now,
    /// The next turn would be after this time, which is longer than allowed.
    TooFar(Duration),
}

impl Hosts {
    /// Opens the directory of the hosts' files, which is created.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn open(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Waits for the next turn of a host, unless the server asked to wait longer than `longest`.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn wait_for_turn(&self, host: &str, interval: Duration, longest: Duration) -> Result<Turn> {
        loop {
            let mut slot = 0;
            let mut far = None;
            self.change(host, |state, now| {
                let held = state.hold.saturating_sub(now);
                if u128::from(held) > longest.as_millis() {
                    far = Some(Duration::from_millis(held));
                    return;
                }
                slot = now.max(state.next).max(state.hold);
                state.next = slot.saturating_add(interval.as_millis() as u64);
            })?;
            if let Some(far) = far {
                return Ok(Turn::TooFar(far));
            }
            std::thread::sleep(Duration::from_millis(slot.saturating_sub(now())));
            // Another process may have been asked to wait while this one waited for its turn.
            if self.read(host)?.hold <= now() {
                return Ok(Turn::Now);
            }
        }
    }

    /// Holds a host: nobody asks it before `wait` has passed.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn hold(&self, host: &str, wait: Duration) -> Result<()> {
        self.change(host, |state, now| {
            let until = now.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).min(FURTHEST));
            state.hold = state.hold.max(until);
        })
    }

    fn read(&self, host: &str) -> Result<HostState> {
        let mut found = HostState::default();
        self.change(host, |state, _| found = state.clone())?;
        Ok(found)
    }

    /// Changes the state of a host under its lock.
    fn change(&self, host: &str, change: impl FnOnce(&mut HostState, u64)) -> Result<()> {
        let path = self.dir.join(format!("{}.json", digest::of_bytes(host.as_bytes())));
        let step = || format!("changing the turns of {host} in {}", path.display());
        let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.with_context(step)?;
        file.lock().with_context(step)?;
        let mut text = String::new();
        // A file that a killed process left half-written is no JSON: the host's next turn is now.
        let length = (&mut file).take(4096).read_to_string(&mut text).unwrap_or(0);
        let now = now();
        let mut state: HostState = serde_json::from_str(&text).unwrap_or_default();
        if state.host != host {
            state = HostState { host: host.to_string(), ..HostState::default() };
        }
        for time in [&mut state.next, &mut state.hold] {
            if time.saturating_sub(now) > FURTHEST {
                *time = now;
            }
        }
        change(&mut state, now);
        let new = serde_json::to_string(&state).map_err(Error::from)?;
        if new != text || length == 0 {
            file.seek(SeekFrom::Start(0)).with_context(step)?;
            file.write_all(new.as_bytes()).with_context(step)?;
            file.set_len(new.len() as u64).with_context(step)?;
        }
        // Closing the file unlocks it.
        Ok(())
    }
}

/// Returns the time in milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn turns_of_threads_are_apart_and_hosts_independent() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = Hosts::open(dir.path().join("hosts")).unwrap();
        let interval = Duration::from_millis(40);
        let began = Instant::now();
        let mut turns: Vec<Duration> = std::thread::scope(|scope| {
            let turn = || {
                assert_eq!(hosts.wait_for_turn("a.org", interval, LONG).unwrap(), Turn::Now);
                began.elapsed()
            };
            let all: Vec<_> = (0..6).map(|_| scope.spawn(turn)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        turns.sort();
        // Each turn is at its slot or later: the sixth cannot be before five intervals have passed (less one
        // millisecond of rounding each).
        for (n, turn) in turns.iter().enumerate() {
            assert!(*turn >= (interval - Duration::from_millis(1)) * n as u32, "{turns:?}");
        }
        hosts.hold("b.org", Duration::from_secs(100)).unwrap();
        let Turn::TooFar(left) = hosts.wait_for_turn("b.org", interval, LONG).unwrap() else { panic!("it is held") };
        assert!(left > LONG && left <= Duration::from_secs(100));
        assert_eq!(hosts.wait_for_turn("c.org", interval, LONG).unwrap(), Turn::Now);
    }

    #[test]
    fn damaged_files_and_wrong_clocks_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = Hosts::open(dir.path().to_path_buf()).unwrap();
        let path = dir.path().join(format!("{}.json", digest::of_bytes(b"a.org")));
        for bad in [&b"{\"host\":\"a.org\",\"ne"[..], b"\xff\xfe", b"", &[b'x'; 100_000]] {
            fs::write(&path, bad).unwrap();
            assert_eq!(hosts.wait_for_turn("a.org", Duration::from_millis(1), LONG).unwrap(), Turn::Now);
            serde_json::from_slice::<HostState>(&fs::read(&path).unwrap()).unwrap();
        }
        fs::write(&path, format!("{{\"host\":\"a.org\",\"next\":{},\"hold\":{}}}", u64::MAX, u64::MAX)).unwrap();
        assert_eq!(hosts.wait_for_turn("a.org", Duration::from_millis(1), LONG).unwrap(), Turn::Now);
    }
}
