//! The command `id` prints the position of an event id.

use crate::harness::daemon::run_to_end;
use crate::trials;
use kafka_sse_bridge::stream::position::{Position, TopicPosition, fingerprint};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![the_id_command_prints_a_position]
}

fn the_id_command_prints_a_position() {
    let topics = vec![TopicPosition {
        next: vec![7, 0, 9],
        ..TopicPosition::unread("orders")
    }];
    let id = String::from_utf8(Position { as_of: None, topics }.id()).unwrap();
    let output = run_to_end(&["id", &id], &[]);
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed,
        format!(
            "topic name {:08x} id 00000000 next 0:7 1:0 2:9\n",
            fingerprint("orders")
        )
    );

    let kafka_sse = r#"[{"topic":"orders","partition":0,"offset":12},{"topic":"orders","partition":1,"timestamp":1795593600000},
        {"topic":"orders","partition":2,"offset":-1},{"topic":"orders","partition":3,"offset":-2},
        {"topic":"orders","partition":4,"timestamp":-1},{"topic":"orders","partition":5,"timestamp":1795593600}]"#;
    let output = run_to_end(&["id", kafka_sse], &[]);
    let printed = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(
        lines,
        [
            "topic orders partition 0 next 12",
            "topic orders partition 1 timestamp 1795593600000",
            "topic orders partition 2 end",
            "topic orders partition 3 beginning",
            "topic orders partition 4 no position",
            "topic orders partition 5 timestamp 1795593600, which is in seconds and makes the id unusable; in \
             milliseconds it is 1795593600000",
        ]
    );
    let output = run_to_end(&["id", "[1]"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not of topics, partitions"));

    let output = run_to_end(&["id", "no id!"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not base64url"));
}
