//! What each part of a live run may take in memory, from the one limit that was given. Parts that a flood could fill are bounded
//! in bytes, or in pieces of which it is known how large they get.

use crate::capture::live::Batch;
use crate::flow::Budget;
use crate::pipeline::ExtractOptions;
use std::sync::Arc;

/// What each part may take. Together they are the limit, with the program itself and what its allocator does not give back.
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
    /// Batches of frames between the devices and the mapper.
    pub batches: usize,
    /// Chunks of frames on their way to the disk.
    pub chunks: usize,
}

impl Shares {
    /// The least that a live run can do with: 128 MiB. With less, what is fixed (the program, a batch for each thread, pages that
    /// the allocator keeps) leaves nothing for conversations.
    pub const LEAST: usize = 128 << 20;

    /// Bytes of a DNS message by itself, a few names and addresses long.
    const MESSAGE_BYTES: usize = 512;

    /// Bytes of a finding, told and kept.
    const FINDING_BYTES: usize = 4096;

    /// Bytes of a host in a set.
    const HOST_BYTES: usize = 40;

    /// Of so many bytes in all.
    pub fn of(limit: usize) -> Shares {
        Shares {
            window_bytes: limit / 8,
            followed_bytes: limit / 16,
            messages_bytes: limit / 64,
            messages: (limit / 32 / Self::MESSAGE_BYTES).min(1 << 16),
            findings: (limit / 32 / Self::FINDING_BYTES).min(super::Picture::MOST_FINDINGS),
            hosts: (limit / 64 / Self::HOST_BYTES).min(1 << 20),
            batches: (limit / 32 / Batch::MOST_BYTES).clamp(4, 64),
            chunks: (limit / 16 / super::save::CHUNK_BYTES / 2).clamp(2, 64),
        }
    }

    /// How frames are mapped within them: an eighth of the limit is for open conversations, a sixteenth for those that wait.
    #[must_use]
    pub fn extract(limit: usize, options: ExtractOptions) -> ExtractOptions {
        let budget = Arc::new(Budget::new(ExtractOptions::PIECES_BYTES.min(limit / 16)));
        ExtractOptions { budget, ..options.within(limit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_parts_may_take_is_no_more_than_the_limit() {
        for limit in [Shares::LEAST, 256 << 20, 1 << 30, 8 << 30] {
            let shares = Shares::of(limit);
            let extract = Shares::extract(limit, ExtractOptions::default());
            let parts = [
                // Kept, being audited, and what that takes beside.
                shares.window_bytes * 3,
                shares.followed_bytes,
                // What is looked up is made anew while the one before is there.
                shares.messages_bytes * 8,
                shares.messages * Shares::MESSAGE_BYTES,
                shares.findings * Shares::FINDING_BYTES,
                shares.hosts * Shares::HOST_BYTES,
                shares.batches * Batch::MOST_BYTES,
                shares.chunks * 2 * super::super::save::CHUNK_BYTES,
                extract.table_capacity * 512,
                limit / 16,
            ];
            let sum: usize = parts.iter().sum();
            assert!(sum <= limit, "{limit}: {parts:?}");
        }
    }
}
