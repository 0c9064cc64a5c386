//! The members of values that a stream shows.
//!
//! A path names members from the outside in, as in filters. Arrays have no names: a path applies to each of their
//! elements. As in filters, several names of a path may also be one name with dots, so `card.number` means
//! `{"card":{"number":…}}` and `{"card.number":…}` alike: what is to be hidden is hidden in both readings.

use std::collections::HashMap;

use super::added_fields::AddedField;
use super::filter::split;
use super::stream::StreamSettings;

/// Which members of a value are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Projection {
    /// Whether the paths are kept or left out.
    pub rule: Rule,
    /// The paths.
    pub paths: Node,
    /// Members that are added to what is shown.
    added: Vec<String>,
}

/// The effect of paths on members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Only these are shown.
    Show,
    /// These are not.
    Hide,
}

/// The paths below a place in the value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// Whether a path ends here.
    pub is_end: bool,
    /// By the name of a member, as it is after its escapes are decoded.
    pub below: HashMap<String, Self>,
}

impl Projection {
    /// That of a stream, unless it shows all.
    pub(crate) fn of(settings: &StreamSettings) -> Option<Self> {
        let (rule, paths) = if settings.fields.is_empty() {
            (Rule::Hide, &settings.hide)
        } else {
            (Rule::Show, &settings.fields)
        };
        let added = AddedField::of(settings).map(|(_, name)| name);
        let added = added.chain(&settings.metadata_field);
        (!paths.is_empty()).then(|| Self {
            added: added.cloned().collect(),
            ..Self::new(rule, paths)
        })
    }

    /// One by these paths.
    pub(crate) fn new<P: AsRef<str>>(rule: Rule, paths: &[P]) -> Self {
        let mut tree = Node::default();
        // The configuration check refuses other paths.
        for path in paths.iter().filter_map(|path| split(path.as_ref())) {
            tree.add(&path);
        }
        Self {
            rule,
            paths: tree,
            added: Vec::new(),
        }
    }

    /// Whether a scalar at this path may be shown. A filter by any other path compares what no client sees.
    pub(crate) fn shows(&self, path: &[String]) -> bool {
        if path.first().is_some_and(|name| self.added.contains(name)) {
            return true;
        }
        match self.rule {
            Rule::Show => self.paths.reaches(path),
            Rule::Hide => !self.paths.reaches(path),
        }
    }

    /// Whether anything at this path may be shown, also a part of an object or an array. A number in it may be the index of
    /// an element, which the paths do not name.
    pub(crate) fn shows_part(&self, path: &[String]) -> bool {
        if path.first().is_some_and(|name| self.added.contains(name)) {
            return true;
        }
        let is_index = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
        let names: Vec<String> = path.iter().filter(|name| !is_index(name)).cloned().collect();
        let mut readings = [path, &names].into_iter();
        match self.rule {
            Rule::Show => readings.any(|path| self.paths.meets(path)),
            Rule::Hide => !readings.any(|path| self.paths.reaches(path)),
        }
    }
}

impl Node {
    fn add(&mut self, path: &[String]) {
        let Some((name, rest)) = path.split_first() else {
            self.is_end = true;
            return;
        };
        if !rest.is_empty() {
            self.below.entry(path.join(".")).or_default().is_end = true;
        }
        self.below.entry(name.clone()).or_default().add(rest);
    }

    /// Whether a path ends at a place of `path`, or at a place that `path` may mean.
    fn reaches(&self, path: &[String]) -> bool {
        if self.is_end {
            return true;
        }
        (1..=path.len()).any(|names| {
            let (name, rest) = path.split_at(names);
            self.below
                .get(&name.join("."))
                .is_some_and(|below| below.reaches(rest))
        })
    }

    /// The same, or whether a path begins with `path`.
    fn meets(&self, path: &[String]) -> bool {
        if self.is_end || path.is_empty() {
            return true;
        }
        (1..=path.len()).any(|names| {
            let (name, rest) = path.split_at(names);
            self.below
                .get(&name.join("."))
                .is_some_and(|below| below.meets(rest))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_by_a_hidden_path_is_recognised() {
        let path = |text: &str| split(text).expect("a path");
        let hide = Projection::new(Rule::Hide, &["ssn", "card.number"]);
        for (name, is_shown) in [
            ("ssn", false),
            ("ssn.x", false),
            ("card", true),
            ("card.number", false),
            ("card.type", true),
        ] {
            assert_eq!(hide.shows(&path(name)), is_shown, "{name}");
        }
        let show = Projection::of(&StreamSettings {
            fields: vec!["id".to_owned(), "address.city".to_owned()],
            key_field: Some("key".to_owned()),
            topic_field: Some("topic".to_owned()),
            ..StreamSettings::default()
        });
        let show = show.expect("fields");
        for (name, is_shown) in [
            ("id", true),
            ("id.x", true),
            ("address", false),
            ("address.city", true),
            ("ssn", false),
            ("key", true),
            ("topic", true),
            ("offset", false),
        ] {
            assert_eq!(show.shows(&path(name)), is_shown, "{name}");
        }
    }

    #[test]
    fn an_object_or_a_list_of_which_a_part_is_shown_is_shown() {
        let path = |text: &str| split(text).expect("a path");
        let hide = Projection::new(Rule::Hide, &["ssn", "cards.number"]);
        for (name, is_shown) in [
            ("ssn", false),
            ("cards", true),
            ("cards.number", false),
            ("cards.0.number", false),
            ("cards.0", true),
            ("cards.0.type", true),
        ] {
            assert_eq!(hide.shows_part(&path(name)), is_shown, "{name}");
        }
        let show = Projection::new(Rule::Show, &["id", "cards.type", "a.b.c"]);
        for (name, is_shown) in [
            ("id", true),
            ("id.x", true),
            ("cards", true),
            ("cards.0", true),
            ("cards.0.type", true),
            ("cards.number", false),
            ("cards.0.number", false),
            ("a", true),
            ("a.b", true),
            ("a.x", false),
            ("other", false),
        ] {
            assert_eq!(show.shows_part(&path(name)), is_shown, "{name}");
        }
    }
}
