//! Partial rows: what the map step writes and the reduce step reads.

use super::{Format, StoreError, read_json_lines, read_summaries};
use crate::audit::CaptureSummary;
use crate::flow::{InitiatorBy, PartialFlow, initiator};
use crate::model::{CaptureId, DomainName, Timestamp, Transport};
use crate::names::{AliasRow, DnsLog, DnsObservation, NameRow, NameSource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// One stretch of a conversation: columns as in whole flow rows, as far as the stretch alone can fill them, and the
/// mergeable value itself. Who began is provisional: the reduce step decides anew, on the whole flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartialFlowRow {
    /// Community ID v1.
    pub flow_id: String,
    /// The capture that the stretch is of.
    pub capture: Arc<str>,
    /// Who began, as far as this stretch shows.
    pub initiator_ip: IpAddr,
    /// Its port.
    pub initiator_port: u16,
    /// With whom.
    pub responder_ip: IpAddr,
    /// Its port.
    pub responder_port: u16,
    /// The transport.
    pub proto: Transport,
    /// How the initiator is known.
    pub initiator_by: InitiatorBy,
    /// VLAN of the first frame.
    pub vlan: Option<u16>,
    /// Virtual network identifier of the first frame.
    pub vni: Option<u32>,
    /// Earliest time.
    pub first_ts: Timestamp,
    /// Latest time.
    pub last_ts: Timestamp,
    /// Frames from the initiator.
    pub packets_fwd: u64,
    /// Frames to the initiator.
    pub packets_rev: u64,
    /// Wire length of the frames from the initiator, bytes.
    pub bytes_fwd: u64,
    /// Wire length of the frames to the initiator, bytes.
    pub bytes_rev: u64,
    /// TCP or UDP payload from the initiator, bytes.
    pub payload_fwd: u64,
    /// TCP or UDP payload to the initiator, bytes.
    pub payload_rev: u64,
    /// SYN transmissions of the initiator, duplicates left out.
    pub syn_count: u32,
    /// Initial sequence number of the initiator, where its SYN was seen.
    pub isn_fwd: Option<u32>,
    /// Initial sequence number of the responder, where its SYN-ACK was seen.
    pub isn_rev: Option<u32>,
    /// Frame of the initiator's first FIN.
    pub fin_fwd: Option<u64>,
    /// Frame of the responder's first FIN.
    pub fin_rev: Option<u64>,
    /// Frame of the initiator's first RST.
    pub reset_fwd: Option<u64>,
    /// Frame of the responder's first RST.
    pub reset_rev: Option<u64>,
    /// Frame numbers in `capture` that it rests on: SYN, SYN-ACK, first payloads, FIN, RST, ICMP errors.
    pub frames: Vec<u64>,
    /// The stretch as a mergeable value, JSON.
    pub partial: String,
}

impl PartialFlowRow {
    /// The row of a stretch seen in `capture`.
    pub fn of(piece: &PartialFlow, capture: &Arc<str>) -> Self {
        let (side, initiator_by) = initiator(piece, &|_, _| false);
        let (from, to) = (piece.key.endpoint(side), piece.key.endpoint(side.other()));
        let (fwd, rev) = (piece.side(side), piece.side(side.other()));
        let mut frames: Vec<u64> = [fwd, rev]
            .into_iter()
            .flat_map(|facts| {
                [
                    facts.syn.map(|syn| syn.first),
                    facts.syn_ack.map(|syn_ack| syn_ack.first),
                    facts.first,
                    facts.data,
                    facts.fin,
                    facts.reset.map(|reset| reset.first),
                ]
            })
            .flatten()
            .chain(piece.quotes.iter().map(|quote| quote.point))
            .map(|point| point.frame)
            .collect();
        frames.sort_unstable();
        frames.dedup();
        let begin = piece.begin().map(|point| point.time).unwrap_or_default();
        PartialFlowRow {
            flow_id: piece.key.flow_id(side),
            capture: capture.clone(),
            initiator_ip: from.ip,
            initiator_port: from.port,
            responder_ip: to.ip,
            responder_port: to.port,
            proto: piece.key.transport,
            initiator_by,
            vlan: piece.vlan,
            vni: piece.vni,
            first_ts: begin,
            last_ts: piece.latest().unwrap_or(begin),
            packets_fwd: fwd.packets,
            packets_rev: rev.packets,
            bytes_fwd: fwd.bytes,
            bytes_rev: rev.bytes,
            payload_fwd: fwd.payload,
            payload_rev: rev.payload,
            syn_count: fwd.syn.map_or(0, |syn| syn.count),
            isn_fwd: fwd.syn.map(|syn| syn.isn),
            isn_rev: rev.syn_ack.map(|syn_ack| syn_ack.isn),
            fin_fwd: fwd.fin.map(|point| point.frame),
            fin_rev: rev.fin.map(|point| point.frame),
            reset_fwd: fwd.reset.map(|reset| reset.first.frame),
            reset_rev: rev.reset.map(|reset| reset.first.frame),
            frames,
            partial: json_text(piece),
        }
    }
}

/// One DNS message, queries included: columns as in whole name rows, and the message itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartialNameRow {
    /// `dns` for a response, `dns-query` for a query.
    pub source: NameSource,
    /// When.
    pub ts: Timestamp,
    /// In which capture.
    pub capture: Arc<str>,
    /// Who asked.
    pub client_ip: IpAddr,
    /// Its port.
    pub client_port: u16,
    /// Who was asked.
    pub resolver_ip: Option<IpAddr>,
    /// Over which transport.
    pub transport: Transport,
    /// The message's identifier.
    pub dns_id: Option<u16>,
    /// The response code; none for a query.
    pub rcode: Option<u16>,
    /// The name asked for.
    pub qname: Option<DomainName>,
    /// The type asked for.
    pub qtype: Option<String>,
    /// IPv4 addresses of the answer.
    pub a: Vec<IpAddr>,
    /// IPv6 addresses of the answer.
    pub aaaa: Vec<IpAddr>,
    /// Aliases of the answer.
    pub cname_chain: Vec<AliasRow>,
    /// Times to live of the answer's records, seconds.
    pub ttls: Vec<u32>,
    /// The frame.
    pub frame: u64,
    /// The message as a value, JSON.
    pub message: String,
}

impl PartialNameRow {
    /// The row of a message seen in `capture`.
    pub fn of(observation: &DnsObservation, capture: &Arc<str>) -> Self {
        let row = NameRow::of_dns(observation, capture.clone(), false);
        PartialNameRow {
            source: row.source,
            ts: row.ts,
            capture: row.capture,
            client_ip: row.client_ip,
            client_port: row.client_port,
            resolver_ip: row.resolver_ip,
            transport: row.transport,
            dns_id: row.dns_id,
            rcode: row.rcode,
            qname: row.qname,
            qtype: row.qtype,
            a: row.a,
            aaaa: row.aaaa,
            cname_chain: row.cname_chain,
            ttls: row.ttls,
            frame: row.frame,
            message: json_text(observation),
        }
    }
}

/// The values that are written here have no map with keys other than texts, the one thing JSON refuses; were it so, the
/// row would say that it is not partial, and reading it would be an error.
fn json_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// All partial rows of one capture.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialCapture {
    /// Its tally.
    pub summary: CaptureSummary,
    /// Stretches of conversations. Their points carry capture number 0.
    pub pieces: Vec<PartialFlow>,
    /// DNS messages. Their points carry capture number 0.
    pub dns: DnsLog,
}

/// What of a partial row counts.
#[derive(Deserialize)]
struct Carried {
    capture: Option<String>,
    #[serde(alias = "message")]
    partial: Option<String>,
}

/// Reads partial rows and summaries, as `judge` needs them. Which captures there are is what the summaries say.
///
/// # Errors
/// If a file cannot be read or holds whole rows, if a row's capture is in no summary, if two summaries of one capture
/// differ, or if a file is named twice.
pub fn read_partial(
    flows: &[String],
    names: &[String],
    summaries: &[String],
) -> Result<Vec<PartialCapture>, StoreError> {
    for paths in [flows, names] {
        refuse_repeats(paths)?;
    }
    let mut captures = Vec::new();
    let mut index_of: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for path in summaries {
        for summary in read_summaries(std::slice::from_ref(path))? {
            add_capture(path, summary, &mut captures, &mut index_of)?;
        }
    }
    for path in flows {
        read_carried(path, "partial", |capture, mut piece: PartialFlow| {
            piece.renumber(|_| CaptureId(0));
            capture_of(path, capture, &index_of, &mut captures)?.pieces.push(piece);
            Ok(())
        })?;
    }
    for path in names {
        read_carried(path, "message", |capture, mut message: DnsObservation| {
            message.point.capture = CaptureId(0);
            capture_of(path, capture, &index_of, &mut captures)?.dns.push(message);
            Ok(())
        })?;
    }
    Ok(captures)
}

/// The same rows twice would count twice.
fn refuse_repeats(paths: &[String]) -> Result<(), StoreError> {
    let mut seen = BTreeMap::new();
    for path in paths {
        let real = std::fs::canonicalize(path).map_err(|e| StoreError::io(path, "cannot be opened", e))?;
        if seen.insert(real, path).is_some() {
            return Err(StoreError::new(path, "named twice: its rows would count twice"));
        }
    }
    Ok(())
}

fn add_capture(
    path: &str,
    summary: CaptureSummary,
    captures: &mut Vec<PartialCapture>,
    index_of: &mut BTreeMap<Arc<str>, usize>,
) -> Result<(), StoreError> {
    match index_of.get(&summary.path) {
        Some(&index) if captures[index].summary == summary => Ok(()),
        Some(_) => Err(StoreError::new(
            path,
            format!(
                "another summary of `{}` says something else: give each capture a name of its own, and each extract's \
                 files once",
                summary.path.escape_debug()
            ),
        )),
        None => {
            index_of.insert(summary.path.clone(), captures.len());
            captures.push(PartialCapture { summary, pieces: Vec::new(), dns: DnsLog::default() });
            Ok(())
        }
    }
}

fn capture_of<'e>(
    path: &str,
    capture: &str,
    index_of: &BTreeMap<Arc<str>, usize>,
    captures: &'e mut [PartialCapture],
) -> Result<&'e mut PartialCapture, StoreError> {
    let index = index_of.get(capture).copied();
    index.and_then(|index| captures.get_mut(index)).ok_or_else(|| {
        StoreError::new(
            path,
            format!(
                "a row is of capture `{}`, of which no summary was given: add the file that `extract --summary` wrote \
                 with it",
                capture.escape_debug()
            ),
        )
    })
}

/// Hands over the value that each row of a partial file carries in `column`.
fn read_carried<T: DeserializeOwned>(
    path: &str,
    column: &str,
    mut take: impl FnMut(&str, T) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let whole = || {
        StoreError::new(
            path,
            format!(
                "has no column `{column}`: these are whole rows; `extract --partial` writes those that `judge` needs"
            ),
        )
    };
    let mut number = 0u64;
    let mut row = |capture: Option<&str>, carried: Option<&str>| {
        number += 1;
        let (capture, carried) = capture.zip(carried).ok_or_else(whole)?;
        let value = serde_json::from_str(carried).map_err(|error| {
            StoreError::new(
                path,
                format!("row {number}: `{column}` is not what this version writes: {error}"),
            )
        })?;
        take(capture, value)
    };
    match Format::of(path)? {
        Format::JsonLines => read_json_lines(path, |carried: Carried| {
            row(carried.capture.as_deref(), carried.partial.as_deref())
        }),
        #[cfg(feature = "columnar")]
        format => super::columns::read_texts(path, format, ["capture", column], row, whole),
        #[cfg(not(feature = "columnar"))]
        _ => Ok(()),
    }
}
