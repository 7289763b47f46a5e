//! The journal of the segment at hand: what is left of it if the run is killed or the machine stops.
//!
//! Once every half second an entry is added: what the table of conversations gained, DNS messages, the tally, all of the same
//! moment. So whatever is cut off its end, the rest is what an audit up to some frame would have seen. What is written of a
//! conversation that goes on is in place of what stands there of it, but for the first bytes of its payload, which stand there
//! once; where that makes the journal much longer than what it tells, it begins anew.
//!
//! An entry is its length, the first eight bytes of its SHA-256, and its bytes: the length of the tally and the tally (JSON),
//! how many messages there are and each with its length, and the rest is for [`Replica`].

use super::events::Part;
use super::files::{Problem, remove, sync_directory, temporary};
use super::save::Disk;
use crate::audit::CaptureSummary;
use crate::flow::Replica;
use crate::model::varint;
use crate::names::{DnsLog, DnsObservation};
use crate::pipeline::Extract;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// With what a journal begins: another version's is none of this.
const MAGIC: &[u8; 20] = b"portproof journal 2\n";

/// Bytes of an entry before its own: its length and its check.
const HEAD: usize = 16;

/// A journal begins anew when it is four times as long as when it last did, and so much: 64 MiB.
const LONG_BYTES: u64 = 64 << 20;

/// How long after a refusal it is tried again; twice as long each time, up to half a minute. Each time everything is packed
/// anew.
const TRIED_AFTER: Duration = Duration::from_secs(1);
const TRIED_AT_LEAST_EVERY: Duration = Duration::from_secs(30);

/// What changed in the segment at hand, packed: it may be all that a flood said.
pub(super) struct Change {
    /// Whether this is everything, and nothing written before counts.
    pub whole: bool,
    /// As it will stand in the journal, but for its head.
    entry: Vec<u8>,
}

impl Change {
    /// Of what the tally is now and `count` messages; `delta` appends what the table of conversations gained.
    pub(super) fn new<E>(
        whole: bool,
        summary: &CaptureSummary,
        count: usize,
        messages: impl Iterator<Item = DnsObservation>,
        delta: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Change, E> {
        let mut entry = vec![0; HEAD];
        varint::put_bytes(&serde_json::to_vec(summary).unwrap_or_default(), &mut entry);
        varint::put(count as u64, &mut entry);
        messages.take(count).for_each(|message| varint::put_bytes(&message.to_row(), &mut entry));
        delta(&mut entry)?;
        Ok(Change { whole, entry })
    }

    /// The entry, its head as well.
    fn sealed(&mut self) -> &[u8] {
        if let Some((head, bytes)) = self.entry.split_first_chunk_mut::<HEAD>() {
            let (length, check) = ((bytes.len() as u64).to_le_bytes(), check(bytes));
            head[..8].copy_from_slice(&length);
            head[8..].copy_from_slice(&check);
        }
        &self.entry
    }
}

fn check(bytes: &[u8]) -> [u8; 8] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest.first_chunk().copied().unwrap_or_default()
}

/// What the mapper asks before it packs what changed.
#[derive(Default)]
pub(super) struct Demand {
    /// Changes on their way to the disk.
    waiting: AtomicUsize,
    /// Whether the next is to be everything.
    again: AtomicBool,
    refused_until: Mutex<Option<Instant>>,
}

impl Demand {
    /// Whether a change would be written now, and if so, whether it is to be everything. While one is being written another
    /// would only wait, and lack what comes meanwhile.
    pub(super) fn wanted(&self) -> Option<bool> {
        (self.waiting.load(Ordering::Acquire) == 0).then(|| self.last_wanted()).flatten()
    }

    /// The same for the last of a segment, which waits.
    pub(super) fn last_wanted(&self) -> Option<bool> {
        let refused = *self.refused_until.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        Some(self.again.swap(false, Ordering::Relaxed))
    }

    pub(super) fn begin(&self) {
        self.waiting.fetch_add(1, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.waiting.fetch_sub(1, Ordering::Release);
    }

    /// Whether everything is to be told next, so that nobody need keep what changes until then.
    pub(super) fn forgets(&self) -> bool {
        self.again.load(Ordering::Relaxed)
    }

    /// What changed cannot be read: everything is to be told again.
    pub(super) fn cannot_be_told(&self) {
        self.refuse(TRIED_AT_LEAST_EVERY);
    }

    fn refuse(&self, patience: Duration) {
        self.again.store(true, Ordering::Relaxed);
        *self.refused_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + patience);
    }
}

/// The journal of one segment.
pub(super) struct Journal {
    path: PathBuf,
    /// None before everything was written, and since something was not.
    file: Option<File>,
    /// What of it is written, now and when it began.
    bytes: u64,
    begun_bytes: u64,
    patience: Duration,
    demand: Arc<Demand>,
    disk: Arc<Disk>,
}

impl Journal {
    pub(super) fn new(path: PathBuf, demand: Arc<Demand>, disk: Arc<Disk>) -> Journal {
        Journal { path, file: None, bytes: 0, begun_bytes: 0, patience: TRIED_AFTER, demand, disk }
    }

    /// Writes what changed, and sees to it that it is on the disk. Where it cannot be written everything is asked for again
    /// after a while.
    pub(super) fn write(&mut self, mut change: Change) {
        if !change.whole && self.file.is_none() {
            // It hangs on something that was not written.
            return;
        }
        let whole = change.whole;
        let entry = change.sealed();
        let written = if whole { self.begin(entry) } else { self.add(entry) };
        match written {
            Ok(()) => {
                self.patience = TRIED_AFTER;
                self.disk.takes(Part::Journal);
                if self.bytes > LONG_BYTES + 4 * self.begun_bytes {
                    self.demand.again.store(true, Ordering::Relaxed);
                }
            }
            Err(error) => {
                self.file = None;
                self.demand.refuse(self.patience);
                self.patience = (self.patience * 2).min(TRIED_AT_LEAST_EVERY);
                self.disk.refuses(Part::Journal, Problem::new(&self.path, "cannot be written", &error));
            }
        }
    }

    /// Begins it, beside the one that stands there as long as this is not whole.
    fn begin(&mut self, entry: &[u8]) -> io::Result<()> {
        fs::create_dir_all(self.path.parent().unwrap_or(Path::new(".")))?;
        let part = temporary(&self.path);
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&part)?;
        let written = file
            .write_all(MAGIC)
            .and_then(|()| file.write_all(entry))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&part, &self.path))
            .and_then(|()| sync_directory(&self.path));
        if written.is_err() {
            remove(&part);
        }
        written?;
        self.bytes = (MAGIC.len() + entry.len()) as u64;
        self.begun_bytes = self.bytes;
        self.file = Some(file);
        Ok(())
    }

    fn add(&mut self, entry: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if let Err(error) = file.write_all(entry) {
            // Half an entry takes room, and nobody reads it.
            let _ = file.set_len(self.bytes).and_then(|()| file.seek(SeekFrom::Start(self.bytes)));
            return Err(error);
        }
        self.bytes += entry.len() as u64;
        file.sync_data()?;
        // A directory that was moved or removed takes the file along, and writing goes on into nothing.
        if self.path.exists() { Ok(()) } else { Err(io::Error::other("its directory is gone")) }
    }

    /// The segment is written: it is needed no more.
    pub(super) fn end(self) {
        remove(&self.path);
    }
}

/// What a journal holds, up to where it was cut off; none where it holds no whole entry.
///
/// # Errors
/// What is wrong with it, where that is not only that it was cut off.
pub(super) fn read(path: &Path) -> Result<Option<Extract>, String> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        let begun = MAGIC.starts_with(&bytes);
        return if begun { Ok(None) } else { Err("another version wrote it".to_owned()) };
    };
    let (mut replica, mut dns, mut summary) = (Replica::default(), DnsLog::default(), None);
    while let Some(entry) = take_entry(&mut rest) {
        summary = Some(apply(entry, &mut replica, &mut dns)?);
    }
    let Some(mut summary) = summary else { return Ok(None) };
    let pieces = replica.finish()?;
    (summary.flows, summary.names) = (pieces.len() as u64, dns.len() as u64);
    Ok(Some(Extract { summary, pieces, dns, further: Vec::new() }))
}

/// The next entry, if it is whole.
fn take_entry<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let (length, own) = head.split_first_chunk::<8>()?;
    let (entry, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    if check(entry) != own {
        return None;
    }
    *bytes = rest;
    Some(entry)
}

fn apply(mut entry: &[u8], replica: &mut Replica, dns: &mut DnsLog) -> Result<CaptureSummary, String> {
    let ends = || "an entry ends too early".to_owned();
    let bytes = &mut entry;
    let summary = serde_json::from_slice(varint::take_bytes(bytes).ok_or_else(ends)?)
        .map_err(|error| error.to_string())?;
    for _ in 0..varint::take(bytes).ok_or_else(ends)? {
        let row = varint::take_bytes(bytes).ok_or_else(ends)?;
        dns.push(DnsObservation::of_row(row).map_err(|problem| problem.to_string())?);
    }
    replica.apply(bytes)?;
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Budget, FlowTable, TableOptions};
    use crate::model::{CaptureId, Endpoint, FramePoint, Timestamp, Transport};
    use crate::names::dns;
    use std::convert::Infallible;

    fn question(number: u64) -> DnsObservation {
        let name = format!("host-{number:07}-of-a-name-that-is-not-short");
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8];
        message.extend(name.bytes().chain(*b"\x07example\0\0\x01\0\x01"));
        let end = |ip: &str, port| Endpoint::new(ip.parse().unwrap(), port);
        DnsObservation {
            point: FramePoint { time: Timestamp(number as i64), capture: CaptureId::new(0), frame: number },
            client: end("10.10.1.4", 40_000),
            resolver: end("10.10.1.1", 53),
            transport: Transport::Udp,
            message: dns::parse(&message).expect("a message"),
        }
    }

    fn tally() -> CaptureSummary {
        CaptureSummary { frames: 1, packets: 1, ..CaptureSummary::of_nothing("live:test/000001", "live") }
    }

    fn read_back(name: &str, journal: &[u8]) -> Extract {
        let name = format!("portproof-journal-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, journal).unwrap();
        let read = read(&path).unwrap().expect("entries");
        fs::remove_file(path).unwrap();
        read
    }

    #[test]
    fn messages_wait_for_the_journal_as_bytes_and_are_read_as_they_were() {
        const MANY: u64 = 10_000;
        let mut seen = DnsLog::default();
        (1..=MANY).for_each(|number| seen.push(question(number)));
        let options = TableOptions { capacity: 8, budget: Budget::new(usize::MAX).into(), keep_bytes: true };
        let mut table = FlowTable::new(options, CaptureId::new(0));
        table.keep_deltas();
        let delta = |out: &mut Vec<u8>| table.delta(true, out);
        let mut change = Change::new(true, &tally(), MANY as usize, seen.since(0), delta).unwrap();
        // As values they take several times as much, and a flood has half a million of them within the time of an entry.
        assert!(size_of::<Change>() <= 32, "something waits beside the bytes");
        let bytes = change.entry.capacity() as u64 / MANY;
        assert!(bytes < 256, "{bytes} bytes a message");

        let read = read_back("packed", &[&MAGIC[..], change.sealed()].concat());
        assert!(read.dns.iter().eq(seen.iter()));
    }

    #[test]
    fn a_message_seen_while_others_wait_is_in_the_next_entry_and_in_no_other() {
        let mut seen = DnsLog::default();
        let mut journal = MAGIC.to_vec();
        let mut written = 0;
        for more in [3, 0, 1, 40] {
            (0..more).for_each(|_| seen.push(question(seen.len() as u64 + 1)));
            let count = seen.len() - written;
            // What comes while it is packed is none of it.
            seen.push(question(seen.len() as u64 + 1));
            let nothing = |out: &mut Vec<u8>| {
                out.extend([0, 0]);
                Ok::<(), Infallible>(())
            };
            let change = Change::new(written == 0, &tally(), count, seen.since(written), nothing);
            journal.extend(change.unwrap().sealed());
            written += count;
        }
        let read = read_back("later", &journal);
        assert!(read.dns.iter().eq(seen.iter().take(written)));
    }
}
