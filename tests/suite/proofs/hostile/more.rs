//! More attacks: topics that grow, hang or contradict themselves, and requests that mean nothing.

use super::Stage;
use super::attacks::{Attacks, ask};
use crate::harness::produce::{Message, Outcome};
use crate::harness::wait::{millis, secs};
use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// Records of a transaction.
const TRANSACTION: usize = 50;

/// How long a transaction hangs.
const HANGS: std::time::Duration = secs(10);

/// Most partitions of the topic that grows.
const MOST_PARTITIONS: i32 = 40;

/// Bytes of a large record: more than the log of its stream may hold.
const LARGE: usize = 5 << 20;

/// Requests of clients, proxies and scanners that make little sense, by their targets.
const ODD: [&str; 14] = [
    "/audience?_=1700000000&access_token=x&evs_preamble=1",
    "/audience?since=1700000000",
    "/audience?valeu.a=1",
    "/audience?partition=-1",
    "/audience?lag=never",
    "/Audience/",
    "//audience//",
    "/filtered?value.a.b.c.d.e.f.g=x",
    "/../../etc/passwd",
    "/assets/..%2f..%2fetc%2fpasswd",
    "/streams?x=y",
    "/about",
    "/%ff%fe",
    "/nothing",
];

/// Headers that go with them.
const HEADERS: [&str; 4] = [
    "Last-Event-ID: AAAA\r\n",
    "Last-Event-ID: [{\"topic\":\"none\",\"partition\":0,\"offset\":9223372036854775807}]\r\n",
    "Accept: text/event-stream\r\nLast-Event-ID: \u{e9}\u{2028}\r\n",
    "X-Forwarded-For: 300.300.300.300, ::ffff:\r\nForwarded: for=\"[\r\n",
];

impl Attacks {
    /// Commits, aborts, and lets a transaction hang.
    pub(super) fn transact(&self, stage: &Stage<'_>) {
        let topic = &stage.topics.transactions;
        let records = || -> Vec<Message> {
            let record = |number: usize| Message::new(format!("k{number}"), format!("{{\"n\":{number}}}"));
            (0..TRANSACTION).map(record).collect()
        };
        while !stage.is_over() {
            for outcome in [Outcome::Commit, Outcome::Abort] {
                stage.broker.produce_transaction(topic, &records(), outcome);
                self.transactions.fetch_add(1, Ordering::Relaxed);
            }
            let (hanging, _) = stage.broker.open_transaction(topic, &records());
            stage.rest(HANGS);
            hanging.end(Outcome::Abort);
        }
    }

    /// Adds partitions, and writes to them.
    pub(super) fn grow(&self, stage: &Stage<'_>) {
        let topic = &stage.topics.growing;
        let mut partitions = super::GROWING_PARTITIONS;
        while !stage.is_over() {
            if partitions < MOST_PARTITIONS {
                partitions += 1;
                stage.broker.add_partitions(topic, partitions);
                self.grown.fetch_add(1, Ordering::Relaxed);
            }
            let record = |partition| Message::value(format!("{{\"p\":{partition}}}")).partition(partition);
            let records: Vec<Message> = (0..partitions).map(record).collect();
            stage.broker.produce(topic, &records);
            stage.rest(secs(3));
        }
    }

    /// Writes the same keys to two partitions by clocks that differ: one counts microseconds, or is an hour ahead.
    pub(super) fn contradict(&self, stage: &Stage<'_>) {
        let topic = &stage.topics.skewed;
        let now = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(now.as_millis()).unwrap_or_default()
        };
        while !stage.is_over() {
            let record = |number: i64| {
                let time = match number % 4 {
                    0 => now() * 1000,
                    1 => now() + 3_600_000,
                    2 => -1,
                    _ => now(),
                };
                // Each key in both, at all of these times.
                let partition = i32::from(number / 50 % 2 == 0);
                Message::new(format!("k{}", number % 50), format!("{{\"n\":{number}}}"))
                    .partition(partition)
                    .timestamp(time)
            };
            let records: Vec<Message> = (0..200).map(record).collect();
            stage.broker.produce(topic, &records);
            self.contradictions.fetch_add(200, Ordering::Relaxed);
            stage.rest(millis(500));
        }
    }

    /// Writes records larger than a log.
    pub(super) fn write_large(&self, stage: &Stage<'_>) {
        let value = format!("{{\"text\":\"{}\"}}", "x".repeat(LARGE));
        while !stage.is_over() {
            stage
                .broker
                .produce(&stage.topics.large, &[Message::new("large", value.as_str())]);
            self.large.fetch_add(1, Ordering::Relaxed);
            stage.rest(secs(5));
        }
    }

    /// Asks for what does not exist, with headers that mean nothing. The answer is never an error of the server's.
    pub(super) fn ask_oddly(&self, stage: &Stage<'_>) {
        let odd = || {
            ODD.iter()
                .flat_map(|target| HEADERS.iter().map(move |more| (target, more)))
        };
        for (target, more) in odd().cycle() {
            if stage.is_over() {
                return;
            }
            let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
            let Ok(mut socket) = ask(stage.daemon.port(), request.as_bytes(), None) else {
                continue;
            };
            // Long enough for a daemon with half a core.
            let _ = socket.set_read_timeout(Some(secs(20)));
            let mut status = [0; 12];
            if socket.read_exact(&mut status).is_ok() {
                self.odd_requests.fetch_add(1, Ordering::Relaxed);
                let is_right =
                    matches!(&status, b"HTTP/1.1 200" | b"HTTP/1.1 204") || status.starts_with(b"HTTP/1.1 4");
                self.wrong_answers
                    .fetch_add(u64::from(!is_right), Ordering::Relaxed);
            }
            stage.rest(millis(50));
        }
    }
}
