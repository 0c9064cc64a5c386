//! The memory of a process as reported by the kernel, in bytes.

use std::fs;

/// Resident pages now (`VmRSS`).
pub fn resident(pid: u32) -> u64 {
    field(pid, "VmRSS:")
}

/// The same of a process that may have ended.
pub fn resident_if_any(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The most resident pages since the process began or [`reset_peak`] (`VmHWM`).
pub fn peak(pid: u32) -> u64 {
    field(pid, "VmHWM:")
}

/// Resets [`peak`] to the current memory (proc(5), `clear_refs`).
pub fn reset_peak(pid: u32) {
    let file = format!("/proc/{pid}/clear_refs");
    fs::write(&file, "5").unwrap_or_else(|error| panic!("{file}: {error}"));
}

/// Bytes as MiB, for people.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn field(pid: u32, name: &str) -> u64 {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or_else(|| panic!("{file}: no {name}")) * 1024
}
