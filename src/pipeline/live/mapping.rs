//! The map step, frame by frame: the same mapper as offline, begun anew with each segment. A segment is one capture: with
//! `--save` the file that holds the same frames, under the same name, so that whoever audits the files afterwards gets the
//! same audit.

use super::emergency::{Blind, Emergency};
use super::events::{Notice, Outlet};
use super::follow::{MOST_AT_END, Shared, Tick};
use super::journal::Change;
use super::memory::{Held, Outstanding};
use super::merge::Merge;
use super::picture::{InterfacePicture, Stages};
use super::rows::{Rows, Work};
use super::save::{CHUNK_BYTES, Order, Saver};
use super::waiting::MOST_WAITING;
use super::{LiveOptions, Rotation};
use crate::audit::{CaptureSummary, End, LiveCounts};
use crate::capture::live::{Message, Meter, Queue};
use crate::capture::write::{InterfaceCounts, PcapngWriter};
use crate::capture::{CaptureEnd, CaptureFacts, Frame, FrameProblem, LinkType};
use crate::model::{CaptureId, NANOS_PER_SECOND, Spans, Timestamp};
use crate::pipeline::extract::{Mapper, Source};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// How often what changed is judged, at the most: a finding waits for half of it, in the middle.
const TICK: Duration = Duration::from_millis(100);

/// How often files are made safe. With the time that this takes it is what a crash may cost: no more than a second.
const SYNC: Duration = Duration::from_millis(500);

/// How long to wait for a frame before looking at the clock.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long a segment lasts at least before it ends for the number of its rows, unless there are twice as many: 5 s.
const LEAST_AGE_NANOS: i64 = 5 * NANOS_PER_SECOND;

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
    /// Gaps among them.
    system: u64,
    gaps: u64,
}

/// The thread that maps.
pub(super) struct Mapping {
    options: Arc<LiveOptions>,
    meters: Vec<Arc<Meter>>,
    queue: Queue,
    merge: Merge,
    outlet: Outlet,
    rows: Rows,
    saver: Option<Saver>,
    follower: Option<SyncSender<Tick>>,
    shared: Arc<Shared>,
    writer: PcapngWriter<Vec<u8>>,
    mapper: Mapper,
    segment: Segment,
    /// DNS messages of the segment that were told already.
    messages_told: usize,
    /// What the segments before came to, and when frames came in those of the window.
    past: Stages,
    past_spans: Spans,
    /// Losses that were told.
    told: Vec<Lost>,
    /// Frames and losses of which the journal of the segment tells, if it was begun, and DNS messages that stand in it.
    journalled: Option<(u64, u64)>,
    messages_written: usize,
    unfollowed: u64,
    /// When the first frame of the window was seen.
    window_begin: Option<Timestamp>,
    window: u64,
    emergency: Emergency,
    /// When not everything that changed was told to whoever follows.
    blind: Blind,
    /// The latest frame that was told.
    latest_told: Option<Timestamp>,
    /// Bytes that the segments before take, in this window; and the one at hand, at the last look.
    kept_before: usize,
    kept: usize,
    /// What the windows before take.
    outstanding: Arc<Outstanding>,
    /// Stretches of the segments before.
    stretches_before: u64,
}

/// A pcapng file's beginning, in memory.
fn file_begin() -> PcapngWriter<Vec<u8>> {
    let application = concat!("portproof ", env!("CARGO_PKG_VERSION"));
    // Writing to memory cannot fail.
    PcapngWriter::new(Vec::with_capacity(CHUNK_BYTES * 2), application).unwrap_or_else(|_| unreachable!())
}

fn begun(options: &LiveOptions, followed: bool, journalled: bool) -> Mapper {
    let mut mapper = Mapper::new(&options.extract);
    mapper.look_for_gaps();
    if followed {
        mapper.follow();
    }
    if journalled {
        mapper.keep_deltas();
    }
    mapper
}

impl Mapping {
    pub(super) fn new(
        options: Arc<LiveOptions>,
        meters: Vec<Arc<Meter>>,
        queue: Queue,
        outlet: Outlet,
        rows: Rows,
        saver: Option<Saver>,
        follower: Option<SyncSender<Tick>>,
        shared: Arc<Shared>,
    ) -> Self {
        let merge = Merge::new(meters.len());
        let mapper = begun(&options, follower.is_some(), options.out.is_some() && saver.is_none());
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
        let told = vec![Lost::default(); meters.len()];
        Mapping {
            options,
            meters,
            queue,
            merge,
            outlet,
            rows,
            saver,
            follower,
            shared,
            messages_told: 0,
            past: Stages::default(),
            past_spans: Spans::default(),
            told,
            journalled: None,
            messages_written: 0,
            unfollowed: 0,
            writer,
            mapper,
            segment,
            window_begin,
            window,
            emergency: Emergency::default(),
            blind: Blind::default(),
            latest_told: None,
            kept_before: 0,
            kept: 0,
            outstanding: Arc::default(),
            stretches_before: 0,
        }
    }

    /// Takes frames until all taps have ended.
    pub(super) fn run(mut self) {
        self.begin_file();
        let (mut ticked, mut synced) = (Instant::now(), Instant::now());
        loop {
            let mut idle = false;
            match self.queue.messages.recv_timeout(PATIENCE) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => idle = true,
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.map();
            self.account();
            self.look_at_memory();
            // Whoever follows has half of the time for it, and two thirds where something may be told late; unless no frames come:
            // then what waits is judged at once.
            let cost = Duration::from_millis(self.shared.cost_ms.load(Ordering::Relaxed));
            let cost =
                if self.shared.room.load(Ordering::Relaxed) < MOST_WAITING { cost * 3 / 2 } else { cost * 2 };
            let due = ticked.elapsed() >= TICK.max(cost) || (idle && self.is_behind());
            if due && !self.shared.busy.swap(true, Ordering::Acquire) {
                ticked = Instant::now();
                self.tick(self.shared.room.load(Ordering::Relaxed), false, false);
            }
            if synced.elapsed() >= SYNC {
                synced = Instant::now();
                self.sync();
                self.give_up_late();
            }
            if self.merge.all_ended() {
                break;
            }
        }
        self.map();
        self.account();
        self.tell_losses();
        self.end_segment(true);
        self.emergency.end(&self.outlet);
        let (number, next, held) = (self.window, self.segment.number, self.hold(true));
        self.rows.work(Work::EndWindow { number, last: true, next, held });
        self.follower = None;
        if let Some(saver) = self.saver.take() {
            saver.end();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Batch(batch) => self.merge.push(batch),
            Message::Mark { tap, until } => self.merge.mark(tap, until),
            Message::Gone { tap, since, problem } => {
                let interface = self.tap_name(tap);
                self.outlet.notice(Notice::Gone { interface, since, problem });
            }
            Message::Back { tap, since } => {
                let interface = self.tap_name(tap);
                self.outlet.notice(Notice::Back { interface, since });
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
                    self.outlet.notice(Notice::Ended { interface: self.tap_name(tap), problem });
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
            if self.shared.ending.looks_no_more() {
                // As if they were in the ring still.
                if let Some(meter) = self.meters.get(lane) {
                    meter.put_back((taken.len() - places.start.min(taken.len())) as u64);
                }
                let end = taken.len();
                if let Some(empty) = self.merge.put_back(lane, taken, end) {
                    self.queue.give_back(empty);
                }
                continue;
            }
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

    /// Says what was seen so far.
    fn account(&self) {
        let frames = self.past.frames + self.segment.frames;
        let stretches = self.stretches_before + self.mapper.rows() as u64;
        self.shared.ending.saw(frames, stretches);
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
        let Rotation { after_ns, bytes, rows } = self.options.rotation;
        let window_full = self.kept_before + self.kept > self.options.shares.window_bytes;
        let segment_over = self.segment.first.is_some_and(|first| time.since(first) >= after_ns)
            || self.segment.bytes >= bytes
            || (self.options.out.is_some() && self.has_rows(rows, time));
        if window_full {
            self.outlet.notice(Notice::WindowFull {
                at: crate::capture::live::now(),
                number: self.window,
                bytes: (self.kept_before + self.kept) as u64,
                most: self.options.shares.window_bytes as u64,
            });
        }
        let window_over = window_over || window_full;
        if window_over || segment_over {
            self.end_segment(false);
            if window_over {
                self.past_spans = Spans::default();
                self.blind.clear();
                let held = self.hold(false);
                self.kept_before = 0;
                let (number, next) = (self.window, self.segment.number);
                self.rows.work(Work::EndWindow { number, last: false, next, held });
                self.window += 1;
                self.window_begin = Some(time);
            }
            self.begin_file();
        }
    }

    /// Notes what the window at hand takes, which ends; waits for those before it where they take too much, unless nothing comes
    /// after it.
    fn hold(&self, last: bool) -> Held {
        let most = self.options.shares.window_bytes / 2 * 3;
        self.outstanding.hold(self.kept_before, most, &|| last || self.shared.ending.is_hurried())
    }

    /// Whether the segment has as many rows as one should: what is open becomes some, too. Conversations that go on begin anew
    /// in the next segment, so where most do, it is not ended at once.
    fn has_rows(&self, rows: usize, time: Timestamp) -> bool {
        let age_ns = self.segment.first.map_or(0, |first| time.since(first));
        let most = if age_ns >= LEAST_AGE_NANOS { rows } else { rows * 2 };
        self.mapper.rows() >= most && self.rows.keeps_up()
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
        self.rows.work(Work::Begin { number: self.segment.number });
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

    /// Sees to it that what was seen so far is on the disk.
    fn sync(&mut self) {
        self.write_out(0);
        if let Some(saver) = &self.saver {
            saver.order(Order::Sync);
            if saver.wants_another() {
                self.end_segment(false);
                self.begin_file();
            }
        }
        self.tell_losses();
        self.write_journal(false);
    }

    /// Whether rows are written while the segment goes on: where its frames are, they are not needed.
    fn journals(&self) -> bool {
        self.options.out.is_some() && self.saver.is_none()
    }

    /// Whether something changed that nobody judged yet.
    fn is_behind(&mut self) -> bool {
        self.shared.unlooked.load(Ordering::Relaxed) > 0 || self.mapper.look().0.untold() > 0
    }

    /// What waited in the table since the last but one time of [`SYNC`] would be told late.
    fn give_up_late(&mut self) {
        if self.follower.is_some() {
            self.unfollowed += self.mapper.look().0.give_up_late();
        }
    }

    /// The segment at hand, as those who follow number it.
    fn capture(&self) -> CaptureId {
        CaptureId::new((self.segment.number - self.options.first_segment) as u32)
    }

    /// Hands what changed to the journal; the last of a segment even if that has to wait.
    fn write_journal(&mut self, last: bool) {
        if !self.journals() {
            return;
        }
        let demand = self.rows.demand();
        let Some(whole) = (if last { demand.last_wanted() } else { demand.wanted() }) else {
            if demand.forgets() {
                self.mapper.look().0.forget_deltas();
            }
            return;
        };
        let drops = self.meters.iter().map(|meter| meter.read().lost()).sum();
        let now = Some((self.segment.frames, drops));
        if self.journalled == now && !whole {
            return;
        }
        let whole = whole || self.journalled.is_none();
        let source = Source {
            bytes: self.segment.bytes,
            sha256: None,
            format: "live".to_owned(),
            link_types: self.link_types(),
            snaplen_cut: self.segment.snaplen_cut,
            drops: Some(drops),
            without_time: self.segment.without_time,
            unknown_blocks: 0,
            end: End::Complete,
        };
        let summary = self.mapper.summary(&self.segment.name, source);
        let (table, look) = self.mapper.look();
        let written = if whole { 0 } else { self.messages_written };
        let count = look.dns.len() - written;
        let change =
            Change::new(whole, &summary, count, look.dns.since(written), |out| table.delta(whole, out));
        let Ok(change) = change else { return self.rows.demand().cannot_be_told() };
        (self.journalled, self.messages_written) = (now, written + count);
        self.rows.work(Work::Change(Box::new(change)));
    }

    /// Does what has to be done where memory gets scarce.
    fn look_at_memory(&mut self) {
        self.kept = self.mapper.kept_bytes();
        let (table, _) = self.mapper.look();
        self.emergency.look(table, &self.outlet);
    }

    fn link_types(&self) -> Vec<String> {
        let types: BTreeSet<LinkType> = self.segment.interfaces.iter().map(|i| i.link_type).collect();
        types.iter().map(ToString::to_string).collect()
    }

    fn tell_losses(&mut self) {
        for tap in 0..self.meters.len() {
            let counts = self.meters.get(tap).map(|meter| meter.read()).unwrap_or_default();
            let Some(told) = self.told.get_mut(tap) else { continue };
            let (kernel, interface) =
                (counts.dropped - told.system.min(counts.dropped), counts.interface_dropped - told.interface);
            if kernel + interface == 0 {
                continue;
            }
            *told = Lost { interface: counts.interface_dropped, system: counts.dropped, gaps: 0 };
            self.outlet.notice(Notice::Loss {
                at: crate::capture::live::now(),
                interface: self.tap_name(tap as u32),
                kernel_dropped: kernel,
                interface_dropped: interface,
            });
        }
    }

    /// Tells whoever follows what changed, up to `most` conversations: those that ended first, since they cannot wait in the table.
    fn tick(&mut self, most: usize, ends: bool, last: bool) {
        if self.follower.is_none() {
            return;
        }
        let (table, _) = self.mapper.look();
        let (mut stretches, missed) = table.changes(most);
        // There is no room for more: they would be told late.
        let unfollowed =
            std::mem::take(&mut self.unfollowed) + missed + stretches.len().saturating_sub(most) as u64;
        stretches.truncate(most);
        let missed = unfollowed + self.shared.turned_away.swap(0, Ordering::Relaxed);
        let (open, capacity) = (table.open() as u64, table.capacity() as u64);
        let (evicted, hurried, untold) = (table.evicted(), table.hurried(), table.untold() as u64);
        let (_, look) = self.mapper.look();
        // What was not told by the end of a segment is not: in a flood of names, those that came last are worth more.
        let most = self.options.shares.messages;
        let first = if ends {
            self.messages_told.max(look.dns.len().saturating_sub(most))
        } else {
            self.messages_told
        };
        let dns: Vec<_> = look.dns.since(first).take(most).collect();
        self.messages_told = first + dns.len();
        let mut spans = self.past_spans.clone();
        spans.merge(look.spans);
        if missed > 0 {
            let since = self.latest_told.or(self.segment.first).unwrap_or(self.segment.latest);
            self.blind.add(since.min(self.segment.latest), self.segment.latest);
        }
        self.latest_told = Some(self.segment.latest);
        let spans = self.blind.sure(spans);
        let mut stages = self.past.clone();
        stages.frames += look.frames;
        stages.bytes += self.segment.bytes;
        stages.packets += look.packets;
        stages.duplicates += look.duplicates;
        for (reason, count) in look.skipped {
            *stages.skipped.entry(reason.clone()).or_default() += count;
        }
        let (acknowledged, unseen) = look.acknowledged;
        stages.acknowledgements += acknowledged;
        stages.unseen_acknowledged += unseen;
        (stages.open, stages.capacity, stages.unlooked) = (open, capacity, untold);
        stages.evicted += evicted;
        stages.hurried += hurried;
        (stages.emergency, stages.emergencies) = (self.emergency.is_on(), self.emergency.times());
        stages.kept_bytes = (self.kept_before + self.kept) as u64;
        stages.unsaved = self.shared.disk.unsaved.load(Ordering::Relaxed);
        stages.refused = self.shared.disk.refused();
        stages.most_kept_bytes = self.options.shares.window_bytes as u64;
        let interface =
            |meter: &Arc<Meter>| InterfacePicture { name: meter.name.clone(), counts: meter.read() };
        let interfaces: Vec<InterfacePicture> = self.meters.iter().map(interface).collect();
        for InterfacePicture { counts, .. } in &interfaces {
            stages.kernel_dropped += counts.dropped;
            stages.interface_dropped += counts.interface_dropped;
            stages.offered += counts.offered();
        }
        let lost = stages.kernel_dropped + stages.interface_dropped;
        stages.waiting = stages.offered.saturating_sub(lost + stages.frames);
        let seen = self.segment.first.is_some() || self.past.frames > 0;
        let tick = Tick {
            segment: Arc::clone(&self.segment.name),
            capture: self.capture(),
            stretches,
            unfollowed,
            dns,
            spans,
            latest: seen.then_some(self.segment.latest),
            stages,
            interfaces,
            last,
        };
        // One that failed told so.
        if let Some(follower) = &self.follower {
            let _ = follower.send(tick);
        }
    }

    /// What a tap lost so far.
    fn lost(&self, tap: usize) -> Lost {
        let counts = self.meters.get(tap).map(|meter| meter.read()).unwrap_or_default();
        Lost { interface: counts.interface_dropped, system: counts.dropped + counts.gaps, gaps: counts.gaps }
    }

    /// Ends the segment at hand; the next one begins.
    fn end_segment(&mut self, last: bool) {
        // What changed belongs to this segment.
        let room = self.shared.room.load(Ordering::Relaxed).max(MOST_AT_END);
        self.tick(if last { usize::MAX } else { room }, true, last);
        self.write_journal(true);
        {
            let (table, _) = self.mapper.look();
            self.past.evicted += table.evicted();
            self.past.hurried += table.hurried();
            // In a flood more changes than anybody follows.
            self.unfollowed += table.untold() as u64;
            let (_, look) = self.mapper.look();
            self.past.frames += look.frames;
            self.past.bytes += self.segment.bytes;
            self.past.packets += look.packets;
            self.past.duplicates += look.duplicates;
            for (reason, count) in look.skipped {
                *self.past.skipped.entry(reason.clone()).or_default() += count;
            }
            let (acknowledged, unseen) = look.acknowledged;
            self.past.acknowledgements += acknowledged;
            self.past.unseen_acknowledged += unseen;
            self.past_spans.merge(look.spans);
            self.messages_told = 0;
            self.messages_written = 0;
            self.journalled = None;
        }
        let now: Vec<Lost> = (0..self.meters.len()).map(|tap| self.lost(tap)).collect();
        let mut live = LiveCounts { offered: self.segment.frames, unread: Some(0), ..LiveCounts::default() };
        let mut drops = None;
        for (tap, now) in now.iter().enumerate() {
            let before = self.segment.lost_before.get(tap).copied().unwrap_or_default();
            let counts = InterfaceCounts {
                received: self.segment.given.get(tap).copied().unwrap_or_default(),
                interface_dropped: now.interface.saturating_sub(before.interface),
                system_dropped: now.system.saturating_sub(before.system),
            };
            let lost = counts.interface_dropped + counts.system_dropped;
            let gaps = now.gaps.saturating_sub(before.gaps);
            live.gaps += gaps;
            live.interface_dropped += counts.interface_dropped;
            live.kernel_dropped += counts.system_dropped.saturating_sub(gaps);
            if last {
                let end = self.meters.get(tap).map(|meter| meter.read()).unwrap_or_default();
                live.unread = live.unread.zip(end.unread()).map(|(unread, more)| unread + more);
            }
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
        live.offered += live.kernel_dropped + live.interface_dropped + live.unread.unwrap_or_default();
        {
            let (table, _) = self.mapper.look();
            (live.evicted, live.hurried) = (table.evicted(), table.hurried());
            live.emergencies = self.emergency.end_segment(table);
            let (_, look) = self.mapper.look();
            (live.acknowledgements, live.unseen_acknowledged) = look.acknowledged;
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
        let link_types = self.link_types();
        let ended = std::mem::replace(&mut self.segment, next);
        let next = begun(&self.options, self.follower.is_some(), self.journals());
        let mapper = std::mem::replace(&mut self.mapper, next);
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
            link_types,
            snaplen_cut: ended.snaplen_cut,
            drops,
            without_time: ended.without_time,
            unknown_blocks: ended.unknown_blocks,
            end,
        };
        let mut extract = mapper.finish(&ended.name, source);
        extract.summary.live = Some(live);
        extract.dns.settle();
        self.stretches_before += extract.pieces.len() as u64;
        self.kept_before += extract.pieces.kept_bytes() + extract.dns.kept_bytes();
        self.kept = 0;
        self.rows.work(Work::Segment { number: ended.number, extract: Box::new(extract), saved });
    }
}

/// The summary of a segment, once its packets are in a file.
pub(super) fn saved_as(summary: &mut CaptureSummary, bytes: u64, sha256: &[u8; 32]) {
    summary.bytes = bytes;
    summary.sha256 = Some(crate::model::hex(sha256));
}
