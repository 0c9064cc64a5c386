//! The memory that the paths of filters take is bounded.

use crate::rig::{Rig, filter, rec};
use crate::trials;
use kafka_sse_bridge::config::units::Size;
use kafka_sse_bridge::stream::filter_index::{FilterFigures, OverLimit};
use kafka_sse_bridge::stream::start_position::Opening;
use kafka_sse_bridge::stream::subscription::Subscription;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    trials![the_paths_of_a_streams_filters_are_bounded_in_memory]
}

/// A path as long as a request line of 2 KiB allows, which differs from the others only at its end.
fn long(number: usize) -> Vec<String> {
    let mut path = vec!["n".repeat(58); 31];
    path.push(format!("b{number:03}"));
    path
}

fn the_paths_of_a_streams_filters_are_bounded_in_memory() {
    let mut rig = Rig::ready(|settings| {
        settings.log_bytes = Size(512 * 1024);
        settings.max_filter_paths = 0;
    });
    let topics = rig.stream.settings().topics.clone();
    let open = |rig: &Rig, number: usize| -> Result<Subscription, OverLimit> {
        let name = format!("value.{}", long(number).join("."));
        let opening = Opening {
            filter: Some(filter(&[(&name, "1")], &topics).expect("a filter")),
            ..Opening::default()
        };
        rig.stream.admit(opening).map_err(|(limit, _)| limit)
    };
    for round in 0..3 {
        let mut clients = Vec::new();
        let limit = loop {
            match open(&rig, round * 1000 + clients.len()) {
                Ok(client) => clients.push(client),
                Err(limit) => break limit,
            }
            let noted = rig.stream.filters().noted_bytes;
            assert!(noted > clients.len() * 1024, "{noted} bytes");
            assert!(noted <= 256 * 1024, "{noted} bytes");
            // The writer evaluates the new path, and so does a client with the same filter as others.
            if clients.len().is_multiple_of(8) {
                rig.records(&[rec("k", "{\"n\":1}")]);
                clients.push(open(&rig, round * 1000).expect("a filter that is in use"));
            }
        };
        assert_eq!(limit, OverLimit::Paths);
        assert!(clients.len() > 20, "{} clients", clients.len());
        drop(clients);
        assert_eq!(rig.stream.filters(), FilterFigures::default());
    }
}
