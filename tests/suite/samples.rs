//! The sample configuration and the reference agree with the code.

use crate::trials;
use kafka_sse_bridge::config::settings::Draft;
use kafka_sse_bridge::config::{
    Client, Document, Flags, Heartbeat, HttpSettings, HttpTlsSettings, Start, load, reload_effect,
};
use libtest_mimic::Trial;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<Trial> {
    trials![
        the_shipped_sample_reproduces_the_original_program,
        the_samples_comments_show_the_true_defaults,
        the_sample_names_every_key_in_its_section,
        the_reference_lists_every_key_with_its_true_default_and_its_reload,
    ]
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn the_shipped_sample_reproduces_the_original_program() {
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
    let [view] = stream.view.as_slice() else {
        panic!("one view")
    };
    assert_eq!(view.title.as_deref(), Some("Continent and Country Overview"));
    let labels: Vec<_> = view
        .columns
        .iter()
        .filter_map(|column| column.label.as_deref())
        .collect();
    assert_eq!(labels, ["Continent", "Top 3 Countries by Size"]);
    assert_eq!(settings.http.listen, ["127.0.0.1:3000"]);
    assert_eq!(settings.kafka.client, Client::Auto);
}

/// The sample with every `#key = value` comment made a line must set only the defaults.
fn the_samples_comments_show_the_true_defaults() {
    let text = fs::read_to_string(repository("etc/kafka-sse-bridge.toml")).expect("the sample");
    let examples = [
        "event =",
        "lag =",
        "limit =",
        "assets =",
        "unwrap =",
        "metadata_field =",
        "topic_field =",
        "partition_field =",
        "offset_field =",
        "timestamp_field =",
        "headers_field =",
        "fields =",
        "hide =",
        "unix_socket",
        "file =",
        "\"",
        "[kafka.librdkafka]",
        "[log.targets]",
        "tls",
        "sasl",
        "expose =",
        "schema_registry.urls",
        "schema_registry.username",
        "schema_registry.password_file",
        "schema_registry.token_file",
        "schema_registry.ca_file",
        "schema_registry.cert_file",
        "schema_registry.key_file",
        "[auth",
        "cookie =",
        "query_parameter =",
        "warn_before =",
        "algorithms =",
        "jwks_",
        "leeway =",
        "issuer =",
        "audience =",
        "headers =",
        "lists =",
        "sub =",
        "allow =",
        "cors = { allow_origins = [\"https",
        "logo =",
        "accent =",
        "default_view =",
        "login_url =",
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

/// Keys within others may be described in a sentence; those of the schema registry, whose names TLS has too, are written
/// out.
fn the_sample_names_every_key_in_its_section() {
    let text = fs::read_to_string(repository("etc/kafka-sse-bridge.toml")).expect("the sample");
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    let mut section = "";
    for line in text.lines() {
        let title = line.trim_start_matches(['#', '[']);
        if line.trim_start_matches('#').starts_with('[') && title.ends_with(']') {
            section = title.split(['.', ']']).next().unwrap_or_default();
        }
        let of_section = sections.entry(section).or_default();
        of_section.push_str(line);
        of_section.push('\n');
    }
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let mut missing = Vec::new();
    for key in keys().keys() {
        let (section, rest) = key.split_once('.').unwrap_or((key, key));
        let name = match rest.split_once('.') {
            Some(("schema_registry", _)) => rest,
            _ => rest.rsplit('.').next().unwrap_or_default(),
        };
        let of_section = sections.get(section).map_or("", String::as_str);
        let words = of_section.split(|c| !is_of_word(c));
        let mut words = words.map(|word| word.trim_end_matches('.'));
        if !words.any(|word| word == name || word.split('.').any(|part| part == name)) {
            missing.push(key.clone());
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// A key's default, as TOML, and when a change of it takes effect.
type Row = (Option<String>, String);

/// Every key of the settings.
fn keys() -> BTreeMap<String, Row> {
    let draft = Draft {
        streams: vec![kafka_sse_bridge::config::StreamSettings::default()],
        http: HttpSettings {
            tls: Some(HttpTlsSettings::default()),
            ..HttpSettings::default()
        },
        ..Draft::default()
    };
    let mut defaults = toml::Value::try_from(&draft).expect("TOML");
    let stream = defaults["stream"][0].clone();
    let sections = defaults.as_table_mut().expect("sections");
    sections.insert("stream".to_owned(), stream);
    let default = |key: &str| {
        let value = key
            .split('.')
            .try_fold(&defaults, |table, name| table.get(name))?;
        let is_empty = ["", "[]", "{}", "\"\""].contains(&value.to_string().trim());
        (!is_empty).then(|| value.to_string())
    };
    reload_effect::all()
        .into_iter()
        .map(|(key, effects)| (key.clone(), (default(&key), effects.to_string())))
        .collect()
}

/// The cells of a row of a table, without the quotes of code.
fn cells(line: &str) -> Vec<&str> {
    let inner = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
    let cells = inner.into_iter().flat_map(|inner| inner.split(" | "));
    cells.map(|cell| cell.trim_matches('`')).collect()
}

/// docs/configuration.md has a table with a row for every key, under its section's title, or headed "key of" where the
/// key is within another one.
fn the_reference_lists_every_key_with_its_true_default_and_its_reload() {
    let text = fs::read_to_string(repository("docs/configuration.md")).expect("the reference");
    let mut rows = BTreeMap::new();
    let (mut section, mut table, mut sections) = ("", None, BTreeSet::new());
    for line in text.lines() {
        let cells = cells(line);
        if let Some(title) = line.strip_prefix("## ") {
            section = title.trim_matches(['[', ']', '`']);
            sections.insert(section);
        }
        match (cells.as_slice(), &table) {
            (["key", "default", "reload", "meaning"], _) => table = Some(section.to_owned()),
            ([key, "reload", "meaning"], _) => {
                let outer = key.strip_prefix("key of `").expect("a table of keys");
                table = Some(format!("{section}.{outer}"));
            }
            ([] | ["---", ..], _) | (_, None) => {}
            ([key, default, reload, _], Some(table)) => {
                let default = (*default != "none").then(|| (*default).to_owned());
                rows.insert(format!("{table}.{key}"), (default, (*reload).to_owned()));
            }
            ([key, reload, _], Some(table)) => {
                rows.insert(format!("{table}.{key}"), (None, (*reload).to_owned()));
            }
            (_, Some(_)) => panic!("a row of other cells: {line}"),
        }
        if cells.is_empty() {
            table = None;
        }
    }
    let mut keys = keys();
    // A table with a section of its own has no row.
    keys.retain(|key, _| !sections.contains(key.as_str()));
    let named = |map: &BTreeMap<String, Row>| map.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        named(&rows),
        named(&keys),
        "docs/configuration.md and the code name different keys"
    );
    for (key, row) in &keys {
        assert_eq!(&rows[key], row, "docs/configuration.md is wrong about {key}");
    }
}
