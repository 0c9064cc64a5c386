//! An event id is a position: it reads back as what was written, and nothing else reads as one.

use proptest::prelude::*;

use super::*;

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

#[test]
fn a_position_reads_back_as_written() {
    proptest!(|(position in position())| {
        let id = position.id();
        prop_assert!(id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)));
        prop_assert_eq!(Position::parse(&id), Ok(position));
    });
}

#[test]
fn the_id_parser_returns_an_error_for_any_invalid_text() {
    proptest!(|(text in any::<Vec<u8>>())| {
        if let Ok(position) = Position::parse(&text) {
            prop_assert_eq!(Position::parse(&position.id()), Ok(position));
        }
    });
}

#[test]
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
    // Nor one that would be written as a lower one in versions 3 and 4.
    assert_eq!(
        Position::parse(b"AwAAAAAAAAAAAf___________wE"),
        Err(PositionError::Damaged)
    );
    let highest = Position::parse(b"AwAAAAAAAAAAAf__________fw").expect("a position");
    assert_eq!(highest.next(0, 0), HIGHEST_MARKED);
    // Without marks it is written in version 1.
    assert_eq!(Position::parse(&highest.id()), Ok(highest));
}

#[test]
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

#[test]
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
    let wanted = URL_SAFE_NO_PAD.encode(bytes);
    assert_eq!(
        Position {
            as_of: None,
            topics: vec![topic]
        }
        .id(),
        wanted.as_bytes()
    );
}
