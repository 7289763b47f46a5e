//! All captures' rows, joined: what depends neither on site nor on rules.

use super::extract::{Extracted, Further, read_dns};
use crate::audit::CaptureSummary;
use crate::decode::{Decoded, Packet, decode_datagram};
use crate::flow::{
    BLOCK_BYTES, Budget, Datagram, FlowTable, FragmentPiece, Observed, Origin, PartialFlow, Pieces,
    PiecesReader, Reassembly, Side, TableOptions, Unpacked, by_datagram, datagram, initiator, tcp_stream,
};
use crate::model::{CaptureId, FramePoint, Spans, Timestamp, Transport};
use crate::names::{DnsLog, DnsObservation, dns};
use crate::verdict::JUDGED_AT_ONCE;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stretches of one conversation that `stitch` found to be one flow, by their numbers.
#[derive(Clone, Copy)]
struct Group {
    /// Where its members stand.
    from: u32,
    to: u32,
    time: Timestamp,
}

/// All captures' rows, numbered by rank and stitched. Flows stay packed until they are asked for, one at a time.
pub(super) struct Joined {
    pub inputs: Vec<CaptureSummary>,
    pub captures: Vec<Arc<str>>,
    pub spans: Spans,
    /// The messages of each capture or part, in the order of ranks; behind them those found while joining.
    dns: Vec<(Origin, DnsLog)>,
    found_dns: DnsLog,
    pub without_flow: BTreeMap<String, u64>,
    /// Addresses to which packets were seen.
    pub reached: Vec<IpAddr>,
    sets: Vec<Set>,
    /// Memory for stretches that are read at once, of [`BLOCK_BYTES`] each.
    spare: Mutex<Vec<Vec<u8>>>,
    /// Stretches whose frames are of several captures, by fragments: numbered after all others.
    loose: Vec<PartialFlow>,
    loose_first: u32,
    members: Vec<u32>,
    groups: Vec<Group>,
    /// Flows: numbers of stretches that are a flow alone, or of groups, marked.
    flows: Vec<FlowNumber>,
    /// Whether several of them may be of one time.
    tied: bool,
}

/// The stretches of one capture or of a part of it, and the number of the first of them over all captures.
struct Set {
    first: u32,
    origin: Origin,
    pieces: Pieces,
}

/// A flow: a stretch by its number over all captures, or (with the highest bit) a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FlowNumber(u32);

const GROUP: u32 = 1 << 31;

/// Reads a flow in place of another.
type ReadFlow<'r> = dyn FnMut(FlowNumber, &mut Unpacked) -> io::Result<()> + 'r;

/// Reads the flows of a [`Joined`].
pub(super) struct FlowReader<'a> {
    joined: &'a Joined,
    readers: Vec<PiecesReader<'a>>,
}

/// Ranks the captures by (time of first frame, name), numbers all points by rank, and puts fragments together that are
/// spread over captures. [`Joined::stitch`] does the rest.
pub(super) fn join(extracted: Extracted) -> Joined {
    let mut captures = extracted.captures;
    captures.sort_by(|a, b| {
        // A capture without frames has no first time: it comes last and adds nothing.
        let key = |time: Option<_>| (time.is_none(), time);
        key(a.summary.first_ts)
            .cmp(&key(b.summary.first_ts))
            .then_with(|| a.summary.path.cmp(&b.summary.path))
    });
    let mut joined = Joined {
        inputs: Vec::new(),
        captures: Vec::new(),
        spans: Spans::default(),
        dns: Vec::new(),
        found_dns: DnsLog::default(),
        without_flow: BTreeMap::new(),
        reached: Vec::new(),
        sets: Vec::new(),
        spare: Mutex::default(),
        loose: Vec::new(),
        loose_first: 0,
        members: Vec::new(),
        groups: Vec::new(),
        flows: Vec::new(),
        tied: false,
    };
    let mut fragments = Vec::new();
    for (rank, capture) in captures.into_iter().enumerate() {
        let id = CaptureId::new(rank as u32);
        let begin = Further { frames_before: 0, pieces: capture.pieces, dns: capture.dns };
        for Further { frames_before, mut pieces, dns } in std::iter::once(begin).chain(capture.further) {
            let origin = Origin { capture: id, frames_before };
            for flow in pieces.take_fragments() {
                fragments.extend(flow.fragments.into_iter().map(|mut piece| {
                    piece.point.capture = id;
                    piece.point.frame += frames_before;
                    piece
                }));
            }
            joined.spare().append(&mut pieces.take_spare());
            joined.sets.push(Set { first: 0, origin, pieces });
            joined.dns.push((origin, dns));
        }
        joined.spans.merge(&capture.summary.spans);
        joined.captures.push(capture.summary.path.clone());
        joined.inputs.push(capture.summary);
    }
    let over = joined.reassemble(fragments);
    if over > 0 {
        joined.without_flow.insert("fragment-without-first".to_owned(), over);
    }
    let mut reached: Vec<IpAddr> = joined.sets.iter().flat_map(|set| set.pieces.reached()).collect();
    for flow in &joined.loose {
        let to = |side: Side| (flow.side(side).packets > 0).then(|| flow.key.endpoint(side.other()).ip);
        reached.extend([Side::Low, Side::High].into_iter().filter_map(to));
    }
    reached.sort_unstable();
    reached.dedup();
    joined.reached = reached;
    joined
}

/// The messages of captures and parts, one after another.
pub(super) fn one_log(logs: Vec<(Origin, DnsLog)>) -> DnsLog {
    let mut all = DnsLog::default();
    for (Origin { capture, frames_before }, mut dns) in logs {
        if capture != CaptureId::new(0) {
            dns.set_capture(capture);
        }
        if frames_before > 0 {
            dns.set_frames_before(frames_before);
        }
        all.append(dns);
    }
    all
}

impl Joined {
    /// Hands over all DNS messages, for [`one_log`]; those in [`Joined::dns_over_tcp`] only if it was asked before.
    pub fn take_dns(&mut self) -> Vec<(Origin, DnsLog)> {
        let mut logs = std::mem::take(&mut self.dns);
        logs.push((Origin::default(), std::mem::take(&mut self.found_dns)));
        logs
    }

    /// Puts fragments together that are spread over captures. Where some are missing, what is there of a datagram counts
    /// with the flow that its first fragment tells. Hands back how many belong to no flow, since their first is nowhere.
    fn reassemble(&mut self, mut waiting: Vec<FragmentPiece>) -> u64 {
        if waiting.is_empty() {
            return 0;
        }
        waiting.sort_by_key(|piece| piece.point);
        let mut reassembly = Reassembly::default();
        let (dns, loose) = (&mut self.found_dns, &mut self.loose);
        let mut observe = |datagram: &Datagram| -> bool {
            let (Decoded::Packet(packet), Some(&(point, _))) =
                (decode_datagram(&datagram.head, &datagram.bytes), datagram.frames.last())
            else {
                return false;
            };
            let response = if datagram.whole { read_dns(&packet, point, dns) } else { None };
            match stretch_of(&packet, &datagram.frames, response) {
                Some(stretch) => {
                    loose.push(stretch);
                    true
                }
                None => false,
            }
        };
        for piece in waiting {
            if let Some(datagram) = reassembly.add(piece) {
                observe(&datagram);
            }
        }
        let mut over = 0;
        for group in by_datagram(reassembly.finish()) {
            if !datagram(&group).is_some_and(|datagram| observe(&datagram)) {
                over += group.len() as u64;
            }
        }
        over
    }

    /// Finds the stretches of each conversation, and joins those that are one flow. Conversations are shared out among
    /// threads by the hashes of their keys.
    ///
    /// # Errors
    /// Stretches that were put aside in a temporary file cannot be read.
    pub fn stitch(&mut self, jobs: usize) -> io::Result<()> {
        let mut first = 0u32;
        let too_many =
            || io::Error::other("more than two thousand million stretches: audit fewer captures at once");
        for set in &mut self.sets {
            set.first = first;
            let count = u32::try_from(set.pieces.times().len()).map_err(|_| too_many())?;
            first = first.checked_add(count).filter(|&sum| sum < GROUP).ok_or_else(too_many)?;
        }
        self.loose_first = first;
        let all = u32::try_from(self.loose.len()).ok().and_then(|more| first.checked_add(more));
        let all = all.filter(|&all| all < GROUP).ok_or_else(too_many)?;
        let jobs = if (all as usize) < LEAST_SHARED { 1 } else { jobs.max(1) };
        // Each thread looks at some of its conversations at a time: the list of them is no larger than it must be.
        let parts = jobs * (all as usize).div_ceil(jobs * MOST_LISTED).max(1);
        let this = &*self;
        let shard = |first: usize| -> io::Result<Shard> {
            let mut shard = Shard::default();
            (first..parts).step_by(jobs).try_for_each(|part| this.part(part, parts, &mut shard))?;
            Ok(shard)
        };
        let stitched: Vec<io::Result<Shard>> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..jobs).map(|first| scope.spawn(move || shard(first))).collect();
            let first = shard(0);
            let others = others.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread that joins stretches failed")))
            });
            std::iter::once(first).chain(others).collect()
        });
        for shard in stitched {
            let mut shard = shard?;
            let members = self.members.len() as u32;
            self.groups.extend(shard.groups.into_iter().map(|group| Group {
                from: group.from + members,
                to: group.to + members,
                ..group
            }));
            self.members.append(&mut shard.members);
        }
        self.sets.iter_mut().for_each(|set| set.pieces.forget_hashes());
        (self.flows, self.tied) = self.in_order_of_time(all, jobs);
        Ok(())
    }

    /// Stretches that are a flow alone, and groups, ascending by time; those of one time by number. And whether several may be of one
    /// time.
    fn in_order_of_time(&self, all: u32, jobs: usize) -> (Vec<FlowNumber>, bool) {
        let mut grouped = vec![0u64; (all as usize).div_ceil(64)];
        for member in &self.members {
            if let Some(word) = grouped.get_mut(*member as usize / 64) {
                *word |= 1 << (member % 64);
            }
        }
        let alone = |number: &u32| {
            grouped.get(*number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 0)
        };
        let groups = || (GROUP..).zip(self.groups.iter().map(|group| group.time));
        let loose =
            || (self.loose_first..).zip(self.loose.iter().map(|flow| flow.order_time().unwrap_or_default()));
        let packed = || {
            self.sets
                .iter()
                .flat_map(|set| (set.first..).zip(set.pieces.times().iter().copied()))
                .chain(loose())
        };
        let each = || packed().filter(|(number, _)| alone(number)).chain(groups());
        let count = all as usize - self.members.len() + self.groups.len();
        // What was put aside as it came is in order already: floods are. Folded, and not asked for one by one: what is chained would
        // be asked each time which of its parts comes next.
        let rising = |(last, tied): ((Timestamp, u32), bool), (number, time): (u32, Timestamp)| {
            let this = (time, number);
            (last <= this).then_some((this, tied | (last.0 == time)))
        };
        if let Some((_, tied)) = each().try_fold(((Timestamp(i64::MIN), 0), false), rising) {
            let mut flows = Vec::with_capacity(count);
            each().for_each(|(number, _)| flows.push(FlowNumber(number)));
            return (flows, tied);
        }
        let widened =
            |(first, last): (i64, i64), (_, Timestamp(time)): (u32, _)| (first.min(time), last.max(time));
        let (first, last) = each().fold((i64::MAX, i64::MIN), widened);
        if first > last {
            return (Vec::new(), false);
        }
        // Dealt out to many short spans of time, of which each is put in order by itself.
        let since_first = |time: i64| time.wrapping_sub(first) as u64;
        let spans = (count / DEALT_TOGETHER) as u64;
        let shift = (0..u64::BITS).find(|shift| since_first(last) >> shift <= spans).unwrap_or_default();
        let span = |time: i64| (since_first(time) >> shift) as usize;
        let dealt = || each().map(|(number, time)| (span(time.0), FlowNumber(number)));
        let mut flows = Vec::new();
        let ends = deal_out(span(last) + 1, dealt, &mut flows);
        std::thread::scope(|scope| {
            let (mut rest, mut begin) = (&mut flows[..], 0);
            for ends in ends.chunks(ends.len().div_ceil(jobs.max(1))) {
                let end = ends.last().copied().unwrap_or(begin);
                let (own, others) = rest.split_at_mut(end - begin);
                let mut work = move || self.order_spans(own, begin, ends);
                (rest, begin) = (others, end);
                // The last part is left to this thread.
                if rest.is_empty() { work() } else { drop(scope.spawn(work)) }
            }
        });
        (flows, true)
    }

    /// Puts the flows of each of several spans of time in order; `begin` and `ends` tell where among all flows the spans stand.
    fn order_spans(&self, flows: &mut [FlowNumber], begin: usize, ends: &[usize]) {
        let mut timed: Vec<(Timestamp, FlowNumber)> = Vec::new();
        let (mut rest, mut from) = (flows, begin);
        for &end in ends {
            let (span, others) = rest.split_at_mut(end - from);
            (rest, from) = (others, end);
            if span.len() > 1 {
                timed.clear();
                timed.extend(span.iter().map(|&flow| (self.time(flow), flow)));
                timed.sort_unstable();
                span.iter_mut().zip(&timed).for_each(|(place, &(_, flow))| *place = flow);
            }
        }
    }

    /// Joins the conversations whose hashes fall into one of several equal ranges.
    fn part(&self, part: usize, parts: usize, shard: &mut Shard) -> io::Result<()> {
        let alike = self.alike(part, parts);
        let runs = alike.chunk_by(|a, b| a >> 32 == b >> 32).filter(|run| run.len() > 1);
        let runs: Vec<&[u64]> = runs.collect();
        let few = runs.iter().map(|run| run.len()).sum::<usize>() < self.loose_first as usize / FEW_AMONG;
        let reader = if few { FlowReader::sparse(self) } else { FlowReader::new(self) };
        let (mut from, mut waiting) = (0, 0);
        for (at, run) in runs.iter().enumerate() {
            waiting += run.len();
            if waiting >= MOST_GATHERED || at + 1 == runs.len() {
                shard.stitch(&reader, &runs[from..=at])?;
                (from, waiting) = (at + 1, 0);
            }
        }
        Ok(())
    }

    /// Hashes of one of several equal ranges that several stretches have, ascending, each above the number of its stretch; here and
    /// there one that no other has. Hashes are spread evenly, so they are dealt out to many small lists first: each is looked
    /// through where it is in a cache.
    fn alike(&self, part: usize, parts: usize) -> Vec<u64> {
        // The range is the whole number, and where in it the fraction.
        let place = |hash: u32| u64::from(hash) * parts as u64;
        let list_of = |hash: u32| ((place(hash) as u32) >> (u32::BITS - LIST_BITS)) as usize;
        let each = || {
            let loose = self.loose.iter().map(|flow| flow.key.hash()).zip(self.loose_first..);
            let packed =
                self.sets.iter().flat_map(|set| set.pieces.hashes().iter().copied().zip(set.first..));
            loose.chain(packed).filter(|&(hash, _)| place(hash) >> 32 == part as u64)
        };
        let dealt =
            || each().map(|(hash, number)| (list_of(hash), u64::from(hash) << 32 | u64::from(number)));
        let mut by_list = Vec::new();
        let ends = deal_out(1 << LIST_BITS, dealt, &mut by_list);
        let (mut alike, mut room, mut from) = (Vec::new(), Vec::new(), 0);
        for end in ends {
            if let Some(list) = by_list.get_mut(from..end) {
                let several = keep_alike(list, &mut room);
                several.sort_unstable();
                alike.extend_from_slice(several);
            }
            from = end;
        }
        alike
    }

    #[inline]
    fn time(&self, flow: FlowNumber) -> Timestamp {
        // Of one capture the numbers are places, and what is no number of a stretch is none of a place.
        match &self.sets[..] {
            [set] => set.pieces.times().get(flow.0 as usize).copied(),
            _ => None,
        }
        .unwrap_or_else(|| self.time_of_any(flow))
    }

    fn time_of_any(&self, flow: FlowNumber) -> Timestamp {
        if flow.0 & GROUP != 0 {
            return self.groups.get((flow.0 & !GROUP) as usize).map(|group| group.time).unwrap_or_default();
        }
        if let Some(loose) = self.loose(flow.0) {
            return loose.order_time().unwrap_or_default();
        }
        self.set_of(flow.0)
            .and_then(|(_, set)| set.pieces.times().get((flow.0 - set.first) as usize).copied())
            .unwrap_or_default()
    }

    fn loose(&self, number: u32) -> Option<&PartialFlow> {
        self.loose.get(number.checked_sub(self.loose_first)? as usize)
    }

    fn set_of(&self, number: u32) -> Option<(usize, &Set)> {
        let index = if self.sets.len() == 1 {
            0
        } else {
            self.sets.partition_point(|set| set.first <= number).checked_sub(1)?
        };
        Some((index, self.sets.get(index)?))
    }

    /// Whether any stretch of TCP port 53 may hold messages.
    pub fn holds_dns_over_tcp(&self) -> bool {
        self.sets.iter().any(|set| !set.pieces.dns_over_tcp().is_empty())
            || self.loose.iter().any(is_dns_over_tcp)
    }

    /// DNS messages on TCP port 53: both directions reassembled, each message dated by the frame that completed it.
    ///
    /// # Errors
    /// As for [`Joined::stitch`].
    pub fn dns_over_tcp(&mut self) -> io::Result<()> {
        let marked: std::collections::BTreeSet<u32> = self
            .sets
            .iter()
            .flat_map(|set| set.pieces.dns_over_tcp().iter().map(|number| set.first + number))
            .chain(
                self.loose
                    .iter()
                    .zip(self.loose_first..)
                    .filter(|(flow, _)| is_dns_over_tcp(flow))
                    .map(|(_, n)| n),
            )
            .collect();
        if marked.is_empty() {
            return Ok(());
        }
        let mut found = Vec::new();
        let reader = FlowReader::sparse(self);
        for &flow in &self.flows {
            let holds = match self.group(flow) {
                Some(members) => members.iter().any(|member| marked.contains(member)),
                None => marked.contains(&flow.0),
            };
            if holds {
                found.extend(dns_of_tcp(&reader.get(flow)?));
            }
        }
        self.found_dns.extend(found);
        Ok(())
    }

    fn group(&self, flow: FlowNumber) -> Option<&[u32]> {
        let group = self.groups.get((flow.0 & !GROUP) as usize).filter(|_| flow.0 & GROUP != 0)?;
        self.members.get(group.from as usize..group.to as usize)
    }

    /// All flows in the order of rows: first_ts, flow_id, vlan, vni, capture, first frame. They can be had once.
    ///
    /// # Errors
    /// As for [`Joined::stitch`].
    pub fn order(&mut self, is_service: &dyn Fn(Transport, u16) -> bool) -> io::Result<Vec<FlowNumber>> {
        let mut order = std::mem::take(&mut self.flows);
        if self.tied {
            self.order_ties(&mut order, is_service)?;
        }
        self.sets.iter_mut().for_each(|set| set.pieces.forget_times());
        Ok(order)
    }

    /// Puts flows of one time in the order of rows.
    fn order_ties(
        &self,
        order: &mut [FlowNumber],
        is_service: &dyn Fn(Transport, u16) -> bool,
    ) -> io::Result<()> {
        let (whole, sparse) = (FlowReader::new(self), FlowReader::sparse(self));
        let mut at = 0;
        while at < order.len() {
            let (ties, end) = self.ties(order, at);
            let flows: Vec<FlowNumber> = ties.iter().flat_map(|run| &order[run.clone()]).copied().collect();
            // Of few among many, no more than each is read.
            let reader = if flows.len() < (end - at) / FEW_AMONG { &sparse } else { &whole };
            let (mut keyed, mut numbers) = (Vec::with_capacity(flows.len()), flows.iter());
            reader.each(&flows, &mut |flow| {
                let (side, _) = initiator(flow, is_service);
                let begin = flow.begin();
                let capture = begin.and_then(|point| self.captures.get(point.capture.index()));
                let frame = begin.map(|point| point.frame);
                let key = (flow.key.flow_id(side), flow.vlan, flow.vni, capture, frame);
                keyed.extend(numbers.next().map(|&number| (key, number)));
                Ok(())
            })?;
            let mut rest = &mut keyed[..];
            for run in ties {
                let (tied, others) = rest.split_at_mut(run.len());
                tied.sort_by(|a, b| a.0.cmp(&b.0));
                for (place, (_, number)) in order[run].iter_mut().zip(tied) {
                    *place = *number;
                }
                rest = others;
            }
            at = end;
        }
        Ok(())
    }

    /// Runs of flows of one time from a place on, as many as are worth being read at once, and where the next may begin.
    fn ties(&self, order: &[FlowNumber], from: usize) -> (Vec<Range<usize>>, usize) {
        let time_at = |place: usize| order.get(place).map(|&flow| self.time(flow));
        let (mut ties, mut tied, most) = (Vec::new(), 0, self.window_flows());
        let (mut begin, mut time) = (from, time_at(from));
        for end in from + 1..=order.len() {
            let next = time_at(end);
            if next == time {
                continue;
            }
            if end - begin > 1 {
                tied += end - begin;
                ties.push(begin..end);
            }
            (begin, time) = (end, next);
            if tied >= most {
                break;
            }
        }
        (ties, begin)
    }

    /// How many flows are read at once to be handed over: as many as [`WINDOW_BYTES`] hold, about.
    fn window_flows(&self) -> usize {
        let sum = |of: fn(&Pieces) -> usize| self.sets.iter().map(|set| of(&set.pieces)).sum::<usize>();
        window_of(sum(Pieces::packed_bytes) / sum(Pieces::len).max(1))
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        // Whoever panicked left at worst less of it.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the stretches themselves: no flow can be read any more.
    pub fn give_up_flows(&mut self) {
        self.spare().clear();
        (self.sets, self.loose) = (Vec::new(), Vec::new());
        (self.members, self.groups) = (Vec::new(), Vec::new());
    }
}

impl<'a> FlowReader<'a> {
    /// For all flows, in the order of rows.
    pub fn new(joined: &'a Joined) -> Self {
        let readers = joined.sets.iter().map(|set| set.pieces.reader(set.origin)).collect();
        FlowReader { joined, readers }
    }

    /// For a few of them, in any order.
    fn sparse(joined: &'a Joined) -> Self {
        let readers = joined.sets.iter().map(|set| set.pieces.sparse_reader(set.origin)).collect();
        FlowReader { joined, readers }
    }

    fn piece_into(&self, number: u32, place: &mut Unpacked) -> io::Result<()> {
        if let Some(loose) = self.joined.loose(number) {
            place.full_mut().clone_from(loose);
            return Ok(());
        }
        let (index, set) = self.joined.set_of(number).ok_or_else(missing)?;
        self.readers.get(index).ok_or_else(missing)?.read_into(number - set.first, place)
    }

    /// Reads stretches that wait in temporary files, in the order in which they stand there, in place of others that are no longer
    /// needed. The others are read where they are.
    fn gather(
        &self,
        numbers: impl ExactSizeIterator<Item = u32>,
        gathered: &mut Gathered<'_>,
    ) -> io::Result<()> {
        let Gathered { spans, chunks, wanted, order, joined: _ } = gathered;
        spans.clear();
        wanted.clear();
        chunks.iter_mut().for_each(Vec::clear);
        spans.resize(numbers.len(), None);
        wanted.extend(numbers.zip(0..));
        put_in_order(wanted, order);
        let mut chunk = 0;
        for &(number, place) in &*order {
            if self.joined.loose(number).is_some() {
                continue;
            }
            let (index, set) = self.joined.set_of(number).ok_or_else(missing)?;
            let reader = self.readers.get(index).ok_or_else(missing)?;
            if reader.is_at_hand(number - set.first) {
                continue;
            }
            reader.packed(number - set.first, |packed| {
                // One that is larger than a chunk has one of its own.
                let has_room =
                    |bytes: &Vec<u8>| bytes.is_empty() || bytes.capacity() - bytes.len() >= packed.len();
                chunk += usize::from(chunks.get(chunk).is_some_and(|bytes| !has_room(bytes)));
                if chunk == chunks.len() {
                    let spare = self.joined.spare().pop();
                    chunks.push(spare.unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES)));
                }
                if let (Some(bytes), Some(span)) = (chunks.get_mut(chunk), spans.get_mut(place as usize)) {
                    let from = bytes.len();
                    bytes.extend_from_slice(packed);
                    *span = Some((chunk as u32, from as u32, bytes.len() as u32));
                }
            })?;
        }
        Ok(())
    }

    /// Hands over flows, in the order given, one by one.
    ///
    /// # Errors
    /// As for [`FlowReader::each_some`].
    pub fn each(
        &self,
        flows: &[FlowNumber],
        take: &mut dyn FnMut(&PartialFlow) -> io::Result<()>,
    ) -> io::Result<()> {
        self.each_some(flows, &mut |some| some.iter_mut().try_for_each(|place| take(place.in_full())))
    }

    /// Hands over flows, in the order given, up to [`JUDGED_AT_ONCE`] of them at a time. Where some wait in temporary files, those
    /// are read in their own order, for many flows at a time: flows come in the order in which they began, and stand in the order
    /// in which they ended, seconds or minutes later.
    ///
    /// # Errors
    /// As for [`Joined::stitch`], and what `take` answers.
    pub fn each_some(
        &self,
        flows: &[FlowNumber],
        take: &mut dyn FnMut(&mut [Unpacked]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut some: Vec<Unpacked> = Vec::new();
        some.resize_with(flows.len().min(JUDGED_AT_ONCE), Unpacked::default);
        let mut hand_over = |flows: &[FlowNumber], read: &mut ReadFlow<'_>| {
            flows.chunks(JUDGED_AT_ONCE).try_for_each(|flows| {
                let some = some.get_mut(..flows.len()).ok_or_else(missing)?;
                flows.iter().zip(&mut *some).try_for_each(|(&flow, place)| read(flow, place))?;
                take(some)
            })
        };
        let mut one_by_one = |flow, place: &mut Unpacked| self.get_into(flow, place);
        if self.joined.sets.iter().all(|set| set.pieces.spilled_bytes() == 0) {
            return hand_over(flows, &mut one_by_one);
        }
        let (mut gathered, mut numbers) = (Gathered::of(self.joined), Vec::new());
        for flows in flows.chunks(self.joined.window_flows()) {
            if self.are_near(flows) {
                hand_over(flows, &mut one_by_one)?;
                continue;
            }
            numbers.clear();
            for flow in flows {
                match self.joined.group(*flow) {
                    Some(members) => numbers.extend_from_slice(members),
                    None => numbers.push(flow.0),
                }
            }
            self.gather(numbers.iter().copied(), &mut gathered)?;
            let mut places = 0..;
            let mut piece_into = |number, stretch: &mut Unpacked| {
                let place = places.next().ok_or_else(missing)?;
                gathered.get_into(self, (place, number), stretch)
            };
            hand_over(flows, &mut |flow, place| self.flow_into(flow, place, &mut piece_into))?;
        }
        Ok(())
    }

    /// Whether flows stand nearly in the order in which they are asked for, as those of a flood do: then each block is read
    /// once, though they are read one by one.
    fn are_near(&self, flows: &[FlowNumber]) -> bool {
        let block_of = |flow: u32| {
            let (index, set) = self.joined.set_of(flow)?;
            Some((index, self.readers.get(index)?.block(flow - set.first)))
        };
        let near = |furthest: u32, flow: u32| {
            block_of(furthest).zip(block_of(flow)).is_some_and(|((of, far), (index, block))| {
                of == index && far - block < PiecesReader::NEAR_BLOCKS
            })
        };
        let mut furthest = 0;
        flows.iter().all(|&FlowNumber(flow)| {
            // Groups and loose ones have the greatest numbers. In order of their numbers stretches stand in that of blocks.
            let alone = flow < self.joined.loose_first;
            let ahead = flow >= furthest;
            furthest = furthest.max(flow);
            alone && (ahead || near(furthest, flow))
        })
    }

    /// A flow, in place of another that is no longer needed.
    ///
    /// # Errors
    /// As for [`Joined::stitch`].
    fn get_into(&self, flow: FlowNumber, place: &mut Unpacked) -> io::Result<()> {
        self.flow_into(flow, place, &mut |number, place| self.piece_into(number, place))
    }

    /// The same; `piece_into` reads each of its stretches.
    fn flow_into(
        &self,
        flow: FlowNumber,
        place: &mut Unpacked,
        piece_into: &mut dyn FnMut(u32, &mut Unpacked) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(members) = self.joined.group(flow) else { return piece_into(flow.0, place) };
        // They stand in the order in which they were found to be one flow.
        let (&first, others) = members.split_first().ok_or_else(missing)?;
        piece_into(first, place)?;
        let whole = place.in_full();
        let mut further = Unpacked::default();
        for &other in others {
            piece_into(other, &mut further)?;
            whole.join(further.in_full());
        }
        Ok(())
    }

    /// A flow, its stretches joined.
    ///
    /// # Errors
    /// As for [`Joined::stitch`].
    pub fn get(&self, flow: FlowNumber) -> io::Result<PartialFlow> {
        let mut place = Unpacked::default();
        self.get_into(flow, &mut place)?;
        Ok(std::mem::replace(place.in_full(), PartialFlow::nothing()))
    }
}

/// Flows of which one is asked for among so many are read each by itself: of a block of a temporary file, which holds a
/// thousand, others would be wanted too.
const FEW_AMONG: usize = 64;

/// Bytes of packed flows that are read at once to be handed over: 16 MiB. So W2 reads 735 MB of its temporary file of 170, for all
/// that it is read for; with 7 MiB, 964.
const WINDOW_BYTES: usize = 1 << 24;

/// How many flows of so many bytes each are read at once.
fn window_of(bytes_of_one: usize) -> usize {
    (WINDOW_BYTES / bytes_of_one.max(1)).clamp(LEAST_WINDOW_FLOWS, MOST_WINDOW_FLOWS)
}

/// The same at the least, however long they are: what a window costs is a walk through the temporary file.
const LEAST_WINDOW_FLOWS: usize = 1 << 12;

/// Flows that are read at once at the most, however short they are: 131,072, of which the list takes 4 MiB.
const MOST_WINDOW_FLOWS: usize = 1 << 17;

/// Stretches that are read at once to be held against each other: a quarter of a million, some tens of megabytes. Fewer would
/// go through the temporary file more often.
const MOST_GATHERED: usize = 1 << 18;

/// Stretches that are worth a further thread.
const LEAST_SHARED: usize = 1 << 14;

/// Stretches of which one thread keeps a list by hash at a time: two million, 16 MiB. Each list takes a look at all hashes, so
/// many short ones would cost time.
const MOST_LISTED: usize = 1 << 21;

/// Flows that fall into one span of time, on average, while they are put in order.
const DEALT_TOGETHER: usize = 4;

/// Into so many lists hashes are dealt out, as a power of two: 1,024, of two thousand hashes each where there are most.
const LIST_BITS: u32 = 10;

/// Words of bits that tell which hashes of a list several have, of the longest lists: sixteen bits for each hash.
const ALIKE_WORDS: usize = 512;

/// Moves those to the front of which another has the same hash, and hands them back; where the last bits alone are the same, others,
/// too. The hash is the upper half of each. `room` is for bits: of hashes that were seen, and of those that were seen again.
fn keep_alike<'l>(list: &'l mut [u64], room: &mut Vec<[u64; 2]>) -> &'l mut [u64] {
    let words = (list.len() / 4).next_power_of_two().min(ALIKE_WORDS);
    room.clear();
    room.resize(words, [0; 2]);
    let bit_of = |entry: u64| ((entry >> 38) as usize & (words - 1), 1u64 << (entry >> 32 & 63));
    for &entry in &*list {
        let (word, bit) = bit_of(entry);
        let [seen, again] = &mut room[word];
        *again |= *seen & bit;
        *seen |= bit;
    }
    let mut kept = 0;
    for at in 0..list.len() {
        let entry = list[at];
        let (word, bit) = bit_of(entry);
        // Without a branch: which of them are alone nobody foresees.
        list[kept] = entry;
        kept += usize::from(room[word][1] & bit != 0);
    }
    &mut list[..kept]
}

/// What one thread joined: members count from its own.
#[derive(Default)]
struct Shard {
    members: Vec<u32>,
    groups: Vec<Group>,
}

impl Shard {
    /// Stretches whose keys have one hash, for each of several hashes: those of one key are held against each other.
    fn stitch(&mut self, reader: &FlowReader<'_>, runs: &[&[u64]]) -> io::Result<()> {
        let numbers: Vec<u32> = runs.iter().flat_map(|run| run.iter().map(|&entry| entry as u32)).collect();
        let mut gathered = Gathered::of(reader.joined);
        reader.gather(numbers.iter().copied(), &mut gathered)?;
        let mut entries = numbers.iter().copied().zip(0..).map(|(number, place)| (place, number));
        // The same memory takes the stretches of one hash after those of another.
        let (mut pieces, mut order): (Vec<(Unpacked, u32)>, Vec<_>) = (Vec::new(), Vec::new());
        for run in runs {
            pieces.resize_with(pieces.len().max(run.len()), Default::default);
            for ((piece, number), asked) in pieces.iter_mut().zip(entries.by_ref().take(run.len())) {
                gathered.get_into(reader, asked, piece)?;
                *number = asked.1;
            }
            order.clear();
            let of = |((piece, _), at): (&mut (Unpacked, u32), usize)| {
                let piece = piece.in_full();
                (piece.key, piece.begin(), at)
            };
            order.extend(pieces.iter_mut().zip(0..).take(run.len()).map(of));
            order.sort_unstable();
            for alike in order.chunk_by(|a, b| a.0 == b.0).filter(|alike| alike.len() > 1) {
                self.join(&mut pieces, alike.iter().map(|&(.., at)| at));
            }
        }
        Ok(())
    }

    /// Stretches of one conversation, in the order of their beginning: those that are one flow are joined to the first.
    fn join(&mut self, pieces: &mut [(Unpacked, u32)], order: impl Iterator<Item = usize>) {
        let mut open: Option<usize> = None;
        let mut from = self.members.len();
        for at in order {
            if let Some(begun) = open
                && let Ok([(flow, _), (piece, number)]) = pieces.get_disjoint_mut([begun, at])
                && flow.in_full().is_continued_by(piece.in_full())
            {
                flow.in_full().join(piece.in_full());
                self.members.push(*number);
                continue;
            }
            self.end(from, open.and_then(|open| pieces.get_mut(open)));
            from = self.members.len();
            self.members.extend(pieces.get(at).map(|&(_, number)| number));
            open = Some(at);
        }
        self.end(from, open.and_then(|open| pieces.get_mut(open)));
    }

    /// The members from there on are a flow, unless it is a stretch alone.
    fn end(&mut self, from: usize, flow: Option<&mut (Unpacked, u32)>) {
        let to = self.members.len();
        match flow {
            Some((flow, _)) if to - from > 1 => {
                let time = flow.in_full().order_time().unwrap_or_default();
                self.groups.push(Group { from: from as u32, to: to as u32, time });
            }
            _ => self.members.truncate(from),
        }
    }
}

/// Packed stretches that wait in temporary files, in the order in which they were asked for.
struct Gathered<'a> {
    joined: &'a Joined,
    /// In which of `chunks` each stands, where it begins there and where it ends; none of one that is read where it is.
    spans: Vec<Option<(u32, u32, u32)>>,
    /// Each of the size of a block, whose memory it takes where blocks made room. One list of all of them would be megabytes that
    /// glibc, once they are freed, takes for a hint of what will be asked for: tables that grow would leave holes behind them.
    chunks: Vec<Vec<u8>>,
    /// By number, with the place in which it was asked for.
    wanted: Vec<(u32, u32)>,
    order: Vec<(u32, u32)>,
}

impl Drop for Gathered<'_> {
    fn drop(&mut self) {
        // Whoever gathers next needs it; more than that takes, stretches of one hash may have taken.
        let mut spare = self.joined.spare();
        self.chunks.truncate(MOST_SPARE.saturating_sub(spare.len()));
        self.chunks.iter_mut().for_each(Vec::clear);
        spare.append(&mut self.chunks);
    }
}

/// Chunks that wait to be needed again: 24 MiB, a half more than [`WINDOW_BYTES`].
const MOST_SPARE: usize = 384;

/// How many stretches, neighbours by number, are read in any order: 256 stand in one block of a temporary file or two.
const NEIGHBOURS: u32 = 256;

/// The same by ascending numbers, but for those of [`NEIGHBOURS`]. Many of a short range, as they mostly are, are counted out
/// instead of sorted.
fn put_in_order(wanted: &[(u32, u32)], order: &mut Vec<(u32, u32)>) {
    let least = wanted.iter().map(|&(number, _)| number).min().unwrap_or_default();
    let of = |number: u32| ((number - least) / NEIGHBOURS) as usize;
    let most = wanted.iter().map(|&(number, _)| of(number)).max().unwrap_or_default();
    if most > wanted.len() {
        order.clear();
        order.extend_from_slice(wanted);
        order.sort_unstable();
        return;
    }
    deal_out(most + 1, || wanted.iter().map(|&entry| (of(entry.0), entry)), order);
}

/// Puts what `each` gives, the same each time it is asked, into so many lists, one behind another: each is given with the
/// number of its list. In a list they stand in the order in which they were given. Tells where each list ends.
fn deal_out<T: Copy + Default, I: Iterator<Item = (usize, T)>>(
    lists: usize,
    each: impl Fn() -> I,
    dealt: &mut Vec<T>,
) -> Vec<usize> {
    let mut ends = vec![0usize; lists];
    each().for_each(|(list, _)| ends.get_mut(list).into_iter().for_each(|count| *count += 1));
    let mut all = 0;
    for end in &mut ends {
        // From here on each is where the next of its list goes: at the end, where the list ends.
        all += std::mem::replace(end, all);
    }
    dealt.clear();
    dealt.resize(all, T::default());
    each().for_each(|(list, item)| {
        let Some(end) = ends.get_mut(list) else { return };
        if let Some(place) = dealt.get_mut(*end) {
            *place = item;
        }
        *end += 1;
    });
    ends
}

impl<'a> Gathered<'a> {
    fn of(joined: &'a Joined) -> Self {
        let (spans, chunks, wanted, order) = Default::default();
        Gathered { joined, spans, chunks, wanted, order }
    }

    /// Reads a stretch; `asked`: its place among those asked for, and its number.
    fn get_into(
        &self,
        reader: &FlowReader<'_>,
        (asked, number): (usize, u32),
        place: &mut Unpacked,
    ) -> io::Result<()> {
        let Some((chunk, from, to)) = *self.spans.get(asked).ok_or_else(missing)? else {
            return reader.piece_into(number, place);
        };
        let bytes = self.chunks.get(chunk as usize).and_then(|bytes| bytes.get(from as usize..to as usize));
        let (index, _) = reader.joined.set_of(number).ok_or_else(missing)?;
        reader.readers.get(index).ok_or_else(missing)?.unpacked(bytes.ok_or_else(missing)?, place)
    }
}

fn missing() -> io::Error {
    io::Error::other("no stretch has this number")
}

/// The one stretch that a datagram is, whatever captures its frames are of.
fn stretch_of(packet: &Packet<'_>, frames: &[(FramePoint, u32)], dns: Option<bool>) -> Option<PartialFlow> {
    let (&(point, wire_len), earlier) = frames.split_last()?;
    let mut tables: BTreeMap<CaptureId, FlowTable> = BTreeMap::new();
    let new = |capture| {
        let budget = Arc::new(Budget::new(usize::MAX));
        FlowTable::new(TableOptions { capacity: 1, budget, keep_bytes: true }, capture)
    };
    let table = tables.entry(point.capture).or_insert_with(|| new(point.capture));
    if table.observe(packet, point, wire_len, dns) != Observed::Flow {
        return None;
    }
    for &(point, wire_len) in earlier {
        let table = tables.entry(point.capture).or_insert_with(|| new(point.capture));
        table.count_earlier_fragment(packet, point, wire_len);
    }
    let mut whole: Option<PartialFlow> = None;
    for (capture, table) in tables {
        for part in table.finish().reader(capture).all().flatten() {
            match &mut whole {
                None => whole = Some(part),
                Some(whole) => whole.join(&part),
            }
        }
    }
    whole
}

pub(super) fn is_dns_over_tcp(flow: &PartialFlow) -> bool {
    flow.key.transport == Transport::Tcp
        && (flow.key.low.port == dns::PORT || flow.key.high.port == dns::PORT)
}

/// The DNS messages that a flow of TCP port 53 carries, as far as its first bytes were kept.
pub(super) fn dns_of_tcp(flow: &PartialFlow) -> Vec<DnsObservation> {
    let mut found = Vec::new();
    for side in [Side::Low, Side::High] {
        let stream = tcp_stream(flow, side);
        let (messages, _) = dns::tcp_messages(&stream.bytes);
        for (offset, bytes) in messages {
            let Some(message) = dns::parse(bytes) else { continue };
            let Some(point) = stream.complete_at(offset + bytes.len()) else { continue };
            let (src, dst) = (flow.key.endpoint(side), flow.key.endpoint(side.other()));
            let (client, resolver) = if message.response { (dst, src) } else { (src, dst) };
            if resolver.port == dns::PORT {
                found.push(DnsObservation { point, client, resolver, transport: Transport::Tcp, message });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowKey, SideFacts};
    use crate::model::Endpoint;

    /// A stretch of one packet at a time. Two neighbours have one key.
    fn lone(number: u32, time: i64) -> PartialFlow {
        let ip = IpAddr::V4((number / 2).into());
        let (key, _) =
            FlowKey::of(Transport::Udp, Endpoint::new(ip, 7), Endpoint::new([10, 0, 0, 1].into(), 9));
        let point =
            FramePoint { frame: u64::from(number) + 1, time: Timestamp(time), ..FramePoint::default() };
        let low =
            SideFacts { packets: 1, first: Some(point), last: Some(point.time), ..SideFacts::default() };
        PartialFlow { low, ..PartialFlow::new(key) }
    }

    #[test]
    fn stretches_of_one_hash_are_in_one_list_and_few_others_are() {
        let lone = |number| lone(number, 0);
        let mut joined = join(Extracted::default());
        let of = |first, pieces| Set { first, origin: Origin::default(), pieces };
        // Keys of two stretches each, some of three; of the other set each stretch is alone.
        joined.sets = vec![
            of(0, (0..20_000).map(lone).collect::<Pieces>()),
            of(20_000, (20_000..40_000).map(|number| lone(2 * number)).collect::<Pieces>()),
        ];
        joined.loose = (0..100).step_by(2).map(lone).collect();
        joined.loose_first = 40_000;
        for parts in [1, 3, 7] {
            let lists: Vec<Vec<u64>> = (0..parts).map(|part| joined.alike(part, parts)).collect();
            assert!(lists.iter().flatten().is_sorted_by(|a, b| a < b), "{parts} parts");
            let mut numbers: Vec<u32> = lists.iter().flatten().map(|&entry| entry as u32).collect();
            numbers.sort_unstable();
            let (alone, several): (Vec<u32>, Vec<u32>) =
                numbers.into_iter().partition(|number| (20_000..40_000).contains(number));
            assert!(several.into_iter().eq((0..20_000).chain(40_000..40_050)), "{parts} parts");
            assert!(alone.len() < 4_000, "{parts} parts: {}", alone.len());
        }
    }

    #[test]
    fn flows_stand_by_time_then_by_number_however_their_times_are_spread() {
        let spreads: [fn(u32) -> i64; 6] = [
            |n| i64::from(n.wrapping_mul(2_654_435_761) >> 8),
            |n| i64::from(n / 3),
            |n| -i64::from(n) * 1_000_000_007,
            |_| 5,
            // One that is far from all others, one at either end of what there is.
            |n| if n == 77 { 1 << 60 } else { i64::from(n % 100) },
            |n| [i64::MIN, i64::MAX, i64::from(n % 7)][(n % 3) as usize],
        ];
        for (spread, time) in spreads.into_iter().enumerate() {
            let lone = |number| lone(number, time(number));
            let mut joined = join(Extracted::default());
            let of = |first: u32| Set {
                first,
                origin: Origin::default(),
                pieces: (first..first + 500).map(lone).collect::<Pieces>(),
            };
            joined.sets = vec![of(0), of(500)];
            joined.loose = (1_000..1_050).map(lone).collect();
            joined.loose_first = 1_000;
            joined.members = vec![3, 500, 1_001, 1_002];
            joined.groups = [(0, 2, 40), (2, 4, time(9))]
                .map(|(from, to, at)| Group { from, to, time: Timestamp(at) })
                .into();
            let alone = (0..1_050).filter(|number| !joined.members.contains(number));
            let alone = alone.map(|number| (time(number), number));
            let mut expected: Vec<(i64, u32)> = alone.chain([(40, GROUP), (time(9), GROUP | 1)]).collect();
            expected.sort_unstable();
            for jobs in [1, 2, 5] {
                let (flows, may_be_tied) = joined.in_order_of_time(1_050, jobs);
                let times = flows.iter().map(|&flow| (joined.time(flow).0, flow.0));
                assert_eq!(times.collect::<Vec<_>>(), expected, "spread {spread}, {jobs} threads");
                let tied = expected.windows(2).any(|two| matches!(two, [a, b] if a.0 == b.0));
                assert!(may_be_tied || !tied, "spread {spread}, {jobs} threads");
            }
        }
        assert_eq!(join(Extracted::default()).in_order_of_time(0, 2), (Vec::new(), false));
        // What came in order is known to be tied, or not to be.
        for (time, tied) in
            [(|n| i64::from(n), false), (|n| i64::from(n / 2), true)] as [(fn(u32) -> i64, bool); 2]
        {
            let mut joined = join(Extracted::default());
            let pieces = (0..500).map(|number| lone(number, time(number))).collect::<Pieces>();
            joined.sets = vec![Set { first: 0, origin: Origin::default(), pieces }];
            joined.loose_first = 500;
            let (flows, may_be_tied) = joined.in_order_of_time(500, 1);
            assert_eq!((flows.len(), may_be_tied), (500, tied));
        }
    }

    #[test]
    fn a_window_holds_as_many_flows_as_fit_into_its_bytes() {
        let mut joined = join(Extracted::default());
        assert_eq!(joined.window_flows(), MOST_WINDOW_FLOWS);
        let pieces: Pieces = (0..1_000).map(|number| lone(number, 0)).collect();
        let bytes_of_one = pieces.packed_bytes() / pieces.len();
        joined.sets = vec![Set { first: 0, origin: Origin::default(), pieces }];
        assert!((1..100).contains(&bytes_of_one), "{bytes_of_one}");
        assert_eq!(joined.window_flows(), MOST_WINDOW_FLOWS);
        assert_eq!(window_of(2 * WINDOW_BYTES / MOST_WINDOW_FLOWS), MOST_WINDOW_FLOWS / 2);
        assert_eq!(window_of(WINDOW_BYTES), LEAST_WINDOW_FLOWS);
    }

    #[test]
    fn what_is_read_in_order_is_all_that_was_asked_for() {
        let scattered = |count: u32, of: u32| (0..count).map(move |n| n.wrapping_mul(2_654_435_761) % of);
        let mut order = Vec::new();
        for numbers in [
            Vec::new(),
            vec![7],
            scattered(5_000, 100_000).collect(),
            scattered(50, 1 << 30).collect::<Vec<_>>(),
        ] {
            let wanted: Vec<(u32, u32)> = numbers.into_iter().zip(0..).collect();
            put_in_order(&wanted, &mut order);
            let least = wanted.iter().min().map_or(0, |&(number, _)| number);
            assert!(order.is_sorted_by_key(|&(number, _)| (number - least) / NEIGHBOURS));
            order.sort_by_key(|&(_, place)| place);
            assert_eq!(order, wanted);
        }
    }
}
