//! SHA-256 of a stream, on a thread of its own.

use super::intake::Intake;
use sha2::{Digest as _, Sha256};
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

/// Bytes that are handed over at a time. A stream that is shorter is digested where it is read: starting a thread costs
/// more than that.
const BUFFER_BYTES: usize = 256 * 1024;

/// Buffers of one stream, 2 MiB in all: one being filled, one being digested, the rest so that neither side waits for the
/// other at every turn.
const BUFFERS: usize = 8;

/// Digests what it is given, in order. Dropped early, its thread ends by itself.
pub(super) struct Digester {
    filling: Vec<u8>,
    place: Place,
}

struct Hash {
    sha256: Sha256,
    intake: Arc<Intake>,
}

impl Hash {
    fn update(&mut self, bytes: &[u8]) {
        self.intake.digest(|| self.sha256.update(bytes));
    }
}

enum Place {
    /// On the thread that reads.
    Here(Hash),
    /// On another, which hands buffers back when it is through with them.
    There {
        full: SyncSender<Vec<u8>>,
        empty: Receiver<Vec<u8>>,
        made: usize,
        thread: JoinHandle<Option<Hash>>,
    },
    /// The other thread is gone.
    Lost,
}

impl Digester {
    pub(super) fn new(intake: Arc<Intake>) -> Self {
        Digester { filling: Vec::new(), place: Place::Here(Hash { sha256: Sha256::new(), intake }) }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filling.capacity() == 0 {
                self.filling.reserve_exact(BUFFER_BYTES);
            }
            let room = BUFFER_BYTES.saturating_sub(self.filling.len());
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.filling.extend_from_slice(now);
            bytes = later;
            if self.filling.len() >= BUFFER_BYTES {
                self.hand_over();
            }
        }
    }

    /// Has the buffer digested, and takes an empty one.
    fn hand_over(&mut self) {
        let mut buffer = mem::take(&mut self.filling);
        self.place = match mem::replace(&mut self.place, Place::Lost) {
            Place::Here(hash) => start(hash),
            place => place,
        };
        match &mut self.place {
            // No thread is to be had.
            Place::Here(hash) => {
                hash.update(&buffer);
                buffer.clear();
                self.filling = buffer;
            }
            Place::There { full, empty, made, .. } => {
                // As many buffers are made as the channel holds: sending waits for nothing, taking one back does.
                let sent = full.send(buffer).is_ok();
                if *made < BUFFERS {
                    *made += 1;
                } else if let (true, Ok(back)) = (sent, empty.recv()) {
                    self.filling = back;
                } else {
                    self.place = Place::Lost;
                }
            }
            Place::Lost => {}
        }
    }

    /// The digest of all that was given.
    pub(super) fn finish(mut self) -> io::Result<[u8; 32]> {
        let rest = mem::take(&mut self.filling);
        let lost = || io::Error::other("the thread that digests it failed");
        let mut hash = match self.place {
            Place::Here(hash) => hash,
            Place::There { full, thread, .. } => {
                drop(full);
                thread.join().ok().flatten().ok_or_else(lost)?
            }
            Place::Lost => return Err(lost()),
        };
        hash.update(&rest);
        Ok(hash.sha256.finalize().into())
    }
}

/// Moves digesting to a thread of its own, if one can be had.
fn start(hash: Hash) -> Place {
    let (full, filled) = sync_channel::<Vec<u8>>(BUFFERS);
    let (back, empty) = channel();
    // A thread that cannot be had would take the hash with it: so it is given to one that runs.
    let (give, given) = channel::<Hash>();
    let work = move || {
        let mut hash = given.recv().ok()?;
        for mut buffer in filled {
            hash.update(&buffer);
            buffer.clear();
            // Whoever reads may be gone already.
            let _ = back.send(buffer);
        }
        Some(hash)
    };
    match thread::Builder::new().name("digest".to_owned()).spawn(work) {
        Ok(thread) => match give.send(hash) {
            Ok(()) => Place::There { full, empty, made: 1, thread },
            Err(_) => Place::Lost,
        },
        Err(_) => Place::Here(hash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn digester(clock: Option<super::super::intake::CpuClock>) -> (Digester, Arc<Intake>) {
        let input = super::super::Input::stdin();
        let intake = Arc::new(Intake::of(&input, Arc::default(), clock));
        (Digester::new(Arc::clone(&intake)), intake)
    }

    #[test]
    fn a_digest_is_the_same_on_whichever_thread_and_in_whatever_pieces() {
        let bytes: Vec<u8> = (0..BUFFER_BYTES as u32 * 20).map(|i| (i * 7 + i / 251) as u8).collect();
        for length in [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, BUFFER_BYTES * 2, bytes.len()]
        {
            let whole: [u8; 32] = Sha256::digest(&bytes[..length]).into();
            for piece in [97, 4_096, BUFFER_BYTES, BUFFER_BYTES * 3 + 1] {
                let (mut digester, _) = digester(None);
                bytes[..length].chunks(piece).for_each(|piece| digester.update(piece));
                let elsewhere = matches!(digester.place, Place::There { .. });
                assert_eq!(elsewhere, length >= BUFFER_BYTES, "{length}");
                assert_eq!(digester.finish().unwrap(), whole, "{length} bytes in pieces of {piece}");
            }
        }
    }

    #[test]
    fn whoever_digests_no_further_leaves_no_thread_waiting() {
        let (mut digester, intake) = digester(None);
        let bytes = vec![1; BUFFER_BYTES];
        (0..BUFFERS * 2).for_each(|_| digester.update(&bytes));
        drop(digester);
        // The thread holds the other handle for as long as it runs.
        for _ in 0..1_000 {
            if Arc::strong_count(&intake) == 1 {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the thread still runs");
    }

    #[test]
    fn a_thread_that_fails_is_told_as_a_failure_and_nobody_waits_for_it() {
        let (mut digester, _) = digester(Some(|| panic!("a clock that fails")));
        // Its first buffer is the last that the thread sees.
        let bytes = vec![1; BUFFER_BYTES];
        (0..BUFFERS * 3).for_each(|_| digester.update(&bytes));
        assert_eq!(digester.finish().unwrap_err().to_string(), "the thread that digests it failed");
    }

    #[test]
    fn what_digesting_takes_is_counted() {
        let clock = || {
            use std::sync::atomic::{AtomicU64, Ordering};
            static TICKS: AtomicU64 = AtomicU64::new(0);
            Duration::from_nanos(TICKS.fetch_add(1, Ordering::Relaxed))
        };
        let (mut digester, intake) = digester(Some(clock));
        digester.update(&vec![0; BUFFER_BYTES * 3 + 1]);
        digester.finish().unwrap();
        assert_eq!(intake.digesting(), Duration::from_nanos(4), "three buffers and the rest");
    }
}
