//! What the process itself uses.

/// Largest resident memory of the whole process so far, in bytes; nothing where the system does not tell.
pub fn peak_memory_bytes() -> Option<u64> {
    kibibytes("/proc/self/status", "VmHWM:")
}

/// Resident memory of the process now, in bytes; nothing where the system does not tell.
pub fn resident_memory_bytes() -> Option<u64> {
    kibibytes("/proc/self/status", "VmRSS:")
}

/// Bytes that the process may still use: what the system has free, or what a limit on the process or on its control
/// group leaves. Nothing where the system does not tell.
pub fn available_memory_bytes() -> Option<u64> {
    [kibibytes("/proc/meminfo", "MemAvailable:"), control_group(), address_space()]
        .into_iter()
        .flatten()
        .min()
}

/// What the limit on the control group leaves, if there is one. Cached files that nobody uses give way.
fn control_group() -> Option<u64> {
    let read = |name: &str| fs_err::read_to_string(format!("/sys/fs/cgroup/memory.{name}")).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let statistics = read("stat")?;
    let cached = statistics.lines().find_map(|line| line.strip_prefix("inactive_file "))?;
    let used = number("current")?.saturating_sub(cached.trim().parse().ok()?);
    Some(number("max")?.saturating_sub(used))
}

/// What the limit on the process's addresses leaves, if there is one.
fn address_space() -> Option<u64> {
    let limits = fs_err::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(kibibytes("/proc/self/status", "VmSize:")?))
}

/// A line `name N kB` of a file, in bytes.
fn kibibytes(path: &str, name: &str) -> Option<u64> {
    let text = fs_err::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_covers_memory_that_was_used() {
        let used = vec![1u8; 64 << 20];
        assert!(used.iter().all(|&byte| byte == 1));
        assert!(super::peak_memory_bytes().unwrap() > 64 << 20);
        assert!(super::resident_memory_bytes().unwrap() > 64 << 20);
        assert!(super::available_memory_bytes().unwrap() > 0);
    }
}
