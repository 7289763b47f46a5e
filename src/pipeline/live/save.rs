//! Frames to files: one pcapng file a segment, written under a name of its own until it is whole.
//!
//! Where the disk refuses, the file keeps what it holds, so that numbers of frames in it stay true; the frames after that are
//! counted. Every now and then it is tried whether something can be written again: then the segment ends, and the next one
//! has a file of its own.

use super::events::{Notice, Outlet};
use super::files::{Digested, Problem};
use crate::capture::live::now;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes written at a time.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// How long after a refusal it is tried again; twice as long each time, up to a minute.
const TRIED_AFTER: Duration = Duration::from_secs(2);
const TRIED_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// What the thread that writes is told.
pub(super) enum Order {
    /// A new file begins.
    Begin(PathBuf),
    /// These bytes come next: whole blocks.
    Write(Vec<u8>),
    /// What was written is to be on the disk.
    Sync,
    /// The file is whole.
    Finish,
}

/// What became of a file.
pub(super) struct Saved {
    /// The file, if there is one.
    pub file: Option<Digested>,
    /// Frames of the segment that are in none.
    pub unsaved: u64,
}

/// What is written while a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Frames.
    Packets,
    /// Rows of segments, and the chain.
    Segments,
    /// The journal of the segment at hand.
    Journal,
}

/// What others see of the threads that write.
pub(super) struct Disk {
    /// Frames that no file holds, over the whole run.
    pub unsaved: AtomicU64,
    /// The file at hand takes nothing any more, but another one would.
    pub wants_another: AtomicBool,
    /// What cannot be written at present, and why.
    refused: Mutex<BTreeMap<Part, Problem>>,
    outlet: Outlet,
}

impl Disk {
    pub(super) fn new(outlet: Outlet) -> Disk {
        Disk {
            unsaved: AtomicU64::new(0),
            wants_another: AtomicBool::new(false),
            refused: Mutex::default(),
            outlet,
        }
    }

    /// A part cannot be written. Told once, until it can be again.
    pub(super) fn refuses(&self, part: Part, problem: Problem) {
        let before =
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(part, problem.clone());
        if before.is_none() {
            self.outlet.notice(problem.into());
        }
    }

    /// A part is written.
    pub(super) fn takes(&self, part: Part) {
        let before = self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&part);
        if let Some(Problem { path, .. }) = before {
            self.outlet.notice(Notice::Written { at: now(), path });
        }
    }

    /// What cannot be written at present.
    pub(super) fn refused(&self) -> Vec<Problem> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// The thread that writes packets.
pub(super) struct Saver {
    orders: SyncSender<Order>,
    disk: Arc<Disk>,
    thread: JoinHandle<()>,
}

impl Saver {
    /// Starts it: of so many chunks on their way to the disk; what does not fit waits before it, and in the end in the ring. `saved`
    /// is told of each file once it is finished, in order.
    pub(super) fn start(
        saved: std::sync::mpsc::Sender<Saved>,
        chunks: usize,
        disk: Arc<Disk>,
        outlet: Outlet,
    ) -> io::Result<Saver> {
        let (orders, told) = sync_channel(chunks);
        let work = Work { saved, disk: Arc::clone(&disk), outlet, writing: None, unsaved: 0, refused: None };
        let thread = thread::Builder::new().name("save".to_owned()).spawn(move || work.run(&told))?;
        Ok(Saver { orders, disk, thread })
    }

    /// Tells it what to do next. Waits while the disk does not keep up.
    pub(super) fn order(&self, order: Order) {
        // A thread that failed told so.
        let _ = self.orders.send(order);
    }

    /// Whether a new file should be begun: asked once, answered once.
    pub(super) fn wants_another(&self) -> bool {
        self.disk.wants_another.swap(false, Ordering::Relaxed)
    }

    /// Waits for the last file.
    pub(super) fn end(self) {
        drop(self.orders);
        // What it did is told already.
        let _ = self.thread.join();
    }
}

/// A refusal that lasts.
struct Refused {
    path: PathBuf,
    /// When it is tried again, and how long after that, should it be refused again.
    again_at: Instant,
    patience: Duration,
    /// Frames lost to it.
    frames: u64,
}

struct Work {
    saved: std::sync::mpsc::Sender<Saved>,
    disk: Arc<Disk>,
    outlet: Outlet,
    /// The file at hand; it takes nothing any more where `refused` says so.
    writing: Option<Writing>,
    /// Frames of this segment that its file does not hold.
    unsaved: u64,
    refused: Option<Refused>,
}

impl Work {
    fn run(mut self, orders: &Receiver<Order>) {
        for order in orders {
            match order {
                Order::Begin(path) => self.begin(&path),
                Order::Write(bytes) => self.write(&bytes),
                Order::Sync => self.sync(),
                Order::Finish => self.finish(),
            }
        }
        self.written_again();
    }

    fn begin(&mut self, path: &Path) {
        self.unsaved = 0;
        match Writing::begin(path) {
            Ok(writing) => {
                self.writing = Some(writing);
                self.written_again();
                self.disk.takes(Part::Packets);
            }
            Err(problem) => {
                self.writing = None;
                self.refuse(path, problem, 0);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        match &mut self.writing {
            Some(writing) if self.refused.is_none() => {
                if let Err((problem, lost)) = writing.write(bytes) {
                    let path = writing.path.clone();
                    self.refuse(&path, problem, lost);
                }
            }
            _ => {
                let (_, frames) = whole_blocks(bytes);
                self.lose(frames);
            }
        }
    }

    fn sync(&mut self) {
        if let Some(refused) = &mut self.refused {
            if Instant::now() >= refused.again_at {
                if can_write(&refused.path) {
                    // The segment at hand ends where its file does, or evidence would name frames by wrong numbers.
                    self.disk.wants_another.store(true, Ordering::Relaxed);
                }
                refused.patience = (refused.patience * 2).min(TRIED_AT_LEAST_EVERY);
                refused.again_at = Instant::now() + refused.patience;
            }
        } else if let Some(writing) = &mut self.writing
            && let Err(problem) = writing.sync()
        {
            let (path, frames) = (writing.path.clone(), writing.frames);
            // What was written is nowhere.
            self.writing = None;
            self.refuse(&path, problem, frames);
        }
    }

    fn finish(&mut self) {
        let mut file = None;
        if let Some(writing) = self.writing.take() {
            let (path, frames) = (writing.path.clone(), writing.frames);
            match writing.finish() {
                Ok(digested) => file = digested,
                Err(problem) => self.refuse(&path, problem, frames),
            }
        }
        // Whoever waits for it may be gone.
        let _ = self.saved.send(Saved { file, unsaved: self.unsaved });
    }

    /// Something is not written. Told once, until something is again.
    fn refuse(&mut self, path: &Path, problem: Problem, frames: u64) {
        if self.refused.is_none() {
            let again_at = Instant::now() + TRIED_AFTER;
            let path = path.to_owned();
            self.refused = Some(Refused { path, again_at, patience: TRIED_AFTER, frames: 0 });
        }
        self.disk.refuses(Part::Packets, problem);
        self.lose(frames);
    }

    fn lose(&mut self, frames: u64) {
        self.unsaved += frames;
        self.disk.unsaved.fetch_add(frames, Ordering::Relaxed);
        if let Some(refused) = &mut self.refused {
            refused.frames += frames;
        }
    }

    /// A refusal is over, or the run is: says what it cost.
    fn written_again(&mut self) {
        if let Some(Refused { path, frames, .. }) = self.refused.take() {
            self.outlet.notice(Notice::Unsaved { at: now(), path: path.display().to_string(), frames });
        }
    }
}

/// Whether a chunk could be written beside a file.
fn can_write(path: &Path) -> bool {
    let probe = path.with_file_name(".probe.part");
    let written = File::create(&probe)
        .and_then(|mut file| file.write_all(&[0; CHUNK_BYTES / 8]).and_then(|()| file.sync_data()));
    super::files::remove(&probe);
    written.is_ok() && path.parent().is_some_and(Path::exists)
}

/// Bytes of whole blocks at the beginning of these, and how many of them are frames.
fn whole_blocks(bytes: &[u8]) -> (usize, u64) {
    /// The kind of block that holds a frame (draft-ietf-opsawg-pcapng section 4.3).
    const FRAME: u32 = 6;
    let (mut whole, mut frames) = (0, 0);
    while let Some(head) = bytes.get(whole..).and_then(|rest| rest.first_chunk::<8>()) {
        let [a, b, c, d, e, f, g, h] = *head;
        let (kind, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]) as usize);
        if length < 12 || whole + length > bytes.len() {
            break;
        }
        whole += length;
        frames += u64::from(kind == FRAME);
    }
    (whole, frames)
}

/// A file that is not whole yet.
struct Writing {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    bytes: u64,
    frames: u64,
    digest: super::files::Digesting,
}

impl Writing {
    fn begin(path: &Path) -> Result<Writing, Problem> {
        let temporary = super::files::temporary(path);
        let told = |error| Problem::new(path, "cannot be created", &error);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(told)?;
        }
        let file = File::create(&temporary).map_err(told)?;
        Ok(Writing {
            path: path.to_owned(),
            temporary,
            file,
            bytes: 0,
            frames: 0,
            digest: Default::default(),
        })
    }

    /// Writes blocks; those that do not fit are not in the file, and their frames are told.
    fn write(&mut self, bytes: &[u8]) -> Result<(), (Problem, u64)> {
        let (mut written, mut problem) = (0, None);
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => problem = Some(io::ErrorKind::WriteZero.into()),
                Ok(some) => written += some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => problem = Some(error),
            }
            if problem.is_some() {
                break;
            }
        }
        let (_, all) = whole_blocks(bytes);
        let (whole, frames) = whole_blocks(bytes.get(..written).unwrap_or_default());
        self.digest.update(bytes.get(..whole).unwrap_or_default());
        self.bytes += whole as u64;
        self.frames += frames;
        let Some(error) = problem else { return Ok(()) };
        // Half a block is none. Where that fails, too, whoever reads the file stops there.
        let _ = self.file.set_len(self.bytes);
        Err((Problem::new(&self.path, "cannot be written", &error), all - frames))
    }

    fn sync(&mut self) -> Result<(), Problem> {
        self.file.sync_data().map_err(|error| Problem::new(&self.path, "cannot be written", &error))?;
        // A directory that was moved or removed takes the file along, and writing goes on into nothing.
        if self.temporary.exists() {
            return Ok(());
        }
        Err(Problem::new(&self.path, "cannot be written", &io::Error::other("its directory is gone")))
    }

    /// None where it holds nothing.
    fn finish(self) -> Result<Option<Digested>, Problem> {
        let Writing { path, temporary, file, bytes, digest, .. } = self;
        let told = |error: &io::Error| Problem::new(&path, "cannot be written", error);
        if bytes == 0 {
            super::files::remove(&temporary);
            return Ok(None);
        }
        file.sync_all().map_err(|error| told(&error))?;
        fs::rename(&temporary, &path).map_err(|error| told(&error))?;
        super::files::sync_directory(&path).map_err(|error| told(&error))?;
        Ok(Some(digest.finish(&path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::write::PcapngWriter;
    use crate::capture::{Frame, LinkType};
    use crate::model::Timestamp;

    #[test]
    fn of_a_chunk_that_was_cut_off_whole_blocks_count() {
        let mut writer = PcapngWriter::new(Vec::new(), "test").unwrap();
        writer.interface("eth0", LinkType(1), 262_144).unwrap();
        let mut ends = vec![(writer.get_mut().len(), 0)];
        for number in 1..=3 {
            let frame = Frame {
                number,
                offset: 0,
                time: Timestamp(0),
                interface: 0,
                link_type: LinkType(1),
                fcs_bytes: 0,
                wire_len: 60,
                bytes: &[0; 60],
            };
            writer.frame(&frame).unwrap();
            ends.push((writer.get_mut().len(), number));
        }
        let bytes = writer.into_inner();
        for length in 0..=bytes.len() {
            let (whole, frames) = whole_blocks(&bytes[..length]);
            let expected = ends.iter().rev().find(|(end, _)| *end <= length).copied();
            match expected {
                Some(expected) => assert_eq!((whole, frames), expected, "{length}"),
                None => assert_eq!(frames, 0, "{length}"),
            }
        }
    }
}
