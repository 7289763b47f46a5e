//! What can be seen of the work while it goes on, and the wish that reading stop.

use crate::capture::{CpuClock, Input, Intake};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Flows after which whoever watches is told.
const FLOWS_TOLD_AT_ONCE: u64 = 1 << 12;

/// Counts that the work keeps and anybody may look at, from any thread; and the one thing that can be asked of it.
#[derive(Debug, Default)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    clock: Option<CpuClock>,
    captures: Mutex<Vec<Arc<Intake>>>,
    flows: AtomicU64,
    flows_in_all: AtomicU64,
    /// The most of all passes: some go through a part of the flows once more.
    most_flows: AtomicU64,
}

impl Watch {
    /// The problem of captures that were not begun because reading was to stop.
    pub const NOT_BEGUN: &'static str = "reading was interrupted before it";

    /// With a clock, which nothing below has of its own: it tells the CPU time of the calling thread.
    pub fn new(clock: CpuClock) -> Self {
        Watch { clock: Some(clock), ..Watch::default() }
    }

    /// Where true is written when reading is to stop: from a handler of signals, too.
    pub fn stop(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    /// Whether reading is to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The captures in the order in which they are begun; none before it is known which.
    pub fn captures(&self) -> Vec<Arc<Intake>> {
        self.captures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many flows were gone through, of how many; none before captures are joined.
    pub fn flows(&self) -> Option<(u64, u64)> {
        let of = self.flows_in_all.load(Ordering::Relaxed);
        (of > 0).then(|| (self.flows.load(Ordering::Relaxed).min(of), of))
    }

    /// How many flows there are; none before captures are joined.
    pub fn all_flows(&self) -> Option<u64> {
        Some(self.most_flows.load(Ordering::Relaxed)).filter(|&flows| flows > 0)
    }

    /// These are to be read.
    pub(super) fn expect(&self, inputs: &[Input]) -> Vec<Arc<Intake>> {
        let of = |input| Arc::new(Intake::of(input, Arc::clone(&self.stop), self.clock));
        let intakes: Vec<Arc<Intake>> = inputs.iter().map(of).collect();
        self.captures.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&intakes);
        intakes
    }

    /// So many flows are to be gone through, from the first.
    pub(super) fn pass(&self, flows: usize) {
        self.flows.store(0, Ordering::Relaxed);
        self.flows_in_all.store(flows as u64, Ordering::Relaxed);
        self.most_flows.fetch_max(flows as u64, Ordering::Relaxed);
    }

    /// A thread takes up the flow of this number, counted from 1.
    #[inline]
    pub(super) fn flow(&self, number: u64) {
        if number.is_multiple_of(FLOWS_TOLD_AT_ONCE) {
            self.flows.fetch_add(FLOWS_TOLD_AT_ONCE, Ordering::Relaxed);
        }
    }
}
