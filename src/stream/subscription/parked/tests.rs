//! A parked reader misses nothing that a whole one would have had.

use super::*;
use crate::config::units::{Size, Span};
use crate::config::{Start, StreamSettings};
use crate::stream::control::Goodbye;
use crate::stream::fed::Fed;
use crate::stream::start_position::Opening;
use crate::stream::subscription::Step;

/// What a reader is sent until it waits or has ended, but for reconnect times, which are random.
fn read(subscription: &mut Subscription) -> String {
    let mut sent = Vec::new();
    while let step @ (Step::Send(_) | Step::Yield) = subscription.step(Instant::now()) {
        if let Step::Send(bytes) = step {
            sent.extend_from_slice(&bytes);
        }
    }
    let sent = String::from_utf8(sent).expect("text");
    let lines = sent.split_inclusive('\n');
    lines.filter(|line| !line.starts_with("retry: ")).collect()
}

/// A reader that has caught up.
fn caught_up(fed: &Fed) -> Box<Subscription> {
    let mut subscription = Box::new(fed.stream.subscribe(Opening::default()));
    assert!(read(&mut subscription).contains("caught-up"));
    subscription
}

fn park(subscription: Box<Subscription>) -> (Head, Parked) {
    let head = subscription.head().expect("it can be parked");
    (head, subscription.park().expect("it can be parked"))
}

#[test]
fn records_that_come_before_a_reader_is_parked_are_read_by_its_head() {
    let mut fed = Fed::new(|_| {});
    let subscription = caught_up(&fed);
    fed.append(None, 10);
    let (mut head, parked) = park(subscription);
    let HeadStep::Batch(batch) = head.step(1000) else {
        panic!("no batch");
    };
    assert_eq!((batch.from, batch.count), (parked.next(), 1));
    drop(head.unpark(parked, Some(&batch)));
}

#[test]
fn a_change_while_a_reader_is_parked_is_seen() {
    let fed = Fed::new(|_| {});
    let (mut head, parked) = park(caught_up(&fed));
    // As if it came between the reader's last step and its parking.
    fed.stream.close(Goodbye::Shutdown);
    assert!(matches!(head.step(1000), HeadStep::Changed));
    let mut subscription = head.unpark(parked, None);
    assert!(read(&mut subscription).contains("shutdown"));
}

/// A parked reader and a whole one that fall off the log go on in the same way.
fn fall_off(settings: impl FnOnce(&mut StreamSettings), is_mid_sweep: bool) -> String {
    let mut fed = Fed::new(|stream| {
        stream.log_bytes = Size(3000);
        settings(stream);
    });
    let (mut head, mut parked) = park(caught_up(&fed));
    let mut whole = caught_up(&fed);
    fed.append(Some("a"), 10);
    let HeadStep::Batch(batch) = head.step(1000) else {
        panic!("no batch");
    };
    // Either it was sent the batch, or not yet.
    if !is_mid_sweep {
        parked.sent(&batch, Instant::now(), &head);
        assert!(read(&mut whole).contains("id: "));
    }
    for number in 0..20 {
        fed.append(Some(&format!("b{number}")), 1000);
    }
    let mut subscription = if is_mid_sweep {
        head.unpark(parked, Some(&batch))
    } else {
        assert!(
            matches!(head.step(1000), HeadStep::Changed),
            "nothing is passed over"
        );
        head.unpark(parked, None)
    };
    let sent = read(&mut subscription);
    assert_eq!(sent, read(&mut whole));
    sent
}

#[test]
fn a_parked_reader_that_falls_off_the_log_is_disconnected() {
    for is_mid_sweep in [false, true] {
        let sent = fall_off(|stream| stream.lag = Some(Lag::Disconnect), is_mid_sweep);
        assert!(sent.contains("\"slow\""), "{sent}");
    }
}

#[test]
fn a_parked_reader_that_falls_off_the_log_replays_from_where_it_was() {
    for is_mid_sweep in [false, true] {
        let sent = fall_off(|stream| stream.lag = Some(Lag::Replay), is_mid_sweep);
        // There is no Kafka to read from, but where to is known.
        assert!(!sent.contains("\"slow\""), "{sent}");
    }
}

#[test]
fn a_parked_reader_that_falls_off_the_log_gets_the_latest() {
    for is_mid_sweep in [false, true] {
        let sent = fall_off(
            |stream| {
                stream.start = Start::Snapshot;
                stream.lag = Some(Lag::Latest);
            },
            is_mid_sweep,
        );
        assert!(sent.contains("event: conflated"), "{sent}");
    }
}

#[test]
fn a_parked_reader_that_is_throttled_gets_records_that_only_the_log_has() {
    let mut fed = Fed::new(|stream| stream.start = Start::Snapshot);
    let (mut head, parked) = park(caught_up(&fed));
    let mut whole = caught_up(&fed);
    // The table has no row of a record without a key.
    fed.append(None, 10);
    let settings = *fed.stream.live_settings();
    fed.stream.apply(LiveSettings {
        throttle: Span::seconds(60).0,
        ..settings
    });
    assert!(matches!(head.step(1000), HeadStep::Changed));
    let mut subscription = head.unpark(parked, None);
    let sent = read(&mut subscription);
    assert!(sent.contains("data: "), "{sent}");
    assert_eq!(sent, read(&mut whole));
}
