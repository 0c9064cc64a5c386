//! The REST interface of Confluent's Schema Registry, as far as reading schemas needs it. Apicurio, Karapace and Redpanda
//! have the same.
//!
//! A schema is identified by a number, or by the GUID that newer serializers write into headers. Its references name a
//! subject and a version; they are fetched recursively, also where they were deleted since, and bounded.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::client::{Client, MAX_ANSWER, RequestError};
use crate::decode::{Reference, SchemaId, SchemaKind, SchemaText};
use crate::logging::printable;

/// Deepest chain of references.
const MAX_DEPTH: usize = 32;

/// Most schemas that one consists of. A schema counts as often as it is referred to.
const MAX_SCHEMAS: usize = 1000;

/// Most bytes of all their texts.
const MAX_TEXT: usize = 2 * MAX_ANSWER;

/// Encoded in a segment of a path: all but RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Why there is no schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FetchError {
    /// The registry cannot be used now; the reason with a remedy.
    Unavailable(String),
    /// The registry does not know the id.
    Unknown,
    /// The registry does not know a schema that this one refers to; names it.
    UnknownReference(String),
    /// The schema cannot be used.
    Unusable(String),
}

#[derive(Deserialize)]
struct SchemaResponse {
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    references: Option<Vec<AnswerReference>>,
}

#[derive(Deserialize)]
struct AnswerReference {
    name: String,
    subject: String,
    version: i64,
}

/// The path of a schema by its id.
fn path_of(id: SchemaId) -> String {
    match id {
        SchemaId::Number(number) => format!("/schemas/ids/{number}"),
        guid @ SchemaId::Guid(_) => format!("/schemas/guids/{guid}"),
    }
}

/// Fetches a schema with all that it refers to.
pub(super) async fn fetch(client: &Client, id: SchemaId) -> Result<SchemaText, FetchError> {
    let answer = match client.get(&path_of(id)).await {
        Ok(body) => parse(&body)?,
        Err(RequestError::NotFound) => return Err(FetchError::Unknown),
        Err(error) => return Err(of_request(error)),
    };
    let mut fetching = Fetching {
        client,
        known: HashMap::new(),
        open: Vec::new(),
        size: Size::default(),
    };
    fetching.resolve(answer).await
}

fn of_request(error: RequestError) -> FetchError {
    match error {
        RequestError::Failed { reason, remedy, .. } => FetchError::Unavailable(format!("{reason}; {remedy}")),
        RequestError::TooLarge => FetchError::Unusable(format!(
            "the registry's answer is larger than {} MiB",
            MAX_ANSWER >> 20
        )),
        RequestError::NotFound => FetchError::Unknown,
    }
}

fn parse(body: &Bytes) -> Result<SchemaResponse, FetchError> {
    serde_json::from_slice(body).map_err(|error| {
        // The beginning tells a proxy's page from a schema.
        let begin: String = String::from_utf8_lossy(body).chars().take(60).collect();
        FetchError::Unavailable(format!(
            "a response is not a schema ({error}); it begins with {:?}; correct urls in [kafka.schema_registry]",
            printable(&begin)
        ))
    })
}

fn kind_of(schema_type: Option<&str>) -> Result<SchemaKind, FetchError> {
    match schema_type {
        None | Some("AVRO") => Ok(SchemaKind::Avro),
        Some("PROTOBUF") => Ok(SchemaKind::Protobuf),
        Some("JSON") => Ok(SchemaKind::Json),
        Some(other) => Err(FetchError::Unusable(format!(
            "its schemaType is {:?}; AVRO, PROTOBUF and JSON can be read",
            printable(other)
        ))),
    }
}

/// How much a schema consists of.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    schemas: usize,
    bytes: usize,
}

/// A schema that is being fetched.
struct Fetching<'a> {
    client: &'a Client,
    /// References that have been fetched.
    known: HashMap<(String, i64), (SchemaText, Size)>,
    /// The chain of references to the one that is being fetched.
    open: Vec<(String, i64)>,
    /// Everything so far.
    size: Size,
}

impl Fetching<'_> {
    /// Boxed, because it calls itself.
    fn resolve(
        &mut self,
        answer: SchemaResponse,
    ) -> Pin<Box<dyn Future<Output = Result<SchemaText, FetchError>> + Send + '_>> {
        Box::pin(async move {
            let kind = kind_of(answer.schema_type.as_deref())?;
            self.add(Size {
                schemas: 1,
                bytes: answer.schema.len(),
            })?;
            let mut references = Vec::new();
            for reference in answer.references.unwrap_or_default() {
                references.push(Reference {
                    schema: self.refer(reference.subject, reference.version).await?,
                    name: reference.name,
                });
            }
            Ok(SchemaText {
                kind,
                text: answer.schema,
                references,
            })
        })
    }

    async fn refer(&mut self, subject: String, version: i64) -> Result<SchemaText, FetchError> {
        let named = format!("version {version} of subject {:?}", printable(&subject));
        let key = (subject, version);
        if let Some((schema, size)) = self.known.get(&key) {
            let (schema, size) = (schema.clone(), *size);
            self.add(size)?;
            return Ok(schema);
        }
        if self.open.contains(&key) {
            return Err(FetchError::Unusable(format!(
                "its references form a circle through {named}"
            )));
        }
        if self.open.len() >= MAX_DEPTH {
            let message = format!("its references are more than {MAX_DEPTH} deep, at {named}");
            return Err(FetchError::Unusable(message));
        }
        let subject = utf8_percent_encode(&key.0, SEGMENT);
        // A reference may have been deleted since: producers of records could use it before.
        let path = format!("/subjects/{subject}/versions/{version}?deleted=true");
        let answer = match self.client.get(&path).await {
            Ok(body) => parse(&body)?,
            Err(RequestError::NotFound) => return Err(FetchError::UnknownReference(named)),
            Err(error) => return Err(of_request(error)),
        };
        let before = self.size;
        self.open.push(key.clone());
        let schema = self.resolve(answer).await?;
        self.open.pop();
        let size = Size {
            schemas: self.size.schemas - before.schemas,
            bytes: self.size.bytes - before.bytes,
        };
        self.known.insert(key, (schema.clone(), size));
        Ok(schema)
    }

    fn add(&mut self, more: Size) -> Result<(), FetchError> {
        self.size.schemas += more.schemas;
        self.size.bytes += more.bytes;
        if self.size.schemas > MAX_SCHEMAS {
            return Err(FetchError::Unusable(format!(
                "it refers to more than {MAX_SCHEMAS} schemas"
            )));
        }
        if self.size.bytes > MAX_TEXT {
            let message = format!("it and its references are larger than {} MiB", MAX_TEXT >> 20);
            return Err(FetchError::Unusable(message));
        }
        Ok(())
    }
}
