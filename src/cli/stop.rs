//! The signals that end reading: the first is a wish, the second is obeyed at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// From now on SIGINT (Ctrl-C) and SIGTERM write true to `stop`; one that finds it there does what it does to a program
/// that takes no notice of signals.
pub(super) fn on_signals(stop: &Arc<AtomicBool>) {
    for signal in [SIGINT, SIGTERM] {
        // In this order. If either fails, the signal does what it always did.
        let _ = flag::register_conditional_default(signal, Arc::clone(stop))
            .and_then(|_| flag::register(signal, Arc::clone(stop)));
    }
}
