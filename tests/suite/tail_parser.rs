//! The parser of event streams finds the same items as the strict one of the harness, wherever a stream is cut.

use crate::harness::sse;
use crate::trials;
use kafka_sse_bridge::sse::parse::{Event, Item, Parser};
use libtest_mimic::Trial;
use proptest::prelude::*;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    trials![
        the_parser_agrees_with_the_strict_one_at_any_chunk_boundary,
        the_parser_agrees_with_the_strict_one_on_any_bytes,
    ]
}

fn event(name: &str, data: &str, id: &str) -> Item {
    Item::Event(Event {
        name: name.to_owned(),
        data: data.to_owned(),
        id: id.to_owned(),
    })
}

/// The result of the harness's parser, without the rules that it also checks.
fn strict(bytes: &[u8]) -> Vec<Item> {
    sse::Parser::new()
        .feed(bytes)
        .into_iter()
        .filter_map(|item| match item {
            sse::Item::Event(found) => Some(event(&found.name, &found.data, &found.id)),
            sse::Item::Comment(text) => Some(Item::Comment(text)),
            sse::Item::Retry(milliseconds) => Some(Item::Retry(Duration::from_millis(milliseconds))),
            sse::Item::Violation(_) => None,
        })
        .collect()
}

fn in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Item> {
    let (mut parser, mut items) = (Parser::default(), Vec::new());
    for piece in pieces {
        parser.feed(piece, &mut items).expect("not too long");
    }
    items
}

fn the_parser_agrees_with_the_strict_one_at_any_chunk_boundary() {
    let stream = "\u{FEFF}retry: 2497\n: kafka-sse-bridge 0.1.0\nid: AeUv_e4AAAAAAQE\ndata: {\"größe\":\"½ €\"}\r\n\r\n\
                  event: delete\rid: x\rdata: a\rdata: b\r\rid: n\0ul\ndata\n\n:\r\n: \nretry: 12x\nfoo\n\
                  event: caught-up\nid: y\ndata: {\"reason\":\"live\"}\n\ndata: 𝄞\ndata:\n\nid: last\n\ndata: cut";
    let bytes = stream.as_bytes();
    let whole = strict(bytes);
    assert_eq!(
        whole.iter().filter(|item| matches!(item, Item::Event(_))).count(),
        5
    );
    assert_eq!(in_pieces([bytes]), whole);
    assert_eq!(in_pieces(bytes.chunks(1)), whole);
    for first in 0..bytes.len() {
        let (start, rest) = bytes.split_at(first);
        assert_eq!(in_pieces([start, rest]), whole, "cut at {first}");
        for second in 0..rest.len().min(8) {
            let (middle, end) = rest.split_at(second);
            assert_eq!(
                in_pieces([start, middle, end]),
                whole,
                "cut at {first} and {second} on"
            );
        }
    }
}

fn the_parser_agrees_with_the_strict_one_on_any_bytes() {
    let piece = prop::sample::select(vec![
        "data",
        "id",
        "event",
        "retry",
        ":",
        ": ",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "x",
        "7",
        "\0",
        "ü",
        "\u{FEFF}",
        "data: a\n\n",
        "id: 1\n",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    let bytes = prop_oneof![9 => piece, 1 => prop::collection::vec(any::<u8>(), 0..4)];
    let stream = prop::collection::vec(bytes, 0..60).prop_map(|pieces| pieces.concat());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&(stream, 1..9usize), |(bytes, size)| {
            prop_assert_eq!(in_pieces(bytes.chunks(size)), strict(&bytes));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
