//! Lists of names and addresses, in the same form in the file, the environment and flags.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, SeqAccess, Visitor};

/// Reads a list: an array of strings, or one string. Each string is split at commas, entries are trimmed, and empty ones
/// are ignored, so that a list in one string and a trailing comma mean the same in every layer. Not for lists whose
/// entries may contain commas, such as the values of a filter.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    deserializer.deserialize_any(List(PhantomData))
}

struct List<T>(PhantomData<T>);

impl<'de, T: FromStr<Err: fmt::Display>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of strings, or one string with commas")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        let mut list = Vec::new();
        add(&mut list, text)?;
        Ok(list)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while sequence.next_element_seed(Item(&mut list))?.is_some() {}
        Ok(list)
    }
}

/// A string of an array. It is parsed as part of the array, so that an error names its own line.
struct Item<'a, T>(&'a mut Vec<T>);

impl<'de, T: FromStr<Err: fmt::Display>> DeserializeSeed<'de> for Item<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Item<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        add(self.0, text)
    }
}

fn add<T: FromStr<Err: fmt::Display>, E: de::Error>(list: &mut Vec<T>, text: &str) -> Result<(), E> {
    let entries = text.split(',').map(str::trim);
    for entry in entries.filter(|entry| !entry.is_empty()) {
        list.push(entry.parse().map_err(E::custom)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::list;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Section {
        #[serde(deserialize_with = "list")]
        entries: Vec<String>,
    }

    fn read(value: &str) -> Result<Vec<String>, toml::de::Error> {
        toml::from_str(&format!("entries = {value}")).map(|Section { entries }| entries)
    }

    #[test]
    fn an_array_and_a_string_are_the_same_list() {
        for value in [r#"["a", "b", "c"]"#, r#"" a ,b,, c,""#, r#"["a, b", "", " c "]"#] {
            assert_eq!(read(value).expect(value), ["a", "b", "c"], "{value}");
        }
        assert_eq!(read(r#"" , ""#).expect("a list"), [""; 0]);
        for value in ["7", "[7]", "{}"] {
            assert!(read(value).is_err(), "{value}");
        }
    }
}
