//! The reduce step: all rows of all captures to flows, names and judgement.

use super::extract::{ExtractOptions, Extracted, dns_message};
use crate::audit::{Audit, CaptureSummary, Unreadable};
use crate::decode::{Decoded, decode_datagram};
use crate::flow::{
    Datagram, Finisher, Flow, FlowRecord, FlowTable, FragmentPiece, HostSight, Observed, PartialFlow,
    Reassembly, RowOrder, Side, by_datagram, capture_name, datagram, stitch, tcp_stream,
};
use crate::matrix::{Matrix, Site};
use crate::model::{CaptureId, FramePoint, Spans, Transport};
use crate::names::{DnsObservation, Ledger, NameRow, NameSource, ServerEnds, dns};
use crate::verdict::{Case, Judge, VerdictRow};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// Takes rows, one by one, in their order.
pub type Sink<'s, R> = &'s mut dyn FnMut(R) -> io::Result<()>;

/// Everything judged at once, rows and all: for tests and for small captures. See [`Judging`] for the rest.
#[derive(Debug)]
pub struct Judged {
    /// Everything that a report may say.
    pub audit: Audit,
    /// Each judged flow.
    pub rows: Vec<VerdictRow>,
    /// Each DNS response, unanswered query and server name.
    pub names: Vec<NameRow>,
}

/// All captures' rows, joined: what does not depend on site or rules.
struct Joined {
    inputs: Vec<CaptureSummary>,
    captures: Vec<Arc<str>>,
    spans: Spans,
    flows: Vec<PartialFlow>,
    dns: Vec<DnsObservation>,
    without_flow: BTreeMap<String, u64>,
}

/// Ranks the captures by (time of first frame, name), numbers all points by rank, and stitches.
fn join(extracted: Extracted) -> Joined {
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
        flows: Vec::new(),
        dns: Vec::new(),
        without_flow: BTreeMap::new(),
    };
    let mut pieces = Vec::with_capacity(captures.iter().map(|capture| capture.pieces.len()).sum());
    for (rank, mut capture) in captures.into_iter().enumerate() {
        let id = CaptureId(rank as u32);
        if rank > 0 {
            capture.pieces.iter_mut().for_each(|piece| piece.renumber(|_| id));
            capture.dns.iter_mut().for_each(|observation| observation.point.capture = id);
        }
        pieces.append(&mut capture.pieces);
        joined.dns.append(&mut capture.dns);
        joined.spans.merge(&capture.summary.spans);
        joined.captures.push(capture.summary.path.clone());
        joined.inputs.push(capture.summary);
    }
    let (fragments, mut pieces): (Vec<_>, Vec<_>) =
        pieces.into_iter().partition(|piece| !piece.fragments.is_empty());
    let over = reassemble(fragments, &mut joined.dns, &mut pieces);
    if over > 0 {
        joined.without_flow.insert("fragment-without-first".to_owned(), over);
    }
    joined.flows = stitch(pieces);
    let over_tcp: Vec<DnsObservation> = joined.flows.iter().flat_map(dns_over_tcp).collect();
    joined.dns.extend(over_tcp);
    joined.dns.sort_by_key(|observation| observation.point);
    joined
}

/// Puts fragments together that are spread over captures. Where some are missing, what is there of a datagram counts with
/// the flow that its first fragment tells. Hands back how many belong to no flow, since their first is nowhere.
fn reassemble(
    fragments: Vec<PartialFlow>,
    dns: &mut Vec<DnsObservation>,
    pieces: &mut Vec<PartialFlow>,
) -> u64 {
    let mut waiting: Vec<FragmentPiece> = fragments.into_iter().flat_map(|piece| piece.fragments).collect();
    waiting.sort_by_key(|piece| piece.point);
    let mut table = FlowTable::new(ExtractOptions::TABLE_CAPACITY);
    let mut reassembly = Reassembly::default();
    let mut observe = |datagram: &Datagram| -> bool {
        let (Decoded::Packet(packet), Some(&(point, _))) =
            (decode_datagram(&datagram.head, &datagram.bytes), datagram.frames.last())
        else {
            return false;
        };
        let message = if datagram.whole { dns_message(&packet, point) } else { None };
        let response = message.as_ref().map(|message| message.message.response);
        dns.extend(message);
        table.observe_datagram(&packet, &datagram.frames, response) == Observed::Flow
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
    pieces.extend(table.finish());
    over
}

/// DNS messages on TCP port 53: both directions reassembled, each message dated by the frame that completed it.
fn dns_over_tcp(flow: &PartialFlow) -> Vec<DnsObservation> {
    let mut found = Vec::new();
    let ports = [flow.key.low.port, flow.key.high.port];
    if flow.key.transport != Transport::Tcp || !ports.contains(&dns::PORT) {
        return found;
    }
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

/// All captures' rows, joined and put in order: flows and names can be had from it one by one, as often as is wanted.
pub struct Reduction<'a> {
    joined: Joined,
    /// Places of the flows, in the order of rows.
    order: Vec<usize>,
    sight: HostSight,
    ledger: Ledger,
    unreadable: Vec<Unreadable>,
    policy: Option<(&'a Matrix, &'a Site)>,
    services: Services,
    inputs: OnceCell<Vec<CaptureSummary>>,
}

/// Whether a port is a service's, found once for each port that comes.
type Services = RefCell<HashMap<(Transport, u16), bool, RandomState>>;

/// How many rows of each kind a capture gave, by its number.
struct Counts(Vec<(u64, u64)>);

impl Counts {
    fn flow(&mut self, flow: &Flow<'_>) {
        if let Some((flows, _)) = flow.begin().and_then(|at| self.0.get_mut(at.capture.0 as usize)) {
            *flows += 1;
        }
        if let Some((.., point)) = server_name(flow) {
            self.name(point);
        }
    }

    fn name(&mut self, point: FramePoint) {
        if let Some((_, names)) = self.0.get_mut(point.capture.0 as usize) {
            *names += 1;
        }
    }
}

/// The name that a client announced in a flow, and where.
fn server_name<'f>(flow: &'f Flow<'_>) -> Option<(NameSource, &'f str, FramePoint)> {
    let point = flow.named_at()?;
    match (flow.server_name(), flow.http_host()) {
        (Some(name), _) if flow.proto == Transport::Udp => Some((NameSource::Quic, name.as_str(), point)),
        (Some(name), _) => Some((NameSource::Tls, name.as_str(), point)),
        (None, Some(host)) => Some((NameSource::Http, host, point)),
        (None, None) => None,
    }
}

impl<'a> Reduction<'a> {
    /// Joins what was extracted, without rules and a site.
    pub fn new(extracted: Extracted) -> Self {
        Reduction::joined(extracted, None)
    }

    fn joined(extracted: Extracted, policy: Option<(&'a Matrix, &'a Site)>) -> Self {
        let unreadable = extracted.unreadable.clone();
        let joined = join(extracted);
        let host_of = |ip: IpAddr| policy.map_or(ip, |(_, site)| site.host_of(ip));
        let services = Services::default();
        let (mut sight, mut order) = (HostSight::default(), RowOrder::default());
        for flow in &joined.flows {
            sight.add(flow, &host_of);
            order.add(flow);
        }
        let is_service = |transport, port| is_service(policy, &services, transport, port);
        let order = order.sort(&is_service, &joined.captures, |place| joined.flows.get(place));
        let begin = joined.spans.range().map(|(first, _)| first);
        let trusted = |ip: IpAddr| policy.is_none_or(|(_, site)| site.is_resolver(ip));
        let ledger = Ledger::new(&joined.dns, &host_of, &trusted, begin);
        Reduction { joined, order, sight, ledger, unreadable, policy, services, inputs: OnceCell::new() }
    }

    /// Hands over all flows, in the order of rows.
    fn flows(&self, take: &mut dyn FnMut(&Flow<'_>) -> io::Result<()>) -> io::Result<()> {
        let host_of = |ip: IpAddr| self.policy.map_or(ip, |(_, site)| site.host_of(ip));
        let is_service = |transport, port| is_service(self.policy, &self.services, transport, port);
        let finisher = Finisher {
            spans: &self.joined.spans,
            sight: &self.sight,
            host_of: &host_of,
            is_service: &is_service,
        };
        let flows = self.order.iter().filter_map(|&place| self.joined.flows.get(place));
        flows.map(|flow| finisher.finish(flow)).try_for_each(|flow| take(&flow))
    }

    /// The rows of whole flows.
    ///
    /// # Errors
    /// What `sink` answers.
    pub fn flow_rows(&self, sink: Sink<'_, FlowRecord>) -> io::Result<()> {
        self.flows(&mut |flow| sink(flow.record(&self.joined.captures)))
    }

    /// The rows of the names table: each response, each query that nobody answered, each server name.
    ///
    /// # Errors
    /// What `sink` answers.
    pub fn name_rows(&self, sink: Sink<'_, NameRow>) -> io::Result<()> {
        let name = |id: CaptureId| capture_name(&self.joined.captures, id);
        let mut servers: Vec<NameRow> = Vec::new();
        self.flows(&mut |flow| {
            if let Some((source, text, point)) = server_name(flow) {
                let ends = ServerEnds { client: flow.from, server: flow.to, transport: flow.proto };
                let capture = name(point.capture);
                servers.push(NameRow::of_server(source, text.to_owned(), point, capture, &ends));
            }
            Ok(())
        })?;
        let messages: Vec<(&DnsObservation, bool)> = self.messages().collect();
        // What is put in order is a handle; rows of messages are made when their turn comes.
        let of_message = messages.iter().map(|(observation, _)| {
            let source = if observation.message.response { NameSource::Dns } else { NameSource::DnsQuery };
            let point = observation.point;
            (point.time, name(point.capture), point.frame, source)
        });
        let of_server = servers.iter().map(|row| (row.ts, row.capture.clone(), row.frame, row.source));
        let mut handles: Vec<_> = of_message.chain(of_server).zip(0..).collect();
        handles.sort_unstable();
        for ((_, capture, ..), place) in handles {
            let message: Option<&(&DnsObservation, bool)> = messages.get(place);
            let server = || servers.get(place - messages.len()).cloned();
            let row = match message {
                Some((observation, matched)) => Some(NameRow::of_dns(observation, capture, *matched)),
                None => server(),
            };
            row.map_or(Ok(()), &mut *sink)?;
        }
        Ok(())
    }

    /// The DNS messages that have rows, and whether a response answers a query.
    fn messages(&self) -> impl Iterator<Item = (&DnsObservation, bool)> {
        // The ledger holds answers and queries in the order of the (sorted) observations.
        let mut answers = self.ledger.answers().iter();
        let mut queries = self.ledger.queries().iter();
        self.joined.dns.iter().filter_map(move |observation| {
            if observation.message.response {
                Some((observation, answers.next().is_some_and(|answer| answer.matched)))
            } else {
                let asks = observation.message.qname.is_some();
                (asks && !queries.next().is_some_and(|query| query.answered)).then_some((observation, false))
            }
        })
    }

    /// The captures, in the order in which their frames were taken, with how many rows each gave: what the mapper counted
    /// are stretches and messages.
    pub fn inputs(&self) -> &[CaptureSummary] {
        self.inputs.get_or_init(|| {
            let mut counts = self.counts();
            // No answer of this sink is an error.
            let _ = self.flows(&mut |flow| {
                counts.flow(flow);
                Ok(())
            });
            self.counted(&counts)
        })
    }

    /// Counts of the rows of DNS messages.
    fn counts(&self) -> Counts {
        let mut counts = Counts(vec![(0, 0); self.joined.captures.len()]);
        self.messages().for_each(|(observation, _)| counts.name(observation.point));
        counts
    }

    fn counted(&self, counts: &Counts) -> Vec<CaptureSummary> {
        // Captures of the same name count together, as their rows cannot be told apart.
        let mut by_name: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (name, (flows, names)) in self.joined.captures.iter().zip(&counts.0) {
            let sum = by_name.entry(name).or_default();
            *sum = (sum.0 + flows, sum.1 + names);
        }
        let mut inputs = self.joined.inputs.clone();
        for input in &mut inputs {
            (input.flows, input.names) = by_name.get(&*input.path).copied().unwrap_or_default();
        }
        inputs
    }
}

/// A reduction that is held against the rules of a site.
pub struct Judging<'a> {
    reduction: Reduction<'a>,
    matrix: &'a Matrix,
    site: &'a Site,
}

impl<'a> Judging<'a> {
    /// Joins what was extracted, for these rules and this site.
    pub fn new(extracted: Extracted, matrix: &'a Matrix, site: &'a Site) -> Self {
        Judging { reduction: Reduction::joined(extracted, Some((matrix, site))), matrix, site }
    }

    /// What was joined: the captures, the rows of names.
    pub fn reduction(&self) -> &Reduction<'a> {
        &self.reduction
    }

    /// Holds all flows against the rules; rows are made only for a sink.
    ///
    /// # Errors
    /// What the sink answers.
    pub fn audit(&self, mut rows: Option<Sink<'_, VerdictRow>>) -> io::Result<Audit> {
        let Reduction { joined, ledger, unreadable, inputs, .. } = &self.reduction;
        let case = Case {
            matrix: self.matrix,
            site: self.site,
            ledger,
            unreadable,
            captures: &joined.captures,
            spans: &joined.spans,
            without_flow: &joined.without_flow,
        };
        let mut judge = Judge::new(&case);
        let mut counts = self.reduction.counts();
        self.reduction.flows(&mut |flow| {
            counts.flow(flow);
            match &mut rows {
                Some(sink) => judge.row(flow).map_or(Ok(()), sink),
                None => {
                    judge.flow(flow);
                    Ok(())
                }
            }
        })?;
        let inputs = inputs.get_or_init(|| self.reduction.counted(&counts));
        Ok(judge.finish(inputs.clone()))
    }
}

fn is_service(
    policy: Option<(&Matrix, &Site)>,
    services: &Services,
    transport: Transport,
    port: u16,
) -> bool {
    let Some((matrix, _)) = policy else { return false };
    let mut services = services.borrow_mut();
    *services.entry((transport, port)).or_insert_with(|| matrix.names_port(transport, port))
}

/// Holds everything against the rules of a site, rows and all.
pub fn judge(extracted: Extracted, matrix: &Matrix, site: &Site) -> Judged {
    let judging = Judging::new(extracted, matrix, site);
    let (mut rows, mut names) = (Vec::new(), Vec::new());
    let kept = judging.audit(Some(&mut |row| {
        rows.push(row);
        Ok(())
    }));
    let named = judging.reduction().name_rows(&mut |row| {
        names.push(row);
        Ok(())
    });
    match kept.and_then(|audit| named.map(|()| audit)) {
        Ok(audit) => Judged { audit, rows, names },
        Err(error) => unreachable!("a vector takes every row: {error}"),
    }
}
