//! The process as the operating system sees it, under the names that all Prometheus client libraries use.

use std::fmt;

use log::debug;
use procfs::process::{Process, Stat};
use procfs::{boot_time_secs, page_size, ticks_per_second};
use rustix::process::{Resource, getrlimit};

use super::families::Families;

/// Writes nothing if `/proc` cannot be read.
pub(super) fn write(families: &mut Families<'_>) -> fmt::Result {
    let read = || {
        let process = Process::myself()?;
        Ok((process.stat()?, process.fd_count()?, boot_time_secs()?))
    };
    match read() {
        Ok((stat, descriptors, booted)) => tell(&stat, descriptors, booted, families),
        Err(error) => {
            let error: procfs::ProcError = error;
            debug!("/proc: {error}");
            Ok(())
        }
    }
}

fn tell(stat: &Stat, descriptors: usize, booted: u64, families: &mut Families<'_>) -> fmt::Result {
    let seconds = |ticks: u64| ticks as f64 / ticks_per_second() as f64;
    families.count(
        "process_cpu_seconds",
        "Processor time used, user and system",
        seconds(stat.utime + stat.stime),
    )?;
    families.figure(
        "process_resident_memory_bytes",
        "Memory in use",
        stat.rss * page_size(),
    )?;
    families.figure("process_virtual_memory_bytes", "Address space in use", stat.vsize)?;
    families.figure("process_open_fds", "Open file descriptors", descriptors as u64)?;
    // Unlimited is infinity.
    let most = getrlimit(Resource::Nofile).current;
    families.figure(
        "process_max_fds",
        "How many file descriptors may be open",
        most.map_or(f64::INFINITY, |most| most as f64),
    )?;
    families.figure(
        "process_threads",
        "Threads",
        u64::try_from(stat.num_threads).unwrap_or(0),
    )?;
    families.figure(
        "process_start_time_seconds",
        "Unix time of the start",
        booted as f64 + seconds(stat.starttime),
    )
}
