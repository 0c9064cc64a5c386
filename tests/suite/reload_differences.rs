//! The differences between two settings: every key, and the effect on each stream.

use crate::trials;
use kafka_sse_bridge::config::diff::{Changes, StreamChange, diff};
use kafka_sse_bridge::config::print::fingerprint;
use kafka_sse_bridge::config::{Document, Endpoint, Flags, Scheme, Settings, load, reload_effect};
use kafka_sse_bridge::stream::live_settings::{LiveSettings, Pace};
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::fs;

pub fn trials() -> Vec<Trial> {
    trials![
        a_reload_names_every_key_that_differs,
        a_reload_rebuilds_a_stream_only_if_its_events_change,
        streams_are_matched_by_path_in_any_order,
        addresses_are_added_and_removed_one_by_one,
        unchanged_headers_need_no_restart,
        keys_that_wait_for_a_restart_are_named,
        every_change_of_a_stream_has_the_effect_that_is_decided_for_its_key,
        a_raised_bound_of_a_table_that_lacks_rows_rebuilds_its_stream,
        config_hash_changes_with_paths_of_secret_files_not_with_secrets,
    ]
}

const BEFORE: &str = "
[kafka]
brokers = ['one:9092']
[kafka.librdkafka]
'sasl.password' = 'hush'
[http]
listen = ['127.0.0.1:3000']
[[stream]]
path = '/a'
topics = ['one', 'two']
[[stream]]
path = '/b'
topics = ['one']
start = 'snapshot'
[ui]
title = 'Before'
[log]
level = 'info'
";

fn settings(text: &str) -> Settings {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, text).expect("written");
    load(
        &Document::File(file.path().to_owned()),
        &BTreeMap::new(),
        &Flags::default(),
    )
    .unwrap_or_else(|error| panic!("{error}: {text}"))
    .settings
}

/// The changes when a piece of [`BEFORE`] is replaced, or when text is put behind it.
fn changed(from: &str, to: &str) -> Changes {
    assert_eq!(BEFORE.matches(from).count(), 1, "{from}");
    diff(&settings(BEFORE), &settings(&BEFORE.replace(from, to)), |_| false)
}

fn kept() -> Vec<StreamChange> {
    ["/a", "/b"]
        .map(|path| StreamChange::Kept(path.to_owned()))
        .to_vec()
}

fn a_reload_names_every_key_that_differs() {
    let same = diff(&settings(BEFORE), &settings(BEFORE), |_| false);
    assert!(same.is_empty(), "{same:?}");
    assert_eq!(same.streams, kept());

    for (from, to, keys) in [
        ("'one:9092'", "'one:9092', 'two:9092'", &["kafka.brokers"][..]),
        (
            "brokers = ['one:9092']",
            "brokers = ['one:9092']\nclient = 'librdkafka'\nisolation = 'read_uncommitted'",
            &["kafka.client", "kafka.isolation"],
        ),
        // Values are never shown: they may be secrets.
        ("'hush'", "'other'", &["kafka.librdkafka"]),
        ("'sasl.password' = 'hush'", "", &["kafka.librdkafka"]),
        (
            "brokers = ['one:9092']",
            "tls = {}",
            &["kafka.brokers", "kafka.tls"],
        ),
        (
            "[http]",
            "[http]\nkeepalive = '1s'\nretry = '1s'\ndrain_timeout = '1s'\nmax_lifetime = '1h'\nwrite_timeout = '1s'",
            &[
                "http.drain_timeout",
                "http.keepalive",
                "http.max_lifetime",
                "http.retry",
                "http.write_timeout",
            ],
        ),
        (
            "[http]",
            "[http]\nmax_clients = 1\nmax_clients_per_ip = 1\nmax_connections_per_ip = 1\nmax_opens_per_second = 1\n\
             max_opens_per_second_per_ip = 1\nmax_replay_bytes_per_minute = '1GiB'\n\
             max_replay_bytes_per_minute_per_client = '64MiB'\ntrusted_proxies = ['10.0.0.0/8']\nbase_path = '/x'\n\
             cors.allow_origins = ['https://a.example']",
            &[
                "http.base_path",
                "http.cors.allow_origins",
                "http.max_clients",
                "http.max_clients_per_ip",
                "http.max_connections_per_ip",
                "http.max_opens_per_second",
                "http.max_opens_per_second_per_ip",
                "http.max_replay_bytes_per_minute",
                "http.max_replay_bytes_per_minute_per_client",
                "http.trusted_proxies",
            ],
        ),
        (
            "[http]",
            "[http]\nhttp2 = true\nhttp2_max_concurrent_streams = 1",
            &["http.http2", "http.http2_max_concurrent_streams"],
        ),
        // A default that is written out is no change.
        (
            "[http]",
            "[http]\nkeepalive = '15s'\nretry = '2000ms'\nmax_clients = 100000\ncors = {}",
            &[],
        ),
        (
            "topics = ['one', 'two']",
            "topics = ['one', 'two']\ncors.allow_origins = ['https://a.example']",
            &["stream \"/a\": cors"],
        ),
        (
            "[http]",
            "[http]\nhosts = ['a.example']\nexpose = []\ncors = { allow_origins = ['*'], allow_private_network = true }",
            &[
                "http.cors.allow_origins",
                "http.cors.allow_private_network",
                "http.expose",
                "http.hosts",
            ],
        ),
        (
            "[http]",
            "[auth.proxy]\nheaders = { sub = 'X-User' }\n[http]\ntrusted_proxies = ['unix']",
            &[
                "http.trusted_proxies",
                "auth.proxy",
                "stream \"/a\": allow",
                "stream \"/b\": allow",
            ],
        ),
        ("'Before'", "'After'", &["ui.title"]),
        ("'Before'", "'Before'\nlogin_url = '/login'", &["ui.login_url"]),
        (
            "level = 'info'",
            "level = 'debug'\nformat = 'json'\nfile = 'x.log'\nstderr = true\n[log.targets]\nx = 'warn'",
            &["log.file", "log.format", "log.level", "log.stderr", "log.targets"],
        ),
    ] {
        let changes = changed(from, to);
        assert_eq!(changes.keys, keys, "{to}");
        assert_eq!(changes.is_empty(), keys.is_empty());
        assert_eq!(changes.streams, kept(), "{to}");
        assert!(
            changes.listen.is_empty() && changes.unlisten.is_empty() && changes.restart.is_empty(),
            "{changes:?}"
        );
    }
}

fn a_reload_rebuilds_a_stream_only_if_its_events_change() {
    for (line, key) in [
        ("heartbeat = 'event'", "heartbeat"),
        ("heartbeat_interval = '1s'", "heartbeat_interval"),
        ("log_bytes = '1MiB'", "log_bytes"),
        ("lag = 'disconnect'", "lag"),
        ("checkpoint_interval = '1s'", "checkpoint_interval"),
        ("throttle = '1s'", "throttle"),
        ("delete_retention = '1h'", "delete_retention"),
        ("max_keys = 7", "max_keys"),
        ("max_table_bytes = '1MiB'", "max_table_bytes"),
        ("when_full = 'evict-oldest'", "when_full"),
        ("client_filters = false", "client_filters"),
        ("max_filter_paths = 7", "max_filter_paths"),
        ("max_unindexed_filters = 7", "max_unindexed_filters"),
        ("view = [{ kind = 'feed' }]", "view"),
    ] {
        let changes = changed("start = 'snapshot'", &format!("start = 'snapshot'\n{line}"));
        assert_eq!(changes.keys, [format!("stream \"/b\": {key}")]);
        assert_eq!(changes.streams, kept(), "{line}");
    }
    let rebuilt = [
        StreamChange::Kept("/a".to_owned()),
        StreamChange::Rebuilt("/b".to_owned()),
    ];
    for (line, key) in [
        ("key_field = 'k'", "key_field"),
        ("format = 'envelope'", "format"),
        ("event = 'x'", "event"),
        ("filter = { key = ['1'] }", "filter"),
    ] {
        let changes = changed("start = 'snapshot'", &format!("start = 'snapshot'\n{line}"));
        assert_eq!(changes.keys, [format!("stream \"/b\": {key}")]);
        assert_eq!(changes.streams, rebuilt, "{line}");
    }
    let start = changed("start = 'snapshot'", "start = 'earliest'");
    assert_eq!(start.keys, ["stream \"/b\": start"]);
    assert_eq!(start.streams, rebuilt);
    let topics = changed("topics = ['one']", "topics = ['one', 'three']");
    assert_eq!(topics.keys, ["stream \"/b\": topics"]);
    assert_eq!(topics.streams, rebuilt);
}

fn streams_are_matched_by_path_in_any_order() {
    let (a, rest) = BEFORE.split_once("[[stream]]\n").expect("two streams");
    let (first, second) = rest.split_once("[[stream]]\n").expect("two streams");
    let (second, others) = second.split_once("[ui]").expect("a page");
    let swapped = format!("{a}[[stream]]\n{second}[[stream]]\n{first}[ui]{others}");
    let changes = diff(&settings(BEFORE), &settings(&swapped), |_| false);
    assert!(changes.is_empty(), "{changes:?}");
    assert_eq!(
        changes.streams,
        ["/b", "/a"].map(|path| StreamChange::Kept(path.to_owned()))
    );

    let changes = changed("path = '/a'", "path = '/c'");
    assert_eq!(
        changes.keys,
        ["stream \"/c\" added", "stream \"/a\" removed"],
        "what is served elsewhere is another stream"
    );
    assert_eq!(
        changes.streams,
        [
            StreamChange::Added("/c".to_owned()),
            StreamChange::Kept("/b".to_owned()),
            StreamChange::Removed("/a".to_owned()),
        ]
    );
}

fn addresses_are_added_and_removed_one_by_one() {
    let changes = changed(
        "['127.0.0.1:3000']",
        "['127.0.0.1:3000', 'unix:/run/x.sock', '[::1]:3000']",
    );
    assert_eq!(changes.keys, ["http.listen"]);
    assert_eq!(
        changes.listen,
        ["unix:/run/x.sock", "[::1]:3000"].map(Endpoint::http)
    );
    assert!(changes.unlisten.is_empty());

    let changes = changed("['127.0.0.1:3000']", "['[::1]:3000']");
    assert_eq!(changes.listen, [Endpoint::http("[::1]:3000")]);
    assert_eq!(changes.unlisten, [Endpoint::http("127.0.0.1:3000")]);

    // An address that becomes the operators' is closed and bound again.
    let changes = changed(
        "listen = ['127.0.0.1:3000']",
        "listen = ['[::1]:3000']\nadmin.listen = ['127.0.0.1:3000']",
    );
    assert_eq!(changes.keys, ["http.admin.listen", "http.listen"]);
    assert_eq!(changes.unlisten, [Endpoint::http("127.0.0.1:3000")]);
    let [_, added] = changes.listen.as_slice() else {
        panic!("{changes:?}")
    };
    assert_eq!(
        (added.address.as_str(), added.scheme),
        ("127.0.0.1:3000", Scheme::Admin)
    );
}

fn unchanged_headers_need_no_restart() {
    let with = |line: &str| settings(&BEFORE.replace("start = 'snapshot'", line));
    let (on, off) = (with("client_filters = true"), with("client_filters = false"));
    let of_b = |changes: &Changes| changes.streams[1].clone();
    assert_eq!(
        of_b(&diff(&on, &off, |_| false)),
        StreamChange::Kept("/b".to_owned())
    );
    assert_eq!(
        of_b(&diff(&off, &on, |_| false)),
        StreamChange::Rebuilt("/b".to_owned()),
        "clients may ask for headers that nobody kept"
    );
}

fn keys_that_wait_for_a_restart_are_named() {
    let preload = "topics = ['one', 'two']\npreload = 5";
    let changes = changed("topics = ['one', 'two']", preload);
    assert_eq!(changes.keys, ["stream \"/a\": preload"]);
    assert_eq!(changes.restart, changes.keys);
    assert_eq!(changes.streams, kept());

    // A stream that is read from its beginning preloads nothing, and a rebuilt one does so now.
    let changes = changed("start = 'snapshot'", "start = 'snapshot'\npreload = 5");
    assert_eq!(changes.keys, ["stream \"/b\": preload"]);
    assert!(changes.restart.is_empty(), "{changes:?}");
    let changes = changed("topics = ['one', 'two']", &format!("{preload}\nevent = 'x'"));
    assert!(changes.restart.is_empty(), "{changes:?}");
}

/// A line for each key of a stream, which changes it; `heartbeat_interval` counts only beside `heartbeat = 'event'`.
const CHANGED_LINES: [(&str, &str); 35] = [
    ("topics", "topics = ['other']"),
    ("start", "start = 'earliest'"),
    ("key_format", "key_format = 'int32'"),
    ("value_format", "value_format = 'text'"),
    ("avro_json", "avro_json = 'tagged'"),
    ("int64", "int64 = 'string'"),
    ("timestamps", "timestamps = 'number'"),
    ("unwrap", "unwrap = 'debezium'"),
    ("metadata_field", "metadata_field = 'change'"),
    ("fields", "fields = ['id']"),
    ("hide", "hide = ['ssn']"),
    ("format", "format = 'envelope'"),
    ("key_field", "key_field = 'k'"),
    ("topic_field", "topic_field = 'k'"),
    ("partition_field", "partition_field = 'k'"),
    ("offset_field", "offset_field = 'k'"),
    ("timestamp_field", "timestamp_field = 'k'"),
    ("headers_field", "headers_field = 'k'"),
    ("event", "event = 'x'"),
    ("heartbeat", "heartbeat = 'comment'"),
    ("heartbeat_interval", "heartbeat_interval = '7s'"),
    ("log_bytes", "log_bytes = '1MiB'"),
    ("preload", "preload = 5"),
    ("lag", "lag = 'disconnect'"),
    ("checkpoint_interval", "checkpoint_interval = '7s'"),
    ("throttle", "throttle = '7s'"),
    ("delete_retention", "delete_retention = '7s'"),
    ("max_keys", "max_keys = 7"),
    ("max_table_bytes", "max_table_bytes = '1MiB'"),
    ("when_full", "when_full = 'evict-oldest'"),
    ("allow", "allow = 'public'"),
    ("filter", "filter = { key = ['1'] }"),
    ("client_filters", "client_filters = false"),
    ("max_filter_paths", "max_filter_paths = 7"),
    ("max_unindexed_filters", "max_unindexed_filters = 7"),
];

fn a_raised_bound_of_a_table_that_lacks_rows_rebuilds_its_stream() {
    let with = |bounds: &str| {
        settings(&BEFORE.replace("start = 'snapshot'", &format!("start = 'snapshot'\n{bounds}")))
    };
    let old = with("max_keys = 10\nmax_table_bytes = '2MiB'");
    for (bounds, is_raised) in [
        ("max_keys = 11\nmax_table_bytes = '2MiB'", true),
        ("max_keys = 10\nmax_table_bytes = '3MiB'", true),
        ("max_keys = 9\nmax_table_bytes = '2MiB'", false),
        ("max_keys = 10\nmax_table_bytes = '1MiB'", false),
    ] {
        for lacks_rows in [true, false] {
            let changes = diff(&old, &with(bounds), |path| path == "/b" && lacks_rows);
            let path = "/b".to_owned();
            let expected = if is_raised && lacks_rows {
                StreamChange::Rebuilt(path)
            } else {
                StreamChange::Kept(path)
            };
            assert_eq!(changes.streams[1], expected, "{bounds}, lacks rows: {lacks_rows}");
        }
    }
}

fn every_change_of_a_stream_has_the_effect_that_is_decided_for_its_key() {
    let decided: BTreeMap<String, String> = reload_effect::all()
        .into_iter()
        .filter_map(|(key, effects)| Some((key.strip_prefix("stream.")?.to_owned(), effects.to_string())))
        // CORS is decided by each request, and what the page shows is in answers to it.
        .filter(|(key, _)| key != "path" && !key.starts_with("cors") && !key.starts_with("view"))
        .collect();
    let shown: Vec<&str> = CHANGED_LINES.iter().map(|(key, _)| *key).collect();
    assert_eq!(decided.len(), shown.len(), "{decided:?} has no line in {shown:?}");
    let registry = "[kafka.schema_registry]\nurls = ['http://127.0.0.1:1']\n";
    let auth = "[http]\ntrusted_proxies = ['unix']\n[auth.proxy]\nheaders = { sub = 'X-User' }\n";
    let before = format!("{registry}{auth}[memory]\nlimit = '2GiB'\n[[stream]]\npath = '/a'\n");
    let given = [
        ("topics", "topics = ['one']"),
        ("heartbeat", "heartbeat = 'event'"),
    ];
    let with = |changed: &[(&str, &str)]| {
        let is_given = |(key, _): &&(&str, &str)| changed.iter().all(|(other, _)| other != key);
        let lines = given.iter().filter(is_given).chain(changed);
        settings(&lines.fold(before.clone(), |text, (_, line)| format!("{text}{line}\n")))
    };
    let live_settings =
        |settings: &Settings| LiveSettings::new(&settings.streams[0], Pace::from(&settings.http));
    for (key, line) in CHANGED_LINES {
        let beside = lines_beside(key);
        let old = with(&beside);
        let new = with(&[&beside[..], &[(key, line)]].concat());
        let changes = diff(&old, &new, |_| false);
        assert_eq!(changes.keys, [format!("stream \"/a\": {key}")], "{line}");
        let is_rebuilt = changes.streams == [StreamChange::Rebuilt("/a".to_owned())];
        let (waits, applies) = (
            !changes.restart.is_empty(),
            live_settings(&old) != live_settings(&new),
        );
        let effect = &*decided[key];
        let is_as_decided = match effect {
            // A stream that continues applies its live_settings and nothing else.
            "live" | "live or rebuild" => applies && !is_rebuilt && !waits,
            "rebuild" => is_rebuilt && !waits,
            "live or restart" => waits && !is_rebuilt && !applies,
            _ => false,
        };
        assert!(is_as_decided, "{line} is decided to be {effect}: {changes:?}");
    }
}

/// The lines without which a key makes no sense.
fn lines_beside(key: &str) -> Vec<(&'static str, &'static str)> {
    match key {
        "avro_json" | "timestamps" => vec![("value_format", "value_format = 'avro'")],
        "int64" => vec![("value_format", "value_format = 'protobuf'")],
        "metadata_field" => vec![("unwrap", "unwrap = 'debezium'")],
        "throttle" => vec![("start", "start = 'snapshot'")],
        _ => Vec::new(),
    }
}

fn config_hash_changes_with_paths_of_secret_files_not_with_secrets() {
    let secrets = tempfile::tempdir().expect("a directory");
    let file = |name: &str| {
        let path = secrets.path().join(name);
        fs::write(&path, "hush").expect("written");
        path.display().to_string()
    };
    let with = |kafka: &str| {
        let text = BEFORE.split_once("[kafka.librdkafka]").expect("properties").1;
        let rest = text.split_once("[http]").expect("a section").1;
        fingerprint(&settings(&format!("[kafka]\n{kafka}\n[http]{rest}")))
    };
    for (mechanism, key) in [
        ("mechanism = 'PLAIN', username = 'me'", "password_file"),
        ("mechanism = 'OAUTHBEARER'", "token_file"),
    ] {
        let sasl = |path: String| with(&format!("sasl = {{ {mechanism}, {key} = '{path}' }}"));
        assert_ne!(sasl(file("one")), sasl(file("other")), "{key}");
    }
    let property = |name: &str, value: &str| with(&format!("librdkafka = {{ '{name}' = '{value}' }}"));
    assert_eq!(
        property("sasl.password", "one"),
        property("sasl.password", "other")
    );
    assert_ne!(property("client.id", "one"), property("client.id", "other"));
}
