//! Where a large pcap file may be cut, so that several threads read it.
//!
//! Nothing in a pcap file marks where a record begins, so a place is guessed and then proved: whoever reads the part before
//! must end exactly there. Until that is known, what was read behind the cut counts for nothing.

use super::input::{Input, InputSource};
use super::pcap::{Pcap, Stop};
use super::source::Source;
use crate::model::{NANOS_PER_SECOND, Timestamp};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

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

/// Where to cut an input into so many parts of at least `least` bytes, ascending. None if it is anything but a plain pcap
/// file, if it is too small, or if no place can be found.
pub fn cuts(input: &Input, parts: usize, least: u64) -> Vec<Cut> {
    let InputSource::File(path) = &input.source else { return Vec::new() };
    let (Ok(file), Ok(meta)) = (File::open(path), std::fs::metadata(path)) else { return Vec::new() };
    let parts = (parts as u64).min(meta.len() / least.max(1));
    if parts < 2 || !meta.is_file() {
        return Vec::new();
    }
    let mut head = [0; 40];
    if file.read_exact_at(&mut head, 0).is_err() || !Pcap::begins([head[0], head[1], head[2], head[3]]) {
        return Vec::new();
    }
    let Ok(pcap) = Pcap::open(&mut Source::new(&head, Box::new(io::empty()))) else { return Vec::new() };
    let mut cuts: Vec<Cut> = Vec::new();
    for part in 1..parts {
        let near = meta.len() / parts * part;
        let cut = find(&file, &pcap, near, meta.len());
        cuts.extend(cut.filter(|cut| cuts.last().is_none_or(|last| cut.begin > last.begin)));
    }
    cuts
}

fn find(file: &File, pcap: &Pcap, near: u64, size: u64) -> Option<Cut> {
    let rest = usize::try_from(size - near).ok()?;
    let at = SEARCHED_BYTES.iter().find_map(|&bytes| {
        let mut window = vec![0; bytes.min(rest)];
        file.read_exact_at(&mut window, near).ok()?;
        (0..window.len() / 2).find(|&at| chained(pcap, &window, at))
    })?;
    let warm_up = near + at as u64;
    // On from there, record by record.
    let rest = Box::new(From { file: file.try_clone().ok()?, at: warm_up });
    let mut source = Source::beginning_at(warm_up, rest);
    let mut first: Option<Timestamp> = None;
    for _ in 0..WARM_UP_FRAMES {
        let record = pcap.next(&mut source).map_err(|_: Stop| ()).ok()?;
        let first = *first.get_or_insert(record.time);
        if record.time.since(first) > WARM_UP_NANOS {
            return Some(Cut { warm_up, begin: record.offset });
        }
    }
    Some(Cut { warm_up, begin: source.offset() })
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
