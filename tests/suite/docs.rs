//! The documentation names exactly what exists. `metrics` compares the metrics, `samples` the keys.

use crate::trials;
use clap::CommandFactory;
use clap::error::ErrorKind;
use kafka_sse_bridge::cli::Cli;
use kafka_sse_bridge::cli::common::Exit;
use kafka_sse_bridge::config::load::ENVIRONMENT_PREFIX;
use kafka_sse_bridge::config::reload_effect;
use kafka_sse_bridge::config::settings::Draft;
use kafka_sse_bridge::config::validate::{RESERVED_PATHS, reserved_events};
use kafka_sse_bridge::http::error::ErrorCode;
use libtest_mimic::Trial;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<Trial> {
    trials![
        every_command_line_in_the_docs_is_accepted_and_every_command_is_in_the_readme,
        the_docs_list_every_exit_code_and_no_other,
        the_docs_list_every_route_and_no_other,
        the_docs_list_every_control_event_and_no_other,
        the_docs_list_every_error_code_and_no_other,
        every_key_in_the_docs_exists,
        every_file_in_the_docs_exists,
    ]
}

/// The documents of this version, by their paths in the repository.
pub fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_docs = fs::read_dir(root.join("docs")).expect("docs").map(|entry| {
        let name = entry.expect("an entry").file_name();
        format!("docs/{}", name.to_string_lossy())
    });
    let paths = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned);
    let mut paths: Vec<String> = in_docs.chain(paths).collect();
    paths.retain(|path| Path::new(path).extension() == Some("md".as_ref()));
    let read = |path: String| {
        let text = fs::read_to_string(root.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

fn document(path: &str) -> String {
    let found = documents().into_iter().find(|(name, _)| name == path);
    found.expect("it is there").1
}

/// The section of a document with this title, whatever its level.
fn section(document: &str, title: &str) -> String {
    let mut lines = document
        .lines()
        .skip_while(|line| line.trim_start_matches('#').trim() != title);
    let heading = lines.next().unwrap_or_else(|| panic!("no {title}"));
    let level = heading.chars().take_while(|c| *c == '#').count();
    let is_next = |line: &&str| {
        let other = line.chars().take_while(|c| *c == '#').count();
        other > 0 && other <= level
    };
    let lines: Vec<&str> = lines.take_while(|line| !is_next(line)).collect();
    lines.join("\n")
}

/// The first cells of a section's table.
fn first_cells(section: &str) -> Vec<&str> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    cells.skip(1).filter(|cell| !cell.starts_with("---")).collect()
}

/// Text in backquotes: spans, and the lines of fenced blocks.
fn code(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, block) in text.split("```").enumerate() {
        if index % 2 == 1 {
            found.extend(block.lines().skip(1).map(str::to_owned));
        } else {
            found.extend(block.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// The arguments of a line of a shell that runs this program; nothing where it runs another.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.split(['#', '|']).next()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let place = words
        .iter()
        .position(|word| *word == "kafka-sse-bridge" || word.ends_with("release/kafka-sse-bridge"))?;
    // A prompt, runners with their options, and variables come before a program.
    let is_prefix = |word: &&str| {
        ["$", "sudo", "systemd-run"].contains(word) || word.starts_with('-') || word.contains('=')
    };
    let (before, from) = words.split_at(place);
    let is_run = before.iter().all(is_prefix) && from.len() > 1;
    let unquoted = |word: &&str| word.trim_matches(['\'', '"']).to_owned();
    is_run.then(|| from.iter().map(unquoted).collect())
}

fn every_command_line_in_the_docs_is_accepted_and_every_command_is_in_the_readme() {
    let mut lines = 0;
    for (path, text) in documents() {
        for line in code(&text) {
            let Some(arguments) = arguments(&line) else {
                continue;
            };
            lines += 1;
            if let Err(error) = Cli::command().try_get_matches_from(arguments) {
                let is_asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
                assert!(is_asked, "{path}: {line}: {error}");
            }
        }
    }
    assert!(lines > 8, "command lines are found: {lines}");

    let commands = Cli::command();
    let shown = commands
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let shown: BTreeSet<String> = shown.map(|command| format!("`{}`", command.get_name())).collect();
    let readme = document("README.md");
    let listed = first_cells(&section(&readme, "Commands"))
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(shown, listed, "the commands, and those in README.md");
}

fn the_docs_list_every_exit_code_and_no_other() {
    let section = section(&document("docs/operations.md"), "Exit codes");
    let exits = Exit::ALL.map(|exit| exit.code().to_string());
    assert_eq!(first_cells(&section), exits);
}

/// The paths that the router matches.
fn routes() -> BTreeSet<&'static str> {
    let is_path = |text: &&str| {
        text.starts_with('/')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || b"/.".contains(&byte))
    };
    let literals = include_str!("../../src/http/router.rs")
        .split('"')
        .skip(1)
        .step_by(2);
    literals.filter(is_path).collect()
}

fn the_docs_list_every_route_and_no_other() {
    let section = section(&document("docs/wire.md"), "Routes");
    let cells = first_cells(&section);
    let listed: BTreeSet<&str> = cells
        .iter()
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(|route| route.trim_start_matches("GET ").trim_end_matches("/..."))
        .filter(|route| *route != "<stream.path>")
        .collect();
    let is_below = |route: &str, path: &str| {
        route == path
            || route
                .strip_prefix(path)
                .is_some_and(|rest| rest.starts_with('/') && path != "/")
    };
    for route in routes() {
        assert!(
            listed.iter().any(|path| is_below(route, path)),
            "docs/wire.md lacks {route}"
        );
    }
    for path in RESERVED_PATHS {
        assert!(
            listed.iter().any(|route| is_below(route, path)),
            "docs/wire.md lacks {path}"
        );
    }
    for route in listed {
        let is_reserved = RESERVED_PATHS.iter().any(|path| is_below(route, path));
        assert!(is_reserved, "{route} is documented, and a stream may take it");
        // Paths below the assets are the assets' own.
        let is_of_assets = ["/", "/assets", "/favicon.ico"].contains(&route);
        assert!(
            is_of_assets || routes().contains(route),
            "{route} is documented, and not routed"
        );
    }
}

fn the_docs_list_every_control_event_and_no_other() {
    let section = section(&document("docs/wire.md"), "Control events");
    let others = section
        .split_once("None of these\nnames, nor ")
        .expect("names that are reserved")
        .1;
    let others = others.split_once(" (").expect("why they are reserved").0;
    let quoted = first_cells(&section).join(" ") + " " + others;
    let listed: BTreeSet<&str> = quoted.split('`').skip(1).step_by(2).collect();
    assert_eq!(listed, reserved_events().collect());
}

/// The second cells of the table of errors.
fn the_docs_list_every_error_code_and_no_other() {
    let wire = document("docs/wire.md");
    let rows = wire
        .lines()
        .skip_while(|line| *line != "| status | code | when |")
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split(" | ").nth(1));
    let listed: Vec<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let unique: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(unique.len(), listed.len(), "a code is listed twice: {listed:?}");
    let codes: BTreeSet<&str> = ErrorCode::ALL.map(ErrorCode::as_str).into();
    assert_eq!(codes, unique);
}

fn every_key_in_the_docs_exists() {
    let known: BTreeSet<String> = reload_effect::all().into_iter().map(|(key, _)| key).collect();
    let sections = ["kafka", "http", "auth", "memory", "stream", "ui", "log"];
    for (path, text) in documents() {
        for code in code(&text) {
            let is_key = code
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte));
            let section = code.split_once('.').map(|(section, _)| section);
            if is_key
                && section.is_some_and(|section| sections.contains(&section))
                && Path::new(&code).extension() != Some("rs".as_ref())
            {
                assert!(known.contains(&code), "{path}: unknown key {code}");
            }
            for word in code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
                let Some(name) = word
                    .strip_prefix(ENVIRONMENT_PREFIX)
                    .and_then(|rest| rest.strip_prefix("__"))
                else {
                    continue;
                };
                let key = name.to_lowercase().replace("__", ".");
                // A placeholder, or any property.
                let is_form = key.is_empty() || key == "section.key";
                let is_known = is_form || known.contains(&key) || key.starts_with("kafka.librdkafka.");
                assert!(is_known, "{path}: {word} names no key");
            }
        }
        let blocks = text
            .split("```toml\n")
            .skip(1)
            .map(|rest| rest.split("```").next().unwrap_or(rest));
        for block in blocks {
            toml::from_str::<Draft>(block).unwrap_or_else(|error| panic!("{path}: {error}\n{block}"));
        }
    }
}

fn every_file_in_the_docs_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, text) in documents() {
        let directory = root.join(&path).parent().map(PathBuf::from).expect("a directory");
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next());
        for link in links.filter(|link| !link.is_empty() && !link.contains("://")) {
            assert!(directory.join(link).exists(), "{path}: {link} does not exist");
        }
        for code in code(&text) {
            let first = code.split_whitespace().next().unwrap_or_default();
            let is_here = [
                "src/",
                "tests/",
                "scripts/",
                "docs/",
                "benches/",
                "packaging/",
                "etc/",
            ]
            .iter()
            .any(|part| first.starts_with(part));
            // A pattern names many.
            if is_here && !first.contains(['*', '<', '{']) {
                assert!(root.join(first).exists(), "{path}: {first} does not exist");
            }
        }
    }
}
