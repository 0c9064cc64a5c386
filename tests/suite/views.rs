//! `[[stream.view]]` and `[ui]`: errors name line, key and remedy, and what is valid is printed and read again.

use crate::configuration::{complains, read};
use crate::harness::daemon::run_to_end;
use crate::trials;
use kafka_sse_bridge::config::Flags;
use libtest_mimic::Trial;
use std::fs;

pub fn trials() -> Vec<Trial> {
    trials![
        errors_for_views_name_line_key_and_remedy,
        errors_for_columns_name_line_key_and_remedy,
        errors_for_paths_and_filters_of_views_name_line_key_and_remedy,
        views_show_nothing_that_the_stream_leaves_out,
        errors_for_the_looks_of_the_page_name_line_key_and_remedy,
        views_are_printed_with_their_origins_and_read_again,
    ]
}

/// A keyed stream, with lines of its own, and a view on its line 5.
fn with_view(stream: &str, view: &str) -> String {
    format!(
        "[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\nkey_field = \"key\"\n{stream}[[stream.view]]\n{view}\n"
    )
}

fn errors_for_views_name_line_key_and_remedy() {
    for (view, place, pieces) in [
        ("kidn = \"feed\"", "kidn", &["did you mean \"kind\"?"][..]),
        (
            "kind = \"tabel\"",
            "kind",
            &["did you mean \"table\"?", "table, feed, chart, cards"],
        ),
        ("title = \"\"", "title", &["cannot be shown", "or remove it"]),
        ("title = \"a\\nb\"", "title", &["cannot be shown"]),
    ] {
        complains(
            &with_view("", view),
            &format!("FILE:6: stream[0].view[0].{place}: "),
            pieces,
        );
    }
    for (view, place, pieces) in [
        (
            "kind = \"feed\"\nsort = \"a\"",
            "sort",
            &[
                "belongs to kind = \"table\" or \"cards\"",
                "this view is kind = \"feed\"",
            ][..],
        ),
        (
            "kind = \"chart\"\ncolumns = [{ path = \"a\" }]",
            "columns",
            &["belongs to kind"],
        ),
        (
            "kind = \"table\"\nvalue = \"a\"",
            "value",
            &["belongs to kind = \"chart\"", "remove it, or change the kind"],
        ),
        ("kind = \"cards\"\ngroup = \"a\"", "group", &["belongs to kind"]),
        ("kind = \"feed\"\nminutes = 5", "minutes", &["belongs to kind"]),
        (
            "kind = \"chart\"\nminutes = 0",
            "minutes",
            &["is not from 1 to 1440"],
        ),
        (
            "kind = \"chart\"\nminutes = 2000",
            "minutes",
            &["is not from 1 to 1440"],
        ),
    ] {
        complains(
            &with_view("", view),
            &format!("FILE:7: stream[0].view[0].{place}: "),
            pieces,
        );
    }
    // The second view of the second stream, which has no keys; a feed and a chart need none.
    let text = with_view("", "kind = \"feed\"")
        + "[[stream]]\npath = \"/y\"\ntopics = [\"t\"]\n[[stream.view]]\nkind = \"chart\"\n[[stream.view]]\nkind = \"cards\"\n";
    complains(
        &text,
        "FILE:13: stream[1].view[1].kind: ",
        &["a row for each key", "set key_field or format = \"envelope\""],
    );
    let of_bytes =
        "[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\nformat = \"envelope\"\nvalue_format = \"bytes\"\n";
    for (view, name) in [
        ("columns = [{ path = \"a\" }]", "columns"),
        ("sort = \"a\"", "sort"),
        ("kind = \"chart\"\nvalue = \"a\"", "value"),
    ] {
        let line = 6 + view.lines().count();
        complains(
            &format!("{of_bytes}[[stream.view]]\n{view}\n"),
            &format!("FILE:{line}: stream[0].view[0].{name}: "),
            &["needs values that are JSON objects", "\"bytes\""],
        );
    }
}

fn errors_for_columns_name_line_key_and_remedy() {
    for (column, place, pieces) in [
        ("pth = \"a\"", "pth", &["did you mean \"path\"?"][..]),
        ("label = \"A\"", "path", &["is missing", "write path"]),
        (
            "path = \"a\", format = \"nubmer\"",
            "format",
            &["did you mean \"number\"?"],
        ),
        ("path = \"a\", label = \" \"", "label", &["cannot be shown"]),
        (
            "path = \"a\", unit = \"m\"",
            "unit",
            &["belongs to format = \"number\"; set that"],
        ),
        (
            "path = \"a\", format = \"text\", digits = 1",
            "digits",
            &["belongs to format = \"number\""],
        ),
        (
            "path = \"a\", format = \"number\", digits = 21",
            "digits",
            &["is more than 20"],
        ),
        (
            "path = \"a\", bar = true",
            "bar",
            &["belongs to format = \"number\" or \"bytes\""],
        ),
        (
            "path = \"a\", colors = { x = \"red\" }",
            "colors",
            &["belongs to format = \"badge\""],
        ),
        (
            "path = \"a\", items = [{ path = \"b\" }]",
            "items",
            &["belongs to format = \"list\""],
        ),
        (
            "path = \"a\", format = \"list\", limit = 0",
            "limit",
            &["is 0", "write 3"],
        ),
        (
            "path = \"a\", format = \"list\", items = [{ path = \"b\", format = \"list\" }]",
            "items[0].format",
            &["take \"json\""],
        ),
        (
            "path = \"a\", format = \"list\", items = [{ path = \"b\", pinned = true }]",
            "items[0].pinned",
            &["no effect"],
        ),
        (
            "path = \"a\", format = \"badge\", colors = { x = \"grean\" }",
            "colors.\"x\"",
            &["is not a colour", "#1c7f4a", "good"],
        ),
        (
            "path = \"a\", format = \"badge\", colors = { x = \"url(//x)\" }",
            "colors.\"x\"",
            &["is not a colour"],
        ),
        (
            "path = \"a\", format = \"badge\", colors = { x = \"red;}\" }",
            "colors.\"x\"",
            &["is not a colour"],
        ),
    ] {
        let key = if column.starts_with("pth") || column.contains("nubmer") {
            "FILE:6: stream[0].view[0].columns[0].".to_owned() + place
        } else {
            format!("FILE:6: stream[0].view[0].columns[0].{place}: ")
        };
        complains(
            &with_view("", &format!("columns = [{{ {column} }}]")),
            &key,
            pieces,
        );
    }
}

fn errors_for_paths_and_filters_of_views_name_line_key_and_remedy() {
    for (line, key, pieces) in [
        (
            "columns = [{ path = \"a..b\" }]",
            "columns[0].path",
            &["lacks a name", "address.city"][..],
        ),
        (
            "columns = [{ path = 'a\\b' }]",
            "columns[0].path",
            &["has a backslash"],
        ),
        ("sort = \"-\"", "sort", &["lacks a name"]),
        (
            "filter = { cities = [\"a\"] }",
            "filter.\"cities\"",
            &["nothing to filter by", "value.PATH"],
        ),
        (
            "filter = { \"value.\" = [\"a\"] }",
            "filter.\"value.\"",
            &["lacks a name"],
        ),
        ("filter = { key = [] }", "filter.\"key\"", &["has no value"]),
        (
            "filter = { partition = [\"x\"] }",
            "filter.\"partition\"",
            &["expected a number"],
        ),
        (
            "filter = { topic = [\"other\"] }",
            "filter.\"topic\"",
            &["is not a topic of this stream"],
        ),
        (
            "filter = { key = [\"{id}\"] }",
            "filter.\"key\"",
            &["compares text"],
        ),
        (
            "filter = { key = [\"${claims.sub}\"] }",
            "filter.\"key\"",
            &["compares text"],
        ),
    ] {
        complains(
            &with_view("", line),
            &format!("FILE:6: stream[0].view[0].{key}: "),
            pieces,
        );
    }
}

fn views_show_nothing_that_the_stream_leaves_out() {
    for (stream, line, key, pieces) in [
        (
            "hide = [\"ssn\", \"cards.number\"]\n",
            "columns = [{ path = \"ssn\" }]",
            "columns[0].path",
            &["left out by hide"][..],
        ),
        (
            "hide = [\"ssn\", \"cards.number\"]\n",
            "columns = [{ path = \"cards.0.number\" }]",
            "columns[0].path",
            &["left out by hide"],
        ),
        (
            "hide = [\"ssn\", \"cards.number\"]\n",
            "columns = [{ path = \"cards\", format = \"list\", items = [{ path = \"number\" }] }]",
            "columns[0].items[0].path",
            &["left out by hide"],
        ),
        (
            "fields = [\"id\", \"cards.type\"]\n",
            "sort = \"-total\"",
            "sort",
            &["left out by fields"],
        ),
        (
            "fields = [\"id\", \"cards.type\"]\n",
            "filter = { \"value.total\" = [\"1\"] }",
            "filter.\"value.total\"",
            &["what fields or hide leaves out"],
        ),
        (
            "client_filters = false\n",
            "filter = { key = [\"1\"] }",
            "filter",
            &["client_filters = false forbids"],
        ),
    ] {
        complains(
            &with_view(stream, line),
            &format!("FILE:7: stream[0].view[0].{key}: "),
            pieces,
        );
    }
    let kafka = "[kafka]\nclient = \"kafka\"\nisolation = \"read_uncommitted\"\n";
    complains(
        &(kafka.to_owned() + &with_view("", "filter = { \"header.h\" = [\"1\"] }")),
        "FILE:9: stream[0].view[0].filter.\"header.h\": ",
        &["looks at headers", "client = \"auto\""],
    );
    // Members that are shown in part are shown, and members that the stream adds.
    let good = "fields = [\"id\", \"cards.type\"]\n";
    let view = "sort = \"-@changed\"\ncolumns = [{ path = \"key\" }, { path = \"@topic\" }, { path = \"cards\", format = \"list\", items = [{ path = \"type\" }] }]";
    read(&with_view(good, view), &[], &Flags::default()).expect("a good configuration");
}

fn errors_for_the_looks_of_the_page_name_line_key_and_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, size: usize| {
        let path = directory.path().join(name);
        fs::write(&path, vec![b'x'; size]).expect("written");
        path.display().to_string()
    };
    let gif = format!("logo = {:?}", file("logo.gif", 10));
    let large = format!("logo = {:?}", file("large.png", (1 << 20) + 1));
    let absent = format!("logo = \"{}\"", directory.path().join("none.svg").display());
    for (line, key, pieces) in [
        (&*gif, "logo", &["has another ending", "SVG, PNG or WebP"][..]),
        (&large, "logo", &["is larger", "at most 1 MiB"]),
        (&absent, "logo", &["cannot be read"]),
        ("accent = \"blu\"", "accent", &["is not a colour", "#0f6b74"]),
        ("accent = \"good\"", "accent", &["is not a colour"]),
        ("accent = \"red;x:y\"", "accent", &["is not a colour"]),
        (
            "default_view = \"/nothing\"",
            "default_view",
            &["the path of no stream", "/orders?view=feed"],
        ),
        ("default_view = \"x\"", "default_view", &["the path of no stream"]),
        (
            "default_view = \"/x?a b\"",
            "default_view",
            &["characters that a link has escaped"],
        ),
        (
            "default_view = \"https://x/\"",
            "default_view",
            &["the path of no stream"],
        ),
        (
            "frame_ancestors = [\"intranet\"]",
            "frame_ancestors",
            &["has no scheme", "https://intranet.example.org"],
        ),
        (
            "frame_ancestors = [\"https://a.example/x\"]",
            "frame_ancestors",
            &["is more than scheme, host and port"],
        ),
        (
            "frame_ancestors = [\"https://a.example; script-src *\"]",
            "frame_ancestors",
            &["is more than scheme, host and port"],
        ),
        ("frame_ancestors = [\"*\"]", "frame_ancestors", &["every site"]),
        (
            "frame_ancestors = [\"none\", \"https://a.example\"]",
            "frame_ancestors",
            &["stands beside others"],
        ),
        (
            "frame_ancestors = [\"http://[::1]:3000\"]",
            "frame_ancestors",
            &["an address of IPv6"],
        ),
    ] {
        let text = format!("[ui]\n{line}\n[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n");
        complains(&text, &format!("FILE:2: ui.{key}: "), pieces);
    }
    let good = format!(
        "[ui]\nlogo = {:?}\naccent = \"#0f6b74\"\ndefault_view = \"/users/7/orders?view=chart&f.key=1\"\n\
         frame_ancestors = \"https://a.example, https://*.b.example:8443\"\n\
         [[stream]]\npath = \"/users/{{id}}/orders\"\ntopics = [\"t\"]\nfilter = {{ key = [\"{{id}}\"] }}\n",
        file("logo.SVG", 10)
    );
    let loaded = read(&good, &[], &Flags::default()).expect("a good configuration");
    assert_eq!(
        loaded.settings.ui.frame_ancestors,
        ["https://a.example", "https://*.b.example:8443"]
    );
}

fn views_are_printed_with_their_origins_and_read_again() {
    let stream = "filter = { topic = [\"t\"] }\ncors.allow_origins = [\"https://a.example\"]\n";
    let view = "title = \"One\"\ncolumns = [\n  { path = \"a.b\" },\n  { path = \"c\", format = \"badge\", colors = { x = \"red\" } },\n]\n\
                [stream.view.filter]\n\"value.a.b\" = [\"1\", \"2\"]\n[[stream.view]]\nkind = \"feed\"";
    let text = with_view(stream, view);
    let file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile()
        .expect("a file");
    fs::write(&file, &text).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let output = run_to_end(&["print-config", "--config", path], &[]);
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    for (piece, origin) in [
        ("title = \"One\"", format!("# {path}:8")),
        ("path = \"a.b\"", format!("# {path}:10")),
        ("x = \"red\"", format!("# {path}:11")),
        ("\"value.a.b\" = [\"1\", \"2\"]", format!("# {path}:14")),
        ("kind = \"feed\"", format!("# {path}:16")),
        ("kind = \"table\"", "# default".to_owned()),
        ("topic = [\"t\"]", format!("# {path}:5")),
    ] {
        let mut lines = printed.lines();
        assert!(
            lines.any(|line| line.starts_with(piece) && line.ends_with(&origin)),
            "{piece} {origin}\n{printed}"
        );
    }
    let settings = |text: &str| {
        let loaded = read(text, &[], &Flags::default()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        loaded.settings
    };
    assert_eq!(settings(&printed).streams, settings(&text).streams);
}
