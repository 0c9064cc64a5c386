//! Durations and sizes as text: `15s`, `1h 30m`, `64MiB`; instants as RFC 3339.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A duration written like `15s`, `500ms` or `1h 30m` (the forms of the crate humantime).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// A span of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|error| {
            format!("{text:?} is not a duration ({error}); write it like \"15s\" or \"500ms\"")
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A number of bytes written like `64MiB`, `1GB` or `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// A size of whole mebibytes.
    pub const fn mebibytes(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }

    /// The size as a length in memory; a size that does not fit becomes the largest length.
    pub fn as_len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.0))
            .map_err(|error| format!("{text:?} is not a size ({error}); write it like \"64MiB\""))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS
            .iter()
            .find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit))
        {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// The first second that RFC 3339 cannot express: the beginning of the year 10000, in seconds since the epoch.
pub(super) const END_OF_CALENDAR: u64 = 253_402_300_800;

/// An instant as text, in UTC: RFC 3339 from 1970 to 9999, otherwise seconds relative to 1970.
///
/// humantime's formatter fails outside of those years, and `format!` turns that into a panic. An instant may come from
/// a token, a record or a wrong clock, so every instant is formatted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    time: SystemTime,
    has_millis: bool,
}

impl Instant {
    /// Written with seconds.
    pub const fn seconds(time: SystemTime) -> Self {
        Self {
            time,
            has_millis: false,
        }
    }

    /// Written with milliseconds.
    pub const fn millis(time: SystemTime) -> Self {
        Self {
            time,
            has_millis: true,
        }
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time.duration_since(UNIX_EPOCH) {
            #[expect(clippy::disallowed_methods, reason = "the years are checked here")]
            Ok(since) if since.as_secs() < END_OF_CALENDAR => {
                if self.has_millis {
                    humantime::format_rfc3339_millis(self.time).fmt(f)
                } else {
                    humantime::format_rfc3339_seconds(self.time).fmt(f)
                }
            }
            Ok(since) => write!(f, "{} s after 1970", since.as_secs()),
            Err(error) => write!(f, "{} s before 1970", error.duration().as_secs()),
        }
    }
}

/// The unit that a number of milliseconds is probably in, and the same time in milliseconds.
pub(crate) type OtherUnit = (&'static str, i64);

/// Detects a number of milliseconds since 1970 that is probably in another unit. From 10^8 up to 10^11 it is a time
/// from 1973 to 5138 in seconds, and before March 1973 in milliseconds; from 10^14 on it is microseconds or
/// nanoseconds, and after 5138 in milliseconds. Numbers below 10^8 are "everything", as 0 is.
pub(crate) fn other_unit(milliseconds: i64) -> Option<OtherUnit> {
    match milliseconds {
        100_000_000..100_000_000_000 => Some(("seconds", milliseconds * 1000)),
        100_000_000_000_000..100_000_000_000_000_000 => Some(("microseconds", milliseconds / 1000)),
        100_000_000_000_000_000.. => Some(("nanoseconds", milliseconds / 1_000_000)),
        _ => None,
    }
}

macro_rules! serde_as_text {
    ($type:ty, $expected:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

serde_as_text!(Span, "a duration in quotes, like \"15s\"");
serde_as_text!(Size, "a size in quotes, like \"64MiB\"");

pub(super) use serde_as_text;

#[cfg(test)]
mod tests {
    use super::{Instant, Size, Span, other_unit};
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn every_instant_can_be_written() {
        let at = |seconds| {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            [Instant::seconds(time), Instant::millis(time)].map(|instant| instant.to_string())
        };
        assert_eq!(at(0), ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"]);
        assert_eq!(at(253_402_300_799)[0], "9999-12-31T23:59:59Z");
        for (seconds, text) in [
            (253_402_300_800, "253402300800 s after 1970"),
            (i64::MAX as u64, "9223372036854775807 s after 1970"),
        ] {
            assert_eq!(at(seconds), [text, text]);
        }
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Instant::millis(before).to_string(), "1 s before 1970");
    }

    #[test]
    fn sizes_and_durations_are_written_as_they_are_read() {
        for text in ["0B", "1KiB", "64MiB", "3GiB", "4097B"] {
            assert_eq!(text.parse::<Size>().expect("a size").to_string(), text);
        }
        assert_eq!("1GB".parse(), Ok(Size(1_000_000_000)));
        assert_eq!("4096".parse(), Ok(Size(4096)));
        for text in ["0s", "500ms", "15s", "1h 30m", "1day"] {
            assert_eq!(text.parse::<Span>().expect("a duration").to_string(), text);
        }
        for text in ["", "15", "-1s", "1 parsec"] {
            let error = text.parse::<Span>().expect_err(text);
            assert!(error.ends_with("write it like \"15s\" or \"500ms\""), "{error}");
        }
        for text in ["", "64 Mebi", "-1"] {
            let error = text.parse::<Size>().expect_err(text);
            assert!(error.ends_with("write it like \"64MiB\""), "{error}");
        }
    }

    #[test]
    fn seconds_and_microseconds_are_told_from_milliseconds() {
        let now = 1_764_000_000_000;
        assert_eq!(other_unit(now), None);
        assert_eq!(other_unit(0), None);
        assert_eq!(other_unit(now / 1000), Some(("seconds", now)));
        assert_eq!(other_unit(now * 1000), Some(("microseconds", now)));
        assert_eq!(other_unit(now * 1_000_000), Some(("nanoseconds", now)));
    }
}
