//! Findings as SARIF 2.1.0 (OASIS), for code hosts and security tools.

use super::human::{by_capture, damage, joined, moment, party};
use super::text::printable;
use crate::audit::{Audit, Code, End, Finding, Party, Severity};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The audit as one SARIF log with one run: every finding code is a rule, every finding a result, every capture an
/// artifact. Frame numbers stand in properties: a frame is no region of a text.
///
/// # Errors
/// If writing fails.
pub fn sarif(out: &mut dyn Write, audit: &Audit) -> io::Result<()> {
    let artifacts: Vec<Value> = audit.inputs.iter().map(artifact).collect();
    let index: BTreeMap<&str, usize> =
        audit.inputs.iter().enumerate().map(|(index, input)| (&*input.path, index)).collect();
    let results: Vec<Value> = audit.findings.iter().map(|finding| result(finding, &index)).collect();
    let told: Vec<Value> = damage(audit)
        .into_iter()
        .map(|line| json!({ "level": "warning", "message": { "text": printable(&line) } }))
        .collect();
    let mut driver = json!({
        "name": audit.tool.name,
        "version": audit.tool.version,
        "semanticVersion": audit.tool.version,
        "rules": Code::ALL.iter().map(|&code| rule(code)).collect::<Vec<_>>(),
    });
    if let Some(commit) = &audit.tool.commit {
        driver["properties"] = json!({ "commit": commit });
    }
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": driver },
            "invocations": [{
                "executionSuccessful": !audit.inputs.is_empty() && audit.unaudited.is_none(),
                "toolExecutionNotifications": told,
            }],
            "automationDetails": { "id": format!("portproof/{}/", uri(&audit.site.name)) },
            "artifacts": artifacts,
            "results": results,
            "columnKind": "unicodeCodePoints",
            "properties": {
                "site": printable(&audit.site.name),
                "measuredAgainst": audit.rules.iter().map(|pack| json!({
                    "id": printable(&pack.id), "page": printable(&pack.title()), "url": pack.link().map(printable),
                    "date": pack.day().map(printable), "sha256": printable(&pack.sha256),
                })).collect::<Vec<_>>(),
                "evidenceIncomplete": audit.incomplete(),
                "remarks": audit.remarks.iter().map(|remark| printable(remark)).collect::<Vec<_>>(),
            },
        }],
    });
    serde_json::to_writer_pretty(&mut *out, &log)?;
    out.write_all(b"\n")
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Note => "note",
    }
}

fn rule(code: Code) -> Value {
    json!({
        "id": code.as_str(),
        "name": pascal(code.as_str()),
        "shortDescription": { "text": code.sentence() },
        "fullDescription": { "text": format!("{} Example: {}", code.sentence(), code.example()) },
        "help": { "text": code.advice() },
        "defaultConfiguration": { "level": level(code.severity()) },
        "properties": { "severity": code.severity().as_str(), "tags": ["network"] },
    })
}

/// `unexpected-traffic` as `UnexpectedTraffic`.
fn pascal(word: &str) -> String {
    let capital = |part: &str| {
        let mut letters = part.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
            .unwrap_or_default()
    };
    word.split('-').map(capital).collect()
}

fn artifact(input: &crate::audit::CaptureSummary) -> Value {
    let mut properties =
        json!({ "path": printable(&input.path), "format": input.format, "frames": input.frames });
    match input.end {
        End::Complete => {}
        End::Damaged { frame, offset, .. } => {
            properties["damagedAt"] = json!({ "frame": frame, "offset": offset });
        }
        End::Interrupted { frame, offset } => {
            properties["interruptedAt"] = json!({ "frame": frame, "offset": offset });
        }
    }
    let mut artifact = json!({
        "location": { "uri": uri(&input.path) },
        "length": input.bytes,
        "roles": ["analysisTarget"],
        "mimeType": "application/vnd.tcpdump.pcap",
        "properties": properties,
    });
    if let Some(digest) = &input.sha256 {
        artifact["hashes"] = json!({ "sha-256": digest });
    }
    artifact
}

fn result(finding: &Finding, index: &BTreeMap<&str, usize>) -> Value {
    let mut locations: Vec<Value> = by_capture(&finding.evidence)
        .into_iter()
        .map(|(capture, frames)| {
            let mut artifact = json!({ "uri": uri(capture) });
            if let Some(index) = index.get(capture) {
                artifact["index"] = json!(index);
            }
            let noun = if frames.len() == 1 { "frame" } else { "frames" };
            json!({
                "physicalLocation": { "artifactLocation": artifact },
                "message": { "text": format!("{noun} {}", joined(frames.iter())) },
                "properties": { "frames": frames },
            })
        })
        .collect();
    let rules: Vec<Value> =
        finding.rules.iter().map(|rule| json!({ "name": printable(rule), "kind": "matrix-rule" })).collect();
    if !rules.is_empty() {
        match locations.first_mut() {
            Some(first) => first["logicalLocations"] = Value::Array(rules),
            None => locations.push(json!({ "logicalLocations": rules })),
        }
    }
    let mut text = printable(&finding.title);
    for line in finding.details.iter().map(String::as_str).chain([&*finding.remedy]) {
        text.push_str(if text.ends_with('.') { " " } else { ". " });
        text.push_str(&printable(line));
    }
    let mut result = json!({
        "ruleId": finding.code.as_str(),
        "ruleIndex": Code::ALL.iter().position(|&code| code == finding.code).unwrap_or_default(),
        "level": level(finding.severity),
        "kind": "fail",
        "message": { "text": text },
        "locations": locations,
        "occurrenceCount": finding.count.max(1),
        "partialFingerprints": { "portproof/v1": fingerprint(finding) },
        "properties": properties(finding),
    });
    if finding.code == Code::Accepted {
        // The site file accepts it: external to what is audited.
        result["suppressions"] =
            json!([{ "kind": "external", "status": "accepted", "justification": printable(&finding.title) }]);
    }
    result
}

fn properties(finding: &Finding) -> Value {
    let mut all = Map::new();
    all.insert("severity".into(), json!(finding.severity.as_str()));
    let texts = [
        ("from", party(&finding.from)),
        ("to", party(&finding.to)),
        ("first", finding.first_ts.map(moment).unwrap_or_default()),
        ("last", finding.last_ts.map(moment).unwrap_or_default()),
        ("displayFilter", finding.display_filter.clone().unwrap_or_default()),
        ("remedy", finding.remedy.to_string()),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        all.insert(name.into(), json!(printable(&text)));
    }
    let lists = [
        ("rules", finding.rules.clone()),
        ("outcomes", finding.outcomes.iter().map(ToString::to_string).collect()),
        ("details", finding.details.clone()),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        all.insert(name.into(), json!(list.iter().map(|text| printable(text)).collect::<Vec<_>>()));
    }
    Value::Object(all)
}

/// The same for the same (code, initiator host, destination, port, transport) in any audit, whatever the counts, times and
/// frames: the name counts where there is one, because addresses behind names change.
fn fingerprint(finding: &Finding) -> String {
    let side = |party: &Party| {
        let who = match (&party.name, party.ip) {
            (Some(name), _) => name.to_string(),
            (None, Some(ip)) => ip.to_string(),
            (None, None) => String::new(),
        };
        let port = party.port.map(|port| port.to_string()).unwrap_or_default();
        let proto = party.proto.map(|proto| proto.to_string()).unwrap_or_default();
        [party.roles.join("+"), who, port, proto]
    };
    let mut key = vec![finding.code.as_str().to_owned()];
    key.extend(side(&finding.from));
    key.extend(side(&finding.to));
    key.extend(finding.rules.iter().cloned());
    if key.iter().skip(1).all(String::is_empty) {
        key.push(finding.title.clone());
    }
    // A byte that no part has, so that parts cannot run into each other.
    crate::model::hex(&Sha256::digest(key.join("\0").as_bytes()))
}

/// A path as a URI reference (RFC 3986): absolute ones as `file:`, everything unusual percent-encoded.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte))
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn log(audit: &Audit) -> Value {
        let mut out = Vec::new();
        sarif(&mut out, audit).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    #[rustfmt::skip]
    fn a_path_becomes_a_uri_reference() {
        for (path, expected) in [
            ("captures/lab.pcap",   "captures/lab.pcap"),
            ("/var/c a.pcap",       "file:///var/c%20a.pcap"),
            ("a:b?c#d%.pcap",       "a%3Ab%3Fc%23d%25.pcap"),
            ("ü\u{202e}.pcap",      "%C3%BC%E2%80%AE.pcap"),
            ("-",                   "-"),
        ] { assert_eq!(uri(path), expected); }
    }

    #[test]
    fn a_fingerprint_outlives_counts_times_and_frames_and_tells_findings_apart() {
        let finding = sample::finding(Code::UnexpectedTraffic, "one title");
        let mut later = finding.clone();
        (later.count, later.first_ts, later.title) = (99, None, "another title".into());
        later.evidence.clear();
        assert_eq!(fingerprint(&finding), fingerprint(&later));
        let mut other = finding.clone();
        other.to.port = Some(8444);
        let mut attempt = finding.clone();
        attempt.code = Code::UnexpectedAttempt;
        for other in [other, attempt] {
            assert_ne!(fingerprint(&finding), fingerprint(&other));
        }
    }

    #[test]
    fn every_result_has_its_rule_its_level_and_its_place() {
        let audit = sample::audit();
        let log = log(&audit);
        let run = &log["runs"][0];
        let against = &run["properties"]["measuredAgainst"][0];
        assert_eq!(
            (&against["url"], &against["date"]),
            (&"https://vendor.example/ports?a=1&b=2".into(), &"2026-01-06".into())
        );
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert_eq!(rules.len(), Code::ALL.len());
        let results = run["results"].as_array().unwrap();
        assert_eq!(results.len(), audit.findings.len());
        for (result, finding) in results.iter().zip(&audit.findings) {
            let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
            assert_eq!(rule["id"], result["ruleId"]);
            assert_eq!(result["ruleId"], finding.code.as_str());
            assert_eq!(result["level"], level(finding.severity));
            let artifact = &result["locations"][0]["physicalLocation"]["artifactLocation"];
            let place = usize::try_from(artifact["index"].as_u64().unwrap()).unwrap();
            assert_eq!(run["artifacts"][place]["location"]["uri"], artifact["uri"]);
            assert!(result["locations"][0]["physicalLocation"].get("region").is_none());
        }
        assert_eq!(results[0]["locations"][0]["properties"]["frames"], json!([1182, 2210, 9034]));
        assert!(results.last().unwrap()["suppressions"][0]["kind"] == "external");
        assert_eq!(run["invocations"][0]["toolExecutionNotifications"].as_array().unwrap().len(), 4);
    }

    #[test]
    fn nothing_from_the_evidence_steers_whoever_prints_it() {
        fn texts<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
            match value {
                Value::String(text) => out.push(text),
                Value::Array(items) => items.iter().for_each(|item| texts(item, out)),
                Value::Object(fields) => fields.values().for_each(|field| texts(field, out)),
                _ => {}
            }
        }
        let log = log(&sample::audit());
        let mut all = Vec::new();
        texts(&log, &mut all);
        let bad: Vec<&&str> =
            all.iter().filter(|t| t.chars().any(|c| c.is_control() || c == '\u{202e}')).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}
