//! What a run does when memory gets scarce: conversations stay open for a shorter time, a window ends early, and of what was
//! not followed nothing is said that rests on silence. Each is told when it begins and when it is over.

use super::events::{Notice, Outlet};
use crate::capture::live::now;
use crate::flow::FlowTable;
use crate::model::{NANOS_PER_SECOND, Spans, Timestamp};
use std::time::{Duration, Instant};

/// Open conversations from which on there is an emergency, in eighths of those that there may be: early enough that what is
/// over makes room before others have to.
const BEGINS_EIGHTHS: usize = 6;

/// Open conversations at which it is over: well below, so that it does not begin again at once.
const ENDS_EIGHTHS: usize = 4;

/// How long it has to be so before it is over: a segment that ends empties the table, and a flood fills the next one at once.
const CALM: Duration = Duration::from_secs(5);

/// The emergency of one run's table of open conversations.
#[derive(Default)]
pub(super) struct Emergency {
    /// Cuts of the tables before the one at hand: since there was hurry, since the table was full.
    past: [u64; 2],
    /// What they were when it began.
    begun: Option<[u64; 2]>,
    /// Since when few are open.
    calm_since: Option<Instant>,
    /// How often it began; and how often before the segment at hand.
    times: u64,
    times_before: u64,
}

impl Emergency {
    /// Looks at the table, and lets it hurry or not.
    pub(super) fn look(&mut self, table: &mut FlowTable, outlet: &Outlet) {
        let (open, capacity) = (table.open(), table.capacity());
        match self.begun {
            None if open * 8 >= capacity * BEGINS_EIGHTHS => {
                self.begun = Some(self.cuts(table));
                self.times += 1;
                self.calm_since = None;
                table.hurry(true);
                outlet.notice(Notice::Emergency { at: now(), open: open as u64, capacity: capacity as u64 });
            }
            Some(before) if open * 8 <= capacity * ENDS_EIGHTHS => {
                let calm_since = *self.calm_since.get_or_insert_with(Instant::now);
                if calm_since.elapsed() < CALM {
                    return;
                }
                self.begun = None;
                table.hurry(false);
                self.over(before, self.cuts(table), outlet);
            }
            Some(_) => {
                self.calm_since = None;
                // A table that is new does not know yet.
                table.hurry(true);
            }
            None => {}
        }
    }

    fn cuts(&self, table: &FlowTable) -> [u64; 2] {
        [self.past[0] + table.hurried(), self.past[1] + table.evicted()]
    }

    fn over(&self, before: [u64; 2], now_cut: [u64; 2], outlet: &Outlet) {
        outlet.notice(Notice::EmergencyOver {
            at: now(),
            hurried: now_cut[0] - before[0],
            evicted: now_cut[1] - before[1],
        });
    }

    /// The table at hand goes, with its segment: how often an emergency began in it (or lasted from before).
    pub(super) fn end_segment(&mut self, table: &FlowTable) -> u64 {
        self.past = self.cuts(table);
        let lasted = u64::from(self.times == self.times_before && self.begun.is_some());
        let times = self.times - self.times_before + lasted;
        self.times_before = self.times;
        times
    }

    /// The run ends.
    pub(super) fn end(&mut self, outlet: &Outlet) {
        if let Some(before) = self.begun.take() {
            self.over(before, self.past, outlet);
        }
    }

    /// Whether there is one.
    pub(super) fn is_on(&self) -> bool {
        self.begun.is_some()
    }

    /// How often it began.
    pub(super) fn times(&self) -> u64 {
        self.times
    }
}

/// How long before and after something silence is held against it: SEMANTICS section 2, an answer may take 60 s.
const ANSWER_NANOS: i64 = 60 * NANOS_PER_SECOND;

/// Times in which not every conversation was followed, apart from each other by more than an answer may take. A day has no
/// more than 720 of them.
#[derive(Default)]
pub(super) struct Blind(Vec<(Timestamp, Timestamp)>);

impl Blind {
    /// Something was missed between these times.
    pub(super) fn add(&mut self, from: Timestamp, to: Timestamp) {
        let (from, to) = (from.plus(-ANSWER_NANOS), to.plus(ANSWER_NANOS));
        match self.0.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => self.0.push((from, to)),
        }
    }

    /// When frames came, without the times in which an answer may have been missed: what was silent then proves nothing.
    pub(super) fn sure(&self, spans: Spans) -> Spans {
        if self.0.is_empty() { spans } else { spans.without(&self.0) }
    }

    /// A window begins: what was missed before is of no matter.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_proves_nothing_while_an_answer_may_have_been_missed() {
        let second = |n: i64| Timestamp(n * NANOS_PER_SECOND);
        let mut spans = Spans::default();
        (0..=600).for_each(|n| spans.insert(second(n)));
        let mut blind = Blind::default();
        assert_eq!(blind.sure(spans.clone()), spans);
        blind.add(second(200), second(201));
        blind.add(second(230), second(231));
        let sure = blind.sure(spans);
        // Whether some frame came 3 to 60 s after an attempt at this time.
        for (attempt, silent) in
            [(0, true), (79, true), (141, false), (200, false), (231, false), (232, true), (500, true)]
        {
            let (from, to) = (second(attempt + 3), second(attempt + 60));
            assert_eq!(sure.any_within(from, to), silent, "{attempt}");
        }
    }
}
