//! A stream's figures at one moment, for `/streams` and `/metrics`.

use std::time::Duration;

use super::encode::{Invalid, is_possible};
use super::filter_index::FilterFigures;
use super::history_reads::HistoryReads;
use super::position::Position;
use super::shared::Stream;
use super::table::TableFigures;
use crate::kafka::history::ReplayLoad;

/// A stream's figures at one moment.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Clients connected.
    pub clients: usize,
    /// Records that arrived since the start, less those passed over.
    pub records: u64,
    /// Records in memory.
    pub log_records: u64,
    /// Bytes of memory of these records in total.
    pub log_bytes: usize,
    /// Age of the oldest of them, with the precision of a block.
    pub log_age: Option<Duration>,
    /// Topic index, partition and offset of the oldest record in memory.
    pub oldest: Option<(u16, u32, i64)>,
    /// Keys and bytes of the table, where the stream keeps one.
    pub table: Option<(usize, usize)>,
    /// Whether the table is full.
    pub is_table_full: bool,
    /// The next offset of every partition; `None` until Kafka has answered.
    pub position: Option<Position>,
    /// Whether the topics were read up to their ends at the start.
    pub is_loaded: bool,
}

impl Stream {
    /// Whether the client library in use is known to provide neither times nor headers.
    pub fn lacks_times_and_headers(&self) -> bool {
        self.history()
            .is_some_and(|history| history.archive().lacks_times_and_headers())
    }

    /// Replays that are read now, and replays that wait, of all streams that share an archive.
    pub(crate) fn archive_load(&self) -> ReplayLoad {
        self.history()
            .map(|history| history.archive().load())
            .unwrap_or_default()
    }

    /// How many replays have readers, and how many bytes of records they hold in total.
    pub fn replays(&self) -> (usize, usize) {
        self.history().map(HistoryReads::replays).unwrap_or_default()
    }

    /// How many keys of the table have a newest record that cannot be shown, by cause.
    pub fn unusable_keys(&self) -> Vec<(Invalid, usize)> {
        let table = self.table_figures();
        let causes = table.into_iter().flat_map(TableFigures::unusable);
        causes
            .filter(|(cause, _)| is_possible(*cause, self.settings()))
            .collect()
    }

    /// Topics of which records were superseded [lately](super::counters::SUPERSEDED_FOR), and how many since the start.
    pub fn superseded_lately(&self) -> Vec<(String, u64)> {
        self.counters()
            .superseded_lately(self.now(), &self.settings().topics)
    }

    /// Whether the table is full, so that new keys have no place or displace others.
    pub fn is_table_full(&self) -> bool {
        self.table_bounds_reached().is_some()
    }

    /// The bounds that make the table full, by their keys in the configuration.
    pub fn table_bounds_reached(&self) -> Option<&'static str> {
        self.table_figures()?.reached().name()
    }

    /// The current figures of the filters.
    pub fn filters(&self) -> FilterFigures {
        self.client_filters().figures()
    }

    /// The stream's figures now.
    pub fn figures(&self) -> Figures {
        let (table, log) = (self.table_figures(), self.log_figures());
        let age = |came| self.instant().saturating_duration_since(came);
        Figures {
            table: table.map(|table| (table.keys(), table.bytes())),
            is_table_full: self.is_table_full(),
            clients: self.clients(),
            records: log.records,
            log_records: log.in_memory,
            log_bytes: log.bytes,
            log_age: log.came.map(age),
            oldest: log.oldest,
            position: log.head.and_then(|head| Position::parse(&head).ok()),
            is_loaded: self.is_loaded(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;
    use crate::config::{HttpSettings, Start, StreamSettings};
    use crate::kafka::record::Feed;
    use crate::stream::live_settings::Pace;
    use crate::stream::writer::Writer;

    /// Longer than any machine needs to read some numbers.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A writer that has lost its processor holds its locks for tens of milliseconds on a busy machine; whoever asks how
    /// the daemon is, on a thread that serves clients, must not wait for that.
    #[test]
    fn figures_are_read_while_a_writer_holds_every_lock_of_a_stream() {
        let settings = StreamSettings {
            path: "/orders".to_owned(),
            topics: vec!["orders".to_owned()],
            start: Start::Snapshot,
            ..StreamSettings::default()
        };
        let stream = Stream::new(settings, Pace::from(&HttpSettings::default()), None);
        let mut writer = Writer::new(Arc::clone(&stream));
        writer.take(&Feed::Assigned {
            topic: "orders".into(),
            id: None,
            next: vec![0, 0],
            low: vec![0, 0],
        });
        writer.take(&Feed::Loaded {
            topic: "orders".into(),
        });
        let (answer, answered) = mpsc::channel();
        let state = stream.write();
        let table = stream.write_table();
        let trie = stream.client_filters().trie();
        let index = stream.client_filters().index();
        let asked = Arc::clone(&stream);
        let asking = thread::spawn(move || {
            let figures = asked.figures();
            let is_well = asked.is_loaded() && !asked.lacks_rows() && asked.table_bounds_reached().is_none();
            let filters = asked.filters().filters + asked.unusable_keys().len();
            let superseded = asked.superseded_lately().len();
            let _ = answer.send((figures, is_well, filters + superseded));
        });
        let answered = answered.recv_timeout(PATIENCE);
        drop((state, table, index, trie));
        asking.join().expect("it has ended");
        let (figures, is_well, _) = answered.expect("an answer while the locks are held");
        assert!(is_well && figures.is_loaded);
        assert_eq!(figures.table, Some((0, 0)));
        let partitions = figures.position.map(|position| position.topics[0].next.len());
        assert_eq!(partitions, Some(2));
    }
}
