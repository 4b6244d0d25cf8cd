//! Processes and the machine they run on, for files that name the process that made them.

use std::fs;
use std::sync::OnceLock;

/// What is known about a process of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// The process runs; it started this many hundredths of a second after the machine.
    Runs {
        /// Time from the start of the machine to that of the process, in hundredths of a second.
        started: u64,
    },
    /// No process with this ID runs.
    Ended,
    /// The operating system does not say.
    Unknown,
}

/// Returns an identifier of this host, its boot and its PID namespace: eight hexadecimal digits. Process IDs have a
/// meaning only together with it.
pub fn machine() -> &'static str {
    static MACHINE: OnceLock<String> = OnceLock::new();
    MACHINE.get_or_init(|| {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let host = read("/proc/sys/kernel/hostname");
        let boot = read("/proc/sys/kernel/random/boot_id");
        let all = format!("{host} {boot} {}", namespace.display());
        crate::digest::of_bytes(all.as_bytes()).get(..8).unwrap_or("00000000").to_string()
    })
}

/// Returns the name of this host, or `localhost` if the operating system does not say.
pub fn host() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let named = [kernel, std::env::var("HOSTNAME").unwrap_or_default()].map(|name| name.trim().to_string());
    named.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| "localhost".into())
}

/// Returns the state of the process of this machine that owns `file`. Processes of other users may be hidden, so their
/// state is unknown unless they are seen.
#[cfg(target_os = "linux")]
pub fn state(process: u32, file: &fs::Metadata) -> ProcessState {
    use std::os::unix::fs::MetadataExt;
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
        let own = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == file.uid());
        return if own { ProcessState::Ended } else { ProcessState::Unknown };
    };
    // The program's name, in parentheses, may contain anything. The next field is the state, the 20th the start time,
    // which the kernel reports in hundredths of a second, whatever its own clock rate is.
    let Some((_, rest)) = stat.rsplit_once(')') else { return ProcessState::Unknown };
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    if matches!(fields.first(), Some(&("Z" | "X" | "x"))) {
        return ProcessState::Ended;
    }
    match fields.get(19).and_then(|ticks| ticks.parse().ok()) {
        Some(started) => ProcessState::Runs { started },
        None => ProcessState::Unknown,
    }
}

/// Returns the state of the process of this machine that owns `file`: unknown on this operating system, except that of
/// this process.
#[cfg(not(target_os = "linux"))]
pub fn state(process: u32, _file: &fs::Metadata) -> ProcessState {
    if process == std::process::id() { ProcessState::Runs { started: 0 } } else { ProcessState::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn running_and_ended_processes_are_told_apart() -> crate::Result<()> {
        let file = tempfile::tempfile()?.metadata()?;
        let ProcessState::Runs { started } = state(std::process::id(), &file) else { panic!("this process runs") };
        assert!(started > 0);
        let mut child = std::process::Command::new("true").spawn()?;
        let ended = child.id();
        child.wait()?;
        assert_eq!(state(ended, &file), ProcessState::Ended);
        assert_eq!(machine().len(), 8);
        assert!(!host().is_empty());
        Ok(())
    }
}
