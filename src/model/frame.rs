//! Where a fact stands in the evidence: which capture, which frame, when.

use super::{NANOS_PER_SECOND, Timestamp};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// Which of the captures given, by rank: captures are ranked by (time of first frame, name), so that equal times
/// are taken in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub struct CaptureId(
    /// One more than the number: so a point that may be missing takes no more room than one that is there, and conversations have
    /// a dozen of them on each side.
    NonZeroU32,
);

const _: () = assert!(size_of::<Option<FramePoint>>() == size_of::<FramePoint>());

impl CaptureId {
    /// The capture of a rank, counted from 0. The last number, 2^32 - 1, stands for the one before it, too.
    pub const fn new(number: u32) -> Self {
        CaptureId(NonZeroU32::MIN.saturating_add(number))
    }

    /// Its rank.
    pub const fn number(self) -> u32 {
        self.0.get() - 1
    }

    /// Its place among all captures.
    pub const fn index(self) -> usize {
        self.number() as usize
    }
}

impl Default for CaptureId {
    fn default() -> Self {
        CaptureId::new(0)
    }
}

impl From<u32> for CaptureId {
    fn from(number: u32) -> Self {
        CaptureId::new(number)
    }
}

impl From<CaptureId> for u32 {
    fn from(capture: CaptureId) -> Self {
        capture.number()
    }
}

/// A frame as evidence, ordered as frames are taken: by time, then by capture, then by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FramePoint {
    /// When the frame was captured.
    pub time: Timestamp,
    /// In which capture.
    pub capture: CaptureId,
    /// Counted from 1 in its capture, so that it equals Wireshark's `frame.number`.
    pub frame: u64,
}

/// How far times are believed to run backward from one capture to the one that goes on where it ends: a second. A clock that is set
/// back by more tells nothing from something that was there before.
pub const BACKWARD_NANOS: i64 = NANOS_PER_SECOND;

impl FramePoint {
    /// Whether it was taken before another that is dated before it (SEMANTICS section 1: frames with backward times are taken in the
    /// order of captures and numbers). Of one capture the numbers tell; of two, which are ordered by when they begin, they may only
    /// where one goes on where the other ends.
    pub fn was_taken_before(self, other: FramePoint) -> bool {
        (self.capture == other.capture || self.is_near(other))
            && (self.capture, self.frame) < (other.capture, other.frame)
    }

    /// Whether times that run backward may lie between both.
    fn is_near(self, other: FramePoint) -> bool {
        self.time.since(other.time).saturating_abs() <= BACKWARD_NANOS
    }

    /// Whether it comes behind another: later, or taken later though it is dated a little before it. Within a moment also in one
    /// capture, so that this is the same wherever that is cut.
    pub fn is_behind(self, other: FramePoint) -> bool {
        self > other || (self.is_near(other) && other.was_taken_before(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dated_a_moment_before_a_frame_and_was_taken_after_it_is_behind_it() {
        let point = |millis: i64, capture: u32, frame: u64| FramePoint {
            time: super::super::Timestamp(millis * 1_000_000),
            capture: CaptureId::new(capture),
            frame,
        };
        let of = point(5_000, 1, 10);
        for (other, behind) in [
            (point(5_001, 1, 9), true),
            (point(4_999, 1, 11), true),
            (point(4_000, 1, 11), true),
            (point(3_999, 1, 11), false),
            (point(4_999, 1, 9), false),
            (point(4_999, 2, 1), true),
            (point(4_999, 0, 99), false),
            (of, false),
        ] {
            assert_eq!(other.is_behind(of), behind, "{other:?}");
        }
    }

    #[test]
    fn captures_are_ordered_by_their_ranks_which_are_what_they_were_made_of() {
        let ranks = [0, 1, 2, 1 << 24, u32::MAX - 1];
        let captures = ranks.map(CaptureId::new);
        assert!(captures.is_sorted_by(|a, b| a < b));
        assert_eq!(captures.map(CaptureId::number), ranks);
        assert_eq!(CaptureId::default(), captures[0]);
        assert_eq!(CaptureId::new(u32::MAX), captures[4]);
        for capture in captures {
            assert_eq!(CaptureId::from(u32::from(capture)), capture);
        }
    }
}
