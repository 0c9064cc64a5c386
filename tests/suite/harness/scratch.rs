//! The suite's own temporary directory, and the guardian that outlives the suite to clean up.
//!
//! The guardian is a small shell whose stdin is a pipe that only this process holds. Each process that starts or ends
//! is written to it. When the pipe closes, however this process ended, it kills the remaining processes by their ids
//! and removes the suite's directory.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

/// `+PID` and `-PID` lines come in. Each id leads a process group (a browser has many processes).
/// The second `rm` is for files written between the first one's look and its removal.
const GUARDIAN: &str = r#"
live=' '
while read -r word; do
    case $word in
        +*) live="$live${word#+} " ;;
        -*)
            pid=${word#-}
            live="${live%% $pid *} ${live#* $pid }"
            ;;
    esac
done
for pid in $live; do kill -s KILL -- "-$pid"; done
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
"#;

/// A directory and the guardian over it and over processes.
pub struct Scratch {
    guardian: Child,
    directory: TempDir,
}

impl Scratch {
    pub fn new() -> Scratch {
        let directory = tempfile::Builder::new()
            .prefix("kafka-sse-bridge-suite-")
            .tempdir()
            .expect("a temporary directory");
        let guardian = Command::new("/bin/sh")
            .args(["-c", GUARDIAN, "guardian"])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of the terminal's foreground group: Ctrl-C ends the suite, and must not end this first.
            .process_group(0)
            .spawn()
            .expect("/bin/sh");
        Scratch { guardian, directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn guard(&mut self, pid: u32) {
        self.tell(format_args!("+{pid}\n"));
    }

    /// Called as soon as the process has been reaped: from then on its id may be reused.
    pub fn release(&mut self, pid: u32) {
        self.tell(format_args!("-{pid}\n"));
    }

    fn tell(&mut self, line: std::fmt::Arguments<'_>) {
        let pipe = self.guardian.stdin.as_mut().expect("stdin is piped");
        // One write, so that half a line is never read as a shorter id.
        pipe.write_all(line.to_string().as_bytes())
            .expect("the guardian reads");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}

static SUITE: Mutex<Option<Scratch>> = Mutex::new(None);

fn suite() -> MutexGuard<'static, Option<Scratch>> {
    SUITE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fresh directory, removed when dropped, and with the suite at the latest.
pub fn directory(prefix: &str) -> TempDir {
    let mut suite = suite();
    let scratch = suite.get_or_insert_with(Scratch::new);
    tempfile::Builder::new()
        .prefix(&format!("{prefix}-"))
        .tempdir_in(scratch.path())
        .expect("a directory in the suite's own")
}

/// From now on the process (a group leader) dies with the suite.
pub(super) fn guard(pid: u32) {
    suite().get_or_insert_with(Scratch::new).guard(pid);
}

pub(super) fn release(pid: u32) {
    if let Some(scratch) = suite().as_mut() {
        scratch.release(pid);
    }
}

/// Ends the guardian, and with it whatever was still running or lying about.
pub(super) fn remove() {
    drop(suite().take());
}
