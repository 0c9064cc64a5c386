//! Dates and times of Avro as RFC 3339. What it cannot express, years of more than four digits, stays a number.

use super::json::Output;

/// The unit of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    const fn per_second(self) -> i64 {
        match self {
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }

    /// Digits of a fraction of a second.
    const fn digits(self) -> usize {
        match self {
            Self::Millis => 3,
            Self::Micros => 6,
            Self::Nanos => 9,
        }
    }
}

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// Writes a point of time, with `Z` unless it is local.
pub(super) fn timestamp(value: i64, unit: Unit, is_local: bool, out: &mut Output<'_>) {
    let seconds = value.div_euclid(unit.per_second());
    let date = date_of(seconds.div_euclid(SECONDS_PER_DAY));
    let Some(date) = date.filter(|_| !out.options.numbers_times) else {
        return out.int64(value);
    };
    out.byte(b'"');
    write_date(date, out);
    out.byte(b'T');
    write_time(
        seconds.rem_euclid(SECONDS_PER_DAY),
        value.rem_euclid(unit.per_second()),
        unit,
        out,
    );
    out.raw(if is_local { b"\"" } else { b"Z\"" });
}

/// Writes a point of time of the years 0 to 9999, with as many digits of the nanoseconds as are needed: none, 3, 6 or 9.
#[cfg(feature = "protobuf")]
pub(super) fn instant(seconds: i64, nanos: i32, out: &mut Output<'_>) {
    let date = date_of(seconds.div_euclid(SECONDS_PER_DAY)).unwrap_or_default();
    let nanos = i64::from(nanos);
    out.byte(b'"');
    write_date(date, out);
    out.byte(b'T');
    write_clock(seconds.rem_euclid(SECONDS_PER_DAY), out);
    let (fraction, count) = match (nanos % 1_000_000, nanos % 1_000) {
        (0, _) => (nanos / 1_000_000, 3),
        (_, 0) => (nanos / 1_000, 6),
        _ => (nanos, 9),
    };
    if nanos > 0 {
        out.byte(b'.');
        digits(fraction, count, out);
    }
    out.raw(b"Z\"");
}

/// Writes a date from the days since 1970.
pub(super) fn date(days: i32, out: &mut Output<'_>) {
    let date = date_of(days.into()).filter(|_| !out.options.numbers_times);
    let Some(date) = date else {
        return out.integer(days.into());
    };
    out.byte(b'"');
    write_date(date, out);
    out.byte(b'"');
}

/// Writes a time of day.
pub(super) fn time(value: i64, unit: Unit, out: &mut Output<'_>) {
    let seconds = value.div_euclid(unit.per_second());
    if out.options.numbers_times || !(0..SECONDS_PER_DAY).contains(&seconds) {
        return match unit {
            Unit::Millis => out.integer(value),
            Unit::Micros | Unit::Nanos => out.int64(value),
        };
    }
    out.byte(b'"');
    write_time(seconds, value.rem_euclid(unit.per_second()), unit, out);
    out.byte(b'"');
}

/// Writes an amount of months, days and milliseconds as a duration of ISO 8601.
pub(super) fn duration(months: u32, days: u32, millis: u32, out: &mut Output<'_>) {
    let text = format!("P{months}M{days}DT{}.{:03}S", millis / 1000, millis % 1000);
    out.string(&text);
}

/// Year, month and day.
type Date = (i64, i64, i64);

/// The date of the proleptic Gregorian calendar so many days after 1970-01-01, in the years 0 to 9999.
///
/// The algorithm is Howard Hinnant's `civil_from_days`.
fn date_of(days: i64) -> Option<Date> {
    // Ten thousand years, so that nothing below overflows.
    if !(-4_000_000..4_000_000).contains(&days) {
        return None;
    }
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March is month 0.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (0..10_000).contains(&year).then_some((year, month, day))
}

fn write_date((year, month, day): Date, out: &mut Output<'_>) {
    digits(year, 4, out);
    out.byte(b'-');
    digits(month, 2, out);
    out.byte(b'-');
    digits(day, 2, out);
}

fn write_time(seconds: i64, fraction: i64, unit: Unit, out: &mut Output<'_>) {
    write_clock(seconds, out);
    out.byte(b'.');
    digits(fraction, unit.digits(), out);
}

fn write_clock(seconds: i64, out: &mut Output<'_>) {
    digits(seconds / 3600, 2, out);
    out.byte(b':');
    digits(seconds / 60 % 60, 2, out);
    out.byte(b':');
    digits(seconds % 60, 2, out);
}

/// Writes a number that is not negative with so many digits, of which it has no more.
fn digits(mut value: i64, count: usize, out: &mut Output<'_>) {
    let mut text = [b'0'; 9];
    for place in text[..count].iter_mut().rev() {
        // One digit.
        *place += u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
    out.raw(&text[..count]);
}
