//! The members that a stream adds to its values: `key_field`, `topic_field` and the like.

use super::faults::Faults;
use super::stream::{Format, StreamSettings};

/// A member that can be added to a value, which is a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddedField {
    /// The record's key.
    Key,
    /// The name of its topic.
    Topic,
    /// Its partition.
    Partition,
    /// Its offset.
    Offset,
    /// Its timestamp.
    Timestamp,
    /// Its headers.
    Headers,
}

impl AddedField {
    /// Those of a stream, each with the name that it has in the value, in the order in which they are added.
    pub fn of(settings: &StreamSettings) -> impl Iterator<Item = (Self, &String)> {
        let all = [
            (Self::Key, &settings.key_field),
            (Self::Topic, &settings.topic_field),
            (Self::Partition, &settings.partition_field),
            (Self::Offset, &settings.offset_field),
            (Self::Timestamp, &settings.timestamp_field),
            (Self::Headers, &settings.headers_field),
        ];
        all.into_iter()
            .filter_map(|(field, name)| Some((field, name.as_ref()?)))
    }

    /// Those that deletes of a stream without an envelope consist of: without the headers, always with the key, and
    /// with the topic where the stream has several.
    pub(crate) fn of_deletes(settings: &StreamSettings) -> impl Iterator<Item = (Self, &str)> {
        let topic = (settings.topics.len() > 1).then_some("topic");
        let all = [
            (Self::Key, Some(settings.key_field.as_deref().unwrap_or("key"))),
            (Self::Topic, settings.topic_field.as_deref().or(topic)),
            (Self::Partition, settings.partition_field.as_deref()),
            (Self::Offset, settings.offset_field.as_deref()),
            (Self::Timestamp, settings.timestamp_field.as_deref()),
        ];
        all.into_iter().filter_map(|(field, name)| Some((field, name?)))
    }

    /// The key of the configuration.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Key => "key_field",
            Self::Topic => "topic_field",
            Self::Partition => "partition_field",
            Self::Offset => "offset_field",
            Self::Timestamp => "timestamp_field",
            Self::Headers => "headers_field",
        }
    }

    /// Its name in messages.
    const fn what(self) -> &'static str {
        match self {
            Self::Key => "the key",
            Self::Topic => "the topic",
            Self::Partition => "the partition",
            Self::Offset => "the offset",
            Self::Timestamp => "the timestamp",
            Self::Headers => "the headers",
        }
    }
}

pub(super) fn validate(stream: &StreamSettings, key: &dyn Fn(&str) -> String, faults: &mut Faults) {
    let mut names: Vec<(&str, &str)> = Vec::new();
    if let Some(name) = &stream.metadata_field {
        names.push((name, "metadata_field"));
    }
    for (field, name) in AddedField::of(stream) {
        let mut add = |message: String| faults.add(key(field.key()), message);
        if stream.format == Format::Envelope {
            add(format!(
                "has no effect with format = \"envelope\", which shows {} anyway; remove it",
                field.what()
            ));
        } else if !stream.value_format.has_objects() {
            add(format!(
                "needs values that are JSON objects, which value_format = \"{}\" has none of; remove it, or set format = \
                 \"envelope\", which shows {} and value",
                stream.value_format,
                field.what().trim_start_matches("the ")
            ));
        }
        if name.is_empty() {
            add("is empty; name the field, or remove the line".to_owned());
            continue;
        }
        if let Some((_, other)) = names.iter().find(|(taken, _)| taken == name) {
            add(format!("{name:?} is the name of {other} too; take another name"));
        }
        names.push((name, field.key()));
    }
    // The key and the topic have names of their own in deletes, where none is configured.
    let deletes: Vec<_> = AddedField::of_deletes(stream).collect();
    for (field, name) in &deletes {
        let taken = deletes
            .iter()
            .find(|(other, taken)| other != field && taken == name);
        if let Some((other, _)) = taken
            && !AddedField::of(stream).any(|(configured, _)| configured == *other)
            && AddedField::of(stream).any(|(configured, _)| configured == *field)
        {
            let message = format!(
                "{name:?} is where deletes have {}; take another name, or set {} too",
                other.what(),
                other.key()
            );
            faults.add(key(field.key()), message);
        }
    }
}
