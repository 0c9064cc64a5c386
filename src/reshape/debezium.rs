//! The change events of Debezium's connectors (its documentation, "Data change events").
//!
//! An event has the row before and after a change: `{"before","after","source","op","ts_ms",…}`, in Kafka Connect's JSON
//! with schemas as the `payload` of an object beside its `schema`. Behind the event of a delete comes a tombstone, so
//! that compaction removes the key. Other records of Debezium are no changes of rows: heartbeats, the beginnings and
//! ends of transactions, changes of schemas, logical messages.

use serde::Deserialize;
use serde::de::IgnoredAny;
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
    after: After<'a>,
    before: Option<&'a str>,
    source: Option<&'a str>,
    ts_ms: Option<&'a str>,
    op: &'a str,
}

#[derive(Debug, Clone, Copy)]
enum After<'a> {
    /// JSON.
    Json(&'a str),
    /// A string that contains JSON, with its quotes: MongoDB's documents.
    Quoted(&'a str),
}

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
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    op: Option<&'a RawValue>,
    #[serde(borrow)]
    ts_ms: Option<&'a RawValue>,
    /// The value, where Connect's JSON has schemas.
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    schema: Option<IgnoredAny>,
    /// A transaction's beginning or end.
    status: Option<IgnoredAny>,
    /// A change of a schema.
    ddl: Option<IgnoredAny>,
    #[serde(rename = "tableChanges")]
    table_changes: Option<IgnoredAny>,
}

/// Reads an event.
///
/// # Errors
/// A [`Fault`], when no row can be shown for it.
pub(crate) fn unwrap(value: &str) -> Result<Change<'_>, Fault> {
    let mut members: Members<'_> = serde_json::from_str(value).map_err(|_| Fault::NotAnEvent)?;
    if members.op.is_none()
        && members.schema.is_some()
        && let Some(payload) = members.payload
    {
        members = serde_json::from_str(payload.get()).map_err(|_| Fault::NotAnEvent)?;
    }
    let Some(op) = members.op.map(RawValue::get) else {
        // A heartbeat has nothing but its time.
        let is_heartbeat = members.ts_ms.is_some() && members.before.is_none() && members.after.is_none();
        let is_other = members.status.is_some() || members.ddl.is_some() || members.table_changes.is_some();
        return if is_heartbeat || is_other {
            Ok(Change::Nothing)
        } else {
            Err(Fault::NotAnEvent)
        };
    };
    match op {
        "\"c\"" | "\"u\"" | "\"r\"" => {
            let after = members.after.map(RawValue::get).ok_or(Fault::WithoutAfter)?;
            Ok(Change::Row(Row {
                after: if after.starts_with('"') {
                    After::Quoted(after)
                } else {
                    After::Json(after)
                },
                before: members.before.map(RawValue::get),
                source: members.source.map(RawValue::get),
                ts_ms: members.ts_ms.map(RawValue::get),
                op,
            }))
        }
        "\"d\"" => Ok(Change::Delete),
        "\"m\"" => Ok(Change::Nothing),
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
    serde_json::from_str::<WithSchema<'_>>(key).map_or(key, |key| key.payload.get())
}

impl<'a> Row<'a> {
    /// The row as JSON. `scratch` holds that of MongoDB.
    pub(crate) fn after<'s>(&self, scratch: &'s mut String) -> &'s str
    where
        'a: 's,
    {
        match self.after {
            After::Json(json) => json,
            After::Quoted(text) => {
                // A string that was parsed before.
                *scratch = serde_json::from_str(text).unwrap_or_default();
                scratch
            }
        }
    }

    /// The row before the change, where the event has it, as JSON.
    #[must_use]
    pub(crate) fn before(&self) -> Option<&'a str> {
        self.before
    }

    /// Appends `{"op","ts_ms","source","before"}`, with the row before as `before` is written.
    pub(crate) fn write_metadata(&self, out: &mut Vec<u8>, before: impl FnOnce(&mut Vec<u8>)) {
        for (start, json) in [
            ("{\"op\":", Some(self.op)),
            (",\"ts_ms\":", self.ts_ms),
            (",\"source\":", self.source),
        ] {
            out.extend_from_slice(start.as_bytes());
            out.extend_from_slice(json.unwrap_or("null").as_bytes());
        }
        out.extend_from_slice(b",\"before\":");
        before(out);
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: &str) -> (String, String) {
        let Ok(Change::Row(row)) = unwrap(value) else {
            panic!("no row: {value}")
        };
        let mut metadata = Vec::new();
        row.write_metadata(&mut metadata, |out| {
            out.extend_from_slice(row.before().unwrap_or("null").as_bytes());
        });
        let after = row.after(&mut String::new()).to_owned();
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
        let event = r#"{"after":"{\"_id\": {\"$numberLong\": \"1004\"},\"a\": \"ü\\n\"}","op":"u"}"#;
        assert_eq!(row(event).0, r#"{"_id": {"$numberLong": "1004"},"a": "ü\n"}"#);
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
        assert_eq!(
            unwrap_key(r#"{"schema":1,"payload":2,"x":3}"#),
            r#"{"schema":1,"payload":2,"x":3}"#
        );
    }
}
