//! Broken rules of the settings, collected so that all of them are reported at once.

use super::units::Span;

/// The longest duration: a longer one is probably a mistake.
const LONGEST: Span = Span::seconds(24 * 60 * 60);

/// One broken rule: the key (`stream[0].path`), and what is wrong with its remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Path of the key.
    pub key: String,
    /// The fault and the remedy.
    pub message: String,
}

#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault {
            key: key.into(),
            message: message.into(),
        });
    }

    pub(super) fn add_if_longest(&mut self, key: String, span: Span) {
        if span > LONGEST {
            self.add(
                key,
                format!("is longer than {LONGEST}; write something like \"15s\""),
            );
        }
    }

    /// `value`, unless there are faults.
    pub(super) fn or<T>(self, value: T) -> Result<T, Vec<Fault>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}
