//! Time as captures tell it: nanoseconds since the Unix epoch, never the clock of this machine.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Nanoseconds since the Unix epoch (UTC), by the clock of the machine that captured.
///
/// Shown, and written in JSON, as RFC 3339 with nine digits of fraction: `2026-01-06T10:22:31.004512000Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time and `nanos` more; saturates at the ends of what 64 bits can tell (years 1677 and 2262).
    pub fn plus(self, nanos: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(nanos))
    }

    /// Nanoseconds from `earlier` to this time; negative when `earlier` is later. Saturates.
    pub fn since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Days since 1970-01-01 to (year, month, day), after Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// (year, month, day) to days since 1970-01-01: the inverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let yoe = year.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(NANOS_PER_SECOND);
        let nanos = self.0.rem_euclid(NANOS_PER_SECOND);
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        let rest = seconds.rem_euclid(86_400);
        let (h, m, s) = (rest / 3_600, rest / 60 % 60, rest % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{nanos:09}Z")
    }
}

/// The text is no RFC 3339 time in UTC, such as `2026-01-06T10:22:31.004512000Z`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no RFC 3339 time in UTC, such as 2026-01-06T10:22:31.004512000Z")]
pub struct TimestampError(String);

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || -> Option<i64> {
            let body = text.strip_suffix('Z')?;
            let (date, clock) = body.split_once('T')?;
            let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
            let (year, month, day) = (date.next()??, date.next()??, date.next()??);
            let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
            let mut clock = clock.splitn(3, ':').map(|part| part.parse::<i64>().ok());
            let (h, m, s) = (clock.next()??, clock.next()??, clock.next()??);
            let in_range = (0..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
            if !in_range || h > 23 || m > 59 || s > 60 || fraction.len() > 9 {
                return None;
            }
            let nanos =
                if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").parse::<i64>().ok()? };
            let seconds = days(year, month, day) * 86_400 + h * 3_600 + m * 60 + s;
            // The seconds of the first time that there is lie before it.
            i64::try_from(i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos)).ok()
        };
        parse().map(Timestamp).ok_or_else(|| TimestampError(text.to_owned()))
    }
}

/// The text is no moment that a person may type.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write 2026-01-06T10:22:31Z (a fraction may follow the seconds, and an offset such as +01:00 stand for the Z), a date \
     such as 2026-01-06 (its beginning in UTC), or seconds since 1970"
)]
pub struct TypedTimeError;

impl Timestamp {
    /// The moment that a person typed: RFC 3339, a date, which means its beginning in UTC, or seconds since 1970.
    ///
    /// A time of day without `Z` or offset is refused: nobody knows whose it is. So are eight digits, which are far likelier
    /// a date than a day of 1970.
    ///
    /// # Errors
    /// It is nothing of these.
    pub fn typed(text: &str) -> Result<Timestamp, TypedTimeError> {
        let parse = || {
            let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
            if digits(seconds) && digits(fraction) {
                let nanos = format!("{fraction:0<9}");
                let compact_date = text.len() == 8 && seconds.len() == 8;
                let plain = nanos.len() == 9 && !compact_date;
                let whole = seconds.parse::<i64>().ok().filter(|_| plain)?.checked_mul(NANOS_PER_SECOND)?;
                return whole.checked_add(nanos.parse().ok()?).map(Timestamp);
            }
            let (date, clock) = text.split_at_checked(10)?;
            let part = |from: usize, to: usize| date.get(from..to).filter(|part| digits(part))?.parse().ok();
            let (year, month, day): (i64, i64, i64) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
            let midnight = days(year, month, day);
            let dashes = date.bytes().enumerate().all(|(at, byte)| matches!(at, 4 | 7) == (byte == b'-'));
            if !dashes || civil(midnight) != (year, month, day) {
                return None;
            }
            if clock.is_empty() {
                return midnight.checked_mul(86_400 * NANOS_PER_SECOND).map(Timestamp);
            }
            let clock = clock.strip_prefix(['T', 't', ' '])?;
            let (clock, offset) = match clock.strip_suffix(['Z', 'z']) {
                Some(clock) => (clock, 0),
                None => {
                    let (clock, offset) = clock.split_at_checked(clock.len().checked_sub(6)?)?;
                    (clock, minutes_of(offset)?)
                }
            };
            let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
            let shape = |(at, byte): (usize, u8)| {
                if matches!(at, 2 | 5) { byte == b':' } else { byte.is_ascii_digit() }
            };
            if whole.len() != 8 || !whole.bytes().enumerate().all(shape) || !digits(fraction) {
                return None;
            }
            let in_utc: Timestamp = format!("{date}T{clock}Z").parse().ok()?;
            in_utc.0.checked_sub(offset * 60 * NANOS_PER_SECOND).map(Timestamp)
        };
        parse().ok_or(TypedTimeError)
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `+01:00` in minutes east of UTC.
fn minutes_of(offset: &str) -> Option<i64> {
    let (sign, clock) = match offset.split_at_checked(1)? {
        ("+", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return None,
    };
    let (hours, minutes) =
        clock.split_once(':').filter(|(hours, minutes)| digits(hours) && digits(minutes))?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Intervals of capture time in which frames came with gaps of at most [`Spans::GAP_NANOS`].
///
/// A function of the set of frame times alone: the order of insertion and of merging carries no meaning. Each insertion
/// costs at most the logarithm of the intervals: a capture may be made so that every frame comes before all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// All intervals but the latest: begin to end.
    earlier: BTreeMap<Timestamp, Timestamp>,
    /// The latest, at hand because time usually goes forward.
    latest: Option<(Timestamp, Timestamp)>,
}

impl Spans {
    /// The longest silence inside one interval: 3 s, the least time that SEMANTICS section 2 asks a capture to
    /// go on before silence counts as an answer. Shorter would store more intervals for no gain; longer could
    /// claim that a capture went on when it did not.
    pub const GAP_NANOS: i64 = 3 * NANOS_PER_SECOND;

    /// The longest silence after which a capture still is the same: 60 s, as long as SEMANTICS section 2 waits for a frame that shows
    /// that it went on. A host that is seen at all sends something within that time.
    pub const PAUSE_NANOS: i64 = 60 * NANOS_PER_SECOND;

    /// Adds one frame's time.
    #[inline(always)]
    pub fn insert(&mut self, time: Timestamp) {
        // The usual case: time goes forward.
        if let Some((_, end)) = &mut self.latest
            && time >= *end
            && time.0.wrapping_sub(end.0).cast_unsigned() <= Self::GAP_NANOS.cast_unsigned()
        {
            *end = time;
            return;
        }
        self.insert_any(time);
    }

    #[inline(never)]
    fn insert_any(&mut self, time: Timestamp) {
        match &mut self.latest {
            None => self.latest = Some((time, time)),
            Some((begin, end)) if time >= *begin && time.since(*end) <= Self::GAP_NANOS => {
                *end = time.max(*end);
            }
            Some(latest) if time > latest.1 => {
                self.earlier.insert(latest.0, latest.1);
                *latest = (time, time);
            }
            Some(_) => self.add(time, time),
        }
    }

    fn add(&mut self, mut from: Timestamp, mut to: Timestamp) {
        self.earlier.extend(self.latest.take());
        // Intervals lie apart by more than the gap, so that those near to this one stand side by side.
        while let Some((&begin, &end)) = self.earlier.range(..=to.plus(Self::GAP_NANOS)).next_back()
            && from.since(end) <= Self::GAP_NANOS
        {
            self.earlier.remove(&begin);
            from = from.min(begin);
            to = to.max(end);
        }
        self.earlier.insert(from, to);
        self.latest = self.earlier.pop_last();
    }

    /// Adds all intervals of `other`.
    pub fn merge(&mut self, other: &Spans) {
        other.iter().for_each(|(from, to)| self.add(from, to));
    }

    /// The intervals but for what lies in others; these should be longer than [`Spans::GAP_NANOS`], or they close again.
    #[must_use]
    pub fn without(&self, others: &[(Timestamp, Timestamp)]) -> Spans {
        let mut left: Vec<(Timestamp, Timestamp)> = self.iter().collect();
        for &(from, to) in others {
            left = left
                .into_iter()
                .flat_map(|(begin, end)| [(begin, end.min(from.plus(-1))), (begin.max(to.plus(1)), end)])
                .filter(|(begin, end)| begin <= end)
                .collect();
        }
        let mut spans = Spans::default();
        left.into_iter().for_each(|(begin, end)| spans.add(begin, end));
        spans
    }

    /// Whether some frame came in `from..=to`.
    ///
    /// Exact where the window is at least [`Spans::GAP_NANOS`] long; a shorter window inside an interval counts as
    /// seen.
    pub fn any_within(&self, from: Timestamp, to: Timestamp) -> bool {
        let last = match self.latest {
            Some((begin, end)) if begin <= to => Some(end),
            _ => self.earlier.range(..=to).next_back().map(|(_, &end)| end),
        };
        last.is_some_and(|end| from <= end)
    }

    /// The intervals, ascending and apart by more than [`Spans::GAP_NANOS`].
    pub fn iter(&self) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        self.earlier.iter().map(|(&begin, &end)| (begin, end)).chain(self.latest)
    }

    /// When captures begin: with the first frame, and again after so long a pause that nobody knows what went on in it. Several
    /// captures that follow each other closely begin once, as one that was cut does.
    pub fn begins(&self) -> Vec<Timestamp> {
        let mut end: Option<Timestamp> = None;
        let begins = self.iter().filter_map(|(from, to)| {
            let before = end.replace(to);
            before.is_none_or(|before| from.since(before) > Self::PAUSE_NANOS).then_some(from)
        });
        begins.collect()
    }

    /// How many intervals there are.
    pub fn len(&self) -> usize {
        self.earlier.len() + usize::from(self.latest.is_some())
    }

    /// Whether no frame came.
    pub fn is_empty(&self) -> bool {
        self.latest.is_none()
    }

    /// The earliest and the latest time, if any frame came.
    pub fn range(&self) -> Option<(Timestamp, Timestamp)> {
        Some((self.iter().next()?.0, self.latest?.1))
    }
}

/// A list of pairs, as [`Spans::iter`] gives them.
impl Serialize for Spans {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Spans {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut spans = Spans::default();
        for (from, to) in Vec::<(Timestamp, Timestamp)>::deserialize(deserializer)? {
            spans.add(from, to.max(from));
        }
        Ok(spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_time_of_all_are_far_from_each_other() {
        for (one, other) in [(i64::MAX, i64::MIN), (i64::MIN, i64::MAX)] {
            let mut spans = Spans::default();
            [one, other].into_iter().for_each(|time| spans.insert(Timestamp(time)));
            assert_eq!(spans.len(), 2);
        }
    }

    #[test]
    fn a_time_is_written_as_rfc_3339_and_read_back() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_767_694_951_004_512_000, "2026-01-06T10:22:31.004512000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
        ] {
            assert_eq!(Timestamp(nanos).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(nanos)));
        }
        for bad in [
            "",
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "2026-01-01T00:00:00+01:00",
            "1677-09-21T00:12:43.145224191Z",
            "2262-04-11T23:47:16.854775808Z",
            "9223372036854775807-01-01T00:00:00Z",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_moment_is_read_as_people_type_it_and_never_guessed() {
        for (text, expected) in [
            ("2026-01-06T10:22:31Z",            Some("2026-01-06T10:22:31.000000000Z")),
            ("2026-01-06 10:22:31.5z",          Some("2026-01-06T10:22:31.500000000Z")),
            ("2026-01-06T10:22:31.004512+01:00", Some("2026-01-06T09:22:31.004512000Z")),
            ("2026-01-06T23:30:00-01:30",       Some("2026-01-07T01:00:00.000000000Z")),
            ("2026-01-06",                      Some("2026-01-06T00:00:00.000000000Z")),
            ("2024-02-29",                      Some("2024-02-29T00:00:00.000000000Z")),
            ("1767694951",                      Some("2026-01-06T10:22:31.000000000Z")),
            ("1767694951.004512",               Some("2026-01-06T10:22:31.004512000Z")), // as tcpdump -tt prints it
            ("0",                               Some("1970-01-01T00:00:00.000000000Z")),
            ("2026-01-06T10:22:31",             None), // whose time of day?
            ("2026-01-06T10:22",                None),
            ("2026-01-06T24:00:00Z",            None),
            ("2026-01-06T10:22:31+1:00",        None),
            ("2026-01-06T10:22:31+25:00",       None),
            ("2026-01-06T10:22:31.Z",           None),
            ("2026-01-06T10:22:31.0123456789Z", None),
            ("2026-02-30",                      None),
            ("2026-1-6",                        None),
            ("20260106",                        None), // a day of August 1970, or a date?
            ("1767694951004",                   None), // milliseconds
            ("-1",                              None),
            ("yesterday",                       None),
            ("2026-01-0\u{e9}",                 None),
            ("",                                None),
        ] {
            let found = Timestamp::typed(text).ok().map(|time| time.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn spans_are_a_function_of_the_set_of_times() {
        let seconds = [0i64, 2, 5, 9, 12, 30, 31, 1, 10];
        let mut orders = vec![seconds.to_vec(); 3];
        orders[1].reverse();
        orders[2].rotate_left(4);
        let spans: Vec<Spans> = orders
            .iter()
            .map(|order| {
                let mut spans = Spans::default();
                order.iter().for_each(|s| spans.insert(Timestamp(s * NANOS_PER_SECOND)));
                spans
            })
            .collect();
        assert_eq!(spans[0], spans[1]);
        assert_eq!(spans[0], spans[2]);
        assert_eq!(spans[0].len(), 3, "{:?}", spans[0]);
        let mut halves = Spans::default();
        let mut tail = Spans::default();
        seconds[..4].iter().for_each(|s| halves.insert(Timestamp(s * NANOS_PER_SECOND)));
        seconds[4..].iter().for_each(|s| tail.insert(Timestamp(s * NANOS_PER_SECOND)));
        halves.merge(&tail);
        assert_eq!(halves, spans[0]);
    }

    /// 400,000 intervals, each before all others: minutes where an insertion moves what comes after it.
    #[test]
    fn times_that_run_backwards_cost_no_more_than_others() {
        let mut spans = Spans::default();
        (0..400_000).rev().for_each(|n| spans.insert(Timestamp(n * 4 * NANOS_PER_SECOND)));
        assert_eq!(spans.len(), 400_000);
        let mut again = Spans::default();
        again.merge(&spans);
        assert_eq!(again, spans);
    }

    #[test]
    fn a_window_sees_frames_only_where_there_are_some() {
        let mut spans = Spans::default();
        [0, 2, 20].into_iter().for_each(|s| spans.insert(Timestamp(s * NANOS_PER_SECOND)));
        let within = |from: i64, to: i64| {
            spans.any_within(Timestamp(from * NANOS_PER_SECOND), Timestamp(to * NANOS_PER_SECOND))
        };
        assert!(within(3, 20) && within(1, 4) && !within(3, 19) && !within(21, 60));
    }
}
