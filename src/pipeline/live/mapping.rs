//! The map step, frame by frame: the same mapper as offline, begun anew with each segment. A segment is one capture: with
//! `--save` the file that holds the same frames, under the same name, so that whoever audits the files afterwards gets the
//! same audit.

use super::merge::Merge;
use super::rows::{Rows, Work};
use super::save::{CHUNK_BYTES, Order, Saver};
use super::{LiveOptions, Notice, Rotation};
use crate::audit::{CaptureSummary, End};
use crate::capture::live::{Message, Meter, Queue};
use crate::capture::write::{InterfaceCounts, PcapngWriter};
use crate::capture::{CaptureEnd, CaptureFacts, Frame, FrameProblem, LinkType};
use crate::model::Timestamp;
use crate::pipeline::extract::{Mapper, Source};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// How often changes are told and files are made safe.
const TICK: Duration = Duration::from_millis(1000);

/// How long to wait for a frame before looking at the clock.
const PATIENCE: Duration = Duration::from_millis(50);

/// An interface of the segment at hand.
struct Interface {
    tap: u32,
    own: u32,
    link_type: LinkType,
}

/// What is known of the segment at hand, beside what the mapper knows.
struct Segment {
    /// Counted from 1 over the whole run.
    number: u64,
    name: Arc<str>,
    frames: u64,
    bytes: u64,
    snaplen_cut: u64,
    without_time: u64,
    first: Option<Timestamp>,
    latest: Timestamp,
    interfaces: Vec<Interface>,
    /// Of each tap, frames lost before this segment.
    lost_before: Vec<Lost>,
    /// Of each tap, frames given in this segment.
    given: Vec<u64>,
    stream_end: Option<CaptureEnd>,
    unknown_blocks: u64,
}

/// What was lost of one tap.
#[derive(Clone, Copy, Default)]
struct Lost {
    interface: u64,
    system: u64,
}

/// The thread that maps.
pub(super) struct Mapping {
    options: Arc<LiveOptions>,
    meters: Vec<Arc<Meter>>,
    queue: Queue,
    merge: Merge,
    notices: UnboundedSender<Notice>,
    rows: Rows,
    saver: Option<Saver>,
    writer: PcapngWriter<Vec<u8>>,
    mapper: Mapper,
    segment: Segment,
    /// When the first frame of the window was seen.
    window_begin: Option<Timestamp>,
    window: u64,
}

/// A pcapng file's beginning, in memory.
fn file_begin() -> PcapngWriter<Vec<u8>> {
    let application = concat!("portproof ", env!("CARGO_PKG_VERSION"));
    // Writing to memory cannot fail.
    PcapngWriter::new(Vec::with_capacity(CHUNK_BYTES * 2), application).unwrap_or_else(|_| unreachable!())
}

impl Mapping {
    pub(super) fn new(
        options: Arc<LiveOptions>,
        meters: Vec<Arc<Meter>>,
        queue: Queue,
        notices: UnboundedSender<Notice>,
        rows: Rows,
        saver: Option<Saver>,
    ) -> Self {
        let merge = Merge::new(meters.len());
        let mapper = Mapper::new(&options.extract);
        let segment = Segment {
            number: options.first_segment,
            name: options.segment_name(options.first_segment),
            frames: 0,
            bytes: 0,
            snaplen_cut: 0,
            without_time: 0,
            first: None,
            latest: Timestamp::default(),
            interfaces: Vec::new(),
            lost_before: vec![Lost::default(); meters.len()],
            given: vec![0; meters.len()],
            stream_end: None,
            unknown_blocks: 0,
        };
        let writer = file_begin();
        let (window_begin, window) = (None, 1);
        Mapping {
            options,
            meters,
            queue,
            merge,
            notices,
            rows,
            saver,
            writer,
            mapper,
            segment,
            window_begin,
            window,
        }
    }

    /// Takes frames until all taps have ended.
    pub(super) fn run(mut self) {
        self.begin_file();
        let mut ticked = Instant::now();
        loop {
            match self.queue.messages.recv_timeout(PATIENCE) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.map();
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.tick();
            }
            if self.merge.all_ended() {
                break;
            }
        }
        self.end_segment();
        self.rows.work(Work::EndWindow { number: self.window, last: true });
        if let Some(saver) = self.saver.take() {
            saver.end();
        }
    }

    fn notice(&self, notice: Notice) {
        // Whoever is told may be gone already: then the run is ending.
        let _ = self.notices.send(notice);
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Batch(batch) => self.merge.push(batch),
            Message::Mark { tap, until } => self.merge.mark(tap, until),
            Message::Gone { tap, since, problem } => {
                let interface = self.tap_name(tap);
                self.notice(Notice::Gone { interface, since, problem });
            }
            Message::Back { tap, since } => {
                let interface = self.tap_name(tap);
                self.notice(Notice::Back { interface, since });
            }
            Message::End { tap, problem, stream } => {
                self.merge.end(tap);
                if let Some(stream) = stream {
                    // Its end belongs to the last of its frames, which may still wait.
                    self.map();
                    let (CaptureFacts { frames_without_time, skipped_blocks, .. }, end) = *stream;
                    self.segment.without_time += frames_without_time;
                    self.segment.unknown_blocks += skipped_blocks.values().sum::<u64>();
                    self.segment.stream_end = Some(end);
                }
                if let Some(problem) = problem {
                    self.notice(Notice::Ended { interface: self.tap_name(tap), problem });
                }
            }
        }
    }

    fn tap_name(&self, tap: u32) -> String {
        self.meters.get(tap as usize).map(|meter| meter.name.clone()).unwrap_or_default()
    }

    /// Maps all frames whose turn has come.
    fn map(&mut self) {
        while let Some((lane, places)) = self.merge.next() {
            let end = places.end;
            // The batch is out of the way of `self` while its frames are mapped.
            let Some(taken) = self.merge.take_batch(lane) else { return };
            for place in places {
                if let Some(frame) = taken.frame(place) {
                    self.frame(taken.tap(), frame);
                }
            }
            if let Some(empty) = self.merge.put_back(lane, taken, end) {
                self.queue.give_back(empty);
            }
        }
    }

    fn frame(&mut self, tap: u32, frame: Frame<'_>) {
        self.cut(frame.time);
        let interface = self.interface(tap, frame.interface, frame.link_type);
        let segment = &mut self.segment;
        segment.frames += 1;
        segment.bytes += frame.bytes.len() as u64;
        segment.snaplen_cut += u64::from((frame.bytes.len() as u64) < u64::from(frame.wire_len));
        segment.first.get_or_insert(frame.time);
        segment.latest = segment.latest.max(frame.time);
        if let Some(given) = segment.given.get_mut(tap as usize) {
            *given += 1;
        }
        let frame = Frame { number: segment.frames, interface, ..frame };
        self.mapper.frame(&frame, Ok(()), &self.options.extract.decode);
        if self.saver.is_some() {
            // Memory takes everything.
            let _ = self.writer.frame(&frame);
            self.write_out(CHUNK_BYTES);
        }
    }

    /// Begins a new segment, or window, where a frame of this time asks for one.
    fn cut(&mut self, time: Timestamp) {
        let begin = *self.window_begin.get_or_insert(time);
        let window_over = time.since(begin) >= self.options.window_ns;
        let Rotation { after_ns, bytes } = self.options.rotation;
        let segment_over = self.segment.first.is_some_and(|first| time.since(first) >= after_ns)
            || self.segment.bytes >= bytes;
        if window_over || segment_over {
            self.end_segment();
            if window_over {
                self.rows.work(Work::EndWindow { number: self.window, last: false });
                self.window += 1;
                self.window_begin = Some(time);
            }
            self.begin_file();
        }
    }

    /// The number of an interface in the segment at hand.
    #[inline]
    fn interface(&mut self, tap: u32, own: u32, link_type: LinkType) -> u32 {
        let known = |i: &Interface| i.tap == tap && i.own == own && i.link_type == link_type;
        if let Some(place) = self.segment.interfaces.iter().position(known) {
            return place as u32;
        }
        let name = match (self.tap_name(tap), own) {
            (name, 0) => name,
            (name, own) => format!("{name}:{own}"),
        };
        self.segment.interfaces.push(Interface { tap, own, link_type });
        let _ = self.writer.interface(&name, link_type, self.options.tap.snaplen_bytes);
        (self.segment.interfaces.len() - 1) as u32
    }

    fn begin_file(&mut self) {
        self.writer = file_begin();
        if let (Some(saver), Some(path)) = (&self.saver, self.options.packets_path(self.segment.number)) {
            saver.order(Order::Begin(path));
        }
    }

    /// Hands on what was written, once it is so many bytes.
    fn write_out(&mut self, least: usize) {
        let Some(saver) = &self.saver else {
            // Descriptions of interfaces gather here all the same.
            self.writer.get_mut().clear();
            return;
        };
        if self.writer.get_mut().len() >= least.max(1) {
            let room = Vec::with_capacity(CHUNK_BYTES * 2);
            saver.order(Order::Write(std::mem::replace(self.writer.get_mut(), room)));
        }
    }

    fn tick(&mut self) {
        self.write_out(0);
        if let Some(saver) = &self.saver {
            saver.order(Order::Sync);
        }
    }

    /// What a tap lost so far.
    fn lost(&self, tap: usize) -> Lost {
        let counts = self.meters.get(tap).map(|meter| meter.read()).unwrap_or_default();
        Lost { interface: counts.interface_dropped, system: counts.dropped + counts.gaps }
    }

    /// Ends the segment at hand; the next one begins.
    fn end_segment(&mut self) {
        let now: Vec<Lost> = (0..self.meters.len()).map(|tap| self.lost(tap)).collect();
        let mut drops = None;
        for (tap, now) in now.iter().enumerate() {
            let before = self.segment.lost_before.get(tap).copied().unwrap_or_default();
            let counts = InterfaceCounts {
                received: self.segment.given.get(tap).copied().unwrap_or_default(),
                interface_dropped: now.interface.saturating_sub(before.interface),
                system_dropped: now.system.saturating_sub(before.system),
            };
            let lost = counts.interface_dropped + counts.system_dropped;
            let known = self.segment.interfaces.iter().position(|interface| interface.tap == tap as u32);
            let place = match known {
                Some(place) => place as u32,
                None if lost == 0 => continue,
                // Nothing but losses: of which kind of link, nobody knows.
                None => self.interface(tap as u32, 0, LinkType(1)),
            };
            let _ = self.writer.statistics(place, self.segment.latest, &counts);
            drops = Some(lost.saturating_add(drops.unwrap_or(0)));
        }
        self.write_out(0);
        let saved = self.saver.is_some();
        if let Some(saver) = &self.saver {
            saver.order(Order::Finish);
        }
        let number = self.segment.number + 1;
        let next = Segment {
            number,
            name: self.options.segment_name(number),
            frames: 0,
            bytes: 0,
            snaplen_cut: 0,
            without_time: 0,
            first: None,
            latest: self.segment.latest,
            interfaces: Vec::new(),
            lost_before: now,
            given: vec![0; self.meters.len()],
            stream_end: None,
            unknown_blocks: 0,
        };
        let ended = std::mem::replace(&mut self.segment, next);
        let mapper = std::mem::replace(&mut self.mapper, Mapper::new(&self.options.extract));
        let link_types: BTreeSet<LinkType> = ended.interfaces.iter().map(|i| i.link_type).collect();
        let end = match ended.stream_end {
            Some(CaptureEnd::Damaged { frame: _, offset, problem })
                if problem != FrameProblem::Interrupted =>
            {
                End::Damaged { frame: ended.frames + 1, offset, problem: problem.to_string() }
            }
            // Whoever ends a live run has asked for no more than what was seen until then.
            _ => End::Complete,
        };
        let source = Source {
            bytes: ended.bytes,
            sha256: None,
            format: if saved { "pcapng" } else { "live" }.to_owned(),
            link_types: link_types.iter().map(ToString::to_string).collect(),
            snaplen_cut: ended.snaplen_cut,
            drops,
            without_time: ended.without_time,
            unknown_blocks: ended.unknown_blocks,
            end,
        };
        let extract = mapper.finish(&ended.name, source);
        self.rows.work(Work::Segment { number: ended.number, extract: Box::new(extract), saved });
    }
}

/// The summary of a segment, once its packets are in a file.
pub(super) fn saved_as(summary: &mut CaptureSummary, bytes: u64, sha256: &[u8; 32]) {
    summary.bytes = bytes;
    summary.sha256 = Some(super::files::hex(sha256));
}
