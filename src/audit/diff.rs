//! What changed from one audit to a later one: what appeared, vanished and flipped. Nothing is known of it that the two audits
//! do not say, so what vanished is not said to be mended.

use super::{
    Audit, Code, Conversation, Coverage, CoverageState, FailOn, Finding, PackUsed, Party, Severity, TagsUsed,
    Tool, Verdict,
};
use crate::model::{Timestamp, Transport};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Version of the shape of a [`Difference`]. Raised when a field changes its meaning or goes; new fields do not raise it.
pub const DIFF_SCHEMA: u32 = 1;

/// What there is to know of one of the two audits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The file it was read from, as given.
    pub path: String,
    /// The program that made it.
    pub tool: Tool,
    /// Its site.
    pub site: String,
    /// Captures that were read.
    pub captures: u64,
    /// Flows that were judged.
    pub flows: u64,
    /// Findings by severity.
    pub findings: BTreeMap<Severity, u64>,
    /// Earliest frame.
    pub first_ts: Option<Timestamp>,
    /// Latest frame.
    pub last_ts: Option<Timestamp>,
    /// Whether its evidence is incomplete.
    pub incomplete: bool,
}

/// A finding of the old audit that the new one lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vanished {
    /// As it was.
    pub finding: Finding,
    /// What the new audit says of its rules, or that it says nothing.
    pub why: String,
}

/// A finding that both audits have, and that is another now: its code, its severity, its rules or how its connections ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flipped {
    /// As it was.
    pub old: Finding,
    /// As it is.
    pub new: Finding,
}

/// A row of the matrix of which the captures show something else now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CoverageChange {
    /// As the new audit has it; as the old one does where the new one does not have the rule.
    #[serde(flatten)]
    pub row: Coverage,
    /// Its state in the old audit; none where that did not have the rule.
    pub old: Option<CoverageState>,
    /// Its state in the new audit; none where that does not have the rule.
    pub new: Option<CoverageState>,
}

/// Two parties that both audits know, of whose flows something else was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConversationChange {
    /// Who initiates.
    pub from: String,
    /// To whom.
    pub to: String,
    /// Flows by verdict in the old audit.
    pub old: BTreeMap<Verdict, u64>,
    /// Flows by verdict in the new audit.
    pub new: BTreeMap<Verdict, u64>,
}

/// What appeared, vanished and flipped of one kind of things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changes<A, V, F> {
    /// Only the new audit has it.
    pub appeared: Vec<A>,
    /// Only the old audit has it.
    pub vanished: Vec<V>,
    /// Both have it, and it is another now.
    pub flipped: Vec<F>,
    /// How many are as they were.
    pub unchanged: u64,
}

/// What changed from one audit to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Version of this shape.
    pub schema: u32,
    /// The program that compared them.
    pub tool: Tool,
    /// The audit before.
    pub old: Compared,
    /// The audit after.
    pub new: Compared,
    /// What the reader must know before taking a difference for a change.
    pub remarks: Vec<String>,
    /// Findings, but for those that say of a rule that it was not observed: its row of `coverage` says that.
    pub findings: Changes<Finding, Vanished, Flipped>,
    /// Rows of the matrix whose state changed.
    pub coverage: Vec<CoverageChange>,
    /// Who talks to whom, by roles and documented destinations.
    pub conversations: Changes<Conversation, Conversation, ConversationChange>,
}

/// Who or what a finding is about, beside its code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    from: String,
    to: String,
    port: Option<u16>,
    proto: Option<Transport>,
}

impl Subject {
    /// The one of a finding as SEMANTICS section 5 keys it: initiator, name or address, port, transport. What is about no party is
    /// known by its title, but for numbers in it.
    fn of(finding: &Finding) -> Subject {
        let named = |party: &Party| {
            let known = party.name.as_ref().map(ToString::to_string);
            known
                .or_else(|| party.ip.as_ref().map(IpAddr::to_string))
                .unwrap_or_else(|| party.roles.join("+"))
        };
        let (from, to) = (named(&finding.from), named(&finding.to));
        let (port, proto) = (finding.to.port, finding.to.proto);
        match finding.code {
            code if code.is_per_role() => {
                Subject { from: finding.from.roles.join("+"), to, port: None, proto }
            }
            code if code.is_per_resolver() => Subject { from: String::new(), to, port, proto: None },
            // Of captures: one of each kind, whatever files are called.
            Code::CaptureDamaged | Code::CaptureLoss | Code::OneSidedCapture => {
                Subject { from: String::new(), to: String::new(), port: None, proto: None }
            }
            _ if from.is_empty() && to.is_empty() => {
                Subject { from, to: without_numbers(&finding.title), port, proto }
            }
            _ => Subject { from, to, port, proto },
        }
    }
}

/// A title without counts and the numbers of lines.
fn without_numbers(title: &str) -> String {
    title.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Whether a row of coverage tells it already.
fn is_told_by_coverage(finding: &Finding) -> bool {
    matches!(finding.code, Code::RuleNotObserved | Code::RuleNotObservable)
}

/// Takes the first old finding that a key is of, in their order.
fn paired<K: Ord>(
    old: Vec<Finding>,
    new: Vec<Finding>,
    key: impl Fn(&Finding) -> K,
) -> (Vec<(Finding, Finding)>, Vec<Finding>, Vec<Finding>) {
    let mut of: BTreeMap<K, Vec<Finding>> = BTreeMap::new();
    for finding in old.into_iter().rev() {
        of.entry(key(&finding)).or_default().push(finding);
    }
    let (mut pairs, mut left) = (Vec::new(), Vec::new());
    for finding in new {
        match of.get_mut(&key(&finding)).and_then(Vec::pop) {
            Some(before) => pairs.push((before, finding)),
            None => left.push(finding),
        }
    }
    let mut rest: Vec<Finding> = of.into_values().flatten().collect();
    rest.sort_by(|a, b| order(a).cmp(&order(b)));
    (pairs, rest, left)
}

/// What orders findings: the most severe first.
fn order(finding: &Finding) -> (Severity, Code, Subject, &[String]) {
    (finding.severity, finding.code, Subject::of(finding), &finding.rules)
}

impl Difference {
    /// What changed from `old` to `new`. Each is with the path that it was read from.
    pub fn of((old_path, old): (&str, &Audit), (new_path, new): (&str, &Audit)) -> Difference {
        Difference {
            schema: DIFF_SCHEMA,
            tool: Tool::this(),
            old: Compared::of(old_path, old),
            new: Compared::of(new_path, new),
            remarks: remarks(old, new),
            findings: findings(old, new),
            coverage: coverage(old, new),
            conversations: conversations(old, new),
        }
    }

    /// Whether both audits say the same, but for counts and times.
    pub fn is_nothing(&self) -> bool {
        let Difference { findings, coverage, conversations, .. } = self;
        findings.appeared.is_empty()
            && findings.vanished.is_empty()
            && findings.flipped.is_empty()
            && coverage.is_empty()
            && conversations.appeared.is_empty()
            && conversations.vanished.is_empty()
            && conversations.flipped.is_empty()
    }

    /// 0 nothing got worse, 1 findings appeared, are graver or of another code as grave, 3 the evidence of one of the audits is incomplete.
    pub fn exit_code(&self, fail_on: FailOn) -> u8 {
        let graver = |pair: &&Flipped| {
            let (old, new) = (&pair.old, &pair.new);
            new.severity < old.severity || (new.severity == old.severity && new.code != old.code)
        };
        let flipped = self.findings.flipped.iter().filter(graver);
        let mut worse = self.findings.appeared.iter().chain(flipped.map(|pair| &pair.new));
        if self.old.incomplete || self.new.incomplete {
            3
        } else {
            u8::from(worse.any(|finding| fail_on.counts(finding.severity)))
        }
    }
}

impl Compared {
    fn of(path: &str, audit: &Audit) -> Compared {
        Compared {
            path: path.to_owned(),
            tool: audit.tool.clone(),
            site: audit.site.name.clone(),
            captures: audit.inputs.len() as u64,
            flows: audit.totals.flows,
            findings: audit.totals.findings.clone(),
            first_ts: audit.capture_quality.first_ts,
            last_ts: audit.capture_quality.last_ts,
            incomplete: audit.incomplete(),
        }
    }
}

fn findings(old: &Audit, new: &Audit) -> Changes<Finding, Vanished, Flipped> {
    let of = |audit: &Audit| -> Vec<Finding> {
        audit.findings.iter().filter(|finding| !is_told_by_coverage(finding)).cloned().collect()
    };
    // Of several that are keyed alike, those about the same rules are the same.
    let (same, old_left, new_left) =
        paired(of(old), of(new), |finding| (finding.code, Subject::of(finding), finding.rules.clone()));
    let (alike, old_left, new_left) =
        paired(old_left, new_left, |finding| (finding.code, Subject::of(finding)));
    let (turned, vanished, appeared) = paired(old_left, new_left, Subject::of);
    let unchanged = |(old, new): &(Finding, Finding)| {
        let told = |finding: &Finding| {
            let outcomes: BTreeSet<_> = finding.outcomes.iter().copied().collect();
            let rules: BTreeSet<&String> = finding.rules.iter().collect();
            (finding.code, finding.severity, rules.into_iter().cloned().collect::<Vec<_>>(), outcomes)
        };
        told(old) == told(new)
    };
    let (unchanged, flipped): (Vec<_>, Vec<_>) =
        same.into_iter().chain(alike).chain(turned).partition(unchanged);
    let mut flipped: Vec<Flipped> = flipped.into_iter().map(|(old, new)| Flipped { old, new }).collect();
    flipped.sort_by(|a, b| order(&a.new).cmp(&order(&b.new)));
    let states: BTreeMap<&str, CoverageState> =
        new.coverage.iter().map(|row| (&*row.rule, row.state)).collect();
    let vanished = vanished.into_iter().map(|finding| Vanished { why: why(&finding, new, &states), finding });
    Changes { appeared, vanished: vanished.collect(), flipped, unchanged: unchanged.len() as u64 }
}

/// What the new audit says of the rules of a finding that it lacks.
fn why(finding: &Finding, new: &Audit, states: &BTreeMap<&str, CoverageState>) -> String {
    if new.is_of_nobody() {
        return "the new captures show no audited machine".to_owned();
    }
    let mut by_state: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for rule in finding.rules.iter().filter(|_| finding.code != Code::Undetermined) {
        let state = states.get(&**rule).map_or("not among the rules now", |state| match state {
            CoverageState::Observed => "observed now: some machine of the role got through",
            CoverageState::Blocked => "blocked now, for some other machine or name",
            CoverageState::Intermittent => "intermittent now, for some other machine or name",
            CoverageState::NotObserved => "not observed now: nobody tried, or what was tried tells nothing",
            CoverageState::NotObservable => "not observable now: the captures show no machine that could try",
            CoverageState::NotApplicable => "not applicable now",
        });
        by_state.entry(state).or_default().push(rule);
    }
    if by_state.is_empty() {
        return "no finding of the new audit is about it".to_owned();
    }
    let told: Vec<String> =
        by_state.into_iter().map(|(state, rules)| format!("{}: {state}", rules.join(", "))).collect();
    told.join("; ")
}

fn coverage(old: &Audit, new: &Audit) -> Vec<CoverageChange> {
    let before: BTreeMap<&str, &Coverage> = old.coverage.iter().map(|row| (&*row.rule, row)).collect();
    let after: BTreeSet<&str> = new.coverage.iter().map(|row| &*row.rule).collect();
    let there = new.coverage.iter().map(|row| {
        let old = before.get(&*row.rule).map(|row| row.state);
        CoverageChange { old, new: Some(row.state), row: row.clone() }
    });
    let gone = old.coverage.iter().filter(|row| !after.contains(&*row.rule));
    let gone = gone.map(|row| CoverageChange { old: Some(row.state), new: None, row: row.clone() });
    there.filter(|change| change.old != change.new).chain(gone).collect()
}

fn conversations(old: &Audit, new: &Audit) -> Changes<Conversation, Conversation, ConversationChange> {
    fn by_parties(audit: &Audit) -> BTreeMap<(&str, &str), &Conversation> {
        audit.conversations.iter().map(|pair| ((&*pair.from, &*pair.to), pair)).collect()
    }
    let (before, after) = (by_parties(old), by_parties(new));
    let mut changes =
        Changes { appeared: Vec::new(), vanished: Vec::new(), flipped: Vec::new(), unchanged: 0 };
    for (parties, pair) in &after {
        let Some(was) = before.get(parties) else {
            changes.appeared.push((*pair).clone());
            continue;
        };
        if pair.verdicts.keys().eq(was.verdicts.keys()) {
            changes.unchanged += 1;
            continue;
        }
        changes.flipped.push(ConversationChange {
            from: pair.from.clone(),
            to: pair.to.clone(),
            old: was.verdicts.clone(),
            new: pair.verdicts.clone(),
        });
    }
    let vanished = before.iter().filter(|(parties, _)| !after.contains_key(*parties));
    changes.vanished.extend(vanished.map(|(_, pair)| (*pair).clone()));
    changes
}

/// What makes a difference something else than a change of what the machines do.
fn remarks(old: &Audit, new: &Audit) -> Vec<String> {
    let mut remarks = Vec::new();
    let both = [("old", old), ("new", new)];
    for (which, _) in both.iter().filter(|(_, audit)| audit.incomplete()) {
        let so = if *which == "old" { "appeared may have been there" } else { "vanished may be there still" };
        remarks.push(format!("the {which} audit: its evidence is incomplete, so that what {so}"));
    }
    for (which, audit) in both.iter().filter(|(_, audit)| audit.is_of_nobody()) {
        remarks.push(format!(
            "the {which} audit judged no flow of an audited machine ({} in all)",
            audit.totals.flows
        ));
    }
    remarks.extend(of_times(old, new));
    remarks.extend(of_parts(old, new));
    if old.site.name != new.site.name {
        remarks.push(format!("the sites are two: {} and {}", old.site.name, new.site.name));
    } else if old.site.sha256 != new.site.sha256 {
        remarks.push("the site file changed in between: an address may hold another role now".to_owned());
    }
    remarks.extend(of_packs(&old.rules, &new.rules));
    let tags = |audit: &Audit| -> BTreeSet<String> {
        audit.service_tags.iter().chain(&audit.further_service_tags).map(tags_in_words).collect()
    };
    let (before, after) = (tags(old), tags(new));
    if before != after {
        let words = |tags: BTreeSet<String>| match Vec::from_iter(tags) {
            none if none.is_empty() => "none".to_owned(),
            some => some.join(", "),
        };
        remarks.push(format!("the service tags changed in between: {} -> {}", words(before), words(after)));
    }
    if (&old.tool.version, &old.tool.commit) != (&new.tool.version, &new.tool.commit) {
        let words = |tool: &Tool| match &tool.commit {
            Some(commit) => format!("{} ({commit})", tool.version),
            None => tool.version.clone(),
        };
        remarks.push(format!(
            "two versions of {} made them: {} and {}",
            new.tool.name,
            words(&old.tool),
            words(&new.tool)
        ));
    }
    remarks
}

fn tags_in_words(tags: &TagsUsed) -> String {
    format!("{} change {} ({:.12})", tags.cloud, tags.change_number, tags.sha256)
}

/// What captures lack that last less than a third as long as others may only not have been due.
const MUCH_SHORTER: i64 = 3;

fn of_times(old: &Audit, new: &Audit) -> Option<String> {
    let range = |audit: &Audit| audit.capture_quality.first_ts.zip(audit.capture_quality.last_ts);
    let ((old_first, old_last), (new_first, new_last)) = range(old).zip(range(new))?;
    let same = digests(old).is_some_and(|of_old| !of_old.is_empty() && digests(new) == Some(of_old));
    if same && of_parts(old, new).is_none() {
        return Some("both are of the same captures: what changed is what they were held against".to_owned());
    }
    if old_first > new_last {
        return Some(
            "the captures of the old audit were all taken after those of the new one: is the order right?"
                .to_owned(),
        );
    }
    let (old_length, new_length) = (old_last.0 - old_first.0, new_last.0 - new_first.0);
    let seconds = |nanos: i64| format!("{} s", nanos / 1_000_000_000);
    let told = |which: &str, other: &str, short: i64, long: i64, what: &str| {
        format!(
            "the {which} captures last {}, the {other} ones {}: what {what} may only not have been due",
            seconds(short),
            seconds(long)
        )
    };
    if new_length < old_length / MUCH_SHORTER {
        return Some(told("new", "old", new_length, old_length, "vanished"));
    }
    (old_length < new_length / MUCH_SHORTER).then(|| told("old", "new", old_length, new_length, "appeared"))
}

/// SHA-256 of all captures of an audit, where they were computed.
fn digests(audit: &Audit) -> Option<BTreeSet<String>> {
    audit.inputs.iter().map(|input| input.sha256.clone()).collect()
}

/// That only a part of captures was looked at, where that is not the same in both.
fn of_parts(old: &Audit, new: &Audit) -> Option<String> {
    let parts = |audit: &Audit| -> BTreeSet<_> {
        let chosen = audit.inputs.iter().map(|input| input.chosen.as_ref());
        chosen.map(|chosen| chosen.map(|of| (of.filter.clone(), of.since, of.until))).collect()
    };
    (parts(old) != parts(new)).then(|| {
        "another part of the captures was looked at (--filter, --since, --until): the rest is in no finding".to_owned()
    })
}

fn of_packs(old: &[PackUsed], new: &[PackUsed]) -> Vec<String> {
    let by_id = |packs: &'_ [PackUsed]| -> BTreeMap<String, PackUsed> {
        packs.iter().map(|pack| (pack.id.clone(), pack.clone())).collect()
    };
    let (before, after) = (by_id(old), by_id(new));
    let ids: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let told = ids.into_iter().filter_map(|id| match (before.get(id), after.get(id)) {
        (Some(one), Some(other)) if one.sha256 == other.sha256 => None,
        (Some(one), Some(other)) => {
            Some(format!("the rules {id} changed in between: {} -> {}", one.in_words(), other.in_words()))
        }
        (Some(_), None) => Some(format!("only the old audit was held against the rules {id}")),
        (None, _) => Some(format!("only the new audit was held against the rules {id}")),
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{CaptureQuality, CaptureSummary, NamesQuality, Totals};
    use crate::flow::Outcome;
    use crate::matrix::Requirement;
    use proptest::prelude::*;

    const HOSTS: [&str; 3] = ["10.0.0.1", "10.0.0.2", "fd00::1"];

    fn finding(code: Code, host: usize, name: &str, port: u16) -> Finding {
        Finding {
            from: Party { roles: vec!["worker".into()], ip: HOSTS[host].parse().ok(), ..Party::default() },
            to: Party {
                ip: "203.0.113.9".parse().ok(),
                name: name.parse().ok(),
                port: Some(port),
                proto: Some(Transport::Tcp),
                ..Party::default()
            },
            ..Finding::of(code, format!("worker {} -> {name} TCP {port}", HOSTS[host]))
        }
    }

    fn row(rule: &str, state: CoverageState) -> Coverage {
        Coverage {
            rule: rule.to_owned(),
            page: "a page".to_owned(),
            row: 1,
            from: "Worker".to_owned(),
            to: "somewhere".to_owned(),
            proto: "tcp".to_owned(),
            ports: "443".to_owned(),
            requirement: Requirement::Required,
            state,
            why: None,
            flows: 0,
            names: Vec::new(),
            first_ts: None,
            last_ts: None,
            indistinguishable_from: Vec::new(),
        }
    }

    /// An audit of a minute of one capture, from so many seconds on.
    fn audit(findings: Vec<Finding>, coverage: Vec<Coverage>, from: i64) -> Audit {
        let time = |seconds: i64| Some(Timestamp(seconds * 1_000_000_000));
        let mut audit: Audit = serde_json::from_value(serde_json::json!({
            "schema": 1, "tool": Tool::this(), "inputs": [], "unreadable": [], "rules": [], "service_tags": null,
            "further_service_tags": [], "site": {"name": "s", "sha256": "1"}, "remarks": [], "totals": Totals::default(),
            "coverage": [], "findings": [], "conversations": [], "timeline": {"bucket_ns": 1, "buckets": []},
            "names_quality": NamesQuality::default(), "capture_quality": CaptureQuality { complete: true, ..Default::default() },
        }))
        .expect("an audit");
        audit.inputs.push(CaptureSummary::of_nothing("a.pcap", "pcap"));
        (audit.capture_quality.first_ts, audit.capture_quality.last_ts) = (time(from), time(from + 60));
        (audit.totals.flows, audit.totals.audited_flows) = (9, Some(9));
        (audit.findings, audit.coverage) = (findings, coverage);
        audit
    }

    fn diff(old: &Audit, new: &Audit) -> Difference {
        Difference::of(("old.json", old), ("new.json", new))
    }

    #[test]
    fn what_both_have_is_no_difference_whatever_its_count_and_time() {
        let one = finding(Code::UnexpectedTraffic, 0, "a.example", 443);
        let mut again = one.clone();
        (again.count, again.first_ts, again.title) = (99, Some(Timestamp(7)), "other words".to_owned());
        again.to.ip = "198.51.100.7".parse().ok();
        let rows = || vec![row("one", CoverageState::Observed)];
        let told = diff(&audit(vec![one], rows(), 0), &audit(vec![again], rows(), 100));
        assert!(told.is_nothing() && told.remarks.is_empty(), "{told:?}");
        assert_eq!((told.findings.unchanged, told.exit_code(FailOn::Medium)), (1, 0));
    }

    #[test]
    fn a_name_keys_a_finding_before_its_address_and_each_part_of_the_key_counts() {
        let base = || finding(Code::UnexpectedTraffic, 0, "a.example", 443);
        let others = [
            finding(Code::UnexpectedTraffic, 1, "a.example", 443),
            finding(Code::UnexpectedTraffic, 0, "b.example", 443),
            finding(Code::UnexpectedTraffic, 0, "a.example", 80),
            Finding { to: Party { proto: Some(Transport::Udp), ..base().to }, ..base() },
        ];
        for other in others {
            let told = diff(&audit(vec![base()], Vec::new(), 0), &audit(vec![other], Vec::new(), 100));
            assert_eq!((told.findings.appeared.len(), told.findings.vanished.len()), (1, 1));
            assert_eq!(told.exit_code(FailOn::Medium), 1);
            assert_eq!(told.exit_code(FailOn::Never), 0);
        }
    }

    #[test]
    fn what_is_another_now_is_told_as_one_and_counts_where_it_is_graver() {
        let attempt = finding(Code::UnexpectedAttempt, 0, "a.example", 443);
        let traffic = finding(Code::UnexpectedTraffic, 0, "a.example", 443);
        let of = |finding: &Finding, from| audit(vec![finding.clone()], Vec::new(), from);
        let worse = diff(&of(&attempt, 0), &of(&traffic, 100));
        assert_eq!((worse.findings.flipped.len(), worse.findings.appeared.len()), (1, 0));
        assert_eq!((worse.exit_code(FailOn::High), worse.exit_code(FailOn::Never)), (1, 0));
        let better = diff(&of(&traffic, 0), &of(&attempt, 100));
        assert_eq!((better.findings.flipped.len(), better.exit_code(FailOn::Medium)), (1, 0));
        // Another code as grave is something new.
        let mut other = traffic.clone();
        other.code = Code::DocumentedBlocked;
        let turned = diff(&of(&traffic, 0), &of(&other, 100));
        assert_eq!((turned.findings.flipped.len(), turned.exit_code(FailOn::High)), (1, 1));
        // How connections ended is part of what was found.
        let refused = Finding { outcomes: vec![Outcome::Refused], ..attempt.clone() };
        assert_eq!(diff(&of(&attempt, 0), &of(&refused, 100)).findings.flipped.len(), 1);
    }

    #[test]
    fn undetermined_findings_are_those_of_a_role_and_resolvers_those_of_all() {
        let told = |code, change: fn(&mut Finding)| {
            let one = finding(code, 0, "a.example", 443);
            let mut other = one.clone();
            change(&mut other);
            diff(&audit(vec![one], Vec::new(), 0), &audit(vec![other], Vec::new(), 100)).is_nothing()
        };
        let of_several = |finding: &mut Finding| (finding.from.ip, finding.to.port) = (None, None);
        assert!(told(Code::Undetermined, of_several));
        assert!(!told(Code::UnexpectedTraffic, of_several));
        assert!(!told(Code::Undetermined, |finding| finding.from.roles = vec!["console".into()]));
        let asked_by_others = |finding: &mut Finding| {
            (finding.from, finding.to.proto) = (Party::default(), None);
        };
        assert!(told(Code::UnexpectedResolver, asked_by_others));
    }

    #[test]
    fn numbers_in_titles_names_of_captures_and_the_order_of_rules_are_no_difference() {
        let same = |one: Finding, other: Finding| {
            diff(&audit(vec![one], Vec::new(), 0), &audit(vec![other], Vec::new(), 100)).is_nothing()
        };
        let told = |code, title: &str| Finding::of(code, title.to_owned());
        let expired = |line: u8| told(Code::AcceptExpired, &format!("the exception at line {line} ran out"));
        assert!(same(expired(31), expired(32)));
        assert!(!same(expired(31), told(Code::AcceptExpired, "another one")));
        assert!(same(
            told(Code::CaptureDamaged, "a.pcap: frame 9"),
            told(Code::CaptureDamaged, "b.pcap: frame 7")
        ));
        let ruled = |rules: [&str; 2]| Finding {
            rules: rules.map(str::to_owned).into(),
            ..finding(Code::DocumentedBlocked, 0, "a.example", 443)
        };
        assert!(same(ruled(["one", "two"]), ruled(["two", "one"])));
        assert!(!same(ruled(["one", "two"]), ruled(["one", "three"])));
    }

    #[test]
    fn what_vanished_is_told_with_what_is_seen_of_its_rules_now() {
        let mut blocked = finding(Code::DocumentedBlocked, 0, "a.example", 443);
        blocked.rules = vec!["one".into(), "two".into(), "three".into()];
        let old = audit(vec![blocked], vec![row("one", CoverageState::Blocked)], 0);
        let rows = vec![row("one", CoverageState::Observed), row("two", CoverageState::NotObserved)];
        let told = diff(&old, &audit(Vec::new(), rows, 100));
        let why = &told.findings.vanished[0].why;
        assert!(why.contains("one: observed now"), "{why}");
        assert!(why.contains("two: not observed now"), "{why}");
        assert!(why.contains("three: not among the rules now"), "{why}");
        let states: Vec<_> = told.coverage.iter().map(|row| (&*row.row.rule, row.old, row.new)).collect();
        assert_eq!(
            states,
            [
                ("one", Some(CoverageState::Blocked), Some(CoverageState::Observed)),
                ("two", None, Some(CoverageState::NotObserved))
            ]
        );
        let mut nobody = audit(Vec::new(), Vec::new(), 100);
        nobody.totals.audited_flows = Some(0);
        let told = diff(&old, &nobody);
        assert_eq!(told.findings.vanished[0].why, "the new captures show no audited machine");
        assert!(told.remarks[0].contains("the new audit judged no flow of an audited machine"));
        assert_eq!((told.coverage[0].old, told.coverage[0].new), (Some(CoverageState::Blocked), None));
    }

    #[test]
    fn what_makes_audits_hard_to_compare_is_said() {
        let old = || audit(Vec::new(), Vec::new(), 1_000);
        let said = |change: &dyn Fn(&mut Audit), part: &str| {
            let mut new = audit(Vec::new(), Vec::new(), 2_000);
            change(&mut new);
            let told = diff(&old(), &new);
            let [remark] = &told.remarks[..] else { panic!("{part}: {:?}", told.remarks) };
            assert!(remark.contains(part), "{remark}");
            told.exit_code(FailOn::Medium)
        };
        assert!(diff(&old(), &audit(Vec::new(), Vec::new(), 2_000)).remarks.is_empty());
        assert_eq!(said(&|new| new.capture_quality.drops = 1, "what vanished may be there still"), 3);
        assert_eq!(said(&|new| new.site.sha256 = "2".into(), "the site file changed"), 0);
        said(&|new| new.site.name = "t".into(), "the sites are two: s and t");
        said(&|new| new.tool.version = "9.9".into(), "two versions of portproof");
        let time = |seconds: i64| Some(Timestamp(seconds * 1_000_000_000));
        said(
            &move |new| {
                (new.capture_quality.first_ts, new.capture_quality.last_ts) = (time(1), time(60));
            },
            "is the order right?",
        );
        said(
            &move |new| new.capture_quality.last_ts = time(2_019),
            "what vanished may only not have been due",
        );
        said(
            &move |new| new.capture_quality.last_ts = time(2_181),
            "what appeared may only not have been due",
        );
        let tags = TagsUsed { change_number: 7, cloud: "Public".into(), date: None, sha256: "ab".into() };
        said(
            &move |new| new.service_tags = Some(tags.clone()),
            "the service tags changed in between: none -> Public",
        );
        let pack: PackUsed =
            serde_json::from_value(serde_json::json!({"id": "p", "page": "P", "sha256": "1"}))
                .expect("a pack");
        said(&move |new| new.rules.push(pack.clone()), "only the new audit was held against the rules p");
    }

    fn some_findings() -> impl Strategy<Value = Vec<Finding>> {
        let codes = [
            Code::UnexpectedTraffic,
            Code::UnexpectedAttempt,
            Code::DocumentedBlocked,
            Code::Undetermined,
            Code::UnexpectedResolver,
            Code::RuleNotObserved,
        ];
        let one = (prop::sample::select(codes.to_vec()), 0usize..3, 0u8..3, 0u16..2, 0u8..3);
        let one = one.prop_map(|(code, host, name, port, rule)| Finding {
            rules: vec![format!("rule-{rule}")],
            ..finding(code, host, &format!("n{name}.example"), port)
        });
        prop::collection::vec(one, 0..12)
    }

    proptest! {
        /// Each finding is told once, and read backwards what appeared has vanished.
        #[test]
        fn nothing_is_lost_and_backwards_it_is_the_reverse(old in some_findings(), new in some_findings()) {
            let (old, new) = (audit(old, Vec::new(), 0), audit(new, Vec::new(), 100));
            let (there, back) = (diff(&old, &new).findings, diff(&new, &old).findings);
            let told = |audit: &Audit| audit.findings.iter().filter(|finding| !is_told_by_coverage(finding)).count();
            let both = there.flipped.len() + there.unchanged as usize;
            prop_assert_eq!(there.appeared.len() + both, told(&new));
            prop_assert_eq!(there.vanished.len() + both, told(&old));
            prop_assert_eq!(there.unchanged, back.unchanged);
            prop_assert_eq!(there.flipped.len(), back.flipped.len());
            prop_assert_eq!(there.appeared.len(), back.vanished.len());
            prop_assert!(diff(&new, &new).is_nothing());
        }
    }
}
