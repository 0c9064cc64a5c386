//! The language of filters, in queries and in the configuration.
//!
//! A [`Filter`] is in canonical form, so that equal ones compare equal and can be shared. Matching records is the job
//! of `stream`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::filter_value::{Written, is_bound};

/// Most terms (name and value) in a filter.
pub const MAX_TERMS: usize = 16;

/// Most bytes of names and values in a filter.
pub const MAX_BYTES: usize = 2 * 1024;

/// Most names in the path of a value. Each may also be part of a name with dots, so a path is looked up in as many
/// ways.
pub const MAX_PATH: usize = 32;

/// The prefix of a key in base64. A key whose text begins with it must be given in base64 itself, so that a term means
/// one key and a typing error is reported.
pub(crate) const BASE64: &str = "base64:";

/// The bytes of a key as a filter names it: text, or what follows [`BASE64`], in the alphabet in which
/// keys are shown or in the one for URLs, with padding or without. `None` where that is not base64.
pub(crate) fn key_bytes(value: &str) -> Option<Cow<'_, [u8]>> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let Some(encoded) = value.strip_prefix(BASE64) else {
        return Some(Cow::Borrowed(value.as_bytes()));
    };
    // A query decodes an unescaped plus as a space.
    let standard = encoded.replace([' ', '-'], "+").replace('_', "/");
    ENGINE.decode(standard).ok().map(Cow::Owned)
}

/// The part of a record that a term compares.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// The record's key, as text or, behind [`BASE64`], in base64.
    Key,
    /// The name of its topic.
    Topic,
    /// The number of its partition.
    Partition,
    /// A header; where it is repeated, any of its values.
    Header(String),
    /// A scalar in its JSON value: members and indices from the outside in. Consecutive names may also be one name
    /// with dots.
    Value(Vec<String>),
}

impl Name {
    /// Parses a name of a query or a configuration; `Ok(None)` where it is not a filter's.
    ///
    /// # Errors
    /// [`FilterError::EmptyPart`] where a header's name or a part of a path is missing.
    pub fn parse(text: &str) -> Result<Option<Self>, FilterError> {
        let name = match text {
            "key" => Self::Key,
            "topic" => Self::Topic,
            "partition" => Self::Partition,
            _ => match text.split_once('.') {
                Some(("header", name)) => Self::Header(name.to_owned()),
                Some(("value", path)) => {
                    Self::Value(split(path).ok_or_else(|| FilterError::Escape(text.to_owned()))?)
                }
                _ => return Ok(None),
            },
        };
        let is_whole = match &name {
            Self::Header(name) => !name.is_empty(),
            Self::Value(path) => path.iter().all(|part| !part.is_empty()),
            Self::Key | Self::Topic | Self::Partition => true,
        };
        if !is_whole {
            return Err(FilterError::EmptyPart(text.to_owned()));
        }
        match &name {
            Self::Value(path) if path.len() > MAX_PATH => Err(FilterError::TooDeep),
            _ => Ok(Some(name)),
        }
    }

    /// Parses a name of a configuration, where each must be a filter's.
    pub(crate) fn of_setting(text: &str) -> Result<Self, String> {
        let name = Self::parse(text).map_err(|error| error.to_string())?;
        name.ok_or_else(|| {
            format!("{text:?} is nothing to filter by; known are key, topic, partition, header.NAME and value.PATH")
        })
    }

    /// Whether two values of this name mean the same.
    fn is_same(&self, one: &str, other: &str) -> bool {
        match self {
            Self::Key => key_bytes(one) == key_bytes(other),
            Self::Partition => one.parse::<u32>() == other.parse(),
            Self::Topic | Self::Header(_) | Self::Value(_) => one == other,
        }
    }
}

/// Splits a path into names: a dot ends one, and `\.` and `\\` are a dot and a backslash within. `None` where a
/// backslash escapes anything else.
pub fn split(path: &str) -> Option<Vec<String>> {
    let mut names = vec![String::new()];
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        let character = match character {
            '.' => {
                names.push(String::new());
                continue;
            }
            '\\' => characters
                .next()
                .filter(|escaped| matches!(escaped, '.' | '\\'))?,
            other => other,
        };
        if let Some(name) = names.last_mut() {
            name.push(character);
        }
    }
    Some(names)
}

/// A name as [`split`] reads it.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('.', "\\.")
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Topic => f.write_str("topic"),
            Self::Partition => f.write_str("partition"),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Value(path) => {
                let names: Vec<String> = path.iter().map(|name| escaped(name)).collect();
                write!(f, "value.{}", names.join("."))
            }
        }
    }
}

/// Why a filter is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// More than [`MAX_TERMS`].
    #[error("the filter has more than {MAX_TERMS} terms; ask for fewer, or read the stream whole")]
    TooManyTerms,
    /// More than [`MAX_BYTES`].
    #[error("the filter is longer than {MAX_BYTES} bytes; ask for less, or read the stream whole")]
    TooLong,
    /// More than [`MAX_PATH`].
    #[error("the path has more than {MAX_PATH} names; filter by a value that is less deep")]
    TooDeep,
    /// A backslash that escapes nothing.
    #[error("{0:?} has a backslash before neither a dot nor a backslash; write \\\\ for a backslash")]
    Escape(String),
    /// `header.` or `value.a..b`.
    #[error("{0:?} lacks a name; write it like \"header.type\" or \"value.address.city\"")]
    EmptyPart(String),
    /// Not a number that a partition can have.
    #[error("invalid partition {0:?}: expected a number from 0")]
    Partition(String),
    /// [`BASE64`] without base64 behind it.
    #[error(
        "invalid base64 after \"{BASE64}\" in {0:?}; write all bytes of the key in base64, as the stream shows keys that are \
         not text"
    )]
    Key(String),
    /// A topic that the stream does not carry.
    #[error("{0:?} is not a topic of this stream; its topics are {1}")]
    Topic(String, String),
}

/// A key as a filter names it: unchanged, or in base64 where the text itself begins with [`BASE64`].
pub(crate) fn literal_key(text: &str) -> Cow<'_, str> {
    if text.starts_with(BASE64) {
        Cow::Owned(format!("{BASE64}{}", STANDARD.encode(text)))
    } else {
        Cow::Borrowed(text)
    }
}

/// Values of which one must match.
pub(crate) type Alternatives = BTreeSet<String>;

/// A filter: for each name, the values of which one must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// A header may have several alternatives that must all match, because a record may repeat it; any other name has
    /// one.
    terms: BTreeMap<Name, Vec<Alternatives>>,
    /// Whether nobody may learn of records that do not pass, not even of deletes.
    is_secret: bool,
}

impl Filter {
    /// Whether it passes all records.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The filter that passes no record.
    pub(crate) fn nothing() -> Self {
        Self {
            terms: BTreeMap::from([(Name::Key, vec![Alternatives::new()])]),
            is_secret: false,
        }
    }

    /// Nobody may learn of records that do not pass, not even of deletes.
    pub(crate) fn keep_secret(&mut self) {
        self.is_secret = true;
    }

    /// Whether nobody may learn of records that do not pass.
    pub(crate) fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// Every name with values of which one must match; a header may occur more than once.
    pub(crate) fn terms(&self) -> impl Iterator<Item = (&Name, &Alternatives)> {
        let terms = self.terms.iter();
        terms.flat_map(|(name, all)| all.iter().map(move |wanted| (name, wanted)))
    }

    /// The filter that passes what both pass. Equal filters stay equal, in whatever order they are combined.
    #[must_use]
    pub(crate) fn and(mut self, other: &Self) -> Self {
        for (name, wanted) in other.terms() {
            let own = self.terms.entry(name.clone()).or_default();
            match own.first_mut() {
                // One record has one key, but may have several values of a header.
                Some(alternatives) if !matches!(name, Name::Header(_)) => {
                    alternatives.retain(|value| wanted.iter().any(|other| name.is_same(value, other)));
                }
                _ => own.push(wanted.clone()),
            }
            own.sort_unstable();
            own.dedup();
        }
        self.is_secret |= other.is_secret;
        self
    }

    /// Adds a term: the same name again is OR, another name is AND. `topics` are the stream's.
    ///
    /// # Errors
    /// When the name cannot have the value, or the filter exceeds its bounds.
    pub fn add(&mut self, name: Name, value: &str, topics: &[String]) -> Result<(), FilterError> {
        self.add_trusted(name, value, topics)?;
        let terms: usize = self.terms().map(|(_, wanted)| wanted.len()).sum();
        if terms > MAX_TERMS {
            return Err(FilterError::TooManyTerms);
        }
        let bytes: usize = self
            .terms()
            .flat_map(|(name, values)| values.iter().map(|value| name.to_string().len() + value.len()))
            .sum();
        if bytes > MAX_BYTES {
            return Err(FilterError::TooLong);
        }
        Ok(())
    }

    /// The same, of a value that the client did not choose, and which is bounded elsewhere.
    pub(crate) fn add_trusted(
        &mut self,
        name: Name,
        value: &str,
        topics: &[String],
    ) -> Result<(), FilterError> {
        match name {
            Name::Partition if value.parse::<u32>().is_err() => {
                return Err(FilterError::Partition(value.to_owned()));
            }
            Name::Key if key_bytes(value).is_none() => return Err(FilterError::Key(value.to_owned())),
            Name::Topic if !topics.iter().any(|topic| topic == value) => {
                return Err(FilterError::Topic(value.to_owned(), topics.join(", ")));
            }
            _ => {}
        }
        let alternatives = self.terms.entry(name).or_default();
        match alternatives.first_mut() {
            Some(wanted) => {
                wanted.insert(value.to_owned());
            }
            None => alternatives.push(Alternatives::from([value.to_owned()])),
        }
        Ok(())
    }

    /// The filter of a configuration: names as in a query, each with its values. Names with a value that only a request
    /// has are omitted; they are the job of [`bound_filter`](super::bound_filter). An error names the key at fault, or
    /// none where the whole filter is.
    pub(crate) fn from_settings(
        written: &BTreeMap<String, Vec<String>>,
        topics: &[String],
    ) -> Result<Self, (Option<String>, String)> {
        let mut filter = Self::default();
        for (text, values) in written.iter().filter(|(_, values)| !is_bound(values)) {
            let fault = |message: String| (Some(text.clone()), message);
            let name = Name::of_setting(text).map_err(fault)?;
            if values.is_empty() {
                return Err(fault(
                    "has no value, so nothing would pass; name one or remove it".to_owned(),
                ));
            }
            for value in values {
                let Written::Text(value) = Written::parse(value) else {
                    continue;
                };
                filter
                    .add(name.clone(), value, topics)
                    .map_err(|error| match error {
                        FilterError::TooManyTerms | FilterError::TooLong => (None, error.to_string()),
                        error => fault(error.to_string()),
                    })?;
            }
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, FilterError, MAX_PATH, Name, key_bytes, literal_key};

    #[test]
    fn names_are_written_as_they_are_read() {
        for text in [
            "key",
            "topic",
            "partition",
            "header.type",
            "header.a.b",
            r"value.log\.level.x",
            r"value.a\\.b",
            "value.log.level",
        ] {
            let name = Name::parse(text).expect("a name").expect("of a filter");
            assert_eq!(name.to_string(), text);
        }
        for text in ["keys", "start", "header", "value", "Key"] {
            assert_eq!(Name::parse(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn incomplete_names_are_refused() {
        for text in ["header.", "value.", "value.a..b", "value.a."] {
            assert_eq!(Name::parse(text), Err(FilterError::EmptyPart(text.to_owned())));
        }
        for text in [r"value.a\b", r"value.a\"] {
            assert_eq!(Name::parse(text), Err(FilterError::Escape(text.to_owned())));
        }
        let deep = format!("value.{}a", "a.".repeat(MAX_PATH));
        assert_eq!(Name::parse(&deep), Err(FilterError::TooDeep));
    }

    #[test]
    fn a_key_in_base64_may_be_in_either_alphabet_with_or_without_padding() {
        let bytes = [0xfb, 0xff, 0xfe, 0x01];
        for encoded in ["+//+AQ==", "-__-AQ", "-__-AQ==", " //+AQ"] {
            let key = format!("base64:{encoded}");
            assert_eq!(key_bytes(&key).as_deref(), Some(&bytes[..]), "{encoded}");
        }
        assert_eq!(key_bytes("NL").as_deref(), Some(&b"NL"[..]));
        assert_eq!(key_bytes("base64:?"), None);
    }

    #[test]
    fn a_literal_key_means_its_own_bytes() {
        for text in ["NL", "base64:TkwK", "base64:", "base64:?", "Base64:x", "{id}"] {
            let key = literal_key(text);
            assert_eq!(key_bytes(&key).as_deref(), Some(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn filters_are_combined_by_and() {
        let filter = |terms: &[(&str, &str)]| {
            let mut filter = Filter::default();
            for (name, value) in terms {
                let name = Name::parse(name).expect("a name").expect("of a filter");
                filter.add(name, value, &[]).expect("a term");
            }
            filter
        };
        // The same key, written differently.
        let keys = filter(&[("key", "a"), ("key", "b")]).and(&filter(&[("key", "base64:YQ"), ("key", "c")]));
        assert_eq!(keys, filter(&[("key", "a")]));
        let none = filter(&[("key", "a")]).and(&filter(&[("key", "b")]));
        assert_eq!(none, Filter::nothing());
        // A record may have both values of a header.
        let (one, other) = (filter(&[("header.h", "a")]), filter(&[("header.h", "b")]));
        let both = one.clone().and(&other);
        assert_eq!(both.terms().count(), 2);
        assert_eq!(both, other.and(&one));
        assert_eq!(one.clone().and(&one), one);
    }
}
