//! Records of a test's making.

use kafka_sse_bridge::kafka::record::{Batch, Stamp};
use std::fmt;

/// A record to be written.
#[derive(Clone, Default)]
pub struct Rec {
    pub topic: usize,
    pub partition: u32,
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub timestamp: Option<i64>,
    /// The leader epoch of its batch.
    pub epoch: Option<u32>,
}

impl fmt::Debug for Rec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (text(name), value.as_ref().map(text)));
        let (key, value) = (self.key.as_ref().map(text), self.value.as_ref().map(text));
        let origin = (self.topic, self.partition, self.timestamp);
        write!(
            out,
            "{origin:?} {key:?} {value:?} {:?}",
            headers.collect::<Vec<_>>()
        )
    }
}

/// A record with a key and a value.
pub fn rec(key: &str, value: impl Into<Vec<u8>>) -> Rec {
    Rec {
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.into()),
        ..Rec::default()
    }
}

/// A record without a key.
pub fn value(value: impl Into<Vec<u8>>) -> Rec {
    Rec {
        value: Some(value.into()),
        ..Rec::default()
    }
}

pub fn tombstone(key: &str) -> Rec {
    Rec {
        value: None,
        ..rec(key, "")
    }
}

impl Rec {
    pub fn topic(mut self, topic: usize) -> Self {
        self.topic = topic;
        self
    }

    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = partition;
        self
    }

    /// With a timestamp in milliseconds since the epoch.
    pub fn at(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    pub fn epoch(mut self, epoch: u32) -> Self {
        self.epoch = Some(epoch);
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.as_bytes().to_vec(), Some(value.into())));
        self
    }

    pub fn push(&self, batch: &mut Batch, offset: i64) {
        let stamp = Stamp {
            partition: self.partition,
            offset,
            timestamp: self.timestamp,
        };
        let headers = self.headers.iter();
        batch.push_of(
            self.epoch,
            stamp,
            self.key.as_deref(),
            self.value.as_deref(),
            headers.map(|(name, value)| (name.as_slice(), value.as_deref())),
        );
    }
}
