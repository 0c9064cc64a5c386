//! Decodes the records of a stream.

use std::collections::HashMap;
use std::sync::Arc;

use super::framing::{self, Framed, Part, has_schema_id};
use super::json::{self, Fault, MAX_DEPTH, Options, Output};
use super::primitives;
use super::registered::{SchemaId, SchemaKind};
use super::schema::{Schema, Scratch};
use super::used::{Notes, UsedSchemas};
use crate::config::{AddedField, DataFormat, StreamSettings};
use crate::kafka::invalid::{Invalid, Undecodable};
use crate::kafka::record::{Batch, Effect, Guarantee, Record};
use crate::reshape::{Reshaper, clear};

/// Bytes of decoded records that are handed on before the rest of their batch is decoded: a batch is bounded in Kafka's
/// bytes, of which a few may claim many elements.
const PART_BYTES: usize = 4 << 20;

/// Most schemas that a stream keeps. The registry keeps them too, so another one costs a question there.
const MAX_SCHEMAS: usize = 256;

/// Most schemas that are asked for at once.
const MAX_NEEDED: usize = 64;

/// The result of a step of a decoder.
#[derive(Debug)]
pub enum Step {
    /// The batch, or the rest of it, is decoded.
    Done(Arc<Batch>),
    /// Some of the batch is decoded. The driver is to call again with the same batch.
    Part(Arc<Batch>),
    /// The driver is to supply the first of these schemas, and to call again with the same batch. The others will be
    /// needed for the rest of it: asked for at once, they are waited for together.
    Need(Vec<SchemaId>),
}

/// A driver's answer to [`Step::Need`].
#[derive(Debug, Clone)]
pub enum Supplied {
    /// The schema.
    Schema(Arc<Schema>),
    /// The registry does not know the id.
    Unknown,
    /// The registry has a schema that cannot be used, and why.
    Unusable(String),
}

/// Decodes the records of a stream, one batch after the other.
#[derive(Debug)]
pub struct Decoder {
    key: DataFormat,
    value: DataFormat,
    options: Options,
    /// The names of what the stream adds to values, as JSON with a colon.
    added: Vec<Box<[u8]>>,
    schemas: HashMap<SchemaId, SuppliedSchema>,
    /// The batch that is being decoded.
    progress: Option<Progress>,
    work: Work,
    reshaper: Option<Reshaper>,
    /// A value before it is reshaped.
    value_bytes: Vec<u8>,
}

/// The schema supplied for an id, or the error.
#[derive(Debug)]
struct SuppliedSchema {
    supplied: Supplied,
    /// For each root of the schema whether its values have [`Guarantee::Object`].
    objects: Vec<bool>,
}

/// Buffers that are reused from record to record.
#[derive(Debug, Default)]
struct Work {
    scratch: Scratch,
    notes: Notes,
}

#[derive(Debug)]
struct Progress {
    source: Arc<Batch>,
    /// The number of the next record.
    next: usize,
    decoded: Batch,
}

impl Decoder {
    /// A decoder for a stream of these settings.
    pub fn new(settings: &StreamSettings) -> Self {
        Self {
            key: settings.key_format,
            value: settings.value_format,
            options: settings.into(),
            added: AddedField::of(settings)
                .map(|(_, name)| json::name(name))
                .collect(),
            schemas: HashMap::new(),
            progress: None,
            work: Work::default(),
            reshaper: Reshaper::new(settings),
            value_bytes: Vec::new(),
        }
    }

    /// Notes the schemas of the records there too.
    #[must_use]
    pub fn noting(mut self, used: Arc<UsedSchemas>) -> Self {
        self.work.notes = Notes::of(used);
        self
    }

    /// Whether batches are handed on as they are.
    pub fn is_plain(&self) -> bool {
        let is_value_plain = self.value.is_plain() || self.value == DataFormat::Json;
        self.key.is_plain() && is_value_plain && self.reshaper.is_none()
    }

    /// Decodes a batch, or continues with it. `step` is called before every record.
    pub fn decode(&mut self, batch: &Arc<Batch>, mut step: impl FnMut()) -> Step {
        if self.is_plain() {
            return Step::Done(Arc::clone(batch));
        }
        let progress = self.progress.take();
        let mut progress = progress
            .filter(|progress| Arc::ptr_eq(&progress.source, batch))
            .unwrap_or_else(|| {
                // The registry may know them by now.
                self.schemas
                    .retain(|_, answer| matches!(answer.supplied, Supplied::Schema(_)));
                Progress {
                    source: Arc::clone(batch),
                    next: 0,
                    decoded: batch.another(),
                }
            });
        while let Some(record) = batch.get(progress.next) {
            step();
            if let Err(id) = self.decode_record(&record, &mut progress.decoded) {
                // Records before this one are not held up.
                let part = hand_over(&mut progress);
                self.progress = Some(progress);
                return part.unwrap_or_else(|| Step::Need(self.needed(id, batch)));
            }
            progress.next += 1;
            if progress.decoded.size() >= PART_BYTES
                && let Some(part) = hand_over(&mut progress)
            {
                self.progress = Some(progress);
                return part;
            }
        }
        Step::Done(Arc::new(progress.decoded))
    }

    /// This schema, and others that the rest of the batch needs.
    fn needed(&self, first: SchemaId, batch: &Batch) -> Vec<SchemaId> {
        let mut needed = vec![first];
        let next = self.progress.as_ref().map_or(0, |progress| progress.next);
        for record in batch.iter().skip(next) {
            for (format, part, bytes) in [
                (self.key, Part::Key, record.key),
                (self.value, Part::Value, record.value),
            ] {
                if needed.len() == MAX_NEEDED {
                    return needed;
                }
                if let Err(id) = plan(&self.schemas, format, part, &record, bytes)
                    && !needed.contains(&id)
                {
                    needed.push(id);
                }
            }
        }
        needed
    }

    /// Answers [`Step::Need`].
    pub fn supply(&mut self, id: SchemaId, supplied: Supplied) {
        if self.schemas.len() >= MAX_SCHEMAS {
            self.schemas.clear();
        }
        let objects = match &supplied {
            Supplied::Schema(schema) => schema.objects_without(&self.added, self.options),
            Supplied::Unknown | Supplied::Unusable(_) => Vec::new(),
        };
        self.schemas.insert(id, SuppliedSchema { supplied, objects });
    }

    /// Adds a record to `decoded`. Fails with the schema that is missing.
    fn decode_record(&mut self, record: &Record<'_>, decoded: &mut Batch) -> Result<(), SchemaId> {
        let key = plan(&self.schemas, self.key, Part::Key, record, record.key)?;
        let value = plan(&self.schemas, self.value, Part::Value, record, record.value)?;
        let (options, work) = (self.options, &mut self.work);
        if let Some(reshaper) = &mut self.reshaper {
            let key = match key {
                Plan::Json(bytes, schema) => Plan::Json(reshaper.key(bytes), schema),
                other => other,
            };
            // Before another cause is found, whose remedy would be wrong.
            let value = match value {
                Plan::Copy(bytes) if self.value == DataFormat::Json && has_schema_id(bytes) => {
                    Plan::Undecodable(Undecodable {
                        cause: Invalid::ValueHasSchemaId,
                        detail: "the first byte is the magic byte 0".to_owned(),
                    })
                }
                other => other,
            };
            let bytes = &mut self.value_bytes;
            clear(bytes);
            let written = value.write(Part::Value, work, Output::new(bytes, options));
            let reshaped = written.and_then(|value| {
                let guarantee = value.unwrap_or_default();
                reshaper.value(value.map(|_| &**bytes), guarantee)
            });
            let effect = reshaped
                .as_ref()
                .map_or(Effect::Shown, |reshaped| reshaped.effect);
            decoded.push_decoded(
                record,
                effect,
                |out| write_key(key, work, Output::new(out, options)),
                |out| {
                    let reshaped = reshaped?;
                    out.extend_from_slice(reshaped.value.unwrap_or_default());
                    Ok(reshaped.value.map(|_| reshaped.guarantee))
                },
            );
            return Ok(());
        }
        // The closures run one after the other.
        let work = std::cell::RefCell::new(work);
        decoded.push_decoded(
            record,
            Effect::Shown,
            |out| write_key(key, &mut work.borrow_mut(), Output::new(out, options)),
            |out| value.write(Part::Value, &mut work.borrow_mut(), Output::new(out, options)),
        );
        Ok(())
    }
}

/// Takes what is decoded, if that is anything.
fn hand_over(progress: &mut Progress) -> Option<Step> {
    if progress.decoded.is_empty() {
        return None;
    }
    let rest = progress.source.another();
    Some(Step::Part(Arc::new(std::mem::replace(
        &mut progress.decoded,
        rest,
    ))))
}

/// How a key or a value is decoded.
enum Plan<'a> {
    Null,
    /// As it is.
    Copy(&'a [u8]),
    /// JSON, which a key must be; with the schema that it names, and that schema where it is known.
    Json(&'a [u8], Option<(SchemaId, Option<&'a Arc<Schema>>)>),
    Primitive(DataFormat, &'a [u8]),
    Schema(&'a Arc<Schema>, &'a [bool], Framed<'a>),
    Undecodable(Undecodable),
}

fn plan<'a>(
    schemas: &'a HashMap<SchemaId, SuppliedSchema>,
    format: DataFormat,
    part: Part,
    record: &Record<'a>,
    bytes: Option<&'a [u8]>,
) -> Result<Plan<'a>, SchemaId> {
    let Some(bytes) = bytes else {
        return Ok(Plan::Null);
    };
    Ok(match format {
        DataFormat::Text | DataFormat::Bytes => Plan::Copy(bytes),
        // A value is checked where it is shown.
        DataFormat::Json if part == Part::Value => Plan::Copy(bytes),
        DataFormat::Json => Plan::Json(bytes, None),
        DataFormat::Int16
        | DataFormat::Int32
        | DataFormat::Int64
        | DataFormat::Float
        | DataFormat::Double
        | DataFormat::Uuid => Plan::Primitive(format, bytes),
        DataFormat::Avro | DataFormat::Protobuf | DataFormat::JsonSchema | DataFormat::Registry => {
            let Some(framed) = framing::locate(record, part, bytes) else {
                return Ok(Plan::Undecodable(unframed(part, bytes)));
            };
            if format == DataFormat::JsonSchema {
                return Ok(Plan::Json(framed.payload, Some((framed.schema, None))));
            }
            let SuppliedSchema { supplied, objects } = schemas.get(&framed.schema).ok_or(framed.schema)?;
            match supplied {
                Supplied::Schema(schema) => registered(format, part, (schema, objects), framed),
                Supplied::Unknown => Plan::Undecodable(Undecodable {
                    cause: of(part, Invalid::KeySchemaUnknown, Invalid::ValueSchemaUnknown),
                    detail: format!("the registry has no schema of id {}", framed.schema),
                }),
                Supplied::Unusable(reason) => Plan::Undecodable(Undecodable {
                    cause: of(part, Invalid::KeySchemaUnusable, Invalid::ValueSchemaUnusable),
                    detail: format!("schema {}: {reason}", framed.schema),
                }),
            }
        }
    })
}

fn registered<'a>(
    format: DataFormat,
    part: Part,
    (schema, objects): (&'a Arc<Schema>, &'a [bool]),
    framed: Framed<'a>,
) -> Plan<'a> {
    let is_right = match schema.kind() {
        SchemaKind::Avro => format != DataFormat::Protobuf,
        SchemaKind::Protobuf => format != DataFormat::Avro,
        SchemaKind::Json => format == DataFormat::Registry,
    };
    match schema.kind() {
        _ if !is_right => Plan::Undecodable(Undecodable {
            cause: of(part, Invalid::KeySchemaUnusable, Invalid::ValueSchemaUnusable),
            detail: format!(
                "schema {} is of type {}; set the format \"registry\" if types are mixed",
                framed.schema,
                schema.kind()
            ),
        }),
        SchemaKind::Json => Plan::Json(framed.payload, Some((framed.schema, Some(schema)))),
        SchemaKind::Avro | SchemaKind::Protobuf => Plan::Schema(schema, objects, framed),
    }
}

impl Plan<'_> {
    /// Appends the decoded bytes; `None` is null. Returns what is known of a value then.
    fn write(
        self,
        part: Part,
        work: &mut Work,
        mut out: Output<'_>,
    ) -> Result<Option<Guarantee>, Undecodable> {
        let mut guarantee = Guarantee::Nothing;
        let (written, schema) = match self {
            Self::Null => return Ok(None),
            Self::Undecodable(error) => return Err(error),
            Self::Copy(bytes) => {
                out.raw(bytes);
                (Ok(()), None)
            }
            Self::Json(bytes, schema) => {
                let written = json(part, bytes, &mut out);
                if let Some((id, schema)) = schema.filter(|_| written.is_ok()) {
                    work.notes.note(part, (id, 0), schema);
                }
                (written, None)
            }
            Self::Primitive(DataFormat::Uuid, bytes) if part == Part::Key => {
                let text = primitives::uuid(bytes);
                (text.map(|text| out.raw(text.as_bytes())), None)
            }
            Self::Primitive(format, bytes) => {
                guarantee = Guarantee::Json;
                (primitives::write(format, bytes, &mut out), None)
            }
            Self::Schema(schema, objects, framed) => {
                let written = schema.write(framed.header, framed.payload, &mut work.scratch, &mut out);
                let noted = written.map(|root| {
                    guarantee = match objects.get(root) {
                        Some(true) => Guarantee::Object,
                        Some(false) => Guarantee::Json,
                        None => Guarantee::Nothing,
                    };
                    work.notes.note(part, (framed.schema, root), Some(schema));
                });
                (noted, Some(framed.schema))
            }
        };
        written
            .map(|()| Some(guarantee))
            .map_err(|fault| undecodable(part, fault, schema))
    }
}

fn write_key(key: Plan<'_>, work: &mut Work, out: Output<'_>) -> Result<Option<()>, Undecodable> {
    Ok(key.write(Part::Key, work, out)?.map(|_| ()))
}

/// Copies JSON. A key's text is its identity, so a string, which may be written in several ways, is written in one.
fn json(part: Part, bytes: &[u8], out: &mut Output<'_>) -> Result<(), Fault> {
    if part == Part::Value {
        out.raw(bytes);
        return Ok(());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::Malformed("not UTF-8"))?;
    let text = text.trim();
    if text.starts_with('"') {
        let string: String = serde_json::from_str(text).map_err(|_| Fault::Malformed("not JSON"))?;
        out.string(&string);
    } else {
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| Fault::Malformed("not JSON"))?;
        out.raw(text.as_bytes());
    }
    Ok(())
}

fn unframed(part: Part, bytes: &[u8]) -> Undecodable {
    let detail = match (part, bytes) {
        (_, []) => "it is empty".to_owned(),
        (_, [0 | 1, ..]) => format!("{} bytes are too few", bytes.len()),
        (_, [first, ..]) => format!(
            "the first byte is {first:#04x} and not the magic byte 0, and there is no header {}",
            match part {
                Part::Key => "__key_schema_id",
                Part::Value => "__value_schema_id",
            }
        ),
    };
    Undecodable {
        cause: of(part, Invalid::KeyWithoutSchemaId, Invalid::ValueWithoutSchemaId),
        detail,
    }
}

fn undecodable(part: Part, fault: Fault, schema: Option<SchemaId>) -> Undecodable {
    let (cause, detail) = match fault {
        Fault::Malformed(found) => (
            of(part, Invalid::KeyMalformed, Invalid::ValueMalformed),
            found.to_owned(),
        ),
        Fault::TooLarge => (
            of(part, Invalid::KeyTooLarge, Invalid::ValueTooLarge),
            format!("more than {} MiB as JSON", json::MAX_BYTES >> 20),
        ),
        Fault::TooDeep => (
            of(part, Invalid::KeyTooLarge, Invalid::ValueTooLarge),
            format!("more than {MAX_DEPTH} objects and arrays within each other"),
        ),
    };
    let detail = match schema {
        Some(id) => format!("schema {id}: {detail}"),
        None => detail,
    };
    Undecodable { cause, detail }
}

const fn of(part: Part, key: Invalid, value: Invalid) -> Invalid {
    match part {
        Part::Key => key,
        Part::Value => value,
    }
}
