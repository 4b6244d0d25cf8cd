//! Memory of this process and this machine, where the system tells (Linux).

/// The most memory this process has held at once, in bytes; 0 where the system does not tell.
pub fn peak() -> u64 {
    kib("/proc/self/status", "VmHWM:").unwrap_or(0)
}

/// Lets [`peak`] begin again from what the process holds now; without effect where the system has no such thing.
pub fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Memory that could be used now, in bytes.
pub fn available() -> Option<u64> {
    kib("/proc/meminfo", "MemAvailable:")
}

fn kib(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|l| l.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|k| k * 1024)
}
