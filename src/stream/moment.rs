//! Points in time in eight bytes, of which a waiting reader keeps several.

use std::num::NonZeroI64;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The point from which the others are counted: that of the first one made.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// A point of the monotonic clock, within 292 years of the origin: nanoseconds from there, plus 2^63, so that none is zero
/// and an `Option` takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(NonZeroI64);

impl From<Instant> for Moment {
    fn from(instant: Instant) -> Self {
        let origin = *ORIGIN.get_or_init(|| instant);
        let nanoseconds = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let from_origin = match instant.checked_duration_since(origin) {
            Some(after) => nanoseconds(after),
            None => -nanoseconds(origin.saturating_duration_since(instant)),
        };
        Self(NonZeroI64::new(from_origin ^ i64::MIN).unwrap_or(NonZeroI64::MIN))
    }
}

impl From<Moment> for Instant {
    fn from(moment: Moment) -> Self {
        let from_origin = moment.0.get() ^ i64::MIN;
        let distance = Duration::from_nanos(from_origin.unsigned_abs());
        let Some(&origin) = ORIGIN.get() else {
            unreachable!("the first moment sets it");
        };
        let instant = if from_origin < 0 {
            origin.checked_sub(distance)
        } else {
            origin.checked_add(distance)
        };
        instant.unwrap_or(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_instant_it_was_made_of() {
        let before = Instant::now();
        let nanosecond = Duration::from_nanos(1);
        let now = before + nanosecond;
        let year = Duration::from_secs(366 * 24 * 60 * 60);
        let instants = [now, now + year, now + 100 * year + nanosecond, before];
        for instant in instants {
            assert_eq!(Instant::from(Moment::from(instant)), instant);
        }
        assert_eq!(size_of::<Option<Moment>>(), 8);
    }
}
