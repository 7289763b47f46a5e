//! The reduce step: all rows of all captures to flows, names and judgement.

use super::extract::Extracted;
use super::join::{FlowReader, Joined, join};
use crate::audit::{Audit, CaptureSummary};
use crate::flow::{Finisher, FlowRecord, HostSight};
use crate::matrix::{Matrix, Site};
use crate::model::{CaptureId, Endpoint, Transport};
use crate::names::{Ledger, NameRow, NameSource, ServerEnds};
use crate::verdict::{self, Case, VerdictRow};
use std::collections::BTreeMap;
use std::io;
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

fn records(
    joined: &Joined,
    host_of: &dyn Fn(IpAddr) -> IpAddr,
    is_service: &dyn Fn(Transport, u16) -> bool,
) -> io::Result<Vec<FlowRecord>> {
    let sight = HostSight::of_reached(joined.reached.iter().copied(), host_of);
    let finisher =
        Finisher { spans: &joined.spans, sight: &sight, host_of, is_service, captures: &joined.captures };
    let reader = FlowReader::new(joined);
    let order = joined.order(is_service)?;
    order.into_iter().map(|flow| Ok(finisher.finish(&reader.get(flow)?))).collect()
}

/// Rows of the names table: each response, each query that nobody answered, each server name.
fn name_rows(joined: &Joined, records: &[FlowRecord], ledger: &Ledger) -> Vec<NameRow> {
    let name = |id: CaptureId| joined.captures.get(id.0 as usize).cloned().unwrap_or_else(|| Arc::from(""));
    let mut rows: Vec<NameRow> = Vec::new();
    for (observation, matched) in ledger.rows() {
        rows.push(NameRow::of_dns(&observation, name(observation.point.capture), matched));
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
///
/// # Errors
/// Stretches that were put aside in a temporary file cannot be read.
pub fn whole(extracted: Extracted) -> io::Result<(Vec<FlowRecord>, Vec<NameRow>, Vec<CaptureSummary>)> {
    let mut joined = join(extracted)?;
    let records = records(&joined, &|ip| ip, &|_, _| false)?;
    let begin = joined.spans.range().map(|(first, _)| first);
    let ledger = Ledger::new(std::mem::take(&mut joined.dns), &|ip| ip, &|_| true, begin);
    let names = name_rows(&joined, &records, &ledger);
    recount(&mut joined.inputs, &records, &names);
    Ok((records, names, joined.inputs))
}

/// Holds everything against the rules of a site.
///
/// # Errors
/// As for [`whole`].
pub fn judge(extracted: Extracted, matrix: &Matrix, site: &Site) -> io::Result<Judged> {
    let unreadable = extracted.unreadable.clone();
    let mut joined = join(extracted)?;
    let host_of = |ip: IpAddr| site.host_of(ip);
    let is_service = |transport: Transport, port: u16| matrix.names_port(transport, port);
    let records = records(&joined, &host_of, &is_service)?;
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
    Ok(Judged { audit, rows, names })
}
