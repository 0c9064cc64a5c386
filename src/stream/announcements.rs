//! Announces to one reader what it has lost: gaps and resets, and their ids.

use bytes::Bytes;

use super::control::{Control, Gap, Resets};
use super::counters::To;
use super::phase::PhaseReader;
use super::position::Position;

/// Frames that a reader is sent before anything else.
#[derive(Debug, Default)]
pub(super) struct Announcements(Vec<u8>);

impl Announcements {
    /// The frames; empty if there are none.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, event: &Control<'_>, id: Option<&Bytes>) {
        self.0.extend(event.frame(id.map(AsRef::as_ref)));
    }

    /// Adds offsets that the reader has seen and that no longer exist in Kafka. Without an id: a client that misses the
    /// event resumes from an earlier id, and receives it again.
    pub(super) fn add_gaps(&mut self, reader: &PhaseReader, gaps: &[Gap]) {
        for gap in gaps {
            self.add_gap(reader, gap, None);
        }
    }

    pub(super) fn add_gap(&mut self, reader: &PhaseReader, gap: &Gap, id: Option<&Bytes>) {
        if reader.reads(gap.topic, Some(gap.partition)) {
            reader.stream.counters().count_gap(To::One);
            let topics = &reader.stream.settings().topics;
            self.add(&Control::Gap { gap, topics }, id);
        }
    }

    /// Adds the resets. Only the last event has the `id` of the new position. The others have the id that the client
    /// came with, where that is known, with the new position of the topics that were reset so far: a client that
    /// disconnects in between has forgotten those, and must not resume at its old position in them.
    pub(super) fn add_resets(
        &mut self,
        reader: &PhaseReader,
        resets: Resets,
        id: Option<&Bytes>,
        mut came_with: Option<Position>,
    ) {
        let last = resets.len().saturating_sub(1);
        for (index, (reason, topic)) in resets.into_iter().enumerate() {
            reader.stream.counters().count_reset(reason, To::One);
            let mut in_between = || {
                let came_with = came_with.as_mut()?;
                let here = Position::parse(id?).ok()?;
                let begins = here.topics.get(topic?)?;
                let mut topics = came_with.topics.iter_mut();
                let stood = topics.find(|stood| stood.name == begins.name)?;
                stood.clone_from(begins);
                Some(came_with.id().into())
            };
            let id = if index == last { id.cloned() } else { in_between() };
            let topic = topic.and_then(|topic| reader.stream.settings().topics.get(topic));
            let topic = topic.map(String::as_str);
            self.add(&Control::Reset { reason, topic }, id.as_ref());
        }
    }
}
