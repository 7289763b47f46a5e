//! The reduce step: all rows of all captures to flows, names and judgement.

use super::extract::{ExtractOptions, Extracted, read_dns};
use crate::audit::{Audit, CaptureSummary};
use crate::decode::{Decoded, decode_datagram};
use crate::flow::{
    Datagram, Finisher, FlowRecord, FlowTable, FragmentPiece, HostSight, Observed, PartialFlow, Reassembly,
    Side, by_datagram, datagram, stitch, tcp_stream,
};
use crate::matrix::{Matrix, Site};
use crate::model::{CaptureId, Endpoint, Spans, Transport};
use crate::names::{DnsLog, DnsObservation, Ledger, NameRow, NameSource, ServerEnds, dns};
use crate::verdict::{self, Case, VerdictRow};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What judging gives.
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
    dns: DnsLog,
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
        dns: DnsLog::default(),
        without_flow: BTreeMap::new(),
    };
    let mut pieces = Vec::with_capacity(captures.iter().map(|capture| capture.pieces.len()).sum());
    for (rank, mut capture) in captures.into_iter().enumerate() {
        let id = CaptureId(rank as u32);
        if rank > 0 {
            capture.pieces.iter_mut().for_each(|piece| piece.renumber(|_| id));
            capture.dns.set_capture(id);
        }
        pieces.append(&mut capture.pieces);
        joined.dns.append(capture.dns);
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
    joined.dns.extend(joined.flows.iter().flat_map(dns_over_tcp));
    joined
}

/// Puts fragments together that are spread over captures. Where some are missing, what is there of a datagram counts with
/// the flow that its first fragment tells. Hands back how many belong to no flow, since their first is nowhere.
fn reassemble(fragments: Vec<PartialFlow>, dns: &mut DnsLog, pieces: &mut Vec<PartialFlow>) -> u64 {
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
        let response = if datagram.whole { read_dns(&packet, point, dns) } else { None };
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

fn records(
    joined: &Joined,
    host_of: &dyn Fn(IpAddr) -> IpAddr,
    is_service: &dyn Fn(Transport, u16) -> bool,
) -> Vec<FlowRecord> {
    let sight = HostSight::of(&joined.flows, host_of);
    let finisher =
        Finisher { spans: &joined.spans, sight: &sight, host_of, is_service, captures: &joined.captures };
    let mut records: Vec<FlowRecord> = joined.flows.iter().map(|flow| finisher.finish(flow)).collect();
    records.sort_by(|a, b| {
        (a.first_ts, &a.flow_id, a.vlan, a.vni, &a.capture, a.begin)
            .cmp(&(b.first_ts, &b.flow_id, b.vlan, b.vni, &b.capture, b.begin))
    });
    records
}

/// Rows of the names table: each response, each query that nobody answered, each server name.
fn name_rows(joined: &Joined, records: &[FlowRecord], ledger: &Ledger) -> Vec<NameRow> {
    let name = |id: CaptureId| joined.captures.get(id.0 as usize).cloned().unwrap_or_else(|| Arc::from(""));
    let mut rows: Vec<NameRow> = Vec::new();
    for row in ledger.rows() {
        rows.push(NameRow::of_dns(&row.observation(), name(row.point.capture), row.matched));
    }
    for record in records {
        let Some(point) = record.named_at else { continue };
        let (source, text) = match (&record.server_name, &record.http_host) {
            (Some(name), _) if record.proto == Transport::Udp => (NameSource::Quic, name.to_string()),
            (Some(name), _) => (NameSource::Tls, name.to_string()),
            (None, Some(host)) => (NameSource::Http, host.clone()),
            (None, None) => continue,
        };
        let ends = ServerEnds {
            client: Endpoint::new(record.initiator_ip, record.initiator_port),
            server: Endpoint::new(record.responder_ip, record.responder_port),
            transport: record.proto,
        };
        rows.push(NameRow::of_server(source, text, point, name(point.capture), &ends));
    }
    rows.sort_by(|a, b| (a.ts, &a.capture, a.frame, a.source).cmp(&(b.ts, &b.capture, b.frame, b.source)));
    rows
}

/// Counts the rows of each capture: what the mapper counted are stretches and messages.
fn recount(inputs: &mut [CaptureSummary], records: &[FlowRecord], names: &[NameRow]) {
    let mut counts: BTreeMap<Arc<str>, (u64, u64)> = BTreeMap::new();
    for record in records {
        counts.entry(record.capture.clone()).or_default().0 += 1;
    }
    for name in names {
        counts.entry(name.capture.clone()).or_default().1 += 1;
    }
    for input in inputs {
        (input.flows, input.names) = counts.get(&input.path).copied().unwrap_or_default();
    }
}

/// Whole flows and names for people and tools: no site, no rules.
pub fn whole(extracted: Extracted) -> (Vec<FlowRecord>, Vec<NameRow>, Vec<CaptureSummary>) {
    let mut joined = join(extracted);
    let records = records(&joined, &|ip| ip, &|_, _| false);
    let begin = joined.spans.range().map(|(first, _)| first);
    let ledger = Ledger::new(std::mem::take(&mut joined.dns), &|ip| ip, &|_| true, begin);
    let names = name_rows(&joined, &records, &ledger);
    recount(&mut joined.inputs, &records, &names);
    (records, names, joined.inputs)
}

/// Holds everything against the rules of a site.
pub fn judge(extracted: Extracted, matrix: &Matrix, site: &Site) -> Judged {
    let unreadable = extracted.unreadable.clone();
    let mut joined = join(extracted);
    let host_of = |ip: IpAddr| site.host_of(ip);
    let is_service = |transport: Transport, port: u16| matrix.names_port(transport, port);
    let records = records(&joined, &host_of, &is_service);
    let begin = joined.spans.range().map(|(first, _)| first);
    let trusted = |ip: IpAddr| site.is_resolver(ip);
    let ledger = Ledger::new(std::mem::take(&mut joined.dns), &host_of, &trusted, begin);
    let names = name_rows(&joined, &records, &ledger);
    recount(&mut joined.inputs, &records, &names);
    let case = Case {
        matrix,
        site,
        ledger: &ledger,
        inputs: joined.inputs,
        unreadable,
        captures: &joined.captures,
        spans: &joined.spans,
        without_flow: joined.without_flow,
    };
    let (audit, rows) = verdict::judge(case, records);
    Judged { audit, rows, names }
}
