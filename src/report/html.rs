//! The report for people who were not there: one HTML file that asks nobody for anything.
//!
//! The templates stand in `html/`. What they print passes [`Shown`], the only escaper; the page's own style and script
//! are admitted by their digests in its Content-Security-Policy, nothing else is.

use super::human::{
    answer, by_capture, capture_quality, command, damage, grouped, joined, kinds_of_block, moment,
    names_quality, party, totals, verdict_counts, word_counts,
};
use super::text::{count, printable, steers, thousands};
use crate::audit::{
    Audit, CaptureSummary, Code, Coverage, CoverageState, End, Finding, Grade, Severity, Timeline, Verdict,
};
use crate::flow::Outcome;
use crate::model::Timestamp;
use askama::Template;
use data_encoding::BASE64;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;

/// Findings of one code that stand open; the next ones are folded.
const OPEN: usize = 25;
/// Findings of one code that the page tells at all; the JSON audit has all.
const TOLD: usize = 1000;
/// Lines about damage and loss that stand open; the next ones are folded.
const DAMAGE: usize = 10;
/// From this many findings on the page offers to filter them.
const MANY: usize = 8;
/// Columns and rows of the From x To table; the list below it has all pairs.
const CROSS_FROM: usize = 12;
const CROSS_TO: usize = 60;
/// Names of a coverage row that are told.
const NAMES: usize = 6;
/// Time stretches that the picture has room for.
const STRETCHES: u64 = 400;

/// Escapes whatever a template prints: markup as character references, and what could steer, hide or turn text (control
/// and format characters, bidirectional overrides among them) as `\u{202e}`.
#[derive(Clone, Copy, Debug)]
struct Shown;

impl askama::filters::Escaper for Shown {
    fn write_escaped_str<W: fmt::Write>(&self, mut out: W, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.write_escaped_char(&mut out, c))
    }

    fn write_escaped_char<W: fmt::Write>(&self, mut out: W, c: char) -> fmt::Result {
        match c {
            '&' => out.write_str("&amp;"),
            '<' => out.write_str("&lt;"),
            '>' => out.write_str("&gt;"),
            '"' => out.write_str("&quot;"),
            '\'' => out.write_str("&#39;"),
            c if steers(c) => write!(out, "{}", c.escape_unicode()),
            c => out.write_char(c),
        }
    }
}

/// The audit as one self-contained HTML page. What comes from the evidence is escaped: it shows as text and never as
/// markup.
pub fn html(audit: &Audit) -> String {
    // Only a `Display` that fails could make this fail, and none here does.
    Page::of(audit).render().unwrap_or_default()
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    audit: &'a Audit,
    policy: String,
    style: &'static str,
    script: &'static str,
    answer: String,
    incomplete: bool,
    /// Class, and word.
    tone: (&'static str, &'static str),
    about: Vec<String>,
    tiles: Vec<Tile>,
    /// Flows by verdict, rows by state.
    bars: [Bar; 2],
    damage: Vec<String>,
    more_damage: Vec<String>,
    clean: bool,
    many: bool,
    severities: Vec<(&'static str, String)>,
    groups: Vec<Group>,
    notes: Vec<Notes>,
    coverage_sentence: String,
    states: Vec<(&'static str, String)>,
    pages: Vec<MatrixPage<'a>>,
    cross: Option<Cross<'a>>,
    pairs: Vec<Pair<'a>>,
    timeline: Option<Picture>,
    names: Vec<String>,
    grades: Vec<(&'a str, &'static str, String)>,
    captures: Vec<String>,
    inputs: Vec<Input<'a>>,
    against: Vec<Used>,
    totals: Vec<String>,
    glossary: Vec<(&'static str, Vec<(&'static str, &'static str)>)>,
}

struct Tile {
    value: String,
    label: String,
    tone: &'static str,
    link: &'static str,
}

struct Bar {
    title: &'static str,
    told: String,
    parts: Vec<BarPart>,
}

struct BarPart {
    class: &'static str,
    symbol: &'static str,
    label: String,
    count: String,
    x: String,
    width: String,
}

/// A rule's id, and where this page has its row: the number and words.
struct RuleLink {
    id: String,
    number: Option<usize>,
    told: String,
}

struct Card {
    number: usize,
    severity: &'static str,
    title: String,
    remedy: String,
    from: Option<String>,
    to: Option<String>,
    seen: String,
    ended: Option<String>,
    rules: Vec<RuleLink>,
    details: Vec<String>,
    evidence: Vec<Evidence>,
    filter: Option<String>,
}

struct Evidence {
    told: String,
    command: Option<String>,
}

struct Group {
    severity: &'static str,
    code: Code,
    count: String,
    sentence: &'static str,
    shown: Vec<Card>,
    folded: Vec<Card>,
    rest: Option<String>,
}

struct Notes {
    code: Code,
    count: String,
    sentence: &'static str,
    advice: &'static str,
    lines: Vec<NoteLine>,
    cards: Vec<Card>,
    rest: Option<String>,
}

struct NoteLine {
    number: usize,
    rules: Vec<RuleLink>,
    text: String,
}

struct MatrixPage<'a> {
    title: &'a str,
    rows: Vec<MatrixRow<'a>>,
}

struct MatrixRow<'a> {
    number: usize,
    rule: &'a str,
    row: u32,
    from: &'a str,
    to: &'a str,
    ports: String,
    requirement: String,
    state: &'static str,
    state_words: String,
    symbol: &'static str,
    tone: &'static str,
    class: &'static str,
    flows: String,
    why: Option<String>,
    names: Option<String>,
    seen: Option<String>,
    like: Option<String>,
    findings: Vec<FindingLink>,
}

impl MatrixRow<'_> {
    fn has_more(&self) -> bool {
        self.why.is_some() || self.names.is_some() || self.like.is_some() || !self.findings.is_empty()
    }
}

struct FindingLink {
    number: usize,
    code: Code,
}

struct Cross<'a> {
    from: Vec<&'a str>,
    rows: Vec<CrossRow<'a>>,
    rest: Option<String>,
}

struct CrossRow<'a> {
    to: &'a str,
    cells: Vec<Option<Cell>>,
}

struct Cell {
    heat: &'static str,
    flows: String,
    notes: Vec<CellNote>,
}

struct CellNote {
    class: &'static str,
    symbol: &'static str,
    count: String,
    word: &'static str,
}

struct Pair<'a> {
    from: &'a str,
    to: &'a str,
    flows: String,
    verdicts: String,
    outcomes: String,
    bytes: String,
}

struct Picture {
    bucket: &'static str,
    most: String,
    shortened: bool,
    blocked: usize,
    summary: String,
    first: String,
    last: String,
    bars: Vec<PictureBar>,
}

struct PictureBar {
    told: String,
    x: String,
    width: String,
    parts: Vec<PicturePart>,
    blocked: bool,
}

struct PicturePart {
    class: &'static str,
    y: String,
    height: String,
}

struct Input<'a> {
    path: &'a str,
    digest: Option<&'a str>,
    format: String,
    frames: String,
    packets: String,
    skipped: String,
    time: String,
    tone: &'static str,
    end: String,
    losses: Vec<String>,
}

struct Used {
    what: String,
    which: String,
    /// Where it can be read.
    link: Option<String>,
    state: String,
    digest: String,
}

impl<'a> Page<'a> {
    fn of(audit: &'a Audit) -> Self {
        let (style, script) = (include_str!("html/style.css"), include_str!("html/script.js"));
        let of = |severity| audit.findings.iter().filter(|f| f.severity == severity).count() as u64;
        let (high, medium, notes) = (of(Severity::High), of(Severity::Medium), of(Severity::Note));
        let rules: Rules<'_> = audit
            .coverage
            .iter()
            .enumerate()
            .map(|(index, row)| (row.rule.as_str(), (index + 1, row)))
            .collect();
        let (groups, note_groups) = findings(audit, &rules);
        let mut lost = damage(audit);
        // What was not read comes before what was lost of what was read.
        lost.sort_by_key(|line| line.contains(": the capturing machine dropped "));
        let more_damage = lost.split_off(lost.len().min(DAMAGE));
        Page {
            audit,
            policy: policy(style, script),
            style,
            script,
            answer: answer(audit),
            incomplete: audit.incomplete() && !audit.inputs.is_empty(),
            tone: match () {
                () if audit.unaudited.is_some() => ("high", "✕ Not audited"),
                () if audit.inputs.is_empty() => ("high", "✕ Nothing audited"),
                () if high > 0 => ("high", "▲ Action needed"),
                () if medium > 0 => ("medium", "◆ Needs a look"),
                () if audit.is_of_nobody() => ("medium", "◆ Nothing judged"),
                () if audit.incomplete() => ("medium", "◆ Nothing found"),
                () => ("good", "✓ Nothing to report"),
            },
            about: about(audit),
            tiles: tiles(audit, [high, medium, notes]),
            bars: [verdict_bar(audit), state_bar(audit)],
            damage: lost,
            more_damage,
            clean: (high, medium) == (0, 0) && !audit.is_of_nobody() && audit.unaudited.is_none(),
            many: audit.findings.len() >= MANY,
            severities: [("high", "High", high), ("medium", "Medium", medium), ("note", "Notes", notes)]
                .into_iter()
                .filter(|(.., n)| *n > 0)
                .map(|(kind, word, n)| (kind, format!("{word} ({})", thousands(n))))
                .collect(),
            groups,
            notes: note_groups,
            coverage_sentence: format!(
                "What these captures show of {}.",
                count(audit.coverage.len() as u64, "documented rule")
            ),
            states: STATES
                .iter()
                .map(|look| (look.state, audit.coverage.iter().filter(|row| row.state == look.state).count()))
                .filter(|(_, n)| *n > 0)
                .map(|(state, n)| (state.as_str(), format!("{} ({n})", state.as_str().replace('-', " "))))
                .collect(),
            pages: pages(audit),
            cross: cross(audit),
            pairs: pairs(audit),
            timeline: picture(&audit.timeline),
            names: names_quality(audit)
                .into_iter()
                .filter(|line| !line.starts_with("Destinations"))
                .collect(),
            grades: grades(audit),
            captures: captures(audit),
            inputs: audit.inputs.iter().map(input).collect(),
            against: against(audit),
            totals: totals(audit),
            glossary: glossary(),
        }
    }
}

/// Admits this page's style and script, by digest, and nothing else.
fn policy(style: &str, script: &str) -> String {
    format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        csp_digest(style),
        csp_digest(script)
    )
}

/// By what a Content-Security-Policy admits an inline style or script: `sha256-...` (CSP Level 3, section 2.3.1).
pub fn csp_digest(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(&Sha256::digest(text.as_bytes())))
}

fn about(audit: &Audit) -> Vec<String> {
    if audit.inputs.is_empty() {
        return Vec::new();
    }
    let mut what =
        format!("{}, {}", count(audit.inputs.len() as u64, "capture"), count(audit.totals.flows, "flow"));
    if !audit.totals.verdicts.is_empty() {
        what.push_str(&format!(" ({})", verdict_counts(&audit.totals.verdicts)));
    }
    let quality = &audit.capture_quality;
    if let Some((first, last)) = quality.first_ts.zip(quality.last_ts) {
        what.push_str(&format!(", {}", seconds(first, last)));
    }
    what.push('.');
    let mut lines = vec![what];
    if let Some(pack) = audit.rules.first() {
        let mut against = format!("Measured against the page “{}” ({})", pack.title(), pack.id);
        if let Some(version) = pack.product_version.as_ref().filter(|version| !version.is_empty()) {
            against.push_str(&format!(" for version {version}"));
        }
        if let Some(date) = pack.day() {
            against.push_str(&format!(", dated {date}"));
        }
        let more = audit.rules.len() - 1;
        if more > 0 {
            against.push_str(&format!(", and {}", count(more as u64, "further pack")));
        }
        against.push('.');
        lines.push(against);
    }
    lines
}

fn tiles(audit: &Audit, [high, medium, notes]: [u64; 3]) -> Vec<Tile> {
    let alarm = |n: u64, tone: &'static str| if n > 0 { tone } else { "good" };
    let of =
        |states: &[CoverageState]| audit.coverage.iter().filter(|row| states.contains(&row.state)).count();
    let blocked = of(&[CoverageState::Blocked, CoverageState::Intermittent]) as u64;
    let applicable = audit.coverage.len() - of(&[CoverageState::NotApplicable]);
    let tile = |value: String, label: &str, tone, link| Tile { value, label: label.into(), tone, link };
    let many = |n: u64, noun: &str, rest: &str, tone, link| {
        let noun = if n == 1 { noun.to_owned() } else { format!("{noun}s") };
        tile(thousands(n), &format!("{noun}{rest}"), tone, link)
    };
    vec![
        many(high, "finding", " of high severity", alarm(high, "high"), "findings"),
        many(medium, "finding", " of medium severity", alarm(medium, "medium"), "findings"),
        many(notes, "note", "", "", "findings"),
        tile(
            format!("{} / {applicable}", of(&[CoverageState::Observed])),
            "applicable rules observed working",
            "",
            "coverage",
        ),
        many(blocked, "rule", " blocked, always or at times", alarm(blocked, "high"), "coverage"),
        tile(
            if audit.incomplete() { "No" } else { "Yes" }.into(),
            "evidence complete",
            if audit.incomplete() { "medium" } else { "good" },
            "captures",
        ),
    ]
}

/// How a state of a rule looks.
struct Look {
    state: CoverageState,
    symbol: &'static str,
    /// Class of its badge.
    tone: &'static str,
    /// Class of its colour in pictures.
    fill: &'static str,
    meaning: &'static str,
}

#[rustfmt::skip]
const STATES: [Look; 6] = [
    Look { state: CoverageState::Observed,      symbol: "✓", tone: "good",   fill: "f-good",  meaning: "A flow that the rule documents worked." },
    Look { state: CoverageState::Blocked,       symbol: "✕", tone: "high",   fill: "f-bad",   meaning: "Flows that the rule documents were blocked, and none worked." },
    Look { state: CoverageState::Intermittent,  symbol: "≈", tone: "medium", fill: "f-doubt", meaning: "Some flows that the rule documents worked, some were blocked." },
    Look { state: CoverageState::NotObserved,   symbol: "○", tone: "note",   fill: "f-plain", meaning: "No such flow, or none that tells whether it works. No proof that the rule is not needed." },
    Look { state: CoverageState::NotObservable, symbol: "?", tone: "off",    fill: "f-none",  meaning: "The captures show no packet of any host that could initiate it: captured at another place." },
    Look { state: CoverageState::NotApplicable, symbol: "–", tone: "off",    fill: "f-off",   meaning: "The site has no such destination, or a condition of the rule is off." },
];

fn look(state: CoverageState) -> &'static Look {
    STATES.iter().find(|look| look.state == state).unwrap_or(&STATES[0])
}

/// Class of a verdict's colour, and what it means.
fn verdict_look(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Documented => ("f-good", "A rule of the vendor's page fits."),
        Verdict::Platform => ("f-plain", "The platform's own traffic, by the baseline: DNS, metadata, time."),
        Verdict::Undetermined => ("f-doubt", "Evidence is missing. Never rounded up, never down."),
        Verdict::Undocumented => ("f-bad", "No rule fits, and an audited machine takes part."),
        Verdict::OutOfScope => ("f-none", "No rule fits, and no audited machine takes part."),
    }
}

fn bar(title: &'static str, parts: Vec<(&'static str, &'static str, String, u64)>) -> Bar {
    let all: u64 = parts.iter().map(|(.., n)| n).sum();
    let told = format!("{title}: {}", joined(parts.iter().map(|(.., label, n)| format!("{n} {label}"))));
    // What is there at all is wide enough to be seen.
    let share = |n: u64| at(n, all).max(u64::from(n > 0) * 50);
    let whole: u64 = parts.iter().map(|&(.., n)| share(n)).sum();
    let mut before = 0;
    let parts = parts
        .into_iter()
        .map(|(class, symbol, label, n)| {
            let from = at(before, whole);
            before += share(n);
            let width = tenths(at(before, whole) - from);
            BarPart { class, symbol, label, count: thousands(n), x: tenths(from), width }
        })
        .collect();
    Bar { title, told, parts }
}

/// Place of `n` of `all` on a line of 10,000 (tenths of the picture's 1,000 units).
fn at(n: u64, all: u64) -> u64 {
    u64::try_from(u128::from(n) * 10_000 / u128::from(all.max(1))).unwrap_or(10_000)
}

fn tenths(n: u64) -> String {
    format!("{}.{}", n / 10, n % 10)
}

fn verdict_bar(audit: &Audit) -> Bar {
    let parts = Verdict::ALL.iter().filter_map(|verdict| {
        let n = *audit.totals.verdicts.get(verdict)?;
        Some((verdict_look(*verdict).0, "", verdict.as_str().replace('-', " "), n))
    });
    bar("Flows by verdict", parts.collect())
}

fn state_bar(audit: &Audit) -> Bar {
    let parts = STATES.iter().map(|look| {
        let n = audit.coverage.iter().filter(|row| row.state == look.state).count() as u64;
        (look.fill, look.symbol, look.state.as_str().replace('-', " "), n)
    });
    bar("Rows of the matrix by state", parts.filter(|(.., n)| *n > 0).collect())
}

/// "2026-01-06 10:22:31.004512 UTC", or from one such time to another.
fn stretch(first: Timestamp, last: Timestamp) -> String {
    let plain = |time| moment(time).trim_end_matches('Z').replacen('T', " ", 1);
    let (from, to) = (plain(first), plain(last));
    match (from.split_once(' '), to.split_once(' ')) {
        _ if last <= first => format!("{from} UTC"),
        (Some((day, _)), Some((same, time))) if day == same => format!("{from} to {time} UTC"),
        _ => format!("{from} to {to} UTC"),
    }
}

/// As [`stretch`], to the second: enough for an overview.
fn seconds(first: Timestamp, last: Timestamp) -> String {
    const SECOND: i64 = 1_000_000_000;
    let whole = |time: Timestamp| Timestamp(time.0 - time.0.rem_euclid(SECOND));
    stretch(whole(first), whole(last)).replace(".000000", "")
}

fn arrows(text: &str) -> String {
    text.replace(" -> ", " → ")
}

/// Rows of the matrix by rule, with their numbers on this page.
type Rules<'a> = BTreeMap<&'a str, (usize, &'a Coverage)>;

fn links(ids: &[String], rules: &Rules<'_>) -> Vec<RuleLink> {
    let link = |id: &String| {
        let known = rules.get(id.as_str());
        let told =
            known.map(|(_, row)| format!("row {}: {} → {}, {}", row.row, row.from, row.to, ports(row)));
        RuleLink { id: id.clone(), number: known.map(|(number, _)| *number), told: told.unwrap_or_default() }
    };
    ids.iter().map(link).collect()
}

fn ports(row: &Coverage) -> String {
    format!("{} {}", row.proto.to_uppercase(), row.ports)
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn card(number: usize, finding: &Finding, rules: &Rules<'_>) -> Card {
    let times = match finding.count {
        1 => "once".to_owned(),
        n => format!("{} times", thousands(n)),
    };
    let when = finding.first_ts.map(|first| stretch(first, finding.last_ts.unwrap_or(first)));
    let ended = finding.outcomes.iter().map(|&outcome| format!("{outcome} ({})", outcome_meaning(outcome)));
    let (from, to) = (party(&finding.from), party(&finding.to));
    // Most titles are just this.
    let plain = finding.title == format!("{from} -> {to}");
    Card {
        number,
        severity: finding.severity.as_str(),
        title: arrows(&finding.title),
        remedy: sentence(&finding.remedy),
        from: some(from).filter(|_| !plain),
        to: some(to).filter(|_| !plain),
        seen: [Some(times), when].into_iter().flatten().collect::<Vec<_>>().join(", "),
        ended: some(ended.collect::<Vec<_>>().join("; ")),
        rules: links(&finding.rules, rules),
        details: finding.details.clone(),
        evidence: by_capture(&finding.evidence)
            .into_iter()
            .map(|(capture, frames)| Evidence {
                told: format!(
                    "{capture}, {} {}",
                    if frames.len() == 1 { "frame" } else { "frames" },
                    joined(frames.iter())
                ),
                command: command(capture, &frames),
            })
            .collect(),
        filter: finding.display_filter.as_deref().map(printable),
    }
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let mut sentence: String =
        letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

fn findings(audit: &Audit, rules: &Rules<'_>) -> (Vec<Group>, Vec<Notes>) {
    let (mut groups, mut notes) = (Vec::new(), Vec::new());
    let mut number = 0;
    for ((severity, code), findings) in grouped(audit) {
        let count = thousands(findings.len() as u64);
        let more = findings.len().saturating_sub(TOLD);
        let rest = (more > 0)
            .then(|| format!("... and {} more of this kind: audit.json has all.", thousands(more as u64)));
        let mut cards = Vec::new();
        let mut lines = Vec::new();
        for finding in findings.into_iter().take(TOLD) {
            number += 1;
            let bare = finding.evidence.is_empty() && finding.details.is_empty();
            if severity == Severity::Note && bare {
                let known = links(&finding.rules, rules);
                // The link says the rule already.
                let text = known.iter().fold(finding.title.as_str(), |text, rule| {
                    text.strip_prefix(rule.id.as_str()).unwrap_or(text).trim_start()
                });
                lines.push(NoteLine { number, text: arrows(text), rules: known });
            } else {
                cards.push(card(number, finding, rules));
            }
        }
        if severity == Severity::Note {
            let (sentence, advice) = (code.sentence(), code.advice());
            notes.push(Notes { code, count, sentence, advice, lines, cards, rest });
        } else {
            let folded = cards.split_off(cards.len().min(OPEN));
            let (severity, sentence) = (severity.as_str(), code.sentence());
            groups.push(Group { severity, code, count, sentence, shown: cards, folded, rest });
        }
    }
    (groups, notes)
}

/// Numbers of the findings about each rule, as [`findings`] counts them; notes say nothing that the row does not.
fn finding_links(audit: &Audit) -> BTreeMap<&str, Vec<FindingLink>> {
    let mut links: BTreeMap<&str, Vec<FindingLink>> = BTreeMap::new();
    let mut number = 0;
    for ((severity, code), findings) in grouped(audit) {
        for finding in findings.into_iter().take(TOLD) {
            number += 1;
            for rule in finding.rules.iter().filter(|_| severity != Severity::Note) {
                let known = links.entry(rule).or_default();
                if known.len() < NAMES {
                    known.push(FindingLink { number, code });
                }
            }
        }
    }
    links
}

fn pages(audit: &Audit) -> Vec<MatrixPage<'_>> {
    let kinds = kinds_of_block(audit);
    let mut links = finding_links(audit);
    let mut pages: Vec<MatrixPage<'_>> = Vec::new();
    for (index, row) in audit.coverage.iter().enumerate() {
        let look = look(row.state);
        let kinds = kinds.get(row.rule.as_str()).into_iter().flatten().map(|outcome| outcome.as_str());
        let mut why: Vec<String> = some(joined(kinds)).into_iter().collect();
        why.extend(row.why.clone());
        why.dedup();
        let told = MatrixRow {
            number: index + 1,
            rule: &row.rule,
            row: row.row,
            from: &row.from,
            to: &row.to,
            ports: ports(row),
            requirement: row.requirement.to_string(),
            state: row.state.as_str(),
            state_words: row.state.as_str().replace('-', " "),
            symbol: look.symbol,
            tone: look.tone,
            class: if look.tone == "off" { "off" } else { "" },
            flows: thousands(row.flows),
            why: some(why.join("; ")),
            names: known_as(row),
            seen: row.first_ts.map(|first| seconds(first, row.last_ts.unwrap_or(first))),
            like: some(joined(row.indistinguishable_from.iter())).map(|ids| format!("same flows as {ids}")),
            findings: links.remove(row.rule.as_str()).unwrap_or_default(),
        };
        match pages.iter_mut().find(|page| page.title == row.page) {
            Some(page) => page.rows.push(told),
            None => pages.push(MatrixPage { title: &row.page, rows: vec![told] }),
        }
    }
    pages
}

fn known_as(row: &Coverage) -> Option<String> {
    let mut names = joined(row.names.iter().take(NAMES));
    let more = row.names.len().saturating_sub(NAMES);
    if more > 0 {
        names.push_str(&format!(" and {more} more"));
    }
    some(names)
}

fn blocked(outcomes: &BTreeMap<Outcome, u64>) -> u64 {
    outcomes.iter().filter(|(outcome, _)| outcome.is_blocked()).map(|(_, n)| n).sum()
}

fn cross(audit: &Audit) -> Option<Cross<'_>> {
    let mut from: BTreeMap<&str, u64> = BTreeMap::new();
    // Undocumented, blocked, all: what needs a look comes first.
    let mut to: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for pair in &audit.conversations {
        *from.entry(&pair.from).or_default() += pair.flows;
        let sums = to.entry(&pair.to).or_default();
        let open = [Verdict::Undocumented, Verdict::Undetermined].map(|v| pair.verdicts.get(&v).copied());
        sums[0] += open.into_iter().flatten().sum::<u64>();
        sums[1] += blocked(&pair.outcomes);
        sums[2] += pair.flows;
    }
    if from.is_empty() {
        return None;
    }
    let (all_from, all_to) = (from.len(), to.len());
    let mut from: Vec<(&str, u64)> = from.into_iter().collect();
    from.sort_by_key(|&(name, flows)| (std::cmp::Reverse(flows), name));
    from.truncate(CROSS_FROM);
    let mut to: Vec<(&str, [u64; 3])> = to.into_iter().collect();
    to.sort_by_key(|&(name, [open, blocked, all])| (open == 0, blocked == 0, std::cmp::Reverse(all), name));
    to.truncate(CROSS_TO);
    let pairs: BTreeMap<(&str, &str), _> =
        audit.conversations.iter().map(|pair| ((pair.from.as_str(), pair.to.as_str()), pair)).collect();
    let most = audit.conversations.iter().map(|pair| pair.flows).max().unwrap_or(1);
    let rows = to
        .iter()
        .map(|&(to, _)| CrossRow {
            to,
            cells: from
                .iter()
                .map(|&(from, _)| {
                    let pair = pairs.get(&(from, to))?;
                    let mut notes = Vec::new();
                    let mut note = |n: u64, class, symbol, word| {
                        if n > 0 {
                            notes.push(CellNote { class, symbol, count: thousands(n), word });
                        }
                    };
                    let of = |verdict| pair.verdicts.get(&verdict).copied().unwrap_or_default();
                    note(of(Verdict::Undocumented), "bad", "!", "undocumented");
                    note(of(Verdict::Undetermined), "doubt", "?", "undetermined");
                    note(blocked(&pair.outcomes), "bad", "✕", "blocked");
                    Some(Cell { heat: heat(pair.flows, most), flows: thousands(pair.flows), notes })
                })
                .collect(),
        })
        .collect();
    let rest = (all_from > CROSS_FROM || all_to > CROSS_TO).then(|| {
        format!("{all_from} initiators and {all_to} destinations: the busiest and those that need a look are shown.")
    });
    Some(Cross { from: from.into_iter().map(|(name, _)| name).collect(), rows, rest })
}

/// Five shades, by order of magnitude.
fn heat(flows: u64, most: u64) -> &'static str {
    let magnitude = |n: u64| u64::from(n.max(1).ilog2());
    match 1 + magnitude(flows) * 4 / magnitude(most).max(1) {
        1 => "h1",
        2 => "h2",
        3 => "h3",
        4 => "h4",
        _ => "h5",
    }
}

fn pairs(audit: &Audit) -> Vec<Pair<'_>> {
    audit
        .conversations
        .iter()
        .map(|pair| Pair {
            from: &pair.from,
            to: &pair.to,
            flows: thousands(pair.flows),
            verdicts: verdict_counts(&pair.verdicts),
            outcomes: joined(pair.outcomes.iter().map(|(o, &n)| format!("{} {}", thousands(n), o.as_str()))),
            bytes: thousands(pair.bytes),
        })
        .collect()
}

fn picture(timeline: &Timeline) -> Option<Picture> {
    let (first, last) = timeline.buckets.first().zip(timeline.buckets.last())?;
    let length = timeline.bucket_ns.max(1);
    let whole = timeline.buckets.len() as u64;
    let place = |ts: Timestamp| u64::try_from(ts.since(first.ts) / length).unwrap_or(0);
    let shortened = place(last.ts) / 3 > whole;
    // Where most stretches are quiet, a run of quiet ones takes the room of one.
    let mut places: Vec<u64> = Vec::with_capacity(timeline.buckets.len());
    let mut before = None;
    for bucket in &timeline.buckets {
        let here = place(bucket.ts);
        places.push(match (places.last(), before) {
            (Some(&shown), Some(before)) if shortened => shown + here.saturating_sub(before).clamp(1, 2),
            (None, _) if shortened => 0,
            _ => here.min(STRETCHES - 1),
        });
        before = Some(here);
    }
    let stretches = places.last().map_or(1, |last| last + 1);
    let sum = |verdicts: &BTreeMap<Verdict, u64>| verdicts.values().sum::<u64>();
    let most = timeline.buckets.iter().map(|bucket| sum(&bucket.verdicts)).max().unwrap_or(0);
    let bars = timeline.buckets.iter().zip(&places).map(|(bucket, &place)| {
        let x = at(place, stretches);
        let wide = 10_000 / stretches;
        let mut below = 0;
        let parts = Verdict::ALL.iter().filter_map(|verdict| {
            let n = *bucket.verdicts.get(verdict)?;
            let low = at(below, most) / 10;
            below += n;
            // The picture is 100 high, and its zero is on top.
            let high = at(below, most) / 10;
            let (y, height) = (tenths(1000 - high), tenths(high - low));
            Some(PicturePart { class: verdict_look(*verdict).0, y, height })
        });
        let parts = parts.collect();
        let mut told = format!("{}: {}", seconds(bucket.ts, bucket.ts), verdict_counts(&bucket.verdicts));
        if bucket.blocked > 0 {
            told.push_str(&format!("; {} blocked", thousands(bucket.blocked)));
        }
        PictureBar {
            told,
            x: tenths(x),
            width: tenths((wide * 9 / 10).clamp(1, 1_200)),
            parts,
            blocked: bucket.blocked > 0,
        }
    });
    let blocked = timeline.buckets.iter().filter(|bucket| bucket.blocked > 0).count();
    Some(Picture {
        bucket: match length / 1_000_000_000 {
            ..=1 => "second",
            2..=10 => "10 seconds",
            11..=60 => "minute",
            61..=600 => "10 minutes",
            601..=3600 => "hour",
            _ => "day",
        },
        most: count(most, "flow"),
        shortened,
        blocked,
        summary: format!(
            "Flows over time, {}: at most {} in one stretch",
            seconds(first.ts, last.ts),
            count(most, "flow")
        ),
        first: seconds(first.ts, first.ts),
        last: seconds(last.ts.plus(length), last.ts.plus(length)),
        bars: bars.collect(),
    })
}

fn grade_meaning(word: &str) -> &'static str {
    const ALL: [(Grade, &str); 5] = [
        (Grade::Site, "the address holds a role of the site file"),
        (Grade::Corroborated, "a DNS answer, and the server name or a service tag agrees"),
        (Grade::Dns, "a DNS answer to this host"),
        (Grade::Tag, "the address lies in the prefixes of a service tag or of the site"),
        (Grade::ServerName, "only what the client itself wrote"),
    ];
    let known = ALL.iter().find(|(grade, _)| grade.as_str() == word);
    known.map_or("not identified; platform traffic needs no name", |(_, meaning)| meaning)
}

fn grades(audit: &Audit) -> Vec<(&str, &'static str, String)> {
    let best = ["site", "corroborated", "dns", "tag", "server-name"];
    let mut grades: Vec<_> = audit.names_quality.grades.iter().collect();
    grades.sort_by_key(|(word, _)| best.iter().position(|grade| grade == word).unwrap_or(best.len()));
    grades.into_iter().map(|(word, &n)| (word.as_str(), grade_meaning(word), thousands(n))).collect()
}

/// As the other reports tell it, the time as this page does.
fn captures(audit: &Audit) -> Vec<String> {
    let quality = &audit.capture_quality;
    let mut lines = capture_quality(audit);
    if let (Some((first, last)), Some(line)) = (quality.first_ts.zip(quality.last_ts), lines.first_mut()) {
        *line = format!("{}, frames in {}", stretch(first, last), count(quality.intervals, "interval"));
    }
    lines
}

fn input(input: &CaptureSummary) -> Input<'_> {
    let (tone, end) = match &input.end {
        End::Complete if !input.whole() => ("medium", "! in part".to_owned()),
        End::Complete => ("good", "✓ to its end".to_owned()),
        End::Damaged { .. } => ("medium", "! damaged".to_owned()),
        End::Interrupted { .. } => ("medium", "! interrupted".to_owned()),
    };
    let mut losses = Vec::new();
    match &input.end {
        End::Complete => {}
        End::Damaged { frame, offset, problem } => {
            losses.push(format!("at frame {}, byte {}: {problem}", thousands(*frame), thousands(*offset)));
        }
        End::Interrupted { frame, offset } => {
            losses.push(format!("at frame {}, byte {}", thousands(*frame), thousands(*offset)));
        }
    }
    losses.extend(input.chosen.iter().flat_map(|chosen| &chosen.unfit).map(ToString::to_string));
    let mut loss = |n: u64, what: &str| {
        if n > 0 {
            losses.push(format!("{} {what}", thousands(n)));
        }
    };
    loss(input.drops.unwrap_or_default(), "dropped by the capturing machine");
    loss(input.snaplen_cut, "cut by the snapshot length");
    loss(input.duplicates, "seen again on another interface");
    loss(input.same_interface_copies, "seen again on the same interface, counted each time");
    loss(input.without_time, "without a time of their own");
    loss(input.unknown_blocks, "blocks of unknown kind");
    if input.drops.is_none() {
        losses.push("the file does not say whether frames were dropped".into());
    }
    Input {
        path: &input.path,
        digest: input.sha256.as_deref(),
        format: format!(
            "{}; {}; {} bytes",
            input.format,
            input.link_types.join(", "),
            thousands(input.bytes)
        ),
        frames: thousands(input.frames),
        packets: thousands(input.packets),
        skipped: some(word_counts(&input.skipped)).unwrap_or_else(|| "none".into()),
        time: input
            .first_ts
            .map(|first| stretch(first, input.last_ts.unwrap_or(first)))
            .unwrap_or_else(|| "no frame".into()),
        tone,
        end,
        losses,
    }
}

fn against(audit: &Audit) -> Vec<Used> {
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let packs = audit.rules.iter().map(|pack| Used {
        what: format!("Rules {}", pack.id),
        which: pack.title(),
        link: pack.link().map(str::to_owned),
        state: match (pack.day(), pack.product_version.as_deref().unwrap_or_default()) {
            (None, "") => "no date of its own".into(),
            (date, version) => format!("{}, version {}", date.unwrap_or("no date"), or(version, "not told")),
        },
        digest: pack.sha256.clone(),
    });
    let tags = audit.service_tags.iter().chain(&audit.further_service_tags).map(|tags| Used {
        what: format!("Service tags, {}", tags.cloud),
        which: format!("change {}", tags.change_number),
        link: None,
        state: tags.date.clone().unwrap_or_else(|| "of unknown date".into()),
        digest: tags.sha256.clone(),
    });
    let site = Used {
        what: "Site file".into(),
        which: audit.site.name.clone(),
        link: None,
        state: String::new(),
        digest: audit.site.sha256.clone(),
    };
    packs.chain(tags).chain([site]).collect()
}

fn outcome_meaning(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::ProxyDenied => "the proxy refused",
        Outcome::TlsRefused => "a fatal TLS alert before any data",
        Outcome::Cut => "the handshake worked, the first data did not get through",
        Outcome::Established => "the connection was made",
        Outcome::Answered => "packets both ways",
        Outcome::Midstream => "packets both ways, the beginning is not seen",
        Outcome::Refused => "the destination, or a device in its name, says no",
        Outcome::Prohibited => "an ICMP error such as firewalls send",
        Outcome::Unreachable => "an ICMP error on the way",
        Outcome::HalfOpen => "answered, then nothing more from the initiator",
        Outcome::OneSided => "only one direction is visible, the other took part",
        Outcome::Filtered => "no reply where one would have been seen",
        Outcome::Unanswered => "no reply",
        Outcome::Undetermined => "too near the end of the capture, or losses",
    }
}

fn glossary() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    vec![
        ("States of a row", STATES.iter().map(|look| (look.state.as_str(), look.meaning)).collect()),
        ("Verdicts of a flow", Verdict::ALL.iter().map(|v| (v.as_str(), verdict_look(*v).1)).collect()),
        ("Outcomes of a flow", Outcome::ALL.iter().map(|o| (o.as_str(), outcome_meaning(*o))).collect()),
        ("Kinds of findings", Code::ALL.iter().map(|code| (code.as_str(), code.sentence())).collect()),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn only_the_pages_own_style_and_script_are_printed_unescaped() {
        let templates = [include_str!("html/report.html"), include_str!("html/parts.html")].concat();
        assert_eq!(templates.matches("|safe").count(), 2);
        assert!(templates.contains("<style>{{ style|safe }}</style>"));
        assert!(templates.contains("<script>{{ script|safe }}</script>"));
        assert!(
            !templates.contains("|escape") && !templates.contains(" style="),
            "the policy admits no style attribute"
        );
    }

    #[test]
    fn the_policy_admits_exactly_the_style_and_the_script_that_stand_in_the_page() {
        let page = html(&sample::audit());
        let between = |open: &str, close: &str| {
            let (_, rest) = page.split_once(open).unwrap();
            rest.split_once(close).unwrap().0.to_owned()
        };
        for (kind, text) in
            [("style", between("<style>", "</style>")), ("script", between("<script>", "</script>"))]
        {
            let digest = BASE64.encode(&Sha256::digest(text.as_bytes()));
            assert!(page.contains(&format!("{kind}-src &#39;sha256-{digest}&#39;")), "{kind}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_stretch_of_time_says_the_day_once() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let begin = at("2026-01-06T10:22:31.004512000Z");
        for (last, told, short) in [
            ("2026-01-06T10:22:31.004512000Z", "2026-01-06 10:22:31.004512 UTC", "2026-01-06 10:22:31 UTC"),
            ("2026-01-06T10:22:31.9Z",         "2026-01-06 10:22:31.004512 to 10:22:31.900000 UTC", "2026-01-06 10:22:31 UTC"),
            ("2026-01-07T00:00:00Z",           "2026-01-06 10:22:31.004512 to 2026-01-07 00:00:00.000000 UTC", "2026-01-06 10:22:31 to 2026-01-07 00:00:00 UTC"),
        ] {
            assert_eq!((stretch(begin, at(last)), seconds(begin, at(last))), (told.to_owned(), short.to_owned()));
        }
    }

    #[test]
    fn a_bar_fills_its_length_and_hides_nothing() {
        let bar = bar(
            "x",
            vec![
                ("a", "", "many".into(), 1_000_000),
                ("b", "", "one".into(), 1),
                ("c", "", "none".into(), 0),
            ],
        );
        let tenth = |text: &str| text.replace('.', "").parse::<u64>().unwrap();
        let ends: Vec<u64> = bar.parts.iter().map(|part| tenth(&part.x) + tenth(&part.width)).collect();
        assert_eq!(ends.last(), Some(&10_000));
        assert!(tenth(&bar.parts[1].width) >= 40 && tenth(&bar.parts[2].width) == 0);
    }

    #[test]
    fn a_long_quiet_time_does_not_squeeze_the_picture() {
        let bucket = |n: i64| crate::audit::TimeBucket {
            ts: sample::BEGIN.plus(n * 1_000_000_000),
            verdicts: BTreeMap::from([(Verdict::Documented, 1)]),
            blocked: 0,
        };
        let places = |stretches: &[i64]| {
            let buckets = stretches.iter().map(|&n| bucket(n)).collect();
            let picture = picture(&Timeline { bucket_ns: 1_000_000_000, buckets }).unwrap();
            (picture.shortened, picture.bars.into_iter().map(|bar| bar.x).collect::<Vec<_>>())
        };
        let expected =
            |shortened, xs: &[&str]| (shortened, xs.iter().map(|x| (*x).to_owned()).collect::<Vec<_>>());
        assert_eq!(places(&[0, 1, 3]), expected(false, &["0.0", "250.0", "750.0"]));
        assert_eq!(places(&[0, 1, 1000]), expected(true, &["0.0", "250.0", "750.0"]));
        assert_eq!(places(&[7]), expected(false, &["0.0"]));
    }

    #[test]
    fn the_answer_is_the_heading_and_damage_comes_before_findings() {
        let page = html(&sample::audit());
        assert!(
            page.contains("<h1>2 findings of high severity, 1 of medium; the evidence is incomplete.</h1>")
        );
        let at = |part: &str| page.find(part).unwrap_or_else(|| panic!("lacks {part}"));
        assert!(
            at("Damage and loss") < at("id=\"findings\"") && at("id=\"findings\"") < at("id=\"coverage\"")
        );
        let quiet = html(&sample::quiet());
        assert!(
            !quiet.contains("Damage and loss") && quiet.contains("No finding of high or medium severity.")
        );
        let mut of_others = sample::quiet();
        of_others.totals.audited_flows = Some(0);
        let page = html(&of_others);
        assert!(page.contains("◆ Nothing judged") && !page.contains("✓ N"), "none of the machines was seen");
    }

    #[test]
    fn an_audit_of_nothing_is_a_page_too() {
        let mut audit = sample::audit();
        (audit.inputs, audit.findings, audit.coverage) = Default::default();
        (audit.conversations, audit.timeline) = Default::default();
        audit.rules.clear();
        let page = html(&audit);
        assert!(
            page.contains("<h1>No capture could be read: nothing was audited.</h1>") && page.contains("gone")
        );
        let mut without_flows = sample::quiet();
        without_flows.totals.flows = 0;
        let page = html(&without_flows);
        assert!(page.contains("◆ Nothing judged") && !page.contains("✓ N"));
    }
}
