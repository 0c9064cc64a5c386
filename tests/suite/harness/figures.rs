//! A strict parser of `/metrics` in the text format 0.0.4.

use std::collections::{BTreeMap, BTreeSet};

/// A sample's name and labels, in the order of their names.
type Key = (String, BTreeMap<String, String>);

/// One scrape.
pub struct Figures {
    /// Families by name, with their types.
    pub types: BTreeMap<String, String>,
    samples: BTreeMap<Key, f64>,
}

impl Figures {
    /// Reads them; panics on anything that is not as it should be.
    #[track_caller]
    pub fn parse(text: &str) -> Figures {
        let mut figures = Figures {
            types: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        assert!(text.ends_with('\n'), "the last line ends");
        let mut helped = BTreeSet::new();
        // Families come whole, one after the other.
        let mut current = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a help text");
                assert!(!help.is_empty(), "{line}");
                assert!(helped.insert(name.to_owned()), "{name} is described twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert!(helped.contains(name), "{name} has a help text");
                let before = figures.types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} comes twice");
                name.clone_into(&mut current);
            } else {
                let (key, value) = sample(line);
                assert_eq!(family(&key.0, &figures.types), current, "{line}");
                let before = figures.samples.insert(key, value);
                assert_eq!(before, None, "{line}: twice");
            }
        }
        figures.check_histograms();
        figures
    }

    fn check_histograms(&self) {
        for ((name, labels), &count) in &self.samples {
            let Some(base) = name.strip_suffix("_count") else {
                continue;
            };
            if self.types.get(base).is_none_or(|kind| kind != "histogram") {
                continue;
            }
            let mut buckets: Vec<(f64, f64)> = Vec::new();
            for ((bucket, with_bound), &value) in &self.samples {
                let mut with_bound = with_bound.clone();
                if *bucket == format!("{base}_bucket")
                    && let Some(bound) = with_bound.remove("le")
                    && with_bound == *labels
                {
                    let bound = bound.replace("+Inf", "inf").parse().expect("a bound");
                    buckets.push((bound, value));
                }
            }
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{name} {labels:?}");
        }
    }

    /// The value of the one sample with this name and these labels.
    #[track_caller]
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        match self.find(name, labels) {
            Some(value) => value,
            None => panic!("no {name} {labels:?}"),
        }
    }

    /// The same; `None` where there is no such sample.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let labels = labels.iter().map(owned).collect();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// All samples of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a BTreeMap<String, String>, f64)> {
        let samples = self.samples.iter().filter(move |((known, _), _)| known == name);
        samples.map(|((_, labels), value)| (labels, *value))
    }

    /// The samples of counters, by name.
    pub fn counters(&self) -> BTreeMap<String, f64> {
        let is_counter = |name: &str| {
            let kind = self.types.get(family(name, &self.types));
            kind.is_some_and(|kind| kind != "gauge")
        };
        let samples = self.samples.iter().filter(|((name, _), _)| is_counter(name));
        samples.map(|(key, value)| (format!("{key:?}"), *value)).collect()
    }
}

/// The family that a sample belongs to.
fn family<'a>(name: &'a str, types: &BTreeMap<String, String>) -> &'a str {
    let parts = ["_bucket", "_sum", "_count"];
    let base = parts.iter().find_map(|part| name.strip_suffix(part));
    base.filter(|base| types.get(*base).is_some_and(|kind| kind == "histogram"))
        .unwrap_or(name)
}

#[track_caller]
fn sample(line: &str) -> (Key, f64) {
    let (series, value) = line
        .rsplit_once(' ')
        .unwrap_or_else(|| panic!("no sample: {line:?}"));
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
    let (name, labels) = match series.split_once('{') {
        None => (series, BTreeMap::new()),
        Some((name, labels)) => {
            let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line:?}"));
            // None of ours has a comma, a quote or a backslash in it.
            let pairs = labels.split(',').map(|pair| {
                let (name, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("{line:?}"));
                let value = value.strip_suffix('"').unwrap_or_else(|| panic!("{line:?}"));
                assert!(!value.contains(['"', '\\']), "{line:?}");
                (name.to_owned(), value.to_owned())
            });
            (name, pairs.collect())
        }
    };
    let is_name = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    assert!(
        is_name(name) && labels.keys().all(|label| is_name(label)),
        "{line:?}"
    );
    ((name.to_owned(), labels), value)
}
