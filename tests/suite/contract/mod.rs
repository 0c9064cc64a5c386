//! What both Kafka clients promise, and what each cannot by its nature: one table of scenarios, run against
//! real brokers with every client that can read from them.
//!
//! The promise: each record of each partition is handed on exactly once and in the order of offsets, and what cannot
//! be had is reported, never skipped in silence. The daemon's own reading thread is what is tried, by what
//! it hands to the streams. What a row says of each client stands in the documentation, word for word.

mod holes;
mod members;
mod outages;
mod reader;
mod records;
mod slow;
mod topics;

use crate::harness::broker::Version;
use crate::harness::{on_each_version, trial};
use libtest_mimic::Trial;

/// A scenario, which runs with all clients of a version at once.
struct Row {
    promise: &'static str,
    run: fn(Version),
    /// Lines of the documentation's table: what is met, and what each client makes of it.
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

const TABLE: [Row; 16] = [
    Row {
        promise: "null_is_told_from_empty_where_the_client_can",
        run: records::null_and_empty,
        says: &[
            says(
                "null and empty keys and values",
                "told apart",
                "both are null, and an empty value a tombstone",
            ),
            says("timestamps", "as written", "none"),
        ],
    },
    Row {
        promise: "records_come_from_one_byte_to_the_brokers_largest",
        run: records::sizes,
        says: &[says(
            "records from one byte to the broker's largest",
            WHOLE,
            "each once, in order, up to 64 MiB",
        )],
    },
    Row {
        promise: "a_record_above_the_kafka_crates_limit_is_named_and_the_others_are_read_on",
        run: records::above_the_crates_limit,
        says: &[says(
            "a record that is larger",
            "read, up to `receive.message.max.bytes` (128 MiB); the partition stops before a larger one and is named, the \
             others go on",
            "the partition stops before it and is named, the others go on",
        )],
    },
    Row {
        promise: "gzip_and_snappy_batches_between_plain_ones_come_whole",
        run: records::packed,
        says: &[says("plain, gzip and snappy batches, mixed", WHOLE, WHOLE)],
    },
    Row {
        promise: "lz4_is_read_or_named",
        run: records::lz4,
        says: &[says(
            "lz4 and zstd",
            WHOLE,
            "the partition stops before the batch and is named, the others go on",
        )],
    },
    Row {
        promise: "zstd_is_read_or_named",
        run: records::zstd,
        says: &[],
    },
    Row {
        promise: "transactions_are_read_as_far_as_isolation_says",
        run: holes::transactions,
        says: &[says(
            "open and aborted transactions",
            "hidden, or shown with `read_uncommitted`",
            "always shown",
        )],
    },
    Row {
        promise: "what_compaction_left_comes_whole",
        run: holes::compacted,
        says: &[says("what compaction has left", WHOLE, WHOLE)],
    },
    Row {
        promise: "what_retention_took_under_the_reader_is_told",
        run: holes::overtaken,
        says: &[says(
            "records that leave Kafka before they are read",
            "told by `gap`",
            "told by `gap`",
        )],
    },
    Row {
        promise: "a_missing_topic_is_read_from_its_first_record_once_it_comes",
        run: topics::missing,
        says: &[says(
            "a topic that does not exist yet",
            "named, and read from its first record within 10 s of it",
            "named, and read from its first record within 10 s of it",
        )],
    },
    Row {
        promise: "added_partitions_are_read_from_their_first_record",
        run: topics::added,
        says: &[says(
            "partitions that are added",
            "read from their first record within 10 s of it",
            "read from their first record within 10 s of it",
        )],
    },
    Row {
        promise: "topics_created_anew_are_read_from_their_beginning",
        run: topics::recreated,
        says: &[says(
            "a topic deleted and created anew, smaller or larger",
            "`reset`, and read from its beginning",
            "`reset`, and read from its beginning",
        )],
    },
    Row {
        promise: "a_stream_that_takes_nothing_pauses_its_own_topics_alone",
        run: slow::stream,
        says: &[says(
            "a stream that encodes more slowly than records come",
            "its topics are not fetched until it has caught up, the others go on",
            "its topics are not fetched until it has caught up, the others go on",
        )],
    },
    Row {
        promise: "a_broken_partition_is_named_and_the_others_are_read_on",
        run: topics::broken,
        says: &[says(
            "a batch that a disk has spoilt",
            "the partition stops before it and is named, the others go on at once",
            "the partition stops before it and is named, the others go on, up to 10 s late",
        )],
    },
    Row {
        promise: "nothing_is_lost_or_doubled_by_a_broker_that_freezes_dies_or_is_late",
        run: outages::in_a_row,
        says: &[
            says(
                "a broker that dies, or is not there at the start",
                "read on within about 2 s of its return",
                "read on within 10 s of its return",
            ),
            says(
                "a broker that freezes",
                "named after about 20 s, read on when it thaws",
                "named after 120 s, read on when it thaws",
            ),
        ],
    },
    Row {
        promise: "a_cluster_that_names_no_broker_for_a_while_is_read_on",
        run: members::unnamed,
        says: &[says(
            "a cluster that names no broker for a while",
            "read on within about 5 s of the naming",
            "read on within 10 s of the naming",
        )],
    },
];

pub fn trials() -> Vec<Trial> {
    let row = |row: &Row| on_each_version(&format!("contract: {}", row.promise), row.run);
    let mut trials: Vec<Trial> = TABLE.iter().flat_map(row).collect();
    trials.push(trial(
        "contract: the_documentation_says_what_each_client_can",
        documented,
    ));
    trials
}

fn documented() {
    let text = include_str!("../../../docs/configuration.md");
    for says in TABLE.iter().flat_map(|row| row.says) {
        let line = format!("| {} | {} | {} |", says.of, says.librdkafka, says.kafka_crate);
        assert!(text.contains(&line), "docs/configuration.md lacks\n{line}");
    }
}
