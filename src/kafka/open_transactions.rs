//! Ends of partitions that open transactions hold: records lie behind the last stable offset, and that does not move.
//!
//! A transaction that is open for a moment is no news; one that hangs keeps what everybody writes after it from all who
//! read committed records, without an error anywhere. Reads no clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::lag::End;

/// How long an end must be held to be named: `transaction.timeout.ms` of producers is a minute by default.
pub const HELD_FOR: Duration = Duration::from_secs(60);

/// What is known of the ends of partitions.
#[derive(Debug, Default)]
pub struct Held(BTreeMap<String, BTreeMap<u32, Hold>>);

#[derive(Debug)]
struct Hold {
    /// The last stable offset.
    at: i64,
    since: Instant,
    is_named: bool,
}

/// What has become of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It has been held for [`HELD_FOR`].
    Held,
    /// One that was named moves again.
    Released,
}

impl Held {
    /// Takes in what was heard of an end; returns what is news.
    pub fn note(&mut self, end: &End, now: Instant) -> Option<News> {
        let at = end.offset.filter(|&at| end.high.is_some_and(|high| high > at));
        let partitions = self.0.entry(end.topic.clone()).or_default();
        let Some(at) = at else {
            let hold = partitions.remove(&end.partition);
            return hold.filter(|hold| hold.is_named).map(|_| News::Released);
        };
        let fresh = Hold {
            at,
            since: now,
            is_named: false,
        };
        let hold = partitions.entry(end.partition).or_insert(fresh);
        if hold.at != at {
            let was_named = std::mem::replace(&mut hold.is_named, false);
            (hold.at, hold.since) = (at, now);
            return was_named.then_some(News::Released);
        }
        if hold.is_named || now.saturating_duration_since(hold.since) < HELD_FOR {
            return None;
        }
        hold.is_named = true;
        Some(News::Held)
    }

    /// Forgets a topic.
    pub fn forget(&mut self, topic: &str) {
        self.0.remove(topic);
    }

    /// What an operator should know, a line per topic.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|(topic, partitions)| {
            let named = partitions.iter().filter(|(_, hold)| hold.is_named);
            let at: Vec<String> = named
                .map(|(partition, hold)| format!("{partition}:{}", hold.at))
                .collect();
            (!at.is_empty()).then(|| line(topic, &at.join(" ")))
        })
    }
}

/// What is said of partitions of a topic with the offsets at which they are held, as in `0:17 3:5`.
#[must_use]
pub fn line(topic: &str, held: &str) -> String {
    format!(
        "kafka: topic {topic:?}: an open transaction has kept records from being read for more than a minute, at \
         {held} (partition:offset); end it at its producer, or find and abort it with kafka-transactions.sh \
         (find-hanging, abort)"
    )
}
