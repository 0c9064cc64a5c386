//! The documentation's Markdown as parts of a man page.
//!
//! It reads what this repository's documents use: headings, paragraphs, lists, fenced code, tables, and
//! within a line code, strong words and links. A table's rows become a list: the first cell, in bold, is
//! explained by the last, and one between them is named after its column.

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// Adds what stands before the first section, but for the document's title.
pub(super) fn opening(roff: &mut Roff, document: &str) {
    let lines = document.lines().skip_while(|line| line.starts_with("# "));
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with("## ")).collect();
    blocks(roff, &lines);
}

/// Adds the sections whose titles are wanted.
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

/// Fenced lines, after the first fence; returns how many, the last fence included.
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

/// A paragraph, or one entry of a list; returns how many lines it has.
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

/// A table as a list of its rows; returns how many lines it has.
fn table(roff: &mut Roff, lines: &[&str]) -> usize {
    let length = lines.iter().take_while(|line| line.starts_with('|')).count();
    let mut rows = lines.iter().take(length).map(|line| cells(line));
    let head = rows.next().unwrap_or_default();
    // The row below the head only draws a line.
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

/// A table's row; `\|` is a bar within a cell.
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

/// A line without its marks.
fn plain(text: &str) -> String {
    let text_of = |part| match part {
        Inline::Roman(text) | Inline::Bold(text) | Inline::Italic(text) => text,
        Inline::LineBreak => String::new(),
    };
    inline(text).into_iter().map(text_of).collect()
}

/// Marks within a line. What is not closed stands as it is.
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

/// `[text](target)`: the target too, where it leads somewhere outside the repository.
fn link(text: &str) -> Option<(Vec<Inline>, &str)> {
    let (name, rest) = between(text, "[", "](").filter(|(name, _)| !name.contains(']'))?;
    let (target, rest) = rest.split_once(')')?;
    let mut parts = inline(name);
    if target.starts_with("https://") {
        parts.push(roman(format!(" <{target}>")));
    }
    Some((parts, rest))
}
