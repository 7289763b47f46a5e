//! Frames of network devices as they come: the only door to libpcap's live handles. Each device has a thread of its own,
//! which does nothing but copy frames out of the kernel's ring into batches and hand these on.
//!
//! The queue of batches is bounded. While it is full nothing is taken from the ring; what then no longer fits into the
//! ring the kernel counts as dropped. So there is one place where frames are lost, and it is counted.

use super::end::CaptureEnd;
use super::filter::Filter;
use super::frame::{Frame, LinkType};
use super::input::Input;
use super::intake::Intake;
use super::reader::{CaptureFacts, CaptureReader, Digest};
use crate::model::{NANOS_PER_SECOND, Timestamp};
use pcap::{Active, Capture, ConnectionStatus, Device, Linktype, Precision};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

/// The device that stands for all of them.
pub const ANY: &str = "any";

/// Standard input, as a device that gives frames until it ends.
pub const STDIN: &str = "-";

/// Bytes of one batch: large enough that handing it on costs nothing a frame, small enough to stay in the second-level
/// cache until it is judged.
const BATCH_BYTES: usize = 256 << 10;

/// Frames of one batch.
const BATCH_FRAMES: usize = 4096;

/// With fewer bytes of standard input at hand, the batch is handed on: the next frame may be long in coming.
const SOON_BYTES: usize = 2048;

/// After what time the kernel hands over a block of its ring that is not full: 50 ms. Shorter wakes a quiet machine more
/// often; longer delays findings.
const BLOCK_TIMEOUT_MS: i32 = 50;

/// How long a device is waited for before its thread looks whether it is to stop: the time that stopping may take.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often the kernel's counts are asked for.
const COUNTED_EVERY: Duration = Duration::from_millis(250);

/// How often a device that went away is looked for.
const LOOKED_FOR_EVERY: Duration = Duration::from_millis(500);

/// A network device that frames can be had from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, as `-i` takes it.
    pub name: String,
    /// What the system says about it.
    pub description: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether it is ready to carry frames.
    pub running: bool,
    /// Whether it leads nowhere but back.
    pub loopback: bool,
    /// Whether a cable (or a network) is connected; none where that is not known or means nothing.
    pub connected: Option<bool>,
}

/// Devices that carry other things than a machine's network traffic.
const OTHER_DEVICES: [&str; 6] = ["nflog", "nfqueue", "bluetooth", "dbus", "usbmon", "rdma"];

/// The devices of this machine, as the system lists them; `any` among them where there is such a thing.
///
/// # Errors
/// The system does not tell.
pub fn interfaces() -> Result<Vec<Interface>, LiveError> {
    let devices = Device::list().map_err(|error| LiveError::List(told(error)))?;
    let devices = devices
        .into_iter()
        .filter(|device| !OTHER_DEVICES.iter().any(|other| device.name.starts_with(other)));
    let interface = |device: Device| Interface {
        name: device.name,
        description: device.desc,
        addresses: device.addresses.iter().map(|address| address.addr).collect(),
        up: device.flags.is_up(),
        running: device.flags.is_running(),
        loopback: device.flags.is_loopback(),
        connected: match device.flags.connection_status {
            ConnectionStatus::Connected => Some(true),
            ConnectionStatus::Disconnected => Some(false),
            ConnectionStatus::Unknown | ConnectionStatus::NotApplicable => None,
        },
    };
    Ok(devices.map(interface).collect())
}

/// Why a device gives no frames. Says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// The devices cannot be listed.
    #[error("the network devices of this machine cannot be listed: {0}")]
    List(String),
    /// No device has this name.
    #[error("{name}: no such network device; there are: {}", known.join(", "))]
    NoSuch {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// Whoever runs the program may not.
    #[error(
        "{name}: capturing is not permitted: run as root, or with the capability CAP_NET_RAW (setcap cap_net_raw=ep \
         /path/to/portproof; AmbientCapabilities=CAP_NET_RAW in a systemd unit)"
    )]
    NotPermitted {
        /// The device.
        name: String,
    },
    /// libpcap refuses it for another reason.
    #[error("{name}: cannot be captured from: {problem}")]
    Refused {
        /// The device.
        name: String,
        /// What libpcap says.
        problem: String,
    },
    /// The filter does not suit the device.
    #[error("{name}: the filter cannot be used on this device: {problem}")]
    Filter {
        /// The device.
        name: String,
        /// What libpcap says.
        problem: String,
    },
    /// Standard input is no capture.
    #[error("{0}")]
    Stream(String),
}

fn told(error: pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(message) => message,
        other => other.to_string(),
    }
}

/// How devices are opened.
#[derive(Clone, Debug)]
pub struct TapOptions {
    /// Size of the kernel's ring, MiB.
    pub ring_mib: u32,
    /// Bytes kept of each frame, at the most.
    pub snaplen_bytes: u32,
    /// Which frames the kernel hands over.
    pub filter: Option<Filter>,
    /// Whether frames that are for others are asked for, too.
    pub promiscuous: bool,
    /// Whether a device that is not there, or goes away, is waited for.
    pub wait: bool,
}

impl TapOptions {
    /// The ring unless told otherwise: 64 MiB, which holds a second of full frames at half a gigabit a second.
    pub const RING_MIB: u32 = 64;
    /// The largest frames that libpcap hands over: nothing is cut.
    pub const SNAPLEN_BYTES: u32 = 262_144;
}

impl Default for TapOptions {
    fn default() -> Self {
        TapOptions {
            ring_mib: Self::RING_MIB,
            snaplen_bytes: Self::SNAPLEN_BYTES,
            filter: None,
            promiscuous: true,
            wait: false,
        }
    }
}

/// Where one frame of a batch stands, and what is known of it.
#[derive(Clone, Copy, Debug)]
struct Record {
    time: Timestamp,
    start: u32,
    captured: u32,
    wire_len: u32,
    interface: u32,
    link_type: LinkType,
    fcs_bytes: u8,
}

/// Frames of one device, in the order in which they came, with their bytes.
#[derive(Debug, Default)]
pub struct Batch {
    tap: u32,
    bytes: Vec<u8>,
    records: Vec<Record>,
}

impl Batch {
    /// Bytes that one takes in memory, at the most, unless its last frame is larger than most: 448 KiB.
    pub const MOST_BYTES: usize = BATCH_BYTES + BATCH_FRAMES * size_of::<Record>();

    /// Which of the devices they are of, counted from 0 in the order in which they were named.
    pub fn tap(&self) -> u32 {
        self.tap
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// When the frame at `place` was seen.
    pub fn time(&self, place: usize) -> Option<Timestamp> {
        self.records.get(place).map(|record| record.time)
    }

    /// The frame at `place`; its number and offset are 0, its interface is that of its own capture.
    pub fn frame(&self, place: usize) -> Option<Frame<'_>> {
        let record = self.records.get(place)?;
        let start = record.start as usize;
        Some(Frame {
            number: 0,
            offset: 0,
            time: record.time,
            interface: record.interface,
            link_type: record.link_type,
            fcs_bytes: record.fcs_bytes,
            wire_len: record.wire_len,
            bytes: self.bytes.get(start..start + record.captured as usize).unwrap_or_default(),
        })
    }

    fn clear(&mut self, tap: u32) {
        self.tap = tap;
        self.bytes.clear();
        self.records.clear();
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES || self.records.len() >= BATCH_FRAMES
    }

    #[inline]
    fn push(&mut self, frame: &Frame<'_>) {
        let (Ok(start), Ok(captured)) = (u32::try_from(self.bytes.len()), u32::try_from(frame.bytes.len()))
        else {
            return;
        };
        self.bytes.extend_from_slice(frame.bytes);
        self.records.push(Record {
            time: frame.time,
            start,
            captured,
            wire_len: frame.wire_len,
            interface: frame.interface,
            link_type: frame.link_type,
            fcs_bytes: frame.fcs_bytes,
        });
    }
}

/// What a device's thread tells.
#[derive(Debug)]
pub enum Message {
    /// Frames.
    Batch(Batch),
    /// All frames of the device up to a time were handed over.
    Mark {
        /// Which device.
        tap: u32,
        /// The time.
        until: Timestamp,
    },
    /// The device gives no frames any more, and is waited for.
    Gone {
        /// Which device.
        tap: u32,
        /// Since when.
        since: Timestamp,
        /// What libpcap says.
        problem: String,
    },
    /// It is back.
    Back {
        /// Which device.
        tap: u32,
        /// Since when.
        since: Timestamp,
    },
    /// Its thread ends: nothing comes after this.
    End {
        /// Which device.
        tap: u32,
        /// What went wrong, if anything did.
        problem: Option<String>,
        /// What a stream on standard input told about itself, and how it ended.
        stream: Option<Box<(CaptureFacts, CaptureEnd)>>,
    },
}

/// What one device has given so far; anybody may look at it. Offered by the kernel = taken + dropped + not yet taken.
#[derive(Debug, Default)]
pub struct Meter {
    /// The name of the device.
    pub name: String,
    received: AtomicU64,
    dropped: AtomicU64,
    interface_dropped: AtomicU64,
    taken: AtomicU64,
    full: AtomicU64,
    gaps: AtomicU64,
    away: AtomicBool,
    counted_twice: AtomicBool,
}

/// Counts of a [`Meter`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Metered {
    /// Frames that passed the filter, by the kernel's count; those that it dropped among them.
    pub received: u64,
    /// Frames that the kernel dropped since the ring was full.
    pub dropped: u64,
    /// Frames that the device or its driver dropped.
    pub interface_dropped: u64,
    /// Frames taken from the ring.
    pub taken: u64,
    /// Times that the queue behind was full, so that frames had to wait in the ring.
    pub full: u64,
    /// Times that the device went away. Nobody knows what was lost then.
    pub gaps: u64,
    /// Whether it is away now.
    pub away: bool,
    /// Whether the kernel counts some frames that libpcap leaves out, and nobody tells how many: then it is not known how many
    /// are still in the ring.
    pub counted_twice: bool,
}

impl Metered {
    /// Frames that were in the ring and are not read any more; none where that is not known.
    pub fn unread(&self) -> Option<u64> {
        (!self.counted_twice).then(|| self.received.saturating_sub(self.dropped + self.taken))
    }

    /// Frames that the device offered, as far as that is known.
    pub fn offered(&self) -> u64 {
        let known = self.taken + self.dropped;
        let offered = if self.counted_twice { known } else { self.received.max(known) };
        offered + self.interface_dropped
    }

    /// Frames lost while capturing: a gap counts as one, since it may have cost any number.
    pub fn lost(&self) -> u64 {
        self.dropped + self.interface_dropped + self.gaps
    }
}

impl Meter {
    /// Frames that were taken from the ring are not looked at any more: they count as if they had stayed there.
    pub(crate) fn put_back(&self, frames: u64) {
        let _ = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| Some(taken.saturating_sub(frames)));
    }

    /// Its counts now.
    pub fn read(&self) -> Metered {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Metered {
            received: of(&self.received),
            dropped: of(&self.dropped),
            interface_dropped: of(&self.interface_dropped),
            taken: of(&self.taken),
            full: of(&self.full),
            gaps: of(&self.gaps),
            away: self.away.load(Ordering::Relaxed),
            counted_twice: self.counted_twice.load(Ordering::Relaxed),
        }
    }
}

/// A device that is open, or standard input; its thread is yet to be started.
pub struct Tap {
    meter: Arc<Meter>,
    source: Source,
    options: TapOptions,
}

enum Source {
    Device(Option<Handle>),
    Stream(Box<CaptureReader>),
}

impl Tap {
    /// Opens a device, or standard input.
    ///
    /// # Errors
    /// There is no such device, it may not be captured from, or the filter does not suit it.
    pub fn open(name: &str, options: &TapOptions, stop: &Arc<AtomicBool>) -> Result<Tap, LiveError> {
        let source = if name == STDIN {
            let input = Input::stdin();
            let intake = Arc::new(Intake::of(&input, Arc::clone(stop), None));
            let reader = CaptureReader::open_watched(&input, Digest::None, intake);
            Source::Stream(Box::new(reader.map_err(|error| LiveError::Stream(error.to_string()))?))
        } else {
            match open(name, options) {
                Err(LiveError::NoSuch { .. }) if options.wait => Source::Device(None),
                capture => Source::Device(Some(capture?)),
            }
        };
        let meter = Arc::new(Meter { name: name.to_owned(), ..Meter::default() });
        Ok(Tap { meter, source, options: options.clone() })
    }

    /// The file descriptor of the device.
    pub fn descriptor(&self) -> Option<i32> {
        match &self.source {
            Source::Device(handle) => handle.as_ref().map(|handle| handle.capture.as_raw_fd()),
            Source::Stream(_) => None,
        }
    }

    /// Its counts.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

/// The end of the queue where messages come from, and where batches go back to.
pub struct Queue {
    /// What the threads of devices tell, in the order in which it was told.
    pub messages: Receiver<Message>,
    empties: Vec<Sender<Batch>>,
}

impl Queue {
    /// Hands a batch back, to be filled again.
    pub fn give_back(&self, batch: Batch) {
        if let Some(empties) = self.empties.get(batch.tap as usize) {
            // The thread may have ended.
            let _ = empties.send(batch);
        }
    }
}

/// Starts a thread for each device. They share one queue of so many batches, and run until `stop` is true or their device is gone.
///
/// # Errors
/// No thread is to be had.
pub fn start(
    taps: Vec<Tap>,
    batches: usize,
    stop: &Arc<AtomicBool>,
) -> io::Result<(Queue, Vec<JoinHandle<()>>)> {
    let (full, messages) = sync_channel(batches);
    let mut queue = Queue { messages, empties: Vec::new() };
    let mut threads = Vec::new();
    for (number, Tap { meter, source, options }) in (0..).zip(taps) {
        let (empty, empties) = channel();
        queue.empties.push(empty);
        let name = format!("tap {}", meter.name);
        let line = Line { number, full: full.clone(), empties, meter, batch: Batch::default() };
        let stop = Arc::clone(stop);
        threads.push(thread::Builder::new().name(name).spawn(move || match source {
            Source::Device(capture) => Watched { line, options, stop }.run(capture),
            Source::Stream(reader) => stream(*reader, line),
        })?);
    }
    Ok((queue, threads))
}

/// Opens a device and sets it up. It gives nothing yet that nobody waits for: its ring fills from now on.
fn open(name: &str, options: &TapOptions) -> Result<Handle, LiveError> {
    let refused = |error| {
        let problem = told(error);
        let known = interfaces().unwrap_or_default().into_iter().map(|device| device.name);
        let known: Vec<String> = known.collect();
        let lower = problem.to_ascii_lowercase();
        let name = name.to_owned();
        if lower.contains("permission") || lower.contains("not permitted") {
            LiveError::NotPermitted { name }
        } else if !known.contains(&name) {
            LiveError::NoSuch { name, known }
        } else {
            LiveError::Refused { name, problem }
        }
    };
    let ring_bytes = options.ring_mib.saturating_mul(1 << 20).min(i32::MAX as u32);
    let mut capture = Capture::from_device(name)
        .map_err(refused)?
        .buffer_size(ring_bytes.cast_signed())
        .snaplen(options.snaplen_bytes.min(TapOptions::SNAPLEN_BYTES).cast_signed())
        // The kernel says that it cannot for `any`.
        .promisc(options.promiscuous && name != ANY)
        .timeout(BLOCK_TIMEOUT_MS)
        .precision(Precision::Nano)
        .open()
        .map_err(refused)?;
    if name == ANY {
        // Cooked, version 2: it tells which device saw a frame. An older libpcap has version 1 only.
        let _ = capture.set_datalink(Linktype(276));
    }
    let problem = |error| LiveError::Filter { name: name.to_owned(), problem: told(error) };
    let wanted = options.filter.as_ref().map(ToString::to_string);
    let (counted_once, filtered) = match each_once(name) {
        Each::Once => (true, false),
        Each::Twice => (false, false),
        Each::OnceBy(filter) => {
            let whole = match &wanted {
                Some(wanted) => format!("({filter}) and ({wanted})"),
                None => filter,
            };
            // An older libpcap may not know these words.
            let set = capture.filter(&whole, true).is_ok();
            (set, set)
        }
    };
    if let Some(wanted) = wanted.filter(|_| !filtered) {
        capture.filter(&wanted, true).map_err(problem)?;
    }
    let capture = capture.setnonblock().map_err(refused)?;
    Ok(Handle { capture, counted_once })
}

/// A device that is open.
struct Handle {
    capture: Capture<Active>,
    /// Whether the kernel counts each frame once.
    counted_once: bool,
}

/// What is sent to oneself passes this device twice. libpcap leaves out one of the copies after the kernel has counted both.
const LOOPBACK: &str = "lo";

/// How often the kernel counts a frame that libpcap hands over.
enum Each {
    Once,
    /// Once if this filter is set, by which the kernel leaves out what libpcap would.
    OnceBy(String),
    /// Twice: as long as the ring was not gone through once, libpcap applies filters itself, and on this device it cannot
    /// tell which copy it has. So no filter helps.
    Twice,
}

fn each_once(name: &str) -> Each {
    if name == LOOPBACK {
        return Each::Twice;
    }
    if name != ANY {
        return Each::Once;
    }
    let index = std::fs::read_to_string(format!("/sys/class/net/{LOOPBACK}/ifindex"));
    match index.ok().and_then(|index| index.trim().parse::<u32>().ok()) {
        Some(index) => Each::OnceBy(format!("not (ifindex {index} and outbound)")),
        // Where there is none, nothing passes it.
        None => Each::Once,
    }
}

/// The LINKTYPE_ value of files for the DLT_ value of a live handle: they differ for raw IP only, of those that Linux has.
fn link_type(capture: &Capture<Active>) -> LinkType {
    match capture.get_datalink() {
        Linktype(12 | 14) => LinkType(101),
        Linktype(other) => LinkType(u16::try_from(other).unwrap_or(u16::MAX)),
    }
}

/// What the clock of this machine says, which the kernel dates frames by.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Whether a device is switched on (IFF_UP, netdevice(7)); asked of the file system, since a confined program makes no sockets.
fn is_up(name: &str) -> Option<bool> {
    let flags = std::fs::read_to_string(format!("/sys/class/net/{name}/flags")).ok()?;
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).ok()?;
    Some(flags & 1 != 0)
}

/// Whoever takes the messages is gone: there is nothing left to do.
struct Abandoned;

/// A device's end of the queue.
struct Line {
    number: u32,
    full: SyncSender<Message>,
    empties: Receiver<Batch>,
    meter: Arc<Meter>,
    batch: Batch,
}

impl Line {
    fn send(&self, message: Message) -> Result<(), Abandoned> {
        use std::sync::mpsc::TrySendError;
        match self.full.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message)) => {
                self.meter.full.fetch_add(1, Ordering::Relaxed);
                self.full.send(message).map_err(|_| Abandoned)
            }
            Err(TrySendError::Disconnected(_)) => Err(Abandoned),
        }
    }

    /// Hands on what the batch at hand holds.
    fn flush(&mut self) -> Result<(), Abandoned> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut empty = self.empties.try_recv().unwrap_or_default();
        empty.clear(self.number);
        let full = std::mem::replace(&mut self.batch, empty);
        self.meter.taken.fetch_add(full.len() as u64, Ordering::Relaxed);
        self.send(Message::Batch(full))
    }

    fn end(mut self, problem: Option<String>, stream: Option<Box<(CaptureFacts, CaptureEnd)>>) {
        let tap = self.number;
        // Nobody is left to tell if this fails.
        let _ = self.flush().and_then(|()| self.send(Message::End { tap, problem, stream }));
    }
}

/// Reads standard input to its end. It waits where nobody keeps up.
fn stream(mut reader: CaptureReader, mut line: Line) {
    line.batch.clear(line.number);
    while let Some(frame) = reader.next() {
        line.batch.push(&frame);
        let full = line.batch.is_full();
        line.meter.received.fetch_add(1, Ordering::Relaxed);
        // What a pipe gives slowly is to be seen soon.
        if (full || reader.bytes_at_hand() < SOON_BYTES) && line.flush().is_err() {
            return;
        }
    }
    let end = reader.end().cloned().unwrap_or(CaptureEnd::Complete);
    let facts = reader.facts();
    line.meter.dropped.store(facts.drops.unwrap_or_default(), Ordering::Relaxed);
    let problem = match &end {
        CaptureEnd::Complete => None,
        CaptureEnd::Damaged { problem: super::end::FrameProblem::Interrupted, .. } => None,
        damaged => Some(format!("standard input: {damaged}")),
    };
    line.end(problem, Some(Box::new((facts, end))));
}

/// A device at work.
struct Watched {
    line: Line,
    options: TapOptions,
    stop: Arc<AtomicBool>,
}

/// Why a device is no longer read.
enum Over {
    Stopped,
    Abandoned,
    Problem(String),
}

impl From<Abandoned> for Over {
    fn from(_: Abandoned) -> Self {
        Over::Abandoned
    }
}

impl Watched {
    fn run(mut self, mut capture: Option<Handle>) {
        self.line.batch.clear(self.line.number);
        let tap = self.line.number;
        loop {
            let over = match capture.take() {
                Some(capture) => self.read(capture),
                None => Over::Problem("it is not there".to_owned()),
            };
            let problem = match over {
                Over::Stopped => return self.line.end(None, None),
                Over::Abandoned => return,
                Over::Problem(problem) => problem,
            };
            let meter = &self.line.meter;
            meter.gaps.fetch_add(1, Ordering::Relaxed);
            if !self.options.wait {
                let name = meter.name.clone();
                return self.line.end(Some(format!("{name}: {problem}")), None);
            }
            meter.away.store(true, Ordering::Relaxed);
            if self.line.send(Message::Gone { tap, since: now(), problem }).is_err() {
                return;
            }
            match self.wait() {
                Ok(back) => capture = Some(back),
                Err(Over::Abandoned) => return,
                Err(_) => return self.line.end(None, None),
            }
            self.line.meter.away.store(false, Ordering::Relaxed);
            if self.line.send(Message::Back { tap, since: now() }).is_err() {
                return;
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits until the device can be opened.
    fn wait(&mut self) -> Result<Handle, Over> {
        let name = self.line.meter.name.clone();
        let mut looked = Instant::now();
        loop {
            if self.stopped() {
                return Err(Over::Stopped);
            }
            thread::sleep(PATIENCE);
            self.line.send(Message::Mark { tap: self.line.number, until: now() })?;
            if looked.elapsed() < LOOKED_FOR_EVERY {
                continue;
            }
            looked = Instant::now();
            // A device that is there and switched off can be opened, and gives nothing.
            let up = is_up(&name) == Some(true);
            if up && let Ok(capture) = open(&name, &self.options) {
                return Ok(capture);
            }
        }
    }

    /// Takes frames from the device until that is over.
    fn read(&mut self, handle: Handle) -> Over {
        let Handle { mut capture, counted_once } = handle;
        if !counted_once {
            self.line.meter.counted_twice.store(true, Ordering::Relaxed);
        }
        let mut tally = Tally::new(&self.line.meter);
        let (mut counted, mut looked) = (Instant::now(), Instant::now());
        let over = loop {
            let stopped = self.stopped();
            let before = now();
            match self.take(&mut capture) {
                Ok(0) if stopped => break Over::Stopped,
                Ok(0) => {
                    // What the kernel saw earlier than this, its timeout has handed over by now.
                    let until = before.plus(-i64::from(2 * BLOCK_TIMEOUT_MS) * NANOS_PER_SECOND / 1000);
                    if let Err(over) = self.line.send(Message::Mark { tap: self.line.number, until }) {
                        break over.into();
                    }
                    if looked.elapsed() >= LOOKED_FOR_EVERY {
                        looked = Instant::now();
                        if let Err(over) = self.look_whether_up() {
                            break over.into();
                        }
                    }
                    wait_for(&capture);
                }
                Ok(_) if stopped => {
                    // What was in the ring when it was to stop still counts; what comes now need not.
                    thread::sleep(Duration::from_millis(2 * BLOCK_TIMEOUT_MS.unsigned_abs() as u64));
                    break match self.take(&mut capture) {
                        Ok(_) => Over::Stopped,
                        Err(over) => over,
                    };
                }
                Ok(_) => {}
                Err(over) => break over,
            }
            if counted.elapsed() >= COUNTED_EVERY {
                counted = Instant::now();
                tally.ask(&mut capture);
            }
        };
        tally.ask(&mut capture);
        if !self.options.wait {
            // The filter of system calls knows this socket, which must not be written to, by its number: no file may get it.
            std::mem::forget(capture);
        }
        match self.line.flush() {
            Ok(()) => over,
            Err(abandoned) => abandoned.into(),
        }
    }

    /// A device that is switched off gives nothing, and no error; switched on again it goes on by itself, and needs no
    /// privilege for that.
    fn look_whether_up(&mut self) -> Result<(), Abandoned> {
        let (meter, tap) = (&self.line.meter, self.line.number);
        if meter.name == ANY {
            return Ok(());
        }
        let Some(up) = is_up(&meter.name) else { return Ok(()) };
        let away = meter.away.swap(!up, Ordering::Relaxed);
        match (away, up) {
            (false, false) => {
                meter.gaps.fetch_add(1, Ordering::Relaxed);
                let problem = "it is switched off".to_owned();
                self.line.send(Message::Gone { tap, since: now(), problem })
            }
            (true, true) => self.line.send(Message::Back { tap, since: now() }),
            _ => Ok(()),
        }
    }

    /// Takes what the ring holds, and hands it on.
    fn take(&mut self, capture: &mut Capture<Active>) -> Result<usize, Over> {
        let link_type = link_type(capture);
        let line = &mut self.line;
        let mut abandoned = false;
        let taken = capture.dispatch(Some(BATCH_FRAMES), |packet| {
            let header = packet.header;
            // With nanosecond precision that is what the field of microseconds holds. On 32 bits both are narrower.
            #[allow(clippy::useless_conversion)]
            let (seconds, nanos) = (i64::from(header.ts.tv_sec), i64::from(header.ts.tv_usec));
            let frame = Frame {
                number: 0,
                offset: 0,
                time: Timestamp(seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(nanos)),
                interface: 0,
                link_type,
                fcs_bytes: 0,
                wire_len: header.len.max(header.caplen),
                bytes: packet.data,
            };
            line.batch.push(&frame);
            if line.batch.is_full() {
                abandoned |= line.flush().is_err();
            }
        });
        if abandoned {
            return Err(Over::Abandoned);
        }
        match taken {
            Ok(taken) => {
                line.flush()?;
                Ok(taken)
            }
            Err(pcap::Error::TimeoutExpired) => Ok(0),
            Err(error) => Err(Over::Problem(told(error))),
        }
    }
}

/// Waits for the kernel to hand over a block.
#[cfg(unix)]
fn wait_for(capture: &Capture<Active>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE.subsec_nanos().into() };
    let mut ends = [PollFd::new(capture, PollFlags::IN)];
    let ready = poll(&mut ends, Some(&patience));
    // Whatever is wrong, the next look at the device tells; but a device that is switched off is wrong all the time.
    if ready.is_err() || ends.iter().any(|end| end.revents().intersects(PollFlags::ERR | PollFlags::HUP)) {
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(not(unix))]
fn wait_for(_: &Capture<Active>) {
    thread::sleep(Duration::from_millis(5));
}

/// Adds the kernel's counts, which have 32 bits and begin anew with each handle.
struct Tally {
    meter: Arc<Meter>,
    received: u32,
    dropped: u32,
    interface_dropped: u32,
}

impl Tally {
    fn new(meter: &Arc<Meter>) -> Self {
        Tally { meter: Arc::clone(meter), received: 0, dropped: 0, interface_dropped: 0 }
    }

    fn ask(&mut self, capture: &mut Capture<Active>) {
        // A device that is gone tells nothing any more: its last counts stand.
        let Ok(now) = capture.stats() else { return };
        let add = |sum: &AtomicU64, before: &mut u32, now: u32| {
            sum.fetch_add(now.wrapping_sub(*before).into(), Ordering::Relaxed);
            *before = now;
        };
        add(&self.meter.received, &mut self.received, now.received);
        add(&self.meter.dropped, &mut self.dropped, now.dropped);
        add(&self.meter.interface_dropped, &mut self.interface_dropped, now.if_dropped);
    }
}
