//! A daemon under limits of memory and CPU time, as `MemoryMax=` and `CPUQuota=` of a unit set them.

use super::daemon::{BINARY, Launch};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Where systemd runs, as `sd_booted(3)` finds out.
const SYSTEMD: &str = "/run/systemd/system";

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The period over which CPU time is counted, in microseconds; the kernel's default.
const PERIOD: u32 = 100_000;

/// The resource limits of a daemon.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of memory; beyond them the kernel kills.
    pub memory: u64,
    /// Percent of one core.
    pub cpu: u32,
}

/// How the limits are set.
#[derive(Debug)]
enum Means {
    /// By systemd, in a scope of their own.
    Scope,
    /// In cgroups of their own, by their directories: one of version 2, or one per controller of version 1.
    Cgroups(Vec<PathBuf>),
    /// Not at all, and why.
    None(String),
}

/// Limits that are set, and what starts a daemon under them. Cgroups are removed when dropped, which must be after the
/// daemon has ended.
#[derive(Debug)]
pub struct Confined {
    means: Means,
    limits: Option<Limits>,
    directory: TempDir,
}

impl Confined {
    /// By systemd where it runs, otherwise in cgroups, and otherwise not.
    pub fn new(limits: Option<Limits>) -> Confined {
        let means = match limits {
            None => Means::None("none are asked for".to_owned()),
            Some(_) if Path::new(SYSTEMD).is_dir() => Means::Scope,
            Some(limits) => match cgroup_v2(limits).or_else(|_| cgroups_v1(limits)) {
                Ok(directories) => Means::Cgroups(directories),
                Err(why) => Means::None(format!("systemd does not run, and cgroups: {why}")),
            },
        };
        Confined {
            means,
            limits,
            directory: super::scratch::directory("confined"),
        }
    }

    /// The daemon starts under the limits: whatever it allocates first counts too.
    pub fn confines(&self, launch: Launch) -> Launch {
        let (Some(limits), false) = (self.limits, matches!(self.means, Means::None(_))) else {
            return launch;
        };
        let start = match &self.means {
            // A scope's command takes the place of systemd-run, so the process keeps its id.
            Means::Scope => format!(
                "exec systemd-run --scope --quiet --collect -p MemoryMax={} -p MemorySwapMax=0 -p CPUQuota={}% --",
                limits.memory, limits.cpu
            ),
            Means::Cgroups(directories) => {
                let enter = |directory: &PathBuf| format!("echo $$ > {}/cgroup.procs\n", directory.display());
                format!("{}exec", directories.iter().map(enter).collect::<String>())
            }
            Means::None(_) => String::new(),
        };
        let script = self.directory.path().join("start");
        fs::write(&script, format!("#!/bin/sh\nset -e\n{start} {BINARY} \"$@\"\n")).expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it may be run");
        launch.binary(script)
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let means = match &self.means {
            Means::Scope => "a systemd scope",
            Means::Cgroups(directories) if directories.len() == 1 => "a cgroup v2",
            Means::Cgroups(_) => "cgroups v1",
            Means::None(why) => return write!(out, "NONE: {why}"),
        };
        let Some(limits) = self.limits else { return Ok(()) };
        write!(
            out,
            "{} MiB, {} % of a core, by {means}",
            limits.memory >> 20,
            limits.cpu
        )
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        let Means::Cgroups(directories) = &self.means else {
            return;
        };
        for directory in directories {
            // The kernel needs a moment to forget the last process.
            for _ in 0..50 {
                if fs::remove_dir(directory).is_ok() {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn name() -> String {
    format!(
        "kafka-sse-bridge-{}-{:08x}",
        std::process::id(),
        rand::random::<u32>()
    )
}

fn cgroup_v2(limits: Limits) -> io::Result<Vec<PathBuf>> {
    let root = Path::new(CGROUPS);
    // Version 1 of cgroups lacks this file.
    fs::metadata(root.join("cgroup.controllers"))?;
    // Only where it is allowed; the controllers may be there already.
    let _ = fs::write(root.join("cgroup.subtree_control"), "+memory +cpu");
    let directory = root.join(name());
    fs::create_dir(&directory)?;
    let quota = format!("{} {PERIOD}", PERIOD / 100 * limits.cpu);
    let set = fs::write(directory.join("memory.max"), limits.memory.to_string())
        .and_then(|()| fs::write(directory.join("cpu.max"), quota));
    cleaned(vec![directory], set)
}

fn cgroups_v1(limits: Limits) -> io::Result<Vec<PathBuf>> {
    let name = name();
    let directories = ["memory", "cpu"].map(|controller| Path::new(CGROUPS).join(controller).join(&name));
    let [memory, cpu] = &directories;
    let set = fs::create_dir(memory)
        .and_then(|()| fs::create_dir(cpu))
        .and_then(|()| fs::write(memory.join("memory.limit_in_bytes"), limits.memory.to_string()))
        .and_then(|()| fs::write(cpu.join("cpu.cfs_period_us"), PERIOD.to_string()))
        .and_then(|()| {
            fs::write(
                cpu.join("cpu.cfs_quota_us"),
                (PERIOD / 100 * limits.cpu).to_string(),
            )
        });
    cleaned(directories.to_vec(), set)
}

/// The directories, if their limits are set; otherwise they are removed.
fn cleaned(directories: Vec<PathBuf>, set: io::Result<()>) -> io::Result<Vec<PathBuf>> {
    if let Err(error) = set {
        for directory in &directories {
            let _ = fs::remove_dir(directory);
        }
        return Err(error);
    }
    Ok(directories)
}
