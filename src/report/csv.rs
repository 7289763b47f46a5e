//! Judged rows as CSV (RFC 4180), for spreadsheets.

use super::text::printable;
use crate::verdict::VerdictRow;
use serde_json::Value;
use std::io::{self, Write};

/// The columns, in the order of the row's JSON form.
const COLUMNS: [&str; 46] = [
    "flow_id",
    "capture",
    "initiator_ip",
    "initiator_port",
    "responder_ip",
    "responder_port",
    "proto",
    "initiator_by",
    "vlan",
    "vni",
    "first_ts",
    "last_ts",
    "packets_fwd",
    "packets_rev",
    "bytes_fwd",
    "bytes_rev",
    "payload_fwd",
    "payload_rev",
    "conn_state",
    "outcome",
    "icmp_type",
    "icmp_code",
    "syn_count",
    "handshake_rtt_ns",
    "app",
    "server_name",
    "http_host",
    "tls_version",
    "frames",
    "proof",
    "tls_offered",
    "alpn",
    "ech",
    "proxy_target",
    "reset_ttl_differs",
    "tls_alert",
    "proxy_status",
    "initiator_roles",
    "responder_roles",
    "names",
    "grade",
    "verdict",
    "rules",
    "missing",
    "nearest",
    "findings",
];

/// Writes a header and one line a row, each ended by CR LF. Lists of plain values are joined by spaces, anything deeper is
/// JSON. Absent is empty.
///
/// # Errors
/// If writing fails.
pub fn csv(out: &mut dyn Write, rows: &[VerdictRow]) -> io::Result<()> {
    csv_head(out)?;
    rows.iter().try_for_each(|row| csv_row(out, row))
}

/// Writes the header alone.
///
/// # Errors
/// If writing fails.
pub fn csv_head(out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{}\r\n", COLUMNS.join(","))
}

/// Writes the line of one row.
///
/// # Errors
/// If writing fails.
pub fn csv_row(out: &mut dyn Write, row: &VerdictRow) -> io::Result<()> {
    let row = serde_json::to_value(row)?;
    let cells: Vec<String> =
        COLUMNS.iter().map(|&name| cell(&plain(row.get(name).unwrap_or(&Value::Null)))).collect();
    write!(out, "{}\r\n", cells.join(","))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(plain).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// Quoted where RFC 4180 asks for it. A text that a spreadsheet would take for a formula gets a single quote before it
/// (OWASP ASVS 1.2.10); one with control characters, as a file's name may have, is escaped as for a terminal.
fn cell(text: &str) -> String {
    let escaped;
    let text = if text.contains(|c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\n')) {
        escaped = printable(text);
        &escaped
    } else {
        text
    };
    let guard = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guarded = if guard { format!("'{text}") } else { text.to_owned() };
    if guarded.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", guarded.replace('"', "\"\""))
    } else {
        guarded
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_row_has_every_field_of_its_json_form_and_no_other() {
        let Value::Object(fields) = serde_json::to_value(sample::row()).unwrap() else { panic!("no object") };
        let fields: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
        assert_eq!(fields, COLUMNS.into_iter().collect());
    }

    #[test]
    #[rustfmt::skip]
    fn a_cell_is_quoted_and_never_a_formula() {
        for (text, written) in [
            ("tcp",              "tcp"),
            ("",                 ""),
            ("a,b",              "\"a,b\""),
            ("say \"hi\"",       "\"say \"\"hi\"\"\""),
            ("two\r\nlines",     "\"two\r\nlines\""),
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"), ("-1", "'-1"), ("@x", "'@x"), ("\tx", "'\tx"), ("\0x", "\\u{0}x"), ("a\u{1b}[31m", "a\\u{1b}[31m"),
            ("\rx",              "\"'\rx\""),
            ("=1,2",             "\"'=1,2\""),
        ] { assert_eq!(cell(text), written, "{text:?}"); }
    }

    #[test]
    fn lists_are_joined_and_deeper_values_are_json() {
        let mut out = Vec::new();
        csv(&mut out, &[sample::row()]).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].contains(",1182 2210,"), "{text}");
        assert!(lines[1].contains(r#""{""differs"":""port"",""rule"":""vbaz-12""}""#), "{text}");
    }
}
