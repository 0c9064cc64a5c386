//! Leader epochs in ids: ids without them, and the longest ids with them.

use super::{Held, gap};
use crate::rig::{Rig, rec, run};
use crate::trials;
use kafka_sse_bridge::config::Start;
use kafka_sse_bridge::stream::position::{MAX_ID, Position, TopicPosition};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        an_id_beyond_the_end_resumes_at_the_end_without_leader_epochs,
        leader_epochs_never_make_an_id_too_long,
    ]
}

/// As with the `kafka` crate, which notices a truncation only where the log ends before the read position.
fn an_id_beyond_the_end_resumes_at_the_end_without_leader_epochs() {
    run(async {
        let mut rig = Rig::enveloped(Start::Earliest, |_| {});
        let mut client = rig.client(&[]);
        client.items();
        let plain = |rig: &mut Rig, tag: &str, count: usize| {
            for _ in 0..count {
                let value = format!("\"{tag}-{}\"", rig.next[0][0]);
                rig.records(&[rec("k", value)]);
            }
        };
        plain(&mut rig, "old", 8);
        let mut events = client.events();
        let before = events.clone();
        rig.truncate(0, 5, None, None);
        events.extend(client.events());
        plain(&mut rig, "new", 1);
        events.extend(client.events());
        let mut held = Held::default();
        held.hear(&events, "connected");
        assert_eq!(held.notices, [gap(0, 5, 8)]);
        assert_eq!(held.values, Held::of(&rig).values);
        // An id beyond the end resumes at the end; one within the longer log is indistinguishable from a new one.
        let lines = rig.resume(&before[7].id, &[]).lines_with_history().await;
        assert_eq!(lines[0], gap(0, 5, 8));
        let last = client.last_event_id().to_owned();
        plain(&mut rig, "new", 4);
        assert_eq!(
            rig.resume(&last, &[]).lines_with_history().await.len(),
            5,
            "no false gap"
        );
    });
}

fn leader_epochs_never_make_an_id_too_long() {
    let at_most = (1..1200)
        .rev()
        .find(|&count| {
            let topic = TopicPosition {
                next: vec![0; count],
                ..TopicPosition::unread("t")
            };
            let position = Position {
                as_of: None,
                topics: vec![topic],
            };
            position.id_len_ahead() <= MAX_ID
        })
        .expect("some");
    for (count, is_marked) in [(at_most, false), (at_most / 2, true)] {
        let mut rig = Rig::ready(|_| {});
        rig.assign(0, &vec![0; count]);
        rig.grow(0, count);
        for partition in 0..count {
            let partition = u32::try_from(partition).expect("few");
            rig.records(&[rec("k", "v").partition(partition).epoch(16_000)]);
        }
        assert_eq!(rig.stream.failure(), None);
        let id = rig.position();
        assert!(id.len() <= MAX_ID);
        let position = Position::parse(&id).expect("an id");
        let has_marks = position.topics[0].epoch(count - 1) == Some(16_000);
        assert_eq!(has_marks, is_marked, "{count}");
    }
}
