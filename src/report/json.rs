//! For programs: the audit as one JSON value, and everything as JSON lines.

use crate::audit::{
    Audit, CaptureSummary, FailOn, NamesQuality, PackUsed, SiteUsed, TagsUsed, Tool, Totals, Unaudited,
    Unreadable,
};
use crate::verdict::VerdictRow;
use serde::Serialize;
use std::io::{self, Write};

/// The audit, indented, with a final line feed.
///
/// # Errors
/// If writing fails.
pub fn json(out: &mut dyn Write, audit: &Audit) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, audit)?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
struct Typed<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    value: &'a T,
}

/// The last line: what the lines before do not say.
#[derive(Serialize)]
struct Last<'a> {
    schema: u32,
    tool: &'a Tool,
    site: &'a SiteUsed,
    rules: &'a [PackUsed],
    service_tags: &'a Option<TagsUsed>,
    further_service_tags: &'a [TagsUsed],
    unreadable: &'a [Unreadable],
    remarks: &'a [String],
    totals: &'a Totals,
    names_quality: &'a NamesQuality,
    incomplete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    unaudited: Option<Unaudited>,
    exit_code: u8,
}

/// One object a line, its kind under `type`: captures, flows, findings, coverage, and last the audit with totals and exit
/// code.
///
/// # Errors
/// If writing fails.
pub fn json_lines(
    out: &mut dyn Write,
    audit: &Audit,
    rows: &[VerdictRow],
    fail_on: FailOn,
) -> io::Result<()> {
    json_lines_head(out, &audit.inputs)?;
    rows.iter().try_for_each(|row| json_lines_row(out, row))?;
    json_lines_tail(out, audit, fail_on)
}

/// The first of those lines: the captures.
///
/// # Errors
/// If writing fails.
pub fn json_lines_head(out: &mut dyn Write, inputs: &[CaptureSummary]) -> io::Result<()> {
    lines(out, "capture", inputs)
}

/// Then the line of each flow.
///
/// # Errors
/// If writing fails.
pub fn json_lines_row(out: &mut dyn Write, row: &VerdictRow) -> io::Result<()> {
    lines(out, "flow", std::slice::from_ref(row))
}

/// The last of them: findings, coverage, the audit.
///
/// # Errors
/// If writing fails.
pub fn json_lines_tail(out: &mut dyn Write, audit: &Audit, fail_on: FailOn) -> io::Result<()> {
    lines(out, "finding", &audit.findings)?;
    lines(out, "coverage", &audit.coverage)?;
    let last = Last {
        schema: audit.schema,
        tool: &audit.tool,
        site: &audit.site,
        rules: &audit.rules,
        service_tags: &audit.service_tags,
        further_service_tags: &audit.further_service_tags,
        unreadable: &audit.unreadable,
        remarks: &audit.remarks,
        totals: &audit.totals,
        names_quality: &audit.names_quality,
        incomplete: audit.incomplete(),
        unaudited: audit.unaudited,
        exit_code: audit.exit_code(fail_on),
    };
    lines(out, "audit", &[last])
}

fn lines<T: Serialize>(out: &mut dyn Write, kind: &'static str, values: &[T]) -> io::Result<()> {
    for value in values {
        serde_json::to_writer(&mut *out, &Typed { kind, value })?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn lines_come_in_the_promised_order_and_the_last_tells_the_exit_code() {
        let (audit, rows) = (sample::audit(), [sample::row(), sample::row()]);
        let mut out = Vec::new();
        json_lines(&mut out, &audit, &rows, FailOn::Medium).unwrap();
        let lines: Vec<serde_json::Value> = out
            .split(|&b| b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        let mut kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        kinds.dedup();
        assert_eq!(kinds, ["capture", "flow", "finding", "coverage", "audit"]);
        let last = lines.last().unwrap();
        assert_eq!((last["exit_code"].as_u64(), last["incomplete"].as_bool()), (Some(3), Some(true)));
        let flow = lines.iter().find(|line| line["type"] == "flow").unwrap();
        assert_eq!(flow["first_ts"], "2026-01-06T10:22:31.004512000Z");
        assert_eq!(flow["verdict"], "undocumented");
        assert!(flow["missing"].is_null() && flow["vlan"].is_null());
    }

    #[test]
    fn the_audit_reads_back_as_it_was() {
        let audit = sample::audit();
        let mut out = Vec::new();
        json(&mut out, &audit).unwrap();
        assert_eq!(serde_json::from_slice::<Audit>(&out).unwrap(), audit);
        assert_eq!(out.last(), Some(&b'\n'));
    }
}
