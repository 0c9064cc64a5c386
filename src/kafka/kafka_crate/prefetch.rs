//! The fetch of what follows a response, begun before the response is evaluated: the broker and the crate's thread work
//! on the next records while the reading thread takes these.
//!
//! Only while more records of a partition are known to follow: a fetch of what does not exist yet would occupy the client
//! for the time that a broker holds it. Predicts positions; whether they came true is decided by comparing them with those
//! of the batcher at the next poll.

use std::sync::Arc;

use kafka::client::fetch::Message;

use super::fetcher::FetchPlaces;
use crate::kafka::batcher::FetchPosition;

/// Those of the positions of a fetch that are wanted, with the limits that it was made with. `None` unless it contains all
/// that are: a partition was added, or its position moved, and the response is of no use for it.
pub(super) fn still_wanted(fetched: &FetchPlaces, wanted: &[(FetchPosition, i32)]) -> Option<FetchPlaces> {
    let is_same = |a: &FetchPosition, b: &FetchPosition| {
        a.next == b.next
            && a.partition == b.partition
            && a.placed == b.placed
            && a.incarnation == b.incarnation
            && a.topic == b.topic
    };
    // Usually nothing has changed.
    if fetched.len() == wanted.len() && fetched.iter().zip(wanted).all(|(a, b)| is_same(&a.0, &b.0)) {
        return (!wanted.is_empty()).then(|| Arc::clone(fetched));
    }
    // Both are in the batcher's order.
    let mut fetched = fetched.iter();
    let find = |(place, _): &(FetchPosition, i32)| fetched.find(|other| is_same(&other.0, place)).cloned();
    let found: Option<Vec<(FetchPosition, i32)>> = wanted.iter().map(find).collect();
    found.filter(|found| !found.is_empty()).map(Into::into)
}

/// What a response has of a partition.
pub(super) struct Fetched {
    high_watermark: i64,
    /// Offsets of the first and the last message, from the requested offset on.
    offsets: Option<(i64, i64)>,
}

impl Fetched {
    pub(super) fn new(high_watermark: i64, messages: &[&Message<'_>]) -> Self {
        let ends = messages.first().zip(messages.last());
        Self {
            high_watermark,
            offsets: ends.map(|(first, last)| (first.offset, last.offset)),
        }
    }

    /// Nothing, and nothing is to come.
    pub(super) const fn nothing(place: &FetchPosition) -> Self {
        Self {
            high_watermark: place.next,
            offsets: None,
        }
    }
}

/// The positions after a response; `usual` is the limit of a partition that had messages. `None` if no more records are
/// known to follow, or a partition needs another look first: it was omitted, or has something other than its next record.
pub(super) fn following(
    places: &[(FetchPosition, i32)],
    fetched: impl Iterator<Item = Option<Fetched>>,
    usual: i32,
) -> Option<FetchPlaces> {
    let mut has_more = false;
    let mut all = Vec::with_capacity(places.len());
    for ((place, limit), fetched) in places.iter().zip(fetched) {
        let fetched = fetched?;
        let (next, limit) = match fetched.offsets {
            Some((first, _)) if first > place.next => return None,
            Some((_, last)) => (last.saturating_add(1), usual),
            None if fetched.high_watermark > place.next => return None,
            None => (place.next, *limit),
        };
        has_more |= next < fetched.high_watermark;
        all.push((
            FetchPosition {
                next,
                ..place.clone()
            },
            limit,
        ));
    }
    has_more.then(|| all.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: i32 = 100;

    fn places(next: &[(u32, i64, i32)]) -> FetchPlaces {
        let place = |&(partition, next, limit)| {
            let position = FetchPosition {
                topic: "t".into(),
                partition,
                next,
                placed: 1,
                incarnation: 1,
                epoch: None,
            };
            (position, limit)
        };
        next.iter().map(place).collect()
    }

    fn numbers(places: Option<FetchPlaces>) -> Option<Vec<(u32, i64, i32)>> {
        let number = |(place, limit): &(FetchPosition, i32)| (place.partition, place.next, *limit);
        places.map(|places| places.iter().map(number).collect())
    }

    fn fetched(high_watermark: i64, offsets: Option<(i64, i64)>) -> Fetched {
        Fetched {
            high_watermark,
            offsets,
        }
    }

    fn after(asked: &FetchPlaces, answers: [Option<Fetched>; 2]) -> Option<Vec<(u32, i64, i32)>> {
        numbers(following(asked, answers.into_iter(), USUAL))
    }

    #[test]
    fn what_follows_begins_behind_the_last_message() {
        let asked = places(&[(0, 5, 200), (1, 9, 300)]);
        let answers = [fetched(20, Some((5, 7))), fetched(9, None)];
        let follows = vec![(0, 8, USUAL), (1, 9, 300)];
        assert_eq!(after(&asked, answers.map(Some)), Some(follows));
    }

    #[test]
    fn nothing_is_fetched_ahead_that_may_not_exist() {
        let asked = places(&[(0, 5, USUAL), (1, 9, USUAL)]);
        let answers = [fetched(8, Some((5, 7))), fetched(9, None)];
        assert_eq!(after(&asked, answers.map(Some)), None);
    }

    #[test]
    fn nothing_is_fetched_ahead_while_a_partition_needs_another_look() {
        let asked = places(&[(0, 5, USUAL), (1, 9, USUAL)]);
        let (late, too_large) = (fetched(20, Some((10, 12))), fetched(20, None));
        for second in [Some(late), Some(too_large), None] {
            let first = fetched(20, Some((5, 7)));
            assert_eq!(after(&asked, [Some(first), second]), None);
        }
    }

    #[test]
    fn a_response_is_used_for_the_positions_that_are_still_wanted() {
        let begun = places(&[(0, 5, 200), (1, 9, 300), (2, 4, 400)]);
        let wanted = |wanted: &[(u32, i64, i32)]| numbers(still_wanted(&begun, &places(wanted)));
        let all = [(0, 5, 200), (1, 9, 300), (2, 4, 400)];
        assert_eq!(wanted(&all), Some(all.to_vec()));
        // The limits are those of the request.
        assert_eq!(
            wanted(&[(0, 5, 1), (2, 4, 1)]),
            Some(vec![(0, 5, 200), (2, 4, 400)])
        );
        assert_eq!(wanted(&[]), None);
        assert_eq!(wanted(&[(0, 6, 200), (1, 9, 300), (2, 4, 400)]), None);
        assert_eq!(wanted(&[(0, 5, 200), (3, 0, 300)]), None);
    }

    #[test]
    fn a_response_is_not_used_for_a_partition_that_was_placed_anew_or_recreated() {
        let begun = places(&[(0, 5, USUAL)]);
        let wanted = |change: fn(&mut FetchPosition)| {
            let (mut position, limit) = begun[0].clone();
            change(&mut position);
            numbers(still_wanted(&begun, &[(position, limit)]))
        };
        assert_eq!(wanted(|_| ()), Some(vec![(0, 5, USUAL)]));
        assert_eq!(wanted(|position| position.placed += 1), None);
        assert_eq!(wanted(|position| position.incarnation += 1), None);
        assert_eq!(wanted(|position| position.topic = "u".into()), None);
    }
}
