//! The parser of `tail` finds in any bytes, however they are cut, what the HTML standard says is there.

use crate::harness::{sse, trial};
use kafka_sse_bridge::sse::parse::{Event, Item, MAX_EVENT, Parser, TooLong};
use libtest_mimic::Trial;
use proptest::prelude::*;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("tails_parser_follows_the_html_standard", by_the_standard),
        trial(
            "tails_parser_finds_what_the_strict_one_finds_wherever_a_stream_is_cut",
            at_every_byte,
        ),
        trial(
            "tails_parser_finds_what_the_strict_one_finds_in_any_bytes",
            of_any_bytes,
        ),
        trial("tails_parser_bounds_what_never_ends", bounded),
    ]
}

fn event(name: &str, data: &str, id: &str) -> Item {
    Item::Event(Event {
        name: name.to_owned(),
        data: data.to_owned(),
        id: id.to_owned(),
    })
}

fn parse(bytes: &[u8]) -> (Vec<Item>, String) {
    let (mut parser, mut items) = (Parser::default(), Vec::new());
    parser.feed(bytes, &mut items).expect("not too long");
    (items, parser.last_event_id().to_owned())
}

fn by_the_standard() {
    let retry = |milliseconds| Item::Retry(Duration::from_millis(milliseconds));
    let comment = |text: &str| Item::Comment(text.to_owned());
    let cases: Vec<(&[u8], Vec<Item>, &str)> = vec![
        // The standard's own examples.
        (
            b"data: YHOO\ndata: +2\ndata: 10\n\n",
            vec![event("message", "YHOO\n+2\n10", "")],
            "",
        ),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            vec![
                comment(" test stream"),
                event("message", "first event", "1"),
                event("message", "second event", ""),
                event("message", " third event", ""),
            ],
            "",
        ),
        (
            b"data\n\ndata\ndata\n\ndata:",
            vec![event("message", "", ""), event("message", "\n", "")],
            "",
        ),
        (
            b"data:test\n\ndata: test\n\n",
            vec![event("message", "test", ""), event("message", "test", "")],
            "",
        ),
        // Ends of lines, and the byte order mark, once and only at the start.
        (
            b"data: a\rdata: b\r\ndata: c\n\r\n",
            vec![event("message", "a\nb\nc", "")],
            "",
        ),
        (
            b"data: a\r\rdata: b\r\n\r\n",
            vec![event("message", "a", ""), event("message", "b", "")],
            "",
        ),
        (b"\xEF\xBB\xBFdata: a\n\n", vec![event("message", "a", "")], ""),
        (
            b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\ndata: b\n\n",
            vec![event("message", "b", "")],
            "",
        ),
        (b"\xEF\xBBdata: a\n\n", vec![], ""),
        (
            b"data: a\n\n\xEF\xBB\xBFdata: b\n\n",
            vec![event("message", "a", "")],
            "",
        ),
        (
            b"data: \xFF\xC3\n\n",
            vec![event("message", "\u{FFFD}\u{FFFD}", "")],
            "",
        ),
        // Ids: kept until another comes, not taken with NUL, taken at the blank line even without data.
        (
            b"id: 1\ndata: a\n\nid: x\0y\ndata: b\n\n",
            vec![event("message", "a", "1"), event("message", "b", "1")],
            "1",
        ),
        (b"id: 1\n\nid: 2\n", vec![], "1"),
        (
            b"id: 1\ndata: a\n\nid:\ndata: b\n\n",
            vec![event("message", "a", "1"), event("message", "b", "")],
            "",
        ),
        // Reconnection times: digits only.
        (b"retry: 1500\n", vec![retry(1500)], ""),
        (
            b"retry: +1\nretry: -1\nretry: 1.5\nretry: 0x1\nretry:\nretry: 1 \nretry:  1\n",
            vec![],
            "",
        ),
        (b"retry: 99999999999999999999999\n", vec![], ""),
        // Names: the last of a block counts, and a block without data takes its name along.
        (b"event: a\nevent: b\ndata: x\n\n", vec![event("b", "x", "")], ""),
        (b"event: a\n\ndata: x\n\n", vec![event("message", "x", "")], ""),
        (
            b"event: a\nevent:\ndata: x\n\n",
            vec![event("message", "x", "")],
            "",
        ),
        // What is no field is nothing, whatever its case.
        (b"Data: x\ndata : x\n data: x\nfoo: x\nfoo\n\n", vec![], ""),
        (b":\n::\n", vec![comment(""), comment(":")], ""),
        (b"data: never ended\n", vec![], ""),
    ];
    for (bytes, items, id) in cases {
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(parse(bytes), (items, id.to_owned()), "{shown:?}");
    }
    let (mut parser, mut items) = (Parser::resuming("before"), Vec::new());
    parser.feed(b"data: a\n\n", &mut items).expect("short");
    assert_eq!(items, [event("message", "a", "before")]);
    assert_eq!(parser.last_event_id(), "before");
}

/// What the harness's parser finds, without the house rules that it also keeps.
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

fn at_every_byte() {
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

fn of_any_bytes() {
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

fn bounded() {
    let (mut parser, mut items) = (Parser::default(), Vec::new());
    let piece = vec![b'x'; MAX_EVENT / 4];
    for _ in 0..4 {
        parser.feed(&piece, &mut items).expect("up to the limit");
    }
    assert_eq!(parser.feed(b"x", &mut items), Err(TooLong), "a line");

    let mut parser = Parser::default();
    let mut line = b"data: ".to_vec();
    line.resize(MAX_EVENT / 4, b'x');
    line.push(b'\n');
    let outcome = (0..5).try_for_each(|_| parser.feed(&line, &mut items));
    assert_eq!(outcome, Err(TooLong), "an event");
}
