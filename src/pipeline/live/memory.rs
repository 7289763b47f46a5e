//! What each part of a live run may take in memory, from the one limit that was given. Parts that a flood could fill are bounded
//! in bytes, or in pieces of which it is known how large they get.

use crate::capture::live::Batch;
use crate::flow::Budget;
use crate::pipeline::ExtractOptions;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What each part may take. Together with the program itself, and what its allocator does not give back, they are the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// What a window keeps of flows and names, bytes: with more it ends early, and is audited, which takes twice as much again.
    pub window_bytes: usize,
    /// Conversations that are followed, bytes.
    pub followed_bytes: usize,
    /// DNS messages that live verdicts rest on, bytes: what is made of them to be looked up takes several times as much.
    pub messages_bytes: usize,
    /// DNS messages handed over at once.
    pub messages: usize,
    /// Findings told one by one.
    pub findings: usize,
    /// Hosts of which it is known that packets to them are seen.
    pub hosts: usize,
    /// Kinds of conversations of which it is known what they are. Beyond, all are forgotten, and the next ones are new again.
    pub known: usize,
    /// Hosts and rules of which it is known who worked and who was blocked. Beyond, all are forgotten.
    pub witnessed: usize,
    /// Batches of frames between the devices and the mapper.
    pub batches: usize,
    /// Chunks of frames on their way to the disk.
    pub chunks: usize,
    /// Threads that audit a window, each with sums of its own.
    pub judges: usize,
}

impl Shares {
    /// The least that a live run can do with: 192 MiB. With less, what is fixed (the program, a batch for each thread, pages that
    /// the allocator keeps) leaves nothing for conversations.
    pub const LEAST: usize = 192 << 20;

    /// Bytes of a DNS message by itself, a few names and addresses long.
    const MESSAGE_BYTES: usize = 512;

    /// Bytes of a finding, told and kept.
    const FINDING_BYTES: usize = 4096;

    /// Bytes of a host in a set.
    const HOST_BYTES: usize = 40;

    /// Bytes of a kind of conversations, in a set.
    const KIND_BYTES: usize = 80;

    /// Bytes of two conversations and of whom they are, in a table.
    const WITNESSES_BYTES: usize = 256;

    /// Bytes for which there may be one thread more that audits: as many threads as a large machine has processors would take
    /// more than a small limit allows.
    const JUDGE_BYTES: usize = 64 << 20;

    /// Of the limit, what is no part's: the program as it stands in memory with the columnar engine (24 MiB), and what lies between
    /// pieces of what its parts take.
    const PROGRAM_BYTES: usize = 32 << 20;

    /// What the parts have of a limit.
    fn parts(limit: usize) -> usize {
        limit.saturating_sub(Self::PROGRAM_BYTES)
    }

    /// Of so many bytes in all.
    pub fn of(limit: usize) -> Shares {
        let limit = Self::parts(limit);
        Shares {
            window_bytes: limit / 8,
            followed_bytes: limit / 16,
            messages_bytes: limit / 64,
            messages: (limit / 32 / Self::MESSAGE_BYTES).min(1 << 16),
            findings: (limit / 32 / Self::FINDING_BYTES).min(super::Picture::MOST_FINDINGS),
            hosts: (limit / 64 / Self::HOST_BYTES).min(1 << 20),
            known: (limit / 64 / Self::KIND_BYTES).min(1 << 16),
            witnessed: (limit / 64 / Self::WITNESSES_BYTES).min(1 << 16),
            batches: (limit / 32 / Batch::MOST_BYTES).clamp(4, 64),
            chunks: (limit / 16 / super::save::CHUNK_BYTES / 2).clamp(2, 64),
            judges: (limit / Self::JUDGE_BYTES).max(1),
        }
    }

    /// How frames are mapped within them: an eighth of what the parts have is for open conversations, a sixteenth for those that
    /// wait.
    #[must_use]
    pub fn extract(limit: usize, options: ExtractOptions) -> ExtractOptions {
        let limit = Self::parts(limit);
        let budget = Arc::new(Budget::new(ExtractOptions::PIECES_BYTES.min(limit / 16)));
        ExtractOptions { budget, ..options.within(limit) }
    }
}

/// Bytes that windows take which ended and are not audited yet.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    bytes: Mutex<usize>,
    freed: Condvar,
}

impl Outstanding {
    /// Notes a window of so many bytes, once it is one of `most` bytes with the others, or the only one. Until then its frames'
    /// successors wait in the ring, where those that do not fit are counted; not longer than `gives_up` says.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize, most: usize, gives_up: &dyn Fn() -> bool) -> Held {
        /// How often it is asked whether to give up.
        const ASKED_EVERY: Duration = Duration::from_millis(50);
        let mut held = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        while *held > 0 && *held + bytes > most && !gives_up() {
            let waited = self.freed.wait_timeout(held, ASKED_EVERY);
            held = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *held += bytes;
        Held { of: Arc::clone(self), bytes }
    }
}

/// The bytes of a window, until it is audited or given up.
#[derive(Debug)]
pub struct Held {
    of: Arc<Outstanding>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.of.bytes.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.of.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_waits_for_those_before_it_while_they_take_too_much() {
        let outstanding = Arc::new(Outstanding::default());
        let (never, at_once) = (|| false, || true);
        // The only one may be as large as it is.
        let first = outstanding.hold(200, 100, &never);
        let hurried = outstanding.hold(10, 100, &at_once);
        drop(hurried);
        let second = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| outstanding.hold(60, 100, &never));
            std::thread::sleep(Duration::from_millis(120));
            assert!(!waiting.is_finished(), "it does not wait");
            drop(first);
            waiting.join().unwrap()
        });
        // Together they are no more than what they may take.
        drop(outstanding.hold(40, 100, &never));
        drop(second);
        assert_eq!(*outstanding.bytes.lock().unwrap(), 0);
    }

    #[test]
    fn what_the_parts_may_take_is_no_more_than_the_limit() {
        for limit in [Shares::LEAST, 256 << 20, 1 << 30, 8 << 30] {
            let shares = Shares::of(limit);
            let extract = Shares::extract(limit, ExtractOptions::default());
            let parts = [
                // Kept, being audited, and what that takes beside.
                shares.window_bytes * 3,
                shares.followed_bytes,
                // With what is made of them to be looked up, and to go on with.
                shares.messages_bytes * 8,
                shares.messages * Shares::MESSAGE_BYTES,
                shares.findings * Shares::FINDING_BYTES,
                shares.hosts * Shares::HOST_BYTES,
                shares.known * Shares::KIND_BYTES,
                shares.witnessed * Shares::WITNESSES_BYTES,
                shares.batches * Batch::MOST_BYTES,
                shares.chunks * 2 * super::super::save::CHUNK_BYTES,
                extract.table_capacity * 512,
                Shares::parts(limit) / 16,
            ];
            let sum: usize = parts.iter().sum();
            assert!(sum <= limit - Shares::PROGRAM_BYTES, "{limit}: {parts:?}");
        }
    }
}
