//! Reshapes the values of a stream.

use super::debezium::{self, Change, Fault};
use super::projection::{NotJson, project, project_json};
use crate::config::StreamSettings;
use crate::config::projection::{Projection, Rule};
use crate::kafka::invalid::{Invalid, Undecodable};
use crate::kafka::record::{Effect, Guarantee};

/// Capacity that a buffer keeps from record to record: a record may be 64 MiB as JSON.
const KEPT_BYTES: usize = 1 << 20;

/// Empties a buffer, and keeps no more memory than is usually needed.
pub(crate) fn clear(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEPT_BYTES);
}

/// Reshapes values, one after the other.
#[derive(Debug)]
pub struct Reshaper {
    unwraps: bool,
    projection: Option<Projection>,
    metadata: Option<Metadata>,
    /// The value that is made.
    shown: Vec<u8>,
    /// A row on its way there.
    row: Vec<u8>,
    /// A document of MongoDB.
    document: String,
}

/// A member that is added to a row.
#[derive(Debug)]
struct Metadata {
    /// The name, as JSON.
    field: Vec<u8>,
    /// Takes a column of that name out of the row.
    replaced: Projection,
    /// Takes out of the source what would show hidden columns.
    source: Option<Projection>,
}

/// A reshaped value.
#[derive(Debug, Clone, Copy)]
pub struct Reshaped<'v> {
    /// The value; `None` is a tombstone.
    pub value: Option<&'v [u8]>,
    /// Its known property.
    pub guarantee: Guarantee,
    /// Its effect on clients.
    pub effect: Effect,
}

impl Reshaper {
    /// A reshaper for a stream of these settings, if it shows other values than those that it reads.
    pub fn new(settings: &StreamSettings) -> Option<Self> {
        let projection = Projection::of(settings);
        let unwraps = settings.unwrap.is_some();
        let metadata = settings.metadata_field.as_ref().map(|field| {
            let escaped = field.replace('\\', "\\\\").replace('.', "\\.");
            Metadata {
                field: serde_json::to_vec(field).unwrap_or_default(),
                replaced: Projection::new(Rule::Hide, &[escaped]),
                source: projection
                    .is_some()
                    .then(|| Projection::new(Rule::Hide, &debezium::SQL)),
            }
        });
        (unwraps || projection.is_some()).then(|| Self {
            unwraps,
            projection,
            metadata,
            shown: Vec::new(),
            row: Vec::new(),
            document: String::new(),
        })
    }

    /// The part of a JSON key that is shown.
    pub fn key<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        match std::str::from_utf8(key) {
            Ok(text) if self.unwraps => debezium::unwrap_key(text).as_bytes(),
            _ => key,
        }
    }

    /// Reshapes a value with a known property; `None` is null.
    ///
    /// # Errors
    /// When nothing can be.
    pub fn value(&mut self, value: Option<&[u8]>, guarantee: Guarantee) -> Result<Reshaped<'_>, Undecodable> {
        let Some(value) = value else {
            // Behind every delete of a row there is a tombstone.
            let effect = if self.unwraps {
                Effect::RepeatedDelete
            } else {
                Effect::Shown
            };
            return Ok(nothing(effect));
        };
        clear(&mut self.shown);
        clear(&mut self.row);
        self.document.clear();
        self.document.shrink_to(KEPT_BYTES);
        if let Some(projection) = self.projection.as_ref()
            && !self.unwraps
            && guarantee != Guarantee::Nothing
        {
            project_json(projection, value, &mut self.shown);
            // Without some members, JSON is JSON, and an object is an object.
            return Ok(self.shown(guarantee));
        }
        let text =
            std::str::from_utf8(value).map_err(|_| undecodable(Invalid::ValueNotUtf8, "it is binary"))?;
        // As for values that are shown as they are.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if !self.unwraps {
            show(self.projection.as_ref(), text, &mut self.shown)?;
            return Ok(self.shown(Guarantee::Nothing));
        }
        match debezium::unwrap(text).map_err(fault)? {
            Change::Delete => Ok(nothing(Effect::Shown)),
            Change::Nothing => Ok(nothing(Effect::None)),
            Change::Row(row) => {
                let after = row.after(&mut self.document).map_err(fault)?;
                let Some(metadata) = &self.metadata else {
                    show(self.projection.as_ref(), after, &mut self.shown)?;
                    return Ok(self.shown(Guarantee::Nothing));
                };
                show(self.projection.as_ref(), after, &mut self.row)?;
                let shown = std::str::from_utf8(&self.row).unwrap_or_default();
                show(Some(&metadata.replaced), shown, &mut self.shown)?;
                let end = self.shown.trim_ascii_end().len();
                self.shown.truncate(end);
                if self.shown.first() != Some(&b'{') || self.shown.pop() != Some(b'}') {
                    return Err(undecodable(
                        Invalid::ValueNotObject,
                        "the row is not a JSON object",
                    ));
                }
                if self.shown.trim_ascii_end() != b"{" {
                    self.shown.push(b',');
                }
                self.shown.extend_from_slice(&metadata.field);
                self.shown.push(b':');
                let (mut source, mut before) = (Vec::new(), Vec::new());
                show(metadata.source.as_ref(), row.source(), &mut source)?;
                let row_before = row.before(&mut self.document).map_err(fault)?;
                show(self.projection.as_ref(), row_before, &mut before)?;
                row.write_metadata(&mut self.shown, &source, &before);
                self.shown.push(b'}');
                Ok(self.shown(Guarantee::Nothing))
            }
        }
    }

    fn shown(&self, guarantee: Guarantee) -> Reshaped<'_> {
        Reshaped {
            value: Some(&self.shown),
            guarantee,
            effect: Effect::Shown,
        }
    }
}

const fn nothing(effect: Effect) -> Reshaped<'static> {
    Reshaped {
        value: None,
        guarantee: Guarantee::Nothing,
        effect,
    }
}

fn show(projection: Option<&Projection>, json: &str, out: &mut Vec<u8>) -> Result<(), Undecodable> {
    let Some(projection) = projection else {
        out.extend_from_slice(json.as_bytes());
        return Ok(());
    };
    project(projection, json, out)
        .map_err(|NotJson| undecodable(Invalid::ValueNotJson, "its hidden members cannot be left out"))
}

fn fault(fault: Fault) -> Undecodable {
    let cause = match fault {
        Fault::NotAnEvent | Fault::NotADocument => Invalid::ValueNotChange,
        Fault::WithoutAfter => Invalid::ValueWithoutRow,
        Fault::Truncated => Invalid::ValueTruncatesTable,
    };
    undecodable(cause, &fault.to_string())
}

fn undecodable(cause: Invalid, detail: &str) -> Undecodable {
    Undecodable {
        cause,
        detail: detail.to_owned(),
    }
}
