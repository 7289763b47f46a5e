//! What can be seen of a capture while it is read, and the wish that reading stop.

use super::input::{Input, InputSource};
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// CPU time that the calling thread has spent. Handed in from outside, since nothing in here has a clock.
pub type CpuClock = fn() -> Duration;

/// What the error of a read says that was refused because reading is to stop.
const INTERRUPTED: &str = "reading was interrupted";

/// One capture as it is being read: counts that its readers keep and anybody may look at. Several threads may read one
/// capture.
#[derive(Debug, Default)]
pub struct Intake {
    name: String,
    size: Option<u64>,
    stop: Arc<AtomicBool>,
    clock: Option<CpuClock>,
    bytes: AtomicU64,
    frames: AtomicU64,
    digesting_ns: AtomicU64,
    /// 0 to be read, 1 being read, 2 read.
    state: AtomicU8,
}

impl Intake {
    /// Of an input that is yet to be read. All intakes that share `stop` stop together.
    pub fn of(input: &Input, stop: Arc<AtomicBool>, clock: Option<CpuClock>) -> Self {
        let size = match &input.source {
            InputSource::Stdin => None,
            InputSource::File(path) => {
                fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| file.len())
            }
        };
        Intake { name: input.name.clone(), size, stop, clock, ..Intake::default() }
    }

    /// The name of the capture.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the file as stored, where that was known beforehand.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Bytes of the file as stored that were read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Frames that were read, in steps.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// CPU time that its digest has taken, on whatever thread.
    pub fn digesting(&self) -> Duration {
        Duration::from_nanos(self.digesting_ns.load(Ordering::Relaxed))
    }

    /// Whether reading it began and has not ended.
    pub fn under_way(&self) -> bool {
        self.state.load(Ordering::Relaxed) == 1
    }

    /// Whether reading it has ended.
    pub fn ended(&self) -> bool {
        self.state.load(Ordering::Relaxed) == 2
    }

    /// Whether reading is to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Intake it begins.
    pub fn begin(&self) {
        self.state.store(1, Ordering::Relaxed);
    }

    /// Intake it has ended.
    pub fn end(&self) {
        self.state.store(2, Ordering::Relaxed);
    }

    pub(super) fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn add_frames(&self, count: u64) {
        self.frames.fetch_add(count, Ordering::Relaxed);
    }

    /// Does a part of digesting, and counts what it takes.
    pub(super) fn digest(&self, part: impl FnOnce()) {
        let Some(clock) = self.clock else { return part() };
        let before = clock();
        part();
        let spent = clock().saturating_sub(before).as_nanos();
        self.digesting_ns.fetch_add(u64::try_from(spent).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Of a kind that nobody tries again after.
pub(super) fn interrupted() -> io::Error {
    io::Error::other(INTERRUPTED)
}
