//! The rules of `[[stream.view]]`.

use super::colors::{OWN, is_color};
use super::faults::Faults;
use super::filter::{Filter, Name, split};
use super::filter_value::Written;
use super::projection::Projection;
use super::settings::Client;
use super::stream::{Format, StreamSettings};
use super::validate_reshape::fault_of;
use super::views::{ColumnFormat, ColumnSettings, ViewKind, ViewSettings};

/// Most digits behind the decimal point that every browser writes (ECMA-402 before 2023).
const MAX_DIGITS: u8 = 20;

/// The longest time that a chart shows, in minutes: a day.
const MAX_MINUTES: u32 = 24 * 60;

/// Paths of what a record has beside its value.
const PARTS: [&str; 7] = [
    "@changed",
    "@key",
    "@offset",
    "@partition",
    "@timestamp",
    "@topic",
    "@value",
];

/// Names the key of a view, or of a column of one, in a message.
type KeyName<'a> = &'a dyn Fn(&str) -> String;

/// Checks all views of a stream; `client` is the Kafka client in use.
pub(super) fn validate(stream: &StreamSettings, client: Client, key: KeyName<'_>, faults: &mut Faults) {
    let rules = ViewRules {
        stream,
        client,
        projection: Projection::of(stream),
    };
    for (index, view) in stream.view.iter().enumerate() {
        let key = |name: &str| key(&format!("view[{index}].{name}"));
        check_kind(view, &key, faults);
        check_text(view.title.as_deref(), key("title"), faults);
        rules.check_records(view, &key, faults);
        for (column, settings) in view.columns.iter().enumerate() {
            let key = |name: &str| key(&format!("columns[{column}].{name}"));
            rules.check_column(settings, None, &key, faults);
        }
        let sort = view
            .sort
            .as_deref()
            .map(|sort| sort.strip_prefix('-').unwrap_or(sort));
        for (name, path) in [
            ("sort", sort.filter(|path| !PARTS.contains(path))),
            ("value", view.value.as_deref()),
            ("group", view.group.as_deref()),
        ] {
            if let Some(path) = path {
                rules.check_path(path, &[], key(name), faults);
            }
        }
        if view
            .minutes
            .is_some_and(|minutes| !(1..=MAX_MINUTES).contains(&minutes))
        {
            faults.add(
                key("minutes"),
                format!("is not from 1 to {MAX_MINUTES}; 5 is usual"),
            );
        }
        rules.check_filter(view, &key, faults);
    }
}

/// Checks that the keys of a view belong to its kind.
fn check_kind(view: &ViewSettings, key: KeyName<'_>, faults: &mut Faults) {
    const ROWS: &[ViewKind] = &[ViewKind::Table, ViewKind::Cards];
    const CHART: &[ViewKind] = &[ViewKind::Chart];
    for (name, is_set, kinds) in [
        ("columns", !view.columns.is_empty(), ROWS),
        ("sort", view.sort.is_some(), ROWS),
        ("value", view.value.is_some(), CHART),
        ("group", view.group.is_some(), CHART),
        ("minutes", view.minutes.is_some(), CHART),
    ] {
        if is_set && !kinds.contains(&view.kind) {
            let message = format!(
                "belongs to kind = {}, and this view is kind = \"{}\"; remove it, or change the kind",
                alternatives(kinds.iter().map(|kind| kind.as_str())),
                view.kind
            );
            faults.add(key(name), message);
        }
    }
}

fn check_text(text: Option<&str>, at: String, faults: &mut Faults) {
    if let Some(text) = text
        && (text.trim().is_empty() || text.chars().any(char::is_control))
    {
        faults.add(
            at,
            format!("{text:?} cannot be shown; write a text of one line, or remove it"),
        );
    }
}

/// Words as alternatives: `"a" or "b"`.
fn alternatives<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
    words.join(" or ")
}

/// The settings that all views of a stream are checked against.
struct ViewRules<'s> {
    stream: &'s StreamSettings,
    client: Client,
    projection: Option<Projection>,
}

impl ViewRules<'_> {
    /// Checks that the stream has what a kind of view shows.
    fn check_records(&self, view: &ViewSettings, key: KeyName<'_>, faults: &mut Faults) {
        let has_rows = matches!(view.kind, ViewKind::Table | ViewKind::Cards);
        if has_rows && self.stream.format == Format::Value && self.stream.key_field.is_none() {
            let message = format!(
                "\"{}\" has a row for each key, and the events of this stream have no keys; set key_field or format = \
                 \"envelope\", or take kind = \"feed\"",
                view.kind
            );
            faults.add(key("kind"), message);
        }
        if self.stream.value_format.has_objects() {
            return;
        }
        for (name, is_set) in [
            ("columns", !view.columns.is_empty()),
            ("sort", view.sort.is_some()),
            ("value", view.value.is_some()),
            ("group", view.group.is_some()),
        ] {
            if is_set {
                let message = format!(
                    "needs values that are JSON objects, which value_format = \"{}\" has none of; remove it, or say what the \
                     values are",
                    self.stream.value_format
                );
                faults.add(key(name), message);
            }
        }
    }

    /// Checks a column; `list` is the path of the list that it belongs to.
    fn check_column(
        &self,
        column: &ColumnSettings,
        list: Option<&[String]>,
        key: KeyName<'_>,
        faults: &mut Faults,
    ) {
        if column.path.is_empty() {
            faults.add(
                key("path"),
                "is missing; write path = \"name\", or \"address.city\"",
            );
            return;
        }
        let path = if list.is_none() && PARTS.contains(&column.path.as_str()) {
            None
        } else {
            self.check_path(&column.path, list.unwrap_or_default(), key("path"), faults)
        };
        check_text(column.label.as_deref(), key("label"), faults);
        check_text(column.unit.as_deref(), key("unit"), faults);
        check_format(column, key, faults);
        for (value, color) in &column.colors {
            if !is_color(color) && !OWN.contains(&color.as_str()) {
                let message = format!(
                    "{color:?} is not a colour; write it like \"#1c7f4a\" or \"teal\", or take one of the page's own: {}",
                    OWN.join(", ")
                );
                faults.add(key(&format!("colors.{value:?}")), message);
            }
        }
        if list.is_some() {
            for (name, is_set) in [("hidden", column.hidden), ("pinned", column.pinned)] {
                if is_set {
                    faults.add(
                        key(name),
                        "has no effect within a list; remove it, or the whole item",
                    );
                }
            }
            if column.format == Some(ColumnFormat::List) {
                faults.add(
                    key("format"),
                    "\"list\" within a list is not shown; take \"json\"",
                );
            }
            return;
        }
        for (index, item) in column.items.iter().enumerate() {
            let key = |name: &str| key(&format!("items[{index}].{name}"));
            self.check_column(item, Some(path.as_deref().unwrap_or_default()), &key, faults);
        }
    }

    /// Checks a path within the value, or within an element of the list at `outer`. Returns the whole path.
    fn check_path(
        &self,
        text: &str,
        outer: &[String],
        at: String,
        faults: &mut Faults,
    ) -> Option<Vec<String>> {
        if let Some(fault) = fault_of(text) {
            faults.add(at, format!("{text:?} {fault}"));
            return None;
        }
        let path = [outer, &split(text)?].concat();
        if let Some(projection) = &self.projection
            && !projection.shows_part(&path)
        {
            let message = format!(
                "{text:?} is left out by {} of this stream, so that nothing would be shown; remove it, or show it there",
                if self.stream.fields.is_empty() {
                    "hide"
                } else {
                    "fields"
                }
            );
            faults.add(at, message);
        }
        Some(path)
    }

    /// Checks that every client may ask for the filter of a view.
    fn check_filter(&self, view: &ViewSettings, key: KeyName<'_>, faults: &mut Faults) {
        if view.filter.is_empty() {
            return;
        }
        if !self.stream.client_filters {
            let message =
                "is a filter of the page's clients, which client_filters = false forbids; remove one of them";
            return faults.add(key("filter"), message);
        }
        let mut filter = Filter::default();
        for (text, values) in &view.filter {
            let at = key(&format!("filter.{text:?}"));
            let name = match Name::of_setting(text) {
                Ok(name) => name,
                Err(message) => {
                    faults.add(at, message);
                    continue;
                }
            };
            if values.is_empty() {
                faults.add(at.clone(), "has no value; name one, or remove it");
            }
            match (&name, &self.projection) {
                (Name::Header(_), _) if self.client == Client::Kafka => faults.add(
                    at.clone(),
                    "looks at headers, which client = \"kafka\" does not give; set client = \"auto\" in [kafka]",
                ),
                (Name::Value(path), Some(projection)) if !projection.shows(path) => faults.add(
                    at.clone(),
                    "compares what fields or hide leaves out, which clients may not; remove it, or show it there",
                ),
                _ => {}
            }
            for value in values {
                if !matches!(Written::parse(value), Written::Text(text) if text == value) {
                    let message = format!(
                        "{value:?} has a meaning in a filter of the stream only; a view's is that of a client, and compares text"
                    );
                    faults.add(at.clone(), message);
                } else if let Err(error) = filter.add(name.clone(), value, &self.stream.topics) {
                    faults.add(at.clone(), error.to_string());
                }
            }
        }
    }
}

/// Checks that the keys of a column belong to its format.
fn check_format(column: &ColumnSettings, key: KeyName<'_>, faults: &mut Faults) {
    use ColumnFormat::{Badge, Bytes, List, Number};
    for (name, is_set, formats) in [
        ("unit", column.unit.is_some(), &[Number][..]),
        ("digits", column.digits.is_some(), &[Number]),
        ("bar", column.bar, &[Number, Bytes]),
        ("colors", !column.colors.is_empty(), &[Badge]),
        ("items", !column.items.is_empty(), &[List]),
        ("limit", column.limit.is_some(), &[List]),
    ] {
        if is_set && !column.format.is_some_and(|format| formats.contains(&format)) {
            let message = format!(
                "belongs to format = {}; set that, or remove it",
                alternatives(formats.iter().map(|format| format.as_str()))
            );
            faults.add(key(name), message);
        }
    }
    if column.digits.is_some_and(|digits| digits > MAX_DIGITS) {
        faults.add(
            key("digits"),
            format!("is more than {MAX_DIGITS}, which browsers do not write; 0 to 3 are usual"),
        );
    }
    if column.limit == Some(0) {
        faults.add(
            key("limit"),
            "is 0, so that nothing would be shown; write 3, or remove it for all",
        );
    }
}
