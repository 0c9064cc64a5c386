//! What of the page needs no browser: its modules in Node.

use crate::harness::daemon::finish;
use crate::harness::promise;
use libtest_mimic::Trial;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    vec![promise(the_pages_modules_keep_their_promises)]
}

fn the_pages_modules_keep_their_promises() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/page");
    let files = fs::read_dir(tests).expect("tests/clients/page");
    let files: Vec<PathBuf> = files.map(|entry| entry.expect("an entry").path()).collect();
    assert!(!files.is_empty(), "no tests");
    // One by one: together they may take longer than a command may.
    for file in files {
        let output = finish(Command::new("node").arg("--test").arg(&file));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {said}", file.display());
        assert!(
            !said.contains("# tests 0\n"),
            "{}: no test: {said}",
            file.display()
        );
    }
}
