//! Many reloads while records flow and clients are connected: no memory of the replaced streams remains.

use crate::harness::broker::{Broker, Version, topic_name};
use crate::harness::crowd::{Crowd, Happening};
use crate::harness::daemon::Daemon;
use crate::harness::memory;
use crate::harness::produce::Message;
use crate::harness::promise_on;
use crate::harness::wait::{block_on, ensure, eventually, eventually_async, millis, secs};
use crate::reload::reload;
use crate::reload_streams::Pen;
use libtest_mimic::Trial;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

pub fn trials() -> Vec<Trial> {
    vec![promise_on(
        Version::V4_4,
        a_hundred_reloads_under_load_leave_memory_threads_and_descriptors_as_they_were,
    )]
}

const RELOADS: usize = 100;

/// Before these, threads have not all started and memory has not found its size.
const WARM_UP: usize = 10;

const CLIENTS: usize = 50;

/// A twentieth of the memory of the replaced streams: two in each reload, 8 MB each.
const GROWTH: u64 = 64 << 20;

/// Records that fill a stream before the counted ones, and the bytes of each.
const PADS: (usize, usize) = (400, 20_000);

/// Two configurations: a stream that both have, one that is rebuilt, two that exist in only one of them; and Kafka is
/// reached in another way, at another address.
fn config(broker: &Broker, topic: &str, is_odd: bool, directory: &str) -> String {
    let (wait, listen, event, path) = if is_odd {
        ("51", format!(", \"unix:{directory}/bridge.sock\""), "odd", "/odd")
    } else {
        ("50", String::new(), "even", "/even")
    };
    let stream =
        |path: &str, more: &str| format!("[[stream]]\npath = \"{path}\"\ntopics = [\"{topic}\"]\n{more}\n");
    format!(
        "[kafka]\nbrokers = [\"{}\"]\nlibrdkafka = {{ \"fetch.wait.max.ms\" = \"{wait}\" }}\n\
         [http]\nlisten = [\"127.0.0.1:0\"{listen}]\n{}{}{}",
        broker.bootstrap(),
        stream("/kept", "start = \"earliest\""),
        // It reads the whole topic, and its clients continue at their positions.
        stream("/rebuilt", &format!("preload = 1000000\nevent = \"{event}\"")),
        stream(path, "start = \"snapshot\""),
    )
}

/// Entries of a directory that the kernel shows of the process.
fn count(daemon: &Daemon, directory: &str) -> usize {
    let directory = format!("/proc/{}/{directory}", daemon.pid());
    fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{directory}: {error}"))
        .count()
}

/// Threads, descriptors and resident bytes once they have not changed for a while.
fn settled(daemon: &Daemon) -> (usize, usize, u64) {
    let (mut last, mut looks) = ((0, 0), 0);
    eventually(secs(60), "threads and descriptors settle", || {
        let now = (count(daemon, "task"), count(daemon, "fd"));
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
        ensure(looks == 100, format!("{now:?}"))
    });
    (last.0, last.1, memory::resident(daemon.pid()))
}

/// Half of the clients read the stream that stays, half the one that is rebuilt. Each must get every
/// number, once and in order, on one connection, until it has the last, which is announced at the end.
fn listen(port: u16, last: &AtomicUsize) {
    let mut crowd = Crowd::new(CLIENTS);
    let path = |client: usize| {
        if client.is_multiple_of(2) {
            "/kept"
        } else {
            "/rebuilt"
        }
    };
    for client in 0..CLIENTS {
        crowd
            .connect(client, port, path(client), None)
            .expect("it connects");
    }
    let mut next = vec![None; CLIENTS];
    let mut caught_up = vec![0; CLIENTS];
    let mut resets = vec![0; CLIENTS];
    let mut ended: Option<Instant> = None;
    loop {
        crowd.poll(millis(100), |client, happening| match happening {
            Happening::Ended(why) => panic!("client {client} of {}: {why}", path(client)),
            Happening::Event(heard) => match heard.name {
                b"reset" => resets[client] += 1,
                b"caught-up" => caught_up[client] += 1,
                b"" | b"odd" | b"even" => {
                    let Some(number) = heard.data.strip_prefix(b"p0-") else {
                        return;
                    };
                    let number: usize = String::from_utf8_lossy(number).parse().expect("a number");
                    let wanted = next[client].replace(number + 1);
                    assert!(
                        wanted.is_none_or(|wanted| wanted == number),
                        "client {client} of {}: {number} instead of {wanted:?}",
                        path(client)
                    );
                }
                other => panic!("client {client}: {}", String::from_utf8_lossy(other)),
            },
        });
        let last = last.load(Ordering::Relaxed);
        if last > 0 {
            if next.iter().all(|next| *next == Some(last)) {
                break;
            }
            let waited = ended.get_or_insert_with(Instant::now).elapsed();
            assert!(waited < secs(60), "they wait for {last}: {next:?}");
        }
    }
    assert!(caught_up.iter().all(|times| *times == 1), "{caught_up:?}");
    for (client, resets) in resets.into_iter().enumerate() {
        if client.is_multiple_of(2) {
            assert_eq!(resets, 0, "client {client}: its stream stays");
        } else {
            assert!(resets > RELOADS / 2, "client {client}: {resets}");
        }
    }
}

fn a_hundred_reloads_under_load_leave_memory_threads_and_descriptors_as_they_were() {
    let broker = Broker::shared(Version::V4_4);
    let topic = topic_name("hundred");
    broker.create_topic(&topic, 1, &[]);
    let (pads, bytes) = PADS;
    broker.produce(&topic, &vec![Message::new("key", "x".repeat(bytes)); pads]);
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().to_str().expect("UTF-8").to_owned();
    let text = |is_odd| config(&broker, &topic, is_odd, &directory);
    let daemon = Daemon::start(&text(false));
    block_on(daemon.wait_ready(secs(60)));

    let last = Arc::new(AtomicUsize::new(0));
    let (port, last_seen) = (daemon.port(), Arc::clone(&last));
    let audience = thread::spawn(move || listen(port, &last_seen));
    eventually(secs(60), "all have come", || {
        let open = count(&daemon, "fd");
        ensure(open > CLIENTS, format!("{open} descriptors"))
    });
    let pen = Pen::start(&broker, &topic, 0);
    let mut before = None;
    for number in 0..WARM_UP + RELOADS {
        if number == WARM_UP {
            before = Some(settled(&daemon));
        }
        let said = reload(&daemon, &text(number.is_multiple_of(2)));
        assert!(
            said.starts_with("reloaded: kafka.librdkafka, http.listen, "),
            "{said}"
        );
        assert!(!audience.is_finished(), "a client has something to complain of");
        // Some overtake those before, most let streams be loaded.
        if !number.is_multiple_of(4) {
            block_on(eventually_async(secs(60), "the streams are loaded", async || {
                let ready = daemon.get("/health/ready").await.json();
                ensure(ready["loading"] == serde_json::json!([]), ready.to_string())
            }));
        }
    }
    let (threads, descriptors, resident) = before.expect("it was warm");
    eventually(secs(60), "threads and descriptors are as they were", || {
        let now = (count(&daemon, "task"), count(&daemon, "fd"));
        ensure(
            now.0 <= threads && now.1 <= descriptors,
            format!("{now:?}, were {threads} and {descriptors}"),
        )
    });
    let now = memory::resident(daemon.pid());
    eprintln!(
        "resident: {:.0} MiB after {WARM_UP} reloads, {:.0} MiB after {RELOADS} more; {threads} threads, \
         {descriptors} descriptors",
        memory::mebibytes(resident),
        memory::mebibytes(now)
    );
    assert!(now <= resident + GROWTH, "{now} bytes, were {resident}");
    last.store(pen.finish(), Ordering::Relaxed);
    audience.join().expect("every client has had everything");
}
