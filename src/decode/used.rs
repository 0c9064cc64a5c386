//! The schemas of the records that a stream has read, for descriptions of its API.
//!
//! A decoder compares the schema of each record with the one before, and looks further only where they differ.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::framing::Part;
use super::registered::{SchemaId, SchemaKind};
use super::schema::Schema;
use crate::config::StreamSettings;
use crate::json_schema::Description;
use crate::reshape::describe;

/// Most schemas of the keys, or of the values, of a stream that are described. The ones that were met last count.
const MOST: usize = 32;

/// Most bytes of JSON that describe the keys, or the values, of a stream.
const MOST_BYTES: usize = 256 << 10;

/// Schemas that a decoder knows to have noted; when there are more, it notes them again.
const MOST_NOTED: usize = 512;

/// A schema and, in one of Protobuf, the place of the message.
type Root = (SchemaId, usize);

/// The schemas of a stream's records.
#[derive(Debug, Default)]
pub struct UsedSchemas {
    used: Mutex<Vec<Used>>,
}

#[derive(Debug, Clone)]
struct Used {
    part: Part,
    root: Root,
    /// `None` where records are shown without it, so that it has not been fetched.
    schema: Option<Arc<Schema>>,
}

/// The descriptions that the schemas of keys or values give of the shown ones.
#[derive(Debug, Default)]
pub struct Described {
    /// The ids of schemas, each with what it says; the one that was met last comes first.
    pub schemas: Vec<(String, Description)>,
    /// Whether these are all that have been met.
    pub is_complete: bool,
}

impl UsedSchemas {
    fn note(&self, part: Part, root: Root, schema: Option<&Arc<Schema>>) {
        let mut used = self.used.lock();
        if used.iter().any(|used| used.part == part && used.root == root) {
            return;
        }
        // One more than are described, so that it is known that there are more.
        let of_part = used.iter().filter(|used| used.part == part).count();
        if of_part > MOST
            && let Some(oldest) = used.iter().position(|used| used.part == part)
        {
            used.remove(oldest);
        }
        used.push(Used {
            part,
            root,
            schema: schema.cloned(),
        });
    }

    /// The ids of schemas that are missing, because records are shown without them.
    #[must_use]
    pub fn missing(&self) -> Vec<SchemaId> {
        let used = self.used.lock();
        used.iter()
            .filter(|used| used.schema.is_none())
            .map(|used| used.root.0)
            .collect()
    }

    /// Adds a schema that was missing: one of JSON, as records are shown without others never.
    pub fn supply(&self, id: SchemaId, schema: &Arc<Schema>) {
        if schema.kind() != SchemaKind::Json {
            return;
        }
        for used in self.used.lock().iter_mut().filter(|used| used.root.0 == id) {
            used.schema.get_or_insert_with(|| Arc::clone(schema));
        }
    }

    /// Describes this part of the records as a stream of these settings shows it. May take milliseconds.
    #[must_use]
    pub fn describe(&self, part: Part, settings: &StreamSettings) -> Described {
        let mut used = self.used.lock().clone();
        used.retain(|used| used.part == part);
        let mut described = Described {
            schemas: Vec::new(),
            is_complete: used.len() <= MOST,
        };
        let mut bytes = 0;
        for Used { root, schema, .. } in used.into_iter().rev().take(MOST) {
            let Some(schema) = schema else {
                described.is_complete = false;
                continue;
            };
            let before = schema.describe(root.1, settings.into());
            let description = match part {
                Part::Value => describe::value(settings, before),
                Part::Key if schema.kind() == SchemaKind::Json => describe::json_key(settings, before),
                Part::Key => before,
            };
            bytes += description.size();
            if bytes > MOST_BYTES {
                described.is_complete = false;
                break;
            }
            let id = root.0.to_string();
            let with_id = described
                .schemas
                .iter()
                .filter(|(other, _)| other.split('_').next() == Some(&id));
            let label = match with_id.count() {
                0 => id,
                messages => format!("{id}_{}", messages + 1),
            };
            described.schemas.push((label, description));
        }
        described
    }
}

/// The schemas that a decoder has noted.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// `None` where nobody asks.
    shared: Option<Arc<UsedSchemas>>,
    /// Those of the last key and the last value.
    last: [Option<Root>; 2],
    noted: HashSet<(Part, Root)>,
}

impl Notes {
    pub(super) fn of(shared: Arc<UsedSchemas>) -> Self {
        Self {
            shared: Some(shared),
            ..Self::default()
        }
    }

    /// Notes the schema of a record.
    pub(super) fn note(&mut self, part: Part, root: Root, schema: Option<&Arc<Schema>>) {
        let last = &mut self.last[part as usize];
        if *last == Some(root) {
            return;
        }
        *last = Some(root);
        let Some(shared) = &self.shared else {
            return;
        };
        if self.noted.len() >= MOST_NOTED {
            self.noted.clear();
        }
        // Records of several topics take turns.
        if self.noted.insert((part, root)) {
            shared.note(part, root, schema);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::registered::SchemaText;

    fn schema(title: &str) -> Arc<Schema> {
        let text = SchemaText {
            kind: SchemaKind::Json,
            text: format!("{{\"title\":\"{title}\"}}"),
            references: Vec::new(),
        };
        Arc::new(Schema::compile(&text).expect("valid"))
    }

    fn labels(described: &Described) -> Vec<&str> {
        described
            .schemas
            .iter()
            .map(|(label, _)| label.as_str())
            .collect()
    }

    #[test]
    fn the_schemas_that_were_met_last_are_described() {
        let used = Arc::new(UsedSchemas::default());
        let mut notes = Notes::of(Arc::clone(&used));
        let settings = StreamSettings::default();
        let id = SchemaId::Number;
        for number in [7, 9, 7, 9] {
            notes.note(Part::Value, (id(number), 0), Some(&schema("order")));
        }
        notes.note(Part::Value, (id(9), 3), Some(&schema("other")));
        notes.note(Part::Key, (id(5), 0), Some(&schema("key")));
        let described = used.describe(Part::Value, &settings);
        assert_eq!(labels(&described), ["9", "9_2", "7"]);
        assert!(described.is_complete);
        for number in 100..200 {
            notes.note(Part::Value, (id(number), 0), Some(&schema("order")));
        }
        let described = used.describe(Part::Value, &settings);
        assert_eq!((described.schemas.len(), described.is_complete), (MOST, false));
        assert_eq!(labels(&described)[0], "199");
        assert_eq!(labels(&used.describe(Part::Key, &settings)), ["5"]);
    }

    #[test]
    fn a_schema_that_is_missing_is_supplied() {
        let used = Arc::new(UsedSchemas::default());
        let mut notes = Notes::of(Arc::clone(&used));
        let id = SchemaId::Number(7);
        notes.note(Part::Value, (id, 0), None);
        let settings = StreamSettings::default();
        let described = used.describe(Part::Value, &settings);
        assert!(described.schemas.is_empty() && !described.is_complete);
        assert_eq!(used.missing(), [id]);
        used.supply(id, &schema("order"));
        assert!(used.missing().is_empty());
        let described = used.describe(Part::Value, &settings);
        assert_eq!(described.schemas[0].1.root["title"], "order");
    }

    #[test]
    fn descriptions_are_bounded_in_bytes() {
        let used = Arc::new(UsedSchemas::default());
        let mut notes = Notes::of(Arc::clone(&used));
        let large = schema(&"x".repeat(MOST_BYTES / 3));
        for number in 0..4 {
            notes.note(Part::Value, (SchemaId::Number(number), 0), Some(&large));
        }
        let described = used.describe(Part::Value, &StreamSettings::default());
        assert_eq!(
            (labels(&described), described.is_complete),
            (vec!["3", "2"], false)
        );
    }
}
