//! Partial rows: what the map step writes and the reduce step reads.

use super::{Format, StoreError, of_one_line, read_lines, read_summaries};
use crate::audit::{CaptureSummary, Unreadable};
use crate::flow::{Budget, InitiatorBy, PartialFlow, Pieces, initiator};
use crate::model::{CaptureId, DomainName, Timestamp, Transport};
use crate::names::{AliasRow, DnsLog, DnsObservation, NameRow, NameSource};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
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
    /// The stretch as a mergeable value ([`PartialFlow::to_row`]); base64 in JSON.
    #[serde(serialize_with = "base64")]
    pub partial: Vec<u8>,
}

fn base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(bytes))
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
            partial: piece.to_row(),
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
    /// The message as a value ([`DnsObservation::to_row`]); base64 in JSON.
    #[serde(serialize_with = "base64")]
    pub message: Vec<u8>,
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
            message: observation.to_row(),
        }
    }
}

/// All partial rows of one capture.
#[derive(Debug, PartialEq)]
pub struct PartialCapture {
    /// Its tally.
    pub summary: CaptureSummary,
    /// Stretches of conversations. Their points carry capture number 0.
    pub pieces: Pieces,
    /// DNS messages. Their points carry capture number 0.
    pub dns: DnsLog,
}

/// What files of partial rows hold.
#[derive(Debug, Default, PartialEq)]
pub struct PartialRows {
    /// Each capture of the summaries.
    pub captures: Vec<PartialCapture>,
    /// Files some of whose rows hold nothing that can be read, with the first such row and their number. The other rows
    /// count.
    pub unreadable: Vec<Unreadable>,
}

/// Reads partial rows and summaries, as `judge` needs them: batch by batch, and what is beyond the budget waits in a
/// temporary file. Which captures there are is what the summaries say.
///
/// # Errors
/// If a file cannot be read, holds whole rows or no row that can be read, if a row's capture is in no summary, if two
/// summaries of one capture differ, or if a file is named twice.
pub fn read_partial(
    flows: &[String],
    names: &[String],
    summaries: &[String],
    budget: &Arc<Budget>,
) -> Result<PartialRows, StoreError> {
    if let Some(path) = [flows, names, summaries].into_iter().flatten().find(|path| *path == "-") {
        return Err(StoreError::new(
            &format!("`{path}`"),
            "rows are read from files: give the file that `extract --partial` wrote",
        ));
    }
    for paths in [flows, names] {
        refuse_repeats(paths)?;
    }
    let mut rows = PartialRows::default();
    let mut index_of: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for path in summaries {
        for mut summary in read_summaries(std::slice::from_ref(path))? {
            match summary.unreadable.take() {
                Some(problem) => {
                    let unreadable = Unreadable { path: summary.path.to_string(), problem };
                    if !rows.unreadable.contains(&unreadable) {
                        rows.unreadable.push(unreadable);
                    }
                }
                None => add_capture(path, summary, budget, &mut rows.captures, &mut index_of)?,
            }
        }
    }
    let PartialRows { captures, unreadable } = &mut rows;
    let (mut bad_flows, mut bad_names) = (false, false);
    let mut scratch = PartialFlow::nothing();
    for path in flows {
        let bad = read_carried(path, "partial", &index_of, |capture, row: Carrier<'_>| {
            let bytes = match row {
                Carrier::Bytes(bytes) => Cow::Borrowed(bytes),
                Carrier::Text(text) => Cow::Owned(BASE64.decode(text.as_bytes()).map_err(|e| e.to_string())?),
            };
            let Some(capture) = captures.get_mut(capture) else { return Ok(()) };
            capture.pieces.push_row(&bytes, &mut scratch).map_err(|problem| problem.to_string())
        })?;
        bad_flows |= bad.is_some();
        unreadable.extend(bad);
    }
    for path in names {
        let bad = read_carried(path, "message", &index_of, |capture, row: Carrier<'_>| {
            let message = message_of(row)?;
            let Some(capture) = captures.get_mut(capture) else { return Ok(()) };
            capture.dns.push(message);
            Ok(())
        })?;
        bad_names |= bad.is_some();
        unreadable.extend(bad);
    }
    // Rows that cannot be read are told already, and whose they were is not known.
    unreadable.extend(captures.iter().flat_map(|capture| missing_rows(capture, bad_flows, bad_names)));
    Ok(rows)
}

/// What a capture's summary counts and was not given: flows that are left out are never found, and names that are make others of
/// what is known.
fn missing_rows(
    PartialCapture { summary, pieces, dns }: &PartialCapture,
    bad_flows: bool,
    bad_names: bool,
) -> impl Iterator<Item = Unreadable> {
    let flows = Some(("flows", pieces.len(), summary.flows)).filter(|_| !bad_flows);
    let names = Some(("names", dns.len(), summary.names)).filter(|_| !bad_names);
    let differ = |&(_, given, counted): &(_, usize, u64)| given as u64 != counted;
    flows.into_iter().chain(names).filter(differ).map(|(what, given, counted)| {
        let problem = format!(
            "its summary counts {counted} rows of {what}, and {given} were given: give all files that `extract --partial` wrote \
             with it, each once and whole"
        );
        Unreadable { path: summary.path.to_string(), problem }
    })
}

/// The message that a row of names carries. Rows of schema 2 and before carry it as JSON, which no other begins like.
fn message_of(row: Carrier<'_>) -> Result<DnsObservation, String> {
    let (bytes, text) = match row {
        Carrier::Bytes(bytes) => (bytes, false),
        Carrier::Text(text) => (text.as_bytes(), true),
    };
    if bytes.first() == Some(&b'{') {
        let message: Result<DnsObservation, _> = serde_json::from_slice(bytes);
        let mut message = message.map_err(|error| of_one_line(&error))?;
        message.point.capture = CaptureId::new(0);
        return Ok(message);
    }
    let bytes = if text {
        BASE64.decode(bytes).map_err(|error| error.to_string())?.into()
    } else {
        Cow::Borrowed(bytes)
    };
    DnsObservation::of_row(&bytes).map_err(|problem| problem.to_string())
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
    budget: &Arc<Budget>,
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
            let pieces = Pieces::new(budget.clone());
            captures.push(PartialCapture { summary, pieces, dns: DnsLog::default() });
            Ok(())
        }
    }
}

/// The value that a row carries: bytes of a column of bytes or texts, or a text of JSON.
#[derive(Clone, Copy)]
pub(super) enum Carrier<'r> {
    /// From a column.
    #[cfg_attr(not(feature = "columnar"), expect(dead_code, reason = "columns come with the feature"))]
    Bytes(&'r [u8]),
    /// From a line of JSON.
    Text(&'r str),
}

/// What of a partial row counts.
#[derive(Deserialize)]
struct Carried<'r> {
    #[serde(borrow)]
    capture: Option<Cow<'r, str>>,
    #[serde(borrow, alias = "message")]
    partial: Option<Cow<'r, str>>,
}

/// Hands over the value that each row of a partial file carries in `column`, with the number of its capture. What `take`
/// finds wrong with a row is told of the first, and how many there are; where no row is right, it is an error.
fn read_carried(
    path: &str,
    column: &str,
    index_of: &BTreeMap<Arc<str>, usize>,
    mut take: impl FnMut(usize, Carrier<'_>) -> Result<(), String>,
) -> Result<Option<Unreadable>, StoreError> {
    let whole = || {
        StoreError::new(
            path,
            format!(
                "has no column `{column}`: these are whole rows; `extract --partial` writes those that `judge` needs"
            ),
        )
    };
    let (mut number, mut bad) = (0u64, 0u64);
    let mut first: Option<String> = None;
    // Rows of one capture stand together.
    let mut last: Option<(&Arc<str>, usize)> = None;
    let mut row = |row: Result<(Option<&str>, Option<Carrier<'_>>), String>| {
        number += 1;
        let (capture, carried) = match row {
            Ok((capture, carried)) => capture.zip(carried).ok_or_else(whole)?,
            Err(problem) => {
                bad += 1;
                first.get_or_insert_with(|| format!("row {number}: {problem}"));
                return Ok(());
            }
        };
        let index = match last {
            Some((name, index)) if **name == *capture => index,
            _ => {
                let (name, &index) =
                    index_of.get_key_value(capture).ok_or_else(|| no_summary(path, capture))?;
                last = Some((name, index));
                index
            }
        };
        if let Err(problem) = take(index, carried) {
            bad += 1;
            first.get_or_insert_with(|| {
                format!("row {number}: `{column}` is not what this version writes: {problem}")
            });
        }
        Ok(())
    };
    match Format::of(path)? {
        Format::JsonLines => read_lines(path, |_, line| match serde_json::from_slice::<Carried<'_>>(line) {
            Ok(carried) => {
                row(Ok((carried.capture.as_deref(), carried.partial.as_deref().map(Carrier::Text))))
            }
            Err(error) => row(Err(of_one_line(&error))),
        })?,
        #[cfg(feature = "columnar")]
        format => super::columns::read_carried(
            path,
            format,
            ["capture", column],
            |first, second| row(Ok((first, second))),
            whole,
        )?,
        #[cfg(not(feature = "columnar"))]
        _ => {}
    }
    match first {
        None => Ok(None),
        Some(first) if bad == number => Err(StoreError::new(path, first)),
        Some(first) => {
            let problem = format!("{bad} of {number} rows cannot be read, the first of them {first}");
            Ok(Some(Unreadable { path: path.to_owned(), problem }))
        }
    }
}

fn no_summary(path: &str, capture: &str) -> StoreError {
    StoreError::new(
        path,
        format!(
            "a row is of capture `{}`, of which no summary was given: add the file that `extract --summary` wrote with it",
            capture.escape_debug()
        ),
    )
}
