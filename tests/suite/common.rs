//! Helpers of several test files: configurations, tables of countries, events as plain values.

use crate::harness::broker::Broker;
use crate::harness::produce::Message;
use crate::harness::sse::Event;
use parking_lot::RwLock;
use serde_json::Value;

/// Clients that hold much of tables make the pieces of all others in this process smaller: taken for writing by a trial
/// that does that, and for reading by trials that count pieces.
pub static SIZE_OF_PIECES: RwLock<()> = RwLock::new(());

/// A configuration that reads `topics` of `broker` at `/events`, with more lines for its stream.
pub fn config(broker: &Broker, topics: &[&str], stream: &str) -> String {
    format!(
        "[kafka]\nbrokers = [\"{}\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n[[stream]]\npath = \"/events\"\n\
         topics = {topics:?}\n{stream}\n",
        broker.bootstrap()
    )
}

/// The same, read by one client library, which sees uncommitted records too.
pub fn config_with(client: &str, broker: &Broker, topics: &[&str], stream: &str) -> String {
    let kafka = format!("[kafka]\nclient = \"{client}\"\nisolation = \"read_uncommitted\"\n");
    config(broker, topics, stream).replacen("[kafka]\n", &kafka, 1)
}

/// A record as the original program's producer wrote it.
pub fn table(continent: &str, countries: &[&str]) -> Message {
    let country = |code: &&str| {
        format!(
            r#"{{"code":"{code}","name":"Land {code}","population":123456789012345678901,"size":1.50,"continent":"{continent}"}}"#
        )
    };
    let mut nrs: Vec<String> = countries.iter().map(country).collect();
    nrs.resize(4, "null".to_owned());
    Message::new(continent, format!(r#"{{"nrs":[{}]}}"#, nrs.join(",")))
}

/// The expected data of that record: the key under `continent`, all else byte for byte.
pub fn shown_table(message: &Message) -> String {
    let value = text(message.value.as_deref());
    let key = text(message.key.as_deref());
    format!(
        "{},\"continent\":\"{key}\"}}",
        value.strip_suffix('}').expect("an object")
    )
}

pub fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.expect("present").to_vec()).expect("UTF-8")
}

/// `count` records `p<partition>-<number>` for one partition, from `first`.
pub fn numbered(partition: i32, first: usize, count: usize) -> Vec<Message> {
    (first..first + count)
        .map(|number| Message::value(format!("p{partition}-{number}")).partition(partition))
        .collect()
}

pub fn is_record(event: &Event) -> bool {
    event.name == "message"
}

/// The data of the records among these events.
pub fn records(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter(|event| is_record(event))
        .map(|event| event.data.clone())
        .collect()
}

/// The records of one partition, of those that [`numbered`] made.
pub fn of_partition(records: &[String], partition: i32) -> Vec<String> {
    let prefix = format!("p{partition}-");
    records
        .iter()
        .filter(|record| record.starts_with(&prefix))
        .cloned()
        .collect()
}

/// The records of [`numbered`] as a client receives them.
pub fn expected(partition: i32, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("p{partition}-{number}"))
        .collect()
}

/// Until `count` records have come.
pub fn until_records(count: usize) -> impl FnMut(&Event) -> bool {
    let mut seen = 0;
    move |event| {
        seen += usize::from(is_record(event));
        seen >= count
    }
}

pub fn named(name: &'static str) -> impl FnMut(&Event) -> bool {
    move |event| event.name == name
}

pub fn json(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap_or_else(|error| panic!("{error}: {}", event.data))
}
