//! Segments once they are cut: kept for the audit at the end of the window, and with `--out` written to files of their own.

use super::chain::{Chain, Journal};
use super::events::{Notice, Outlet};
use super::files::Problem;
use super::mapping::saved_as;
use super::save::Saved;
use crate::audit::CaptureSummary;
use crate::flow::Stretch;
use crate::names::DnsObservation;
use crate::pipeline::Extract;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use tokio::sync::mpsc::UnboundedSender;

/// Segments that wait to be written, at the most.
const WAITING: usize = 4;

/// What changed in the segment at hand.
pub(super) struct Change {
    pub stretches: Vec<Stretch>,
    pub messages: Vec<DnsObservation>,
    pub summary: CaptureSummary,
}

/// What the thread is told.
pub(super) enum Work {
    /// A segment begins.
    Begin {
        /// Its number.
        number: u64,
        /// Its name as a capture.
        name: Arc<str>,
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
}

/// The thread that keeps segments.
pub(super) struct Rows {
    work: SyncSender<Work>,
}

impl Rows {
    pub(super) fn start(
        chain: Option<Chain>,
        saved: Receiver<Saved>,
        windows: UnboundedSender<Window>,
        outlet: Outlet,
    ) -> io::Result<(Rows, JoinHandle<()>)> {
        let (work, told) = sync_channel(WAITING);
        let keeper = Keeper { chain, journal: None, saved, windows, outlet, captures: Vec::new() };
        let thread = thread::Builder::new().name("rows".to_owned()).spawn(move || keeper.run(&told))?;
        Ok((Rows { work }, thread))
    }

    /// Hands on what changed, unless too much waits already: then it is to be kept.
    pub(super) fn change(&self, change: Box<Change>) -> Result<(), Box<Change>> {
        match self.work.try_send(Work::Change(change)) {
            Err(TrySendError::Full(Work::Change(change))) => Err(change),
            // A thread that failed told so.
            _ => Ok(()),
        }
    }

    pub(super) fn work(&self, work: Work) {
        // A thread that failed told so.
        let _ = self.work.send(work);
    }
}

struct Keeper {
    chain: Option<Chain>,
    journal: Option<Journal>,
    saved: Receiver<Saved>,
    windows: UnboundedSender<Window>,
    outlet: Outlet,
    captures: Vec<Extract>,
}

impl Keeper {
    fn run(mut self, told: &Receiver<Work>) {
        for work in told {
            match work {
                Work::Begin { number, name } => self.begin(number, &name),
                Work::Change(change) => self.change(*change),
                Work::Segment { number, extract, saved } => self.segment(number, *extract, saved),
                Work::EndWindow { number, last } => {
                    let captures = std::mem::take(&mut self.captures);
                    if self.windows.send(Window { number, last, captures }).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn begin(&mut self, number: u64, name: &Arc<str>) {
        let begun = self.chain.as_ref().map(|chain| chain.journal(number, name));
        match begun {
            Some(Ok(journal)) => self.journal = journal,
            Some(Err(problem)) => self.problem(problem),
            None => {}
        }
    }

    fn change(&mut self, change: Change) {
        let Some(journal) = &mut self.journal else { return };
        if let Err(problem) = journal.write(&change.stretches, &change.messages, change.summary) {
            // Told once; the next segment tries again.
            self.journal = None;
            self.problem(problem);
        }
    }

    fn segment(&mut self, number: u64, mut extract: Extract, saved: bool) {
        let mut file = None;
        if saved {
            match self.saved.recv() {
                Ok(Ok(done)) => {
                    saved_as(&mut extract.summary, done.bytes, &done.sha256);
                    file = Some(done);
                }
                Ok(Err(problem)) => self.problem(problem),
                Err(_) => {}
            }
        }
        if let Some(chain) = &mut self.chain {
            match chain.write(number, &extract, file.as_ref(), false) {
                Ok(link) => {
                    let (frames, digest) = (link.frames, link.digest);
                    self.outlet.notice(Notice::Segment { number, frames, digest });
                    if let Some(journal) = self.journal.take() {
                        journal.end();
                    }
                }
                Err(problem) => self.problem(problem),
            }
        }
        self.captures.push(extract);
    }

    fn problem(&self, problem: Problem) {
        self.outlet.notice(problem.into());
    }
}
