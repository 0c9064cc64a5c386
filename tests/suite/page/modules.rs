//! What of the page needs no browser: its modules in Node.

use crate::harness::daemon::finish;
use crate::harness::promise;
use libtest_mimic::Trial;
use std::path::Path;
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    vec![promise(the_pages_modules_keep_their_promises)]
}

fn the_pages_modules_keep_their_promises() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/page");
    let output = finish(Command::new("node").arg("--test").arg(".").current_dir(tests));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("# tests 0\n"), "{said}");
}
