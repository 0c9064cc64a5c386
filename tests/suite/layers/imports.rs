//! Which modules of the crate import which, read from the source.
//!
//! An import is a path that begins with `crate`, `super`, `self`, the crate's name or a module that the file declares,
//! in a `use` or in code. Comments, texts and `#[cfg(test)]` modules do not count. Needs std only: `scripts/modules`
//! compiles this file by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The name of the crate in paths of its binary.
const CRATE: &str = "kafka_sse_bridge";

/// Modules with the modules that each imports.
pub type Imports = BTreeMap<String, BTreeSet<String>>;

/// Reads all files below `src`. A module is named like `http::assets`; `main` and `lib` are the roots.
pub fn read(src: &Path) -> Imports {
    let mut files = BTreeMap::new();
    find(src, &[], &mut files);
    let modules: BTreeSet<Vec<String>> = files.keys().cloned().collect();
    let named = |(module, text): (&Vec<String>, &String)| {
        let imports = paths(module, &tokens(text)).into_iter();
        let known = imports.filter_map(|path| longest(&path, &modules));
        let others = known.filter(|imported| imported != module);
        (
            module.join("::"),
            others.map(|module| module.join("::")).collect(),
        )
    };
    files.iter().map(named).collect()
}

/// Sets of modules each of which imports all others of its set, directly or through them.
pub fn circles(imports: &Imports) -> BTreeSet<BTreeSet<&str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = imports
        .keys()
        .map(|module| {
            let (mut reached, mut open) = (BTreeSet::new(), vec![module.as_str()]);
            while let Some(next) = open.pop() {
                open.extend(
                    imports[next]
                        .iter()
                        .map(String::as_str)
                        .filter(|&imported| reached.insert(imported)),
                );
            }
            (module.as_str(), reached)
        })
        .collect();
    let circle = |module: &&str| {
        let others = reached[module].iter().copied();
        others.filter(|other| reached[other].contains(module)).collect()
    };
    let circles = reached.keys().map(circle);
    circles
        .filter(|circle: &BTreeSet<&str>| !circle.is_empty())
        .collect()
}

fn find(directory: &Path, module: &[String], files: &mut BTreeMap<Vec<String>, String>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("UTF-8");
        let inner = [module, &[name.to_owned()]].concat();
        if path.is_dir() {
            find(&path, &inner, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = if name == "mod" { module.to_vec() } else { inner };
            files.insert(module, fs::read_to_string(&path).expect("UTF-8"));
        }
    }
}

/// The module that a path leads into.
fn longest(path: &[String], modules: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let mut prefixes = (1..=path.len()).rev().map(|length| path[..length].to_vec());
    prefixes.find(|prefix| modules.contains(prefix))
}

/// Identifiers, and all other characters but blanks each by itself; `::` is one token. Without comments and texts.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
                .len();
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(end) = literal(rest) {
            end
        } else if word > 0 {
            tokens.push(rest.split_at(word).0.to_owned());
            word
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = rest.split_at(length).1;
    }
    tokens
}

/// The length of the text or character that `source` begins with.
fn literal(source: &str) -> Option<usize> {
    let prefix = source.len() - source.trim_start_matches(['b', 'c', 'r']).len();
    let (kind, body) = source.split_at(prefix);
    let hashes = body.len() - body.trim_start_matches('#').len();
    if kind.contains('r') && body.split_at(hashes).1.starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let opened = prefix + hashes + 1;
        return source
            .split_at(opened)
            .1
            .find(&end)
            .map(|found| opened + found + end.len());
    }
    let quote = body.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut is_escaped = false;
    for (index, character) in body.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return Some(prefix + index + 1),
            // A lifetime: a character in quotes has one character.
            _ if quote == '\'' && index > 1 && !body.starts_with("'\\") => return None,
            _ => {}
        }
    }
    None
}

/// All paths that begin in this crate, from its root.
fn paths(module: &[String], tokens: &[String]) -> Vec<Vec<String>> {
    let token = |index: usize| tokens.get(index).map_or("", String::as_str);
    let children: BTreeSet<&str> = (0..tokens.len())
        .filter(|&index| token(index) == "mod" && token(index + 2) == ";")
        .map(|index| token(index + 1))
        .collect();
    let is_root = matches!(module, [root] if root == "lib" || root == "main");
    let home = if is_root { &[] } else { module };
    let mut found = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        // Tests beside the code.
        if token(index) == "#"
            && (2..8)
                .map(|ahead| token(index + ahead))
                .eq(["cfg", "(", "test", ")", "]", "mod"])
        {
            index = end_of_block(tokens, index);
            continue;
        }
        let begins =
            |word: &str| matches!(word, "crate" | "super" | "self" | CRATE) || children.contains(word);
        // `pub(in crate::http)` is a visibility.
        let is_inner = index > 0 && matches!(token(index - 1), "::" | "in" | "." | "mod");
        if begins(token(index)) && token(index + 1) == "::" && !is_inner {
            let mut base = match token(index) {
                "crate" | CRATE => Vec::new(),
                _ => home.to_vec(),
            };
            match token(index) {
                "super" => drop(base.pop()),
                "crate" | CRATE | "self" => {}
                child => base.push(child.to_owned()),
            }
            index = tree(&base, tokens, index + 2, &mut found);
        } else {
            index += 1;
        }
    }
    found
}

/// Reads what follows a path and its `::`; returns the index behind it.
fn tree(base: &[String], tokens: &[String], mut index: usize, found: &mut Vec<Vec<String>>) -> usize {
    let mut path = base.to_vec();
    while let Some(token) = tokens.get(index) {
        match token.as_str() {
            "super" => drop(path.pop()),
            "self" | "*" => {}
            "{" => {
                index += 1;
                while tokens.get(index).is_some_and(|token| token != "}") {
                    index = if tokens[index] == "," {
                        index + 1
                    } else {
                        tree(&path, tokens, index, found)
                    };
                }
                return index + 1;
            }
            name if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => path.push(name.to_owned()),
            // Generic arguments, as in `Vec::<u8>`.
            _ => break,
        }
        index += 1;
        if tokens.get(index).is_none_or(|token| token != "::") {
            break;
        }
        index += 1;
    }
    if tokens.get(index).is_some_and(|token| token == "as") {
        index += 2;
    }
    found.push(path);
    index
}

/// The index behind the next block.
fn end_of_block(tokens: &[String], from: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(from) {
        match token.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => return index + 1,
            "}" => depth -= 1,
            // A module in a file of its own.
            ";" if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}
