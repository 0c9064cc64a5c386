//! How much memory this process may use, by the machine and its control groups.

use std::fs;
use std::path::{Path, PathBuf};

/// Memory that this process may use, and the source of the figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    /// Bytes.
    pub bytes: u64,
    /// `this machine`, or the file of a control group.
    pub source: String,
}

/// The least of the machine's memory and the limits of all control groups of this process, which under systemd are
/// `MemoryMax=` and `MemoryHigh=`. `None` where nothing can be read.
pub fn available() -> Option<Available> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let machine = machine_bytes(&machine).map(|bytes| Available {
        bytes,
        source: "this machine".to_owned(),
    });
    let grouped = group_limits(&groups, Path::new("/sys/fs/cgroup"));
    grouped.into_iter().chain(machine).min_by_key(|limit| limit.bytes)
}

fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The limits of the groups that `groups` (`/proc/self/cgroup`) names, and of their parents, below `root`.
fn group_limits(groups: &str, root: &Path) -> Vec<Available> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        // hierarchy:controllers:path
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, files): (PathBuf, &[&str]) = if controllers.is_empty() {
            // Version 2.
            (root.to_owned(), &["memory.max", "memory.high"])
        } else if controllers.split(',').any(|name| name == "memory") {
            (root.join("memory"), &["memory.limit_in_bytes"])
        } else {
            continue;
        };
        let group = root.join(path.trim_start_matches('/'));
        let parents = group.ancestors().take_while(|group| group.starts_with(&root));
        for file in parents.flat_map(|group| files.iter().map(|file| group.join(file))) {
            // "max" is unlimited.
            let text = fs::read_to_string(&file).unwrap_or_default();
            if let Ok(bytes) = text.trim().parse() {
                limits.push(Available {
                    bytes,
                    source: file.display().to_string(),
                });
            }
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::group_limits;
    use std::fs;

    #[test]
    fn limits_of_control_groups_and_their_parents_count() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("created");
            fs::write(path, text).expect("written");
        };
        write("system.slice/memory.max", "1000000\n");
        write("system.slice/bridge.service/memory.max", "max\n");
        write("system.slice/bridge.service/memory.high", "2000000\n");
        write("memory/bridge/memory.limit_in_bytes", "3000000\n");
        let limits = |groups: &str| -> Vec<u64> {
            let found = group_limits(groups, directory.path());
            let mut limits: Vec<u64> = found.iter().map(|limit| limit.bytes).collect();
            limits.sort_unstable();
            limits
        };
        assert_eq!(
            limits("0::/system.slice/bridge.service\n"),
            [1_000_000, 2_000_000]
        );
        assert_eq!(limits("5:cpu,memory:/bridge\n4:cpuset:/bridge\n"), [3_000_000]);
        assert_eq!(limits("0::/\n"), [0; 0]);
    }
}
