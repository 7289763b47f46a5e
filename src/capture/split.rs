//! How a large pcap file is parted, so that several threads read it.
//!
//! Nothing in a pcap file marks where a record begins, so a place is guessed and then proved: whoever reads the part before
//! must end exactly there. Until that is known, what was read behind the cut counts for nothing.

use super::input::{Input, InputSource};
use super::pcap::{Pcap, Stop};
use super::source::{BUFFER_BYTES, Source};
use crate::model::{NANOS_PER_SECOND, Timestamp};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Records that must follow each other for a place to be taken for the beginning of one. A wrong guess costs time and changes
/// nothing: the parts are read again in turn.
const CHAINED: usize = 24;

/// Bytes behind a place that are searched for it: first a few, which serve nearly always and are there at once, while nothing
/// else goes on; then as many as are larger than any packet, and enough for [`CHAINED`] of 64 KiB.
const SEARCHED_BYTES: [usize; 2] = [128 << 10, 4 << 20];

/// What is read before a cut, so that a packet just behind it is known for a copy of one just before: so much time, but no
/// more than so many frames.
const WARM_UP_NANOS: i64 = 20_000_000;
const WARM_UP_FRAMES: usize = 1 << 15;

/// A place at which a second reader may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes from the start of the file to a record some time before it.
    pub warm_up: u64,
    /// Bytes from the start of the file to the record itself.
    pub begin: u64,
}

/// What one reader reads of a file, in bytes from its start. Others see how far it has got, and may take over what is well ahead of
/// it: the reader looks where its part ends whenever it asks the file for more.
#[derive(Debug)]
pub struct Extent {
    at: AtomicU64,
    until: AtomicU64,
}

impl Extent {
    /// As far beyond [`Extent::at`] its reader may be, bytes, unless a record is larger: twice what it reads at once.
    pub const AHEAD: u64 = 2 * BUFFER_BYTES as u64;

    /// From one byte to another; the first record that begins at `until` or later is another reader's.
    pub fn new(from: u64, until: u64) -> Self {
        Extent { at: from.into(), until: until.into() }
    }

    /// A whole file.
    pub fn whole() -> Self {
        Extent::new(0, u64::MAX)
    }

    /// Where the reader was when it last asked for more.
    pub fn at(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }

    /// Where it ends.
    pub fn until(&self) -> u64 {
        self.until.load(Ordering::Relaxed)
    }

    /// Has it end there. A reader that is beyond already stops where it stands, which is no place that anybody expects: so whoever
    /// sets this need not be in time, but should be.
    pub fn end_at(&self, until: u64) {
        self.until.store(until, Ordering::Relaxed);
    }

    pub(super) fn reached(&self, at: u64) {
        self.at.store(at, Ordering::Relaxed);
    }
}

/// A plain pcap file: one that may be read in parts.
#[derive(Debug)]
pub struct Divisible {
    file: File,
    pcap: Pcap,
    size: u64,
}

impl Divisible {
    /// None if the input is anything else, or cannot be read.
    pub fn of(input: &Input) -> Option<Self> {
        let InputSource::File(path) = &input.source else { return None };
        // Asked first: to open a pipe may take forever.
        let size = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?.len();
        let file = File::open(path).ok()?;
        let mut head = [0; 40];
        file.read_exact_at(&mut head, 0).ok()?;
        if !Pcap::begins([head[0], head[1], head[2], head[3]]) {
            return None;
        }
        let pcap = Pcap::open(&mut Source::new(&head, Box::new(io::empty()))).ok()?;
        Some(Divisible { file, pcap, size })
    }

    /// Its length, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A cut some way behind a byte; none if no place is found where records follow each other.
    pub fn cut_behind(&self, near: u64) -> Option<Cut> {
        let rest = usize::try_from(self.size.checked_sub(near)?).ok()?;
        let at = SEARCHED_BYTES.iter().find_map(|&bytes| {
            let mut window = vec![0; bytes.min(rest)];
            self.file.read_exact_at(&mut window, near).ok()?;
            (0..window.len() / 2).find(|&at| chained(&self.pcap, &window, at))
        })?;
        let warm_up = near + at as u64;
        // On from there, record by record.
        let rest = Box::new(From { file: self.file.try_clone().ok()?, at: warm_up });
        let mut source = Source::beginning_at(warm_up, rest);
        let mut first: Option<Timestamp> = None;
        for _ in 0..WARM_UP_FRAMES {
            let record = self.pcap.next(&mut source).map_err(|_: Stop| ()).ok()?;
            let first = *first.get_or_insert(record.time);
            if record.time.since(first) > WARM_UP_NANOS {
                return Some(Cut { warm_up, begin: record.offset });
            }
        }
        Some(Cut { warm_up, begin: source.offset() })
    }
}

/// Whether records of likely lengths and times follow each other from here.
fn chained(pcap: &Pcap, window: &[u8], mut at: usize) -> bool {
    let mut time: Option<Timestamp> = None;
    for _ in 0..CHAINED {
        let Some((this, bytes)) = window.get(at..).and_then(|bytes| pcap.likely(bytes)) else { return false };
        if time.is_some_and(|before| this.since(before).saturating_abs() > 3_600 * NANOS_PER_SECOND) {
            return false;
        }
        time = Some(this);
        at += bytes;
    }
    true
}

/// A file from some place on.
pub(super) struct From {
    pub(super) file: File,
    pub(super) at: u64,
}

impl io::Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}
