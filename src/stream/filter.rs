//! Matching: whether a record is for a client, or for any client of a stream.
//!
//! A [`Matcher`] is a [`Filter`] prepared for one stream. It checks a [`Candidate`]: the fields of its record that an
//! entry of the log or a row of the table keeps, and its finished frame. Values are compared as clients see them, so
//! filters name the values in the browser.
//!
//! Pure: no lock, no clock, no clients. [`groups`](super::filter_index) tracks which clients share a filter.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::{LazyLock, OnceLock};

use super::paths::Paths;
use super::values::Found;
use crate::config::filter::{Alternatives, Filter, Name, key_bytes};
use crate::config::{DataFormat, Format, StreamSettings};
use crate::kafka::record::Record;
use crate::sse::write;

/// Hashes keys with a random seed of this process, so that clients cannot construct collisions: filters compare 64-bit
/// hashes instead of keys, so keys need not be kept.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The hash of a key that filters compare: equal for equal keys within this process.
pub(crate) fn key_hash(key: Option<&[u8]>) -> u64 {
    HASHER.hash_one(key)
}

/// The keys that a filter means by `text`. A key that is JSON matches by its text: a string by its content, anything
/// else by its JSON.
fn keys_of(text: &str, format: DataFormat) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let is_json = !format.is_plain() && format != DataFormat::Uuid;
    let is_string = is_json && text.starts_with('"');
    let bytes = key_bytes(text);
    // As a string key is decoded; behind `base64:` the content is what that encodes.
    let content = bytes.as_deref().filter(|_| is_json);
    let content = content.and_then(|content| std::str::from_utf8(content).ok());
    let string = content.map(|content| Cow::Owned(serde_json::Value::from(content).to_string().into_bytes()));
    let bytes = bytes.filter(|_| !is_string);
    bytes.into_iter().chain(string)
}

/// Appends a record's headers in the format of [`Candidate::headers`]: for each the length of its name, its name, the
/// length of its value, its value. Lengths take 4 bytes. Null becomes empty; filters do not distinguish them.
pub(crate) fn pack_headers(record: &Record<'_>, out: &mut Vec<u8>) {
    for (name, value) in record.headers() {
        pack(out, name);
        pack(out, value.unwrap_or_default());
    }
}

fn pack(out: &mut Vec<u8>, bytes: &[u8]) {
    // Kafka's records are below 2 GiB.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes a name or a value from the start of `packed`.
fn unpack<'a>(packed: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = packed.split_first_chunk::<4>()?;
    let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *packed = rest;
    Some(bytes)
}

/// Unpacks headers that [`pack_headers`] packed.
pub(super) fn unpack_headers(mut packed: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || Some((unpack(&mut packed)?, unpack(&mut packed)?)))
}

/// A record as filters see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// Index of its topic in the stream's configuration.
    pub topic: u16,
    /// Its partition.
    pub partition: u32,
    /// [`key_hash`] of its key.
    pub key: u64,
    /// Whether its value is null.
    pub is_tombstone: bool,
    /// Its headers, packed by [`pack_headers`].
    pub headers: &'a [u8],
    /// Its frame, with or without the id line.
    pub frame: &'a [u8],
}

/// The terms by which the index finds a filter.
#[derive(Debug)]
pub(crate) enum Handle<'a> {
    /// Hashes of keys.
    Keys(&'a [u64]),
    /// A header and its values.
    Header(&'a str, &'a Alternatives),
    /// The values of the first path.
    Value(&'a Alternatives),
    /// None that are selective.
    None,
}

/// A filter prepared for a stream.
#[derive(Debug)]
pub(crate) struct Matcher {
    keys: Option<Vec<u64>>,
    topics: Option<Vec<u16>>,
    partitions: Option<Vec<u32>>,
    headers: Vec<(String, Alternatives)>,
    /// Paths from the top of the payload.
    values: Vec<(Vec<String>, Alternatives)>,
    /// The same paths, numbered in this order; built when they are first looked up for a single record.
    paths: OnceLock<Paths>,
    /// Whether deletes pass the terms on headers and values: they say that a key was deleted.
    lets_deletes_pass: bool,
    /// Whether no reader may learn of records that do not pass.
    is_secret: bool,
}

impl Matcher {
    /// The fixed filter of a stream of these settings, if it has one.
    pub(crate) fn fixed(settings: &StreamSettings) -> Option<Self> {
        // The configuration check rejects invalid filters.
        let filter = Filter::from_settings(&settings.filter, &settings.topics).unwrap_or_default();
        (!filter.is_empty()).then(|| Self::new(&filter, settings))
    }

    /// Prepares `filter` for a stream of these settings.
    pub(crate) fn new(filter: &Filter, settings: &StreamSettings) -> Self {
        let mut matcher = Self {
            keys: None,
            topics: None,
            partitions: None,
            headers: Vec::new(),
            values: Vec::new(),
            paths: OnceLock::new(),
            // A delete has neither, so whose it is, only the record before says.
            lets_deletes_pass: settings.has_table() && !filter.is_secret(),
            is_secret: filter.is_secret(),
        };
        for (name, wanted) in filter.terms() {
            match name {
                Name::Key => {
                    // A filter contains only keys whose bytes are known.
                    let keys = wanted.iter().flat_map(|key| keys_of(key, settings.key_format));
                    matcher.keys = Some(keys.map(|key| key_hash(Some(&key))).collect());
                }
                Name::Topic => {
                    let topics = (0..).zip(&settings.topics);
                    let named = topics.filter(|(_, name)| wanted.contains(*name));
                    matcher.topics = Some(named.map(|(index, _)| index).collect());
                }
                Name::Partition => {
                    matcher.partitions = Some(wanted.iter().filter_map(|text| text.parse().ok()).collect());
                }
                Name::Header(header) => matcher.headers.push((header.clone(), wanted.clone())),
                Name::Value(path) => {
                    let outer = (settings.format == Format::Envelope).then(|| "value".to_owned());
                    let path = outer.into_iter().chain(path.iter().cloned()).collect();
                    matcher.values.push((path, wanted.clone()));
                }
            }
        }
        matcher
    }

    /// The paths that the filter compares.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &[String]> {
        self.values.iter().map(|(path, _)| path.as_slice())
    }

    /// The names of headers that the filter compares.
    pub(crate) fn headers(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(name, _)| name.as_str())
    }

    /// The most selective terms.
    pub(crate) fn handle(&self) -> Handle<'_> {
        if let Some(keys) = &self.keys {
            return Handle::Keys(keys);
        }
        if let Some((name, wanted)) = self.headers.first() {
            return Handle::Header(name, wanted);
        }
        match self.values.first() {
            Some((_, wanted)) => Handle::Value(wanted),
            None => Handle::None,
        }
    }

    /// Whether records of a key of a topic can pass; later records of the key do not change that.
    pub(crate) fn concerns(&self, topic: u16, key: u64) -> bool {
        is_wanted(self.topics.as_deref(), &topic) && is_wanted(self.keys.as_deref(), &key)
    }

    /// Whether some records of a key may pass and others not, so that a record can delete what another one showed.
    pub(crate) fn tells_records_apart(&self) -> bool {
        self.partitions.is_some() || !self.headers.is_empty() || !self.values.is_empty()
    }

    /// Whether no reader may learn of records that do not pass, not even by a delete. Deletes come from the log alone
    /// then, of records that passed.
    pub(crate) fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// Whether notices of a topic, or of one of its partitions, are for a reader with this filter.
    pub(crate) fn reads(&self, topic: usize, partition: Option<u32>) -> bool {
        let is_topic_wanted =
            u16::try_from(topic).is_ok_and(|topic| is_wanted(self.topics.as_deref(), &topic));
        is_topic_wanted && partition.is_none_or(|partition| is_wanted(self.partitions.as_deref(), &partition))
    }

    /// Whether the record passes.
    pub(crate) fn accepts(&self, candidate: &Candidate<'_>) -> bool {
        // Looked up only if all other terms match.
        let found = OnceCell::new();
        self.accepts_by(candidate, |term| {
            let found: &Found = found.get_or_init(|| {
                let (mut found, mut scratch) = (Found::default(), Vec::new());
                match payload(candidate.frame, &mut scratch) {
                    Some(json) => found.look_up(self.trie(), json),
                    None => found.pass_over(),
                }
                found
            });
            found.values(0).get(term as u64)
        })
    }

    fn trie(&self) -> &Paths {
        self.paths.get_or_init(|| Paths::new((0..).zip(self.paths())))
    }

    /// The same; `value` returns the values at the matcher's paths, by their order.
    pub(super) fn accepts_by<'v>(
        &self,
        candidate: &Candidate<'_>,
        value: impl Fn(usize) -> Option<&'v str>,
    ) -> bool {
        if !self.concerns(candidate.topic, candidate.key)
            || !is_wanted(self.partitions.as_deref(), &candidate.partition)
        {
            return false;
        }
        if candidate.is_tombstone && self.lets_deletes_pass {
            return true;
        }
        let has_header = |(name, wanted): &(String, Alternatives)| {
            header_values(candidate.headers, name).any(|value| wanted.contains(value))
        };
        if !self.headers.iter().all(has_header) {
            return false;
        }
        if self.values.is_empty() {
            return true;
        }
        if candidate.is_tombstone {
            return false;
        }
        let mut terms = self.values.iter().enumerate();
        terms.all(|(term, (_, wanted))| value(term).is_some_and(|text| wanted.contains(text)))
    }
}

/// No list accepts everything.
fn is_wanted<T: PartialEq>(wanted: Option<&[T]>, value: &T) -> bool {
    wanted.is_none_or(|wanted| wanted.contains(value))
}

/// The values of a header that are valid UTF-8.
pub(crate) fn header_values<'a>(packed: &'a [u8], wanted: &'a str) -> impl Iterator<Item = &'a str> {
    unpack_headers(packed)
        .filter(move |(name, _)| *name == wanted.as_bytes())
        .filter_map(|(_, value)| std::str::from_utf8(value).ok())
}

/// The payload of a frame as text: borrowed if it is one line, as nearly always.
pub(crate) fn payload<'a>(frame: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<&'a str> {
    std::str::from_utf8(write::payload(frame, scratch)).ok()
}
