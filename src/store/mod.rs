//! Rows to files and back: JSON lines always, Parquet and Arrow through polars where the `columnar` feature is on.
//!
//! Whole rows are for people and tools. Partial rows are what the map step hands to the reduce step: the same columns as far
//! as one stretch of a capture can fill them, and one more that holds the mergeable value itself.

#[cfg(feature = "columnar")]
mod columns;
#[cfg(feature = "columnar")]
mod pages;
mod partial;
#[cfg(feature = "columnar")]
mod plain;
mod sink;

pub use partial::{PartialCapture, PartialFlowRow, PartialNameRow, PartialRows, read_partial};
pub use sink::StoreError;

use crate::audit::CaptureSummary;
use crate::flow::{FlowRecord, Pieces};
use crate::names::{DnsLog, NameRow};
use crate::verdict::VerdictRow;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sink::write_file;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

/// Version of the columns. Raised when a column changes its meaning or goes; new columns do not raise it.
pub const ROWS_SCHEMA: u32 = 4;

/// How many rows are turned into columns at a time: a row group of Parquet, a record batch of Arrow.
///
/// Fewer make larger files that are slower to read; more cost memory: a third of a kilobyte a row, of up to three batches at a time.
#[cfg(feature = "columnar")]
const BATCH_ROWS: usize = if cfg!(test) { 1 << 8 } else { 1 << 15 };

/// Batches of whoever has little memory for them: a row group is a megabyte or two then.
#[cfg(feature = "columnar")]
const SMALL_BATCH_ROWS: usize = if cfg!(test) { 1 << 7 } else { 1 << 12 };

/// What may be spent on turning rows into columns. What is read of the file is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Memory for time: large batches, made on two threads beside.
    Fast,
    /// Time for memory: small batches, made where rows come from. For a run that watches meanwhile, within a limit.
    Sparing,
}

/// Format of a file of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    JsonLines,
    /// Parquet.
    Parquet,
    /// Arrow IPC file.
    Arrow,
    /// Arrow IPC stream, on standard output.
    ArrowStream,
}

impl Format {
    /// By extension: `.jsonl`, `.parquet`, `.arrow`; `-` is an Arrow stream on standard output.
    ///
    /// # Errors
    /// If the extension says nothing, or this build cannot do what it says.
    pub fn of(path: &str) -> Result<Format, StoreError> {
        let extension = Path::new(path).extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        let format = match extension.as_deref() {
            _ if path == "-" => Format::ArrowStream,
            Some("jsonl") => Format::JsonLines,
            Some("parquet") => Format::Parquet,
            Some("arrow") => Format::Arrow,
            Some(_) | None => {
                return Err(StoreError::new(
                    path,
                    "the format follows from the extension: .jsonl, .parquet or .arrow; `-` is an Arrow stream on \
                     standard output",
                ));
            }
        };
        if cfg!(feature = "columnar") || format == Format::JsonLines {
            Ok(format)
        } else {
            Err(StoreError::new(
                path,
                "this build reads and writes .jsonl only: it was made without the feature `columnar`",
            ))
        }
    }

    /// The extensions of files of rows.
    pub const EXTENSIONS: [&str; 3] = ["jsonl", "parquet", "arrow"];

    /// The extension of the best format of this build, for files whose names the program chooses.
    pub fn best_extension() -> &'static str {
        if cfg!(feature = "columnar") { "parquet" } else { "jsonl" }
    }
}

/// A kind of row that has columns.
#[cfg(not(feature = "columnar"))]
trait Row: Serialize {}
#[cfg(feature = "columnar")]
trait Row: Serialize + columns::Columns {}

impl Row for FlowRecord {}
impl Row for VerdictRow {}
impl Row for NameRow {}
impl Row for PartialFlowRow {}
impl Row for PartialNameRow {}

/// Lets `fill` write rows, one by one: millions of them are never there at once.
fn write_rows<'r, R: Row + Clone + 'r>(
    path: &str,
    partial: bool,
    effort: Effort,
    fill: impl FnOnce(RowSink<'_, Cow<'r, R>>) -> io::Result<()>,
) -> Result<(), StoreError> {
    match Format::of(path)? {
        Format::JsonLines => write_json_lines(path, fill),
        #[cfg(feature = "columnar")]
        format => columns::write(path, format, partial, effort, fill),
        #[cfg(not(feature = "columnar"))]
        _ => {
            // `Format::of` gives no other format in this build.
            let _ = (partial, effort);
            Ok(())
        }
    }
}

/// Takes rows, one by one.
pub type RowSink<'s, R> = &'s mut dyn FnMut(R) -> io::Result<()>;

fn write_json_lines<'r, T: Serialize + Clone + 'r>(
    path: &str,
    fill: impl FnOnce(RowSink<'_, Cow<'r, T>>) -> io::Result<()>,
) -> Result<(), StoreError> {
    write_file(path, |out| {
        fill(&mut |row| {
            serde_json::to_writer(&mut *out, row.as_ref())?;
            out.write_all(b"\n")
        })
    })
}

/// Rows that are there already.
fn all<'r, R: Clone + 'r>(
    mut rows: impl Iterator<Item = Cow<'r, R>>,
) -> impl FnOnce(RowSink<'_, Cow<'r, R>>) -> io::Result<()> {
    move |sink| rows.try_for_each(sink)
}

/// Rows that come one by one.
fn owned<'r, R: Clone + 'r>(
    fill: impl FnOnce(RowSink<'_, R>) -> io::Result<()>,
) -> impl FnOnce(RowSink<'_, Cow<'r, R>>) -> io::Result<()> {
    move |sink| fill(&mut |row| sink(Cow::Owned(row)))
}

/// Writes whole flow rows.
///
/// # Errors
/// If the format is unknown or the file cannot be written.
pub fn write_flows(path: &str, rows: &[FlowRecord]) -> Result<(), StoreError> {
    write_rows(path, false, Effort::Fast, all(rows.iter().map(Cow::Borrowed)))
}

/// Writes the whole flow rows that `fill` gives, one by one.
///
/// # Errors
/// As [`write_flows`]; also what `fill` answers.
pub fn stream_flows(
    path: &str,
    fill: impl FnOnce(RowSink<'_, FlowRecord>) -> io::Result<()>,
) -> Result<(), StoreError> {
    write_rows(path, false, Effort::Fast, owned(fill))
}

/// Writes judged flow rows.
///
/// # Errors
/// If the format is unknown or the file cannot be written.
pub fn write_verdict_rows(path: &str, rows: &[VerdictRow]) -> Result<(), StoreError> {
    write_rows(path, false, Effort::Fast, all(rows.iter().map(Cow::Borrowed)))
}

/// Writes the judged flow rows that `fill` gives, one by one.
///
/// # Errors
/// As [`write_verdict_rows`]; also what `fill` answers.
pub fn stream_verdict_rows(
    path: &str,
    effort: Effort,
    fill: impl FnOnce(RowSink<'_, VerdictRow>) -> io::Result<()>,
) -> Result<(), StoreError> {
    write_rows(path, false, effort, owned(fill))
}

/// Writes name rows.
///
/// # Errors
/// If the format is unknown or the file cannot be written.
pub fn write_names(path: &str, rows: &[NameRow]) -> Result<(), StoreError> {
    write_rows(path, false, Effort::Fast, all(rows.iter().map(Cow::Borrowed)))
}

/// Writes the name rows that `fill` gives, one by one.
///
/// # Errors
/// As [`write_names`]; also what `fill` answers.
pub fn stream_names(
    path: &str,
    effort: Effort,
    fill: impl FnOnce(RowSink<'_, NameRow>) -> io::Result<()>,
) -> Result<(), StoreError> {
    write_rows(path, false, effort, owned(fill))
}

/// Writes partial flow rows: of each capture its name and stretches.
///
/// # Errors
/// If the format is unknown or the file cannot be written.
pub fn write_partial_flows<'a>(
    path: &str,
    effort: Effort,
    captures: impl Iterator<Item = (&'a Arc<str>, &'a Pieces)>,
) -> Result<(), StoreError> {
    let mut failed = None;
    let rows = captures
        .flat_map(|(capture, pieces)| {
            pieces.iter().map(move |piece| Ok(PartialFlowRow::of(&piece?, capture)))
        })
        .map_while(|row: std::io::Result<PartialFlowRow>| row.map_err(|error| failed = Some(error)).ok());
    write_rows(path, true, effort, all(rows.map(Cow::<PartialFlowRow>::Owned)))?;
    match failed {
        None => Ok(()),
        Some(error) => Err(StoreError::io(path, "is not whole: stretches put aside cannot be read", error)),
    }
}

/// Writes partial name rows: of each capture its name and DNS messages.
///
/// # Errors
/// If the format is unknown or the file cannot be written.
pub fn write_partial_names<'a>(
    path: &str,
    effort: Effort,
    captures: impl Iterator<Item = (&'a Arc<str>, &'a DnsLog)>,
) -> Result<(), StoreError> {
    let rows = captures
        .flat_map(|(capture, dns)| dns.iter().map(move |message| PartialNameRow::of(&message, capture)));
    write_rows(path, true, effort, all(rows.map(Cow::<PartialNameRow>::Owned)))
}

/// Writes the tallies of captures: JSON lines, whatever the extension; `-` is standard output.
///
/// # Errors
/// If the file cannot be written.
pub fn write_summary<'s>(
    path: &str,
    captures: impl IntoIterator<Item = &'s CaptureSummary>,
) -> Result<(), StoreError> {
    write_json_lines(path, all(captures.into_iter().map(Cow::Borrowed)))
}

/// Writes one JSON value, indented, and a final line feed.
///
/// # Errors
/// If the file cannot be written.
pub fn write_json(path: &str, value: &impl Serialize) -> Result<(), StoreError> {
    write_file(path, |out| {
        serde_json::to_writer_pretty(&mut *out, value).map_err(std::io::Error::from)?;
        out.write_all(b"\n")
    })
}

/// Writes a text, such as a page for people.
///
/// # Errors
/// If the file cannot be written.
pub fn write_text(path: &str, text: &str) -> Result<(), StoreError> {
    write_file(path, |out| out.write_all(text.as_bytes()))
}

/// Reads the tallies of captures.
///
/// # Errors
/// If a file cannot be read or holds something else.
pub fn read_summaries(paths: &[String]) -> Result<Vec<CaptureSummary>, StoreError> {
    let mut all = Vec::new();
    for path in paths {
        read_json_lines(path, |summary: CaptureSummary| {
            all.push(summary);
            Ok(())
        })?;
    }
    Ok(all)
}

/// Reads judged flow rows back.
///
/// # Errors
/// If the file cannot be read or holds something else.
pub fn read_verdict_rows(path: &str) -> Result<Vec<VerdictRow>, StoreError> {
    let mut rows = Vec::new();
    each_verdict_row(path, |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

/// Hands over judged flow rows, batch by batch: millions of them are never there at once.
///
/// # Errors
/// If the file cannot be read or holds something else, or what `take` answers.
pub fn each_verdict_row(
    path: &str,
    mut take: impl FnMut(VerdictRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    match Format::of(path)? {
        Format::JsonLines => read_json_lines(path, take),
        #[cfg(feature = "columnar")]
        format => {
            let mut number = 0u64;
            columns::read_values(path, format, |value| {
                number += 1;
                let row = serde_json::from_value(value)
                    .map_err(|error| StoreError::new(path, format!("row {number}: {error}")))?;
                take(row)
            })
        }
        #[cfg(not(feature = "columnar"))]
        _ => {
            // `Format::of` gives no other format in this build.
            let _ = &mut take;
            Ok(())
        }
    }
}

/// Reads one JSON value.
///
/// # Errors
/// If the file cannot be read or holds something else.
pub fn read_json<T: DeserializeOwned>(path: &str) -> Result<T, StoreError> {
    let file = File::open(path).map_err(|error| StoreError::io(path, "cannot be opened", error))?;
    serde_json::from_reader(BufReader::new(file)).map_err(|error| StoreError::new(path, error.to_string()))
}

/// Hands over each line's value; blank lines are passed over.
fn read_json_lines<T: DeserializeOwned>(
    path: &str,
    mut take: impl FnMut(T) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    read_lines(path, |number, line| {
        let value = serde_json::from_slice(line);
        take(
            value
                .map_err(|error| StoreError::new(path, format!("line {number}: {}", of_one_line(&error))))?,
        )
    })
}

/// What is wrong with a value that stands on one line: whose number is told by whoever counts lines.
fn of_one_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// Hands over each line and its number; blank lines are passed over.
fn read_lines(
    path: &str,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let file = File::open(path).map_err(|error| StoreError::io(path, "cannot be opened", error))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        if read.map_err(|error| StoreError::io(path, "cannot be read", error))? == 0 {
            break;
        }
        if !line.trim_ascii().is_empty() {
            take(number, &line)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::End;
    use crate::flow::{Budget, PartialFlow};
    use crate::flow::{FlowKey, QuoteClass, QuoteFact, Reset, Side, Syn, SynAck};
    use crate::model::{CaptureId, Endpoint, FramePoint, Timestamp, Transport};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    /// Formats that this build writes to files.
    const FORMATS: &[&str] =
        if cfg!(feature = "columnar") { &["jsonl", "parquet", "arrow"] } else { &["jsonl"] };

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let directory =
                std::env::temp_dir().join(format!("portproof-store-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            Scratch(directory)
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).to_str().unwrap().to_owned()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn flow_json() -> Value {
        json!({
            "flow_id": "1:wCb3OG7yAFWelaUydu0D+125CLM=", "capture": "a \u{1b}.pcap",
            "initiator_ip": "10.1.0.4", "initiator_port": 51000, "responder_ip": "2001:db8::7", "responder_port": 443,
            "proto": "tcp", "initiator_by": "syn", "vlan": null, "vni": 7,
            "first_ts": "2026-01-06T10:22:31.004512001Z", "last_ts": "2026-01-06T10:22:32.000000000Z",
            "packets_fwd": 4, "packets_rev": 18_446_744_073_709_551_615u64, "bytes_fwd": 1, "bytes_rev": 2,
            "payload_fwd": 3, "payload_rev": 4, "conn_state": "S1", "outcome": "established",
            "icmp_type": null, "icmp_code": 13, "syn_count": 1, "handshake_rtt_ns": -5, "app": "tls",
            "server_name": "example.org", "http_host": null, "tls_version": "1.3", "frames": [1, 2],
            "proof": [{"what": "syn", "capture": "a.pcap", "frame": 1}, {"what": "name", "capture": "b.pcap", "frame": 9}],
            "alpn": ["h2", "http/1.1"], "ech": true,
            "proxy_target": {"name": "nginx.org", "ip": null, "port": 443, "tunnel": true},
            "reset_ttl_differs": false, "tls_alert": 40, "proxy_status": 403,
        })
    }

    /// A row with everything, and one with as little as there can be.
    fn verdict_rows() -> Vec<VerdictRow> {
        let with = |flow: Value, more: Value| {
            let (Value::Object(mut fields), Value::Object(more)) = (flow, more) else { panic!("no objects") };
            fields.extend(more);
            serde_json::from_value(Value::Object(fields)).unwrap()
        };
        let mut bare = flow_json();
        for absent in
            ["vni", "app", "server_name", "tls_version", "proxy_target", "tls_alert", "handshake_rtt_ns"]
        {
            bare[absent] = Value::Null;
        }
        for empty in ["frames", "proof", "alpn"] {
            bare[empty] = json!([]);
        }
        let judged = json!({
            "initiator_roles": ["backup-appliance", "worker"], "responder_roles": [],
            "names": [
                {"name": "a.example", "chain": ["a.example", "b.example"], "source": "dns", "age_ns": 12, "scope": "host",
                 "expired": true, "late": false},
                {"name": "c.example", "chain": [], "source": "proxy", "age_ns": null, "scope": "flow", "expired": false,
                 "late": true},
            ],
            "grade": "dns", "verdict": "undocumented", "rules": ["vbaz-01"], "missing": "name",
            "nearest": {"rule": "vbaz-12", "differs": "os-noise"}, "findings": ["unexpected-traffic", "name-conflict"],
        });
        let nothing = json!({
            "initiator_roles": [], "responder_roles": [], "names": [], "grade": null, "verdict": "out-of-scope",
            "rules": [], "missing": null, "nearest": null, "findings": [],
        });
        vec![with(flow_json(), judged), with(bare, nothing)]
    }

    fn names() -> Vec<NameRow> {
        let row = json!({
            "source": "dns", "ts": "2026-01-06T10:22:31.004512001Z", "capture": "a.pcap", "client_ip": "10.1.0.4",
            "client_port": 5353, "resolver_ip": "168.63.129.16", "transport": "udp", "dns_id": 7, "rcode": 0,
            "qname": "a.example", "qtype": "A", "answered_query": true, "a": ["192.0.2.1", "192.0.2.2"], "aaaa": [],
            "cname_chain": [{"owner": "a.example", "target": "b.example"}], "ttls": [60, 30], "svcb_hints": [],
            "truncated": false, "salvaged": false, "frame": 9, "server_ip": null, "server_port": null, "name": null,
        });
        vec![serde_json::from_value(row).unwrap()]
    }

    fn point(frame: u64) -> FramePoint {
        FramePoint {
            time: Timestamp(1_767_694_951_000_000_000 + frame as i64),
            capture: CaptureId::new(0),
            frame,
        }
    }

    fn summary(path: &str) -> CaptureSummary {
        CaptureSummary {
            sha256: Some("ab".repeat(32)),
            bytes: 1,
            link_types: vec!["ETHERNET".into()],
            frames: 3,
            packets: 2,
            skipped: BTreeMap::from([("arp".into(), 1)]),
            first_ts: Some(Timestamp(1)),
            last_ts: Some(Timestamp(2)),
            upkeep: BTreeMap::new(),
            end: End::Damaged { frame: 4, offset: 100, problem: "cut".into() },
            flows: 2,
            names: 1,
            ..CaptureSummary::of_nothing(path, "pcap")
        }
    }

    /// What a capture gave.
    #[derive(Clone)]
    struct Extracted {
        summary: CaptureSummary,
        pieces: Vec<PartialFlow>,
        dns: DnsLog,
    }

    fn read(flows: &[String], names: &[String], summaries: &[String]) -> Result<PartialRows, StoreError> {
        read_partial(flows, names, summaries, &Arc::new(Budget::new(1)))
    }

    fn is_as_it_was(rows: &PartialRows, captures: &[Extracted]) -> bool {
        let same = |(is, was): (&PartialCapture, &Extracted)| {
            is.summary == was.summary
                && is.dns == was.dns
                && is.pieces.iter().map(Result::unwrap).eq(was.pieces.iter().cloned())
        };
        rows.unreadable.is_empty()
            && rows.captures.len() == captures.len()
            && rows.captures.iter().zip(captures).all(same)
    }

    /// A capture with a stretch that has every kind of fact, one with next to none, and a DNS message.
    fn capture(path: &str) -> Extracted {
        let end = |ip: &str, port| Endpoint::new(ip.parse().unwrap(), port);
        let (key, client) = FlowKey::of(Transport::Tcp, end("10.1.0.4", 51_000), end("10.0.0.9", 443));
        assert_eq!(client, Side::High);
        let mut piece = PartialFlow::new(key);
        piece.vlan = Some(5);
        let high = &mut piece.high;
        (high.packets, high.bytes, high.payload) = (3, 300, 100);
        (high.first, high.last) = (Some(point(1)), Some(point(5).time));
        high.syn = Some(Syn { isn: 0xffff_fff0, first: point(1), last: point(2), count: 2 });
        high.head.add(Some(0xffff_fff1), 0xffff_fff1, point(4), b"GET / HTTP/1.1\r\n\0\xff", 4096);
        let low = &mut piece.low;
        (low.packets, low.first, low.last) = (2, Some(point(3)), Some(point(6).time));
        low.syn_ack = Some(SynAck { isn: 9, ack: 0xffff_fff1, first: point(3) });
        low.reset = Some(Reset { first: point(6), ttl: 64 });
        low.ttl = Some((63, 64));
        low.alert = Some((point(5), 40));
        piece.quotes.push(QuoteFact {
            quoted: Side::High,
            class: QuoteClass::Prohibited,
            point: point(7),
            kind: 3,
            code: 13,
            sender: "192.0.2.1".parse().unwrap(),
            tcp_seq: Some(1),
        });
        piece.quoted_last = Some(point(7).time);
        let mut bare = PartialFlow::new(
            FlowKey::of(Transport::Other(47), end("2001:db8::1", 0), end("2001:db8::2", 0)).0,
        );
        bare.low.packets = 1;
        bare.low.first = Some(point(8));
        bare.low.last = Some(point(8).time);
        let message = json!({
            "point": point(9), "client": end("10.1.0.4", 5000), "resolver": end("10.0.0.2", 53), "transport": "udp",
            "message": serde_json::to_value(dns_message()).unwrap(),
        });
        Extracted {
            summary: summary(path),
            pieces: vec![piece, bare],
            dns: [serde_json::from_value(message).unwrap()].into_iter().collect(),
        }
    }

    /// A query for example.org A.
    fn dns_message() -> crate::names::DnsMessage {
        let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(b"\x07example\x03org\0\0\x01\0\x01");
        crate::names::dns::parse(&bytes).unwrap()
    }

    fn write_partial(
        scratch: &Scratch,
        name: &str,
        extension: &str,
        captures: &[Extracted],
    ) -> [Vec<String>; 3] {
        let [flows, names] =
            ["flows", "names"].map(|what| scratch.path(&format!("{name}.{what}.{extension}")));
        let tallies = scratch.path(&format!("{name}.summary.jsonl"));
        let of = || captures.iter().map(|capture| (&capture.summary.path, capture));
        let packed: Vec<(Arc<str>, Pieces)> =
            of().map(|(path, capture)| (path.clone(), capture.pieces.iter().cloned().collect())).collect();
        write_partial_flows(&flows, Effort::Fast, packed.iter().map(|(path, pieces)| (path, pieces)))
            .unwrap();
        write_partial_names(&names, Effort::Fast, of().map(|(path, capture)| (path, &capture.dns))).unwrap();
        let summaries: Vec<CaptureSummary> = captures.iter().map(|capture| capture.summary.clone()).collect();
        write_summary(&tallies, &summaries).unwrap();
        [vec![flows], vec![names], vec![tallies]]
    }

    #[test]
    fn partial_rows_come_back_as_they_were_in_every_format() {
        let scratch = Scratch::new("partial");
        let captures = [capture("a.pcap"), capture("odd \u{1b}\n名.pcap")];
        for extension in FORMATS {
            let [flows, names, summaries] = write_partial(&scratch, "both", extension, &captures);
            assert!(is_as_it_was(&read(&flows, &names, &summaries).unwrap(), &captures), "{extension}");
        }
    }

    #[test]
    fn messages_of_older_rows_are_read_too() {
        let scratch = Scratch::new("older");
        let mut capture = capture("a.pcap");
        (capture.summary.flows, capture.summary.names) = (0, capture.dns.len() as u64);
        let tallies = scratch.path("summary.jsonl");
        write_summary(&tallies, std::slice::from_ref(&capture.summary)).unwrap();
        let path = scratch.path("names.jsonl");
        let lines: Vec<String> = capture
            .dns
            .iter()
            .map(|message| {
                let message = serde_json::to_string(&message).unwrap();
                json!({ "capture": "a.pcap", "message": message }).to_string()
            })
            .collect();
        assert!(!lines.is_empty());
        write_text(&path, &lines.join("\n")).unwrap();
        let back = read(&[], &[path], &[tallies]).unwrap();
        assert!(back.unreadable.is_empty(), "{:?}", back.unreadable);
        assert_eq!(back.captures[0].dns, capture.dns);
    }

    #[test]
    fn name_rows_are_lines_with_every_field_and_null_where_nothing_is_known() {
        let scratch = Scratch::new("names");
        let path = scratch.path("names.jsonl");
        write_names(&path, &names()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), serde_json::to_value(&names()[0]).unwrap());
        assert!(text.ends_with("\"server_ip\":null,\"server_port\":null,\"name\":null}\n"), "{text}");
    }

    #[test]
    fn judged_rows_come_back_as_they_were_in_every_format() {
        let scratch = Scratch::new("judged");
        let rows = verdict_rows();
        for extension in FORMATS {
            let path = scratch.path(&format!("flows.{extension}"));
            write_verdict_rows(&path, &rows).unwrap();
            assert_eq!(read_verdict_rows(&path).unwrap(), rows, "{extension}");
            write_verdict_rows(&path, &[]).unwrap();
            assert_eq!(read_verdict_rows(&path).unwrap(), [], "{extension}: none");
        }
    }

    /// Column names and cells of every kind of row are those of its JSON form, in its order.
    #[cfg(feature = "columnar")]
    #[test]
    fn columns_are_the_fields_of_the_json_form() {
        fn check<R: Row>(scratch: &Scratch, rows: &[R]) {
            let refs: Vec<&R> = rows.iter().collect();
            let columns = R::columns(&refs).unwrap();
            let names: Vec<&str> = columns.iter().map(|column| column.name().as_str()).collect();
            let text = serde_json::to_string(&rows[0]).unwrap();
            let mut from = 0;
            for name in &names {
                let at = text[from..].find(&format!("\"{name}\":"));
                from += at.unwrap_or_else(|| panic!("{name} is not next in {}", &text[from..]));
            }
            let Value::Object(fields) = serde_json::to_value(&rows[0]).unwrap() else { panic!("no object") };
            assert_eq!(fields.len(), names.len(), "{names:?}");
            for format in [Format::Parquet, Format::Arrow] {
                let path = scratch.path("rows");
                columns::write(&path, format, false, Effort::Fast, all(rows.iter().map(Cow::Borrowed)))
                    .unwrap();
                let mut back = Vec::new();
                columns::read_values(&path, format, |value| {
                    back.push(value);
                    Ok(())
                })
                .unwrap();
                let wanted: Vec<Value> = rows.iter().map(|row| serde_json::to_value(row).unwrap()).collect();
                assert_eq!(back, wanted);
            }
        }
        let scratch = Scratch::new("columns");
        let capture = capture("a.pcap");
        check(&scratch, &verdict_rows());
        check(&scratch, &verdict_rows().into_iter().map(|row| row.flow).collect::<Vec<_>>());
        check(&scratch, &names());
        check(
            &scratch,
            &capture.pieces.iter().map(|p| PartialFlowRow::of(p, &capture.summary.path)).collect::<Vec<_>>(),
        );
        check(
            &scratch,
            &capture.dns.iter().map(|m| PartialNameRow::of(&m, &capture.summary.path)).collect::<Vec<_>>(),
        );
    }

    #[cfg(feature = "columnar")]
    #[test]
    fn more_rows_than_a_batch_come_back_in_order() {
        let scratch = Scratch::new("batches");
        let capture = capture("a.pcap");
        let mut pieces = Vec::new();
        for n in 0..(BATCH_ROWS as u64 + 10) {
            let mut piece = capture.pieces[1].clone();
            piece.low.bytes = n;
            pieces.push(piece);
        }
        let tallies = scratch.path("summary.jsonl");
        write_summary(&tallies, std::slice::from_ref(&capture.summary)).unwrap();
        for extension in ["parquet", "arrow"] {
            let path = scratch.path(&format!("flows.{extension}"));
            let packed: Pieces = pieces.iter().cloned().collect();
            write_partial_flows(&path, Effort::Fast, [(&capture.summary.path, &packed)].into_iter()).unwrap();
            let back = read(&[path], &[], std::slice::from_ref(&tallies)).unwrap();
            assert!(back.captures[0].pieces == packed, "{extension}");
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused_with_its_name() {
        let scratch = Scratch::new("refused");
        let one = capture("a.pcap");
        let mut other = one.clone();
        other.summary.frames += 1;
        for extension in FORMATS {
            let [flows, names, summaries] =
                write_partial(&scratch, "one", extension, std::slice::from_ref(&one));
            let [_, _, differing] = write_partial(&scratch, "other", extension, std::slice::from_ref(&other));
            let whole = scratch.path(&format!("whole.{extension}"));
            write_flows(&whole, &verdict_rows().into_iter().map(|row| row.flow).collect::<Vec<_>>()).unwrap();
            let twice = [flows.clone(), flows.clone()].concat();
            let same = [summaries.clone(), summaries.clone()].concat();
            let differ = [summaries.clone(), differing].concat();
            let problem = |result: Result<PartialRows, StoreError>| result.unwrap_err().to_string();
            assert!(read(&flows, &names, &same).is_ok(), "the same summary twice");
            for (text, part) in [
                (problem(read(std::slice::from_ref(&whole), &names, &summaries)), "extract --partial"),
                (problem(read(&flows, &names, &[])), "capture `a.pcap`, of which no summary"),
                (problem(read(&twice, &names, &summaries)), "named twice"),
                (problem(read(&flows, &names, &differ)), "summary of `a.pcap` says something else"),
                (problem(read(&flows, &flows, &summaries)), "message"),
                (problem(read(&[scratch.path("none.jsonl")], &[], &[])), "cannot be opened"),
            ] {
                assert!(text.contains(part), "{extension}: {text}");
            }
        }
    }

    #[test]
    fn rows_are_the_same_whatever_was_spent_on_them() {
        let scratch = Scratch::new("effort");
        let tallies = scratch.path("summary.jsonl");
        let capture = capture("a.pcap");
        write_summary(&tallies, std::slice::from_ref(&capture.summary)).unwrap();
        // None, some that make no batch, batches and no more, some more.
        for (extension, many) in FORMATS.iter().flat_map(|format| [0, 5, 256, 700].map(|many| (format, many)))
        {
            let rows = |effort| {
                let path = scratch.path(&format!("flows-{many}-{effort:?}.{extension}"));
                let row = |number: u64| {
                    let mut row = PartialFlowRow::of(&capture.pieces[1], &capture.summary.path);
                    row.packets_fwd = number;
                    Cow::<PartialFlowRow>::Owned(row)
                };
                write_rows(&path, true, effort, all((0..many).map(row))).unwrap();
                path
            };
            let both = [Effort::Fast, Effort::Sparing].map(rows);
            if *extension == "jsonl" {
                assert!(std::fs::read(&both[0]).unwrap() == std::fs::read(&both[1]).unwrap());
            }
            for path in both {
                let back = read(std::slice::from_ref(&path), &[], std::slice::from_ref(&tallies)).unwrap();
                assert_eq!(back.captures[0].pieces.len() as u64, many, "{path}");
                #[cfg(feature = "columnar")]
                if *extension != "jsonl" {
                    let mut numbers = 0..many;
                    columns::read_values(&path, Format::of(&path).unwrap(), |row| {
                        assert_eq!(row["packets_fwd"].as_u64(), numbers.next(), "{path}");
                        Ok(())
                    })
                    .unwrap();
                    assert!(numbers.is_empty(), "{path}");
                }
            }
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it_and_the_line() {
        let scratch = Scratch::new("damaged");
        let tallies = scratch.path("summary.jsonl");
        write_summary(&tallies, &[summary("a.pcap")]).unwrap();
        for extension in FORMATS {
            let path = scratch.path(&format!("flows.{extension}"));
            std::fs::write(&path, b"{\"capture\":\"a.pcap\",\"partial\":\"{}\"}\nPAR1\0\0").unwrap();
            let error = read(std::slice::from_ref(&path), &[], std::slice::from_ref(&tallies)).unwrap_err();
            assert_eq!(error.path, path);
            if *extension == "jsonl" {
                assert!(error.problem.contains("row 1"), "{error}");
            }
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_is_told_and_the_others_count() {
        let scratch = Scratch::new("bad-rows");
        let tallies = scratch.path("summary.jsonl");
        let mut capture = capture("a.pcap");
        (capture.summary.flows, capture.summary.names) = (700, 0);
        write_summary(&tallies, std::slice::from_ref(&capture.summary)).unwrap();
        let rows = |bad: &[usize]| {
            let rows = (0..700).map(|number: usize| {
                let mut row = PartialFlowRow::of(&capture.pieces[1], &capture.summary.path);
                if bad.contains(&number) {
                    row.partial.truncate(20);
                }
                Cow::Owned(row)
            });
            rows.collect::<Vec<Cow<'static, PartialFlowRow>>>()
        };
        for extension in FORMATS {
            let path = scratch.path(&format!("flows.{extension}"));
            write_rows(&path, true, Effort::Fast, all(rows(&[300, 699]).into_iter())).unwrap();
            let back = read(std::slice::from_ref(&path), &[], std::slice::from_ref(&tallies)).unwrap();
            assert_eq!(back.captures[0].pieces.len(), 698, "{extension}");
            let [told] = &back.unreadable[..] else { panic!("{extension}: {:?}", back.unreadable) };
            assert_eq!(told.path, path);
            assert!(
                told.problem.starts_with("2 of 700 rows cannot be read, the first of them row 301: "),
                "{}",
                told.problem
            );
            // Nothing that can be read is no evidence at all.
            write_rows(&path, true, Effort::Fast, all(rows(&(0..700).collect::<Vec<_>>()).into_iter()))
                .unwrap();
            let error = read(std::slice::from_ref(&path), &[], std::slice::from_ref(&tallies)).unwrap_err();
            assert!(error.problem.starts_with("row 1: "), "{error}");
        }
    }

    #[test]
    fn the_format_follows_from_the_extension() {
        for (path, jsonl) in
            [("a.jsonl", true), ("A.JSONL", true), ("a.parquet", false), ("a.arrow", false), ("-", false)]
        {
            let format = Format::of(path);
            if jsonl {
                assert_eq!(format, Ok(Format::JsonLines), "{path}");
            } else if cfg!(feature = "columnar") {
                assert!(format.is_ok_and(|format| format != Format::JsonLines), "{path}");
            } else {
                assert!(format.unwrap_err().problem.contains("columnar"), "{path}");
            }
        }
        assert!(Format::of("a.csv").is_err() && Format::of("noextension").is_err());
    }
}
