//! A question about offsets on its way to an answer: one try at a time, and when the next is due.
//!
//! Knows nothing of threads or of who waits; [`history`](super::pool) does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::debug;

use super::pool::{Ask, Lacking, Offsets, Question};
use crate::kafka::client::Connect;
use crate::kafka::metadata::{DOUBT, DOUBT_PAUSE};
use crate::kafka::reader::backoff;
use crate::kafka::source::{Source, SourceError};

/// A question that waits.
#[derive(Debug)]
pub(super) struct Pending {
    question: Question,
    /// When it is to be asked.
    pub(super) due: Instant,
    failures: u32,
    /// Since when a partition it names has seemed not to exist.
    in_doubt: Option<Instant>,
}

/// What became of a question.
pub(super) enum Outcome {
    /// It was answered.
    Answered,
    /// It is to be asked again.
    Later(Pending),
}

impl Pending {
    pub(super) fn new(question: Question) -> Self {
        Self {
            question,
            due: Instant::now(),
            failures: 0,
            in_doubt: None,
        }
    }

    /// Whether anybody waits for the answer.
    pub(super) fn is_wanted(&self) -> bool {
        self.question.wanted.strong_count() > 0
    }

    /// Asks once, with `source` or, where there is none, a new one; leaves a source that works there.
    pub(super) fn ask(mut self, connect: &mut dyn Connect, source: &mut Option<Box<dyn Source>>) -> Outcome {
        // Before anything is asked: who sees it unset has come in time for what is asked from now on.
        self.question.begun.store(true, Ordering::SeqCst);
        let connected = source.take().map_or_else(|| connect.connect(), Ok);
        let error = match connected {
            Ok(mut connected) => match self.question.ask(&mut *connected, connect) {
                Ok(offsets) => {
                    *source = Some(connected);
                    if !self.is_doubtful(&offsets) {
                        (self.question.answer)(Ok(offsets));
                        return Outcome::Answered;
                    }
                    return self.later(DOUBT_PAUSE);
                }
                Err(SourceError::Unsupported { reason, remedy, .. }) => {
                    (self.question.answer)(Err(Lacking(format!("{reason}; {remedy}"))));
                    return Outcome::Answered;
                }
                Err(error) => error,
            },
            // Another broker, or an upgraded one, may suit the client: only what a client in use says
            // that it lacks is believed.
            Err(error) => error,
        };
        self.failures += 1;
        debug!("asking for offsets: {error}; trying again");
        let pause = backoff(self.failures);
        self.later(pause)
    }

    fn later(mut self, pause: Duration) -> Outcome {
        self.question.begun.store(false, Ordering::SeqCst);
        self.due = Instant::now() + pause;
        Outcome::Later(self)
    }

    /// Whether a partition seems not to exist, which a broker that has just come up, or a new leader,
    /// may say of one that does.
    fn is_doubtful(&mut self, offsets: &Offsets) -> bool {
        let asked = self.question.topics.iter().flat_map(|(_, asks)| asks);
        let is_missing = asked
            .zip(offsets.iter().flatten())
            .any(|(ask, offset)| *ask != Ask::Nothing && offset.is_none());
        is_missing && self.in_doubt.get_or_insert_with(Instant::now).elapsed() < DOUBT
    }
}

impl Question {
    fn ask(&self, source: &mut dyn Source, connect: &dyn Connect) -> Result<Offsets, SourceError> {
        let names: Vec<Arc<str>> = self.topics.iter().map(|(name, _)| Arc::clone(name)).collect();
        let counts = source.partitions(&names)?;
        // A topic that we may not read, say, is not one that does not exist.
        if let Some(trouble) = source.trouble() {
            return Err(SourceError::Unreachable {
                brokers: connect.brokers(),
                reason: trouble.to_owned(),
            });
        }
        // One that could be seen, and may be again: what it holds is not known until then.
        let is_hidden = |((name, asks), count): (&(Arc<str>, Vec<Ask>), &usize)| {
            *count < asks.len() && source.forbidden().contains(name)
        };
        if self.topics.iter().zip(&counts).any(is_hidden) {
            return Err(SourceError::Unreachable {
                brokers: connect.brokers(),
                reason: "a topic may not be seen any more".to_owned(),
            });
        }
        self.topics
            .iter()
            .zip(counts)
            .map(|((topic, asks), count)| offsets(source, &connect.brokers(), topic, asks, count))
            .collect()
    }
}

/// Asks about one topic that has `count` partitions.
fn offsets(
    source: &mut dyn Source,
    brokers: &str,
    topic: &str,
    asks: &[Ask],
    count: usize,
) -> Result<Vec<Option<i64>>, SourceError> {
    let existing = &asks[..asks.len().min(count)];
    let mut found = vec![None; asks.len()];
    if let Some(last) = existing.iter().rposition(|ask| *ask == Ask::End) {
        let bounds = source.bounds(topic, last + 1)?;
        let asked = existing.iter().zip(bounds);
        for (partition, (found, (ask, bounds))) in found.iter_mut().zip(asked).enumerate() {
            if *ask == Ask::End {
                let bounds = bounds.ok_or_else(|| SourceError::Partition {
                    brokers: brokers.to_owned(),
                    at: format!("topic {topic:?} partition {partition}"),
                    reason: "no leader answers".to_owned(),
                })?;
                *found = Some(bounds.high);
            }
        }
    }
    let time = |ask: &Ask| match ask {
        Ask::At(time) => Some(*time),
        Ask::Nothing | Ask::End => None,
    };
    let times: Vec<Option<i64>> = existing.iter().map(time).collect();
    if times.iter().any(Option::is_some) {
        for (found, offset) in found.iter_mut().zip(source.offsets_at(topic, &times)?) {
            *found = found.or(offset);
        }
    }
    Ok(found)
}
