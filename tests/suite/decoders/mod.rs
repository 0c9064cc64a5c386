//! Decoders against schemas that nobody thought of: values are shown as the reference libraries show them, and no bytes
//! break a decoder.

pub mod avro;
mod draws;
mod encodings;
mod fuzz;
pub mod protobuf;
mod round_trips;

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    [encodings::trials(), fuzz::trials(), round_trips::trials()]
        .into_iter()
        .flatten()
        .collect()
}
