//! Tables for people.

use crate::measure::{median, median_ratio};

/// Rows of cells, printed with columns aligned.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(heading: &[&str]) -> Table {
        Table {
            rows: vec![heading.iter().map(|&cell| cell.to_owned()).collect()],
        }
    }

    pub fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.to_vec());
    }

    /// The medians of two sides, and the median of the ratios of their rounds; `target` judges that.
    pub fn compare(
        &mut self,
        name: &str,
        ours: &[f64],
        theirs: &[f64],
        target: impl Fn(f64) -> Option<String>,
    ) {
        let ratio = median_ratio(ours, theirs);
        self.row(&[
            name.to_owned(),
            figure(median(ours)),
            figure(median(theirs)),
            figure(ratio),
            target(ratio).unwrap_or_default(),
        ]);
    }

    pub fn print(&self, title: &str) {
        println!("\n{title}\n");
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> = (0..columns)
                .map(|column| {
                    let cell = row.get(column).map_or("", String::as_str);
                    let width = widths[column];
                    if column == 0 {
                        format!("{cell:<width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                })
                .collect();
            println!("| {} |", cells.join(" | "));
            if index == 0 {
                let rules: Vec<String> = (0..columns)
                    .map(|column| "-".repeat(widths[column] + 1) + if column == 0 { "-" } else { ":" })
                    .collect();
                println!("|{}|", rules.join("|"));
            }
        }
    }
}

/// A figure with three digits that count.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "–".to_owned(),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A ratio or figure beside the most (or least) it should be.
pub fn at_most(value: f64, most: f64) -> String {
    format!("≤ {} {}", figure(most), if value <= most { "yes" } else { "NO" })
}

pub fn at_least(value: f64, least: f64) -> String {
    format!(
        "≥ {} {}",
        figure(least),
        if value >= least { "yes" } else { "NO" }
    )
}
