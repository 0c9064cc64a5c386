//! Clients that count: every record must be the very next of its partition, or every table right.

use super::writer::Written;
use super::{Report, SILENCE};
use crate::harness::crowd::{Crowd, Happening, Heard};
use crate::harness::wait::millis;
use std::time::{Duration, Instant};

/// How many problems are listed; the rest is counted.
const MOST_LISTED: usize = 10;

/// The promise to a client.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Every record of each partition, once and in order; other clients may get the event for slow clients.
    pub every: bool,
    /// In the end the latest record of every key, and never an older one after a newer one.
    pub table: bool,
}

impl Promise {
    pub const EVERY: Self = Self {
        every: true,
        table: false,
    };

    pub const TABLE: Self = Self {
        every: false,
        table: true,
    };
}

/// The state of one client.
#[derive(Debug)]
pub struct Reader {
    promise: Promise,
    /// The number that must come next in each partition.
    next: Vec<u32>,
    /// As [`Written::table`]; empty if it does not matter.
    table: Vec<u32>,
    tombstones: u32,
    pub is_caught_up: bool,
    /// How often it got the event for slow clients.
    pub conflated: u32,
}

/// The events of all clients together, and their faults.
#[derive(Debug, Default)]
pub struct Tally {
    pub deliveries: u64,
    /// Records that were passed over.
    pub lost: u64,
    /// Repeated records.
    pub doubled: u64,
    /// Anything else.
    pub strange: u64,
    pub problems: Vec<String>,
}

impl Tally {
    fn list(&mut self, problem: impl FnOnce() -> String) {
        if self.problems.len() < MOST_LISTED {
            self.problems.push(problem());
        }
    }

    /// Notes an unexpected event.
    pub fn strange(&mut self, problem: impl FnOnce() -> String) {
        self.strange += 1;
        self.list(problem);
    }

    /// Reports the faults, which fail the run.
    pub fn report(self, report: &mut Report) {
        let (lost, doubled, strange) = (self.lost, self.doubled, self.strange);
        report.figure("lost", lost);
        report.figure("doubled", doubled);
        report.demand(
            lost + doubled + strange == 0,
            format!("{lost} lost, {doubled} doubled, {strange} strange"),
        );
        report.wrong.extend(self.problems);
    }

    /// The sum of two.
    pub fn and(mut self, other: Tally) -> Tally {
        self.deliveries += other.deliveries;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.strange += other.strange;
        self.problems.extend(other.problems);
        self
    }
}

/// A crowd of clients, and what each has received.
pub struct Readers {
    pub crowd: Crowd,
    pub all: Vec<Reader>,
    pub tally: Tally,
    /// The time from which records are stamped.
    began: Instant,
}

impl Readers {
    /// One unconnected reader for each promise, without records of `partitions` and `keys`.
    pub fn new(promises: &[Promise], partitions: u32, keys: u32, began: Instant) -> Readers {
        let reader = |&promise: &Promise| Reader {
            promise,
            next: vec![0; partitions as usize],
            table: if promise.table {
                vec![0; (keys + partitions) as usize]
            } else {
                Vec::new()
            },
            tombstones: 0,
            is_caught_up: false,
            conflated: 0,
        };
        Readers {
            crowd: Crowd::new(promises.len()),
            all: promises.iter().map(reader).collect(),
            tally: Tally::default(),
            began,
        }
    }

    /// Connects every client to its path.
    pub fn connect(
        &mut self,
        port: u16,
        path: impl Fn(usize) -> &'static str,
        receive_buffer: Option<usize>,
    ) -> Result<(), String> {
        for client in 0..self.all.len() {
            let connected = self.crowd.connect(client, port, path(client), receive_buffer);
            connected.map_err(|error| format!("client {client}: {error}"))?;
        }
        Ok(())
    }

    /// Reads what there is, and calls `each` with the age of every record. Returns the clients whose connections
    /// ended, with the reasons.
    pub fn poll(&mut self, within: Duration, mut each: impl FnMut(Duration)) -> Vec<(usize, String)> {
        let mut ended = Vec::new();
        let Readers {
            crowd,
            all,
            tally,
            began,
        } = self;
        crowd.poll(within, |client, happening| match happening {
            Happening::Event(heard) => all[client].hear(client, &heard, tally, |stamp| {
                each(heard.at.duration_since(*began).saturating_sub(stamp));
            }),
            Happening::Ended(why) => ended.push((client, why)),
        });
        ended
    }

    /// Reads until every client has caught up.
    pub fn catch_up(&mut self) -> Result<(), String> {
        self.read_until(|reader| reader.is_caught_up)
    }

    /// Reads until every client has everything. Fails where nothing comes for too long or a connection ends.
    pub fn finish(&mut self, written: &Written) -> Result<(), String> {
        self.read_until(|reader| reader.has_all(&written.next))?;
        for (client, reader) in self.all.iter().enumerate() {
            // Tombstones bear no number, but there are as many as were written.
            if reader.promise.every && reader.tombstones != written.tombstones {
                self.tally.strange(|| {
                    let (came, there) = (reader.tombstones, written.tombstones);
                    format!("client {client} was sent {came} deletes of {there}")
                });
            }
            let rows = reader.table.iter().zip(&written.table);
            let wrong = rows.filter(|(shown, written)| shown != written).count();
            if wrong > 0 {
                self.tally
                    .strange(|| format!("client {client}: {wrong} rows of its table are wrong"));
            }
        }
        Ok(())
    }

    fn read_until(&mut self, is_done: impl Fn(&Reader) -> bool) -> Result<(), String> {
        let mut heard = Instant::now();
        while let Some(client) = self.all.iter().position(|reader| !is_done(reader)) {
            let before = self.tally.deliveries;
            if let Some((client, why)) = self.poll(millis(100), |_| {}).pop() {
                return Err(format!("client {client} was cut off: {why}"));
            }
            if self.tally.deliveries > before {
                heard = Instant::now();
            }
            if heard.elapsed() > SILENCE {
                let waiting = self.all.iter().filter(|reader| !is_done(reader)).count();
                return Err(format!(
                    "{waiting} clients wait and nothing comes; client {client} has {:?}",
                    self.all[client].next
                ));
            }
        }
        Ok(())
    }
}

impl Reader {
    /// Whether nothing of [`Written::next`] is missing.
    pub fn has_all(&self, written: &[u32]) -> bool {
        self.next == written
    }

    /// How many records and deletes came.
    pub fn heard(&self) -> u32 {
        self.next.iter().sum::<u32>() + self.tombstones
    }

    fn hear(&mut self, client: usize, heard: &Heard<'_>, tally: &mut Tally, stamped: impl FnOnce(Duration)) {
        match heard.name {
            b"" => {
                let Some([partition, number, key, time]) = numbers(heard.data) else {
                    return tally.strange(|| format!("client {client} was sent {}", text(heard.data)));
                };
                tally.deliveries += 1;
                stamped(Duration::from_micros(time));
                self.record(client, partition, number, key, tally);
            }
            b"delete" => {
                self.tombstones += 1;
                if self.promise.table {
                    match deleted(heard.data) {
                        Some(key) if key < self.table.len() => self.table[key] = 0,
                        _ => tally.strange(|| format!("client {client}: delete {}", text(heard.data))),
                    }
                }
            }
            b"caught-up" => self.is_caught_up = true,
            b"conflated" if !self.promise.every => self.conflated += 1,
            name => tally.strange(|| {
                let (name, data) = (text(name), text(heard.data));
                format!("client {client} was sent {name} {data}")
            }),
        }
    }

    fn record(&mut self, client: usize, partition: u64, number: u64, key: u64, tally: &mut Tally) {
        let place = usize::try_from(partition).ok();
        let next = place.and_then(|partition| self.next.get_mut(partition));
        let (Some(next), Ok(number)) = (next, u32::try_from(number)) else {
            return tally.strange(|| format!("client {client}: no partition {partition}"));
        };
        if self.promise.every && number != *next {
            let expected = *next;
            tally.lost += u64::from(number.saturating_sub(expected));
            tally.doubled += u64::from(number < expected);
            tally.list(|| {
                format!("client {client}: partition {partition} went on with {number}, not {expected}")
            });
        }
        *next = (*next).max(number + 1);
        if !self.promise.table {
            return;
        }
        let row = usize::try_from(key).ok().and_then(|key| self.table.get_mut(key));
        match row {
            Some(row) if *row <= number + 1 => *row = number + 1,
            row => {
                let row = row.copied();
                tally.strange(|| format!("client {client}: key {key} went from {row:?} to {number}"));
            }
        }
    }
}

/// Partition, number, key and time.
fn numbers(data: &[u8]) -> Option<[u64; 4]> {
    let mut numbers = [0; 4];
    let mut rest = data;
    for number in &mut numbers {
        let end = memchr::memchr(b' ', rest)?;
        *number = digits(&rest[..end])?;
        rest = &rest[end + 1..];
    }
    Some(numbers)
}

fn deleted(data: &[u8]) -> Option<usize> {
    let key = data.strip_prefix(br#"{"key":""#)?.strip_suffix(br#""}"#)?;
    digits(key)?.try_into().ok()
}

fn digits(text: &[u8]) -> Option<u64> {
    let digit = |number: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    (!text.is_empty()).then_some(())?;
    text.iter().try_fold(0, digit)
}

fn text(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(200)];
    String::from_utf8_lossy(shown).into_owned()
}
