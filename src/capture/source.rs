//! One reusable buffer over a byte stream, and the count of what the stream gave.

use super::digest::Digester;
use super::intake::{Intake, interrupted};
use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that one `read` asks for.
///
/// Whole audits in turn with one that reads 512 KiB: 0.93 of its CPU on the head of W2 (five pairs), 0.985 to 0.993 on W1, W3 and
/// W4: what is copied leaves a second-level cache of a megabyte before it is decoded, and pushes tables out of it. Reads of 16 MiB
/// cost twice as much, mapping the file 1.8 to 3 times.
pub(super) const BUFFER_BYTES: usize = 128 * 1024;

/// A stream as stored: counts its bytes and, if asked, has them digested, whoever reads it.
///
/// Decompressors own their reader; the handle that [`Handle`] is lets the capture reader drain and ask it afterwards.
struct Raw {
    reader: Box<dyn Read + Send>,
    bytes: u64,
    digester: Option<Digester>,
    intake: Arc<Intake>,
    ended: bool,
    interrupted: bool,
}

/// A shared handle on a stream as stored.
#[derive(Clone)]
pub(super) struct Handle(Arc<Mutex<Raw>>);

impl Handle {
    pub(super) fn new(reader: Box<dyn Read + Send>, digest: bool, intake: Arc<Intake>) -> Self {
        let digester = digest.then(|| Digester::new(Arc::clone(&intake)));
        Handle(Arc::new(Mutex::new(Raw {
            reader,
            bytes: 0,
            digester,
            intake,
            ended: false,
            interrupted: false,
        })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Raw) -> T) -> T {
        // A panic elsewhere while it was locked leaves at worst a short count.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes read so far.
    pub(super) fn byte_count(&self) -> u64 {
        self.with(|raw| raw.bytes)
    }

    /// Whether bytes were refused because reading is to stop.
    pub(super) fn interrupted(&self) -> bool {
        self.with(|raw| raw.interrupted)
    }

    /// Reads to the end; hands back how many bytes the stream had in all, and their SHA-256 if it was asked for.
    pub(super) fn drain(&mut self) -> io::Result<(u64, Option<[u8; 32]>)> {
        let mut scrap = vec![0; 64 * 1024];
        loop {
            match self.read(&mut scrap) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let (bytes, digester) = self.with(|raw| (raw.bytes, raw.digester.take()));
        Ok((bytes, digester.map(Digester::finish).transpose()?))
    }
}

impl Read for Handle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|raw| {
            if raw.intake.stopped() && !raw.ended {
                raw.interrupted = true;
                return Err(interrupted());
            }
            let got = match raw.reader.read(buffer) {
                Ok(got) => got,
                Err(error) => {
                    // A reader that waits for a pipe gives up by itself.
                    raw.interrupted |= raw.intake.stopped();
                    return Err(error);
                }
            };
            raw.ended |= got == 0 && !buffer.is_empty();
            raw.bytes += got as u64;
            raw.intake.add_bytes(got as u64);
            if let (Some(digester), Some(bytes)) = (&mut raw.digester, buffer.get(..got)) {
                digester.update(bytes);
            }
            Ok(got)
        })
    }
}

/// A window that slides over a byte stream. What it shows stays in place until it is asked for more.
pub(super) struct Source {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the stream before `buffer[0]`.
    base: u64,
    ended: bool,
    failure: Option<String>,
}

/// What is shown of places where nothing is. Called, so that nobody chooses between two slices where a jump is foreseen.
#[cold]
#[inline(never)]
fn nothing<'s>() -> &'s [u8] {
    &[]
}

impl Source {
    /// A window over `first` and then `reader`.
    pub(super) fn new(first: &[u8], reader: Box<dyn Read + Send>) -> Self {
        let end = first.len();
        // Fresh zeros cost nothing until they are written over; small captures touch few of them.
        let mut buffer = vec![0; BUFFER_BYTES.max(end)];
        if let Some(start) = buffer.get_mut(..end) {
            start.copy_from_slice(first);
        }
        Source { reader, buffer, start: 0, end, base: 0, ended: false, failure: None }
    }

    /// A window over what follows the first `base` bytes of a stream.
    pub(super) fn beginning_at(base: u64, reader: Box<dyn Read + Send>) -> Self {
        Source { base, ..Source::new(&[], reader) }
    }

    /// Bytes from the start of the stream to the window.
    #[inline]
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// What the window shows now.
    #[inline]
    pub(super) fn window(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_else(|| nothing())
    }

    /// The `len` bytes from `start`, as [`Source::take`] gave it, on.
    #[inline]
    pub(super) fn slice(&self, start: usize, len: usize) -> &[u8] {
        self.buffer.get(start..start + len).unwrap_or_else(|| nothing())
    }

    /// Sees to it that the window shows at least `need` bytes; false if the stream ends (or fails) before.
    #[inline]
    pub(super) fn have(&mut self, need: usize) -> bool {
        self.end - self.start >= need || self.fill(need)
    }

    /// Why the stream failed, if it did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Moves the window on by `count` bytes that it shows; hands back where they stand in the buffer.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> usize {
        let place = self.start;
        self.start = (self.start + count).min(self.end);
        place
    }

    /// Moves the window on by `count` bytes, shown or not; hands back how many there were.
    pub(super) fn skip(&mut self, count: u64) -> u64 {
        let mut left = count;
        loop {
            let shown = (self.end - self.start) as u64;
            let step = shown.min(left);
            self.take(step as usize);
            left -= step;
            if left == 0 || !self.have(1) {
                return count - left;
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn fill(&mut self, need: usize) -> bool {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.base += self.start as u64;
            self.end -= self.start;
            self.start = 0;
        }
        while self.end < need {
            if self.ended {
                return false;
            }
            if self.end == self.buffer.len() {
                // Grow as bytes arrive, never by what a header announces: memory stays below twice what the file has.
                let grown = self.buffer.len().saturating_mul(2).min(need).max(BUFFER_BYTES);
                self.buffer.resize(grown, 0);
            }
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.reader.read(room) {
                Ok(0) => self.ended = true,
                Ok(got) => self.end += got,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure = Some(error.to_string());
                    self.ended = true;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of 1, 2, 3 ... bytes, as a pipe may.
    struct Trickle(Vec<u8>, usize, usize);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.2 += 1;
            let got = self.2.min(buffer.len()).min(self.0.len() - self.1);
            buffer[..got].copy_from_slice(&self.0[self.1..self.1 + got]);
            self.1 += got;
            Ok(got)
        }
    }

    #[test]
    fn the_window_slides_over_every_byte_in_order() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut source = Source::new(&bytes[..5], Box::new(Trickle(bytes[5..].to_vec(), 0, 0)));
        let (mut at, mut step) = (0, 1);
        while at + step <= bytes.len() {
            assert!(source.have(step));
            assert_eq!(source.offset(), at as u64);
            let place = source.take(step);
            assert_eq!(source.slice(place, step), &bytes[at..at + step]);
            at += step;
            step = step * 3 % 700_001 + 1;
        }
        assert!(!source.have(step));
        assert_eq!(source.skip(10_000_000), (bytes.len() - at) as u64);
        assert!(!source.have(1));
    }
}
