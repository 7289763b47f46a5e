//! The audit as JUnit XML, for build servers: a test case for each row of the matrix, for each finding, for each capture.

use super::human::{by_capture, command, joined, kinds_of_block, party, seen};
use super::text::printable;
use crate::audit::{Audit, CoverageState, End, Finding, Severity};
use std::fmt::Write;

/// The audit as JUnit XML (the format of Apache Ant's JUnit reports), three suites.
///
/// `matrix`: blocked and intermittent rows are failures; rows that the captures do not exercise are skipped.
/// `findings`: each one of medium or high severity is a failure. `captures`: what could not be read whole is an error.
/// There are no times: the program has no clock, and rows take none.
pub fn junit(audit: &Audit) -> String {
    let suites = [("matrix", matrix(audit)), ("findings", findings(audit)), ("captures", captures(audit))];
    let all: Vec<&Case> = suites.iter().flat_map(|(_, cases)| cases).collect();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let name = escaped(&format!("portproof audit of {}", audit.site.name));
    _ = writeln!(text, "<testsuites name=\"{name}\" {}>", counts(&all));
    for (name, cases) in &suites {
        let cases: Vec<&Case> = cases.iter().collect();
        _ = writeln!(text, "  <testsuite name=\"{name}\" {}>", counts(&cases));
        cases.iter().for_each(|case| case.write(&mut text));
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

enum Fate {
    Passed,
    Skipped {
        message: String,
    },
    /// `body` is a line each.
    Failed {
        kind: String,
        message: String,
        body: Vec<String>,
    },
    Error {
        kind: &'static str,
        message: String,
    },
}

struct Case {
    class: String,
    name: String,
    fate: Fate,
}

impl Case {
    fn write(&self, out: &mut String) {
        let (class, name) = (escaped(&self.class), escaped(&self.name));
        // Writing to a String cannot fail.
        _ = write!(out, "    <testcase classname=\"{class}\" name=\"{name}\"");
        match &self.fate {
            Fate::Passed => out.push_str("/>\n"),
            Fate::Skipped { message } => {
                _ = writeln!(out, "><skipped message=\"{}\"/></testcase>", escaped(message));
            }
            Fate::Failed { kind, message, body } => {
                let (kind, message) = (escaped(kind), escaped(message));
                let body = body.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("\n");
                _ = writeln!(
                    out,
                    "><failure type=\"{kind}\" message=\"{message}\">{body}</failure></testcase>"
                );
            }
            Fate::Error { kind, message } => {
                let message = escaped(message);
                _ = writeln!(out, "><error type=\"{kind}\" message=\"{message}\"/></testcase>");
            }
        }
    }
}

fn counts(cases: &[&Case]) -> String {
    let of = |which: fn(&Fate) -> bool| cases.iter().filter(|case| which(&case.fate)).count();
    format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\"",
        cases.len(),
        of(|fate| matches!(fate, Fate::Failed { .. })),
        of(|fate| matches!(fate, Fate::Error { .. })),
        of(|fate| matches!(fate, Fate::Skipped { .. }))
    )
}

fn matrix(audit: &Audit) -> Vec<Case> {
    let kinds = kinds_of_block(audit);
    let case = |row: &crate::audit::Coverage| {
        let word = row.state.as_str().replace('-', " ");
        let because = row.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let fate = match row.state {
            CoverageState::Observed => Fate::Passed,
            CoverageState::NotObserved | CoverageState::NotObservable | CoverageState::NotApplicable => {
                Fate::Skipped { message: format!("{word}{because}") }
            }
            CoverageState::Blocked | CoverageState::Intermittent => {
                let about = audit.findings.iter().filter(|finding| {
                    finding.severity != Severity::Note && finding.rules.contains(&row.rule)
                });
                let outcomes = kinds.get(row.rule.as_str()).into_iter().flatten();
                let how = joined(outcomes);
                let how = if how.is_empty() || row.why.is_some() { because } else { format!(": {how}") };
                Fate::Failed {
                    kind: row.state.as_str().into(),
                    message: format!(
                        "{word}{how} ({} {})",
                        row.flows,
                        if row.flows == 1 { "flow" } else { "flows" }
                    ),
                    body: about.flat_map(told).collect(),
                }
            }
        };
        let ports = format!("{} {}", row.proto.to_uppercase(), row.ports);
        Case {
            class: format!("{}.row {}", row.page, row.row),
            name: format!("{}: {} -> {} {ports}", row.rule, row.from, row.to),
            fate,
        }
    };
    audit.coverage.iter().map(case).collect()
}

fn findings(audit: &Audit) -> Vec<Case> {
    let counted = audit.findings.iter().filter(|finding| finding.severity != Severity::Note);
    let mut cases: Vec<Case> = counted
        .map(|finding| Case {
            class: finding.code.to_string(),
            name: finding.title.clone(),
            fate: Fate::Failed {
                kind: finding.severity.as_str().into(),
                message: finding.code.sentence().into(),
                body: told(finding),
            },
        })
        .collect();
    if cases.is_empty() {
        let fate = Fate::Passed;
        cases.push(Case {
            class: "findings".into(),
            name: "no finding of medium or high severity".into(),
            fate,
        });
    }
    cases
}

/// A finding, a line each.
fn told(finding: &Finding) -> Vec<String> {
    let mut lines = vec![finding.title.clone()];
    let facts = [("from", party(&finding.from)), ("to", party(&finding.to)), ("seen", seen(finding))];
    lines.extend(
        facts.iter().filter(|(_, fact)| !fact.is_empty()).map(|(label, fact)| format!("{label}: {fact}")),
    );
    if !finding.outcomes.is_empty() {
        lines.push(format!("ended: {}", joined(finding.outcomes.iter())));
    }
    lines.extend(finding.details.iter().cloned());
    lines.push(format!("do: {}", finding.remedy));
    lines.extend(
        by_capture(&finding.evidence).iter().filter_map(|(capture, frames)| command(capture, frames)),
    );
    lines.extend(finding.display_filter.iter().map(|filter| format!("filter: {filter}")));
    lines
}

fn captures(audit: &Audit) -> Vec<Case> {
    let class = || "captures".to_owned();
    let read = audit.inputs.iter().map(|input| {
        let unfit = input.chosen.iter().flat_map(|chosen| &chosen.unfit).next();
        let fate = match (&input.end, input.drops.unwrap_or_default()) {
            (End::Damaged { frame, offset, problem }, _) => Fate::Error {
                kind: "capture-damaged",
                message: format!("damaged at frame {frame}, byte {offset}: {problem}"),
            },
            (End::Interrupted { frame, offset }, _) => Fate::Error {
                kind: "capture-interrupted",
                message: format!("reading was interrupted at frame {frame}, byte {offset}"),
            },
            (End::Complete, drops) if drops > 0 => Fate::Error {
                kind: "capture-loss",
                message: format!("the capturing machine dropped {drops} frames"),
            },
            (End::Complete, _) => match unfit {
                Some(unfit) => Fate::Error { kind: "capture-loss", message: unfit.to_string() },
                None => Fate::Passed,
            },
        };
        Case { class: class(), name: input.path.to_string(), fate }
    });
    let unread = audit.unreadable.iter().map(|input| Case {
        class: class(),
        name: input.path.clone(),
        fate: Fate::Error { kind: "unreadable", message: input.problem.clone() },
    });
    let unaudited = audit.unaudited.iter().map(|unaudited| Case {
        class: class(),
        name: "the end of the run".to_owned(),
        fate: Fate::Error {
            kind: "not-audited",
            message: format!("there was no time to audit {} frames", unaudited.frames),
        },
    });
    read.chain(unread).chain(unaudited).collect()
}

/// `text` for XML 1.0, in attributes and between tags: markup as references; what XML cannot hold, or could steer whoever
/// prints it, as `\u{1b}`.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn text_is_text_in_xml_whatever_it_says() {
        for (raw, safe) in [
            ("plain-name.pcap",        "plain-name.pcap"),
            ("<a b=\"c\">&'</a>",      "&lt;a b=&quot;c&quot;&gt;&amp;&#39;&lt;/a&gt;"),
            ("]]><!--",                "]]&gt;&lt;!--"),
            ("a\0\u{1b}\nb",           "a\\u{0}\\u{1b}\\u{a}b"),
            ("\u{fffe}\u{ffff}",       "\\u{fffe}\\u{ffff}"),
            ("\u{202e}\u{2066}ü東",     "\\u{202e}\\u{2066}ü東"),
        ] { assert_eq!(escaped(raw), safe); }
    }

    #[test]
    fn each_suite_counts_its_own_cases() {
        let text = junit(&sample::audit());
        for part in [
            "<testsuite name=\"matrix\" tests=\"5\" failures=\"1\" errors=\"0\" skipped=\"3\">",
            "<testsuite name=\"findings\" tests=\"3\" failures=\"3\" errors=\"0\" skipped=\"0\">",
            "<testsuite name=\"captures\" tests=\"3\" failures=\"0\" errors=\"3\" skipped=\"0\">",
            "<skipped message=\"not applicable: the condition private-environment is off\"/>",
            "<failure type=\"blocked\" message=\"blocked: refused, filtered (12 flows)\">",
        ] {
            assert!(text.contains(part), "lacks {part}:\n{text}");
        }
        assert!(junit(&sample::quiet()).contains("no finding of medium or high severity\"/>"));
    }
}
