//! The order of the modules, without circles: a reader of one needs to know only those below it. `scripts/modules`
//! prints the imports that this reads.

mod imports;

use self::imports::{Imports, circles, read};
use crate::harness::scratch;
use crate::trials;
use libtest_mimic::Trial;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The modules of the crate's root, from the lowest layer on. A module imports only from its own layer and lower ones.
const LAYERS: [&[&str]; 15] = [
    &["jose", "sse"],
    &["config"],
    &["allocator", "fd_limit", "https", "logging", "signals", "systemd"],
    &["kafka"],
    &["json_schema"],
    &["reshape"],
    &["decode"],
    &["schema_registry", "stream"],
    &["auth", "delivery"],
    &["http", "writers"],
    &["status_line", "watchdog"],
    &["daemon", "reload"],
    &["cli"],
    &["fuzzing"],
    &["lib", "main"],
];

/// Modules that import each other in a circle and still have to be taken apart. The list is exact: a new circle, or one
/// more module in one of these, is an error, and so is an entry that holds no longer.
const CIRCLES: &[&[&str]] = &[];

pub fn trials() -> Vec<Trial> {
    trials![
        modules_import_only_from_their_own_layer_and_lower_ones,
        modules_import_each_other_only_in_the_circles_that_are_listed,
        streams_use_no_runtime_socket_thread_or_clock_but_those_listed,
        imports_are_parsed_from_uses_and_code_only,
    ]
}

fn of_crate() -> Imports {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

fn modules_import_only_from_their_own_layer_and_lower_ones() {
    let layer_of = |module: &str| {
        let root = module.split("::").next().expect("a name");
        let layer = LAYERS.iter().position(|layer| layer.contains(&root));
        layer.unwrap_or_else(|| panic!("{root} has no layer yet: put it into LAYERS"))
    };
    let imports = of_crate();
    let wrong: Vec<String> = imports
        .iter()
        .flat_map(|(module, imported)| imported.iter().map(move |imported| (module, imported)))
        .filter(|(module, imported)| layer_of(module) < layer_of(imported))
        .map(|(module, imported)| format!("{module} imports {imported}"))
        .collect();
    assert!(wrong.is_empty(), "against the order of layers: {wrong:#?}");
    for root in LAYERS.concat() {
        assert!(imports.contains_key(root), "no module {root}");
    }
}

fn modules_import_each_other_only_in_the_circles_that_are_listed() {
    let known: BTreeSet<BTreeSet<&str>> = CIRCLES
        .iter()
        .map(|circle| circle.iter().copied().collect())
        .collect();
    let imports = of_crate();
    let found = circles(&imports);
    let new: Vec<_> = found.difference(&known).collect();
    assert!(new.is_empty(), "these import each other in a circle: {new:#?}");
    let fixed: Vec<_> = known.difference(&found).collect();
    assert!(
        fixed.is_empty(),
        "circles no more, take them out of CIRCLES: {fixed:#?}"
    );
}

/// Drivers bring tasks, threads and timers. The reading threads hand on records by a channel of tokio's, of which a replay
/// makes one. Times come from `clock.rs`, which a simulation replaces. One thread is started: whoever drops the last
/// reference to a stream must not wait until its table is freed.
fn streams_use_no_runtime_socket_thread_or_clock_but_those_listed() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/stream");
    let mut files = vec![src];
    let mut found = Vec::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                fs::read_dir(&path)
                    .expect("a directory")
                    .flatten()
                    .map(|entry| entry.path()),
            );
            continue;
        }
        let text = fs::read_to_string(&path).expect("UTF-8");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        // Tests beside the code come last, or in a file of their own.
        if name == "tests.rs" {
            continue;
        }
        let code = text
            .lines()
            .map(str::trim)
            .take_while(|line| *line != "mod tests {");
        let code = code.filter(|line| !line.starts_with("//"));
        let outside = [
            "tokio::",
            "std::net",
            "std::os",
            "std::fs",
            "thread::",
            "Instant::now",
            "SystemTime::now",
            ".elapsed()",
        ];
        let is_outside = |line: &&str| outside.iter().any(|word| line.contains(word));
        found.extend(code.filter(is_outside).map(|line| format!("{name}: {line}")));
    }
    found.sort();
    let expected = [
        "clock.rs: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()",
        "clock.rs: monotonic: Instant::now,",
        "replay_writer.rs: use tokio::sync::mpsc;",
        "shared.rs: let _ = thread::Builder::new()",
    ];
    assert_eq!(found, expected);
}

fn imports_are_parsed_from_uses_and_code_only() {
    let scratch = scratch::directory("layers");
    let src = scratch.path();
    let files = [
        ("lib.rs", "pub mod a;\nmod b;\nfn run() { b::run() }\n"),
        ("main.rs", "fn main() { kafka_sse_bridge::a::run() }\n"),
        (
            "a/mod.rs",
            "mod inner;\nmod other;\nuse self::inner::Thing;\npub(in crate::b) fn run() { other::run::<u8>() }\n",
        ),
        (
            "a/inner.rs",
            "use std::{fmt, io};\nuse super::{\n    other::{self, Item as Renamed},\n    Text,\n};\n",
        ),
        (
            "a/other.rs",
            "//! See crate::b.\nfn f<'a>(c: char) -> &'a str { if c == '\"' { \"crate::b\" } else { r#\"\"super::inner\"# } }\n\
             #[cfg(test)]\nmod tests {\n    use super::*;\n    fn f() { crate::b::run() }\n}\nfn g() { super::super::d::e::f() }\n",
        ),
        ("b.rs", "use crate::a::inner::{Thing, f};\n"),
        ("d/e.rs", "fn f(x: X) { x.a::<u8>(); std::a::f() }\n"),
    ];
    for (name, text) in files {
        let path = src.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a scratch directory");
        fs::write(path, text).expect("a file");
    }
    let found = read(src);
    let found: Vec<(&str, Vec<&str>)> = found
        .iter()
        .map(|(module, imports)| (module.as_str(), imports.iter().map(String::as_str).collect()))
        .collect();
    let expected = [
        ("a", vec!["a::inner", "a::other"]),
        ("a::inner", vec!["a", "a::other"]),
        ("a::other", vec!["d::e"]),
        ("b", vec!["a::inner"]),
        ("d::e", vec![]),
        ("lib", vec!["b"]),
        ("main", vec!["a"]),
    ];
    assert_eq!(found, expected);
    let found = read(src);
    assert_eq!(
        circles(&found),
        BTreeSet::from([BTreeSet::from(["a", "a::inner"])]),
        "a circle of two"
    );
}
