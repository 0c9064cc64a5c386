//! Checks whether open transactions block readers of committed records: a partition whose last stable offset is behind
//! its high watermark, and since when.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::report::{Finding, Report};
use super::requests::{self, First};
use super::session::{FailedRequest, Session, limit};
use crate::config::units::Span;
use crate::kafka::open_transactions::REPORT_AFTER;
use crate::kafka::partition::Bounds;

/// Time limit for reading the first records of open transactions.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most partitions shown.
const MAX_NAMED: usize = 8;

/// A partition whose last stable offset is behind its high watermark.
struct Hold {
    partition: u32,
    /// The last stable offset: the first record of the earliest open transaction.
    stable: i64,
    high: i64,
    /// The age of that record; `None` where it has no timestamp, or one from the future.
    age: Option<Duration>,
}

/// `session` reads committed records, `uncommitted` also those of open transactions.
pub(super) fn check(
    session: &mut Session,
    uncommitted: &mut Session,
    topic: &Arc<str>,
    partitions: usize,
    report: &mut Report,
) {
    report.add(match holds(session, uncommitted, topic, partitions) {
        Ok(holds) => describe(topic, holds),
        // The daemon does not need this.
        Err(failed) => Finding::warn(check_name(topic), failed.found, failed.remedy),
    });
}

fn check_name(topic: &str) -> String {
    format!("transactions {topic}")
}

fn holds(
    session: &mut Session,
    uncommitted: &mut Session,
    topic: &Arc<str>,
    partitions: usize,
) -> Result<Vec<Hold>, FailedRequest> {
    let ends = |session: &mut Session| {
        let asked = Arc::clone(topic);
        session.ask(limit(partitions), move |handles| {
            handles.admin.bounds_of(&asked, partitions)
        })
    };
    // The high watermarks first: records written between the two requests must not look blocked.
    let high = ends(uncommitted)?;
    let stable = ends(session)?;
    let behind = (0..).zip(stable.into_iter().zip(high));
    let behind = behind.filter_map(|(partition, (stable, high))| {
        let (Bounds { high: stable, .. }, Bounds { high, .. }) = (stable?, high?);
        (stable < high).then_some((partition, stable, high))
    });
    let behind: Vec<(u32, i64, i64)> = behind.collect();
    if behind.is_empty() {
        return Ok(Vec::new());
    }
    let from: Vec<(u32, i64)> = behind
        .iter()
        .map(|&(partition, stable, _)| (partition, stable))
        .collect();
    let asked = Arc::clone(topic);
    let first = uncommitted.ask(limit(from.len()), move |handles| {
        requests::first_from(&mut *handles.consumer, &asked, &from, PATIENCE)
    })?;
    let now = SystemTime::now();
    let hold = |(partition, stable, high)| Hold {
        partition,
        stable,
        high,
        age: age(&first, partition, now),
    };
    Ok(behind.into_iter().map(hold).collect())
}

/// The age of a partition's first record.
fn age(first: &[First], partition: u32, now: SystemTime) -> Option<Duration> {
    let first = first.iter().find(|first| first.partition == partition)?;
    let since = Duration::from_millis(u64::try_from(first.timestamp?).ok()?);
    now.duration_since(UNIX_EPOCH.checked_add(since)?).ok()
}

fn describe(topic: &str, mut holds: Vec<Hold>) -> Finding {
    let check = check_name(topic);
    if holds.is_empty() {
        return Finding::ok(check, "no open transaction blocks reading");
    }
    let is_long = |hold: &Hold| hold.age.is_none_or(|age| age > REPORT_AFTER);
    if !holds.iter().any(is_long) {
        let found = format!("open for less than {}: {}", Span(REPORT_AFTER), lines(&holds));
        return Finding::ok(check, found);
    }
    holds.retain(is_long);
    let example = holds.first().map(|hold| (hold.partition, hold.stable));
    let (partition, stable) = example.unwrap_or_default();
    Finding::warn(
        check,
        format!(
            "an open transaction blocks reading of committed records: {}",
            lines(&holds)
        ),
        format!(
            "end it at its producer, or find and abort it: kafka-transactions.sh --bootstrap-server … find-hanging \
             --topic {topic}, then abort --topic {topic} --partition {partition} --start-offset {stable}"
        ),
    )
}

/// `partition 0 held at offset 17, 25 offsets before its high watermark 42, for 5m 3s`
fn lines(holds: &[Hold]) -> String {
    let line = |hold: &Hold| {
        let Hold {
            partition,
            stable,
            high,
            age,
        } = hold;
        let age = age.map_or_else(
            || "of unknown age, as its first record has no timestamp in the past".to_owned(),
            |age| {
                format!(
                    "for {}",
                    humantime::format_duration(Duration::from_secs(age.as_secs()))
                )
            },
        );
        format!(
            "partition {partition} held at offset {stable}, {} offsets before its high watermark {high}, {age}",
            high.saturating_sub(*stable)
        )
    };
    let mut lines: Vec<String> = holds.iter().take(MAX_NAMED).map(line).collect();
    if holds.len() > MAX_NAMED {
        lines.push(format!("and {} other partitions", holds.len() - MAX_NAMED));
    }
    lines.join("; ")
}
