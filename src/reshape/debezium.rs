//! The change events of Debezium's connectors (its documentation, "Data change events").
//!
//! An event has the row before and after a change: `{"before","after","source","op","ts_ms",…}`, in Kafka Connect's JSON
//! with schemas as the `payload` of an object beside its `schema`. Behind the event of a delete comes a tombstone, so
//! that compaction removes the key. Other records of Debezium are no changes of rows: heartbeats, the beginnings and
//! ends of transactions, changes of schemas, logical messages.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The result of an event.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    /// The row is this one now.
    Row(Row<'a>),
    /// The row was deleted.
    Delete,
    /// No row has changed.
    Nothing,
}

/// A row, and what is known of its change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    after: &'a str,
    before: Option<&'a str>,
    source: Option<&'a str>,
    ts_ms: Option<&'a str>,
    op: &'a str,
}

/// Members of `source` that are SQL, in which the values of all columns may be: of MySQL and MariaDB with `include.query`,
/// of Oracle with `log.mining.include.redo.sql`, in JSON and in Avro or in Protobuf.
pub(crate) const SQL: [&str; 3] = ["query", "redo_sql", "redoSql"];

/// Why an event cannot be unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// It is no event of Debezium.
    #[error("not a change event of Debezium; remove unwrap, or read another topic")]
    NotAnEvent,
    /// It says that a row was changed, but not to what.
    #[error(
        "a change event without \"after\"; have MongoDB's connector send whole documents (capture.mode = \
         change_streams_update_full)"
    )]
    WithoutAfter,
    /// A row is a string, as MongoDB's documents are, of something else.
    #[error("a row that is a string, and not of a document as MongoDB's connector writes it")]
    NotADocument,
    /// The source's table was emptied, which no key says.
    #[error(
        "the source's table was truncated: rows of before are still shown; have the connector skip such events \
             (skipped.operations = t), or delete and recreate the topic"
    )]
    Truncated,
}

/// The members of an event, and those by which other records of Debezium are recognised.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    /// Null is told from none.
    #[serde(borrow, default, deserialize_with = "present")]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    op: Option<&'a RawValue>,
    #[serde(borrow, alias = "tsMs")]
    ts_ms: Option<&'a RawValue>,
    /// The value, where Connect's JSON has schemas.
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    schema: Option<IgnoredAny>,
    /// A logical message.
    message: Option<IgnoredAny>,
    /// A transaction's beginning or end, and its id.
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    id: Option<IgnoredAny>,
    /// A change of a schema.
    ddl: Option<IgnoredAny>,
    #[serde(rename = "tableChanges")]
    table_changes: Option<IgnoredAny>,
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

impl<'a> Members<'a> {
    fn of(event: &'a str) -> Result<Self, Fault> {
        if !is_object(event) {
            return Err(Fault::NotAnEvent);
        }
        serde_json::from_str(event).map_err(|_| Fault::NotAnEvent)
    }

    fn after(&self) -> Option<&'a str> {
        self.after.map(RawValue::get).filter(|after| *after != "null")
    }

    /// Whether it has a place for rows, or a source. Other records may have a column `op`.
    const fn has_row(&self) -> bool {
        self.before.is_some() || self.after.is_some() || self.source.is_some()
    }

    /// Whether it is the beginning or the end of a transaction, or a change of a schema. Other records may have columns of
    /// these names.
    fn is_without_row(&self) -> bool {
        let status = self.status.map(RawValue::get);
        let is_transaction = matches!(status, Some("\"BEGIN\"" | "\"END\"")) && self.id.is_some();
        let is_schema_change = self.ddl.is_some() || self.table_changes.is_some();
        is_transaction || (is_schema_change && self.source.is_some())
    }
}

/// A heartbeat has nothing but its time, which may be shown as a string.
fn is_heartbeat(event: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Heartbeat<'a> {
        #[serde(borrow, alias = "tsMs")]
        ts_ms: &'a RawValue,
    }
    serde_json::from_str::<Heartbeat<'_>>(event).is_ok_and(|heartbeat| {
        let time = heartbeat.ts_ms.get().trim_matches('"');
        time.parse::<i64>().is_ok()
    })
}

/// Reads an event.
///
/// # Errors
/// A [`Fault`], when no row can be shown for it.
pub(crate) fn unwrap(value: &str) -> Result<Change<'_>, Fault> {
    let mut event = value;
    let mut members = Members::of(event)?;
    if members.op.is_none()
        && members.schema.is_some()
        && let Some(payload) = members.payload
    {
        event = payload.get();
        members = Members::of(event)?;
    }
    let Some(op) = members.op.map(RawValue::get) else {
        return if members.is_without_row() || is_heartbeat(event) {
            Ok(Change::Nothing)
        } else {
            Err(Fault::NotAnEvent)
        };
    };
    if !members.has_row() {
        return Err(Fault::NotAnEvent);
    }
    match op {
        "\"c\"" | "\"u\"" | "\"r\"" => {
            let after = members.after().ok_or(Fault::WithoutAfter)?;
            Ok(Change::Row(Row {
                after,
                before: members.before.map(RawValue::get),
                source: members.source.map(RawValue::get),
                ts_ms: members.ts_ms.map(RawValue::get),
                op,
            }))
        }
        "\"d\"" => Ok(Change::Delete),
        "\"m\"" if members.message.is_some() => Ok(Change::Nothing),
        "\"t\"" => Err(Fault::Truncated),
        _ => Err(Fault::NotAnEvent),
    }
}

/// The key of an event: what Connect's JSON has beside its schema, or the key as it is.
#[must_use]
pub(crate) fn unwrap_key(key: &str) -> &str {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct WithSchema<'a> {
        #[serde(rename = "schema")]
        _schema: IgnoredAny,
        #[serde(borrow)]
        payload: &'a RawValue,
    }
    if !is_object(key) {
        return key;
    }
    serde_json::from_str::<WithSchema<'_>>(key).map_or(key, |key| key.payload.get())
}

impl<'a> Row<'a> {
    /// The row as JSON. `scratch` holds that of MongoDB.
    ///
    /// # Errors
    /// [`Fault::NotADocument`].
    pub(crate) fn after<'s>(&self, scratch: &'s mut String) -> Result<&'s str, Fault>
    where
        'a: 's,
    {
        document(self.after, scratch)
    }

    /// The row before the change, or null, as JSON. `scratch` holds that of MongoDB.
    ///
    /// # Errors
    /// [`Fault::NotADocument`].
    pub(crate) fn before<'s>(&self, scratch: &'s mut String) -> Result<&'s str, Fault>
    where
        'a: 's,
    {
        document(self.before.unwrap_or("null"), scratch)
    }

    /// Where the change comes from, or null, as JSON.
    #[must_use]
    pub(crate) fn source(&self) -> &'a str {
        self.source.unwrap_or("null")
    }

    /// Appends `{"op","ts_ms","source","before"}`, with a source and a row before that are shown so.
    pub(crate) fn write_metadata(&self, out: &mut Vec<u8>, source: &[u8], before: &[u8]) {
        for (start, json) in [
            ("{\"op\":", self.op.as_bytes()),
            (",\"ts_ms\":", self.ts_ms.unwrap_or("null").as_bytes()),
            (",\"source\":", source),
            (",\"before\":", before),
        ] {
            out.extend_from_slice(start.as_bytes());
            out.extend_from_slice(json);
        }
        out.push(b'}');
    }
}

/// Whether JSON is an object. Derived readers of one take an array of its members' values too.
fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{')
}

/// A row of JSON, or the document of MongoDB that is the text of a string. Within a string nothing could be left out.
fn document<'s>(row: &'s str, scratch: &'s mut String) -> Result<&'s str, Fault> {
    if !row.starts_with('"') {
        return Ok(row);
    }
    *scratch = serde_json::from_str(row).map_err(|_| Fault::NotADocument)?;
    let is_document = is_object(scratch) && serde_json::from_str::<IgnoredAny>(scratch).is_ok();
    is_document.then_some(&**scratch).ok_or(Fault::NotADocument)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: &str) -> (String, String) {
        let Ok(Change::Row(row)) = unwrap(value) else {
            panic!("no row: {value}")
        };
        let (mut metadata, mut scratch) = (Vec::new(), String::new());
        let before = row.before(&mut scratch).expect("a row").to_owned();
        row.write_metadata(&mut metadata, row.source().as_bytes(), before.as_bytes());
        let after = row.after(&mut scratch).expect("a row").to_owned();
        (after, String::from_utf8(metadata).expect("text"))
    }

    #[test]
    fn the_row_after_a_change_is_shown_with_and_without_schemas() {
        let event = r#"{"before":null,"after":{"id":1004,"n":1.50},"source":{"db":"inventory"},"op":"c","ts_ms":1700000000000}"#;
        let metadata = r#"{"op":"c","ts_ms":1700000000000,"source":{"db":"inventory"},"before":null}"#;
        let expected = (r#"{"id":1004,"n":1.50}"#.to_owned(), metadata.to_owned());
        assert_eq!(row(event), expected);
        assert_eq!(
            row(&format!(
                "{{\"schema\":{{\"type\":\"struct\"}},\"payload\":{event}}}"
            )),
            expected
        );
        assert_eq!(row(&event.replace("\"c\"", "\"r\"")).0, expected.0);
    }

    #[test]
    fn a_document_of_mongodb_is_taken_out_of_its_string() {
        let text = r#""{\"_id\": {\"$numberLong\": \"1004\"},\"a\": \"ü\\n\"}""#;
        let document = r#"{"_id": {"$numberLong": "1004"},"a": "ü\n"}"#;
        let (after, metadata) = row(&format!("{{\"before\":{text},\"after\":{text},\"op\":\"u\"}}"));
        assert_eq!(after, document);
        assert_eq!(
            metadata,
            format!("{{\"op\":\"u\",\"ts_ms\":null,\"source\":null,\"before\":{document}}}")
        );
        for text in [
            r#""""#,
            r#""text""#,
            r#""{""#,
            r#""[{}]""#,
            r#""{}{}""#,
            r#""\"{}\"""#,
        ] {
            let event = format!("{{\"before\":{text},\"after\":{text},\"op\":\"u\"}}");
            let Ok(Change::Row(row)) = unwrap(&event) else {
                panic!("no row: {event}")
            };
            let mut scratch = String::new();
            assert_eq!(row.after(&mut scratch), Err(Fault::NotADocument), "{text}");
            assert_eq!(row.before(&mut scratch), Err(Fault::NotADocument), "{text}");
        }
        let update = r#"{"after":null,"updateDescription":{"updatedFields":"{}"},"op":"u"}"#;
        assert_eq!(unwrap(update).map(|_| ()), Err(Fault::WithoutAfter));
    }

    #[test]
    fn a_delete_is_one_and_other_records_are_nothing() {
        let is_nothing = |value| matches!(unwrap(value), Ok(Change::Nothing));
        assert!(matches!(
            unwrap(r#"{"before":{"id":1},"after":null,"op":"d"}"#),
            Ok(Change::Delete)
        ));
        assert!(is_nothing(r#"{"ts_ms":1700000000000}"#), "a heartbeat");
        assert!(is_nothing(r#"{"schema":{},"payload":{"ts_ms":1700000000000}}"#));
        assert!(is_nothing(r#"{"tsMs":"1700000000000"}"#), "in Protobuf");
        assert!(is_nothing(
            r#"{"status":"BEGIN","id":"571:53195829","event_count":null,"ts_ms":1}"#
        ));
        assert!(is_nothing(
            r#"{"source":{},"ts_ms":1,"databaseName":"i","ddl":"CREATE TABLE","tableChanges":[]}"#
        ));
        assert!(is_nothing(
            r#"{"op":"m","ts_ms":1,"source":{},"message":{"prefix":"p","content":"Zm9v"}}"#
        ));
    }

    #[test]
    fn what_cannot_be_unwrapped_says_why() {
        for (value, fault) in [
            ("{}", Fault::NotAnEvent),
            ("5", Fault::NotAnEvent),
            ("no JSON", Fault::NotAnEvent),
            (r#"{"id":1,"name":"already flat"}"#, Fault::NotAnEvent),
            (r#"{"op":"x","after":{}}"#, Fault::NotAnEvent),
            // Columns with the names of an event's members.
            (r#"{"id":1,"status":"shipped"}"#, Fault::NotAnEvent),
            (r#"{"id":1,"status":"shipped","ts_ms":5}"#, Fault::NotAnEvent),
            (r#"{"status":"BEGIN"}"#, Fault::NotAnEvent),
            (r#"{"id":1,"ts_ms":5}"#, Fault::NotAnEvent),
            (r#"{"ts_ms":"soon"}"#, Fault::NotAnEvent),
            (r#"{"id":1,"ddl":"CREATE TABLE","ts_ms":5}"#, Fault::NotAnEvent),
            (r#"{"id":1,"tableChanges":[]}"#, Fault::NotAnEvent),
            (
                r#"{"schema":{},"payload":{"id":1,"status":"shipped"}}"#,
                Fault::NotAnEvent,
            ),
            (r#"{"id":1,"op":"u"}"#, Fault::NotAnEvent),
            (r#"{"id":1,"op":"d"}"#, Fault::NotAnEvent),
            (r#"{"id":1,"op":"m"}"#, Fault::NotAnEvent),
            (r#"{"op":"m","source":{}}"#, Fault::NotAnEvent),
            // The members of an event as an array.
            (r#"[null,{"id":1},{},"c"]"#, Fault::NotAnEvent),
            (r#"{"op":"t","source":{}}"#, Fault::Truncated),
            (r#"{"op":"u","after":null}"#, Fault::WithoutAfter),
        ] {
            assert_eq!(unwrap(value).map(|_| ()), Err(fault), "{value}");
        }
    }

    #[test]
    fn a_key_loses_its_schema() {
        assert_eq!(
            unwrap_key(r#"{"schema":{"a":1},"payload":{"id":1}}"#),
            r#"{"id":1}"#
        );
        assert_eq!(unwrap_key(r#"{"id":1}"#), r#"{"id":1}"#);
        assert_eq!(unwrap_key("17"), "17");
        assert_eq!(unwrap_key(r#"["eu",17]"#), r#"["eu",17]"#);
        assert_eq!(
            unwrap_key(r#"{"schema":1,"payload":2,"x":3}"#),
            r#"{"schema":1,"payload":2,"x":3}"#
        );
    }
}
