//! Frames to files: one pcapng file a segment, written under a name of its own until it is whole.

use super::files::{Digested, Problem};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Chunks on their way to the disk: with [`CHUNK_BYTES`] 64 MiB. What does not fit waits before it, and in the end in the
/// ring.
const CHUNKS: usize = 64;

/// Bytes written at a time.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// What the thread that writes is told.
pub(super) enum Order {
    /// A new file begins.
    Begin(PathBuf),
    /// These bytes come next.
    Write(Vec<u8>),
    /// What was written is to be on the disk.
    Sync,
    /// The file is whole.
    Finish,
}

/// A file that was finished, or why there is none.
pub(super) type Saved = Result<Digested, Problem>;

/// The thread that writes packets.
pub(super) struct Saver {
    orders: SyncSender<Order>,
    thread: JoinHandle<()>,
}

impl Saver {
    /// Starts it. `saved` is told of each file once it is finished, in order.
    pub(super) fn start(saved: std::sync::mpsc::Sender<Saved>) -> io::Result<Saver> {
        let (orders, told) = sync_channel(CHUNKS);
        let thread = thread::Builder::new().name("save".to_owned()).spawn(move || work(&told, &saved))?;
        Ok(Saver { orders, thread })
    }

    /// Tells it what to do next. Waits while the disk does not keep up.
    pub(super) fn order(&self, order: Order) {
        // A thread that failed told so.
        let _ = self.orders.send(order);
    }

    /// Waits for the last file.
    pub(super) fn end(self) {
        drop(self.orders);
        // What it did is told already.
        let _ = self.thread.join();
    }
}

fn work(orders: &Receiver<Order>, saved: &std::sync::mpsc::Sender<Saved>) {
    let mut writing: Option<Result<Writing, Problem>> = None;
    for order in orders {
        match (order, &mut writing) {
            (Order::Begin(path), _) => writing = Some(Writing::begin(&path)),
            (Order::Write(bytes), Some(state @ Ok(_))) => {
                if let Ok(open) = state
                    && let Err(problem) = open.write(&bytes)
                {
                    *state = Err(problem);
                }
            }
            (Order::Sync, Some(state @ Ok(_))) => {
                if let Ok(open) = state
                    && let Err(problem) = open.sync()
                {
                    *state = Err(problem);
                }
            }
            (Order::Finish, _) => {
                let finished = match writing.take() {
                    Some(Ok(open)) => open.finish(),
                    Some(Err(problem)) => Err(problem),
                    None => continue,
                };
                // Whoever waits for it may be gone.
                let _ = saved.send(finished);
            }
            (Order::Write(_) | Order::Sync, _) => {}
        }
    }
}

/// A file that is not whole yet.
struct Writing {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
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
        Ok(Writing { path: path.to_owned(), temporary, file, digest: Default::default() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.digest.update(bytes);
        self.file.write_all(bytes).map_err(|error| Problem::new(&self.path, "cannot be written", &error))
    }

    fn sync(&mut self) -> Result<(), Problem> {
        self.file.sync_data().map_err(|error| Problem::new(&self.path, "cannot be written", &error))?;
        // A directory that was moved or removed takes the file along, and writing goes on into nothing.
        if self.temporary.exists() {
            return Ok(());
        }
        Err(Problem::new(&self.path, "cannot be written", &io::Error::other("its directory is gone")))
    }

    fn finish(self) -> Result<Digested, Problem> {
        let Writing { path, temporary, file, digest } = self;
        let told = |error| Problem::new(&path, "cannot be written", &error);
        file.sync_all().map_err(told)?;
        fs::rename(&temporary, &path).map_err(told)?;
        super::files::sync_directory(&path).map_err(told)?;
        Ok(digest.finish(&path))
    }
}
