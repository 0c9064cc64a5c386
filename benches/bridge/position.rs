//! The cost of an event's id beside the rest of its frame, by the number of partitions that it names;
//! and that neither allocates.

use crate::Options;
use crate::audience::value;
use crate::harness::broker::Broker;
use crate::measure::{median, now};
use crate::report::{Table, figure};
use kafka_sse_bridge::config::StreamSettings;
use kafka_sse_bridge::kafka::record::{Batch, Record, Stamp};
use kafka_sse_bridge::stream::encode::Encoder;
use kafka_sse_bridge::stream::id_writer::IdWriter;
use kafka_sse_bridge::stream::position::{Position, TopicPosition};
use std::hint::black_box;

const PARTITIONS: [usize; 4] = [1, 8, 100, 1000];
const VALUE: usize = 100;

/// Offsets are about as large as a busy partition's: four bytes each.
const OFFSET: i64 = 100_000_000;

/// As the largest block of the log, in which frames lie.
const BLOCK: usize = 256 * 1024;

/// The events over which allocations are counted.
const COUNTED: u64 = 100_000;

/// The encoder of a stream's records, as its writer holds it.
struct Writing {
    encoder: Encoder,
    position: Position,
    ids: IdWriter,
    /// Filled again and again; its size is that of a block and a frame.
    block: Vec<u8>,
}

impl Writing {
    fn new(topic: &str, partitions: usize) -> Writing {
        let mut unread = TopicPosition::unread(topic);
        unread.next = vec![OFFSET; partitions];
        Writing {
            encoder: Encoder::new(&StreamSettings {
                topics: vec![topic.to_owned()],
                ..StreamSettings::default()
            }),
            position: Position {
                as_of: None,
                topics: vec![unread],
            },
            ids: IdWriter::default(),
            block: Vec::with_capacity(BLOCK + 16 * 1024),
        }
    }

    /// The next record's position, and a buffer for its frame.
    fn advance(&mut self, event: u64) {
        let next = &mut self.position.topics[0].next;
        let partition = usize::try_from(event).expect("a small number") % next.len();
        next[partition] += 1;
        self.ids
            .note(0, u32::try_from(partition).expect("a small number"));
        if self.block.len() > BLOCK {
            self.block.clear();
        }
    }

    fn positions(&mut self, count: u64) {
        for event in 0..count {
            self.advance(event);
            self.ids.write(&self.position, &mut self.block);
            black_box(&self.block);
        }
    }

    fn frames(&mut self, record: &Record<'_>, count: u64) {
        for event in 0..count {
            self.advance(event);
            let (position, ids) = (&self.position, &mut self.ids);
            let written = self.encoder.write(black_box(record), &mut self.block, |out| {
                ids.write(position, out);
            });
            black_box(&self.block);
            written.expect("text can be shown");
        }
    }

    fn frames_without_id(&mut self, record: &Record<'_>, count: u64) {
        for event in 0..count {
            self.advance(event);
            let written = self.encoder.write(black_box(record), &mut self.block, |_| ());
            black_box(&self.block);
            written.expect("text can be shown");
        }
    }
}

pub fn run(_: &Broker, options: &Options) {
    let rounds = options.pick(15, 3);
    let mut batch = Batch::new("position".into());
    let stamp = Stamp {
        partition: 0,
        offset: OFFSET,
        timestamp: None,
    };
    let text = value(1, 0, VALUE);
    batch.push(stamp, None, Some(text.as_bytes()), std::iter::empty());
    let record = batch.iter().next().expect("the one record");

    let heading = [
        "partitions",
        "id, bytes",
        "id alone, ns",
        "frame without id, ns",
        "frame, ns",
        "allocations",
    ];
    let mut table = Table::new(&heading);
    for partitions in PARTITIONS {
        let mut writing = Writing::new(batch.topic(), partitions);
        let id = writing.position.id().len();
        // About as long for a large position as for a small one, and in short turns.
        let count = 1_000_000 / (10 + partitions as u64);
        let mut times = <[Vec<f64>; 3]>::default();
        for round in 0..=rounds {
            let began = now();
            writing.positions(count);
            let with_positions = now();
            writing.frames_without_id(&record, count);
            let with_frames = now();
            writing.frames(&record, count);
            let marks = [began, with_positions, with_frames, now()];
            if round > 0 {
                for (times, marks) in times.iter_mut().zip(marks.windows(2)) {
                    times.push((marks[1] - marks[0]) as f64 / count as f64);
                }
            }
        }
        let allocations = allocations(|| writing.frames(&record, COUNTED));
        assert_eq!(allocations, 0, "encoding allocates nothing per event");
        let [position, without, frame] = times.map(|times| figure(median(&times)));
        table.row(&[
            partitions.to_string(),
            id.to_string(),
            position,
            without,
            frame,
            format!("{allocations} in {COUNTED}"),
        ]);
    }
    table.print(&format!(
        "position: frames of {VALUE} bytes of value, {rounds} rounds"
    ));
}

/// How often this thread asks for memory meanwhile, growing what it has included. The counter is this
/// program's global allocator.
fn allocations(act: impl FnOnce()) -> u64 {
    // One that counts nothing would prove nothing.
    let counted = allocation_counter::measure(|| drop(black_box(vec![0_u8; 16])));
    assert_eq!(counted.count_total, 1, "the counter counts");
    allocation_counter::measure(act).count_total
}
