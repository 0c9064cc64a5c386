//! A stream that a test feeds: one topic of one partition, empty and loaded.

use std::sync::Arc;
use std::time::Duration;

use super::live_settings::Pace;
use super::writer::Writer;
use super::{Stream, clock::Clock};
use crate::config::StreamSettings;
use crate::kafka::record::{Batch, Feed, Stamp};

/// A stream and its writer.
pub(crate) struct Fed {
    pub(crate) stream: Arc<Stream>,
    writer: Writer,
    /// The next offset.
    pub(crate) offset: i64,
}

pub(crate) const PACE: Pace = Pace {
    keepalive: Duration::from_secs(15),
    retry: Duration::from_secs(1),
    max_lifetime: Duration::ZERO,
};

impl Fed {
    pub(crate) fn new(change: impl FnOnce(&mut StreamSettings)) -> Self {
        let mut settings = StreamSettings {
            path: "/x".to_owned(),
            topics: vec!["t".to_owned()],
            ..StreamSettings::default()
        };
        change(&mut settings);
        let stream = Stream::with_clock(settings, PACE, None, Clock::SYSTEM);
        let mut fed = Self {
            writer: Writer::new(Arc::clone(&stream)),
            stream,
            offset: 0,
        };
        fed.writer.take(&Feed::Assigned {
            topic: "t".into(),
            id: None,
            next: vec![0],
            low: vec![0],
        });
        fed.writer.take(&Feed::Loaded { topic: "t".into() });
        fed
    }

    /// Writes a record of this key, with a value of so many bytes.
    pub(crate) fn append(&mut self, key: Option<&str>, len: usize) {
        let mut batch = Batch::new("t".into());
        let stamp = Stamp {
            partition: 0,
            offset: self.offset,
            timestamp: None,
        };
        let value = format!("\"{}\"", "x".repeat(len));
        batch.push(
            stamp,
            key.map(str::as_bytes),
            Some(value.as_bytes()),
            std::iter::empty(),
        );
        self.offset += 1;
        self.writer.take(&Feed::Records(Arc::new(batch)));
    }
}
