//! The promises of both Kafka clients and the limits of each: one table of scenarios, run against
//! real brokers with every client that can read from them.
//!
//! The promise: each record of each partition is delivered exactly once and in the order of offsets, and a record that
//! cannot be read is reported, never skipped silently. The trials check what the daemon's own reading thread delivers
//! to the streams. The documentation contains the text of each row, word for word.

mod holes;
mod members;
mod outages;
mod reader;
mod records;
mod slow;
mod topics;

use crate::harness::{on_each_version, promise};
use libtest_mimic::Trial;

/// A scenario, which runs with all clients of a version at once.
struct Row {
    trials: fn() -> Vec<Trial>,
    /// Lines of the documentation's table: a condition, and the behaviour of each client.
    says: &'static [Says],
}

struct Says {
    of: &'static str,
    librdkafka: &'static str,
    kafka_crate: &'static str,
}

const fn says(of: &'static str, librdkafka: &'static str, kafka_crate: &'static str) -> Says {
    Says {
        of,
        librdkafka,
        kafka_crate,
    }
}

const WHOLE: &str = "each once, in order";

const TABLE: [Row; 17] = [
    Row {
        trials: || on_each_version(records::null_and_empty_are_distinguished_if_the_client_can),
        says: &[
            says(
                "null and empty keys and values",
                "distinguished",
                "both are null, and an empty value a tombstone",
            ),
            says("timestamps", "as written", "none"),
        ],
    },
    Row {
        trials: || on_each_version(records::records_from_one_byte_to_the_brokers_limit_are_read),
        says: &[says(
            "records from one byte to the broker's largest",
            WHOLE,
            "each once, in order, up to 64 MiB",
        )],
    },
    Row {
        trials: || {
            on_each_version(records::a_record_above_the_kafka_crates_limit_is_reported_and_others_are_read)
        },
        says: &[says(
            "a larger record",
            "read, up to `receive.message.max.bytes` (128 MiB); the partition stops before a larger one and is named, the \
             others continue",
            "the partition stops before it and is named, the others continue",
        )],
    },
    Row {
        trials: || on_each_version(records::gzip_and_snappy_batches_between_plain_ones_are_read),
        says: &[says("plain, gzip and snappy batches, mixed", WHOLE, WHOLE)],
    },
    Row {
        trials: || on_each_version(records::lz4_is_read_or_reported),
        says: &[says(
            "lz4 and zstd",
            WHOLE,
            "the partition stops before the batch and is named, the others continue",
        )],
    },
    Row {
        trials: || on_each_version(records::zstd_is_read_or_reported),
        says: &[],
    },
    Row {
        trials: || on_each_version(holes::transactions_are_read_by_isolation_level),
        says: &[says(
            "open and aborted transactions",
            "hidden, or shown with `read_uncommitted`",
            "always shown",
        )],
    },
    Row {
        trials: || on_each_version(holes::records_left_by_compaction_are_all_read),
        says: &[says("compacted topics", WHOLE, WHOLE)],
    },
    Row {
        trials: || on_each_version(holes::records_deleted_by_retention_are_reported),
        says: &[says(
            "records that are deleted before they are read",
            "reported by `gap`",
            "reported by `gap`",
        )],
    },
    Row {
        trials: || on_each_version(topics::a_missing_topic_is_read_from_its_first_record_once_it_exists),
        says: &[says(
            "a topic that does not exist yet",
            "named, and read from its first record within 10 s of it",
            "named, and read from its first record within 10 s of it",
        )],
    },
    Row {
        trials: || on_each_version(topics::added_partitions_are_read_from_their_first_record),
        says: &[says(
            "added partitions",
            "read from their first record within 10 s of it",
            "read from their first record within 10 s of it",
        )],
    },
    Row {
        trials: || on_each_version(topics::recreated_topics_are_read_from_their_beginning),
        says: &[says(
            "a topic deleted and recreated, smaller or larger",
            "`reset`, and read from its beginning",
            "`reset`, and read from its beginning",
        )],
    },
    Row {
        trials: || on_each_version(slow::a_blocked_stream_pauses_only_its_own_topics),
        says: &[says(
            "a stream that encodes more slowly than records arrive",
            "its topics are paused until it has caught up, the others continue",
            "its topics are paused until it has caught up, the others continue",
        )],
    },
    Row {
        trials: || on_each_version(slow::a_blocked_stream_does_not_hold_up_another_of_its_topics),
        says: &[says(
            "such a stream beside another one of the same topic",
            "the other continues after about a second",
            "the other continues after about a second",
        )],
    },
    Row {
        trials: || on_each_version(topics::a_broken_partition_is_reported_and_others_are_read),
        says: &[says(
            "a corrupt batch",
            "the partition stops before it and is named, the others continue at once",
            "the partition stops before it and is named, the others continue, up to 10 s late",
        )],
    },
    Row {
        trials: || {
            on_each_version(outages::a_freezing_failing_or_late_broker_neither_loses_nor_repeats_records)
        },
        says: &[
            says(
                "a broker that dies, or is absent at the start",
                "reading continues within about 2 s of its return",
                "reading continues within 10 s of its return",
            ),
            says(
                "a frozen broker",
                "named after about 20 s, reading continues when it resumes",
                "named after 120 s, reading continues when it resumes",
            ),
        ],
    },
    Row {
        trials: || on_each_version(members::reading_continues_after_metadata_without_brokers),
        says: &[says(
            "a cluster whose metadata names no broker for a while",
            "reading continues within about 5 s of metadata with brokers",
            "reading continues within 10 s of metadata with brokers",
        )],
    },
];

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = TABLE.iter().flat_map(|row| (row.trials)()).collect();
    trials.push(promise(the_documentation_lists_the_abilities_of_each_client));
    trials
}

fn the_documentation_lists_the_abilities_of_each_client() {
    let text = include_str!("../../../docs/configuration.md");
    for says in TABLE.iter().flat_map(|row| row.says) {
        let line = format!("| {} | {} | {} |", says.of, says.librdkafka, says.kafka_crate);
        assert!(text.contains(&line), "docs/configuration.md lacks\n{line}");
    }
}
