//! Days of the calendar: the date of a page, the last day of an exception.

use crate::model::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A day of the Gregorian calendar, written `2026-01-06`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CalendarDate {
    year: u16,
    month: u8,
    day: u8,
}

/// The text is no day of the calendar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no day of the calendar: write year, month and day as in 2026-01-06")]
pub struct CalendarDateError(String);

impl CalendarDate {
    /// The day, if there is such a day.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 => 28 + u8::from(leap),
            _ => return None,
        };
        let sound = (1970..=2261).contains(&year) && (1..=days).contains(&day);
        sound.then_some(CalendarDate { year, month, day })
    }

    /// The first nanosecond of the day, UTC.
    pub fn start(self) -> Timestamp {
        // The fields are a sound date within the years a Timestamp can tell.
        format!("{self}T00:00:00Z").parse().unwrap_or_default()
    }

    /// The last nanosecond of the day, UTC.
    pub fn end(self) -> Timestamp {
        self.start().plus(86_400 * crate::model::NANOS_PER_SECOND - 1)
    }
}

impl FromStr for CalendarDate {
    type Err = CalendarDateError;

    /// Reads `2026-01-06` and, as file names have it, `20260106`.
    fn from_str(text: &str) -> Result<Self, CalendarDateError> {
        let digits = match (text.len(), text.as_bytes()) {
            (10, bytes) if bytes[4] == b'-' && bytes[7] == b'-' => text.replace('-', ""),
            (8, _) => text.to_owned(),
            _ => String::new(),
        };
        let read = || {
            if digits.len() != 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let (year, month, day) = (&digits[..4], &digits[4..6], &digits[6..]);
            CalendarDate::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
        };
        read().ok_or_else(|| CalendarDateError(super::source::shown(text)))
    }
}

impl fmt::Display for CalendarDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl Serialize for CalendarDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CalendarDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_of_the_calendar_are_dates() {
        for good in ["2026-01-06", "2024-02-29", "2000-02-29"] {
            assert_eq!(good.parse::<CalendarDate>().unwrap().to_string(), good);
        }
        assert_eq!("20260106".parse(), "2026-01-06".parse::<CalendarDate>());
        for bad in [
            "",
            "2026-02-30",
            "2023-02-29",
            "1900-02-29",
            "2026-13-01",
            "2026-1-6",
            "1/6/2026",
            "+026-01-06",
            "2026-01-06T00",
            "é026-1-06",
        ] {
            assert!(bad.parse::<CalendarDate>().is_err(), "{bad:?}");
        }
        let day: CalendarDate = "2026-01-06".parse().unwrap();
        assert_eq!(day.start().to_string(), "2026-01-06T00:00:00.000000000Z");
        assert_eq!(day.end().to_string(), "2026-01-06T23:59:59.999999999Z");
    }
}
