//! An event id is a position: it reads back as what was written, and nothing else reads as one.

use crate::harness::daemon::run_to_end;
use crate::trials;
use kafka_sse_bridge::stream::position::{MAX_ID, Position, PositionError, TopicPosition, fingerprint};
use libtest_mimic::Trial;
use proptest::prelude::*;

pub fn trials() -> Vec<Trial> {
    trials![
        a_position_reads_back_as_written,
        the_id_parser_returns_an_error_for_any_invalid_text,
        a_damaged_id_is_refused,
        an_id_never_exceeds_its_estimated_length,
        the_format_of_ids_is_the_documented_one,
        the_id_command_prints_a_position,
    ]
}

fn position() -> impl Strategy<Value = Position> {
    let offset = prop_oneof![0..1000_i64, 0..i64::MAX];
    let topic = (any::<u32>(), any::<u32>(), prop::collection::vec(offset, 0..40));
    prop::collection::vec(
        topic.prop_map(|(name, id, next)| TopicPosition {
            id,
            next,
            marks: Vec::new(),
            name,
        }),
        0..5,
    )
    .prop_map(|topics| Position { as_of: None, topics })
}

fn a_position_reads_back_as_written() {
    proptest!(|(position in position())| {
        let id = position.id();
        prop_assert!(id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)));
        prop_assert_eq!(Position::parse(&id), Ok(position));
    });
}

fn the_id_parser_returns_an_error_for_any_invalid_text() {
    proptest!(|(text in any::<Vec<u8>>())| {
        if let Ok(position) = Position::parse(&text) {
            prop_assert_eq!(Position::parse(&position.id()), Ok(position));
        }
    });
}

fn a_damaged_id_is_refused() {
    proptest!(|(position in position(), cut in 1..8_usize)| {
        let mut id = position.id();
        id.truncate(id.len().saturating_sub(cut));
        prop_assert_ne!(Position::parse(&id), Ok(position));
    });
    assert_eq!(Position::parse(b"A+=="), Err(PositionError::NotBase64));
    assert_eq!(Position::parse(b""), Err(PositionError::Damaged));
    assert_eq!(Position::parse(b"BQ"), Err(PositionError::Version));
    assert_eq!(
        Position::parse(&vec![b'A'; MAX_ID + 1]),
        Err(PositionError::TooLong)
    );
    // A count of 2^63 partitions must not be believed, nor an offset beyond what Kafka has.
    assert_eq!(
        Position::parse(b"AQAAAAAAAAAA____________fw"),
        Err(PositionError::Damaged)
    );
}

fn an_id_never_exceeds_its_estimated_length() {
    proptest!(|(mut position in position(), steps in prop::collection::vec(0..1_000_000_000_i64, 1..20))| {
        for topic in &mut position.topics {
            topic.next.iter_mut().for_each(|next| *next %= 1_000_000);
        }
        let foreseen = position.id_len_ahead();
        for step in steps {
            for topic in &mut position.topics {
                topic.next.iter_mut().for_each(|next| *next += step);
            }
            prop_assert!(position.id().len() <= foreseen);
        }
    });
}

fn the_format_of_ids_is_the_documented_one() {
    assert_eq!(
        fingerprint("123456789"),
        0xcbf4_3926,
        "the check value of CRC-32 (IEEE)"
    );
    let topic = TopicPosition {
        name: 0x0102_0304,
        id: 0,
        next: vec![0, 127, 128, 300],
        marks: Vec::new(),
    };
    let bytes = [1, 1, 2, 3, 4, 0, 0, 0, 0, 4, 0, 0x7f, 0x80, 1, 0xac, 2];
    let wanted = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    assert_eq!(
        Position {
            as_of: None,
            topics: vec![topic]
        }
        .id(),
        wanted.as_bytes()
    );
}

fn the_id_command_prints_a_position() {
    let topics = vec![TopicPosition {
        next: vec![7, 0, 9],
        ..TopicPosition::unread("orders")
    }];
    let id = String::from_utf8(Position { as_of: None, topics }.id()).unwrap();
    let output = run_to_end(&["id", &id], &[]);
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed,
        format!(
            "topic name {:08x} id 00000000 next 0:7 1:0 2:9\n",
            fingerprint("orders")
        )
    );

    let kafka_sse = r#"[{"topic":"orders","partition":0,"offset":12},{"topic":"orders","partition":1,"timestamp":1795593600000},
        {"topic":"orders","partition":2,"offset":-1},{"topic":"orders","partition":3,"offset":-2},
        {"topic":"orders","partition":4,"timestamp":-1},{"topic":"orders","partition":5,"timestamp":1795593600}]"#;
    let output = run_to_end(&["id", kafka_sse], &[]);
    let printed = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(
        lines,
        [
            "topic orders partition 0 next 12",
            "topic orders partition 1 timestamp 1795593600000",
            "topic orders partition 2 end",
            "topic orders partition 3 beginning",
            "topic orders partition 4 no position",
            "topic orders partition 5 timestamp 1795593600, which is in seconds and makes the id unusable; in \
             milliseconds it is 1795593600000",
        ]
    );
    let output = run_to_end(&["id", "[1]"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not of topics, partitions"));

    let output = run_to_end(&["id", "no id!"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not base64url"));
}
