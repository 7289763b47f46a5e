//! Rows to columns and back. The one door by which polars enters.

use super::pages::row_group;
use super::partial::{Carrier, PartialFlowRow, PartialNameRow};
use super::plain;
use super::sink::{StoreError, write_file};
use super::{BATCH_ROWS, Effort, Format, ROWS_SCHEMA, RowSink, SMALL_BATCH_ROWS};
use crate::flow::{ConnectTarget, FlowRecord, Proof};
use crate::model::Timestamp;
use crate::names::{AliasRow, NameRow, NameSource};
use crate::verdict::{NameEvidence, NameEvidenceSource, VerdictRow};
use data_encoding::BASE64;
use polars::prelude::*;
use polars_arrow::io::ipc::read::{FileReader, read_file_metadata};
use polars_arrow::io::ipc::write::{FileWriter, StreamWriter, WriteOptions};
use polars_arrow::record_batch::RecordBatchT;
use polars_parquet::parquet::metadata::RowGroupMetadata;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::net::IpAddr;
use std::sync::mpsc::{channel, sync_channel};

/// Rows that have columns: those of their JSON form, in its order.
pub(super) trait Columns: Clone + Send + Sync {
    /// The columns of some rows; of no rows, the empty columns with their types.
    fn columns(rows: &[&Self]) -> PolarsResult<Vec<Series>>;
}

/// Lets `fill` write rows as Parquet or Arrow.
pub(super) fn write<'r, R: Columns + 'r>(
    path: &str,
    format: Format,
    partial: bool,
    effort: Effort,
    fill: impl FnOnce(RowSink<'_, Cow<'r, R>>) -> io::Result<()>,
) -> Result<(), StoreError> {
    write_file(path, |out| {
        let facts = [
            ("portproof.schema", ROWS_SCHEMA.to_string()),
            ("portproof.rows", if partial { "partial" } else { "whole" }.to_owned()),
        ];
        let empty = frame::<R>(&[]).map_err(io_error)?;
        if format == Format::Parquet {
            let facts = facts.map(|(key, value)| (key.to_owned(), value));
            let mut writer = ParquetWriter::new(out)
                .with_key_value_metadata(Some(KeyValueMetadata::from_static(facts.into())))
                .batched(empty.schema())
                .map_err(io_error)?;
            let fields = writer.parquet_schema().fields().to_vec();
            let encode = |columns: DataFrame| row_group(&columns, &fields);
            batches(effort, fill, &encode, &mut |rows, group| writer.write_row_group(rows, &group))?;
            return writer.finish().map(|_| ()).map_err(io_error);
        }
        write_arrow(out, format, facts, &empty, |take| {
            batches(effort, fill, &Ok, &mut |_, batch| take(batch))
        })
    })
}

/// Rows whose columns are made at a time: a few hundred kilobytes, which stay near the processor while each column takes its
/// field of every row.
const NEAR_ROWS: usize = 512;

/// Hands over columns of a batch of rows at a time, as `encode` tells them, and how many rows they are of.
fn batches<'r, R: Columns + 'r, T: Send>(
    effort: Effort,
    fill: impl FnOnce(RowSink<'_, Cow<'r, R>>) -> io::Result<()>,
    encode: &(dyn Fn(DataFrame) -> PolarsResult<T> + Sync),
    take: &mut dyn FnMut(u64, T) -> PolarsResult<()>,
) -> io::Result<()> {
    match effort {
        Effort::Fast => beside(fill, encode, take),
        Effort::Sparing => in_place(fill, encode, take),
    }
}

/// Columns behind those of the rows before.
fn joined(batch: Option<DataFrame>, near: DataFrame) -> PolarsResult<DataFrame> {
    match batch {
        Some(mut batch) => batch.vstack_mut_owned(near).map(|_| ()).map(|()| batch),
        None => Ok(near),
    }
}

fn encode_batch<T>(
    mut batch: DataFrame,
    encode: &(dyn Fn(DataFrame) -> PolarsResult<T> + Sync),
) -> PolarsResult<(u64, T)> {
    batch.rechunk_mut();
    Ok((batch.height() as u64, encode(batch)?))
}

/// Batches of [`SMALL_BATCH_ROWS`] rows, one after the other: no row waits for a thread, and no thread keeps memory of its own.
fn in_place<'r, R: Columns + 'r, T>(
    fill: impl FnOnce(RowSink<'_, Cow<'r, R>>) -> io::Result<()>,
    encode: &(dyn Fn(DataFrame) -> PolarsResult<T> + Sync),
    take: &mut dyn FnMut(u64, T) -> PolarsResult<()>,
) -> io::Result<()> {
    const NEAR: usize = if NEAR_ROWS < SMALL_BATCH_ROWS { NEAR_ROWS } else { SMALL_BATCH_ROWS };
    let mut batch: Option<DataFrame> = None;
    let mut near: Vec<Cow<'r, R>> = Vec::with_capacity(NEAR);
    let mut add = |near: &mut Vec<Cow<'r, R>>, last: bool| -> PolarsResult<()> {
        if !near.is_empty() {
            let refs: Vec<&R> = near.iter().map(Cow::as_ref).collect();
            batch = Some(joined(batch.take(), frame(&refs)?)?);
            near.clear();
        }
        if let Some(whole) = batch.take_if(|batch| last || batch.height() >= SMALL_BATCH_ROWS) {
            let (rows, whole) = encode_batch(whole, encode)?;
            take(rows, whole)?;
        }
        Ok(())
    };
    fill(&mut |row| {
        near.push(row);
        if near.len() < NEAR { Ok(()) } else { add(&mut near, false).map_err(io_error) }
    })?;
    add(&mut near, true).map_err(io_error)
}

/// Batches of [`BATCH_ROWS`] rows. Rows become columns on one thread and columns what `encode` makes of them on another, while
/// further rows come: few rows wait at any time.
fn beside<'r, R: Columns + 'r, T: Send>(
    fill: impl FnOnce(RowSink<'_, Cow<'r, R>>) -> io::Result<()>,
    encode: &(dyn Fn(DataFrame) -> PolarsResult<T> + Sync),
    take: &mut dyn FnMut(u64, T) -> PolarsResult<()>,
) -> io::Result<()> {
    let gone = || io::Error::other("a thread that makes columns failed");
    std::thread::scope(|scope| {
        // Whoever ends drops its ends of these, and so the others end, too.
        let (rows_to, rows) = sync_channel::<Vec<Cow<'r, R>>>(2);
        let (columns_to, columns) = sync_channel::<PolarsResult<DataFrame>>(1);
        let (encoded_to, encoded) = channel::<PolarsResult<(u64, T)>>();
        // Rows go back to the thread that they come from: what one thread allocated and counted is dear for another to free.
        let (used_to, used) = channel::<Vec<Cow<'r, R>>>();
        scope.spawn(move || {
            let mut batch: Option<DataFrame> = None;
            while let Ok(rows) = rows.recv() {
                let refs: Vec<&R> = rows.iter().map(Cow::as_ref).collect();
                let near = frame(&refs);
                // Nobody takes them any more only where an error ended it all.
                let _ = used_to.send(rows);
                match near.and_then(|near| joined(batch.take(), near)) {
                    Ok(joined) if joined.height() < BATCH_ROWS => batch = Some(joined),
                    whole => {
                        if columns_to.send(whole).is_err() {
                            return;
                        }
                    }
                }
            }
            let _ = batch.map(|batch| columns_to.send(Ok(batch)));
        });
        scope.spawn(move || {
            while let Ok(batch) = columns.recv() {
                if encoded_to.send(batch.and_then(|batch| encode_batch(batch, encode))).is_err() {
                    return;
                }
            }
        });
        let mut one =
            |done: PolarsResult<(u64, T)>| done.and_then(|(rows, done)| take(rows, done)).map_err(io_error);
        let mut near: Vec<Cow<'r, R>> = Vec::new();
        let mut given = 0;
        let mut taken = 0;
        let mut send = |near: Vec<Cow<'r, R>>| {
            given += 1;
            rows_to.send(near).map_err(|_| gone())
        };
        fill(&mut |row| {
            near.push(row);
            if near.len() < NEAR_ROWS.min(BATCH_ROWS) {
                return Ok(());
            }
            let next = used.try_recv().map(|mut used| {
                taken += 1;
                used.clear();
                used
            });
            send(std::mem::replace(&mut near, next.unwrap_or_default()))?;
            encoded.try_iter().try_for_each(&mut one)
        })?;
        if !near.is_empty() {
            send(near)?;
        }
        drop(rows_to);
        encoded.iter().try_for_each(&mut one)?;
        // A thread that failed took rows with it.
        if used.iter().count() + taken == given { Ok(()) } else { Err(gone()) }
    })
}

/// Writes Arrow, a record batch for each batch of rows.
fn write_arrow(
    out: &mut dyn Write,
    format: Format,
    facts: [(&str, String); 2],
    empty: &DataFrame,
    fill: impl FnOnce(&mut dyn FnMut(DataFrame) -> PolarsResult<()>) -> io::Result<()>,
) -> io::Result<()> {
    let facts = Arc::new(facts.map(|(key, value)| (key.into(), value.into())).into_iter().collect());
    // The oldest level is what every Arrow reader knows.
    let level = CompatLevel::oldest();
    let schema = empty.schema().to_arrow(level);
    let chunks = |batch: DataFrame, write: &mut dyn FnMut(&RecordBatchT<ArrayRef>) -> PolarsResult<()>| {
        batch.iter_chunks(level, true).try_for_each(|chunk| write(&chunk))
    };
    if format == Format::Arrow {
        let options = WriteOptions { compression: Some(IpcCompression::default().into()) };
        let mut writer = FileWriter::try_new(out, Arc::new(schema), None, options).map_err(io_error)?;
        writer.set_custom_schema_metadata(facts);
        fill(&mut |batch| chunks(batch, &mut |chunk| writer.write(chunk, None)))?;
        writer.finish().map_err(io_error)
    } else {
        let mut writer = StreamWriter::new(out, WriteOptions { compression: None });
        writer.set_custom_schema_metadata(facts);
        writer.start(&schema, None).map_err(io_error)?;
        fill(&mut |batch| chunks(batch, &mut |chunk| writer.write(chunk, None)))?;
        writer.finish().map_err(io_error)
    }
}

fn frame<R: Columns>(rows: &[&R]) -> PolarsResult<DataFrame> {
    let columns = R::columns(rows)?.into_iter().map(Series::into_column).collect();
    DataFrame::new(rows.len(), columns)
}

fn io_error(error: PolarsError) -> io::Error {
    match error {
        PolarsError::IO { error, .. } => io::Error::new(error.kind(), error.to_string()),
        other => io::Error::other(other.to_string()),
    }
}

fn text<T: AsRef<str>>(name: &str, values: impl Iterator<Item = Option<T>>) -> Series {
    StringChunked::from_iter_options(name.into(), values).into_series()
}

fn words<T: AsRef<str>>(name: &str, values: impl Iterator<Item = T>) -> Series {
    StringChunked::from_iter_values(name.into(), values).into_series()
}

fn bytes<'r>(name: &str, values: impl Iterator<Item = &'r [u8]>) -> Series {
    BinaryChunked::from_iter_values(name.into(), values).into_series()
}

fn shown(name: &str, values: impl Iterator<Item = impl Display>) -> Series {
    shown_some(name, values.map(Some))
}

/// Addresses as texts. Those of IPv4 are written here: a row has two of them, and formatting takes several times as long.
fn ips(name: &str, values: impl Iterator<Item = IpAddr>) -> Series {
    let mut column = StringChunkedBuilder::new(name.into(), values.size_hint().0);
    let mut text = String::new();
    for value in values {
        text.clear();
        match value {
            IpAddr::V4(ip) => {
                for (place, octet) in ip.octets().into_iter().enumerate() {
                    if place > 0 {
                        text.push('.');
                    }
                    let digit = |value: u8| char::from(b'0' + value % 10);
                    if octet >= 100 {
                        text.push(digit(octet / 100));
                    }
                    if octet >= 10 {
                        text.push(digit(octet / 10));
                    }
                    text.push(digit(octet));
                }
            }
            IpAddr::V6(ip) => {
                // Writing to a text cannot fail.
                let _ = write!(text, "{ip}");
            }
        }
        column.append_value(&text);
    }
    column.finish().into_series()
}

fn shown_some<T: Display>(name: &str, values: impl Iterator<Item = Option<T>>) -> Series {
    let mut column = StringChunkedBuilder::new(name.into(), values.size_hint().0);
    let mut text = String::new();
    for value in values {
        match value {
            Some(value) => {
                text.clear();
                // Writing to a text cannot fail.
                let _ = write!(text, "{value}");
                column.append_value(&text);
            }
            None => column.append_null(),
        }
    }
    column.finish().into_series()
}

fn flag(name: &str, values: impl Iterator<Item = Option<bool>>) -> Series {
    BooleanChunked::from_iter_options(name.into(), values).into_series()
}

fn number<N: PolarsNumericType>(name: &str, values: impl Iterator<Item = Option<N::Native>>) -> Series
where
    ChunkedArray<N>: IntoSeries,
{
    ChunkedArray::<N>::from_iter_options(name.into(), values).into_series()
}

/// A number that is always there.
fn numbers_of<N: PolarsNumericType>(name: &str, values: impl Iterator<Item = N::Native>) -> Series
where
    ChunkedArray<N>: IntoSeries,
{
    ChunkedArray::<N>::from_iter_values(name.into(), values).into_series()
}

fn time(name: &str, values: impl Iterator<Item = Timestamp>) -> Series {
    Int64Chunked::from_iter_values(name.into(), values.map(|time| time.0))
        .into_datetime(TimeUnit::Nanoseconds, Some(TimeZone::UTC))
        .into_series()
}

/// A column of lists: `inner` makes one column of all elements, one list after the other.
fn list<'r, T: 'r>(
    name: &str,
    lists: impl Iterator<Item = &'r [T]>,
    inner: impl FnOnce(&[&'r T]) -> PolarsResult<Series>,
) -> PolarsResult<Series> {
    let mut elements = Vec::new();
    let mut offsets = vec![0i64];
    for list in lists {
        elements.extend(list);
        offsets.push(elements.len() as i64);
    }
    let values = inner(&elements)?.rechunk().chunks()[0].clone();
    let dtype = LargeListArray::default_datatype(values.dtype().clone());
    let array = LargeListArray::try_new(dtype, offsets.try_into()?, values, None)?;
    Ok(ListChunked::with_chunk(name.into(), array).into_series())
}

fn texts<'r, T: AsRef<str> + 'r>(name: &str, lists: impl Iterator<Item = &'r [T]>) -> PolarsResult<Series> {
    list(name, lists, |all| Ok(words("", all.iter())))
}

fn shown_list<'r, T: Display + 'r>(name: &str, lists: impl Iterator<Item = &'r [T]>) -> PolarsResult<Series> {
    list(name, lists, |all| Ok(shown("", all.iter())))
}

fn structure(name: &str, len: usize, fields: &[Series]) -> PolarsResult<StructChunked> {
    StructChunked::from_series(name.into(), len, fields.iter())
}

/// A column of structs, null where `present` says so (their fields are null there, too).
fn structure_or_null(
    name: &str,
    fields: &[Series],
    present: impl ExactSizeIterator<Item = bool>,
) -> PolarsResult<Series> {
    let column = structure(name, present.len(), fields)?;
    Ok(column.with_outer_validity(Some(present.collect())).into_series())
}

impl Columns for FlowRecord {
    fn columns(rows: &[&Self]) -> PolarsResult<Vec<Series>> {
        let r = || rows.iter().copied();
        let target = || r().map(|r| r.proxy_target.as_ref());
        Ok(vec![
            words("flow_id", r().map(|r| &r.flow_id)),
            words("capture", r().map(|r| &r.capture)),
            ips("initiator_ip", r().map(|r| r.initiator_ip)),
            numbers_of::<UInt16Type>("initiator_port", r().map(|r| r.initiator_port)),
            ips("responder_ip", r().map(|r| r.responder_ip)),
            numbers_of::<UInt16Type>("responder_port", r().map(|r| r.responder_port)),
            shown("proto", r().map(|r| r.proto)),
            words("initiator_by", r().map(|r| r.initiator_by.as_str())),
            number::<UInt16Type>("vlan", r().map(|r| r.vlan)),
            number::<UInt32Type>("vni", r().map(|r| r.vni)),
            time("first_ts", r().map(|r| r.first_ts)),
            time("last_ts", r().map(|r| r.last_ts)),
            numbers_of::<UInt64Type>("packets_fwd", r().map(|r| r.packets_fwd)),
            numbers_of::<UInt64Type>("packets_rev", r().map(|r| r.packets_rev)),
            numbers_of::<UInt64Type>("bytes_fwd", r().map(|r| r.bytes_fwd)),
            numbers_of::<UInt64Type>("bytes_rev", r().map(|r| r.bytes_rev)),
            numbers_of::<UInt64Type>("payload_fwd", r().map(|r| r.payload_fwd)),
            numbers_of::<UInt64Type>("payload_rev", r().map(|r| r.payload_rev)),
            words("conn_state", r().map(|r| r.conn_state.as_str())),
            words("outcome", r().map(|r| r.outcome.as_str())),
            number::<UInt8Type>("icmp_type", r().map(|r| r.icmp_type)),
            number::<UInt8Type>("icmp_code", r().map(|r| r.icmp_code)),
            numbers_of::<UInt32Type>("syn_count", r().map(|r| r.syn_count)),
            number::<Int64Type>("handshake_rtt_ns", r().map(|r| r.handshake_rtt_ns)),
            text("app", r().map(|r| r.app.map(|app| app.as_str()))),
            text("server_name", r().map(|r| r.server_name.as_ref().map(|name| name.as_str()))),
            text("http_host", r().map(|r| r.http_host.as_ref())),
            text("tls_version", r().map(|r| r.tls_version.as_ref())),
            list("frames", r().map(|r| &*r.frames), numbers)?,
            list("proof", r().map(|r| &*r.proof), proof)?,
            texts("tls_offered", r().map(|r| &*r.tls_offered))?,
            texts("alpn", r().map(|r| &*r.alpn))?,
            flag("ech", r().map(|r| Some(r.ech))),
            structure_or_null(
                "proxy_target",
                &connect_target(target()),
                rows.iter().map(|r| r.proxy_target.is_some()),
            )?,
            flag("reset_ttl_differs", r().map(|r| Some(r.reset_ttl_differs))),
            number::<UInt8Type>("tls_alert", r().map(|r| r.tls_alert)),
            number::<UInt16Type>("proxy_status", r().map(|r| r.proxy_status)),
        ])
    }
}

fn numbers(all: &[&u64]) -> PolarsResult<Series> {
    Ok(number::<UInt64Type>("", all.iter().map(|&&n| Some(n))))
}

fn proof(all: &[&Proof]) -> PolarsResult<Series> {
    let fields = [
        words("what", all.iter().map(|p| p.what.as_str())),
        words("capture", all.iter().map(|p| &p.capture)),
        number::<UInt64Type>("frame", all.iter().map(|p| Some(p.frame))),
    ];
    Ok(structure("", all.len(), &fields)?.into_series())
}

fn connect_target<'r>(all: impl Iterator<Item = Option<&'r ConnectTarget>> + Clone) -> [Series; 4] {
    [
        text("name", all.clone().map(|t| t.and_then(|t| t.name.as_ref()).map(|name| name.as_str()))),
        shown_some("ip", all.clone().map(|t| t.and_then(|t| t.ip))),
        number::<UInt16Type>("port", all.clone().map(|t| t.map(|t| t.port))),
        flag("tunnel", all.map(|t| t.map(|t| t.tunnel))),
    ]
}

impl Columns for VerdictRow {
    fn columns(rows: &[&Self]) -> PolarsResult<Vec<Series>> {
        let r = || rows.iter().copied();
        let flows: Vec<&FlowRecord> = r().map(|r| &r.flow).collect();
        let mut columns = FlowRecord::columns(&flows)?;
        let nearest = || r().map(|r| r.nearest.as_ref());
        let codes = |all: &[&crate::audit::Code]| Ok(words("", all.iter().map(|code| code.as_str())));
        columns.extend([
            texts("initiator_roles", r().map(|r| &*r.initiator_roles))?,
            texts("responder_roles", r().map(|r| &*r.responder_roles))?,
            list("names", r().map(|r| &*r.names), name_evidence)?,
            text("grade", r().map(|r| r.grade.map(|grade| grade.as_str()))),
            words("verdict", r().map(|r| r.verdict.as_str())),
            texts("rules", r().map(|r| &*r.rules))?,
            text("missing", r().map(|r| r.missing.map(|missing| missing.as_str()))),
            structure_or_null(
                "nearest",
                &[
                    text("rule", nearest().map(|n| n.map(|n| n.rule.as_str()))),
                    text("differs", nearest().map(|n| n.map(|n| n.differs.as_str()))),
                ],
                rows.iter().map(|r| r.nearest.is_some()),
            )?,
            list("findings", r().map(|r| &*r.findings), codes)?,
        ]);
        Ok(columns)
    }
}

fn name_evidence(all: &[&NameEvidence]) -> PolarsResult<Series> {
    let source = |evidence: &NameEvidence| match evidence.source {
        NameEvidenceSource::Dns => "dns",
        NameEvidenceSource::Tls => "tls",
        NameEvidenceSource::Http => "http",
        NameEvidenceSource::Proxy => "proxy",
    };
    let n = || all.iter().copied();
    let fields = [
        words("name", n().map(|n| n.name.as_str())),
        shown_list("chain", n().map(|n| &*n.chain))?,
        words("source", n().map(source)),
        number::<Int64Type>("age_ns", n().map(|n| n.age_ns)),
        words("scope", n().map(|n| &n.scope)),
        flag("expired", n().map(|n| Some(n.expired))),
        flag("late", n().map(|n| Some(n.late))),
    ];
    Ok(structure("", all.len(), &fields)?.into_series())
}

fn source_word(source: NameSource) -> &'static str {
    match source {
        NameSource::Dns => "dns",
        NameSource::DnsQuery => "dns-query",
        NameSource::Tls => "tls",
        NameSource::Quic => "quic",
        NameSource::Http => "http",
    }
}

fn aliases(all: &[&AliasRow]) -> PolarsResult<Series> {
    let fields = [
        words("owner", all.iter().map(|alias| alias.owner.as_str())),
        words("target", all.iter().map(|alias| alias.target.as_str())),
    ];
    Ok(structure("", all.len(), &fields)?.into_series())
}

fn seconds(all: &[&u32]) -> PolarsResult<Series> {
    Ok(number::<UInt32Type>("", all.iter().map(|&&n| Some(n))))
}

fn addresses<'r>(name: &str, lists: impl Iterator<Item = &'r [IpAddr]>) -> PolarsResult<Series> {
    shown_list(name, lists)
}

impl Columns for NameRow {
    fn columns(rows: &[&Self]) -> PolarsResult<Vec<Series>> {
        let r = || rows.iter().copied();
        Ok(vec![
            words("source", r().map(|r| source_word(r.source))),
            time("ts", r().map(|r| r.ts)),
            words("capture", r().map(|r| &r.capture)),
            ips("client_ip", r().map(|r| r.client_ip)),
            numbers_of::<UInt16Type>("client_port", r().map(|r| r.client_port)),
            shown_some("resolver_ip", r().map(|r| r.resolver_ip)),
            shown("transport", r().map(|r| r.transport)),
            number::<UInt16Type>("dns_id", r().map(|r| r.dns_id)),
            number::<UInt16Type>("rcode", r().map(|r| r.rcode)),
            text("qname", r().map(|r| r.qname.as_ref().map(|name| name.as_str()))),
            text("qtype", r().map(|r| r.qtype.as_ref())),
            flag("answered_query", r().map(|r| r.answered_query)),
            addresses("a", r().map(|r| &*r.a))?,
            addresses("aaaa", r().map(|r| &*r.aaaa))?,
            list("cname_chain", r().map(|r| &*r.cname_chain), aliases)?,
            list("ttls", r().map(|r| &*r.ttls), seconds)?,
            addresses("svcb_hints", r().map(|r| &*r.svcb_hints))?,
            flag("truncated", r().map(|r| r.truncated)),
            flag("salvaged", r().map(|r| r.salvaged)),
            numbers_of::<UInt64Type>("frame", r().map(|r| r.frame)),
            shown_some("server_ip", r().map(|r| r.server_ip)),
            number::<UInt16Type>("server_port", r().map(|r| r.server_port)),
            text("name", r().map(|r| r.name.as_ref())),
        ])
    }
}

impl Columns for PartialFlowRow {
    fn columns(rows: &[&Self]) -> PolarsResult<Vec<Series>> {
        let r = || rows.iter().copied();
        Ok(vec![
            words("flow_id", r().map(|r| &r.flow_id)),
            words("capture", r().map(|r| &r.capture)),
            ips("initiator_ip", r().map(|r| r.initiator_ip)),
            numbers_of::<UInt16Type>("initiator_port", r().map(|r| r.initiator_port)),
            ips("responder_ip", r().map(|r| r.responder_ip)),
            numbers_of::<UInt16Type>("responder_port", r().map(|r| r.responder_port)),
            shown("proto", r().map(|r| r.proto)),
            words("initiator_by", r().map(|r| r.initiator_by.as_str())),
            number::<UInt16Type>("vlan", r().map(|r| r.vlan)),
            number::<UInt32Type>("vni", r().map(|r| r.vni)),
            time("first_ts", r().map(|r| r.first_ts)),
            time("last_ts", r().map(|r| r.last_ts)),
            numbers_of::<UInt64Type>("packets_fwd", r().map(|r| r.packets_fwd)),
            numbers_of::<UInt64Type>("packets_rev", r().map(|r| r.packets_rev)),
            numbers_of::<UInt64Type>("bytes_fwd", r().map(|r| r.bytes_fwd)),
            numbers_of::<UInt64Type>("bytes_rev", r().map(|r| r.bytes_rev)),
            numbers_of::<UInt64Type>("payload_fwd", r().map(|r| r.payload_fwd)),
            numbers_of::<UInt64Type>("payload_rev", r().map(|r| r.payload_rev)),
            numbers_of::<UInt32Type>("syn_count", r().map(|r| r.syn_count)),
            number::<UInt32Type>("isn_fwd", r().map(|r| r.isn_fwd)),
            number::<UInt32Type>("isn_rev", r().map(|r| r.isn_rev)),
            number::<UInt64Type>("fin_fwd", r().map(|r| r.fin_fwd)),
            number::<UInt64Type>("fin_rev", r().map(|r| r.fin_rev)),
            number::<UInt64Type>("reset_fwd", r().map(|r| r.reset_fwd)),
            number::<UInt64Type>("reset_rev", r().map(|r| r.reset_rev)),
            list("frames", r().map(|r| &*r.frames), numbers)?,
            bytes("partial", r().map(|r| &*r.partial)),
        ])
    }
}

impl Columns for PartialNameRow {
    fn columns(rows: &[&Self]) -> PolarsResult<Vec<Series>> {
        let r = || rows.iter().copied();
        Ok(vec![
            words("source", r().map(|r| source_word(r.source))),
            time("ts", r().map(|r| r.ts)),
            words("capture", r().map(|r| &r.capture)),
            ips("client_ip", r().map(|r| r.client_ip)),
            numbers_of::<UInt16Type>("client_port", r().map(|r| r.client_port)),
            shown_some("resolver_ip", r().map(|r| r.resolver_ip)),
            shown("transport", r().map(|r| r.transport)),
            number::<UInt16Type>("dns_id", r().map(|r| r.dns_id)),
            number::<UInt16Type>("rcode", r().map(|r| r.rcode)),
            text("qname", r().map(|r| r.qname.as_ref().map(|name| name.as_str()))),
            text("qtype", r().map(|r| r.qtype.as_ref())),
            addresses("a", r().map(|r| &*r.a))?,
            addresses("aaaa", r().map(|r| &*r.aaaa))?,
            list("cname_chain", r().map(|r| &*r.cname_chain), aliases)?,
            list("ttls", r().map(|r| &*r.ttls), seconds)?,
            numbers_of::<UInt64Type>("frame", r().map(|r| r.frame)),
            bytes("message", r().map(|r| &*r.message)),
        ])
    }
}

/// Rows that are read from Parquet at a time, at most: row groups of ours are smaller, those of others may be of any size.
const MOST_ROWS: usize = if cfg!(test) { 100 } else { 1 << 18 };

/// Rows of a file, as they are handed over.
enum Batch<'b> {
    /// A group of rows of Parquet as it stands in the file. Those of its rows that nobody takes in this form come as columns.
    Group(&'b File, &'b RowGroupMetadata),
    /// Columns.
    Columns(DataFrame),
}

/// Reads a file batch by batch, only the columns named where some are. `take` tells how many rows of a group it took.
fn read_frames(
    path: &str,
    format: Format,
    columns: Option<&[&str]>,
    missing: impl Fn() -> StoreError,
    mut take: impl FnMut(Batch<'_>) -> Result<usize, StoreError>,
) -> Result<(), StoreError> {
    let open = || File::open(path).map_err(|error| StoreError::io(path, "cannot be opened", error));
    let unreadable = |error: PolarsError| StoreError::io(path, "cannot be read", io_error(error));
    let check = |schema: &ArrowSchema| {
        let lacks = columns.is_some_and(|names| names.iter().any(|&name| !schema.contains(name)));
        if lacks { Err(missing()) } else { Ok(()) }
    };
    match format {
        Format::Parquet => {
            let names = columns.map(|names| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
            let mut head = ParquetReader::new(open()?);
            check(&*head.schema().map_err(unreadable)?)?;
            let facts = head.get_metadata().map_err(unreadable)?.clone();
            let (mut from, file) = (0, open()?);
            for group in &facts.row_groups {
                let end = from + group.num_rows();
                from += take(Batch::Group(&file, group))?.min(group.num_rows());
                while from < end {
                    let rows = MOST_ROWS.min(end - from);
                    // A file opened anew: what was mapped of the batch before is not kept in memory.
                    let mut reader = ParquetReader::new(open()?);
                    reader.set_metadata(facts.clone());
                    // One thread's memory is used again for the next batch; that of others is given back and taken anew.
                    let reader = reader.read_parallel(ParallelStrategy::None);
                    let batch = reader.with_columns(names.clone()).with_slice(Some((from, rows))).finish();
                    take(Batch::Columns(batch.map_err(unreadable)?))?;
                    from += rows;
                }
            }
            Ok(())
        }
        Format::Arrow => {
            let mut file = BufReader::new(open()?);
            let facts = read_file_metadata(&mut file).map_err(unreadable)?;
            check(&facts.schema)?;
            let places = columns.map(|names| {
                let mut places: Vec<usize> =
                    names.iter().filter_map(|name| facts.schema.index_of(name)).collect();
                places.sort_unstable();
                places
            });
            let batches = FileReader::new(file, facts, places, None);
            let schema = batches.schema().clone();
            for batch in batches {
                let batch = batch.map_err(unreadable)?;
                let height = batch.len();
                let columns = schema
                    .iter_names()
                    .zip(batch.into_arrays())
                    .map(|(name, array)| Series::try_from((name.clone(), array)).map(Series::into_column));
                let columns = columns.collect::<PolarsResult<Vec<_>>>();
                let batch = columns.and_then(|columns| DataFrame::new(height, columns));
                take(Batch::Columns(batch.map_err(unreadable)?))?;
            }
            Ok(())
        }
        Format::JsonLines | Format::ArrowStream => {
            Err(StoreError::new(path, "rows are read from .parquet, .arrow or .jsonl files"))
        }
    }
}

/// Hands over a column of texts and one of texts or bytes, row by row.
pub(super) fn read_carried(
    path: &str,
    format: Format,
    columns: [&str; 2],
    mut row: impl FnMut(Option<&str>, Option<Carrier<'_>>) -> Result<(), StoreError>,
    missing: impl Fn() -> StoreError,
) -> Result<(), StoreError> {
    let [first, second] = columns;
    let mut memory = Vec::new();
    read_frames(path, format, Some(&columns), missing, |batch| {
        let batch = match batch {
            Batch::Group(file, group) => {
                let row = |text: &str, bytes: &[u8]| row(Some(text), Some(Carrier::Bytes(bytes)));
                return plain::rows(file, group, columns, &mut memory, row);
            }
            Batch::Columns(batch) => batch,
        };
        let unfit = |error: PolarsError| StoreError::io(path, "cannot be read", io_error(error));
        let text = batch.column(first).and_then(|column| column.str()).map_err(unfit)?;
        // A text is its bytes, too.
        let carried =
            batch.column(second).and_then(|column| column.cast(&DataType::Binary)).map_err(unfit)?;
        for (text, bytes) in text.iter().zip(carried.binary().map_err(unfit)?.iter()) {
            row(text, bytes.map(Carrier::Bytes))?;
        }
        Ok(batch.height())
    })
}

/// Hands over each row as the JSON object that the same row is in a `.jsonl` file.
pub(super) fn read_values(
    path: &str,
    format: Format,
    mut take: impl FnMut(Value) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let unreadable = |error: PolarsError| StoreError::io(path, "cannot be read", io_error(error));
    read_frames(
        path,
        format,
        None,
        || StoreError::new(path, "has no rows"),
        |batch| {
            let batch = match batch {
                Batch::Group(..) => return Ok(0),
                Batch::Columns(batch) => batch,
            };
            let columns = batch.columns().iter().map(|column| {
                let series = column.as_materialized_series();
                Ok((series.name().to_string(), values(series)?))
            });
            let columns: Vec<_> = columns.collect::<PolarsResult<_>>().map_err(unreadable)?;
            objects(batch.height(), columns).try_for_each(&mut take)?;
            Ok(batch.height())
        },
    )
}

fn objects(len: usize, columns: Vec<(String, Vec<Value>)>) -> impl Iterator<Item = Value> {
    let mut columns: Vec<_> = columns.into_iter().map(|(name, values)| (name, values.into_iter())).collect();
    (0..len).map(move |_| {
        let fields =
            columns.iter_mut().map(|(name, values)| (name.clone(), values.next().unwrap_or_default()));
        Value::Object(fields.collect::<Map<_, _>>())
    })
}

/// A column's cells as JSON.
fn values(series: &Series) -> PolarsResult<Vec<Value>> {
    let or_null = |value: Option<Value>| value.unwrap_or_default();
    Ok(match series.dtype() {
        DataType::String => series.str()?.iter().map(|v| or_null(v.map(Value::from))).collect(),
        DataType::Binary => {
            let text = |bytes: &[u8]| Value::from(BASE64.encode(bytes));
            series.binary()?.iter().map(|v| or_null(v.map(text))).collect()
        }
        DataType::Boolean => series.bool()?.iter().map(|v| or_null(v.map(Value::from))).collect(),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            let wide = series.cast(&DataType::UInt64)?;
            wide.u64()?.iter().map(|v| or_null(v.map(Value::from))).collect()
        }
        DataType::Int64 => series.i64()?.iter().map(|v| or_null(v.map(Value::from))).collect(),
        DataType::Datetime(TimeUnit::Nanoseconds, _) => {
            let nanos = series.datetime()?.physical();
            nanos.iter().map(|v| or_null(v.map(|v| Value::from(Timestamp(v).to_string())))).collect()
        }
        DataType::List(_) => {
            let lists = series.list()?.series_iter();
            lists
                .map(|list| list.map_or(Ok(Value::Null), |list| values(&list).map(Value::Array)))
                .collect::<PolarsResult<_>>()?
        }
        DataType::Struct(_) => {
            let fields = series.struct_()?.fields_as_series();
            let fields = fields.iter().map(|field| Ok((field.name().to_string(), values(field)?)));
            let objects = objects(series.len(), fields.collect::<PolarsResult<Vec<_>>>()?);
            let absent = series.is_null();
            objects
                .zip(absent.iter())
                .map(|(object, absent)| if absent == Some(true) { Value::Null } else { object })
                .collect()
        }
        other => {
            polars_bail!(ComputeError: "column `{}` is of type {other}, which no row has", series.name())
        }
    })
}
