//! The report as Markdown, for tickets and wikis.

use super::human::{
    answer, by_capture, capture_line, capture_quality, command, damage, grouped, joined, kinds_of_block,
    measured_against, names_quality, party, seen, states, totals,
};
use super::text::{printable, thousands};
use crate::audit::{Audit, Finding, Severity};
use std::fmt::Write;

/// The audit as Markdown (CommonMark, with tables). What comes from the evidence is escaped: it shows as text and never as
/// markup.
pub fn markdown(audit: &Audit) -> String {
    let mut page = Page::default();
    page.paragraph(&format!("# Audit of site {}", escaped(&audit.site.name)));
    page.paragraph(&format!("**{}**", escaped(&answer(audit))));
    page.list("Damage and loss", &damage(audit));
    page.list("Know before you read on", &audit.remarks);
    let mut notes = Vec::new();
    for ((severity, code), findings) in grouped(audit) {
        if severity == Severity::Note {
            notes.push(format!("{} {code}: {}", findings.len(), code.sentence()));
            continue;
        }
        page.paragraph(&format!("## {}: {code} ({})", severity.as_str(), findings.len()));
        page.paragraph(&escaped(code.sentence()));
        findings.iter().for_each(|finding| page.finding(finding));
    }
    page.list("Notes", &notes);
    page.coverage(audit);
    page.conversations(audit);
    page.list("What the names are worth", &names_quality(audit));
    let mut captures = capture_quality(audit);
    captures.extend(audit.inputs.iter().map(capture_line));
    page.list("What the captures are worth", &captures);
    let mut last = totals(audit);
    last.extend(measured_against(audit));
    last.push(format!("{} {}", audit.tool.name, audit.tool.version));
    page.list("Totals", &last);
    page.text
}

/// `text` so that Markdown shows it as it is.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in printable(text).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '!' | '&' | '$') {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}

/// Paragraphs and lists.
#[derive(Default)]
pub(super) struct Page {
    pub(super) text: String,
}

impl Page {
    pub(super) fn paragraph(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push_str("\n\n");
    }

    pub(super) fn list(&mut self, title: &str, items: &[String]) {
        if items.is_empty() {
            return;
        }
        self.paragraph(&format!("## {title}"));
        for item in items {
            // Writing to a String cannot fail.
            _ = writeln!(self.text, "- {}", escaped(item));
        }
        self.text.push('\n');
    }

    fn finding(&mut self, finding: &Finding) {
        self.paragraph(&format!("### {}", escaped(&finding.title)));
        let mut facts =
            vec![("from", party(&finding.from)), ("to", party(&finding.to)), ("seen", seen(finding))];
        facts.push(("ended", joined(finding.outcomes.iter().map(|outcome| outcome.as_str()))));
        facts.push(("rules", finding.rules.join(", ")));
        facts.extend(finding.details.iter().map(|detail| ("details", detail.clone())));
        let captures = by_capture(&finding.evidence);
        facts.extend(
            captures
                .iter()
                .map(|(capture, frames)| ("evidence", format!("{capture} frames {}", joined(frames.iter())))),
        );
        facts.push(("do", finding.remedy.to_string()));
        for (label, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
            _ = writeln!(self.text, "- {label}: {}", escaped(fact));
        }
        self.text.push('\n');
        let mut shown: Vec<String> =
            captures.iter().filter_map(|(capture, frames)| command(capture, frames)).collect();
        shown.extend(finding.display_filter.iter().map(|filter| printable(filter)));
        if shown.is_empty() {
            return;
        }
        // A fence that is longer than any run of backticks inside cannot be ended by what stands in it.
        let run = shown.iter().flat_map(|line| line.split(|c| c != '`')).map(str::len).max().unwrap_or(0);
        let fence = "`".repeat((run + 1).max(3));
        _ = writeln!(self.text, "{fence}text\n{}\n{fence}", shown.join("\n"));
        self.text.push('\n');
    }

    fn table(&mut self, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        _ = writeln!(self.text, "| {} |", head.join(" | "));
        _ = writeln!(self.text, "|{}", "---|".repeat(head.len()));
        for row in rows {
            let cells: Vec<String> = row.iter().map(|cell| escaped(cell)).collect();
            _ = writeln!(self.text, "| {} |", cells.join(" | "));
        }
        self.text.push('\n');
    }

    fn coverage(&mut self, audit: &Audit) {
        if audit.coverage.is_empty() {
            return;
        }
        self.paragraph("## Coverage");
        self.paragraph(&format!(
            "{} documented rules: {}.",
            audit.coverage.len(),
            escaped(&states(&audit.coverage))
        ));
        let kinds = kinds_of_block(audit);
        let head = ["rule", "state", "flows", "from", "to", "port", "why"];
        let rows = audit.coverage.iter().map(|row| {
            let kinds = kinds.get(row.rule.as_str()).into_iter().flatten().map(|outcome| outcome.as_str());
            let mut why: Vec<String> = Some(joined(kinds)).into_iter().filter(|k| !k.is_empty()).collect();
            why.extend(row.why.clone());
            why.dedup();
            vec![
                row.rule.clone(),
                row.state.as_str().replace('-', " "),
                thousands(row.flows),
                row.from.clone(),
                row.to.clone(),
                format!("{} {}", row.proto.to_uppercase(), row.ports),
                why.join("; "),
            ]
        });
        self.table(&head, rows);
    }

    fn conversations(&mut self, audit: &Audit) {
        if audit.conversations.is_empty() {
            return;
        }
        self.paragraph("## Who talks to whom");
        let rows = audit.conversations.iter().map(|c| {
            let verdicts = c.verdicts.iter().map(|(verdict, n)| format!("{} {n}", verdict.as_str()));
            let outcomes = c.outcomes.iter().map(|(outcome, n)| format!("{} {n}", outcome.as_str()));
            vec![
                c.from.clone(),
                c.to.clone(),
                thousands(c.flows),
                joined(verdicts),
                joined(outcomes),
                thousands(c.bytes),
            ]
        });
        self.table(&["from", "to", "flows", "verdicts", "outcomes", "bytes"], rows);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn what_comes_from_the_evidence_is_text_and_never_markup() {
        for (raw, safe) in [
            ("plain-name.pcap",         "plain-name.pcap"),
            ("<script>alert(1)</script>", "\\<script\\>alert(1)\\</script\\>"),
            ("a|b",                     "a\\|b"),
            ("[x](http://e)",           "\\[x\\](http://e)"),
            ("a\n# head",               "a\\\\u{a}\\# head"),
        ] { assert_eq!(escaped(raw), safe); }
    }

    #[test]
    fn a_command_block_is_not_ended_by_the_command() {
        let mut audit = sample::quiet();
        let mut finding = sample::finding(crate::audit::Code::UnexpectedTraffic, "x");
        finding.evidence[0].capture = "a```b.pcap".into();
        audit.findings = vec![finding];
        assert!(markdown(&audit).contains("\n````text\ntshark -r 'a```b.pcap'"), "{}", markdown(&audit));
    }

    #[test]
    fn the_page_begins_with_the_answer_and_has_every_finding() {
        let audit = sample::audit();
        let text = markdown(&audit);
        assert!(
            text.contains("\n\n**2 findings of high severity, 1 of medium; the evidence is incomplete.**\n")
        );
        assert!(text.contains("## high: documented-blocked (1)") && text.contains("vbaz-12 | blocked"));
        assert!(text.contains("```text\ntshark -r site-a.pcapng -Y 'frame.number in {1182, 2210, 9034}'\n"));
        assert!(!text.chars().any(|c| c != '\n' && c.is_control()));
    }
}
