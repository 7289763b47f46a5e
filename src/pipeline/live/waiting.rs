//! In which order conversations are looked at: what may bring a finding first, first come, first told.

use crate::flow::FlowKey;
use crate::model::Timestamp;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Conversations that wait for their first look, at the most: 8,192, what a fast machine looks at in a tenth of a second and comes
/// anew in that time at 300,000 frames a second.
pub(super) const MOST_WAITING: usize = 1 << 13;

/// Fewer always may wait: 1,024. A machine that is busy for a moment does not make whoever follows deaf.
const LEAST_WAITING: usize = 1 << 10;

/// How long the last of them may have to wait: 1 s. With the ring and the tick before, and writing after, a finding is told within
/// two.
const PATIENCE: Duration = Duration::from_secs(1);

/// Conversations that wait to be looked at.
#[derive(Debug, Default)]
pub struct LookQueue {
    /// Those of which nothing is known yet, or not how they go: in the order in which they came.
    soon: VecDeque<FlowKey>,
    /// Those of which it is known what they are, or what others like them are.
    later: VecDeque<FlowKey>,
    /// Those that change by time alone, and when.
    due: BTreeSet<(Timestamp, FlowKey)>,
}

impl LookQueue {
    pub(super) fn add_soon(&mut self, key: FlowKey) {
        self.soon.push_back(key);
    }

    pub(super) fn add_later(&mut self, key: FlowKey) {
        self.later.push_back(key);
    }

    pub(super) fn add_due(&mut self, time: Timestamp, key: FlowKey) {
        self.due.insert((time, key));
    }

    pub(super) fn remove_due(&mut self, time: Timestamp, key: FlowKey) {
        self.due.remove(&(time, key));
    }

    /// How many can wait behind others.
    pub(super) fn later(&self) -> usize {
        self.later.len()
    }

    /// Those that may bring a finding.
    pub(super) fn soon(&self) -> usize {
        self.soon.len()
    }

    /// All that changed.
    pub(super) fn len(&self) -> usize {
        self.soon.len() + self.later.len()
    }

    /// The next ones, at most so many, and those whose time has come by `now`. Three quarters of them at least are those that may
    /// bring a finding, as long as there are any; an eighth is kept for each of the other kinds, so that none waits for ever.
    pub(super) fn take(&mut self, most: usize, now: Timestamp) -> Vec<FlowKey> {
        let ripe = self.due.iter().take(most).take_while(|&&(time, _)| time <= now).count();
        let kept = |there: usize| there.min(most / 8);
        let soon = self.soon.len().min(most - kept(ripe) - kept(self.later.len()));
        let ripe = ripe.min(most - soon - kept(self.later.len()));
        let later = self.later.len().min(most - soon - ripe);
        let mut taken: Vec<FlowKey> = self.soon.drain(..soon).collect();
        taken.extend((0..ripe).filter_map(|_| self.due.pop_first()).map(|(_, key)| key));
        taken.extend(self.later.drain(..later));
        taken
    }

    /// Nothing that changed waits any more: how many did.
    pub(super) fn give_up(&mut self) -> usize {
        let waiting = self.len();
        self.soon.clear();
        self.later.clear();
        waiting
    }
}

/// How many can be told in time where each takes so long.
pub(super) fn in_time(each: Duration) -> usize {
    let most = PATIENCE.as_nanos().checked_div(each.as_nanos()).unwrap_or(u128::MAX);
    usize::try_from(most).unwrap_or(usize::MAX).clamp(LEAST_WAITING, MOST_WAITING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Side;
    use crate::model::{Endpoint, Transport};

    fn key(port: u16) -> FlowKey {
        let end = |last: u8, port| Endpoint::new([10, 0, 0, last].into(), port);
        FlowKey::of(Transport::Tcp, end(1, port), end(2, 443)).0
    }

    fn ports(taken: &[FlowKey]) -> Vec<u16> {
        let of = |key: &FlowKey| {
            let ports = [Side::Low, Side::High].map(|side| key.endpoint(side).port);
            ports.into_iter().find(|&port| port != 443).unwrap()
        };
        taken.iter().map(of).collect()
    }

    /// 1.. may bring findings, 101.. changed, 201.. are due at 1 s, 2 s ...
    fn waiting(soon: u16, later: u16, due: u16) -> LookQueue {
        let mut waiting = LookQueue::default();
        (1..=soon).for_each(|port| waiting.add_soon(key(port)));
        (101..=100 + later).for_each(|port| waiting.add_later(key(port)));
        (1..=due).for_each(|n| waiting.add_due(Timestamp(n.into()), key(200 + n)));
        waiting
    }

    #[test]
    fn who_came_first_is_looked_at_first_and_what_may_bring_a_finding_before_what_does_not() {
        type Case = ((u16, u16, u16), usize, i64, &'static [u16]);
        let cases: [Case; 7] = [
            ((6, 0, 0), 4, 9, &[1, 2, 3, 4]),
            ((2, 2, 2), 8, 9, &[1, 2, 201, 202, 101, 102]),
            // Its time has not come.
            ((2, 2, 2), 8, 1, &[1, 2, 201, 101, 102]),
            // None waits for ever.
            ((9, 9, 9), 8, 9, &[1, 2, 3, 4, 5, 6, 201, 101]),
            ((20, 9, 9), 16, 9, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 201, 202, 101, 102]),
            ((9, 0, 9), 8, 9, &[1, 2, 3, 4, 5, 6, 7, 201]),
            ((1, 9, 9), 8, 9, &[1, 201, 202, 203, 204, 205, 206, 101]),
        ];
        for ((soon, later, due), most, now, expected) in cases {
            let taken = waiting(soon, later, due).take(most, Timestamp(now));
            assert_eq!(ports(&taken), expected, "{soon} {later} {due}, {most} at {now}");
        }
    }

    #[test]
    fn everything_that_waits_is_looked_at_in_the_end_once() {
        let mut waiting = waiting(50, 40, 30);
        let mut taken = Vec::new();
        loop {
            let some = waiting.take(9, Timestamp(30));
            assert!(some.len() <= 9);
            if some.is_empty() {
                break;
            }
            taken.extend(some);
        }
        let mut ports = ports(&taken);
        ports.sort_unstable();
        assert_eq!(ports, (1..=50).chain(101..=140).chain(201..=230).collect::<Vec<u16>>());
        assert_eq!((waiting.len(), waiting.soon()), (0, 0));
    }

    #[test]
    fn no_more_may_wait_than_can_be_told_in_time() {
        let micros = Duration::from_micros;
        let cases = [
            (Duration::ZERO, MOST_WAITING),
            (micros(1), MOST_WAITING),
            (micros(200), 5_000),
            // Even if nothing can be.
            (micros(1_000_000), LEAST_WAITING),
        ];
        for (each, expected) in cases {
            assert_eq!(in_time(each), expected, "{each:?}");
        }
    }
}
