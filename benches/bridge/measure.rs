//! Clocks, and figures of a process from /proc.

use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::time::Duration;

/// Nanoseconds on a clock that all processes of the machine share.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Nanoseconds that this thread has spent on a processor.
pub fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The time a process has spent on a processor, kernel included, to the nanosecond: the sum over
/// its threads, as /proc/PID/stat counts in hundredths of a second. Threads that ended are not in it;
/// neither the daemon nor the bare programs end any while they are measured.
pub fn cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let nanoseconds = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// The processor time that a process uses from now on.
pub struct Meter {
    pid: u32,
    before: Duration,
}

impl Meter {
    pub fn start(pid: u32) -> Meter {
        Meter {
            pid,
            before: cpu(pid),
        }
    }

    pub fn used(&self) -> Duration {
        cpu(self.pid).saturating_sub(self.before)
    }
}

/// How many processes wanted a processor in the last minute: more than a few tenths before the first
/// benchmark means that somebody else is at work here.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy)]
pub struct Memory {
    /// Resident pages.
    pub rss: u64,
    /// Resident pages, those shared with others counted in part.
    pub pss: u64,
}

pub fn memory(pid: u32) -> Memory {
    Memory {
        rss: field(&format!("/proc/{pid}/status"), "VmRSS:"),
        pss: field(&format!("/proc/{pid}/smaps_rollup"), "Pss:"),
    }
}

/// Memory of the kernel, in KiB.
#[derive(Clone, Copy)]
pub struct KernelMemory {
    /// Its objects, sockets among them (`Slab` in `/proc/meminfo`).
    pub slab: u64,
    /// What TCP counts for its queues (`mem` in `/proc/net/sockstat`).
    pub tcp: u64,
}

/// That of the whole machine.
pub fn kernel_memory() -> KernelMemory {
    let sockets = "/proc/net/sockstat";
    let text = fs::read_to_string(sockets).unwrap_or_else(|error| panic!("{sockets}: {error}"));
    let tcp = text.lines().find_map(|line| line.strip_prefix("TCP:"));
    let pages = tcp.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    let page = rustix::param::page_size() as u64;
    KernelMemory {
        slab: field("/proc/meminfo", "Slab:"),
        tcp: pages.unwrap_or_else(|| panic!("{sockets}: no memory of TCP")) * page / 1024,
    }
}

/// Resets the peak of resident memory that [`peak`] returns.
pub fn reset_peak(pid: u32) {
    let file = format!("/proc/{pid}/clear_refs");
    fs::write(&file, "5").unwrap_or_else(|error| panic!("{file}: {error}"));
}

/// The most resident memory since [`reset_peak`], in KiB.
pub fn peak(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// Bytes that a process has handed to write(2), writev(2) and sendfile(2), sockets included. Not in
/// it is what goes out by send(2), which the JVM's sockets do not use.
pub fn written(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/io"), "wchar:")
}

fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    value.unwrap_or_else(|| panic!("{file}: no {name}"))
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Rounds next to each other in time are compared, and the middle ratio counts.
pub fn median_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    median(&ratios)
}

/// The value that `percent` of all are not above; 0 of none.
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(0)
}

/// Bytes that a socket of a server on this machine still holds for the peer at a port (`/proc/net/tcp`).
///
/// # Panics
/// When they are not connected.
pub fn send_queue(server: u16, peer: u16) -> u64 {
    let text = fs::read_to_string("/proc/net/tcp").expect("the kernel's sockets");
    let queue = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, "01", queues, ..] = fields[..] else {
            return None;
        };
        let is_it = local.ends_with(&format!(":{server:04X}")) && remote.ends_with(&format!(":{peer:04X}"));
        let (queue, _) = queues.split_once(':')?;
        is_it.then(|| u64::from_str_radix(queue, 16).ok())?
    });
    queue.unwrap_or_else(|| panic!("{server} and {peer} are not connected"))
}
