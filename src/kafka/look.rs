//! A look at what exists: partitions, ids, and leaders that were missed.
//!
//! A source may take it beside its reading ([`Source::look`]), so that a broker that hangs holds up nothing.
//! Decides nothing of what is seen; [`tail`](super::tail) does.

use std::sync::Arc;

use log::debug;

use super::record::TopicId;
use super::source::{Bounds, Source, SourceError};

/// A topic that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its name.
    pub topic: Arc<str>,
    /// Partitions that had no leader.
    pub leaderless: Vec<usize>,
}

impl Asked {
    /// Whether one of the partitions that had no leader has one.
    pub(super) fn is_led(&self, bounds: &[Option<Bounds>]) -> bool {
        let has_leader = |&partition: &usize| bounds.get(partition).is_some_and(Option::is_some);
        self.leaderless.iter().any(has_leader)
    }
}

/// What was seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// How many partitions there are; 0 where the topic does not exist.
    pub partitions: usize,
    /// The id, where it is known.
    pub id: Option<TopicId>,
    /// Whether a partition that had no leader has one.
    pub is_led: bool,
}

/// Looks, and waits for what is seen.
///
/// # Errors
/// When no broker answers.
pub(super) fn now<S: Source + ?Sized>(source: &mut S, asked: &[Asked]) -> Result<Vec<Looked>, SourceError> {
    let names: Vec<Arc<str>> = asked.iter().map(|asked| Arc::clone(&asked.topic)).collect();
    let counts = source.partitions(&names)?;
    let ids = or_unknown(source.topic_ids(&names), names.len())?;
    let seen = asked.iter().zip(counts.into_iter().zip(ids));
    seen.map(|(asked, (partitions, id))| {
        let is_led = !asked.leaderless.is_empty() && asked.is_led(&source.bounds(&asked.topic, partitions)?);
        Ok(Looked {
            partitions,
            id,
            is_led,
        })
    })
    .collect()
}

/// Without ids a topic that was recreated is told by its offsets alone, but it is read.
pub(super) fn or_unknown(
    ids: Result<Vec<Option<TopicId>>, SourceError>,
    topics: usize,
) -> Result<Vec<Option<TopicId>>, SourceError> {
    match ids {
        Err(error @ SourceError::Interrupted) => Err(error),
        Err(error) => {
            debug!("{error}");
            Ok(vec![None; topics])
        }
        ids => ids,
    }
}
