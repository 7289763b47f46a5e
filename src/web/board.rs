//! What the page shows, and since when each part of it is so: a client is told only what changed after what it has.
//!
//! The parts of a picture (its head, each row of the matrix, each line of conversations, each finding) stand in one order,
//! by the serial of the picture in which they changed last. A client's place in that order is a [`Cursor`]; what it lacks
//! are the parts behind. A part that changes again moves to the end: whoever reads slowly misses what it was meanwhile,
//! never what it is, and nothing is kept for them.

use super::About;
use crate::model::{NANOS_PER_SECOND, Timestamp};
use crate::pipeline::live::{LiveFinding, Picture};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

/// Parts told at once, at the most.
const MOST_PARTS: usize = 500;

/// Bytes told at once; the part that exceeds them is the last.
const MOST_BYTES: usize = 256 << 10;

/// Points of the curves that are kept: 5 minutes of seconds.
const MOST_SAMPLES: usize = 300;

/// A part of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// What it is held against.
    About,
    /// Everything that is one value.
    Head,
    /// What else happened.
    Notices,
    /// A row of the matrix, by its place.
    Row(u64),
    /// A line of conversations, by its place here.
    Line(u64),
    /// A finding, by its number.
    Finding(u64),
}

/// How much of the picture a client has: everything up to a part that changed at a serial. Written
/// `run-serial-part`, which is the id of its event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    run: String,
    at: Option<(u64, Part)>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (serial, part) = self.at.unwrap_or((0, Part::Head));
        write!(f, "{}-{serial}-", self.run)?;
        match part {
            Part::About => write!(f, "a"),
            Part::Head => write!(f, "h"),
            Part::Notices => write!(f, "n"),
            Part::Row(row) => write!(f, "r{row}"),
            Part::Line(line) => write!(f, "l{line}"),
            Part::Finding(number) => write!(f, "f{number}"),
        }
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut fields = text.splitn(3, '-');
        let (run, serial, part) = (fields.next(), fields.next(), fields.next());
        let (Some(run), Some(serial), Some(part)) = (run, serial, part) else { return Err(()) };
        let number = |text: &str| text.parse::<u64>().map_err(|_| ());
        let part = match part.split_at_checked(1) {
            Some(("a", "")) => Part::About,
            Some(("h", "")) => Part::Head,
            Some(("n", "")) => Part::Notices,
            Some(("r", row)) => Part::Row(number(row)?),
            Some(("l", line)) => Part::Line(number(line)?),
            Some(("f", finding)) => Part::Finding(number(finding)?),
            _ => return Err(()),
        };
        Ok(Cursor { run: run.to_owned(), at: Some((number(serial)?, part)) })
    }
}

/// What a part is now.
enum Content {
    Text(String),
    Finding(Arc<LiveFinding>),
}

struct Held {
    changed: u64,
    content: Content,
}

/// A point of the curves.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Sample {
    at: Timestamp,
    frames_per_second: f64,
    bits_per_second: f64,
    lost: u64,
}

/// What to tell a client.
pub(super) struct Told {
    /// What it has then.
    pub cursor: Cursor,
    /// One JSON object in one line.
    pub json: String,
}

/// Everything that the page shows.
#[derive(Default)]
pub(super) struct Board {
    run: String,
    generation: u64,
    about: About,
    picture: Arc<Picture>,
    arrived: Option<Instant>,
    parts: BTreeMap<Part, Held>,
    order: BTreeSet<(u64, Part)>,
    line_of: BTreeMap<(String, String), u64>,
    samples: VecDeque<Sample>,
    /// When the latest of the frames that were lost were found to be.
    lost_at: Option<Instant>,
}

/// The head of a picture: what is one value each.
#[derive(Serialize)]
struct Head<'p> {
    serial: u64,
    began: Timestamp,
    now: Timestamp,
    latest: Option<Timestamp>,
    warm_up: bool,
    ended: bool,
    interfaces: &'p [crate::pipeline::live::InterfacePicture],
    stages: &'p crate::pipeline::live::Stages,
    frames_per_second: f64,
    bits_per_second: f64,
    totals: &'p crate::pipeline::live::FlowTotals,
    findings: usize,
    findings_folded: u64,
    names: &'p crate::audit::NamesQuality,
    segment: &'p str,
}

impl<'p> Head<'p> {
    fn of(picture: &'p Picture) -> Self {
        Head {
            serial: picture.serial,
            began: picture.began,
            now: picture.now,
            latest: picture.latest,
            warm_up: picture.warm_up,
            ended: picture.ended,
            interfaces: &picture.interfaces,
            stages: &picture.stages,
            frames_per_second: picture.frames_per_second,
            bits_per_second: picture.bits_per_second,
            totals: &picture.totals,
            findings: picture.findings.len(),
            findings_folded: picture.findings_folded,
            names: &picture.names,
            segment: &picture.segment,
        }
    }
}

/// Frames that were lost, as far as anybody counted them.
pub(super) fn lost(picture: &Picture) -> u64 {
    picture.stages.kernel_dropped + picture.stages.interface_dropped
}

/// A value as JSON. These types have only fields that JSON can hold.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

impl Board {
    /// The picture as it is.
    pub(super) fn picture(&self) -> &Arc<Picture> {
        &self.picture
    }

    /// When it came.
    pub(super) fn arrived(&self) -> Option<Instant> {
        self.arrived
    }

    /// When frames were found to be lost the last time.
    pub(super) fn lost_at(&self) -> Option<Instant> {
        self.lost_at
    }

    /// What it is held against.
    pub(super) fn about(&self) -> &About {
        &self.about
    }

    /// Something else that it is held against: told with the next picture.
    pub(super) fn set_about(&mut self, about: About) {
        if let Some(held) = self.parts.remove(&Part::About) {
            self.order.remove(&(held.changed, Part::About));
        }
        self.about = about;
    }

    /// Takes a new picture.
    pub(super) fn take(&mut self, picture: Arc<Picture>) {
        let before = std::mem::replace(&mut self.picture, picture);
        let picture = Arc::clone(&self.picture);
        let rules = |picture: &Picture| -> Vec<String> {
            picture.matrix.iter().map(|row| row.coverage.rule.clone()).collect()
        };
        // Another matrix is another page: whoever has the old one begins anew.
        if self.run.is_empty() || before.began != picture.began || rules(&before) != rules(&picture) {
            self.generation += 1;
            self.run = format!("{:x}.{}", picture.began.0, self.generation);
            self.parts.clear();
            self.order.clear();
            self.line_of.clear();
        }
        if self.arrived.is_some() && lost(&picture) > lost(&before) {
            self.lost_at = Some(Instant::now());
        }
        self.arrived = Some(Instant::now());
        let serial = picture.serial;
        if !self.parts.contains_key(&Part::About) {
            self.set(serial, Part::About, Content::Text(json(&self.about)));
        }
        self.set(serial, Part::Head, Content::Text(json(&Head::of(&picture))));
        if before.notices != picture.notices || !self.parts.contains_key(&Part::Notices) {
            self.set(serial, Part::Notices, Content::Text(json(&picture.notices)));
        }
        for (place, row) in picture.matrix.iter().enumerate() {
            let part = Part::Row(place as u64);
            if before.matrix.get(place) != Some(row) || !self.parts.contains_key(&part) {
                self.set(serial, part, Content::Text(placed(place as u64, row)));
            }
        }
        self.take_lines(&before, &picture);
        for finding in &picture.findings {
            let part = Part::Finding(finding.number);
            let same = matches!(
                self.parts.get(&part),
                Some(Held { content: Content::Finding(held), .. }) if Arc::ptr_eq(held, finding)
            );
            if !same {
                self.set(serial, part, Content::Finding(Arc::clone(finding)));
            }
        }
        let due =
            self.samples.back().is_none_or(|last| picture.now.since(last.at) >= NANOS_PER_SECOND * 9 / 10);
        if due {
            if self.samples.len() >= MOST_SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back(Sample {
                at: picture.now,
                frames_per_second: picture.frames_per_second,
                bits_per_second: picture.bits_per_second,
                lost: lost(&picture),
            });
        }
    }

    fn take_lines(&mut self, before: &Picture, picture: &Picture) {
        let key = |line: &crate::audit::Conversation| (line.from.clone(), line.to.clone());
        let old: BTreeMap<_, _> = before.conversations.iter().map(|line| (key(line), line)).collect();
        let mut gone: BTreeSet<_> = self.line_of.keys().cloned().collect();
        for line in &picture.conversations {
            let key = key(line);
            gone.remove(&key);
            if old.get(&key) == Some(&line) && self.line_of.contains_key(&key) {
                continue;
            }
            let next = self.line_of.len() as u64;
            let place = *self.line_of.entry(key).or_insert(next);
            self.set(picture.serial, Part::Line(place), Content::Text(placed(place, line)));
        }
        for (from, to) in gone.into_iter().filter(|key| old.contains_key(key)) {
            let Some(&place) = self.line_of.get(&(from.clone(), to.clone())) else { continue };
            let line = crate::audit::Conversation {
                from,
                to,
                flows: 0,
                verdicts: BTreeMap::new(),
                outcomes: BTreeMap::new(),
                bytes: 0,
            };
            self.set(picture.serial, Part::Line(place), Content::Text(placed(place, &line)));
        }
    }

    fn set(&mut self, serial: u64, part: Part, content: Content) {
        if let Some(held) = self.parts.insert(part, Held { changed: serial, content }) {
            self.order.remove(&(held.changed, part));
        }
        self.order.insert((serial, part));
    }

    /// What a client lacks, or the first of it; none if it has everything.
    ///
    /// A client that has nothing, or something of another run, gets everything, and is told to forget what it has.
    pub(super) fn after(&self, cursor: &Cursor, first: bool) -> Option<Told> {
        let newest = self.order.last()?;
        let anew = cursor.run != self.run || cursor.at.is_none_or(|at| at.0 > newest.0);
        let from = if anew { Bound::Unbounded } else { cursor.at.map_or(Bound::Unbounded, Bound::Excluded) };
        let mut lacking = self.order.range((from, Bound::Unbounded));
        let (mut about, mut head, mut notices) = (None, None, None);
        let (mut rows, mut lines, mut findings) = (Vec::new(), Vec::new(), Vec::new());
        let (mut last, mut count, mut bytes) = (None, 0, 0);
        while count < MOST_PARTS
            && bytes < MOST_BYTES
            && let Some(at) = lacking.next()
        {
            let Some(held) = self.parts.get(&at.1) else { continue };
            let text = match &held.content {
                Content::Text(text) => text.clone(),
                Content::Finding(finding) => json(&**finding),
            };
            count += 1;
            bytes += text.len();
            last = Some(*at);
            match at.1 {
                Part::About => about = Some(text),
                Part::Head => head = Some(text),
                Part::Notices => notices = Some(text),
                Part::Row(_) => rows.push(text),
                Part::Line(_) => lines.push(text),
                Part::Finding(_) => findings.push(text),
            }
        }
        last?;
        let more = lacking.next().is_some();
        let mut fields = vec![format!("\"reset\":{anew}"), format!("\"more\":{more}")];
        if anew || first {
            fields.push(format!("\"samples\":{}", json(&self.samples)));
        }
        for (name, value) in [("about", about), ("head", head), ("notices", notices)] {
            fields.extend(value.map(|value| format!("\"{name}\":{value}")));
        }
        for (name, values) in [("rows", rows), ("lines", lines), ("findings", findings)] {
            if !values.is_empty() {
                fields.push(format!("\"{name}\":[{}]", values.join(",")));
            }
        }
        Some(Told {
            cursor: Cursor { run: self.run.clone(), at: last },
            json: format!("{{{}}}", fields.join(",")),
        })
    }
}

/// A value with its place.
fn placed(place: u64, value: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Placed<'v, T> {
        place: u64,
        #[serde(flatten)]
        value: &'v T,
    }
    json(&Placed { place, value })
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use serde_json::Value;

    fn told(board: &Board, cursor: &mut Cursor) -> Option<Value> {
        let told = board.after(cursor, false)?;
        assert_eq!(told.cursor.to_string().parse::<Cursor>(), Ok(told.cursor.clone()));
        *cursor = told.cursor;
        Some(serde_json::from_str(&told.json).expect("JSON"))
    }

    fn numbers(told: &Value) -> Vec<u64> {
        let findings = told["findings"].as_array().map_or(&[][..], Vec::as_slice);
        findings.iter().map(|finding| finding["number"].as_u64().unwrap()).collect()
    }

    #[test]
    fn who_has_nothing_gets_everything_then_only_what_changed() {
        let mut board = Board::default();
        assert!(board.after(&Cursor::default(), true).is_none(), "there is nothing to tell yet");
        let mut picture = sample::picture(3);
        board.take(Arc::new(picture.clone()));
        let mut cursor = Cursor::default();
        let all = told(&board, &mut cursor).expect("everything");
        assert_eq!((&all["reset"], &all["more"]), (&Value::Bool(true), &Value::Bool(false)));
        assert_eq!(all["rows"].as_array().unwrap().len(), picture.matrix.len());
        assert_eq!(numbers(&all), [1, 2, 3]);
        assert_eq!(all["lines"][0]["from"], "worker");
        assert!(told(&board, &mut cursor).is_none(), "it has everything");

        picture.serial += 1;
        sample::grow(&mut picture, 2);
        picture.matrix[1].worked += 1;
        board.take(Arc::new(picture.clone()));
        let change = told(&board, &mut cursor).expect("a change");
        assert_eq!(change["reset"], false);
        assert_eq!(numbers(&change), [2]);
        assert_eq!(change["findings"][0]["finding"]["count"], 2);
        let rows = change["rows"].as_array().unwrap();
        assert_eq!((rows.len(), rows[0]["place"].as_u64()), (1, Some(1)));
        assert_eq!(change["head"]["serial"], picture.serial);
        assert!(change["lines"].is_null() && change["notices"].is_null(), "{change}");

        picture.serial += 1;
        picture.conversations.clear();
        board.take(Arc::new(picture));
        assert_eq!(told(&board, &mut cursor).unwrap()["lines"][0]["flows"], 0, "a line that went is told");
    }

    #[test]
    fn a_slow_reader_misses_what_was_never_what_is() {
        let (mut board, mut slow) = (Board::default(), Cursor::default());
        let mut picture = sample::picture(5);
        board.take(Arc::new(picture.clone()));
        told(&board, &mut slow);
        for _ in 0..100 {
            picture.serial += 1;
            sample::grow(&mut picture, 4);
            board.take(Arc::new(picture.clone()));
        }
        let change = told(&board, &mut slow).expect("a change");
        assert_eq!(numbers(&change), [4], "once, however often it changed");
        assert_eq!(change["findings"][0]["finding"]["count"], 101);
        assert!(told(&board, &mut slow).is_none());
        assert_eq!(board.order.len(), board.parts.len(), "nothing is kept of what was");
    }

    #[test]
    fn many_findings_come_in_pieces_each_once_and_a_piece_can_be_the_last_one_had() {
        let mut board = Board::default();
        let mut picture = sample::picture(2_000);
        board.take(Arc::new(picture.clone()));
        let (mut cursor, mut seen, mut pieces) = (Cursor::default(), BTreeSet::new(), 0);
        while let Some(piece) = told(&board, &mut cursor) {
            pieces += 1;
            assert_eq!(piece["reset"], pieces == 1, "only the first one begins anew");
            for number in numbers(&piece) {
                assert!(seen.insert(number), "{number} came twice");
            }
            if pieces == 2 {
                // Meanwhile one that was told changes, and one that was not.
                picture.serial += 1;
                sample::grow(&mut picture, 1);
                sample::grow(&mut picture, 2_000);
                board.take(Arc::new(picture.clone()));
                seen.remove(&1);
            }
        }
        assert!(pieces > 3, "{pieces} pieces");
        assert_eq!(seen.len(), 2_000);
    }

    #[test]
    fn a_cursor_of_another_run_or_matrix_or_none_at_all_begins_anew() {
        let mut board = Board::default();
        let mut picture = sample::picture(1);
        board.take(Arc::new(picture.clone()));
        let mut cursor = Cursor::default();
        told(&board, &mut cursor);
        for foreign in ["", "x", "1.1-1-h", "1.1-1-q7", "1.1--h", "1.1-1-f"] {
            let mut foreign: Cursor = foreign.parse().unwrap_or_default();
            assert_eq!(told(&board, &mut foreign).unwrap()["reset"], true);
        }
        picture.serial += 1;
        picture.matrix.pop();
        board.take(Arc::new(picture));
        let anew = told(&board, &mut cursor).unwrap();
        assert_eq!((&anew["reset"], numbers(&anew)), (&Value::Bool(true), vec![1]));
    }
}
