//! What the process itself uses.

/// Largest resident memory of the whole process so far, in bytes; nothing where the system does not tell.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
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
    }
}
