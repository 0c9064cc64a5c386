//! The documentation's Markdown as parts of a man page.
//!
//! It supports the Markdown of this repository's documents: headings, paragraphs, lists, fenced code, tables, and
//! code, strong text and links within a line. The rows of a table become a list: the first cell in bold, the cells in
//! the middle with the names of their columns, and the last cell as the description.

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// Adds the text before the first section, without the document's title.
pub(super) fn opening(roff: &mut Roff, document: &str) {
    let lines = document.lines().skip_while(|line| line.starts_with("# "));
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with("## ")).collect();
    blocks(roff, &lines);
}

/// Adds the sections with wanted titles.
pub(super) fn sections(roff: &mut Roff, document: &str, is_wanted: impl Fn(&str) -> bool) {
    let mut lines = document.lines().peekable();
    let mut is_code = false;
    while let Some(line) = lines.next() {
        let Some(title) = line.strip_prefix("## ") else {
            continue;
        };
        let mut body = Vec::new();
        while let Some(line) = lines.next_if(|line| is_code || !line.starts_with("## ")) {
            is_code ^= line.starts_with("```");
            body.push(line);
        }
        if is_wanted(title) {
            roff.control("SH", [plain(title).to_uppercase().as_str()]);
            blocks(roff, &body);
        }
    }
}

fn blocks(roff: &mut Roff, lines: &[&str]) {
    let mut rest = lines;
    while let [line, more @ ..] = rest {
        let length = if line.trim().is_empty() {
            1
        } else if line.starts_with("```") {
            code(roff, more) + 1
        } else if let Some(title) = line.strip_prefix("### ") {
            roff.control("SS", [plain(title).as_str()]);
            1
        } else if line.starts_with('|') {
            table(roff, rest)
        } else {
            paragraph(roff, rest)
        };
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// Adds fenced lines, after the first fence; returns their number, with the last fence.
fn code(roff: &mut Roff, lines: &[&str]) -> usize {
    let length = lines.iter().take_while(|line| !line.starts_with("```")).count();
    for name in ["PP", "nf"] {
        roff.control(name, []);
    }
    for line in lines.iter().take(length) {
        roff.text([roman(format!("    {line}"))]);
    }
    for name in ["fi", "PP"] {
        roff.control(name, []);
    }
    length + 1
}

/// Adds a paragraph, or an entry of a list; returns its number of lines.
fn paragraph(roff: &mut Roff, lines: &[&str]) -> usize {
    let is_new_block = |line: &str| {
        line.trim().is_empty()
            || line.starts_with(['|', '#'])
            || line.starts_with("```")
            || line.starts_with("- ")
    };
    let length = 1 + lines
        .iter()
        .skip(1)
        .take_while(|line| !is_new_block(line))
        .count();
    let lines: Vec<&str> = lines.iter().take(length).map(|line| line.trim()).collect();
    let text = lines.join(" ");
    if let Some(entry) = text.strip_prefix("- ") {
        roff.control("IP", ["\\(bu", "2"]);
        roff.text(inline(entry));
    } else {
        roff.control("PP", []);
        roff.text(inline(&text));
    }
    length
}

/// Adds a table as a list of its rows; returns its number of lines.
fn table(roff: &mut Roff, lines: &[&str]) -> usize {
    let length = lines.iter().take_while(|line| line.starts_with('|')).count();
    let mut rows = lines.iter().take(length).map(|line| cells(line));
    let head = rows.next().unwrap_or_default();
    // The row below the head is a separator.
    for row in rows.skip(1) {
        let (Some((first, others)), Some(last)) = (row.split_first(), row.last()) else {
            continue;
        };
        roff.control("TP", []);
        let mut term = vec![bold(plain(first))];
        let between = others.iter().take(others.len().saturating_sub(1));
        for (name, cell) in head.iter().skip(1).zip(between) {
            if cell != "none" {
                term.push(roman(format!(" ({name}: {})", plain(cell))));
            }
        }
        roff.text(term);
        roff.text(inline(last));
    }
    roff.control("PP", []);
    length
}

/// The cells of a row; `\|` is a bar within a cell.
fn cells(line: &str) -> Vec<String> {
    const BAR: &str = "\u{0}";
    let line = line.trim().replace("\\|", BAR);
    let inner = line.strip_prefix('|').unwrap_or(&line);
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    inner
        .split('|')
        .map(|cell| cell.trim().replace(BAR, "|"))
        .collect()
}

/// A line without its markup.
fn plain(text: &str) -> String {
    let text_of = |part| match part {
        Inline::Roman(text) | Inline::Bold(text) | Inline::Italic(text) => text,
        Inline::LineBreak => String::new(),
    };
    inline(text).into_iter().map(text_of).collect()
}

/// Converts the markup within a line; markup that is not closed is kept as text.
fn inline(text: &str) -> Vec<Inline> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let marked = match first {
            '`' => between(rest, "`", "`").map(|(code, rest)| (vec![bold(code)], rest)),
            '*' => between(rest, "**", "**").map(|(strong, rest)| (vec![bold(strong)], rest)),
            '[' => link(rest),
            _ => None,
        };
        if let Some((marked, after)) = marked {
            parts.push(roman(std::mem::take(&mut plain)));
            parts.extend(marked);
            rest = after;
        } else {
            plain.push(first);
            rest = rest.strip_prefix(first).unwrap_or_default();
        }
    }
    parts.push(roman(plain));
    parts
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(open)?.split_once(close)
}

/// `[text](target)`; the target is shown if it is outside the repository.
fn link(text: &str) -> Option<(Vec<Inline>, &str)> {
    let (name, rest) = between(text, "[", "](").filter(|(name, _)| !name.contains(']'))?;
    let (target, rest) = rest.split_once(')')?;
    let mut parts = inline(name);
    if target.starts_with("https://") {
        parts.push(roman(format!(" <{target}>")));
    }
    Some((parts, rest))
}
