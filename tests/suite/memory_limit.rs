//! All bounds on memory add up to no more than the limit: unset bounds are derived from it, set bounds that exceed it
//! are refused, and commands show the sum.

use crate::common::config;
use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::daemon::{Daemon, run_to_end};
use crate::harness::wait::{block_on, secs};
use crate::reload::{client, figures, fill_log, reloaded};
use crate::trials;
use kafka_sse_bridge::config::available::Available;
use kafka_sse_bridge::config::memory::{Memory, Sum, derive};
use kafka_sse_bridge::config::settings::Draft;
use kafka_sse_bridge::config::stream::LEAST_LOG;
use kafka_sse_bridge::config::units::Size;
use libtest_mimic::Trial;
use std::fs;
use std::process::Output;

pub fn trials() -> Vec<Trial> {
    trials![
        the_c_libraries_allocate_by_jemalloc_with_our_settings,
        unset_bounds_are_derived_from_the_memory_limit,
        derived_bounds_stay_within_every_limit_that_fits_the_minimum,
        the_default_memory_limit_is_half_of_the_available_memory,
        client_memory_counts_in_the_warning_and_not_in_the_limit,
        bounds_above_the_memory_limit_are_refused_by_key,
        check_sums_the_bounds_and_warns,
        print_config_shows_derived_bounds,
        a_reload_derives_bounds_again_for_open_streams,
    ]
}

const MEBIBYTE: u64 = 1 << 20;

/// Streams as TOML: each its lines beside path and topics.
fn streams(lines: &[&str]) -> String {
    let stream = |(index, lines)| format!("[[stream]]\npath = \"/{index}\"\ntopics = [\"t\"]\n{lines}\n");
    (0..).zip(lines).map(stream).collect::<String>()
}

/// The settings of a configuration on a machine with this much memory.
fn derived(text: &str, available: Option<u64>) -> (Draft, Memory) {
    let mut draft: Draft = toml::from_str(text).expect("valid");
    let file: toml::Table = text.parse().expect("TOML");
    let available = available.map(|bytes| Available {
        bytes,
        source: "a test".to_owned(),
    });
    let is_set = |key: &str| {
        let (index, name) = key
            .strip_prefix("stream[")
            .and_then(|rest| rest.split_once("]."))
            .expect("a key of a stream");
        let index: usize = index.parse().expect("a number");
        file["stream"][index].get(name).is_some()
    };
    let memory = derive(&mut draft, available, is_set);
    (draft, memory)
}

fn limited(limit: &str, lines: &[&str]) -> (Draft, Memory) {
    derived(
        &format!("[memory]\nlimit = \"{limit}\"\n{}", streams(lines)),
        Some(1 << 40),
    )
}

/// Limit, and the lines of each stream.
type Given<'a> = (&'a str, &'a [&'a str]);
/// Log and table of each stream, and whether they are derived.
type Expected<'a> = (&'a [(&'a str, &'a str)], bool);

fn unset_bounds_are_derived_from_the_memory_limit() {
    const TABLE: &str = "start = \"snapshot\"";
    // Limit and streams; then log and table of each, and whether they are derived.
    let cases: [(Given<'_>, Expected<'_>); 8] = [
        (("208MiB", &[""]), (&[("64MiB", "256MiB")], false)),
        (("486MiB", &[TABLE]), (&[("64MiB", "256MiB")], false)),
        (("160MiB", &[""]), (&[("32MiB", "256MiB")], true)),
        (
            ("486MiB", &[TABLE, TABLE]),
            (&[("32MiB", "130560KiB"), ("32MiB", "130560KiB")], true),
        ),
        // Configured bounds are kept and leave less to the others.
        (
            ("310MiB", &["log_bytes = \"100MiB\"", ""]),
            (&[("100MiB", "256MiB"), ("32MiB", "256MiB")], true),
        ),
        // Without filters there are no notes for them.
        (
            ("176MiB", &["client_filters = false"]),
            (&[("64MiB", "256MiB")], false),
        ),
        // A default that is written out is set.
        (
            ("208MiB", &["log_bytes = \"64MiB\""]),
            (&[("64MiB", "256MiB")], false),
        ),
        // Not even the least fits.
        (("1MiB", &[TABLE]), (&[("512KiB", "512KiB")], true)),
    ];
    for ((limit, lines), (expected, is_derived)) in cases {
        let (draft, memory) = limited(limit, lines);
        let bounds: Vec<(String, String)> = draft
            .streams
            .iter()
            .map(|stream| (stream.log_bytes.to_string(), stream.max_table_bytes.to_string()))
            .collect();
        let expected: Vec<(String, String)> = expected
            .iter()
            .map(|&(log, table)| (log.to_owned(), table.to_owned()))
            .collect();
        assert_eq!(bounds, expected, "{limit} {lines:?}");
        let last = lines.len() - 1;
        assert_eq!(
            memory.is_derived(&format!("stream[{last}].log_bytes")),
            is_derived,
            "{limit} {lines:?}"
        );
        let has_table = lines[last] == TABLE;
        assert_eq!(
            memory.is_derived(&format!("stream[{last}].max_table_bytes")),
            is_derived && has_table,
            "{limit} {lines:?}"
        );
    }
}

fn derived_bounds_stay_within_every_limit_that_fits_the_minimum() {
    for count in [1_usize, 2, 7, 100] {
        let lines: Vec<&str> = (0..count)
            .map(|index| ["", "start = \"snapshot\"", "client_filters = false"][index % 3])
            .collect();
        let mut before = (Size(0), Size(0));
        for limit in (0..400).map(|step| MEBIBYTE * (112 + step * step / 2)) {
            let (draft, _) = limited(&limit.to_string(), &lines);
            let is_least = draft.streams.iter().all(|stream| {
                stream.log_bytes == LEAST_LOG && (!stream.has_table() || stream.max_table_bytes == LEAST_LOG)
            });
            let sum = Sum::of(&draft).limited();
            assert!(is_least || sum <= limit, "{count} streams: {sum} of {limit}");
            let last = &draft.streams[count.min(2) - 1];
            let bounds = (last.log_bytes, last.max_table_bytes);
            assert!(
                limit == 112 * MEBIBYTE || before.0 <= bounds.0,
                "{count} streams: more memory makes no log smaller"
            );
            before = bounds;
        }
        assert_eq!(before.0, Size::mebibytes(64), "the default is never exceeded");
    }
}

fn the_default_memory_limit_is_half_of_the_available_memory() {
    let (draft, memory) = derived(&streams(&[""]), Some(320 * MEBIBYTE + 1));
    assert_eq!(memory.limit, Some(Size::mebibytes(160)));
    assert_eq!(
        draft.memory.limit, None,
        "settings are alike on all machines where they may be"
    );
    assert_eq!(draft.streams[0].log_bytes, Size::mebibytes(32));
    let (draft, memory) = derived(&streams(&[""; 1000]), None);
    assert_eq!(
        (memory.limit, draft.streams[999].log_bytes),
        (None, Size::mebibytes(64))
    );
}

fn client_memory_counts_in_the_warning_and_not_in_the_limit() {
    let text = |clients: u64, http: &str| {
        format!(
            "[http]\nmax_clients = {clients}\n{http}{}",
            streams(&["log_bytes = \"64MiB\""])
        )
    };
    // 208 MiB of bounds, and an estimate for each client by how streams are written.
    let tls = "[http.tls]\nlisten = \"127.0.0.1:8443\"\n\
               certificates = [{ cert_file = \"c\", key_file = \"k\" }]\n";
    let cases = [
        ("", "", 10),
        ("delivery = \"epoll\"\n", "", 10),
        ("delivery = \"hyper\"\n", "", 24),
        ("http2 = true\n", "", 24),
        ("", tls, 32),
    ];
    for (http, tls, kibibytes) in cases {
        let available = 208 * MEBIBYTE + 1000 * kibibytes * 1024;
        for (clients, is_enough) in [(1000, true), (0, true), (1001, false)] {
            let (draft, memory) = derived(&(text(clients, http) + tls), Some(available));
            let remedy = memory.remedy(&draft);
            assert_eq!(remedy.is_none(), is_enough, "{clients}: {remedy:?}");
            assert!(
                remedy
                    .is_none_or(|remedy| remedy.starts_with("set max_clients = 1000 in [http], lower limit")),
                "{clients}"
            );
        }
    }
    let (draft, memory) = derived(&text(0, ""), Some(208 * MEBIBYTE - 1));
    let remedy = memory.remedy(&draft).expect("too little");
    assert!(!remedy.contains("max_clients"), "{remedy}");
    assert!(remedy.contains("stream[0].log_bytes (64MiB)"), "{remedy}");
}

/// The exit status and the output of a command for a configuration.
fn run(command: &str, text: &str) -> (Output, String, String) {
    let file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile()
        .expect("a file");
    fs::write(&file, text).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let output = run_to_end(&[command, "--config", path], &[]);
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(path, "FILE");
    let (out, err) = (shown(&output.stdout), shown(&output.stderr));
    (output, out, err)
}

fn bounds_above_the_memory_limit_are_refused_by_key() {
    let lines = [
        "log_bytes = \"100MiB\"",
        "start = \"snapshot\"\nmax_table_bytes = \"1GiB\"",
    ];
    let text = format!("[memory]\nlimit = \"1GiB\"\n{}", streams(&lines));
    for command in ["check", "run", "print-config"] {
        let (output, _, err) = run(command, &text);
        assert_eq!(output.status.code(), Some(78), "{command}: {err}");
        // 100 and a half, 512 KiB and a half, 1 GiB, 22 for documents, and 112 MiB.
        for part in [
            "FILE:2: memory.limit: 1GiB is less than the sum of all bounds, 1309 MiB (logs 101 MiB,",
            "raise it, or lower stream[1].max_table_bytes (1GiB), stream[0].log_bytes (100MiB)",
        ] {
            assert!(err.contains(part), "{command}: no {part:?} in {err}");
        }
        assert!(!err.contains("512KiB"), "the least cannot be lowered: {err}");
    }
    let least = format!("[memory]\nlimit = \"100MiB\"\n{}", streams(&[""]));
    let (_, _, err) = run("check", &least);
    assert!(err.contains("; raise it, or serve fewer streams"), "{err}");
    let (output, _, err) = run("check", &text.replacen("1GiB", "1309MiB", 1));
    assert_eq!(output.status.code(), Some(0), "{err}");
}

fn check_sums_the_bounds_and_warns() {
    let text = format!(
        "[memory]\nlimit = \"1GiB\"\n[http]\nmax_clients = 1024\n{}",
        streams(&[""])
    );
    let (output, out, err) = run("check", &text);
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{out}");
    let line = "memory: bounds add up to 208 MiB (logs 64 MiB, notes for filters 32 MiB, tables 0 MiB, shared 112 MiB); \
                limit 1024 MiB; 1024 clients take about 10 MiB more; available ";
    assert!(out.contains(line), "{out}");

    // No machine has this; without a limit that is set it is no mistake.
    let huge = streams(&["log_bytes = \"1000000GiB\""]);
    let (output, _, err) = run("check", &huge);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(
        err.contains(
            "exceed the memory available: lower limit in [memory] or stream[0].log_bytes (1000000GiB)"
        ),
        "{err}"
    );
    let (_, out, _) = run("doctor", &huge);
    assert!(
        out.contains("warn  memory: bounds add up to 1500000.1 GiB"),
        "{out}"
    );
}

fn print_config_shows_derived_bounds() {
    let limit = "[memory]\nlimit = \"160MiB\"\n";
    let text = format!("{limit}{}", streams(&[""]));
    let (_, out, err) = run("print-config", &text);
    let ends = |out: &str, start: &str, end: &str| {
        let line = out.lines().find(|line| line.starts_with(start));
        assert!(
            line.is_some_and(|line| line.ends_with(end)),
            "{start} {end}: {line:?}\n{out}{err}"
        );
    };
    ends(&out, "limit = \"160MiB\"", "# FILE:2");
    ends(&out, "log_bytes = \"32MiB\"", "# derived from memory.limit");
    ends(&out, "max_table_bytes = \"256MiB\"", "# default");
    let (_, again, _) = run("print-config", &out);
    assert!(
        again.contains("log_bytes = \"32MiB\"") && !again.contains("derived"),
        "what was derived is set: {again}"
    );

    let (_, out, _) = run("print-config", &streams(&["log_bytes = \"1MiB\""]));
    let line = out.lines().find(|line| line.starts_with("#limit = \""));
    assert!(
        line.is_some_and(|line| line.contains("# default: half of the memory of ")),
        "{out}"
    );
    ends(&out, "log_bytes = \"1MiB\"", "# FILE:4");
}

fn a_reload_derives_bounds_again_for_open_streams() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("memory");
    broker.create_topic(&topic, 1, &[]);
    let text = config(&broker, &[&topic], "");
    let daemon = Daemon::start(&text);
    block_on(async {
        daemon.wait_ready(secs(30)).await;
        let _stream = client(&daemon, "/events").await;
        fill_log(&broker, &topic, &daemon).await;
        let small = format!("{text}[memory]\nlimit = \"113MiB\"\n");
        reloaded(&daemon, &small, "memory.limit, stream \"/events\": log_bytes");
        let bytes = figures(&daemon).await["log"]["bytes"].as_u64().expect("a number");
        assert!(bytes <= LEAST_LOG.0, "{bytes}");
    });
}

/// librdkafka allocates each message on one thread and frees it on another, which costs more by the system's allocator.
fn the_c_libraries_allocate_by_jemalloc_with_our_settings() {
    // jemalloc reads this variable only where it has taken the place of malloc(3).
    let output = run_to_end(&["--version"], &[("MALLOC_CONF", "stats_print:true")]);
    let statistics = String::from_utf8_lossy(&output.stderr);
    for setting in ["opt.narenas: 1\n", "opt.oversize_threshold: 134217728\n"] {
        assert!(statistics.contains(setting), "{setting}: {statistics}");
    }
}
