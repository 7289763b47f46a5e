//! Rows to files and back: JSON lines always, Parquet and Arrow through polars where the `columnar` feature is on.
//!
//! Whole rows are for people and tools. Partial rows are what the map step hands to the reduce step: the same columns as far
//! as one stretch of a capture can fill them, and one more that holds the mergeable value itself.

#[cfg(feature = "columnar")]
mod columns;
mod partial;
mod sink;

pub use partial::{PartialCapture, PartialFlowRow, PartialNameRow, read_partial};
pub use sink::StoreError;

use crate::audit::CaptureSummary;
use crate::flow::{FlowRecord, PartialFlow};
use crate::names::{DnsObservation, NameRow};
use crate::verdict::VerdictRow;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sink::write_file;
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

/// Version of the columns. Raised when a column changes its meaning or goes; new columns do not raise it.
pub const ROWS_SCHEMA: u32 = 1;

/// How many rows are turned into columns at a time: a row group of Parquet, a record batch of Arrow.
///
/// Fewer make larger files that are slower to read; more cost memory, about half a kilobyte a row.
#[cfg(feature = "columnar")]
const BATCH_ROWS: usize = 1 << 16;

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

/// Writes rows. They come one by one, as the text of partial ones is large.
fn write_rows<'r, R: Row + Clone + 'r>(
    path: &str,
    partial: bool,
    rows: impl Iterator<Item = Cow<'r, R>>,
) -> Result<(), StoreError> {
    match Format::of(path)? {
        Format::JsonLines => write_json_lines(path, rows),
        #[cfg(feature = "columnar")]
        format => columns::write(path, format, partial, rows),
        #[cfg(not(feature = "columnar"))]
        _ => {
            // `Format::of` gives no other format in this build.
            let _ = partial;
            Ok(())
        }
    }
}

fn write_json_lines<'r, T: Serialize + Clone + 'r>(
    path: &str,
    rows: impl Iterator<Item = Cow<'r, T>>,
) -> Result<(), StoreError> {
    write_file(path, |out| {
        for row in rows {
            serde_json::to_writer(&mut *out, row.as_ref()).map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}

/// Writes whole flow rows.
///
/// # Errors
/// If the format is unknown or the file cannot be written.
pub fn write_flows(path: &str, rows: &[FlowRecord]) -> Result<(), StoreError> {
    write_rows(path, false, rows.iter().map(Cow::Borrowed))
}

/// Writes judged flow rows.
///
/// # Errors
/// If the format is unknown or the file cannot be written.
pub fn write_verdict_rows(path: &str, rows: &[VerdictRow]) -> Result<(), StoreError> {
    write_rows(path, false, rows.iter().map(Cow::Borrowed))
}

/// Writes name rows.
///
/// # Errors
/// If the format is unknown or the file cannot be written.
pub fn write_names(path: &str, rows: &[NameRow]) -> Result<(), StoreError> {
    write_rows(path, false, rows.iter().map(Cow::Borrowed))
}

/// Writes partial flow rows: of each capture its name and stretches.
///
/// # Errors
/// If the format is unknown or the file cannot be written.
pub fn write_partial_flows<'a>(
    path: &str,
    captures: impl Iterator<Item = (&'a Arc<str>, &'a [PartialFlow])>,
) -> Result<(), StoreError> {
    let rows = captures
        .flat_map(|(capture, pieces)| pieces.iter().map(move |piece| PartialFlowRow::of(piece, capture)));
    write_rows(path, true, rows.map(Cow::<PartialFlowRow>::Owned))
}

/// Writes partial name rows: of each capture its name and DNS messages.
///
/// # Errors
/// If the format is unknown or the file cannot be written.
pub fn write_partial_names<'a>(
    path: &str,
    captures: impl Iterator<Item = (&'a Arc<str>, &'a [DnsObservation])>,
) -> Result<(), StoreError> {
    let rows = captures
        .flat_map(|(capture, dns)| dns.iter().map(move |message| PartialNameRow::of(message, capture)));
    write_rows(path, true, rows.map(Cow::<PartialNameRow>::Owned))
}

/// Writes the tallies of captures: JSON lines, whatever the extension; `-` is standard output.
///
/// # Errors
/// If the file cannot be written.
pub fn write_summary(path: &str, captures: &[CaptureSummary]) -> Result<(), StoreError> {
    write_json_lines(path, captures.iter().map(Cow::Borrowed))
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
    match Format::of(path)? {
        Format::JsonLines => read_json_lines(path, |row| {
            rows.push(row);
            Ok(())
        })?,
        #[cfg(feature = "columnar")]
        format => columns::read_values(path, format, |value| {
            let row = serde_json::from_value(value)
                .map_err(|error| StoreError::new(path, format!("row {}: {error}", rows.len() + 1)))?;
            rows.push(row);
            Ok(())
        })?,
        #[cfg(not(feature = "columnar"))]
        _ => {}
    }
    Ok(rows)
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
    let file = File::open(path).map_err(|error| StoreError::io(path, "cannot be opened", error))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        if read.map_err(|error| StoreError::io(path, "cannot be read", error))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let value = serde_json::from_slice(&line)
            .map_err(|error| StoreError::new(path, format!("line {number}: {error}")))?;
        take(value)?;
    }
    Ok(())
}
