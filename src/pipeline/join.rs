//! All captures' rows, joined: what depends neither on site nor on rules.

use super::extract::{Extracted, read_dns};
use crate::audit::CaptureSummary;
use crate::decode::{Decoded, Packet, decode_datagram};
use crate::flow::{
    Budget, Datagram, FlowTable, FragmentPiece, Observed, PartialFlow, Pieces, PiecesReader, Reassembly,
    Side, TableOptions, by_datagram, datagram, initiator, stitch, tcp_stream,
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

/// The stretches of one capture, and the number of the first of them over all captures.
struct Set {
    first: u32,
    capture: CaptureId,
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

/// Ranks the captures by (time of first frame, name), numbers all points by rank, and stitches.
///
/// # Errors
/// Stretches that were put aside in a temporary file cannot be read.
pub(super) fn join(extracted: Extracted) -> io::Result<Joined> {
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
    for (rank, mut capture) in captures.into_iter().enumerate() {
        let id = CaptureId(rank as u32);
        if rank > 0 {
            capture.dns.set_capture(id);
        }
        for mut flow in capture.pieces.take_fragments() {
            flow.renumber(|_| id);
            fragments.extend(flow.fragments);
        }
        joined.sets.push(Set { first: 0, capture: id, pieces: capture.pieces });
        joined.dns.append(capture.dns);
        joined.spans.merge(&capture.summary.spans);
        joined.captures.push(capture.summary.path.clone());
        joined.inputs.push(capture.summary);
    }
    let over = joined.reassemble(fragments);
    if over > 0 {
        joined.without_flow.insert("fragment-without-first".to_owned(), over);
    }
    joined.stitch()?;
    joined.dns_over_tcp()?;
    let mut reached: Vec<IpAddr> = joined.sets.iter().flat_map(|set| set.pieces.reached()).collect();
    for flow in &joined.loose {
        let to = |side: Side| (flow.side(side).packets > 0).then(|| flow.key.endpoint(side.other()).ip);
        reached.extend([Side::Low, Side::High].into_iter().filter_map(to));
    }
    reached.sort_unstable();
    reached.dedup();
    joined.reached = reached;
    Ok(joined)
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

    /// Finds the stretches of each conversation, and joins those that are one flow.
    fn stitch(&mut self) -> io::Result<()> {
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
        let mut by_hash: Vec<u64> = Vec::with_capacity(all as usize);
        let numbered = self.loose.iter().zip(first..);
        by_hash.extend(numbered.map(|(flow, number)| u64::from(flow.key.hash()) << 32 | u64::from(number)));
        for set in &self.sets {
            let numbered = set.pieces.hashes().iter().zip(set.first..);
            by_hash.extend(numbered.map(|(&hash, number)| u64::from(hash) << 32 | u64::from(number)));
        }
        by_hash.sort_unstable();
        let mut flows = Vec::with_capacity(by_hash.len());
        let (mut members, mut groups) = (Vec::new(), Vec::new());
        {
            let reader = FlowReader::sparse(self);
            for run in by_hash.chunk_by(|a, b| a >> 32 == b >> 32) {
                if let [one] = run {
                    flows.push(FlowNumber(*one as u32));
                } else {
                    reader.stitch_run(run, &mut flows, &mut members, &mut groups)?;
                }
            }
        }
        (self.members, self.groups, self.flows) = (members, groups, flows);
        self.flows.sort_unstable_by_key(|flow| flow.0);
        let mut flows = std::mem::take(&mut self.flows);
        // Stretches are cut nearly in order of time: few runs are merged.
        flows.sort_by_key(|&flow| self.time(flow));
        self.flows = flows;
        Ok(())
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

    /// DNS messages on TCP port 53: both directions reassembled, each message dated by the frame that completed it.
    fn dns_over_tcp(&mut self) -> io::Result<()> {
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

    /// All flows in the order of rows: first_ts, flow_id, vlan, vni, capture, first frame.
    ///
    /// # Errors
    /// As for [`join`].
    pub fn order(&self, is_service: &dyn Fn(Transport, u16) -> bool) -> io::Result<Vec<FlowNumber>> {
        let mut order = self.flows.clone();
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
}

impl<'a> FlowReader<'a> {
    /// For all flows, in the order of rows.
    pub fn new(joined: &'a Joined) -> Self {
        let readers = joined.sets.iter().map(|set| set.pieces.reader(set.capture)).collect();
        FlowReader { joined, readers }
    }

    /// For a few of them, in any order.
    fn sparse(joined: &'a Joined) -> Self {
        let readers = joined.sets.iter().map(|set| set.pieces.sparse_reader(set.capture)).collect();
        FlowReader { joined, readers }
    }

    fn piece(&self, number: u32) -> io::Result<PartialFlow> {
        if let Some(loose) = self.joined.loose(number) {
            return Ok(loose.clone());
        }
        let missing = || io::Error::other("no stretch has this number");
        let (index, set) = self.joined.set_of(number).ok_or_else(missing)?;
        self.readers.get(index).ok_or_else(missing)?.get(number - set.first)
    }

    /// A flow, in place of another that is no longer needed.
    ///
    /// # Errors
    /// As for [`join`].
    pub fn get_into(&self, flow: FlowNumber, place: &mut PartialFlow) -> io::Result<()> {
        if flow.0 & GROUP != 0 || self.joined.loose(flow.0).is_some() {
            *place = self.get(flow)?;
            return Ok(());
        }
        let missing = || io::Error::other("no stretch has this number");
        let (index, set) = self.joined.set_of(flow.0).ok_or_else(missing)?;
        self.readers.get(index).ok_or_else(missing)?.get_into(flow.0 - set.first, place)
    }

    /// A flow, its stretches joined.
    ///
    /// # Errors
    /// As for [`join`].
    pub fn get(&self, flow: FlowNumber) -> io::Result<PartialFlow> {
        let Some(members) = self.joined.group(flow) else { return self.piece(flow.0) };
        let pieces: Vec<PartialFlow> =
            members.iter().map(|&member| self.piece(member)).collect::<io::Result<_>>()?;
        let mut flows = stitch(pieces).into_iter();
        flows.next().ok_or_else(|| io::Error::other("a flow of no stretches"))
    }

    /// Stretches whose keys have one hash: those of one key are held against each other.
    fn stitch_run(
        &self,
        run: &[u64],
        flows: &mut Vec<FlowNumber>,
        members: &mut Vec<u32>,
        groups: &mut Vec<Group>,
    ) -> io::Result<()> {
        let mut by_key: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        for &entry in run {
            let number = entry as u32;
            if let Some(loose) = self.joined.loose(number) {
                by_key.entry(loose.key).or_default().push(number);
                continue;
            }
            let missing = || io::Error::other("no stretch has this number");
            let (index, set) = self.joined.set_of(number).ok_or_else(missing)?;
            let reader = self.readers.get(index).ok_or_else(missing)?;
            by_key.entry(reader.key(number - set.first)?).or_default().push(number);
        }
        for numbers in by_key.into_values() {
            if let [one] = numbers[..] {
                flows.push(FlowNumber(one));
                continue;
            }
            let mut pieces = Vec::with_capacity(numbers.len());
            for &number in &numbers {
                pieces.push((self.piece(number)?, number));
            }
            pieces.sort_by_cached_key(|(piece, _)| piece.begin());
            for flow in stitched(pieces) {
                if let [one] = flow.numbers[..] {
                    flows.push(FlowNumber(one));
                    continue;
                }
                let from = members.len() as u32;
                members.extend(flow.numbers);
                flows.push(FlowNumber(groups.len() as u32 | GROUP));
                groups.push(Group { from, to: members.len() as u32, time: flow.time });
            }
        }
        Ok(())
    }
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
