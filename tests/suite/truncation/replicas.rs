//! Ids of truncated records at a replica that was not there when the log was truncated.

use super::{Held, gap, resume_with_every_id, write};
use crate::rig::{Rig, run};
use crate::trials;
use kafka_sse_bridge::config::Start;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![
        another_replica_detects_a_truncated_id_by_its_leader_epoch,
        a_loading_replica_detects_a_truncated_id_once_it_has_read_past_it,
    ]
}

/// A replica that reads the same topics and began after everything had happened: from the first record, or from the end.
fn another_replica_detects_a_truncated_id_by_its_leader_epoch() {
    run(async {
        let mut rig = Rig::enveloped(Start::Earliest, |_| {});
        let mut client = rig.client(&[]);
        let mut events = client.events();
        write(&mut rig, 0, 2, 5);
        write(&mut rig, 0, 4, 4);
        write(&mut rig, 1, 0, 3);
        events.extend(client.events());
        // A change of leaders by which nothing is lost.
        write(&mut rig, 1, 1, 3);
        events.extend(client.events());
        rig.truncate(0, 7, Some(4), Some(4));
        events.extend(client.events());
        write(&mut rig, 0, 5, 6);
        events.extend(client.events());
        let whole = rig.other(Start::Earliest);
        resume_with_every_id(&whole, &events, "another replica").await;
        let lines = whole.resume(&events[11].id, &[]).lines_with_history().await;
        assert!(lines.len() > 4, "{lines:?}");
        // Leader changes without loss cause no event.
        let last = whole
            .resume(client.last_event_id(), &[])
            .lines_with_history()
            .await;
        assert_eq!(last, [r#"caught-up {"reason":"replay"}"#]);
    });
}

/// Leader epochs are compared when they can be known, whether the id is of the log before or of the log since.
fn a_loading_replica_detects_a_truncated_id_once_it_has_read_past_it() {
    run(async {
        let mut rig = Rig::enveloped(Start::Earliest, |_| {});
        let mut client = rig.client(&[]);
        let mut events = client.events();
        write(&mut rig, 1, 2, 1);
        write(&mut rig, 0, 2, 7);
        events.extend(client.events());
        rig.truncate(0, 4, Some(2), Some(2));
        write(&mut rig, 0, 3, 9);
        let since = client.events();
        let last = client.last_event_id().to_owned();
        let mut late = rig.unread(Start::Earliest);
        let mut before = late.resume(&events[events.len() - 1].id, &[]);
        let mut same = late.resume(&since[6].id, &[]);
        let mut at_end = late.resume(&last, &[]);
        for read in [0..2, 2..6] {
            late.deliver(0, read);
            for client in [&mut before, &mut same, &mut at_end] {
                assert_eq!(
                    client.lines_with_history().await,
                    [""; 0],
                    "no epoch is known yet"
                );
            }
        }
        late.deliver(0, 6..12);
        assert_eq!(
            before.lines_with_history().await,
            [""; 0],
            "the other partition is still to be read"
        );
        late.deliver(1, 0..1);
        let lines = before.lines_with_history().await;
        assert_eq!(lines[0], gap(0, 4, 7), "{lines:?}");
        assert!(
            !same
                .lines_with_history()
                .await
                .iter()
                .any(|line| line.starts_with("gap"))
        );
        assert_eq!(at_end.lines_with_history().await, [""; 0]);
        late.deliver(0, 12..13);
        late.load();
        let mut held = Held::default();
        held.hear(&events, "before");
        held.hear(
            &late
                .resume(&events[events.len() - 1].id, &[])
                .events_with_history()
                .await,
            "loaded",
        );
        assert_eq!(held.values, Held::of(&rig).values);
        assert_eq!(
            at_end.lines_with_history().await,
            [r#"caught-up {"reason":"replay"}"#]
        );
        // One that is loaded and has still to get as far keeps a client waiting, too.
        let mut late = rig.unread(Start::Earliest);
        let mut client = late.resume(&last, &[]);
        assert_eq!(client.lines_with_history().await, [""; 0]);
        late.load();
        assert_eq!(client.lines_with_history().await, [""; 0]);
        late.deliver(0, 0..13);
        late.deliver(1, 0..1);
        assert_eq!(
            client.lines_with_history().await,
            [r#"caught-up {"reason":"replay"}"#]
        );
    });
}
