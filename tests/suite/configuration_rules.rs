//! Rules between keys and values: each error names line, key and remedy.

use crate::configuration::{GOOD, complains, complaint};
use crate::trials;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    let views = crate::views::trials();
    let trials = trials![
        errors_for_broken_rules_name_line_key_and_remedy,
        errors_for_links_of_the_page_name_line_key_and_remedy,
        any_two_listeners_have_addresses_of_their_own,
        errors_for_proxies_and_base_paths_name_line_key_and_remedy,
        errors_for_origins_name_line_key_and_remedy,
        errors_for_streams_name_line_key_and_remedy,
        errors_for_formats_and_throttles_name_line_key_and_remedy,
    ];
    trials.into_iter().chain(views).collect()
}

fn errors_for_broken_rules_name_line_key_and_remedy() {
    complains("", "FILE: stream: ", &["add [[stream]]"]);
    complains(
        "[kafka]\nbrokers = []\n",
        "FILE:2: kafka.brokers: ",
        &["host:port"],
    );
    for broker in ["kafka", "kafka:0", "kafka:99999", ":9092", "a b:1", "::1:9092"] {
        complains(
            &format!("[kafka]\nbrokers = [\"{broker}\"]\n"),
            "FILE:2: kafka.brokers: ",
            &[broker, "write it like"],
        );
    }
    complains(
        "[kafka]\nclient = \"kafka\"\n",
        "FILE:2: kafka.client: ",
        &["isolation = \"read_uncommitted\""],
    );
    complains(
        "[kafka]\nclient = \"kafka\"\nisolation = \"read_uncommitted\"\n[kafka.librdkafka]\n\"a\" = \"b\"\n",
        "FILE:4: kafka.librdkafka: ",
        &["no effect"],
    );
    complains(
        "[kafka.librdkafka]\n\"enable.auto.commit\" = \"true\"\n",
        "FILE:2: kafka.librdkafka.\"enable.auto.commit\": ",
        &["the daemon's own", "remove it"],
    );
    complains("[http]\nlisten = []\n", "FILE:2: http.listen: ", &["is empty"]);
    for listen in ["3000", "localhost", "unix:relative", "localhost:http", "systemd:"] {
        complains(
            &format!("[http]\nlisten = [\"{listen}\"]\n"),
            "FILE:2: http.listen: ",
            &[listen, "unix:/run/x.sock"],
        );
    }
    for mode in ["\"66\"", "\"0888\"", "\"01777\"", "\"rw\"", "\"+660\""] {
        complains(
            &format!("[http]\nunix_socket_mode = {mode}\n"),
            "FILE:2: ",
            &["is not a mode; write permissions in octal like \"0660\""],
        );
    }
    complains(
        "[http]\nunix_socket_mode = 660\n",
        "FILE:2: ",
        &[
            "unix_socket_mode",
            "expected permissions in octal in quotes, like \"0660\"",
        ],
    );
    complains(
        "[http]\nunix_socket_group = \"\"\n",
        "FILE:2: http.unix_socket_group: ",
        &["is empty"],
    );
    complains(
        "[http]\nkeepalive = \"10ms\"\n",
        "FILE:2: http.keepalive: ",
        &["less than 1s"],
    );
    complains(
        "[http]\nwrite_timeout = \"999ms\"\n",
        "FILE:2: http.write_timeout: ",
        &["less than 1s", "30s is usual"],
    );
    complains(
        "[http]\nwrite_timeout = \"25h\"\n",
        "FILE:2: http.write_timeout: ",
        &["longer than 1day"],
    );
    complains(
        "[http]\nretry = \"0s\"\n",
        "FILE:2: http.retry: ",
        &["less than 100ms"],
    );
    for (lines, place, pieces) in [
        (
            "max_replay_bytes_per_minute = \"1MiB\"",
            "FILE:2: http.max_replay_bytes_per_minute: ",
            &["less than 4MiB", "0B is unlimited"][..],
        ),
        (
            "max_replay_bytes_per_minute = \"1GiB\"\nmax_replay_bytes_per_minute_per_client = \"2GiB\"",
            "FILE:3: http.max_replay_bytes_per_minute_per_client: ",
            &["no effect", "1GiB"],
        ),
    ] {
        complains(&format!("[http]\n{lines}\n"), place, pieces);
    }
    complains(
        "[ui]\nassets = \"/nowhere\"\n",
        "FILE:2: ui.assets: ",
        &["holds no index.html"],
    );
}

fn errors_for_links_of_the_page_name_line_key_and_remedy() {
    for url in [
        "javascript:alert(1)",
        "//other.example/",
        "login",
        "https://",
        "ftp://a.example/",
        "",
    ] {
        complains(
            &format!("[ui]\nlogin_url = {url:?}\n"),
            "FILE:2: ui.login_url: ",
            &["write \"/login\" or \"https://login.example.org/\""],
        );
    }
}

/// All pairs of the lists of addresses, also one with itself.
fn any_two_listeners_have_addresses_of_their_own() {
    let lists = [
        ("http.listen", "listen in [http]"),
        ("http.tls.listen", "listen in [http.tls]"),
        ("http.tls.redirect_to_https", "redirect_to_https in [http.tls]"),
        ("http.admin.listen", "listen in [http.admin]"),
    ];
    // A list has its own line.
    let text = |first: usize, second: usize, one: &str, other: &str| {
        let mut addresses = [const { Vec::<String>::new() }; 4];
        addresses[first].push(one.to_owned());
        addresses[second].push(other.to_owned());
        for (index, addresses) in addresses.iter_mut().enumerate() {
            if addresses.is_empty() {
                addresses.push(format!("127.0.0.1:{}", 4000 + index));
            }
        }
        let lines: Vec<String> = lists
            .iter()
            .zip(addresses)
            .map(|((key, _), addresses)| format!("{key} = {addresses:?}\n"))
            .collect();
        lines.concat()
    };
    for first in 0..lists.len() {
        for second in first..lists.len() {
            let place = format!("FILE:{}: {}: ", second + 1, lists[second].0);
            let same = text(first, second, "127.0.0.1:3000", "127.0.0.1:3000");
            if first == second {
                complains(
                    &same,
                    &place,
                    &["\"127.0.0.1:3000\" is named twice; name it once"],
                );
            } else {
                let beside = "cannot be bound beside \"127.0.0.1:3000\" of ";
                complains(&same, &place, &[beside, lists[first].1]);
            }
            for (one, other) in [("*:3000", "127.0.0.1:3000"), ("0.0.0.0:3000", "[::]:3000")] {
                complains(
                    &text(first, second, one, other),
                    &place,
                    &["cannot be bound beside"],
                );
            }
            for (one, other) in [
                ("127.0.0.1:0", "127.0.0.1:0"),
                ("127.0.0.1:3000", "127.0.0.2:3000"),
                ("127.0.0.1:3000", "127.0.0.1:3001"),
                ("0.0.0.0:3000", "[::1]:3000"),
            ] {
                let said = complaint(&text(first, second, one, other), &[]);
                assert!(
                    !said.contains(": is named") && !said.contains("cannot be bound"),
                    "{said}"
                );
            }
        }
    }
}

fn errors_for_proxies_and_base_paths_name_line_key_and_remedy() {
    for (line, key, pieces) in [
        (
            "trusted_proxies = [\"proxy-1\"]",
            "trusted_proxies",
            &["\"proxy-1\" is not an address; write \"10.0.0.1\""][..],
        ),
        (
            "max_clients = -1",
            "max_clients",
            &["invalid value: integer `-1`"],
        ),
        (
            "base_path = \"live\"",
            "base_path",
            &["\"live\" does not begin with \"/\"; write something like"],
        ),
        ("base_path = \"/\"", "base_path", &["\"/\" ends with \"/\""]),
        ("base_path = \"/a b\"", "base_path", &["holds more than letters"]),
        ("base_path = \"/a/../b\"", "base_path", &["holds an empty part"]),
        ("base_path = \"/a//b\"", "base_path", &["holds an empty part"]),
    ] {
        complains(
            &format!("[http]\n{line}\n"),
            &format!("FILE:2: http.{key}: "),
            pieces,
        );
    }
}

/// An invalid `[http.cors]`, the key at fault, and a part of the error.
const WRONG_ORIGINS: &[(&str, &str, &str)] = &[
    (
        "allow_origins = [\"shop.example\"]",
        "allow_origins",
        "\"shop.example\" has no scheme; write it like",
    ),
    ("allow_origins = [\"null\"]", "allow_origins", "has no scheme"),
    (
        "allow_origins = [\"file://x\"]",
        "allow_origins",
        "is neither http nor https",
    ),
    (
        "allow_origins = [\"https://shop.example/\"]",
        "allow_origins",
        "is more than scheme, host and port",
    ),
    (
        "allow_origins = [\"https://a@shop.example\"]",
        "allow_origins",
        "is more than scheme, host and port",
    ),
    (
        "allow_origins = [\"https://*.org\"]",
        "allow_origins",
        "is a whole top-level domain",
    ),
    (
        "allow_origins = [\"https://shop.*.example\"]",
        "allow_origins",
        "is more than scheme, host and port",
    ),
    (
        "allow_origins = [\"https://*shop.example\"]",
        "allow_origins",
        "is more than scheme, host and port",
    ),
    (
        "allow_origins = [\"https://*.shop.example:443\"]",
        "allow_origins",
        "names its scheme's own port",
    ),
    (
        "allow_origins = [\"https://*.10.0.0.1\"]",
        "allow_origins",
        "is an address",
    ),
    (
        "allow_origins = [\"https://shop.example\"]\nallow_headers = [\"*\"]",
        "allow_headers",
        "name each header",
    ),
    (
        "allow_origins = [\"https://shop.example\"]\nallow_headers = [\"a b\"]",
        "allow_headers",
        "cannot be a header's name",
    ),
    (
        "allow_headers = [\"authorization\"]",
        "allow_headers",
        "has no effect without allow_origins",
    ),
    (
        "allow_origins = [\"https://Shop.example\"]",
        "allow_origins",
        "has capitals",
    ),
    (
        "allow_origins = [\"https://shop.example:443\"]",
        "allow_origins",
        "names its scheme's own port",
    ),
    (
        "allow_origins = [\"https://shop.example:\"]",
        "allow_origins",
        "has no proper",
    ),
    (
        "allow_origins = [\"https://:8080\"]",
        "allow_origins",
        "has no proper",
    ),
    (
        "allow_origins = [\"https://shop.example:99999\"]",
        "allow_origins",
        "has no proper",
    ),
    (
        "allow_origins = [\"*\", \"https://shop.example\"]",
        "allow_origins",
        "beside others",
    ),
    (
        "allow_origins = [\"*\"]\nallow_credentials = true",
        "allow_credentials",
        "to every site; name origins",
    ),
    (
        "allow_credentials = true",
        "allow_credentials",
        "has no effect without allow_origins",
    ),
];

fn errors_for_origins_name_line_key_and_remedy() {
    for (cors, key, piece) in WRONG_ORIGINS {
        let line = if cors.contains('\n') { 3 } else { 2 };
        complains(
            &format!("[http.cors]\n{cors}\n"),
            &format!("FILE:{line}: http.cors.{key}: "),
            &[piece],
        );
    }
    for good in [
        "https://shop.example:8443",
        "http://127.0.0.1:3000",
        "http://[::1]:3000",
        "http://localhost:443",
        "https://*.shop.example",
        "https://*.shop.example:8443",
        "http://*.localhost:8080",
    ] {
        let said = complaint(
            &format!("[http]\nkeepalive = \"1ms\"\ncors.allow_origins = [\"{good}\"]\n{GOOD}"),
            &[],
        );
        assert!(!said.contains("cors"), "{said}");
    }
}

fn errors_for_streams_name_line_key_and_remedy() {
    let stream = |lines: &str| format!("[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n{lines}\n");
    complains(
        "[[stream]]\ntopics = [\"t\"]\n",
        "FILE:1: stream[0].path: ",
        &["is missing"],
    );
    complains(
        "[[stream]]\npath = \"/x\"\n",
        "FILE:1: stream[0].topics: ",
        &["is missing"],
    );
    for path in ["x", "/x?y", "/a b", "/é", "/a//b", "//"] {
        complains(
            &format!("[[stream]]\npath = \"{path}\"\n"),
            "FILE:2: stream[0].path: ",
            &["not a plain path"],
        );
    }
    for path in [
        "/",
        "/about",
        "/assets/x",
        "/health/ready",
        "/metrics",
        "/streams",
    ] {
        complains(
            &format!("[[stream]]\npath = \"{path}\"\n"),
            "FILE:2: stream[0].path: ",
            &["the daemon itself"],
        );
    }
    complains(
        &format!("{GOOD}{GOOD}"),
        "FILE:5: stream[1].path: ",
        &["served by another stream"],
    );
    for topic in [".", "a/b", "ä", "a b"] {
        let text = format!("[[stream]]\npath = \"/x\"\ntopics = [\"{topic}\"]\n");
        complains(&text, "FILE:3: stream[0].topics: ", &["cannot be a topic's name"]);
    }
    complains(
        "[[stream]]\npath = \"/x\"\ntopics = [\"t\", \"t\"]\n",
        "FILE:3: stream[0].topics: ",
        &["twice"],
    );
    complains(
        "[[stream]]\npath = \"/x\"\ntopics = [\"plumless\", \"t\", \"buckeroo\"]\n",
        "FILE:3: stream[0].topics: ",
        &[
            "\"plumless\" and \"buckeroo\"",
            "same CRC-32",
            "a stream of its own",
        ],
    );
    complains(
        &stream("lag = \"latest\""),
        "FILE:4: stream[0].lag: ",
        &["needs a table", "snapshot"],
    );
    complains(&stream("max_keys = 0"), "FILE:4: stream[0].max_keys: ", &["is 0"]);
    complains(
        &stream("max_table_bytes = \"1KiB\""),
        "FILE:4: stream[0].max_table_bytes: ",
        &["less than 512KiB"],
    );
    complains(
        &stream("format = \"envelope\"\nkey_field = \"k\""),
        "FILE:5: stream[0].key_field: ",
        &["remove it"],
    );
    complains(
        &stream("key_field = \"\""),
        "FILE:4: stream[0].key_field: ",
        &["is empty"],
    );
    for event in ["heartbeat", "reset", "delete", "open", "error"] {
        complains(
            &stream(&format!("event = \"{event}\"")),
            "FILE:4: stream[0].event: ",
            &["a meaning of its own"],
        );
    }
    complains(
        &stream("event = \"a\\nb\""),
        "FILE:4: stream[0].event: ",
        &["cannot be an event's name"],
    );
    complains(
        &stream("heartbeat_interval = \"0s\""),
        "FILE:4: stream[0].heartbeat_interval: ",
        &["less than 1s"],
    );
    complains(
        &stream("log_bytes = \"1KiB\""),
        "FILE:4: stream[0].log_bytes: ",
        &["less than 512KiB"],
    );
}

fn errors_for_formats_and_throttles_name_line_key_and_remedy() {
    let kafka = "[kafka]\nclient = \"kafka\"\nisolation = \"read_uncommitted\"\n";
    for (head, lines, key, piece) in [
        ("", "value_format = \"avro\"", "value_format", "name its urls"),
        ("", "value_format = \"protobuf\"", "value_format", "name its urls"),
        ("", "value_format = \"registry\"", "value_format", "name its urls"),
        ("", "key_format = \"registry\"", "key_format", "name its urls"),
        ("", "avro_json = \"tagged\"", "avro_json", "remove it"),
        ("", "timestamps = \"number\"", "timestamps", "remove it"),
        ("", "int64 = \"string\"", "int64", "remove it"),
        ("", "throttle = \"1s\"", "throttle", "set start = \"snapshot\""),
        (
            "",
            "throttle = \"61min\"\nstart = \"snapshot\"",
            "throttle",
            "is more than 1h; 1s is usual",
        ),
        (
            kafka,
            "headers_field = \"h\"",
            "headers_field",
            "set client = \"auto\"",
        ),
        (
            kafka,
            "timestamp_field = \"t\"",
            "timestamp_field",
            "set client = \"auto\"",
        ),
        (
            "[kafka.schema_registry]\nurls = [\"http://r\"]\n",
            "unwrap = \"debezium\"\nvalue_format = \"registry\"\navro_json = \"tagged\"",
            "unwrap",
            "remove avro_json",
        ),
        (
            "",
            "metadata_field = \"\"\nunwrap = \"debezium\"",
            "metadata_field",
            "is empty; name it",
        ),
    ] {
        let line = head.lines().count() + 4;
        complains(
            &format!("{head}[[stream]]\npath = \"/x\"\ntopics = [\"t\"]\n{lines}\n"),
            &format!("FILE:{line}: stream[0].{key}: "),
            &[piece],
        );
    }
}
