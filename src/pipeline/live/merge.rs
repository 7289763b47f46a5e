//! Frames of several devices in the order of their times. What one device shows late would else be taken for the answer
//! to something later, and copies of one packet would not be found any more.

use crate::capture::live::Batch;
use crate::model::Timestamp;
use std::collections::VecDeque;

/// Batches that wait for a device that tells nothing: beyond, they are taken as they are. 4,096 frames or 256 KiB each.
const MOST_WAITING: usize = 128;

/// One device's batches.
struct Lane {
    waiting: VecDeque<Batch>,
    /// Place of the next frame in the first batch.
    next: usize,
    /// Everything up to here was handed over.
    until: Timestamp,
    ended: bool,
}

/// Puts frames of several devices in order.
pub(super) struct Merge {
    lanes: Vec<Lane>,
}

impl Merge {
    /// Of so many devices.
    pub(super) fn new(devices: usize) -> Self {
        let lane = || Lane { waiting: VecDeque::new(), next: 0, until: Timestamp(i64::MIN), ended: false };
        Merge { lanes: (0..devices).map(|_| lane()).collect() }
    }

    pub(super) fn push(&mut self, batch: Batch) {
        let Some(lane) = self.lanes.get_mut(batch.tap() as usize) else { return };
        if let Some(last) = batch.len().checked_sub(1).and_then(|last| batch.time(last)) {
            lane.until = lane.until.max(last);
            lane.waiting.push_back(batch);
        }
    }

    pub(super) fn mark(&mut self, tap: u32, until: Timestamp) {
        if let Some(lane) = self.lanes.get_mut(tap as usize) {
            lane.until = lane.until.max(until);
        }
    }

    pub(super) fn end(&mut self, tap: u32) {
        if let Some(lane) = self.lanes.get_mut(tap as usize) {
            lane.ended = true;
        }
    }

    pub(super) fn all_ended(&self) -> bool {
        self.lanes.iter().all(|lane| lane.ended && lane.waiting.is_empty())
    }

    fn head(lane: &Lane) -> Option<Timestamp> {
        lane.waiting.front().and_then(|batch| batch.time(lane.next))
    }

    /// The next batch, and how many of its frames, from which on, come before all that is yet to come of other devices.
    /// None where a device has to be waited for.
    pub(super) fn next(&mut self) -> Option<(usize, std::ops::Range<usize>)> {
        let (lane, head) = self
            .lanes
            .iter()
            .enumerate()
            .filter_map(|(place, lane)| Some((place, Self::head(lane)?)))
            .min_by_key(|&(_, head)| head)?;
        let waiting: usize = self.lanes.iter().map(|lane| lane.waiting.len()).sum();
        let others = || self.lanes.iter().enumerate().filter(|&(place, _)| place != lane);
        // Up to where no other device has anything earlier.
        let limit = others()
            .filter_map(|(_, other)| match Self::head(other) {
                Some(head) => Some(head),
                None if other.ended => None,
                None => Some(other.until),
            })
            .min();
        let own = self.lanes.get(lane)?;
        let batch = own.waiting.front()?;
        let end = match limit {
            None => batch.len(),
            Some(_) if waiting > MOST_WAITING => batch.len(),
            Some(limit) if head > limit => return None,
            Some(limit) => {
                let within = |place: &usize| batch.time(*place).is_some_and(|time| time <= limit);
                own.next + (own.next..batch.len()).take_while(within).count()
            }
        };
        Some((lane, own.next..end))
    }

    /// Takes the first batch of a device out, to be put back once its frames were looked at.
    pub(super) fn take_batch(&mut self, lane: usize) -> Option<Batch> {
        self.lanes.get_mut(lane)?.waiting.pop_front()
    }

    /// The frames of a batch before `end` were taken. Hands it back if it is empty now.
    pub(super) fn put_back(&mut self, lane: usize, batch: Batch, end: usize) -> Option<Batch> {
        let Some(lane) = self.lanes.get_mut(lane) else { return Some(batch) };
        if end >= batch.len() {
            lane.next = 0;
            return Some(batch);
        }
        lane.next = end;
        lane.waiting.push_front(batch);
        None
    }
}
