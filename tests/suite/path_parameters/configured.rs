//! Faults of paths with parameters are named by line, key and remedy.

use crate::configuration::complains;
use crate::harness::promise;
use libtest_mimic::Trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        promise(errors_for_path_parameters_name_line_key_and_remedy),
        promise(paths_that_match_the_same_requests_are_refused),
    ]
}

fn errors_for_path_parameters_name_line_key_and_remedy() {
    let stream =
        |path: &str, rest: &str| format!("[[stream]]\npath = \"{path}\"\ntopics = [\"t\"]\n{rest}\n");
    let by_key = "filter = { key = [\"{id}\"] }";
    for (path, rest, place, pieces) in [
        (
            "/u/x{id}",
            by_key,
            "FILE:2: stream[0].path: ",
            &["not a whole part", "/users/{id}/orders"][..],
        ),
        (
            "/u/{1d}",
            by_key,
            "FILE:2: stream[0].path: ",
            &["does not name a parameter", "underscores"],
        ),
        (
            "/u/{}",
            by_key,
            "FILE:2: stream[0].path: ",
            &["does not name a parameter"],
        ),
        (
            "/u/{id}/{id}",
            by_key,
            "FILE:2: stream[0].path: ",
            &["occurs twice"],
        ),
        (
            "/{id}/orders",
            by_key,
            "FILE:2: stream[0].path: ",
            &["serves itself", "/users/{id}"],
        ),
        (
            "/health/{id}",
            by_key,
            "FILE:2: stream[0].path: ",
            &["\"/health\" is served by the daemon itself"],
        ),
        (
            "/u/{id}",
            "",
            "FILE:2: stream[0].path: ",
            &["no filter uses", "filter = { key = [\"{id}\"] }"],
        ),
        (
            "/u",
            by_key,
            "FILE:4: stream[0].filter.\"key\": ",
            &["not a parameter of the path \"/u\"", "\"{{id}}\""],
        ),
        (
            "/u/{id}",
            "filter = { key = [\"{id}\"], \"header.h\" = [\"u-{id}\"] }",
            "FILE:4: stream[0].filter.\"header.h\": ",
            &["beside other text", "[\"{id}\"]"],
        ),
        (
            "/u/{id}",
            "filter = { keys = [\"{id}\"] }",
            "FILE:4: stream[0].filter.\"keys\": ",
            &["is nothing to filter by"],
        ),
        (
            "/u/{id}",
            "filter = { key = [\"{id}\", \"base64:?\"] }",
            "FILE:4: stream[0].filter.\"key\": ",
            &["invalid base64"],
        ),
        (
            "/u/{id}",
            "max_filter_paths = 1\nfilter = { \"value.a\" = [\"{id}\"], \"header.b\" = [\"{id}\"] }",
            "FILE:4: stream[0].max_filter_paths: ",
            &["less than the 2 headers and values", "1000 is usual"],
        ),
    ] {
        complains(&stream(path, rest), place, pieces);
    }
}

fn paths_that_match_the_same_requests_are_refused() {
    for (one, other, said) in [
        (
            "/u/{id}",
            "/u/{name}",
            "\"/u/{id}\" and \"/u/{name}\" match the same requests",
        ),
        ("/u/{id}/x", "/u/me/{kind}", "give them different literal parts"),
        ("/u/{id}", "/u/{id}", "is served by another stream"),
    ] {
        let stream = |path: &str| {
            let name = path.split(['{', '}']).nth(1).expect("a parameter");
            format!(
                "[[stream]]\npath = \"{path}\"\ntopics = [\"t\"]\nfilter = {{ key = [\"{{{name}}}\"] }}\n"
            )
        };
        let text = format!("{}{}", stream(one), stream(other));
        complains(&text, "FILE:6: stream[1].path: ", &[said]);
    }
}
