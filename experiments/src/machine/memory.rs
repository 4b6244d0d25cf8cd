//! Memory use of this process and free memory of this machine, where the system reports them (Linux).

/// Peak memory of this process in bytes; 0 if the system does not report it.
pub fn peak() -> u64 {
    kib("/proc/self/status", "VmHWM:").unwrap_or(0)
}

/// Resets [`peak`] to the present memory of the process; without effect on systems other than Linux.
pub fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Available memory of this machine in bytes; `None` if the system does not report it.
pub fn available() -> Option<u64> {
    kib("/proc/meminfo", "MemAvailable:")
}

fn kib(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|l| l.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|k| k * 1024)
}
