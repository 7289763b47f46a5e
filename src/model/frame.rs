//! Where a fact stands in the evidence: which capture, which frame, when.

use super::Timestamp;
use serde::{Deserialize, Serialize};

/// Which of the captures given, by rank: captures are ranked by (time of first frame, name), so that equal times
/// are taken in that order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CaptureId(pub u32);

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
