//! The cost of decoding Avro and Protobuf, from a batch to the frames of its records, beside the same records as JSON
//! with `key_field`; and the decoding alone, by this program and to the values of the crates that parse the schemas.

use crate::Options;
use crate::harness::broker::Broker;
use crate::measure::{median, thread_time};
use crate::report::{Table, at_least, figure};
use apache_avro::types::Record as AvroRecord;
use apache_avro::writer::datum::GenericDatumWriter;
use kafka_sse_bridge::config::{DataFormat, StreamSettings};
use kafka_sse_bridge::decode::{Decoder, Schema, SchemaId, SchemaKind, SchemaText, Step, Supplied};
use kafka_sse_bridge::kafka::record::{Batch, Stamp};
use kafka_sse_bridge::stream::encode::Encoder;
use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use std::hint::black_box;
use std::sync::Arc;

/// Records of a batch, about as many of this size as one holds.
const RECORDS: u16 = 1_000;

/// The least records per second and core.
const LEAST: f64 = 400_000.0;

/// The least part of JSON's records per second.
const LEAST_OF_JSON: f64 = 0.5;

const AVRO: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"id","type":"long"},
    {"name":"customer","type":"string"},
    {"name":"status","type":"string"},
    {"name":"city","type":["null","string"]},
    {"name":"quantity","type":"int"},
    {"name":"price","type":"double"},
    {"name":"paid","type":"boolean"},
    {"name":"placed_at","type":"long"},
    {"name":"comment","type":"string"},
    {"name":"tags","type":{"type":"array","items":"string"}}]}"#;

const PROTOBUF: &str = r#"
    syntax = "proto3";
    message Order {
        int64 id = 1;
        string customer = 2;
        string status = 3;
        optional string city = 4;
        int32 quantity = 5;
        double price = 6;
        bool paid = 7;
        int64 placed_at = 8;
        string comment = 9;
        repeated string tags = 10;
    }"#;

/// One way of writing the same records.
struct Written {
    settings: StreamSettings,
    batch: Arc<Batch>,
    supplied: Supplied,
}

impl Written {
    fn new(value_format: DataFormat, kind: SchemaKind, text: &str, values: &[Vec<u8>]) -> Written {
        let mut batch = Batch::new("orders".into());
        for (offset, value) in (0..).zip(values) {
            let stamp = Stamp {
                partition: 0,
                offset,
                timestamp: None,
            };
            let key = format!("{offset:08}");
            let framed = match value_format {
                DataFormat::Json => value.clone(),
                _ => [&[0, 0, 0, 0, 1], value.as_slice()].concat(),
            };
            batch.push(stamp, Some(key.as_bytes()), Some(&framed), std::iter::empty());
        }
        let text = SchemaText {
            kind,
            text: text.to_owned(),
            references: Vec::new(),
        };
        Written {
            settings: StreamSettings {
                topics: vec!["orders".to_owned()],
                value_format,
                key_field: Some("key".to_owned()),
                ..StreamSettings::default()
            },
            batch: Arc::new(batch),
            supplied: Supplied::Schema(Arc::new(Schema::compile(&text).expect("a schema"))),
        }
    }

    fn decoder(&self) -> Decoder {
        let mut decoder = Decoder::new(&self.settings);
        decoder.supply(SchemaId::Number(1), self.supplied.clone());
        decoder
    }

    fn decode(&self, decoder: &mut Decoder) -> Arc<Batch> {
        match decoder.decode(&self.batch, || {}) {
            Step::Done(batch) => batch,
            step => panic!("{step:?}"),
        }
    }
}

fn encode(encoder: &mut Encoder, batch: &Batch, block: &mut Vec<u8>) {
    block.clear();
    for record in batch.iter() {
        let written = encoder.write(black_box(&record), block, |out| {
            out.extend_from_slice(b"AQEBAQEBAQ");
        });
        written.expect("it can be shown");
    }
    black_box(&block);
}

fn avro_values(schema: &apache_avro::Schema) -> Vec<Vec<u8>> {
    let writer = GenericDatumWriter::builder(schema).build().expect("a schema");
    let value = |number: i64| {
        let mut record = AvroRecord::new(schema).expect("a record");
        record.put("id", 1_000_000 + number);
        record.put("customer", format!("customer-{number:08}"));
        record.put("status", "delivered");
        record.put(
            "city",
            apache_avro::types::Value::Union(1, Box::new("Amsterdam".into())),
        );
        record.put("quantity", 3_i32);
        record.put("price", 19.95 + number as f64);
        record.put("paid", true);
        record.put("placed_at", 1_795_406_940_137_i64);
        record.put("comment", "leave it at the door");
        record.put(
            "tags",
            apache_avro::types::Value::Array(vec!["new".into(), "gift".into()]),
        );
        writer.write_value_to_vec(record).expect("encoded")
    };
    (0..i64::from(RECORDS)).map(value).collect()
}

fn protobuf_values(order: &MessageDescriptor) -> Vec<Vec<u8>> {
    let value = |number: i64| {
        let mut message = DynamicMessage::new(order.clone());
        let text = |text: &str| Value::String(text.to_owned());
        message.set_field_by_name("id", Value::I64(1_000_000 + number));
        message.set_field_by_name("customer", text(&format!("customer-{number:08}")));
        message.set_field_by_name("status", text("delivered"));
        message.set_field_by_name("city", text("Amsterdam"));
        message.set_field_by_name("quantity", Value::I32(3));
        message.set_field_by_name("price", Value::F64(19.95 + number as f64));
        message.set_field_by_name("paid", Value::Bool(true));
        message.set_field_by_name("placed_at", Value::I64(1_795_406_940_137));
        message.set_field_by_name("comment", text("leave it at the door"));
        message.set_field_by_name("tags", Value::List(vec![text("new"), text("gift")]));
        // The first message of the file.
        [vec![0], message.encode_to_vec()].concat()
    };
    (0..i64::from(RECORDS)).map(value).collect()
}

struct Source(&'static str);

impl protox::file::FileResolver for Source {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        protox::file::File::from_source(name, self.0)
    }
}

pub fn run(_: &Broker, options: &Options) {
    let rounds = options.pick(15, 3);
    let schema = apache_avro::Schema::parse_str(AVRO).expect("a schema");
    let avro = Written::new(DataFormat::Avro, SchemaKind::Avro, AVRO, &avro_values(&schema));
    let mut compiler = protox::Compiler::with_file_resolver(Source(PROTOBUF));
    let pool: DescriptorPool = compiler
        .open_file("order.proto")
        .expect("a schema")
        .descriptor_pool();
    let order = pool.get_message_by_name("Order").expect("a message");
    let values = protobuf_values(&order);
    let protobuf = Written::new(DataFormat::Protobuf, SchemaKind::Protobuf, PROTOBUF, &values);
    // The same records as JSON.
    let texts = avro.decode(&mut avro.decoder());
    let texts: Vec<Vec<u8>> = texts
        .iter()
        .map(|record| record.value.expect("a value").to_vec())
        .collect();
    let bytes = texts[0].len();
    let json = Written::new(DataFormat::Json, SchemaKind::Json, "{}", &texts);

    let by_crates: [(&str, &dyn Fn()); 3] = [
        ("", &|| {}),
        ("apache-avro", &|| {
            let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema)
                .build()
                .expect("a schema");
            for record in avro.batch.iter() {
                let mut value = &record.value.expect("a value")[5..];
                black_box(reader.read_value(&mut value).expect("decoded"));
            }
        }),
        ("prost-reflect", &|| {
            for record in protobuf.batch.iter() {
                let value = &record.value.expect("a value")[6..];
                black_box(DynamicMessage::decode(order.clone(), value).expect("decoded"));
            }
        }),
    ];
    let ways = [("json", &json), ("avro", &avro), ("protobuf", &protobuf)];
    let mut states: Vec<_> = ways
        .iter()
        .map(|(_, way)| (way.decoder(), Encoder::new(&way.settings)))
        .collect();
    let mut block = Vec::new();
    let mut times: [[Vec<f64>; 3]; 3] = Default::default();
    let repeats = 20_u32;
    for round in 0..=rounds {
        for (index, (_, way)) in ways.iter().enumerate() {
            let (decoder, encoder) = &mut states[index];
            let began = thread_time();
            for _ in 0..repeats {
                let batch = way.decode(decoder);
                encode(encoder, &batch, &mut block);
            }
            let framed = thread_time();
            for _ in 0..repeats {
                black_box(way.decode(decoder));
            }
            let alone = thread_time();
            for _ in 0..repeats {
                by_crates[index].1();
            }
            let marks = [began, framed, alone, thread_time()];
            if round > 0 {
                for (times, marks) in times[index].iter_mut().zip(marks.windows(2)) {
                    times.push((marks[1] - marks[0]) as f64 / f64::from(repeats * u32::from(RECORDS)));
                }
            }
        }
    }
    print(
        &ways.map(|(name, _)| name),
        &by_crates.map(|(name, _)| name),
        &times,
        bytes,
        rounds,
    );
}

fn print(ways: &[&str; 3], crates: &[&str; 3], times: &[[Vec<f64>; 3]; 3], bytes: usize, rounds: usize) {
    let mut table = Table::new(&[
        "format",
        "to frames, ns",
        "records/s",
        "of JSON",
        "decoding alone, ns",
        "to the crate's values, ns",
    ]);
    let of_json = median(&times[0][0]);
    for (index, name) in ways.iter().enumerate() {
        let [framed, decoded, by_crate] = times[index].each_ref().map(|times| median(times));
        let (rate, ratio) = (1e9 / framed, of_json / framed);
        let is_json = index == 0;
        table.row(&[
            (*name).to_owned(),
            figure(framed),
            if is_json {
                figure(rate)
            } else {
                format!("{} ({})", figure(rate), at_least(rate, LEAST))
            },
            if is_json {
                figure(1.0)
            } else {
                format!("{} ({})", figure(ratio), at_least(ratio, LEAST_OF_JSON))
            },
            if is_json { "-".to_owned() } else { figure(decoded) },
            if is_json {
                "-".to_owned()
            } else {
                format!("{} ({})", figure(by_crate), crates[index])
            },
        ]);
    }
    table.print(&format!(
        "decode: records of ten fields, {bytes} bytes as JSON, with key_field, processor time of one thread, {rounds} rounds"
    ));
}
