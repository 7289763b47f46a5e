//! Segments once they are cut: kept for the audit at the end of the window, and with `--out` written to files of their own.

use super::events::Outlet;
use super::files::Problem;
use super::mapping::saved_as;
use super::save::Saved;
use crate::pipeline::Extract;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use tokio::sync::mpsc::UnboundedSender;

/// Segments that wait to be written, at the most.
const WAITING: usize = 4;

/// What the thread is told.
pub(super) enum Work {
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
        saved: Receiver<Saved>,
        windows: UnboundedSender<Window>,
        outlet: Outlet,
    ) -> io::Result<(Rows, JoinHandle<()>)> {
        let (work, told) = sync_channel(WAITING);
        let keeper = Keeper { saved, windows, outlet, captures: Vec::new() };
        let thread = thread::Builder::new().name("rows".to_owned()).spawn(move || keeper.run(&told))?;
        Ok((Rows { work }, thread))
    }

    pub(super) fn work(&self, work: Work) {
        // A thread that failed told so.
        let _ = self.work.send(work);
    }
}

struct Keeper {
    saved: Receiver<Saved>,
    windows: UnboundedSender<Window>,
    outlet: Outlet,
    captures: Vec<Extract>,
}

impl Keeper {
    fn run(mut self, told: &Receiver<Work>) {
        for work in told {
            match work {
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

    fn segment(&mut self, _number: u64, mut extract: Extract, saved: bool) {
        if saved {
            match self.saved.recv() {
                Ok(Ok(file)) => saved_as(&mut extract.summary, file.bytes, &file.sha256),
                Ok(Err(problem)) => self.problem(problem),
                Err(_) => {}
            }
        }
        self.captures.push(extract);
    }

    fn problem(&self, problem: Problem) {
        self.outlet.notice(problem.into());
    }
}
