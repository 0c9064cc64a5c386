//! Floods of HTTP/2: frames that cost the daemon work and their sender nothing.
//!
//! The crate h2 bounds what frames may hold of memory, and closes connections that reset requests before they were handled
//! (CVE-2023-44487), that continue heads without end, or that send empty data. It answers any number of pings and
//! settings, and ignores any number of other frames. So all frames of a client are counted, by kind: each kind has a
//! burst and a rate far above what clients need, and more close the connection. Only the heads of frames are looked at: 9
//! bytes, and how many to pass over. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::protocol::PREFACE;
use crate::sse::words::words;

words! {
    /// The frames of HTTP/2 of which a client sends too many.
    Flood {
        /// Requests that it resets.
        Reset = "reset",
        /// Heads of requests: by their size, their frames, or because they are refused.
        Head = "head",
        /// Pieces of bodies.
        Data = "data",
        /// Changes of settings.
        Settings = "settings",
        /// Pings, and answers to them.
        Ping = "ping",
        /// Increments of windows.
        WindowUpdate = "window-update",
        /// Priorities, which have no effect here.
        Priority = "priority",
        /// Frames that have no meaning here.
        Other = "other",
    }
}

impl Flood {
    /// The kind of a frame (RFC 9113, section 6).
    const fn of_frame(kind: u8) -> Self {
        match kind {
            0 => Self::Data,
            1 | CONTINUATION => Self::Head,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            6 => Self::Ping,
            8 => Self::WindowUpdate,
            _ => Self::Other,
        }
    }

    /// How many frames may come at once, and how many per second beyond that. A proxy may end all of its requests at once,
    /// and a client that opens a window does so for each of its requests.
    const fn allowance(self, max_streams: u32) -> (u32, u32) {
        match self {
            Self::Settings => (100, 1),
            Self::Reset | Self::WindowUpdate => (1000_u32.saturating_add(max_streams.saturating_mul(4)), 100),
            // Requests have limits of their own.
            Self::Head => (u32::MAX, u32::MAX),
            Self::Data | Self::Ping | Self::Priority | Self::Other => (1000, 100),
        }
    }
}

/// Bytes that are written per further WINDOW_UPDATE: a client may give each frame of data back, to the stream and to the
/// connection, and the smallest event is a frame of 20 bytes.
const BYTES_PER_UPDATE: u64 = 8;

/// Most WINDOW_UPDATE frames that are saved up by what was written.
const MOST_UPDATES: u32 = 200_000;

/// Resets in two seconds by which a request that is one too many is taken for a rapid reset: half of those after which the crate
/// h2 closes the connection, as it may not have read as far as this counts.
const RAPID: u32 = 10;

const CONTINUATION: u8 = 9;

/// The length of a frame's head (RFC 9113, section 4.1).
const HEAD: usize = 9;

/// Counts frames.
#[derive(Debug)]
pub(super) struct Meter {
    /// Bytes to pass over: of the preface, or of a payload.
    skip: usize,
    head: [u8; HEAD],
    /// The bytes of the head that were read.
    head_length: usize,
    /// Frames of each kind that may still come.
    left: [u32; Flood::ALL.len()],
    max_streams: u32,
    /// When the rates were last added.
    filled: Instant,
    /// Bytes written that were not yet made into updates.
    written: u64,
    /// Resets in the second before, of those in which frames came, and in this one.
    resets: [u32; 2],
    /// The last frame that began.
    last: u8,
}

impl Meter {
    /// For a connection that may have so many streams, and begins with the preface.
    pub(super) fn new(max_streams: u32, now: Instant) -> Self {
        Self {
            skip: PREFACE.len(),
            head: [0; HEAD],
            head_length: 0,
            left: Flood::ALL.map(|kind| kind.allowance(max_streams).0),
            max_streams,
            filled: now,
            written: 0,
            resets: [0; 2],
            last: u8::MAX,
        }
    }

    /// Counts the frames that begin in these bytes.
    ///
    /// # Errors
    /// The kind of which there are too many.
    pub(super) fn read(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        self.fill(now);
        while !bytes.is_empty() {
            if self.skip > 0 {
                let (_, rest) = bytes.split_at(self.skip.min(bytes.len()));
                self.skip -= bytes.len() - rest.len();
                bytes = rest;
                continue;
            }
            let (more, rest) = bytes.split_at((HEAD - self.head_length).min(bytes.len()));
            self.head[self.head_length..][..more.len()].copy_from_slice(more);
            self.head_length += more.len();
            bytes = rest;
            if self.head_length == HEAD {
                self.head_length = 0;
                let [high, middle, low, kind, ..] = self.head;
                self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.count(kind)?;
            }
        }
        Ok(())
    }

    /// Notes bytes that were written to the client.
    pub(super) fn wrote(&mut self, count: usize) {
        self.written = self.written.saturating_add(count as u64);
    }

    fn count(&mut self, kind: u8) -> Result<(), Flood> {
        self.last = kind;
        let kind = Flood::of_frame(kind);
        if kind == Flood::Reset {
            self.resets[1] += 1;
        }
        let left = &mut self.left[kind as usize];
        *left = left.checked_sub(1).ok_or(kind)?;
        Ok(())
    }

    /// What the client does too much of, if the crate h2 closes the connection now: its error does not say. It may not have
    /// read all frames that were counted.
    pub(super) fn suspect(&self) -> Flood {
        let last = Flood::of_frame(self.last);
        let resets: u32 = self.resets.iter().sum();
        if last == Flood::Head && self.last != CONTINUATION && resets >= RAPID {
            return Flood::Reset;
        }
        last
    }

    /// Adds what the time and the bytes written allow.
    fn fill(&mut self, now: Instant) {
        let updates = u32::try_from(self.written / BYTES_PER_UPDATE).unwrap_or(u32::MAX);
        self.written %= BYTES_PER_UPDATE;
        let seconds = now.saturating_duration_since(self.filled).as_secs();
        if updates == 0 && seconds == 0 {
            return;
        }
        self.filled += Duration::from_secs(seconds);
        if seconds > 0 {
            self.resets = [self.resets[1], 0];
        }
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        for kind in Flood::ALL {
            let (burst, rate) = kind.allowance(self.max_streams);
            let left = &mut self.left[kind as usize];
            let most = burst.max(*left);
            *left = left.saturating_add(rate.saturating_mul(seconds)).min(most);
        }
        // Beyond the burst: a client may give back at once what it was sent before.
        let left = &mut self.left[Flood::WindowUpdate as usize];
        *left = left.saturating_add(updates).min(MOST_UPDATES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, 0, 0, 0, 0, 1]);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn meter(now: Instant) -> Meter {
        let mut meter = Meter::new(128, now);
        meter.read(PREFACE, now).expect("no frame");
        meter
    }

    #[test]
    fn every_kind_of_frame_has_a_burst_and_a_rate() {
        for kind in (0..=255).filter(|kind| Flood::of_frame(*kind) != Flood::Head) {
            let flood = Flood::of_frame(kind);
            let (burst, rate) = flood.allowance(128);
            let now = Instant::now();
            let mut meter = meter(now);
            let one = frame(kind, b"");
            for _ in 0..burst {
                assert_eq!(meter.read(&one, now), Ok(()), "{kind}");
            }
            assert_eq!(meter.read(&one, now), Err(flood), "{kind}");
            let later = now + Duration::from_secs(1);
            for _ in 0..rate {
                assert_eq!(meter.read(&one, later), Ok(()), "{kind}");
            }
            assert_eq!(meter.read(&one, later), Err(flood), "{kind}");
            // No more than the burst is saved.
            let much_later = later + Duration::from_secs(1_000_000);
            for _ in 0..burst {
                assert_eq!(meter.read(&one, much_later), Ok(()), "{kind}");
            }
            assert_eq!(meter.read(&one, much_later), Err(flood), "{kind}");
        }
        // Requests are limited otherwise.
        let now = Instant::now();
        let mut meter = meter(now);
        let head = frame(1, &[0; 100]).repeat(100_000);
        assert_eq!(meter.read(&head, now), Ok(()));
    }

    #[test]
    fn frames_are_counted_however_their_bytes_arrive() {
        let now = Instant::now();
        let frames: Vec<u8> = (0..10_u8)
            .flat_map(|kind| frame(kind, &vec![kind; usize::from(kind) * 7]))
            .collect();
        let whole = {
            let mut meter = meter(now);
            meter.read(&frames, now).expect("few");
            meter.left
        };
        assert_eq!(whole[Flood::Ping as usize], 999);
        let all = [PREFACE, &frames].concat();
        for size in 1..40 {
            let mut meter = Meter::new(128, now);
            for piece in all.chunks(size) {
                meter.read(piece, now).expect("few");
            }
            assert_eq!(meter.left, whole, "in pieces of {size}");
        }
    }

    #[test]
    fn a_client_may_give_back_every_frame_that_it_was_sent() {
        let now = Instant::now();
        let mut meter = meter(now);
        let update = frame(8, &[0, 0, 0, 1]).repeat(2);
        // The smallest events, for a million times.
        for _ in 0..1_000_000 {
            meter.wrote(20);
            meter.read(&update, now).expect("it was sent");
        }
    }

    #[test]
    fn a_connection_that_is_closed_otherwise_is_suspected_by_its_last_frames() {
        let now = Instant::now();
        for (kinds, expected) in [
            (&[1, 3][..], Flood::Reset),
            (&[3, 1], Flood::Reset),
            (&[1, 9], Flood::Head),
            (&[1], Flood::Head),
            (&[1, 0], Flood::Data),
        ] {
            let mut meter = meter(now);
            for _ in 0..RAPID {
                for kind in kinds {
                    meter.read(&frame(*kind, b""), now).expect("few");
                }
            }
            assert_eq!(meter.suspect(), expected, "{kinds:?}");
        }
        // On a machine that does much else the request may be read seconds later; those after it have nothing to do with it.
        for pause in [1, 60] {
            let mut meter = meter(now);
            let resets = frame(3, b"").repeat(RAPID as usize);
            meter.read(&resets, now).expect("few");
            for (pauses, expected) in [(1, Flood::Reset), (2, Flood::Head)] {
                let later = now + pauses * Duration::from_secs(pause);
                meter.read(&frame(1, b""), later).expect("few");
                assert_eq!(meter.suspect(), expected, "after {pauses} times {pause} s");
            }
        }
    }
}
