//! The sample configuration and the reference say what the code does.

use crate::harness::trial;
use kafka_sse_bridge::config::settings::Draft;
use kafka_sse_bridge::config::{Client, Document, Flags, Heartbeat, Start, load};
use libtest_mimic::Trial;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the_shipped_sample_reproduces_the_original_program", sample),
        trial("the_samples_comments_show_the_true_defaults", sample_defaults),
        trial("the_reference_lists_every_key_with_its_true_default", reference),
    ]
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn sample() {
    let document = Document::File(repository("etc/kafka-sse-bridge.toml"));
    let settings = load(&document, &BTreeMap::new(), &Flags::default())
        .expect("the sample is valid")
        .settings;
    let [stream] = settings.streams.as_slice() else {
        panic!("one stream")
    };
    assert_eq!(
        (stream.path.as_str(), stream.start),
        ("/topn/updates", Start::Snapshot)
    );
    assert_eq!(stream.topics, ["Top3CountrySizePerContinent"]);
    assert_eq!(stream.key_field.as_deref(), Some("continent"));
    assert_eq!(
        (stream.heartbeat, stream.heartbeat_interval.to_string().as_str()),
        (Heartbeat::Event, "10s")
    );
    assert_eq!(settings.http.listen, ["127.0.0.1:3000"]);
    assert_eq!(settings.kafka.client, Client::Auto);
}

/// The sample with every `#key = value` comment made a line must say nothing but the defaults.
fn sample_defaults() {
    let text = fs::read_to_string(repository("etc/kafka-sse-bridge.toml")).expect("the sample");
    let examples = [
        "event =",
        "lag =",
        "limit =",
        "assets =",
        "unix_socket",
        "file =",
        "\"",
        "[kafka.librdkafka]",
        "[log.targets]",
        "tls",
        "sasl",
    ];
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key)
                if key.contains(" = ")
                    && !key.starts_with(' ')
                    && !examples.iter().any(|e| key.starts_with(e)) =>
            {
                key
            }
            _ => line,
        })
        .collect();
    assert!(
        uncommented
            .iter()
            .zip(text.lines())
            .filter(|(new, old)| *new != old)
            .count()
            > 8,
        "defaults were found"
    );
    let read = |text: &str| toml::from_str::<Draft>(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read(&uncommented.join("\n")), read(&text));
}

/// Every key of the settings, with its default as TOML; `None` where there is none.
fn keys() -> BTreeMap<String, Option<String>> {
    let draft = Draft {
        streams: vec![kafka_sse_bridge::config::StreamSettings::default()],
        ..Draft::default()
    };
    let toml::Value::Table(table) = toml::Value::try_from(&draft).expect("TOML") else {
        panic!("a table")
    };
    let mut keys = BTreeMap::new();
    for (section, value) in table {
        let inner = match value {
            toml::Value::Array(mut items) => items.remove(0),
            other => other,
        };
        let toml::Value::Table(inner) = inner else {
            panic!("{section} is a section")
        };
        for (key, value) in inner {
            if let toml::Value::Table(table) = &value
                && !table.is_empty()
            {
                // A section of its own.
                for (inner, value) in table {
                    let is_given = *value != toml::Value::Array(Vec::new());
                    keys.insert(
                        format!("{section}.{key}.{inner}"),
                        is_given.then(|| value.to_string()),
                    );
                }
                continue;
            }
            let is_given = !matches!(&value, toml::Value::Table(table) if table.is_empty())
                && value != toml::Value::from("")
                && value != toml::Value::Array(Vec::new());
            keys.insert(format!("{section}.{key}"), is_given.then(|| value.to_string()));
        }
    }
    // Those that are left out while they have no value.
    for key in [
        "kafka.librdkafka",
        "kafka.tls",
        "kafka.sasl",
        "http.unix_socket_mode",
        "http.unix_socket_group",
        "log.targets",
        "memory.limit",
        "stream.filter",
        "stream.key_field",
        "stream.event",
        "stream.lag",
        "ui.assets",
        "log.file",
    ] {
        keys.insert(key.to_owned(), None);
    }
    keys
}

/// The configuration's sections, as their titles name them.
const SECTIONS: [&str; 7] = ["kafka", "http", "http.cors", "memory", "stream", "ui", "log"];

/// docs/configuration.md has a row `| key | default | ... |` for every key, under its section's title.
fn reference() {
    let text = fs::read_to_string(repository("docs/configuration.md")).expect("the reference");
    let mut section = String::new();
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        // Other tables, of what a reload does, say, have such rows too.
        if let Some(title) = line.strip_prefix("## ") {
            title.trim_matches(['[', ']', '`']).clone_into(&mut section);
        }
        // What stands within a key has a heading of its own.
        if line.starts_with("### ") {
            section.clear();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", key, default, ..] = cells.as_slice()
            && key.starts_with('`')
            && SECTIONS.contains(&section.as_str())
        {
            let default = default.trim_matches('`');
            let default = (!default.is_empty() && default != "none").then(|| default.to_owned());
            rows.insert(format!("{section}.{}", key.trim_matches('`')), default);
        }
    }
    let keys = keys();
    let named = |map: &BTreeMap<String, Option<String>>| map.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        named(&rows),
        named(&keys),
        "docs/configuration.md and the code name different keys"
    );
    assert_eq!(
        rows, keys,
        "docs/configuration.md and the code have different defaults"
    );
}
