//! `kafka-sse-bridge assets DIR`: writes the built-in page into a directory, as a start for one of your own.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::Args;

use super::common::{Failure, say};
use crate::http::assets::built_in;

/// Where the page goes.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The directory; it is made where it does not exist.
    dir: PathBuf,
    /// Overwrite files of the page that are there.
    #[arg(long)]
    force: bool,
}

/// Writes the files, and prints their names. Without `--force` none is written if one of them exists.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let dir = &options.dir;
    let mut files: Vec<_> = built_in().collect();
    files.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    if !options.force
        && let Some((name, _)) = files
            .iter()
            .find(|(name, _)| dir.join(name).symlink_metadata().is_ok())
    {
        return Err(exists(&dir.join(name)));
    }
    for (name, content) in &files {
        let path = dir.join(name);
        write(&path, content, options.force).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(&path),
            _ => Failure::Other(format!("{}: cannot be written: {error}", path.display())),
        })?;
    }
    let names: Vec<String> = files.iter().map(|(name, _)| format!("  {name}\n")).collect();
    let bytes: usize = files.iter().map(|(_, content)| content.len()).sum();
    let shown = dir.display();
    say(&format!(
        "{}wrote {} files ({}) to {shown}\nServe them with `kafka-sse-bridge run --assets {shown}`, or with assets = \"{}\" in \
         [ui]. Edits show at the next request.\n",
        names.concat(),
        files.len(),
        ByteSize(bytes as u64).display().iec(),
        absolute(dir).display(),
    ))
}

fn exists(path: &Path) -> Failure {
    Failure::Other(format!(
        "{} exists, so nothing was written; name another directory, or overwrite the page's files with --force",
        path.display()
    ))
}

/// The directory as the configuration has to name it, which the daemon reads from another working directory.
fn absolute(dir: &Path) -> PathBuf {
    dir.canonicalize().unwrap_or_else(|_| dir.to_owned())
}

fn write(path: &Path, content: &[u8], overwrites: bool) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut how = OpenOptions::new();
    how.write(true);
    if overwrites {
        how.create(true).truncate(true);
    } else {
        how.create_new(true);
    }
    how.open(path)?.write_all(content)
}
