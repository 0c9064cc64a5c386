//! Checks keys and timestamps of a topic's newest records: a table needs both to find the latest record of each key.

use std::time::Duration;

use super::report::Finding;
use super::requests::Sample;
use crate::stream::record_time::{CLOCK_TOLERANCE, MAX_AHEAD};

/// The sample counts timestamps after `late` (milliseconds since the epoch) as late.
pub(super) fn describe(topic: &str, sample: &Sample, late: i64) -> [Finding; 2] {
    [keys(topic, sample), timestamps(topic, sample, late)]
}

fn keys(topic: &str, sample: &Sample) -> Finding {
    let check = format!("keys {topic}");
    let Sample {
        records,
        keys,
        spread,
        example,
        ..
    } = *sample;
    let Some([one, other]) = example else {
        let found = format!("each in one partition, among {keys} keys of the newest {records} records");
        return Finding::ok(check, found);
    };
    Finding::warn(
        check,
        format!(
            "{spread} of {keys} keys of the newest {records} records are in several partitions, such as the key of \
             partition {} offset {} and partition {} offset {}: the later timestamp wins",
            one.0, one.1, other.0, other.1
        ),
        "have all producers use the same partitioner (librdkafka: partitioner = murmur2_random, as Java has it); \
         after adding partitions, write the keys again",
    )
}

fn timestamps(topic: &str, sample: &Sample, late: i64) -> Finding {
    let check = format!("timestamps {topic}");
    let records = sample.records;
    if sample.timed == 0 && records > 0 {
        return Finding::ok(
            check,
            format!("the newest {records} records have none, or the client does not return them"),
        );
    }
    let Some((time, partition, offset)) = sample.latest else {
        return Finding::ok(
            check,
            format!("none of the newest {records} records is from the future"),
        );
    };
    let ahead =
        Duration::from_millis(u64::try_from(time.saturating_sub(late)).unwrap_or(0)) + CLOCK_TOLERANCE;
    let mut found = format!(
        "{} of the newest {records} records are from the future, by up to {} (partition {partition} offset {offset})",
        sample.late,
        humantime::format_duration(Duration::from_secs(ahead.as_secs())),
    );
    if ahead > MAX_AHEAD {
        found.push_str("; more than a day ahead, the time of arrival counts instead");
    }
    Finding::warn(
        check,
        found,
        "set the clock (NTP) of the producer, and check that it writes milliseconds: such a record wins over later \
         records of its key in other partitions",
    )
}
