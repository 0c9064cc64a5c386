//! Scripts and styles of the page without what only people read: comments and indentation. That is a quarter of what is
//! sent, and needs no build step.
//!
//! It goes by lines alone, so the files have no text of several lines (in backquotes, or behind a backslash), and code and a
//! comment of several lines do not share a line. A test holds that for the files in the binary.

use std::path::Path;

/// The beginning of a comment of several lines that is kept: a licence.
const KEPT: &str = "/*!";

/// Files of others, which come as small as they get.
const VENDOR: &str = "page/vendor/";

/// The text to serve of a file of the binary.
pub(super) fn slim(name: &str, text: Vec<u8>) -> Vec<u8> {
    let Some(language) = Language::of(name) else {
        return text;
    };
    match String::from_utf8(text) {
        Ok(text) => lines(&text, language).into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

/// The language of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Script,
    Style,
}

impl Language {
    /// That of a file, unless it stays as it is.
    fn of(name: &str) -> Option<Self> {
        let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
        match ending.filter(|_| !name.starts_with(VENDOR)) {
            Some("js") => Some(Self::Script),
            Some("css") => Some(Self::Style),
            _ => None,
        }
    }
}

fn lines(text: &str, language: Language) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_comment = false;
    for line in text.lines() {
        let line = line.trim();
        if is_comment || (line.starts_with("/*") && !line.starts_with(KEPT)) {
            // It ends with its line, or goes on.
            is_comment = !line.ends_with("*/");
            continue;
        }
        if line.is_empty() || (language == Language::Script && line.starts_with("//")) {
            continue;
        }
        out.push_str(match language {
            Language::Script => code(line).0,
            Language::Style => line,
        });
        out.push('\n');
    }
    out
}

/// A line of a script without the comment at its end, and the quote of a text that the line does not end. A quote in a regular
/// expression counts as the beginning of a text, so that the comment behind it stays.
fn code(line: &str) -> (&str, Option<char>) {
    let (mut open, mut is_escaped) = (None, false);
    for (index, character) in line.char_indices() {
        match (open, character) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(quote), _) if character == quote => open = None,
            (None, '"' | '\'' | '`') => open = Some(character),
            (None, ' ') => {
                if let Some((code, behind)) = line.split_at_checked(index)
                    && behind.starts_with(" // ")
                {
                    return (code.trim_end(), None);
                }
            }
            _ => {}
        }
    }
    (line, open)
}

#[cfg(test)]
mod tests {
    use super::super::built_in;
    use super::*;

    #[test]
    fn comments_and_indentation_are_left_out_and_nothing_else() {
        let script = "// What it is.\n/*! MIT */\n\n/**\n * @param a\n */\nexport function f(a) {\n  // why\n  const u = \"http://x\"; // here\n  /* one line */\n  return a / 2;\n}\n";
        let slimmed = |name: &str, text: &str| String::from_utf8(slim(name, text.into())).expect("text");
        assert_eq!(
            slimmed("page/a.js", script),
            "/*! MIT */\nexport function f(a) {\nconst u = \"http://x\";\nreturn a / 2;\n}\n"
        );
        for (line, slim) in [
            ("f(\"a\"); // it's that", "f(\"a\");"),
            ("f(\"a // b\"); // c", "f(\"a // b\");"),
            ("f(\"it's\", 'a // b');", "f(\"it's\", 'a // b');"),
            ("f(\"\\\" // a\"); // b", "f(\"\\\" // a\");"),
            ("f(/[\"]/); // kept", "f(/[\"]/); // kept"),
            ("f('a // b', `${c} // d`);", "f('a // b', `${c} // d`);"),
            ("f(\"it's\"); // that", "f(\"it's\");"),
            ("f(/\\/\\//); // that", "f(/\\/\\//);"),
        ] {
            assert_eq!(code(line).0, slim);
        }
        assert_eq!(slimmed("page/vendor/a.js", script), script);
        assert_eq!(slimmed("client.d.ts", script), script, "types are read by people");
        assert_eq!(
            slimmed("a.css", "/* a\n b */\na {\n  b: url(//c);\n}\n"),
            "a {\nb: url(//c);\n}\n"
        );
        assert_eq!(slim("a.js", vec![0xff]), [0xff]);
    }

    #[test]
    fn no_file_has_text_or_code_that_slimming_would_change() {
        for (name, content) in built_in() {
            let Some(language) = Language::of(&name) else {
                continue;
            };
            let text = String::from_utf8(content.into_owned()).expect("UTF-8");
            for (index, line) in text.lines().enumerate() {
                let at = format!("{name}:{}: {line}", index + 1);
                let line = line.trim();
                if line.starts_with("//") {
                    assert!(!line.ends_with("*/"), "{at}: the end of another comment");
                    continue;
                }
                let is_script = language == Language::Script;
                assert!(
                    !is_script || code(line).1 != Some('`'),
                    "{at}: a text of several lines"
                );
                assert!(!line.ends_with('\\'), "{at}: a text of several lines");
                let (code, comment) = line.split_once("/*").unwrap_or((line, "*/"));
                let goes_on = !code.is_empty() && language == Language::Style && !comment.contains("*/");
                assert!(!goes_on, "{at}: a comment behind code goes on");
                if line.starts_with("/*") {
                    let end = line.find("*/");
                    assert!(
                        end.is_none_or(|end| end + 2 == line.len()),
                        "{at}: code behind a comment"
                    );
                }
            }
        }
    }
}
