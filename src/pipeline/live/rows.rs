//! Segments once they are cut: kept for the audit at the end of the window, and with `--out` written to files of their own.
//!
//! One thread keeps the journal of the segment at hand, another writes those that are over: whatever the machine dies of
//! while a segment is written, the journal of the next is not behind.

use super::chain::{Chain, Journals};
use super::ending::Ending;
use super::events::{Notice, Outlet, Part};
use super::files::Digested;
use super::journal::{Change, Demand, Journal};
use super::mapping::saved_as;
use super::memory::Held;
use super::save::{Disk, Saved};
use crate::pipeline::Extract;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// What waits for the journal, at the most: while something does, nothing more is packed, but for the last of a segment.
const WAITING: usize = 2;

/// Segments that wait to be written, at the most.
const WAITING_SEGMENTS: usize = 4;

/// How long until what an earlier run left is tried again, where the disk did not take it; twice as long each time, up to a
/// minute: what it left is read each time.
const TRIED_AFTER: Duration = Duration::from_secs(2);
const TRIED_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// What the thread is told.
pub(super) enum Work {
    /// A segment begins.
    Begin {
        /// Its number.
        number: u64,
    },
    /// Something changed in it.
    Change(Box<Change>),
    /// A segment is over.
    Segment {
        /// Its number.
        number: u64,
        /// What it gave.
        extract: Box<Extract>,
        /// Whether its packets are written to a file.
        saved: bool,
    },
    /// A window is over.
    EndWindow {
        /// Its number, counted from 1.
        number: u64,
        /// Whether it is the last.
        last: bool,
        /// The segment after it.
        next: u64,
        /// What it takes in memory.
        held: Held,
    },
}

/// All segments of one window.
pub struct Window {
    /// Counted from 1.
    pub number: u64,
    /// Whether it is the last.
    pub last: bool,
    /// What each segment gave.
    pub captures: Vec<Extract>,
    /// The segments of it whose rows are in the directory.
    pub written: Vec<u64>,
    /// What it takes in memory: to be dropped with it.
    pub held: Held,
}

/// The threads that keep segments.
pub(super) struct Rows {
    work: SyncSender<Work>,
    /// Of the journal.
    demand: Arc<Demand>,
    /// Segments that are over and not written yet.
    behind: Arc<AtomicUsize>,
}

impl Rows {
    pub(super) fn start(
        chain: Option<Chain>,
        saved: Receiver<Saved>,
        windows: UnboundedSender<Window>,
        disk: Arc<Disk>,
        ending: Arc<Ending>,
        outlet: Outlet,
    ) -> io::Result<(Rows, [JoinHandle<()>; 2])> {
        let (work, told) = sync_channel(WAITING);
        let (over, ended) = sync_channel(WAITING_SEGMENTS);
        let behind = Arc::new(AtomicUsize::new(0));
        let demand = Arc::<Demand>::default();
        let begun_with = chain.as_ref().map_or(1, Chain::next);
        let keeper = JournalKeeper {
            journals: chain.as_ref().map(Chain::journals),
            journal: None,
            over,
            demand: Arc::clone(&demand),
            disk: Arc::clone(&disk),
        };
        let writer = Keeper {
            chain,
            saved,
            windows,
            disk,
            ending,
            outlet,
            captures: Vec::new(),
            unwritten: Vec::new(),
            written: Vec::new(),
            window: 1,
            begun_with,
            behind: Arc::clone(&behind),
        };
        if let Some(problem) = writer.chain.as_ref().and_then(Chain::waits) {
            writer.disk.refuses(Part::Segments, problem.clone());
        }
        let of = |name: &str| thread::Builder::new().name(name.to_owned());
        let keeper = of("journal").spawn(move || keeper.run(&told))?;
        let writer = of("rows").spawn(move || writer.run(&ended))?;
        Ok((Rows { work, demand, behind }, [keeper, writer]))
    }

    /// Whether the disk keeps up: else a segment had better go on than wait to be written, and frames with it.
    pub(super) fn keeps_up(&self) -> bool {
        self.behind.load(Ordering::Relaxed) < 2
    }

    /// What the journal asks for.
    pub(super) fn demand(&self) -> &Demand {
        &self.demand
    }

    pub(super) fn work(&self, work: Work) {
        match work {
            Work::Segment { .. } => {
                self.behind.fetch_add(1, Ordering::Relaxed);
            }
            Work::Change(_) => self.demand.begin(),
            Work::Begin { .. } | Work::EndWindow { .. } => {}
        }
        // A thread that failed told so.
        let _ = self.work.send(work);
    }
}

/// What the thread that writes segments is told.
enum Over {
    Segment { number: u64, extract: Box<Extract>, saved: bool, journal: Option<Journal> },
    EndWindow { number: u64, last: bool, next: u64, held: Held },
}

/// The thread that keeps the journal.
struct JournalKeeper {
    journals: Option<Journals>,
    journal: Option<Journal>,
    over: SyncSender<Over>,
    demand: Arc<Demand>,
    disk: Arc<Disk>,
}

impl JournalKeeper {
    fn run(mut self, told: &Receiver<Work>) {
        for work in told {
            let over = match work {
                Work::Begin { number } => {
                    let path = self.journals.as_ref().and_then(|journals| journals.of(number));
                    let new = |path| Journal::new(path, Arc::clone(&self.demand), Arc::clone(&self.disk));
                    self.journal = path.map(new);
                    continue;
                }
                Work::Change(change) => {
                    if let Some(journal) = &mut self.journal {
                        journal.write(*change);
                    }
                    self.demand.end();
                    continue;
                }
                Work::Segment { number, extract, saved } => {
                    Over::Segment { number, extract, saved, journal: self.journal.take() }
                }
                Work::EndWindow { number, last, next, held } => Over::EndWindow { number, last, next, held },
            };
            if self.over.send(over).is_err() {
                return;
            }
        }
    }
}

/// A segment whose rows are in no file yet.
struct Unwritten {
    number: u64,
    /// Its place among the captures of the window.
    place: usize,
    file: Option<Digested>,
    journal: Option<Journal>,
}

/// The thread that writes segments.
struct Keeper {
    chain: Option<Chain>,
    saved: Receiver<Saved>,
    windows: UnboundedSender<Window>,
    disk: Arc<Disk>,
    ending: Arc<Ending>,
    outlet: Outlet,
    captures: Vec<Extract>,
    /// In order: the chain takes no other.
    unwritten: Vec<Unwritten>,
    written: Vec<u64>,
    /// The window at hand, and the segment that it began with.
    window: u64,
    begun_with: u64,
    behind: Arc<AtomicUsize>,
}

impl Keeper {
    /// What is told next; none once nothing is. What an earlier run left is tried meanwhile, where it waits.
    fn next(&mut self, ended: &Receiver<Over>) -> Option<Over> {
        let mut patience = TRIED_AFTER;
        while self.chain.as_ref().is_some_and(|chain| chain.waits().is_some()) {
            match ended.recv_timeout(patience) {
                Ok(over) => return Some(over),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.write(),
            }
            patience = (patience * 2).min(TRIED_AT_LEAST_EVERY);
        }
        ended.recv().ok()
    }

    fn run(mut self, ended: &Receiver<Over>) {
        while let Some(over) = self.next(ended) {
            match over {
                Over::Segment { number, extract, saved, journal } => {
                    self.segment(number, *extract, saved, journal);
                    self.behind.fetch_sub(1, Ordering::Relaxed);
                }
                Over::EndWindow { number, last, next, held } => {
                    self.write();
                    self.give_up();
                    (self.window, self.begun_with) = (number + 1, next);
                    if let Some(chain) = self.chain.as_ref().filter(|_| !last)
                        && let Err(problem) = chain.begin_window(number + 1, next)
                    {
                        self.disk.refuses(Part::Segments, problem);
                    }
                    let captures = std::mem::take(&mut self.captures);
                    let written = std::mem::take(&mut self.written);
                    if self.windows.send(Window { number, last, captures, written, held }).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn segment(&mut self, number: u64, mut extract: Extract, saved: bool, journal: Option<Journal>) {
        let mut file = None;
        if saved && let Ok(done) = self.saved.recv() {
            if let Some(live) = &mut extract.summary.live {
                live.unsaved = done.unsaved;
            }
            if let Some(done) = &done.file {
                saved_as(&mut extract.summary, done.bytes, &done.sha256);
            }
            file = done.file;
        }
        self.captures.push(extract);
        if self.chain.is_some() {
            self.unwritten.push(Unwritten { number, place: self.captures.len() - 1, file, journal });
            self.write();
        }
    }

    /// Writes what is not written yet, as far as that goes: a disk that was full may have room again.
    fn write(&mut self) {
        let Some(chain) = &mut self.chain else { return };
        if chain.waits().is_some() {
            match chain.recover_left(self.window, self.begun_with) {
                Ok(()) => self.disk.takes(Part::Segments),
                Err(problem) => return self.disk.refuses(Part::Segments, problem),
            }
        }
        while let Some(first) = self.unwritten.first() {
            let Some(extract) = self.captures.get(first.place) else { return };
            match chain.write(first.number, extract, first.file.as_ref(), false) {
                Ok(link) => {
                    let (number, frames, digest) = (first.number, link.frames, link.digest);
                    self.outlet.notice(Notice::Segment { number, frames, digest });
                    self.ending.wrote(frames);
                    self.written.push(number);
                    self.disk.takes(Part::Segments);
                    if let Some(journal) = self.unwritten.remove(0).journal {
                        journal.end();
                    }
                }
                Err(problem) => {
                    return self.disk.refuses(Part::Segments, problem);
                }
            }
        }
    }

    /// The window ends: what is not written by now never is, but for what a journal holds.
    fn give_up(&mut self) {
        let Some(first) = self.unwritten.first().map(|first| first.number) else { return };
        let mut frames = 0;
        for Unwritten { place, file, .. } in std::mem::take(&mut self.unwritten) {
            // Frames that stand in a file can be read again.
            if let Some(extract) = self.captures.get_mut(place).filter(|_| file.is_none()) {
                let seen = extract.summary.frames;
                if let Some(live) = &mut extract.summary.live {
                    let more = seen - live.unsaved.min(seen);
                    live.unsaved = seen;
                    frames += more;
                }
            }
        }
        self.disk.unsaved.fetch_add(frames, Ordering::Relaxed);
        let path = self.chain.as_ref().map(|chain| chain.rows(first).display().to_string());
        let at = crate::capture::live::now();
        self.outlet.notice(Notice::Unsaved { at, path: path.unwrap_or_default(), frames });
    }
}
