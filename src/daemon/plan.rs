//! The topics to read for the streams, and where reading starts. Pure.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use crate::config::{Format, KafkaSettings, Start, StreamSettings};
use crate::kafka::connection::Connection;
use crate::kafka::reader::{StartOffset, TopicPlan};
use crate::kafka::record::Feed;
use crate::kafka::security::Credentials;
use crate::kafka::stream_queues::StreamChannel;

/// The connection settings of all Kafka clients: the union of what all streams need.
pub(crate) fn connection(kafka: &KafkaSettings, streams: &[StreamSettings]) -> Connection {
    let has_envelope = streams.iter().any(|stream| stream.format == Format::Envelope);
    let has_schemas = streams.iter().any(StreamSettings::has_schema_ids);
    let shows_headers = streams.iter().any(|stream| stream.headers_field.is_some());
    let shows_timestamps = streams.iter().any(|stream| stream.timestamp_field.is_some());
    let needs = if has_envelope {
        Some("a stream's format shows timestamps and headers, which need it")
    } else if shows_headers || shows_timestamps {
        Some("a stream's timestamp_field or headers_field needs it")
    } else if streams.iter().any(StreamSettings::filters_headers) {
        Some("a stream's filter looks at headers, which need it")
    } else if has_schemas {
        Some("a stream's format looks for ids of schemas in headers, which need it")
    } else {
        None
    };
    Connection {
        brokers: kafka.brokers.clone(),
        client: kafka.client,
        isolation: kafka.isolation,
        credentials: Credentials::new(kafka),
        librdkafka: kafka.librdkafka.clone().into_iter().collect(),
        needs_headers: has_envelope
            || shows_headers
            || has_schemas
            || streams.iter().any(StreamSettings::keeps_headers),
        needs_librdkafka: needs,
    }
}

/// Every topic once, with all streams that use it, and the earliest start that one of them needs.
pub(super) fn topics(streams: &[StreamSettings], feeds: &[mpsc::Sender<Feed>]) -> Vec<TopicPlan> {
    let mut plans: BTreeMap<&str, TopicPlan> = BTreeMap::new();
    for (stream, feed) in streams.iter().zip(feeds) {
        let start = match stream.start {
            Start::Live => StartOffset::BeforeEnd(stream.preload),
            Start::Earliest | Start::Snapshot => StartOffset::Earliest,
        };
        for topic in &stream.topics {
            let plan = plans.entry(topic).or_insert_with(|| TopicPlan {
                name: topic.as_str().into(),
                start,
                feeds: Vec::new(),
            });
            plan.start = plan.start.earlier(start);
            plan.feeds.push(StreamChannel {
                stream: stream.path.as_str().into(),
                feed: feed.clone(),
                has_table: stream.has_table(),
            });
        }
    }
    plans.into_values().collect()
}
