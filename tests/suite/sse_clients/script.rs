//! The records that every client must receive.

use crate::harness::broker::Broker;
use crate::harness::produce::Message;
use serde_json::json;

/// All line ends, texts that look like fields, and characters that end lines elsewhere but not in event streams.
pub(super) const VALUES: [&str; 19] = [
    r#"{"plain":"JSON"}"#,
    "one\ntwo\nthree",
    "one\rtwo\r\nthree\n\rfive",
    "a last line end\n",
    "two of them\r\n\r\n",
    "\na first line that is empty",
    "an empty line\n\nbetween",
    "",
    "\n",
    "\r\n\r\n\r",
    "  spaces around  ",
    " \n \n ",
    ": no comment\n:\n: \n",
    "id: forged\nevent: forged\ndata: forged\nretry: 1\n\ndata: forged",
    "data\nevent\nid\nretry",
    "Ærø, Zürich, 日本語, עברית, 👩\u{200d}🚀, e\u{301}",
    "\u{feff}byte order marks\u{feff}\n\u{feff}",
    "\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}\u{2028}\u{2029} end no line",
    "a character\tlike others: \0 \u{7f}",
];

/// The value as a client receives it, without a byte order mark at its beginning.
pub(super) fn shown(value: &str) -> String {
    let value = value.strip_prefix('\u{feff}').unwrap_or(value);
    value.replace("\r\n", "\n").replace('\r', "\n")
}

/// A record, and its expected event.
pub(super) struct Written {
    pub(super) message: Message,
    pub(super) is_tombstone: bool,
    pub(super) data: String,
}

pub(super) fn value(text: &str) -> Written {
    Written {
        message: Message::value(text),
        is_tombstone: false,
        data: shown(text),
    }
}

pub(super) fn tombstone(key: &str) -> Written {
    Written {
        message: Message::tombstone(key),
        is_tombstone: true,
        data: json!({ "key": key }).to_string(),
    }
}

/// `count` different records of a little more than `bytes` each: a long line and some short ones.
pub(super) fn large(name: &str, count: usize, bytes: usize) -> Vec<Written> {
    (0..count)
        .map(|number| {
            let word = format!("{name}-{number} ");
            let line = word.repeat(bytes / word.len());
            value(&format!("{line}\n{}", word.repeat(100).replace(' ', "\n")))
        })
        .collect()
}

/// The topic, and all records written to it.
pub(super) struct Script<'a> {
    pub(super) broker: &'a Broker,
    pub(super) topic: &'a str,
    pub(super) written: Vec<Written>,
}

impl Script<'_> {
    pub(super) fn write(&mut self, records: Vec<Written>) {
        let messages: Vec<Message> = records.iter().map(|record| record.message.clone()).collect();
        self.broker.produce(self.topic, &messages);
        self.written.extend(records);
    }

    /// The records' events, on a stream that names its records so. Ids are not known yet.
    pub(super) fn expected(&self, name: &str) -> Vec<(String, String)> {
        let event = |record: &Written| {
            let name = if record.is_tombstone { "delete" } else { name };
            (name.to_owned(), record.data.clone())
        };
        self.written.iter().map(event).collect()
    }
}
