//! A sweep compared with a model: whoever was there when it began gets the batch once, unless it has left before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::delivery::intake::{Intake, Woken};
use crate::delivery::sockets::Token;
use crate::stream::fed::Fed;
use crate::stream::start_position::Opening;
use crate::stream::subscription::Step;

#[derive(Debug, Clone)]
enum Op {
    /// A record is written.
    Append,
    /// A slice of at most so many.
    Step(usize),
    /// A client comes.
    Add,
    /// One leaves.
    Remove(Index),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        1 => Just(Op::Append),
        4 => (1..5_usize).prop_map(Op::Step),
        3 => Just(Op::Add),
        2 => any::<Index>().prop_map(Op::Remove),
    ];
    prop::collection::vec(op, 1..120)
}

/// A stream, and the group at its head.
fn group() -> (Fed, Group<()>) {
    let fed = Fed::new(|_| {});
    let mut subscription = fed.stream.subscribe(Opening::default());
    while !matches!(subscription.step(Instant::now()), Step::Wait(_)) {}
    let head = subscription.head().expect("at the head");
    let intake = Arc::new(Intake::new().expect("an eventfd"));
    let token = Token {
        slot: 0,
        generation: 0,
    };
    (fed, Group::new(head, 0, Alarm::new(&intake, Woken::Group(token))))
}

proptest! {
    #[test]
    fn each_member_gets_each_batch_once_whoever_leaves_meanwhile(ops in ops()) {
        let (mut fed, mut group) = group();
        let mut places: BTreeMap<u32, u32> = BTreeMap::new();
        let mut slots = 0..;
        // Who is yet to get the batch that is being written.
        let mut left: Option<BTreeSet<u32>> = None;
        // Until everything is written.
        let end = std::iter::repeat_n(Op::Step(3), 300);
        for op in ops.into_iter().chain(end) {
            match op {
                Op::Append => fed.append(None, 10),
                Op::Add => {
                    let slot = slots.next().expect("endless");
                    places.insert(slot, group.add(slot));
                }
                Op::Remove(which) => {
                    if places.is_empty() {
                        continue;
                    }
                    let (&slot, &place) = places.iter().nth(which.index(places.len())).expect("one of them");
                    places.remove(&slot);
                    group.remove(place, |slot, place| {
                        *places.get_mut(&slot).expect("no other is moved") = place;
                    });
                    if let Some(left) = &mut left {
                        left.remove(&slot);
                    }
                }
                Op::Step(most) => match group.step(most) {
                    GroupStep::Write { members, .. } => {
                        let left = left.get_or_insert_with(|| places.keys().copied().collect());
                        prop_assert!(!members.is_empty() && members.len() <= most);
                        for slot in members {
                            prop_assert!(left.remove(&slot), "{} again, or it came later", slot);
                        }
                    }
                    GroupStep::Again | GroupStep::Wait => {
                        let left = left.take().unwrap_or_default();
                        prop_assert!(left.is_empty(), "skipped: {:?}", left);
                    }
                    GroupStep::Changed => prop_assert!(false, "nothing has changed"),
                },
            }
            prop_assert_eq!(group.members.len(), places.len());
            for (slot, place) in &places {
                prop_assert_eq!(group.members[*place as usize], *slot);
            }
        }
        prop_assert!(group.sweep.is_none());
        let head = group.head.next();
        prop_assert_eq!(head, u64::try_from(fed.offset).expect("a count") + 1);
    }
}

#[test]
fn the_member_that_was_last_is_first_in_the_next_sweep() {
    let (mut fed, mut group) = group();
    for slot in 0..3 {
        group.add(slot);
    }
    let mut order = Vec::new();
    for _ in 0..2 {
        fed.append(None, 10);
        loop {
            match group.step(1) {
                GroupStep::Write { members, .. } => order.extend(members),
                GroupStep::Wait => break,
                GroupStep::Again => {}
                GroupStep::Changed => panic!("nothing has changed"),
            }
        }
    }
    assert_eq!(order, [0, 1, 2, 2, 1, 0]);
}
