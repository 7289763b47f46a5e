//! An end that may not take long: when it has to be over, and what was seen until then, so that whatever is left undone can be
//! counted. Each thread hurries by itself once there is such a time; who runs them waits no longer than that.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long before the end frames that were taken from the ring are still looked at: what they give is to be handed on, written
/// and judged after that.
const LOOKED_AT_UNTIL: Duration = Duration::from_millis(700);

/// What a run saw so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Frames that were looked at.
    pub frames: u64,
    /// Stretches of conversations that they gave.
    pub stretches: u64,
    /// Frames of which the rows are in segments of the directory.
    pub written: u64,
}

/// When a run has to be over, once somebody said so; and what it saw.
#[derive(Debug, Default)]
pub(super) struct Ending {
    by: OnceLock<Instant>,
    frames: AtomicU64,
    stretches: AtomicU64,
    written: AtomicU64,
}

impl Ending {
    /// The run has to be over then. What was said first holds.
    pub(super) fn set(&self, by: Instant) {
        let _ = self.by.set(by);
    }

    /// Whether there is little time.
    pub(super) fn is_hurried(&self) -> bool {
        self.by.get().is_some()
    }

    /// Whether frames that wait are not looked at any more.
    pub(super) fn looks_no_more(&self) -> bool {
        self.by.get().is_some_and(|&by| Instant::now() + LOOKED_AT_UNTIL >= by)
    }

    /// So much was seen.
    pub(super) fn saw(&self, frames: u64, stretches: u64) {
        self.frames.store(frames, Ordering::Relaxed);
        self.stretches.store(stretches, Ordering::Relaxed);
    }

    /// So many more frames have their rows in a segment.
    pub(super) fn wrote(&self, frames: u64) {
        self.written.fetch_add(frames, Ordering::Relaxed);
    }

    pub(super) fn seen(&self) -> Seen {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Seen { frames: of(&self.frames), stretches: of(&self.stretches), written: of(&self.written) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_wait_are_looked_at_until_there_is_only_time_to_write_and_judge() {
        let ending = Ending::default();
        assert!(!ending.is_hurried() && !ending.looks_no_more(), "nobody said so");
        ending.set(Instant::now() + LOOKED_AT_UNTIL + Duration::from_secs(3600));
        assert!(ending.is_hurried() && !ending.looks_no_more());
        // What was said first holds.
        ending.set(Instant::now());
        assert!(!ending.looks_no_more());
        let late = Ending::default();
        late.set(Instant::now() + LOOKED_AT_UNTIL);
        assert!(late.looks_no_more());
    }
}
