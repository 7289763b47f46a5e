//! The terminal's report: the answer first, then what it rests on.

use super::text::{count, fit, printable, shell_word, thousands, width, wrap};
use crate::audit::{
    Audit, CaptureSummary, Code, Conversation, Coverage, CoverageState, End, EvidenceFrame, Finding,
    NOT_KEPT, Party, Severity, Unaudited, Unreadable, Untold, Verdict,
};
use crate::flow::Outcome;
use crate::model::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Columns that a line takes at the most, unless it is a command: what every terminal, mail and ticket shows unbroken.
const COLUMNS: usize = 80;
/// Findings of one code that are told one by one; the JSON audit has all.
pub const TOLD_PER_CODE: usize = 20;
/// Conversations that are told.
const TOLD_CONVERSATIONS: usize = 12;
/// Captures of one finding for which a command is printed.
const COMMANDS: usize = 3;
/// Width of the column of transports and ports.
const PORT: usize = 15;
/// Rules of one finding that are told in words.
const RULES: usize = 4;
/// Width of the labels before a finding's facts.
const LABEL: usize = 10;

/// The audit as text of at most 80 columns. Colours only where asked for; never a control character of the evidence.
#[derive(Clone, Copy, Debug)]
pub struct Human<'a> {
    /// What to tell.
    pub audit: &'a Audit,
    /// Findings that are not among those of the audit. Of their kinds it has [`TOLD_PER_CODE`].
    pub untold: &'a Untold,
    /// Whether escape sequences for colours may stand in the text.
    pub colour: bool,
}

impl fmt::Display for Human<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut page = Page::new(self.colour, &self.audit.coverage);
        page.answer(self.audit, self.untold);
        page.overview(self.audit, self.untold);
        page.damage(self.audit);
        page.remarks(self.audit);
        page.findings(self.audit, self.untold);
        page.coverage(self.audit, self.untold);
        page.conversations(self.audit);
        page.names(self.audit);
        page.captures(self.audit);
        page.totals(self.audit);
        // A terminal shows the last lines first.
        page.text.push('\n');
        page.answer(self.audit, self.untold);
        f.write_str(&page.text)
    }
}

/// The answer in one sentence.
pub fn answer(audit: &Audit) -> String {
    answer_with(audit, &Untold::default())
}

fn answer_with(audit: &Audit, untold: &Untold) -> String {
    if audit.inputs.is_empty() && audit.unaudited.is_none() {
        return "No capture could be read: nothing was audited.".into();
    }
    let of = |severity| {
        let told = audit.findings.iter().filter(|f| f.severity == severity).count() as u64;
        told + untold.of(severity)
    };
    let (high, medium) = (of(Severity::High), of(Severity::Medium));
    let mut text = match (high, medium) {
        // Not even then is it known that all is well.
        (0, 0) if audit.unaudited.is_some() => "no finding while it went on".to_owned(),
        (0, 0) if audit.totals.flows == 0 => "Nothing to report on: no flow in these captures".to_owned(),
        (0, 0) if audit.is_of_nobody() => {
            format!(
                "Nothing was judged: no audited machine takes part in any of {}",
                count(audit.totals.flows, "flow")
            )
        }
        (0, 0) => format!("Nothing to report: {} and no finding", count(audit.totals.flows, "flow")),
        (0, medium) => format!("{} of medium severity", count(medium, "finding")),
        (high, 0) => format!("{} of high severity", count(high, "finding")),
        (high, medium) => format!("{} of high severity, {medium} of medium", count(high, "finding")),
    };
    if let Some(Unaudited { frames, stretches }) = audit.unaudited {
        let (frames, stretches) = (count(frames, "frame"), thousands(stretches));
        return format!(
            "Not audited: {frames} ({stretches} stretches of conversations), since the run had to end at once; {text}; the evidence is \
             incomplete."
        );
    }
    if (high, medium) == (0, 0) && !audit.is_of_nobody() && of(Severity::Note) > 0 {
        text.push_str(" above a note");
    }
    text.push_str(if audit.incomplete() { "; the evidence is incomplete." } else { "." });
    text
}

/// How many findings of a kind there are, told or not.
fn how_many(kind: (Severity, Code), told: &[&Finding], untold: &Untold) -> u64 {
    told.len() as u64 + untold.counts.get(&kind).copied().unwrap_or_default()
}

/// A rule in words.
pub(super) fn words(row: &Coverage) -> String {
    format!(
        "{} (row {}): {} -> {}, {} {}",
        row.rule,
        row.row,
        row.from,
        row.to,
        row.proto.to_uppercase(),
        row.ports
    )
}

/// Time to the microsecond, as far as captures usually tell it.
pub(super) fn moment(time: Timestamp) -> String {
    let text = time.to_string();
    // "2026-01-06T10:22:31.004512000Z": the last three digits and the Z go.
    text.get(..text.len().saturating_sub(4)).map(|short| format!("{short}Z")).unwrap_or(text)
}

/// Findings with the same code and severity, most severe first.
pub(super) fn grouped(audit: &Audit) -> BTreeMap<(Severity, Code), Vec<&Finding>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for finding in &audit.findings {
        groups.entry((finding.severity, finding.code)).or_default().push(finding);
    }
    groups
}

/// What a reader must know about missing evidence before anything else.
pub(super) fn damage(audit: &Audit) -> Vec<String> {
    let mut lines = not_read(&audit.unreadable);
    for input in &audit.inputs {
        let path = printable(&input.path);
        match &input.end {
            End::Complete => {}
            End::Damaged { frame, offset, problem } => lines.push(format!(
                "{path}: damaged at frame {frame}, byte {offset}: {problem}. What comes before it counts, nothing after it."
            )),
            End::Interrupted { frame, offset } => lines.push(format!(
                "{path}: reading was interrupted at frame {frame}, byte {offset}. What comes before it counts; the rest was \
                 not read."
            )),
        }
        let unfit = input.chosen.iter().flat_map(|chosen| &chosen.unfit);
        lines.extend(unfit.map(|unfit| format!("{path}: {unfit}.")));
        if let Some(drops) = input.drops.filter(|&drops| drops > 0) {
            lines.push(format!("{path}: the capturing machine dropped {}.", count(drops, "frame")));
        }
        if let Some(unsaved) = input.live.as_ref().map(|live| live.unsaved).filter(|&unsaved| unsaved > 0) {
            lines.push(format!(
                "{path}: {} could not be written; they count here all the same.",
                count(unsaved, "frame")
            ));
        }
    }
    let ppm = audit.capture_quality.undecodable_ppm;
    if ppm > Audit::UNDECODABLE_LIMIT_PPM {
        lines.push(format!("{} of all frames could not be decoded.", percent(ppm)));
    }
    lines
}

/// Captures of one problem; more are counted.
const MOST_NAMED: usize = 3;

/// What was not read, and why: told together where the reason is the same.
fn not_read(unreadable: &[Unreadable]) -> Vec<String> {
    let alike = unreadable.chunk_by(|a, b| a.problem == b.problem);
    let tell = |alike: &[Unreadable]| {
        let named: Vec<_> = alike.iter().take(MOST_NAMED).map(|u| printable(&u.path)).collect();
        let more = alike.len() - named.len();
        let more =
            if more > 0 { format!(" and {}", count(more as u64, "more capture")) } else { String::new() };
        let problem = alike.first().map(|u| u.problem.as_str()).unwrap_or_default();
        format!("{}{more}: not read: {problem}", named.join(", "))
    };
    alike.map(tell).collect()
}

pub(super) fn percent(ppm: u64) -> String {
    format!("{}.{:02} %", ppm / 10_000, ppm % 10_000 / 100)
}

/// "backup-appliance 10.1.0.4", "nginx.org (203.0.113.7) TCP 443".
pub(super) fn party(party: &Party) -> String {
    let roles: Vec<&str> = party.roles.iter().map(String::as_str).filter(|role| !role.is_empty()).collect();
    let mut words = Vec::new();
    if !roles.is_empty() {
        words.push(roles.join("/"));
    }
    match (&party.name, party.ip) {
        (Some(name), Some(ip)) => words.push(format!("{name} ({ip})")),
        (Some(name), None) => words.push(name.to_string()),
        (None, Some(ip)) => words.push(ip.to_string()),
        (None, None) => {}
    }
    if let Some(proto) = party.proto {
        words.push(proto.to_string().to_uppercase());
    }
    if let Some(port) = party.port {
        words.push(port.to_string());
    }
    words.join(" ")
}

/// Frames by capture, in the order of the evidence.
pub(super) fn by_capture(evidence: &[EvidenceFrame]) -> Vec<(&str, Vec<u64>)> {
    let mut captures: Vec<(&str, Vec<u64>)> = Vec::new();
    for frame in evidence {
        match captures.iter_mut().find(|(capture, _)| *capture == &*frame.capture) {
            Some((_, frames)) => frames.push(frame.frame),
            None => captures.push((&frame.capture, vec![frame.frame])),
        }
    }
    captures
}

/// The command that shows frames of a capture; none where a live run kept none of them.
pub(super) fn command(capture: &str, frames: &[u64]) -> Option<String> {
    let kept = !capture.starts_with(NOT_KEPT);
    kept.then(|| {
        format!("tshark -r {} -Y 'frame.number in {{{}}}'", shell_word(capture), joined(frames.iter()))
    })
}

pub(super) fn joined<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// "3 times, first 2026-..., last 2026-..."
pub(super) fn seen(finding: &Finding) -> String {
    let times =
        if finding.count == 1 { "once".into() } else { format!("{} times", thousands(finding.count)) };
    match (finding.first_ts, finding.last_ts) {
        (Some(first), Some(last)) if last > first => {
            format!("{times}, first {}, last {}", moment(first), moment(last))
        }
        (Some(first), _) => format!("{times}, {}", moment(first)),
        (None, _) => times,
    }
}

/// Kinds of block of each blocked or intermittent rule, as the findings about it tell them.
pub(super) fn kinds_of_block(audit: &Audit) -> BTreeMap<&str, BTreeSet<Outcome>> {
    let mut kinds: BTreeMap<&str, BTreeSet<Outcome>> = BTreeMap::new();
    for finding in &audit.findings {
        if finding.code.tells_of_a_block() {
            for rule in &finding.rules {
                let blocked = finding.outcomes.iter().copied().filter(|outcome| outcome.is_blocked());
                kinds.entry(rule).or_default().extend(blocked);
            }
        }
    }
    kinds
}

/// Why rows that were not exercised were not, each reason with its rows.
pub(super) fn reasons(coverage: &[Coverage]) -> BTreeMap<(CoverageState, &str), Vec<&str>> {
    let mut reasons: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in coverage {
        match row.state {
            CoverageState::Observed | CoverageState::Blocked | CoverageState::Intermittent => {}
            CoverageState::NotObserved | CoverageState::NotObservable | CoverageState::NotApplicable => {
                if let Some(why) = &row.why {
                    reasons.entry((row.state, why.as_str())).or_default().push(row.rule.as_str());
                }
            }
        }
    }
    reasons
}

/// "2 blocked, 20 observed", in the order of the states.
pub(super) fn states(coverage: &[Coverage]) -> String {
    let mut counts: BTreeMap<CoverageState, u64> = BTreeMap::new();
    for row in coverage {
        *counts.entry(row.state).or_default() += 1;
    }
    joined(counts.into_iter().map(|(state, n)| format!("{n} {}", state.as_str().replace('-', " "))))
}

pub(super) fn verdict_counts(verdicts: &BTreeMap<Verdict, u64>) -> String {
    joined(verdicts.iter().map(|(verdict, &n)| format!("{} {}", thousands(n), verdict.as_str())))
}

pub(super) fn word_counts(counts: &BTreeMap<String, u64>) -> String {
    joined(counts.iter().map(|(word, &n)| format!("{word} {}", thousands(n))))
}

/// What the name evidence is worth, a sentence each.
pub(super) fn names_quality(audit: &Audit) -> Vec<String> {
    let q = &audit.names_quality;
    let mut lines = vec![format!(
        "DNS: {} ({} unanswered), {}",
        count(q.messages.queries, "query"),
        thousands(q.messages.unanswered),
        count(q.messages.responses, "response")
    )];
    let odd = [
        (q.messages.unmatched, "without a matching query"),
        (q.messages.untrusted, "from resolvers that the site does not list"),
        (q.messages.contested, "contested by another answer"),
        (q.messages.salvaged, "readable only in part"),
    ];
    lines.extend(
        odd.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n, "response"))),
    );
    if !q.grades.is_empty() {
        lines.push(format!("Destinations identified by: {}", word_counts(&q.grades)));
    }
    let marked = [
        (q.shared_addresses, "to addresses with several chains of names"),
        (q.expired, "named by an answer past its time to live"),
        (q.late, "named by an answer that came after they began"),
        (q.encrypted_hellos, "with an encrypted ClientHello, whose readable name may be a cover"),
    ];
    lines.extend(
        marked.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n, "flow"))),
    );
    lines.extend(q.encrypted_dns.iter().map(|used| {
        let who = party(&Party { roles: used.roles.clone(), ip: Some(used.host), ..Party::default() });
        format!("{who} uses {}: {}", used.title(), count(used.flows, "flow"))
    }));
    lines
}

/// What the captures are worth, a sentence each.
pub(super) fn capture_quality(audit: &Audit) -> Vec<String> {
    let q = &audit.capture_quality;
    let mut lines = Vec::new();
    if let Some((first, last)) = q.first_ts.zip(q.last_ts) {
        lines.push(format!(
            "{} to {}, frames in {}",
            moment(first),
            moment(last),
            count(q.intervals, "interval")
        ));
    }
    let same_interface = audit.inputs.iter().map(|input| input.same_interface_copies).sum::<u64>();
    let facts = [
        (q.drops, "frame", "dropped by the capturing machine"),
        (q.snaplen_cut, "frame", "cut by the snapshot length"),
        (q.duplicates, "frame", "seen again on another interface within 5 ms, counted once"),
        (same_interface, "frame", "seen again on the same interface within 5 ms, counted each time"),
        (q.one_sided, "TCP flow", "of which only one direction is seen"),
        (q.midstream, "TCP flow", "of which the beginning is not seen"),
        (q.unreadable_quotes, "ICMP error", "whose quoted packet cannot be read"),
    ];
    lines.extend(
        facts.iter().filter(|(n, ..)| *n > 0).map(|(n, noun, what)| format!("{} {what}", count(*n, noun))),
    );
    let live = || audit.inputs.iter().filter_map(|input| input.live.as_ref());
    let emergencies: u64 = live().map(|counts| counts.emergencies).sum();
    if emergencies > 0 {
        let (hurried, evicted) =
            live().fold((0, 0), |sum, counts| (sum.0 + counts.hurried, sum.1 + counts.evicted));
        lines.push(format!(
            "the table of open conversations was nearly full {}: {hurried} were cut early and {evicted} since all places \
             were taken, and all joined again",
            count(emergencies, "time"),
        ));
    }
    if q.undecodable_ppm > 0 {
        lines.push(format!("{} of the frames could not be decoded", percent(q.undecodable_ppm)));
    }
    lines
}

/// What the audit was measured against, a line each.
pub(super) fn measured_against(audit: &Audit) -> Vec<String> {
    let mut lines: Vec<String> = audit
        .rules
        .iter()
        .map(|pack| {
            let link = pack.link().map(|url| format!(": {url}")).unwrap_or_default();
            format!("Rules {}: {}{link}", pack.id, pack.in_words())
        })
        .collect();
    lines.extend(audit.service_tags.iter().chain(&audit.further_service_tags).map(|tags| {
        let date = tags.date.as_deref().unwrap_or("of unknown date");
        format!("Service tags {}: change {}, {date}", tags.cloud, tags.change_number)
    }));
    lines
}

/// Counts over everything, a line each.
pub(super) fn totals(audit: &Audit) -> Vec<String> {
    let t = &audit.totals;
    let skipped: u64 = t.skipped.values().sum();
    let mut lines = vec![format!(
        "Frames: {} = {} packets + {} skipped{}",
        thousands(t.frames),
        thousands(t.packets),
        thousands(skipped),
        if t.skipped.is_empty() { String::new() } else { format!(" ({})", word_counts(&t.skipped)) }
    )];
    lines.push(format!("Flows: {} ({})", thousands(t.flows), verdict_counts(&t.verdicts)));
    if !t.outcomes.is_empty() {
        let outcomes =
            t.outcomes.iter().map(|(outcome, &n)| format!("{} {}", thousands(n), outcome.as_str()));
        lines.push(format!("Outcomes: {}", joined(outcomes)));
    }
    let marked = [
        (t.conditional, "documented by a conditional rule that nobody switched off"),
        (t.supplied_names, "documented by a name that the page does not give"),
        (t.unsolicited_flows, "of nothing but unsolicited DNS answers: evidence, not judged"),
    ];
    lines.extend(
        marked.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n, "flow"))),
    );
    for (what, counts) in [("Link upkeep (platform)", &t.upkeep), ("Packets of no flow", &t.without_flow)] {
        if !counts.is_empty() {
            lines.push(format!("{what}: {}", word_counts(counts)));
        }
    }
    lines
}

/// Styles of the terminal, by ECMA-48 code.
#[derive(Clone, Copy)]
pub(super) enum Style {
    Bold,
    Red,
    Yellow,
    Dim,
}

/// Lines of at most [`COLUMNS`].
pub(super) struct Page<'a> {
    pub(super) text: String,
    colour: bool,
    rules: BTreeMap<&'a str, &'a Coverage>,
}

impl<'a> Page<'a> {
    /// An empty one, on which rules are told by these rows.
    pub(super) fn new(colour: bool, rows: impl IntoIterator<Item = &'a Coverage>) -> Page<'a> {
        Page { text: String::new(), colour, rules: rows.into_iter().map(|row| (&*row.rule, row)).collect() }
    }
}

impl Page<'_> {
    /// One line, as it is: the only place that ends lines.
    fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => 1,
            Style::Red => 31,
            Style::Yellow => 33,
            Style::Dim => 2,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.text.push('\n');
        for line in wrap(&printable(text), COLUMNS) {
            let line = self.paint(Style::Bold, &line);
            self.line(&line);
        }
    }

    /// A sentence that stands out.
    pub(super) fn sentence(&mut self, style: Style, text: &str) {
        for line in wrap(&printable(text), COLUMNS) {
            let line = self.paint(style, &line);
            self.line(&line);
        }
    }

    /// What kind of findings come next, and how many.
    pub(super) fn kind(&mut self, (severity, code): (Severity, Code), all: u64) {
        let style = match severity {
            Severity::High => Style::Red,
            Severity::Medium => Style::Yellow,
            Severity::Note => Style::Bold,
        };
        self.text.push('\n');
        let head = format!("{} {code} ({all})", severity.as_str().to_uppercase());
        let head = self.paint(style, &head);
        self.line(&head);
    }

    /// `first`, then text whose further lines are indented as far as `first` is wide.
    pub(super) fn hang(&mut self, first: &str, text: &str) {
        let indent = width(first);
        for (index, line) in wrap(&printable(text), COLUMNS - indent).into_iter().enumerate() {
            if index == 0 {
                self.line(&format!("{first}{line}"));
            } else {
                self.line(&format!("{:indent$}{line}", ""));
            }
        }
    }

    fn fact(&mut self, label: &str, text: &str) {
        self.hang(&format!("    {label:<LABEL$}"), text);
    }

    /// A command is never broken: it is there to be copied. It has no control characters (see [`shell_word`]).
    fn command(&mut self, label: &str, command: &str) {
        self.line(&format!("    {label:<LABEL$}{command}"));
    }

    fn answer(&mut self, audit: &Audit, untold: &Untold) {
        let style = match () {
            () if audit.findings.iter().any(|f| f.severity == Severity::High) => Style::Red,
            () if audit.incomplete() || audit.findings.iter().any(|f| f.severity == Severity::Medium) => {
                Style::Yellow
            }
            () => Style::Bold,
        };
        self.sentence(style, &answer_with(audit, untold));
        let mut what = format!("Site {}", audit.site.name);
        if !audit.inputs.is_empty() {
            what.push_str(&format!(
                ": {}, {}",
                count(audit.inputs.len() as u64, "capture"),
                count(audit.totals.flows, "flow")
            ));
            if !audit.totals.verdicts.is_empty() {
                what.push_str(&format!(" ({})", verdict_counts(&audit.totals.verdicts)));
            }
        }
        self.hang("", &format!("{what}."));
    }

    /// What the answer is of: when, against what, and how much of it was seen; then the findings by kind.
    fn overview(&mut self, audit: &Audit, untold: &Untold) {
        if let Some((first, last)) = audit.capture_quality.first_ts.zip(audit.capture_quality.last_ts) {
            self.hang("", &format!("Captured {} to {}.", moment(first), moment(last)));
        }
        if let Some(pack) = audit.rules.first() {
            self.hang("", &format!("Measured against {}.", pack.in_words()));
        }
        if !audit.coverage.is_empty() {
            self.hang("", &format!("Documented rules: {}.", states(&audit.coverage)));
        }
        let kinds = grouped(audit).into_iter().filter(|((severity, _), _)| *severity != Severity::Note);
        let kinds: Vec<String> = kinds
            .map(|(kind, findings)| format!("{} {}", kind.1, thousands(how_many(kind, &findings, untold))))
            .collect();
        if !kinds.is_empty() {
            self.hang("", &format!("Findings: {}.", kinds.join(", ")));
        }
    }

    fn damage(&mut self, audit: &Audit) {
        let lines = damage(audit);
        if lines.is_empty() {
            return;
        }
        self.heading("Damage and loss");
        for line in lines {
            self.hang("  ! ", &line);
        }
    }

    fn remarks(&mut self, audit: &Audit) {
        if audit.remarks.is_empty() {
            return;
        }
        self.heading("Know before you read on");
        for remark in &audit.remarks {
            self.hang("  - ", remark);
        }
    }

    fn findings(&mut self, audit: &Audit, untold: &Untold) {
        let mut notes = Vec::new();
        for ((severity, code), findings) in grouped(audit) {
            let all = how_many((severity, code), &findings, untold);
            if severity == Severity::Note {
                notes.push((code, findings, all));
                continue;
            }
            self.kind((severity, code), all);
            self.hang("  ", code.sentence());
            for finding in findings.iter().take(TOLD_PER_CODE) {
                self.finding(finding);
            }
            let more = all.saturating_sub(TOLD_PER_CODE as u64);
            if more > 0 {
                self.text.push('\n');
                self.hang("  ", &format!("... and {more} more of this kind: --format json tells all."));
            }
        }
        if notes.is_empty() {
            return;
        }
        self.heading("Notes");
        for (code, findings, all) in notes {
            self.hang("  ", &format!("{all} {code}: {}", code.sentence()));
            if code == Code::Accepted {
                findings.iter().take(TOLD_PER_CODE).for_each(|finding| self.hang("    - ", &finding.title));
            }
        }
        self.hang("  ", "`portproof explain CODE` says more about any of these.");
    }

    pub(super) fn finding(&mut self, finding: &Finding) {
        self.text.push('\n');
        self.hang("  * ", &finding.title);
        for (label, side) in [("from", &finding.from), ("to", &finding.to)] {
            let side = party(side);
            // Most titles say it already.
            if !side.is_empty() && !finding.title.contains(&side) {
                self.fact(label, &side);
            }
        }
        self.fact("seen", &seen(finding));
        if !finding.outcomes.is_empty() {
            self.fact("ended", &joined(finding.outcomes.iter().map(|outcome| outcome.as_str())));
        }
        let (told, ids): (Vec<_>, Vec<_>) = match &finding.rules[..] {
            few if few.len() <= RULES => few.iter().partition(|rule| self.rules.contains_key(&***rule)),
            many => (Vec::new(), many.iter().collect()),
        };
        let told: Vec<String> =
            told.iter().filter_map(|rule| self.rules.get(&***rule)).map(|row| words(row)).collect();
        let ids = (!ids.is_empty()).then(|| joined(ids.iter()));
        for (index, line) in told.into_iter().chain(ids).enumerate() {
            self.fact(if index == 0 { "rules" } else { "" }, &line);
        }
        for (index, detail) in finding.details.iter().enumerate() {
            self.fact(if index == 0 { "details" } else { "" }, detail);
        }
        let captures = by_capture(&finding.evidence);
        for (index, (capture, frames)) in captures.iter().enumerate() {
            let noun = if frames.len() == 1 { "frame" } else { "frames" };
            let label = if index == 0 { "evidence" } else { "" };
            self.fact(label, &format!("{} {noun} {}", printable(capture), joined(frames.iter())));
        }
        self.fact("do", &finding.remedy);
        let commands = captures.iter().filter_map(|(capture, frames)| command(capture, frames));
        for (index, command) in commands.take(COMMANDS).enumerate() {
            self.command(if index == 0 { "look" } else { "" }, &command);
        }
        if let Some(filter) = &finding.display_filter {
            self.command("filter", &printable(filter));
        }
    }

    fn coverage(&mut self, audit: &Audit, untold: &Untold) {
        if audit.coverage.is_empty() {
            return;
        }
        self.heading(&format!(
            "Coverage of the {} documented rules: {}",
            audit.coverage.len(),
            states(&audit.coverage)
        ));
        let mut kinds = kinds_of_block(audit);
        for (rule, blocks) in &untold.blocks {
            kinds.entry(rule).or_default().extend(blocks);
        }
        let rule_width = audit.coverage.iter().map(|row| width(&row.rule)).max().unwrap_or(0).min(16);
        let mut from = "";
        for row in &audit.coverage {
            if row.from != from {
                from = &row.from;
                self.hang("  ", &format!("{from} ->"));
            }
            let state = format!("{:<14}", row.state.as_str().replace('-', " "));
            let state = match row.state {
                CoverageState::Observed => state,
                CoverageState::Blocked => self.paint(Style::Red, &state),
                CoverageState::Intermittent => self.paint(Style::Yellow, &state),
                CoverageState::NotObserved | CoverageState::NotObservable | CoverageState::NotApplicable => {
                    self.paint(Style::Dim, &state)
                }
            };
            let rule = fit(&printable(&row.rule), rule_width);
            let port = fit(&printable(&format!("{} {}", row.proto.to_uppercase(), row.ports)), PORT);
            let to = fit(&printable(&row.to), COLUMNS - (4 + rule_width + 1 + 14 + 1 + 6 + 2 + PORT + 2));
            let flows = thousands(row.flows);
            self.line(&format!("    {rule:<rule_width$} {state} {flows:>6}  {port:<PORT$}  {to}"));
            if matches!(row.state, CoverageState::Blocked | CoverageState::Intermittent) {
                let kinds =
                    kinds.get(row.rule.as_str()).into_iter().flatten().map(|outcome| outcome.as_str());
                let mut how: Vec<String> = Vec::new();
                if kinds.clone().next().is_some() {
                    how.push(joined(kinds));
                }
                how.extend(row.why.clone());
                how.dedup();
                self.hang(&format!("    {:rule_width$} ", ""), &how.join("; "));
            }
        }
        for ((state, why), rules) in reasons(&audit.coverage) {
            let state = state.as_str().replace('-', " ");
            self.hang("  ", &format!("{state}, {why}: {}", rules.join(", ")));
        }
    }

    fn conversations(&mut self, audit: &Audit) {
        if audit.conversations.is_empty() {
            return;
        }
        // What needs a look comes first: it must not be among those that are not told.
        let mut busiest: Vec<&Conversation> = audit.conversations.iter().collect();
        let is_well = |conversation: &Conversation| {
            let of = |verdict| conversation.verdicts.contains_key(&verdict);
            let blocked = conversation.outcomes.keys().any(|outcome| outcome.is_blocked());
            !(of(Verdict::Undocumented) || of(Verdict::Undetermined) || blocked)
        };
        busiest.sort_by_key(|conversation| (is_well(conversation), std::cmp::Reverse(conversation.flows)));
        let verdicts = |conversation: &Conversation| {
            let blocked =
                conversation.outcomes.keys().any(|outcome| outcome.is_blocked()).then_some("blocked");
            joined(conversation.verdicts.keys().map(|verdict| verdict.as_str()).chain(blocked))
        };
        let told = || busiest.iter().take(TOLD_CONVERSATIONS);
        let verdict_width =
            told().map(|conversation| width(&verdicts(conversation))).max().unwrap_or(0).min(26);
        let parties_width = COLUMNS - (2 + 7 + 2 + 2 + verdict_width);
        self.heading("Who talks to whom");
        for conversation in told() {
            let verdicts = fit(&verdicts(conversation), verdict_width);
            let parties =
                fit(&printable(&format!("{} -> {}", conversation.from, conversation.to)), parties_width);
            let gap = parties_width - width(&parties);
            self.line(&format!("  {:>7}  {parties}{:gap$}  {verdicts}", thousands(conversation.flows), ""));
        }
        let more = busiest.len().saturating_sub(TOLD_CONVERSATIONS);
        if more > 0 {
            self.line(&format!("  ... and {more} more pairs with fewer flows"));
        }
    }

    fn names(&mut self, audit: &Audit) {
        if audit.inputs.is_empty() {
            return;
        }
        self.heading("What the names are worth");
        for line in names_quality(audit) {
            self.hang("  ", &line);
        }
    }

    fn captures(&mut self, audit: &Audit) {
        if audit.inputs.is_empty() {
            return;
        }
        self.heading("What the captures are worth");
        for line in capture_quality(audit) {
            self.hang("  ", &line);
        }
        for input in audit.inputs.iter().take(TOLD_PER_CODE) {
            self.hang("  ", &capture_line(input));
        }
        let more = audit.inputs.len().saturating_sub(TOLD_PER_CODE);
        if more > 0 {
            self.line(&format!("  ... and {}", count(more as u64, "more capture")));
        }
    }

    fn totals(&mut self, audit: &Audit) {
        self.heading("Totals");
        for line in totals(audit).iter().chain(&measured_against(audit)) {
            self.hang("  ", line);
        }
        let tool = &audit.tool;
        let commit = tool.commit.as_ref().map(|commit| format!(" ({commit})")).unwrap_or_default();
        self.hang("  ", &format!("{} {}{commit}", tool.name, tool.version));
    }
}

/// "site-a.pcapng: pcapng, 9,100 frames, 9,000 packets, complete".
pub(super) fn capture_line(input: &CaptureSummary) -> String {
    let end = match &input.end {
        End::Complete => "read to its end",
        End::Damaged { .. } => "damaged",
        End::Interrupted { .. } => "interrupted",
    };
    format!(
        "{}: {}, {}, {}, {end}",
        input.path,
        input.format,
        count(input.frames, "frame"),
        count(input.packets, "packet")
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn human(audit: &Audit, colour: bool) -> String {
        Human { audit, untold: &Untold::default(), colour }.to_string()
    }

    #[test]
    fn the_first_line_is_the_answer() {
        let mut audit = sample::audit();
        let first = |audit: &Audit| human(audit, false).lines().next().unwrap_or_default().to_owned();
        assert_eq!(first(&audit), "2 findings of high severity, 1 of medium; the evidence is incomplete.");
        audit.findings.retain(|finding| finding.severity != Severity::High);
        assert_eq!(first(&audit), "1 finding of medium severity; the evidence is incomplete.");
        audit.findings.retain(|finding| finding.severity == Severity::Note);
        assert_eq!(
            answer(&audit),
            "Nothing to report: 80 flows and no finding above a note; the evidence is incomplete."
        );
        assert_eq!(first(&sample::quiet()), "Nothing to report: 80 flows and no finding.");
        audit.inputs.clear();
        assert_eq!(first(&audit), "No capture could be read: nothing was audited.");
        // Where none of the machines was seen it is not known that all is well.
        let mut of_others = sample::quiet();
        of_others.totals.audited_flows = Some(0);
        assert_eq!(
            first(&of_others),
            "Nothing was judged: no audited machine takes part in any of 80 flows."
        );
        of_others.totals.audited_flows = Some(1);
        assert_eq!(first(&of_others), "Nothing to report: 80 flows and no finding.");
    }

    #[test]
    fn no_command_is_told_for_frames_that_nobody_kept() {
        assert_eq!(command("live:eth0/000001", &[1, 2]), None);
        let told = "tshark -r a.pcap -Y 'frame.number in {1, 2}'".to_owned();
        assert_eq!(command("a.pcap", &[1, 2]), Some(told));
    }

    #[test]
    fn no_line_but_a_command_is_wider_than_eighty_columns() {
        for audit in [sample::audit(), sample::quiet()] {
            for line in human(&audit, false).lines() {
                let command = line.contains("tshark -r");
                assert!(command || width(line) <= 80, "{} columns: {line}", width(line));
            }
        }
    }

    #[test]
    fn nothing_from_the_evidence_steers_the_terminal() {
        let text = human(&sample::audit(), false);
        let bad: Vec<char> =
            text.chars().filter(|&c| c != '\n' && (c.is_control() || c == '\u{202e}')).collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert!(text.contains("\\u{1b}[2J"), "the name is told, escaped");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let audit = sample::audit();
        let coloured = human(&audit, true);
        let mut bare = coloured.clone();
        for code in ["\u{1b}[1m", "\u{1b}[31m", "\u{1b}[33m", "\u{1b}[2m", "\u{1b}[0m"] {
            bare = bare.replace(code, "");
        }
        assert!(coloured.contains("\u{1b}[31m"));
        let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trimmed(&bare), trimmed(&human(&audit, false)));
    }

    #[test]
    fn a_finding_can_be_acted_on() {
        let text = human(&sample::audit(), false);
        for part in [
            "HIGH unexpected-traffic (1)",
            "    from      backup-appliance 10.1.0.4",
            "    to        203.0.113.7 TCP 8443",
            "    seen      3 times, first 2026-01-06T10:22:31.004512Z, last",
            "    ended     established",
            "    evidence  site-a.pcapng frames 1182, 2210, 9034",
            "    look      tshark -r site-a.pcapng -Y 'frame.number in {1182, 2210, 9034}'",
            "tshark -r $'captures/it\\'s\\x1b[2J",
            "    filter    ip.addr == 203.0.113.7 && tcp.port == 8443",
            "    to        nginx.org (203.0.113.7) TCP 8443",
            "2 rule-not-observed: No traffic exercised",
            "    - backup-appliance 10.1.0.4 -> 10.20.0.99 TCP 9100: change 4711",
            "vbaz-12 blocked",
            "refused, filtered",
            "not applicable, the condition private-environment is off: vbaz-14",
            "damaged at frame 4212, byte 611040",
            "dropped 12 frames",
            "Frames: 18,200 = 18,000 packets + 200 skipped (header-cut 20, not-ip 180)",
        ] {
            assert!(text.contains(part), "lacks {part:?}:\n{text}");
        }
        let froms = text.lines().filter(|line| line.starts_with("    from ")).count();
        assert_eq!(froms, 1, "only where the title does not say it:\n{text}");
    }

    #[test]
    fn damage_is_told_before_the_findings() {
        let text = human(&sample::audit(), false);
        let at = |part: &str| text.find(part).unwrap_or(usize::MAX);
        assert!(at("Damage and loss") < at("HIGH "));
        assert!(!human(&sample::quiet(), false).contains("Damage and loss"));
    }

    #[test]
    fn many_findings_of_one_kind_are_told_in_part_and_counted() {
        let mut audit = sample::quiet();
        audit.findings = (0..25)
            .map(|n| sample::finding(Code::UnexpectedAttempt, &format!("attempt number {n}.")))
            .collect();
        let text = human(&audit, false);
        assert!(text.contains("attempt number 19.") && !text.contains("attempt number 20."));
        assert!(text.contains("... and 5 more of this kind"));
    }
}
