//! All captures' rows, joined: what depends neither on site nor on rules.

use super::extract::{Extracted, Further, read_dns};
use crate::audit::CaptureSummary;
use crate::decode::{Decoded, Packet, decode_datagram};
use crate::flow::{
    Budget, Datagram, FlowKey, FlowTable, FragmentPiece, Observed, Origin, PartialFlow, Pieces, PiecesReader,
    Reassembly, Side, TableOptions, by_datagram, datagram, initiator, stitch, tcp_stream,
};
use crate::model::{CaptureId, FramePoint, Spans, Timestamp, Transport};
use crate::names::{DnsLog, DnsObservation, dns};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

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
    pub dns: DnsLog,
    pub without_flow: BTreeMap<String, u64>,
    /// Addresses to which packets were seen.
    pub reached: Vec<IpAddr>,
    sets: Vec<Set>,
    /// Stretches whose frames are of several captures, by fragments: numbered after all others.
    loose: Vec<PartialFlow>,
    loose_first: u32,
    members: Vec<u32>,
    groups: Vec<Group>,
    /// Flows: numbers of stretches that are a flow alone, or of groups, marked.
    flows: Vec<FlowNumber>,
}

/// The stretches of one capture or of a part of it, and the number of the first of them over all captures.
struct Set {
    first: u32,
    origin: Origin,
    pieces: Pieces,
}

/// A flow: a stretch by its number over all captures, or (with the highest bit) a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlowNumber(u32);

const GROUP: u32 = 1 << 31;

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
        dns: DnsLog::default(),
        without_flow: BTreeMap::new(),
        reached: Vec::new(),
        sets: Vec::new(),
        loose: Vec::new(),
        loose_first: 0,
        members: Vec::new(),
        groups: Vec::new(),
        flows: Vec::new(),
    };
    let mut fragments = Vec::new();
    for (rank, capture) in captures.into_iter().enumerate() {
        let id = CaptureId(rank as u32);
        let begin = Further { frames_before: 0, pieces: capture.pieces, dns: capture.dns };
        for Further { frames_before, mut pieces, mut dns } in std::iter::once(begin).chain(capture.further) {
            let origin = Origin { capture: id, frames_before };
            for flow in pieces.take_fragments() {
                fragments.extend(flow.fragments.into_iter().map(|mut piece| {
                    piece.point.capture = id;
                    piece.point.frame += frames_before;
                    piece
                }));
            }
            joined.sets.push(Set { first: 0, origin, pieces });
            if rank > 0 {
                dns.set_capture(id);
            }
            if frames_before > 0 {
                dns.set_frames_before(frames_before);
            }
            joined.dns.append(dns);
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

impl Joined {
    /// Puts fragments together that are spread over captures. Where some are missing, what is there of a datagram counts
    /// with the flow that its first fragment tells. Hands back how many belong to no flow, since their first is nowhere.
    fn reassemble(&mut self, mut waiting: Vec<FragmentPiece>) -> u64 {
        if waiting.is_empty() {
            return 0;
        }
        waiting.sort_by_key(|piece| piece.point);
        let mut reassembly = Reassembly::default();
        let (dns, loose) = (&mut self.dns, &mut self.loose);
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
        let shards = if (all as usize) < LEAST_SHARED { 1 } else { jobs.max(1) };
        let this = &*self;
        let stitched: Vec<io::Result<Shard>> = std::thread::scope(|scope| {
            let others: Vec<_> =
                (1..shards).map(|shard| scope.spawn(move || this.shard(shard, shards))).collect();
            let first = this.shard(0, shards);
            let others = others.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread that joins stretches failed")))
            });
            std::iter::once(first).chain(others).collect()
        });
        let mut flows: Vec<(Timestamp, FlowNumber)> = Vec::new();
        for shard in stitched {
            let mut shard = shard?;
            let (members, groups) = (self.members.len() as u32, self.groups.len() as u32);
            for (_, flow) in shard.flows.iter_mut().filter(|(_, flow)| flow.0 & GROUP != 0) {
                flow.0 += groups;
            }
            self.groups.extend(shard.groups.into_iter().map(|group| Group {
                from: group.from + members,
                to: group.to + members,
                ..group
            }));
            self.members.append(&mut shard.members);
            flows = if flows.is_empty() { shard.flows } else { merged(flows, shard.flows) };
        }
        self.flows = flows.into_iter().map(|(_, flow)| flow).collect();
        Ok(())
    }

    /// The conversations whose hashes fall into one of several equal ranges.
    fn shard(&self, shard: usize, shards: usize) -> io::Result<Shard> {
        let range = |hash: u32| (u64::from(hash) * shards as u64) >> 32 == shard as u64;
        let mut by_hash: Vec<u64> = Vec::new();
        let entry = |hash: u32, number: u32| u64::from(hash) << 32 | u64::from(number);
        let loose = self.loose.iter().map(|flow| flow.key.hash()).zip(self.loose_first..);
        by_hash.extend(loose.filter(|&(hash, _)| range(hash)).map(|(hash, number)| entry(hash, number)));
        for set in &self.sets {
            let hashes = set.pieces.hashes().iter().copied().zip(set.first..);
            by_hash.extend(hashes.filter(|&(hash, _)| range(hash)).map(|(hash, number)| entry(hash, number)));
        }
        by_hash.sort_unstable();
        let mut shard = Shard { flows: Vec::with_capacity(by_hash.len()), ..Shard::default() };
        let mut reader = FlowReader::new(self);
        let mut runs: Vec<&[u64]> = Vec::new();
        let mut waiting = 0;
        for run in by_hash.chunk_by(|a, b| a >> 32 == b >> 32) {
            if let [one] = run {
                shard.single(self, *one as u32);
                continue;
            }
            runs.push(run);
            waiting += run.len();
            if waiting >= MOST_GATHERED {
                shard.stitch(&mut reader, &runs)?;
                (runs, waiting) = (Vec::new(), 0);
            }
        }
        shard.stitch(&mut reader, &runs)?;
        drop(by_hash);
        // Stretches are cut nearly in order of time: by their numbers, few runs are to be merged.
        shard.flows.sort_unstable_by_key(|(_, flow)| flow.0);
        shard.flows.sort_by_key(|&(time, _)| time);
        Ok(shard)
    }

    fn time(&self, flow: FlowNumber) -> Timestamp {
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

    /// Whether any stretch is of TCP port 53.
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
        self.dns.extend(found);
        Ok(())
    }

    fn group(&self, flow: FlowNumber) -> Option<&[u32]> {
        let group = self.groups.get((flow.0 & !GROUP) as usize).filter(|_| flow.0 & GROUP != 0)?;
        self.members.get(group.from as usize..group.to as usize)
    }

    /// Takes all flows out, in the order of rows: first_ts, flow_id, vlan, vni, capture, first frame.
    ///
    /// # Errors
    /// As for [`Joined::stitch`].
    pub fn order(&mut self, is_service: &dyn Fn(Transport, u16) -> bool) -> io::Result<Vec<FlowNumber>> {
        let mut order = std::mem::take(&mut self.flows);
        let reader = FlowReader::sparse(self);
        let mut at = 0;
        while at < order.len() {
            let time = self.time(order[at]);
            let ties = order[at..].iter().take_while(|&&flow| self.time(flow) == time).count();
            if ties > 1 {
                let mut keyed = Vec::with_capacity(ties);
                for &number in &order[at..at + ties] {
                    let flow = reader.get(number)?;
                    let (side, _) = initiator(&flow, is_service);
                    let begin = flow.begin();
                    let capture =
                        begin.and_then(|point| self.captures.get(point.capture.0 as usize)).cloned();
                    let frame = begin.map(|point| point.frame);
                    keyed.push(((flow.key.flow_id(side), flow.vlan, flow.vni, capture, frame), number));
                }
                keyed.sort_by(|a, b| a.0.cmp(&b.0));
                for (place, (_, number)) in order[at..at + ties].iter_mut().zip(keyed) {
                    *place = number;
                }
            }
            at += ties;
        }
        Ok(order)
    }

    /// Drops what only joining and putting in order needed.
    pub fn forget_order(&mut self) {
        self.sets.iter_mut().for_each(|set| set.pieces.forget_order());
    }

    /// Drops the stretches themselves: no flow can be read any more.
    pub fn give_up_flows(&mut self) {
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

    fn piece(&self, number: u32) -> io::Result<PartialFlow> {
        if let Some(loose) = self.joined.loose(number) {
            return Ok(loose.clone());
        }
        let (index, set) = self.joined.set_of(number).ok_or_else(missing)?;
        self.readers.get(index).ok_or_else(missing)?.get(number - set.first)
    }

    /// Reads stretches by their numbers, ascending.
    fn gather(&self, numbers: Vec<u32>) -> io::Result<Gathered> {
        let (mut begins, mut bytes) = (vec![0], Vec::new());
        for &number in &numbers {
            if self.joined.loose(number).is_none() {
                let (index, set) = self.joined.set_of(number).ok_or_else(missing)?;
                self.readers.get(index).ok_or_else(missing)?.packed(number - set.first, &mut bytes)?;
            }
            begins.push(bytes.len());
        }
        Ok(Gathered { numbers, begins, bytes })
    }

    /// Hands over flows, in the order given. Where some wait in temporary files, those are read in their own order, for many
    /// flows at a time: flows come in the order in which they began, and stand in the order in which they ended, seconds or
    /// minutes later.
    ///
    /// # Errors
    /// As for [`Joined::stitch`], and what `take` answers.
    pub fn each(
        &self,
        flows: &[FlowNumber],
        take: &mut dyn FnMut(&PartialFlow) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut stretch = PartialFlow::nothing();
        if self.joined.sets.iter().all(|set| set.pieces.spilled_bytes() == 0) {
            for &flow in flows {
                self.get_into(flow, &mut stretch)?;
                take(&stretch)?;
            }
            return Ok(());
        }
        for flows in flows.chunks(WINDOW_FLOWS) {
            let members = |&flow: &FlowNumber| match self.joined.group(flow) {
                Some(members) => members.to_vec(),
                None => vec![flow.0],
            };
            let mut numbers: Vec<u32> = Vec::with_capacity(flows.len());
            for flow in flows {
                match self.joined.group(*flow) {
                    Some(members) => numbers.extend_from_slice(members),
                    None => numbers.push(flow.0),
                }
            }
            numbers.sort_unstable();
            let gathered = self.gather(numbers)?;
            for flow in flows {
                if flow.0 & GROUP == 0 && self.joined.loose(flow.0).is_none() {
                    gathered.get_into(self, flow.0, &mut stretch)?;
                    take(&stretch)?;
                    continue;
                }
                let pieces: Vec<PartialFlow> = members(flow)
                    .into_iter()
                    .map(|member| gathered.get(self, member))
                    .collect::<io::Result<_>>()?;
                take(&whole(pieces)?)?;
            }
        }
        Ok(())
    }

    /// A flow, in place of another that is no longer needed.
    ///
    /// # Errors
    /// As for [`Joined::stitch`].
    pub fn get_into(&self, flow: FlowNumber, place: &mut PartialFlow) -> io::Result<()> {
        if flow.0 & GROUP != 0 || self.joined.loose(flow.0).is_some() {
            *place = self.get(flow)?;
            return Ok(());
        }
        let (index, set) = self.joined.set_of(flow.0).ok_or_else(missing)?;
        self.readers.get(index).ok_or_else(missing)?.get_into(flow.0 - set.first, place)
    }

    /// A flow, its stretches joined.
    ///
    /// # Errors
    /// As for [`Joined::stitch`].
    pub fn get(&self, flow: FlowNumber) -> io::Result<PartialFlow> {
        let Some(members) = self.joined.group(flow) else { return self.piece(flow.0) };
        let pieces: Vec<PartialFlow> =
            members.iter().map(|&member| self.piece(member)).collect::<io::Result<_>>()?;
        whole(pieces)
    }
}

/// Stretches that are one flow.
fn whole(pieces: Vec<PartialFlow>) -> io::Result<PartialFlow> {
    stitch(pieces).into_iter().next().ok_or_else(|| io::Error::other("a flow of no stretches"))
}

/// Flows that are read at once to be handed over: 8,192, one to three megabytes for each thread. Fewer would read blocks of
/// the temporary file more often.
const WINDOW_FLOWS: usize = 1 << 13;

/// Stretches that are read at once to be held against each other: a quarter of a million, some tens of megabytes. Fewer would
/// go through the temporary file more often.
const MOST_GATHERED: usize = 1 << 18;

/// Stretches that are worth a further thread.
const LEAST_SHARED: usize = 1 << 14;

/// What one thread joined: numbers of groups and members count from its own.
#[derive(Default)]
struct Shard {
    /// Ascending by time, those of one time by number.
    flows: Vec<(Timestamp, FlowNumber)>,
    members: Vec<u32>,
    groups: Vec<Group>,
}

impl Shard {
    /// A stretch that is a flow alone.
    fn single(&mut self, joined: &Joined, number: u32) {
        let flow = FlowNumber(number);
        self.flows.push((joined.time(flow), flow));
    }

    /// Stretches whose keys have one hash, for each of several hashes: those of one key are held against each other.
    fn stitch(&mut self, reader: &mut FlowReader<'_>, runs: &[&[u64]]) -> io::Result<()> {
        // Read in the order in which they stand.
        let mut numbers: Vec<u32> =
            runs.iter().flat_map(|run| run.iter().map(|&entry| entry as u32)).collect();
        numbers.sort_unstable();
        let gathered = reader.gather(numbers)?;
        for run in runs {
            let mut by_key: BTreeMap<FlowKey, Vec<(PartialFlow, u32)>> = BTreeMap::new();
            for &entry in *run {
                let piece = gathered.get(reader, entry as u32)?;
                by_key.entry(piece.key).or_default().push((piece, entry as u32));
            }
            for mut pieces in by_key.into_values() {
                if let [(_, one)] = pieces[..] {
                    self.single(reader.joined, one);
                    continue;
                }
                pieces.sort_by_cached_key(|(piece, _)| piece.begin());
                for flow in stitched(pieces) {
                    if let [one] = flow.numbers[..] {
                        self.single(reader.joined, one);
                        continue;
                    }
                    let from = self.members.len() as u32;
                    self.members.extend(flow.numbers);
                    self.flows.push((flow.time, FlowNumber(self.groups.len() as u32 | GROUP)));
                    self.groups.push(Group { from, to: self.members.len() as u32, time: flow.time });
                }
            }
        }
        Ok(())
    }
}

/// Packed stretches by their numbers, ascending.
struct Gathered {
    numbers: Vec<u32>,
    /// Where each begins in `bytes`; one more than there are.
    begins: Vec<usize>,
    bytes: Vec<u8>,
}

impl Gathered {
    fn get(&self, reader: &FlowReader<'_>, number: u32) -> io::Result<PartialFlow> {
        if let Some(loose) = reader.joined.loose(number) {
            return Ok(loose.clone());
        }
        let mut flow = PartialFlow::nothing();
        self.get_into(reader, number, &mut flow)?;
        Ok(flow)
    }

    fn get_into(&self, reader: &FlowReader<'_>, number: u32, flow: &mut PartialFlow) -> io::Result<()> {
        let place = self.numbers.binary_search(&number).map_err(|_| missing())?;
        let bytes = self.begins.get(place).zip(self.begins.get(place + 1));
        let bytes = bytes.and_then(|(&from, &to)| self.bytes.get(from..to)).ok_or_else(missing)?;
        let (index, _) = reader.joined.set_of(number).ok_or_else(missing)?;
        reader.readers.get(index).ok_or_else(missing)?.unpacked(bytes, flow)
    }
}

fn missing() -> io::Error {
    io::Error::other("no stretch has this number")
}

/// Two lists in order of (time, number), in one.
fn merged(
    one: Vec<(Timestamp, FlowNumber)>,
    other: Vec<(Timestamp, FlowNumber)>,
) -> Vec<(Timestamp, FlowNumber)> {
    let mut all = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.into_iter().peekable(), other.into_iter().peekable());
    let key = |&(time, flow): &(Timestamp, FlowNumber)| (time, flow.0);
    while let (Some(a), Some(b)) = (one.peek(), other.peek()) {
        let next = if key(a) <= key(b) { one.next() } else { other.next() };
        all.extend(next);
    }
    all.extend(one);
    all.extend(other);
    all
}

struct Stitched {
    numbers: Vec<u32>,
    time: Timestamp,
}

/// Which stretches of one conversation, in order of their beginning, are one flow.
fn stitched(pieces: Vec<(PartialFlow, u32)>) -> Vec<Stitched> {
    let mut found: Vec<Stitched> = Vec::new();
    let mut open: Option<PartialFlow> = None;
    for (piece, number) in pieces {
        if let (Some(flow), Some(stitched)) = (&mut open, found.last_mut())
            && flow.is_continued_by(&piece)
        {
            flow.join(piece);
            stitched.numbers.push(number);
            stitched.time = flow.order_time().unwrap_or_default();
            continue;
        }
        found.push(Stitched { numbers: vec![number], time: piece.order_time().unwrap_or_default() });
        open = Some(piece);
    }
    found
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
                Some(whole) => whole.join(part),
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
