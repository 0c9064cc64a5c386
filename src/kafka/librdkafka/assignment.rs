//! Which partitions a handle reads: only what differs from what is wanted is stopped and begun, so that a topic that
//! appears, grows or is recreated holds up none of thousands of others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::kafka::batcher::FetchPosition;

/// The partitions that a handle reads, each with its [`FetchPosition::placed`].
#[derive(Debug, Default)]
pub(super) struct Assignment(HashMap<(Arc<str>, u32), u64>);

impl Assignment {
    /// Takes away what is not wanted, or wanted at another position; returns it.
    pub(super) fn take_unwanted(&mut self, wanted: &[FetchPosition]) -> Vec<(Arc<str>, u32)> {
        let wanted: HashSet<(&str, u32, u64)> = wanted
            .iter()
            .map(|place| (&*place.topic, place.partition, place.placed))
            .collect();
        let is_unwanted = |(topic, partition): &(Arc<str>, u32), placed: &mut u64| {
            !wanted.contains(&(&**topic, *partition, *placed))
        };
        let unwanted = self.0.extract_if(is_unwanted);
        unwanted.map(|(place, _)| place).collect()
    }

    /// What is wanted and not read yet.
    pub(super) fn missing(&self, wanted: Vec<FetchPosition>) -> Vec<FetchPosition> {
        let is_missing = |place: &FetchPosition| !self.0.contains_key(&place.key());
        wanted.into_iter().filter(is_missing).collect()
    }

    pub(super) fn add(&mut self, fresh: &[FetchPosition]) {
        self.0
            .extend(fresh.iter().map(|place| (place.key(), place.placed)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(topic: &str, partition: u32, placed: u64) -> FetchPosition {
        FetchPosition {
            topic: topic.into(),
            partition,
            next: 0,
            placed,
            incarnation: 0,
            epoch: None,
        }
    }

    /// What is stopped and what is begun, as text.
    fn changes(assignment: &mut Assignment, wanted: Vec<FetchPosition>) -> [Vec<String>; 2] {
        let stopped = assignment.take_unwanted(&wanted);
        let begun = assignment.missing(wanted);
        assignment.add(&begun);
        let stopped = stopped.into_iter();
        let begun = begun.into_iter().map(|place| place.key());
        let name = |(topic, partition): (Arc<str>, u32)| format!("{topic}/{partition}");
        let mut changes = [stopped.map(name).collect::<Vec<_>>(), begun.map(name).collect()];
        for names in &mut changes {
            names.sort_unstable();
        }
        changes
    }

    #[test]
    fn only_partitions_that_changed_are_stopped_and_begun() {
        let mut assignment = Assignment::default();
        let thousand = || (0..1000).map(|topic| wanted(&format!("topic-{topic}"), 0, 0));
        let [stopped, begun] = changes(&mut assignment, thousand().collect());
        assert_eq!((stopped.len(), begun.len()), (0, 1000), "all at first");
        let nothing = [vec![], vec![]] as [Vec<String>; 2];
        assert_eq!(changes(&mut assignment, thousand().collect()), nothing);

        let appears = || thousand().chain([wanted("new", 0, 0)]);
        let [stopped, begun] = changes(&mut assignment, appears().collect());
        assert_eq!(
            (stopped, begun),
            (vec![], vec!["new/0".to_owned()]),
            "a new topic"
        );

        let grows = || appears().chain([wanted("new", 1, 0)]);
        let [stopped, begun] = changes(&mut assignment, grows().collect());
        assert_eq!(
            (stopped, begun),
            (vec![], vec!["new/1".to_owned()]),
            "a new partition"
        );

        let moved = || {
            grows().map(|place| {
                if &*place.topic == "topic-7" {
                    wanted("topic-7", 0, 1)
                } else {
                    place
                }
            })
        };
        let [stopped, begun] = changes(&mut assignment, moved().collect());
        let seven = || vec!["topic-7/0".to_owned()];
        assert_eq!((stopped, begun), (seven(), seven()), "another position");

        let paused = moved().filter(|place| &*place.topic != "new").collect();
        let [stopped, begun] = changes(&mut assignment, paused);
        let new = vec!["new/0".to_owned(), "new/1".to_owned()];
        assert_eq!((stopped, begun), (new, vec![]), "a paused topic");
    }
}
