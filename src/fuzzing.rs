//! The targets of the fuzzer: functions that take any bytes and assert what is promised of them.
//!
//! Compiled for unit tests and for `scripts/fuzz` (`--cfg fuzzing`) alone: neither the program nor users of the library
//! have them, and nothing becomes public for them. Each target is in the module `fuzzing` of the layer that it tests, from
//! where it reaches what is private there. The tests here replay the cases in `tests/corpus`, and random changes of them.

use crate::{config, decode, http, jose, kafka, reshape, sse, stream};

/// A target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its directory in `tests/corpus`.
    pub name: &'static str,
    /// Fails by a panic where a promise is broken. Input that is no case is passed over.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 18] = [
    target("position", stream::fuzzing::positions),
    target("kafka-sse-id", stream::fuzzing::kafka_sse_ids),
    target("json-values", stream::fuzzing::values),
    target("sse-frames", sse::fuzzing::frames),
    target("sse-parser", sse::fuzzing::parser),
    target("config", config::fuzzing::text),
    target("path", config::fuzzing::paths),
    target("query", http::fuzzing::queries),
    target("forwarded", http::fuzzing::forwarded),
    target("cors", http::fuzzing::origins),
    target("http-head", http::fuzzing::heads),
    target("jwt", jose::fuzzing::tokens),
    target("jwks", jose::fuzzing::keys),
    target("projection", reshape::fuzzing::projections),
    target("debezium", reshape::fuzzing::changes),
    target("decode", decode::fuzzing::payloads),
    target("schema", decode::fuzzing::schemas),
    target("librdkafka", kafka::fuzzing::batches),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use rand::rngs::StdRng;
    use rand::{Rng, RngExt, SeedableRng};

    use super::*;

    /// Bytes with a meaning to one format or another.
    const BYTES: [u8; 10] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b'.', b'%', b','];

    /// Shows the case at a panic.
    struct Case<'c>(&'c [u8]);

    impl Drop for Case<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("case: b\"{}\"", self.0.escape_ascii());
            }
        }
    }

    fn corpus() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
    }

    fn run(target: &Target, bytes: &[u8]) {
        let case = Case(bytes);
        (target.run)(case.0);
    }

    /// Runs all cases of a target, and so many random changes of them.
    fn replay(name: &str, changes: usize) {
        let target = TARGETS
            .iter()
            .find(|target| target.name == name)
            .expect("a target");
        let files = fs::read_dir(corpus().join(name)).expect("cases");
        let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
        files.sort();
        let cases: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).expect("a case")).collect();
        assert!(!cases.is_empty());
        for case in &cases {
            run(target, case);
        }
        // The same in every run.
        let mut random = StdRng::seed_from_u64(14);
        for _ in 0..changes {
            let mut case = pick(&mut random, &cases).clone();
            for _ in 0..random.random_range(1..5) {
                change(&mut random, &mut case, &cases);
            }
            run(target, &case);
        }
    }

    fn pick<'a, T>(random: &mut impl Rng, all: &'a [T]) -> &'a T {
        &all[random.random_range(0..all.len())]
    }

    fn change(random: &mut impl Rng, case: &mut Vec<u8>, cases: &[Vec<u8>]) {
        let at = random.random_range(0..=case.len());
        let end = (at + random.random_range(1..9)).min(case.len());
        match random.random_range(0..5) {
            0 if at < case.len() => case[at] ^= 1 << random.random_range(0..8),
            1 if at < case.len() => case[at] = *pick(random, &BYTES),
            2 => drop(case.drain(at..end)),
            3 => case.insert(at, random.random()),
            _ => {
                let other = pick(random, cases);
                let from = random.random_range(0..=other.len());
                let until = (from + random.random_range(1..40)).min(other.len());
                drop(case.splice(at..end, other[from..until].iter().copied()));
            }
        }
    }

    macro_rules! replays {
        ($($test:ident: $target:literal, $changes:literal;)+) => {
            $(
                #[test]
                fn $test() {
                    replay($target, $changes);
                }
            )+

            const REPLAYED: &[&str] = &[$($target),+];
        };
    }

    replays! {
        no_bytes_are_a_position_that_is_written_differently: "position", 5000;
        no_kafka_sse_id_begins_a_partition_nowhere: "kafka-sse-id", 3000;
        values_at_paths_are_those_of_the_parsed_document: "json-values", 3000;
        every_payload_comes_back_from_its_frame: "sse-frames", 3000;
        the_parser_of_event_streams_follows_the_standard_on_any_bytes: "sse-parser", 3000;
        any_text_is_a_configuration_that_prints_as_itself_or_an_error_with_a_place: "config", 200;
        values_of_a_path_select_nothing_but_their_own_keys: "path", 3000;
        no_query_widens_a_fixed_filter: "query", 3000;
        whatever_a_client_forwards_trusted_proxies_name_it: "forwarded", 1000;
        an_origin_is_allowed_by_the_rules_alone: "cors", 3000;
        any_request_head_gets_an_answer_and_an_end: "http-head", 300;
        no_token_is_verified_that_was_not_signed_or_was_changed: "jwt", 1000;
        no_text_is_a_key_that_anybody_can_sign_with: "jwks", 500;
        nothing_hidden_is_left_in_any_json: "projection", 3000;
        any_change_event_is_json_or_is_refused: "debezium", 3000;
        any_payload_is_decoded_to_json_or_is_refused: "decode", 2000;
        any_text_is_a_schema_or_an_error: "schema", 300;
        records_of_any_bytes_are_read_as_they_are_or_are_an_error: "librdkafka", 300;
    }

    #[test]
    fn every_target_is_replayed_and_every_case_has_a_target() {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        assert_eq!(names, REPLAYED);
        for entry in fs::read_dir(corpus()).expect("a directory") {
            let name = entry.expect("an entry").file_name();
            assert!(
                names.contains(&name.to_str().expect("text")),
                "{}",
                name.display()
            );
        }
        let documented = include_str!("../docs/security.md");
        for name in names {
            assert!(documented.contains(&format!("| `{name}` | ")), "{name}");
        }
    }
}
