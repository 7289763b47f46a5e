//! A live run: frames of devices through the same map and reduce as offline.
//!
//! One thread a device copies frames out of the kernel's ring ([`crate::capture::live`]); one maps them (`mapping`), one
//! writes packets (`save`), one keeps and writes rows (`rows`). Whoever runs it waits for signals and windows meanwhile.

mod chain;
mod emergency;
mod ending;
mod events;
mod files;
mod follow;
mod journal;
mod mapping;
mod memory;
mod merge;
mod picture;
mod rows;
mod save;
mod unjudged;
mod waiting;

pub use chain::{Link, SegmentFile};
pub use ending::Seen;
pub use events::{EventOptions, Notice};
pub use files::Problem;
pub use memory::{Held, Shares};
pub use picture::{Event, FlowTotals, InterfacePicture, LiveFinding, Picture, RulePicture, Stages};
pub use rows::Window;
pub use unjudged::Unjudged;

use super::ExtractOptions;
use crate::audit::NOT_KEPT;
use crate::capture::live::{LiveError, Meter, STDIN, Tap, TapOptions, now, start};
use crate::matrix::{Matrix, Site};
use crate::model::NANOS_PER_SECOND;
use chain::Chain;
use ending::Ending;
use events::{Outlet, Sinks};
use follow::{Follower, Shared};
use mapping::Mapping;
use rows::Rows;
use save::{Disk, Saver};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

/// How long a window is: what is audited at once. SEMANTICS section 1: live keeps a host's rows for 24 h.
pub const WINDOW_NANOS: i64 = 24 * 3600 * NANOS_PER_SECOND;

/// When a segment ends: by what comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// So long after its first frame, nanoseconds.
    pub after_ns: i64,
    /// After so many captured bytes.
    pub bytes: u64,
    /// With `--out`: after so many stretches of conversations.
    pub rows: usize,
}

impl Rotation {
    /// Stretches of conversations in a segment: 32,768, which are written within a second. More would make the end of a run
    /// wait for the disk, and lose more where a run is killed; fewer make more files of a flood.
    pub const ROWS: usize = 1 << 15;

    /// Unless told otherwise: an hour, or 1 GiB.
    pub const DEFAULT: Rotation =
        Rotation { after_ns: 3600 * NANOS_PER_SECOND, bytes: 1 << 30, rows: Rotation::ROWS };
}

/// How a live run is done.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// The devices, by name; `-` for a capture on standard input.
    pub interfaces: Vec<String>,
    /// How they are opened.
    pub tap: TapOptions,
    /// How frames are mapped.
    pub extract: ExtractOptions,
    /// The directory for everything that is written.
    pub out: Option<PathBuf>,
    /// Whether frames are written there.
    pub save: bool,
    /// When segments end.
    pub rotation: Rotation,
    /// After what time a window ends and is audited, nanoseconds.
    pub window_ns: i64,
    /// What its parts may take in memory.
    pub shares: Shares,
    /// The number of the first segment; that after the last of the directory, where there are some.
    pub first_segment: u64,
    /// Whether conversations are followed while they go on: for events and pictures, which cost a part of a processor.
    pub follow: bool,
    /// Where events are told.
    pub events: EventOptions,
}

/// How long a run that has ended waits for those who read its events.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

impl LiveOptions {
    /// The file for the packets of a segment.
    fn packets_path(&self, segment: u64) -> Option<PathBuf> {
        let out = self.out.as_ref().filter(|_| self.save)?;
        Some(out.join("packets").join(format!("{segment:06}.pcapng")))
    }

    /// What a segment is called as a capture: its file, or its devices.
    fn segment_name(&self, segment: u64) -> Arc<str> {
        match self.packets_path(segment) {
            Some(path) => path.display().to_string().into(),
            None => format!("{NOT_KEPT}{}/{segment:06}", self.interfaces.join("+")).into(),
        }
    }
}

/// Rules and site.
#[derive(Debug)]
pub struct Policy {
    /// The rules.
    pub matrix: Matrix,
    /// The site.
    pub site: Site,
}

/// A live run whose devices are open and whose directory is there, and of which no thread runs yet: whoever gives up
/// privileges does it while this is at hand.
pub struct Opened {
    taps: Vec<Tap>,
    sinks: Sinks,
    chain: Option<Chain>,
    notices: Vec<Notice>,
    options: Arc<LiveOptions>,
    stop: Arc<AtomicBool>,
}

/// Why a live run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A device.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The directory.
    #[error(transparent)]
    Unwritten(#[from] Problem),
}

impl Opened {
    /// Opens everything.
    ///
    /// # Errors
    /// A device cannot be opened, or the directory cannot be made.
    pub fn open(mut options: LiveOptions) -> Result<Opened, OpenError> {
        let stop = Arc::new(AtomicBool::new(false));
        if let Some(out) = &options.out {
            std::fs::create_dir_all(out).map_err(|error| Problem::new(out, "cannot be made", &error))?;
            if options.save {
                // Where that cannot be made now, whoever writes there tries again, and tells.
                let _ = std::fs::create_dir_all(out.join("packets"));
            }
        }
        let open = |name: &String| Tap::open(name, &options.tap, &stop);
        let taps = options.interfaces.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let sinks = Sinks::open(&options.events)?;
        let (mut chain, mut notices) = (None, Vec::new());
        if let Some(out) = &options.out {
            let (taken_up, told) = Chain::open(out, options.save, &options.extract)?;
            options.first_segment = taken_up.next();
            // Rows that are written carry first bytes, as `judge` needs them.
            options.extract.keep_bytes = true;
            (chain, notices) = (Some(taken_up), told);
        }
        Ok(Opened { taps, sinks, chain, notices, options: Arc::new(options), stop })
    }

    /// How the run is done.
    pub fn options(&self) -> &LiveOptions {
        &self.options
    }

    /// The file descriptors of the devices.
    pub fn packet_sockets(&self) -> Vec<i32> {
        self.taps.iter().filter_map(Tap::descriptor).collect()
    }

    /// The file descriptor of the syslog's socket.
    pub fn syslog(&self) -> Option<i32> {
        self.sinks.syslog()
    }

    /// Starts all threads.
    ///
    /// # Errors
    /// A thread is not to be had.
    pub fn start(self, policy: Arc<Policy>) -> io::Result<Running> {
        let Opened { taps, sinks, chain, notices: left, options, stop } = self;
        let meters: Vec<Arc<Meter>> = taps.iter().map(|tap| Arc::clone(tap.meter())).collect();
        let (tell_windows, windows) = unbounded_channel();
        let (tell_notices, notices) = unbounded_channel();
        let (tell_saved, saved) = channel();
        let mut threads = Vec::new();
        let (outlet, telling) = sinks.start(tell_notices)?;
        let (picture, pictures) = watch::channel(Arc::default());
        let disk = Arc::new(Disk::new(outlet.clone()));
        let ending = Arc::new(Ending::default());
        let shared = Arc::new(Shared {
            disk: Arc::clone(&disk),
            ending: Arc::clone(&ending),
            policy: Mutex::new(policy),
            picture,
            busy: AtomicBool::new(false),
            cost_ms: AtomicU64::new(0),
            room: AtomicUsize::new(waiting::MOST_WAITING),
            unlooked: AtomicUsize::new(0),
            turned_away: AtomicU64::new(0),
            began: Instant::now(),
            began_at: now(),
        });
        outlet.notice(Notice::Began { at: shared.began_at, interfaces: options.interfaces.clone() });
        left.into_iter().for_each(|notice| outlet.notice(notice));
        let saver = if options.save {
            Some(Saver::start(tell_saved, options.shares.chunks, Arc::clone(&disk), outlet.clone())?)
        } else {
            None
        };
        let (rows, keepers) =
            Rows::start(chain, saved, tell_windows, Arc::clone(&disk), ending, outlet.clone())?;
        threads.extend(keepers);
        let saves = options.save;
        let mut follow = None;
        if options.follow {
            let (ticks, told) = sync_channel(1);
            let follower = Follower::new(Arc::clone(&shared), options.shares, outlet.clone());
            let thread = thread::Builder::new().name("follow".to_owned());
            threads.push(thread.spawn(move || follower.run(&told))?);
            follow = Some(ticks);
        }
        let (queue, taps) = start(taps, options.shares.batches, &stop)?;
        threads.extend(taps);
        let mapping = Mapping::new(
            options,
            meters.clone(),
            queue,
            outlet.clone(),
            rows,
            saver,
            follow,
            Arc::clone(&shared),
        );
        threads.push(thread::Builder::new().name("map".to_owned()).spawn(move || mapping.run())?);
        Ok(Running {
            meters,
            windows,
            notices,
            pictures,
            stop,
            shared,
            saves,
            outlet: Some(outlet),
            threads,
            telling,
        })
    }
}

/// A live run at work.
pub struct Running {
    /// Counts of each device.
    pub meters: Vec<Arc<Meter>>,
    /// The windows, as they end.
    pub windows: UnboundedReceiver<Window>,
    /// What is to be known meanwhile.
    pub notices: UnboundedReceiver<Notice>,
    /// What it looks like, about twice a second, if [`LiveOptions::follow`] asks for that.
    pub pictures: watch::Receiver<Arc<Picture>>,
    stop: Arc<AtomicBool>,
    shared: Arc<Shared>,
    saves: bool,
    outlet: Option<Outlet>,
    threads: Vec<JoinHandle<()>>,
    telling: Option<JoinHandle<()>>,
}

impl Running {
    /// Where true is written when the run is to end.
    pub fn stop(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    /// Asks it to end.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Asks it to end, and not to take longer than that: what cannot be done by then is left undone.
    pub fn end_by(&self, by: Instant) {
        self.shared.ending.set(by);
        self.end();
    }

    /// Whether frames are written.
    pub fn saves(&self) -> bool {
        self.saves
    }

    /// What it saw so far.
    pub fn seen(&self) -> Seen {
        self.shared.ending.seen()
    }

    /// Rules and site that hold from now on.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        *self.shared.policy.lock().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// What may tell from another thread.
    pub fn teller(&self) -> Teller {
        Teller(self.outlet.clone())
    }

    /// Has something told with everything else that happens.
    pub fn notice(&self, notice: Notice) {
        if let Some(outlet) = &self.outlet {
            outlet.notice(notice);
        }
    }

    /// Waits, after the last window, for what is still to be told; not for a reader that does not read. If there is a time by which
    /// the run has to be over, not beyond it, and [`Running::flush`] is what waits for the telling.
    pub fn join(&mut self, by: Option<Instant>) {
        for thread in self.threads.drain(..) {
            let late = || by.is_some_and(|by| Instant::now() >= by);
            while by.is_some() && !thread.is_finished() && !late() {
                thread::sleep(Duration::from_millis(2));
            }
            if late() {
                return;
            }
            // What a thread that failed had to tell, it told.
            let _ = thread.join();
        }
        if by.is_some() {
            // What is left undone is told yet.
            return;
        }
        self.outlet = None;
        let Some(telling) = self.telling.take() else { return };
        let until = Instant::now() + TOLD_WITHIN;
        while !telling.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Tells what must not be lost behind a flood of findings: waits for room, for so long.
    pub fn last_notice(&self, notice: Notice, patience: Duration) {
        if let Some(outlet) = &self.outlet {
            outlet.notice_within(notice, patience);
        }
    }

    /// Waits for everything that was told so far to be where it is told; not for a reader that does not read.
    pub fn flush(&self, patience: Duration) {
        if let Some(outlet) = &self.outlet {
            outlet.flush(patience);
        }
    }
}

/// Tells what happens beside the run.
pub struct Teller(Option<Outlet>);

impl Teller {
    /// Has something told with everything else that happens.
    pub fn notice(&self, notice: Notice) {
        if let Some(outlet) = &self.0 {
            outlet.notice(notice);
        }
    }
}

/// Whether a device is standard input.
#[must_use]
pub fn is_stream(interface: &str) -> bool {
    interface == STDIN
}
