//! Puts members into JSON objects, without building any value.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A member that is put into objects.
#[derive(Debug)]
pub(super) struct Member<T> {
    /// Its kind.
    pub(super) what: T,
    name: String,
    /// The name as JSON, with the colon behind it.
    json: Vec<u8>,
}

impl<T> Member<T> {
    pub(super) fn new(what: T, name: &str) -> Self {
        let mut json = serde_json::to_vec(name).unwrap_or_default();
        json.push(b':');
        Self {
            what,
            name: name.to_owned(),
            json,
        }
    }

    /// Appends the name, with the colon behind it.
    pub(super) fn write_name(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.json);
    }
}

/// Appends `object` with the values of `members`, which `write_value` writes: in place of the members that have their
/// names, and the others at the end. Every other byte stays unchanged.
///
/// # Errors
/// When `object` is not a JSON object; `out` is then unchanged.
pub(super) fn write_with<T>(
    out: &mut Vec<u8>,
    object: &str,
    members: &[Member<T>],
    write_value: impl Fn(&mut Vec<u8>, &T),
) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(object);
    let found = deserializer.deserialize_map(FindMembers { members, object })?;
    deserializer.end()?;
    let bytes = object.as_bytes();
    let mut copied = 0;
    for (member, range) in &found.values {
        out.extend_from_slice(&bytes[copied..range.start]);
        write_value(out, &member.what);
        copied = range.end;
    }
    // A valid object ends with its brace.
    let brace = object.trim_end().len() - 1;
    let is_there = |wanted: &Member<T>| {
        found
            .values
            .iter()
            .any(|(member, _)| std::ptr::eq(*member, wanted))
    };
    out.extend_from_slice(&bytes[copied..brace]);
    let added = members.iter().filter(|member| !is_there(member));
    write_members(out, found.is_empty, added, write_value);
    out.extend_from_slice(&bytes[brace..]);
    Ok(())
}

/// Appends `object`, a JSON object without space that has no member of these names, with the values of `members` at its
/// end.
pub(super) fn write_with_new<T>(
    out: &mut Vec<u8>,
    object: &[u8],
    members: &[Member<T>],
    write_value: impl Fn(&mut Vec<u8>, &T),
) {
    let begun = object.strip_suffix(b"}").unwrap_or(object);
    out.extend_from_slice(begun);
    write_members(out, begun == b"{", members.iter(), write_value);
    out.push(b'}');
}

/// Appends members to an object, which is empty or has some.
fn write_members<'a, T: 'a>(
    out: &mut Vec<u8>,
    mut is_empty: bool,
    members: impl Iterator<Item = &'a Member<T>>,
    write_value: impl Fn(&mut Vec<u8>, &T),
) {
    for member in members {
        if !std::mem::take(&mut is_empty) {
            out.push(b',');
        }
        member.write_name(out);
        write_value(out, &member.what);
    }
}

/// Finds the values of the members that have these names.
struct FindMembers<'a, T> {
    members: &'a [Member<T>],
    object: &'a str,
}

struct Found<'a, T> {
    is_empty: bool,
    /// Byte ranges of the values, in order. A member has more than one if its name is repeated.
    values: Vec<(&'a Member<T>, Range<usize>)>,
}

impl<'de, 'a, T> Visitor<'de> for FindMembers<'a, T> {
    type Value = Found<'a, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        // An empty `Vec` does not allocate, so the usual record costs none.
        let mut found = Found {
            is_empty: true,
            values: Vec::new(),
        };
        let find = |name: &str| self.members.iter().find(|member| member.name == name);
        while let Some(member) = map.next_key_seed(MapName(find))? {
            found.is_empty = false;
            if let Some(member) = member {
                let value: &'de RawValue = map.next_value()?;
                let start = value.get().as_ptr() as usize - self.object.as_ptr() as usize;
                found.values.push((member, start..start + value.get().len()));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Applies a function to a member's name, without copying the name.
pub(super) struct MapName<F>(pub(super) F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for MapName<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for MapName<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<T, E> {
        Ok(self.0(name))
    }
}
