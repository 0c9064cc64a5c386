//! Records whose schemas are not there yet.

use crate::decoding::{batch, decode_all, framed, schema, settings};
use crate::harness::wait::{block_on, secs};
use crate::trials;
use kafka_sse_bridge::config::DataFormat;
use kafka_sse_bridge::decode::feeds::{FeedDecoder, Lookup};
use kafka_sse_bridge::decode::{Decoder, SchemaId, SchemaKind, Step, Supplied};
use kafka_sse_bridge::kafka::invalid::Invalid;
use kafka_sse_bridge::kafka::record::Feed;
use libtest_mimic::Trial;
use std::future::{pending, ready};
use std::sync::{Arc, Mutex};
use tokio::sync::Barrier;
use tokio::time::timeout;

pub fn trials() -> Vec<Trial> {
    trials![
        a_value_of_an_unknown_schema_does_not_hold_up_others,
        records_before_a_missing_schema_are_handed_on,
        schemas_that_a_batch_lacks_are_waited_for_together,
        a_schema_that_does_not_come_holds_up_no_record_before_its_own,
    ]
}

const ID: SchemaId = SchemaId::Number(7);

fn a_value_of_an_unknown_schema_does_not_hold_up_others() {
    let text = "\"int\"";
    let known = schema(SchemaKind::Avro, text, Vec::new());
    let records = batch(&[
        (None, Some(&[0, 0, 0, 0, 9, 2]), &[]),
        (None, Some(&[0, 0, 0, 0, 7, 2]), &[]),
        (None, Some(&[0, 0, 0, 0, 9, 2]), &[]),
        (None, Some(&[0, 0, 0, 0, 8, 2]), &[]),
    ]);
    let mut decoder = Decoder::new(&settings(DataFormat::Text, DataFormat::Avro));
    let mut asked = Vec::new();
    let mut decode = || {
        decode_all(&mut decoder, &records, |id| {
            asked.push(id);
            match id {
                SchemaId::Number(7) => known.clone(),
                SchemaId::Number(8) => Supplied::Unusable("it is broken".to_owned()),
                _ => Supplied::Unknown,
            }
        })
    };
    let parts = decode();
    let all: Vec<_> = parts.iter().flat_map(|part| part.iter()).collect();
    let causes: Vec<_> = all
        .iter()
        .map(|record| record.undecodable.map(|error| error.cause))
        .collect();
    assert_eq!(
        causes,
        [
            Some(Invalid::ValueSchemaUnknown),
            None,
            Some(Invalid::ValueSchemaUnknown),
            Some(Invalid::ValueSchemaUnusable)
        ]
    );
    decode();
    assert_eq!(
        asked,
        [9, 7, 8, 9, 8].map(SchemaId::Number),
        "once per batch, in case it is registered by then"
    );
}

fn records_before_a_missing_schema_are_handed_on() {
    let records = batch(&[
        (None, Some(&framed(&[2])), &[]),
        (None, Some(&[0, 0, 0, 0, 9, 4]), &[]),
    ]);
    let mut decoder = Decoder::new(&settings(DataFormat::Text, DataFormat::Avro));
    let int = schema(SchemaKind::Avro, "\"int\"", Vec::new());
    let nine = SchemaId::Number(9);
    assert!(matches!(decoder.decode(&records, || {}), Step::Need(ids) if ids == [ID, nine]));
    decoder.supply(ID, int.clone());
    assert!(matches!(decoder.decode(&records, || {}), Step::Part(part) if part.len() == 1));
    for _ in 0..2 {
        let next = decoder.decode(&records, || {});
        assert!(matches!(&next, Step::Need(ids) if *ids == [nine]), "{next:?}");
    }
    decoder.supply(nine, int);
    let Step::Done(rest) = decoder.decode(&records, || {}) else {
        panic!("nothing is missing");
    };
    let shown: Vec<_> = rest.iter().map(|record| (record.offset, record.value)).collect();
    assert_eq!(shown, [(1, Some(&b"2"[..]))], "no record twice");
}

/// A decoder of numbers in Avro, whose schemas `find` finds.
fn number_feeds<F>(find: impl Fn(SchemaId) -> F + Send + Sync + 'static) -> FeedDecoder
where
    F: Future<Output = Supplied> + Send + 'static,
{
    FeedDecoder::new(
        &settings(DataFormat::Avro, DataFormat::Avro),
        Some(Lookup::new(find)),
    )
}

/// Numbers of records, and whether other parts of their batch follow.
fn shown_part((feed, is_part): &(Feed, bool)) -> (Vec<i64>, bool) {
    let Feed::Records(batch) = feed else {
        panic!("no records: {feed:?}")
    };
    (batch.iter().map(|record| record.offset).collect(), *is_part)
}

fn schemas_that_a_batch_lacks_are_waited_for_together() {
    // Each answer waits until all are asked for, as if each took the whole time of an unknown schema.
    let all_asked = Arc::new(Barrier::new(3));
    let int = schema(SchemaKind::Avro, "\"int\"", Vec::new());
    let mut decoder = number_feeds(move |_| {
        let (all_asked, int) = (Arc::clone(&all_asked), int.clone());
        async move {
            all_asked.wait().await;
            int
        }
    });
    let records = batch(&[
        (Some(&framed(&[2])), Some(&framed(&[2])), &[]),
        (Some(&[0, 0, 0, 0, 8, 2]), Some(&framed(&[2])), &[]),
        (None, Some(&[0, 0, 0, 0, 9, 4]), &[]),
    ]);
    block_on(async {
        let feed = Feed::Records(records);
        let part = timeout(secs(20), decoder.decode(&feed, || {})).await;
        assert_eq!(shown_part(&part.expect("in one go")), (vec![0, 1, 2], false));
    });
}

fn a_schema_that_does_not_come_holds_up_no_record_before_its_own() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let int = schema(SchemaKind::Avro, "\"int\"", Vec::new());
    let mut decoder = number_feeds({
        let asked = Arc::clone(&asked);
        move |id| {
            asked.lock().expect("no panic").push(id);
            let int = int.clone();
            async move { if id == ID { int } else { pending().await } }
        }
    });
    let records = batch(&[
        (None, Some(&framed(&[2])), &[]),
        (None, Some(&[0, 0, 0, 0, 9, 4]), &[]),
        (None, Some(&framed(&[2])), &[]),
    ]);
    block_on(async {
        let feed = Feed::Records(records);
        assert_eq!(shown_part(&decoder.decode(&feed, || {}).await), (vec![0], true));
        for _ in 0..2 {
            // As a replay does whose readers move.
            tokio::select! {
                biased;
                part = decoder.decode(&feed, || {}) => panic!("{part:?}"),
                () = ready(()) => {}
            }
        }
    });
    let asked = asked.lock().expect("no panic");
    assert_eq!(*asked, [ID, SchemaId::Number(9)], "once each");
}
