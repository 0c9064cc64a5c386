//! Whether files have changed since they were read.
//!
//! By their metadata, every few seconds: that also notices files that are renamed into place, links that are turned, and
//! directories that are mounted again, as Kubernetes and systemd do; none of which a watch of the file itself does.

use std::os::unix::fs::MetadataExt;

use crate::config::FileName;

/// The state of some files at one time. Two of them differ if a file was written or replaced in between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<Metadata>>);

type Metadata = (u64, u64, u64, i64, i64, i64, i64);

impl Stamp {
    /// Blocks.
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a FileName>) -> Self {
        let metadata = |file: &FileName| -> Option<Metadata> {
            let found = std::fs::metadata(file.path().ok()?).ok()?;
            Some((
                found.dev(),
                found.ino(),
                found.size(),
                found.mtime(),
                found.mtime_nsec(),
                found.ctime(),
                found.ctime_nsec(),
            ))
        };
        Self(files.map(metadata).collect())
    }
}
