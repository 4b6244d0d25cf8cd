//! Memory use of this process and free memory of this machine, where the system reports them (Linux).

use burgess_base::{Error, Result};
use std::path::Path;

/// Peak memory of this process in bytes; 0 if the system does not report it.
pub fn peak() -> u64 {
    kib("/proc/self/status", "VmHWM:").unwrap_or(0)
}

/// Memory of this process in bytes that is mapped files, which the system takes back when it needs memory; 0 if the
/// system does not report it.
pub fn mapped() -> u64 {
    kib("/proc/self/status", "RssFile:").unwrap_or(0)
}

/// Resets [`peak`] to the present memory of the process; without effect on systems other than Linux.
pub fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Environment variable with the memory, in GB, that runs may use on each device, in place of the free memory.
pub const LIMIT_VARIABLE: &str = "BURGESS_MEMORY_GB";

/// The memory in bytes that [`LIMIT_VARIABLE`] allows; `None` if it is not set.
///
/// # Errors
/// Its value is not a number above 0.
pub fn limit() -> Result<Option<u64>> {
    match std::env::var(LIMIT_VARIABLE) {
        Ok(text) => parse_limit(&text).map(Some),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(e) => Err(Error::usage(format!("{LIMIT_VARIABLE}: {e}"))),
    }
}

fn parse_limit(text: &str) -> Result<u64> {
    let number = text.trim().parse::<f64>().ok().filter(|gb| *gb > 0.0 && gb.is_finite());
    let number = number.ok_or_else(|| {
        Error::usage(format!("{LIMIT_VARIABLE} = `{text}` is not a number above 0"))
            .hint(format!("give a number of gigabytes, as in {LIMIT_VARIABLE}=80"))
    })?;
    Ok((number * 1e9) as u64)
}

/// Available memory of this machine in bytes, within the limit of this process's control group (a container, or a job
/// of a cluster); `None` if the system does not report it.
pub fn available() -> Option<u64> {
    let machine = kib("/proc/meminfo", "MemAvailable:")?;
    Some(group_available().map_or(machine, |group| group.min(machine)))
}

/// Memory that the control groups of this process, version 2, leave it; `None` without a limit.
fn group_available() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = Path::new("/sys/fs/cgroup").join(path);
    let number = |dir: &Path, name: &str| std::fs::read_to_string(dir.join(name)).ok()?.trim().parse::<u64>().ok();
    // A group without a limit says `max`, which is no number.
    // The system gives up cached files when a process needs memory.
    let cached = |dir: &Path| {
        let text = std::fs::read_to_string(dir.join("memory.stat")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("file "))?.trim().parse::<u64>().ok()
    };
    let left = |dir: &Path| {
        let used = number(dir, "memory.current")?.saturating_sub(cached(dir).unwrap_or(0));
        Some(number(dir, "memory.max")?.saturating_sub(used))
    };
    own.ancestors().take_while(|dir| dir.starts_with("/sys/fs/cgroup")).filter_map(left).min()
}

fn kib(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|l| l.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|k| k * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_of_gigabytes() {
        assert_eq!(parse_limit(" 1.5 ").ok(), Some(1_500_000_000));
        for wrong in ["0", "-1", "8GB", "", "nan", "inf"] {
            let e = parse_limit(wrong).unwrap_err();
            assert!(e.exit_code() == 2 && e.hint_text().is_some_and(|h| h.contains("=80")), "{wrong}: {e}");
        }
    }
}
