//! Which frames of a capture count: a range of time, a filter.

use super::filter::{Filter, Programs, Unfit};
use super::frame::Frame;
use crate::model::{NotChosen, Timestamp};

/// What to read of the captures; by default everything.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Frames that it chooses.
    pub filter: Option<Filter>,
    /// Frames of this time and later.
    pub since: Option<Timestamp>,
    /// Frames before this time, itself left out, so that one range can follow another.
    pub until: Option<Timestamp>,
}

impl Choice {
    /// Chooses among the frames of one capture; none where every frame counts, which then costs nothing.
    pub fn chooser(&self) -> Option<Chooser> {
        let all = self.filter.is_none() && self.since.is_none() && self.until.is_none();
        (!all).then(|| Chooser {
            since: self.since.unwrap_or(Timestamp(i64::MIN)),
            until: self.until,
            programs: self.filter.clone().map(Programs::new),
        })
    }
}

/// Chooses among the frames of one capture.
#[derive(Debug)]
pub struct Chooser {
    since: Timestamp,
    until: Option<Timestamp>,
    programs: Option<Programs>,
}

impl Chooser {
    /// Whether a frame counts.
    ///
    /// # Errors
    /// Why it does not.
    pub fn keeps(&mut self, frame: &Frame<'_>) -> Result<(), NotChosen> {
        if frame.time < self.since || self.until.is_some_and(|until| frame.time >= until) {
            return Err(NotChosen::OutsideTimeRange);
        }
        self.programs.as_mut().map_or(Ok(()), |programs| programs.keep(frame))
    }

    /// The link types met for which the filter cannot be compiled, in the order in which they were met.
    pub fn unfit(self) -> Vec<Unfit> {
        self.programs.map(Programs::unfit).unwrap_or_default()
    }
}
