//! `[[stream.view]]`: what the page shows of a stream, and how.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::words::words;

/// `[[stream.view]]`: one view of a stream. Paths are those of filters, and begin in the value of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ViewSettings {
    /// Its kind.
    pub kind: ViewKind,
    /// Its title; by default that of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The columns of a table, or the lines of a card; without any those that are found in the records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnSettings>,
    /// The path by which rows are sorted at first; with `-` in front in descending order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// The filter that the page opens the stream with: names as in a query, each with the values that pass.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub filter: BTreeMap<String, Vec<String>>,
    /// The path of the number that a chart shows; without one it shows events per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The path whose values have a line each in a chart; by default the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// How many minutes a chart shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u32>,
}

/// A column of a view, or of a list within one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColumnSettings {
    /// The path of what it shows.
    pub path: String,
    /// Its title; by default the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How values are shown; by default as they look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<ColumnFormat>,
    /// The text behind a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Digits behind the decimal point of a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digits: Option<u8>,
    /// The colours of badges, by the text of the value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub colors: BTreeMap<String, String>,
    /// The columns of each element of a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Self>,
    /// Most elements of a list that are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Whether a number has a bar, whose length compares it with the others.
    #[serde(skip_serializing_if = "is_false")]
    pub bar: bool,
    /// Whether it is hidden at first.
    #[serde(skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// Whether it stays in place while others scroll.
    #[serde(skip_serializing_if = "is_false")]
    pub pinned: bool,
    /// The alignment of its values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub align: Option<Align>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl ViewSettings {
    /// It for the page, with the names of the configuration; keys that are not set are absent.
    #[must_use]
    pub(crate) fn to_json(&self) -> serde_json::Value {
        // Texts, numbers, lists and maps of texts, which JSON has all.
        serde_json::to_value(self).unwrap_or_default()
    }
}

words! {
    /// The kind of a view.
    ViewKind {
        /// A row per key.
        #[default]
        Table = "table",
        /// The newest events.
        Feed = "feed",
        /// A number over time, or events per second.
        Chart = "chart",
        /// A card per key.
        Cards = "cards",
    }
}

words! {
    /// How values are shown.
    ColumnFormat {
        /// As text.
        #[default]
        Text = "text",
        /// As a number of the reader's language.
        Number = "number",
        /// As a size: B, KiB, MiB.
        Bytes = "bytes",
        /// As a date, of milliseconds since 1970 or RFC 3339.
        Date = "date",
        /// As a date and a time of day.
        Time = "time",
        /// As the time that has passed.
        Relative = "relative",
        /// As a label with a colour.
        Badge = "badge",
        /// As a link, of http or https.
        Link = "link",
        /// As a list, of an array.
        List = "list",
        /// As JSON that folds.
        Json = "json",
        /// As yes or no.
        Bool = "bool",
    }
}

words! {
    /// The alignment of the values of a column, in the direction of the text.
    Align {
        /// Where lines begin.
        #[default]
        Start = "start",
        /// Where they end, as for numbers.
        End = "end",
        /// Between.
        Center = "center",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_page_gets_what_is_written_and_nothing_else() {
        let text = "
            kind = 'cards'
            sort = '-speed'
            filter = { 'value.line' = ['7'] }
            columns = [
                { path = 'speed', format = 'number', unit = 'km/h', digits = 1, bar = true, align = 'end' },
                { path = 'stops', format = 'list', limit = 3, items = [{ path = 'name' }] },
            ]";
        let view: ViewSettings = toml::from_str(text).expect("a view");
        let json = view.to_json();
        assert_eq!(
            json,
            json!({
                "kind": "cards",
                "sort": "-speed",
                "filter": { "value.line": ["7"] },
                "columns": [
                    { "path": "speed", "format": "number", "unit": "km/h", "digits": 1, "bar": true, "align": "end" },
                    { "path": "stops", "format": "list", "limit": 3, "items": [{ "path": "name" }] },
                ],
            })
        );
        let again: ViewSettings = serde_json::from_value(json).expect("a view");
        assert_eq!(again, view);
        assert_eq!(ViewSettings::default().to_json(), json!({ "kind": "table" }));
    }
}
