//! What changed from one audit to another, for people and programs.

use super::human::{Page, Style, TOLD_PER_CODE, moment, verdict_counts, words};
use super::markdown::{self, escaped};
use super::text::count;
use crate::audit::{
    Compared, Conversation, ConversationChange, CoverageChange, CoverageState, Difference, Finding, Severity,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

/// A difference as text of at most 80 columns. Colours only where asked for; never a control character of the evidence.
#[derive(Clone, Copy, Debug)]
pub struct HumanDiff<'a> {
    /// What to tell.
    pub difference: &'a Difference,
    /// Whether escape sequences for colours may stand in the text.
    pub colour: bool,
}

/// The difference as one JSON value, indented, with a final line feed.
///
/// # Errors
/// If writing fails.
pub fn diff_json(out: &mut dyn Write, difference: &Difference, exit_code: u8) -> io::Result<()> {
    #[derive(Serialize)]
    struct Told<'a> {
        #[serde(flatten)]
        difference: &'a Difference,
        exit_code: u8,
    }
    serde_json::to_writer_pretty(&mut *out, &Told { difference, exit_code })?;
    out.write_all(b"\n")
}

/// The answer in one sentence.
fn answer(difference: &Difference) -> String {
    let Difference { old, new, findings, coverage, .. } = difference;
    let incomplete = if old.incomplete || new.incomplete { "; the evidence is incomplete" } else { "" };
    if difference.is_nothing() {
        return format!("Nothing changed{incomplete}.");
    }
    let high = findings.appeared.iter().filter(|finding| finding.severity == Severity::High).count();
    let high = if high > 0 { format!(" ({high} of high severity)") } else { String::new() };
    format!(
        "{} appeared{high}, {} vanished, {} changed; {} in another state{incomplete}.",
        count(findings.appeared.len() as u64, "finding"),
        findings.vanished.len(),
        findings.flipped.len(),
        count(coverage.len() as u64, "rule")
    )
}

/// One of the audits, in words.
fn compared(of: &Compared) -> String {
    let captured = of.first_ts.zip(of.last_ts);
    let captured = captured.map(|(first, last)| format!(", captured {} to {}", moment(first), moment(last)));
    format!(
        "{}: site {}, {}, {}{}",
        of.path,
        of.site,
        count(of.captures, "capture"),
        count(of.flows, "flow"),
        captured.unwrap_or_default()
    )
}

/// "not observed", "no such rule".
fn state(state: Option<CoverageState>) -> String {
    state.map_or("no such rule".to_owned(), |state| state.as_str().replace('-', " "))
}

/// A row whose state changed, in words.
fn row_change(change: &CoverageChange) -> String {
    format!("{}: {} -> {}", words(&change.row), state(change.old), state(change.new))
}

/// Rows by the state that they have now, and the one that they had: the worst now first.
fn by_states(
    coverage: &[CoverageChange],
) -> BTreeMap<(Option<CoverageState>, Option<CoverageState>), Vec<&CoverageChange>> {
    let mut by_states: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for change in coverage {
        by_states.entry((change.new, change.old)).or_default().push(change);
    }
    by_states
}

/// Two parties, and what was found of their flows.
fn pair(of: &Conversation) -> String {
    format!("{} -> {}: {}", of.from, of.to, verdict_counts(&of.verdicts))
}

/// Two parties of whose flows something else was found, in words.
fn parties_change(change: &ConversationChange) -> String {
    format!(
        "{} -> {}: {} -> {}",
        change.from,
        change.to,
        verdict_counts(&change.old),
        verdict_counts(&change.new)
    )
}

/// What is other than it was, in words; a finding may differ in several things.
fn turned(old: &Finding, new: &Finding) -> Vec<String> {
    let outcomes = |finding: &Finding| {
        finding.outcomes.iter().map(|outcome| outcome.as_str()).collect::<Vec<_>>().join(", ")
    };
    let facts = [
        ("code", old.code.as_str().to_owned(), new.code.as_str().to_owned()),
        ("severity", old.severity.as_str().to_owned(), new.severity.as_str().to_owned()),
        ("rules", old.rules.join(", "), new.rules.join(", ")),
        ("ended", outcomes(old), outcomes(new)),
    ];
    let nothing = |text: String| if text.is_empty() { "(none)".to_owned() } else { text };
    let other = facts.into_iter().filter(|(_, old, new)| old != new);
    other.map(|(what, old, new)| format!("{what}: {} -> {}", nothing(old), nothing(new))).collect()
}

impl fmt::Display for HumanDiff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { old, new, remarks, findings, coverage, conversations, .. } = self.difference;
        let mut page = Page::new(self.colour, coverage.iter().map(|change| &change.row));
        let said = |page: &mut Page<'_>| {
            let style = match findings.appeared.iter().map(|finding| finding.severity).min() {
                Some(Severity::High) => Style::Red,
                Some(Severity::Medium) => Style::Yellow,
                Some(Severity::Note) | None => Style::Bold,
            };
            page.sentence(style, &answer(self.difference));
        };
        said(&mut page);
        page.hang("Old  ", &compared(old));
        page.hang("New  ", &compared(new));
        if !remarks.is_empty() {
            page.heading("Know before you read on");
            remarks.iter().for_each(|remark| page.hang("  - ", remark));
        }
        if !findings.appeared.is_empty() {
            page.heading(&format!("Appeared: {}", count(findings.appeared.len() as u64, "finding")));
            by_kind(&mut page, &findings.appeared, |finding| finding, |page, finding| page.finding(finding));
        }
        if !findings.flipped.is_empty() {
            page.heading(&format!("Changed: {}", count(findings.flipped.len() as u64, "finding")));
            by_kind(
                &mut page,
                &findings.flipped,
                |pair| &pair.new,
                |page, pair| {
                    page.hang("  * ", &pair.new.title);
                    turned(&pair.old, &pair.new).iter().for_each(|line| page.hang("    ", line));
                },
            );
        }
        if !findings.vanished.is_empty() {
            page.heading(&format!("Vanished: {}", count(findings.vanished.len() as u64, "finding")));
            by_kind(
                &mut page,
                &findings.vanished,
                |gone| &gone.finding,
                |page, gone| {
                    page.hang("  * ", &gone.finding.title);
                    page.hang("    ", &gone.why);
                },
            );
        }
        if !coverage.is_empty() {
            page.heading(&format!("Rules in another state: {}", coverage.len()));
            for ((new, old), changes) in by_states(coverage) {
                page.hang("  ", &format!("{} -> {} ({})", state(old), state(new), changes.len()));
                told(&mut page, &changes, |page, change| page.hang("    - ", &words(&change.row)));
            }
        }
        let pairs = [conversations.appeared.len(), conversations.flipped.len(), conversations.vanished.len()];
        if pairs.iter().sum::<usize>() > 0 {
            page.heading("Who talks to whom: + appeared, ~ changed, - vanished");
            for (sign, pairs) in [("  + ", &conversations.appeared), ("  - ", &conversations.vanished)] {
                told(&mut page, pairs, |page, of| page.hang(sign, &pair(of)));
            }
            told(&mut page, &conversations.flipped, |page, change| {
                page.hang("  ~ ", &parties_change(change))
            });
        }
        // A terminal shows the last lines first.
        page.text.push('\n');
        said(&mut page);
        f.write_str(&page.text)
    }
}

/// Findings that are in order of their kinds.
fn by_kind<T>(
    page: &mut Page<'_>,
    all: &[T],
    finding: impl Fn(&T) -> &Finding,
    tell: impl Fn(&mut Page<'_>, &T),
) {
    let kind = |one: &T| (finding(one).severity, finding(one).code);
    for alike in all.chunk_by(|a, b| kind(a) == kind(b)) {
        alike.iter().take(1).for_each(|first| page.kind(kind(first), alike.len() as u64));
        told(page, alike, &tell);
    }
}

/// The first of them; how many more there are.
fn told<T>(page: &mut Page<'_>, all: &[T], tell: impl Fn(&mut Page<'_>, &T)) {
    all.iter().take(TOLD_PER_CODE).for_each(|one| tell(page, one));
    let more = all.len().saturating_sub(TOLD_PER_CODE);
    if more > 0 {
        page.hang("  ", &format!("... and {more} more: --format json tells all."));
    }
}

/// The difference for tickets and wikis, as Markdown. What comes from the evidence is escaped.
pub fn diff_markdown(difference: &Difference) -> String {
    let Difference { old, new, remarks, findings, coverage, conversations, .. } = difference;
    let mut page = markdown::Page::default();
    page.paragraph(&format!("# {}", escaped(&answer(difference))));
    page.list("Compared", &[format!("old: {}", compared(old)), format!("new: {}", compared(new))]);
    page.list("Know before you read on", remarks);
    let kind = |finding: &Finding| {
        format!("{} {}: {}", finding.severity.as_str().to_uppercase(), finding.code, finding.title)
    };
    let appeared = findings.appeared.iter().map(kind);
    let changed = findings.flipped.iter();
    let changed =
        changed.map(|pair| format!("{} ({})", kind(&pair.new), turned(&pair.old, &pair.new).join("; ")));
    let vanished = findings.vanished.iter().map(|gone| format!("{} ({})", kind(&gone.finding), gone.why));
    page.list("Appeared", &appeared.collect::<Vec<_>>());
    page.list("Changed", &changed.collect::<Vec<_>>());
    page.list("Vanished", &vanished.collect::<Vec<_>>());
    page.list("Rules in another state", &coverage.iter().map(row_change).collect::<Vec<_>>());
    let pairs = (conversations.appeared.iter().map(|of| format!("appeared: {}", pair(of))))
        .chain(conversations.flipped.iter().map(|of| format!("changed: {}", parties_change(of))))
        .chain(conversations.vanished.iter().map(|of| format!("vanished: {}", pair(of))));
    page.list("Who talks to whom", &pairs.collect::<Vec<_>>());
    page.text
}
