//! A stream that the simulation feeds.

use std::sync::Arc;
use std::time::Duration;

use super::clock;
use crate::config::units::{Size, Span};
use crate::config::{Lag, Start, StreamSettings};
use crate::kafka::record::{Batch, Feed, Stamp};
use crate::stream::Stream;
use crate::stream::live_settings::Pace;
use crate::stream::writer::Writer;

pub(super) const KEEPALIVE: Duration = Duration::from_secs(10);

pub(super) const PACE: Pace = Pace {
    keepalive: KEEPALIVE,
    retry: Duration::from_secs(1),
    max_lifetime: Duration::ZERO,
};

/// The settings of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) has_table: bool,
    pub(super) lag: Lag,
    pub(super) has_small_log: bool,
}

pub(super) const SMALL_LOG: usize = 6000;

impl Kind {
    fn settings(self) -> StreamSettings {
        StreamSettings {
            path: "/x".to_owned(),
            topics: vec!["t".to_owned()],
            start: if self.has_table {
                Start::Snapshot
            } else {
                Start::Earliest
            },
            key_field: Some("k".to_owned()),
            offset_field: Some("o".to_owned()),
            log_bytes: if self.has_small_log {
                Size(SMALL_LOG as u64)
            } else {
                Size::mebibytes(64)
            },
            lag: Some(self.lag),
            checkpoint_interval: Span::seconds(7),
            ..StreamSettings::default()
        }
    }
}

/// A record: its key, and the length of its value if it is no delete.
pub(super) type Record = (u8, Option<usize>);

/// The name of a key.
pub(super) fn key(key: u8) -> String {
    format!("k{key}")
}

/// A stream and those that it replaced.
pub(super) struct Rig {
    pub(super) kind: Kind,
    pub(super) streams: Vec<Arc<Stream>>,
    writer: Writer,
    feeds: Vec<Feed>,
    pub(super) records: Vec<Record>,
    /// Whether a client that fell off the log may go on behind what it missed: there is no Kafka to replay it from.
    pub(super) may_skip: bool,
    /// References to a stream that it and its writer hold.
    own_references: usize,
    /// How many records there were, and the id behind them.
    pub(super) ids: Vec<(usize, String)>,
}

impl Rig {
    pub(super) fn new(kind: Kind) -> Self {
        let stream = Stream::with_clock(kind.settings(), PACE, None, clock::CLOCK);
        let mut rig = Self {
            kind,
            writer: Writer::new(Arc::clone(&stream)),
            streams: vec![stream],
            feeds: Vec::new(),
            records: Vec::new(),
            may_skip: kind.has_small_log && kind.lag == Lag::Replay,
            ids: Vec::new(),
            own_references: 0,
        };
        rig.own_references = Arc::strong_count(rig.stream());
        rig.take(Feed::Assigned {
            topic: "t".into(),
            id: None,
            next: vec![0],
            low: vec![0],
        });
        rig.take(Feed::Loaded { topic: "t".into() });
        rig.note_id();
        rig
    }

    fn take(&mut self, feed: Feed) {
        self.writer.take(&feed);
        self.feeds.push(feed);
    }

    /// The stream that is served.
    pub(super) fn stream(&self) -> &Arc<Stream> {
        self.streams.last().expect("the first")
    }

    /// Writes records in one batch.
    pub(super) fn append(&mut self, records: &[Record]) {
        let mut batch = Batch::new("t".into());
        for (name, len) in records {
            let offset = i64::try_from(self.records.len()).expect("a count");
            let value = len.map(|len| format!("{{\"x\":\"{}\"}}", "y".repeat(len)));
            let stamp = Stamp {
                partition: 0,
                offset,
                timestamp: None,
            };
            let key = key(*name);
            batch.push(
                stamp,
                Some(key.as_bytes()),
                value.as_ref().map(String::as_bytes),
                std::iter::empty(),
            );
            self.records.push((*name, *len));
        }
        self.take(Feed::Records(Arc::new(batch)));
        self.note_id();
    }

    fn note_id(&mut self) {
        let position = self.stream().figures().position.expect("a position");
        let id = String::from_utf8(position.id()).expect("text");
        self.ids.push((self.records.len(), id));
    }

    /// Replaces the stream by another one that has read the same.
    pub(super) fn replace(&mut self) {
        let before = Arc::clone(self.stream());
        let stream = Stream::with_clock(self.kind.settings(), PACE, None, clock::CLOCK);
        self.writer = Writer::new(Arc::clone(&stream));
        for feed in &self.feeds {
            self.writer.take(feed);
        }
        before.succeed(&stream);
        self.streams.push(stream);
    }

    /// References to the stream that is served, without clients.
    pub(super) const fn own_references(&self) -> usize {
        self.own_references
    }

    /// The latest record of a key.
    pub(super) fn latest(&self, name: u8) -> Option<(usize, Record)> {
        let mut records = self.records.iter().copied().enumerate();
        records.rfind(|(_, record)| record.0 == name)
    }
}
