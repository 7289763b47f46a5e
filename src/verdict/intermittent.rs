//! For one rule and host, attempts both worked and were blocked: told from sums, without keeping the flows.

use super::classify::{Classifier, Ruling};
use super::coverage::OutcomeSet;
use super::findings::{self, Findings};
use crate::audit::{Code, EvidenceFrame, Party};
use crate::flow::Flow;
use crate::matrix::RoleSet;
use crate::model::{FramePoint, Timestamp, Transport};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What the flows of one host came to that one and the same set of rules documents.
#[derive(Clone, Default)]
struct Attempts {
    worked: u64,
    blocked: u64,
    outcomes: OutcomeSet,
    range: Option<(Timestamp, Timestamp)>,
    first_worked: Option<Box<First>>,
    first_blocked: Option<Box<First>>,
}

impl Attempts {
    fn add(&mut self, other: Attempts) {
        self.worked += other.worked;
        self.blocked += other.blocked;
        self.outcomes.merge(other.outcomes);
        let ranges = self.range.into_iter().chain(other.range);
        self.range = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        self.first_worked = First::earlier(self.first_worked.take(), other.first_worked);
        self.first_blocked = First::earlier(self.first_blocked.take(), other.first_blocked);
    }
}

/// The first flow of its kind, and its place in the order of rows.
#[derive(Clone)]
struct First {
    place: u64,
    from_roles: RoleSet,
    to_roles: RoleSet,
    port: u16,
    proto: Transport,
    points: Vec<FramePoint>,
}

impl First {
    fn of(place: u64, flow: &Flow<'_>, ruling: &Ruling) -> Box<First> {
        Box::new(First {
            place,
            from_roles: ruling.from_roles,
            to_roles: ruling.to_roles,
            port: flow.to.port,
            proto: flow.proto,
            points: flow.proofs().into_iter().map(|(_, point)| point).collect(),
        })
    }

    fn earlier(have: Option<Box<First>>, other: Option<Box<First>>) -> Option<Box<First>> {
        have.into_iter().chain(other).min_by_key(|first| first.place)
    }
}

/// Documented flows by host and set of rules.
#[derive(Default)]
pub(super) struct Intermittence {
    /// Places of the rules of each set.
    sets: Vec<Vec<usize>>,
    set_of: HashMap<Vec<usize>, usize, RandomState>,
    attempts: HashMap<(IpAddr, usize), Attempts, RandomState>,
}

impl Intermittence {
    /// The set of the rules that document the flows of a ruling.
    pub(super) fn set(&mut self, ruling: &Ruling) -> Option<usize> {
        let rules = &ruling.documented_by;
        if rules.is_empty() {
            return None;
        }
        Some(self.number(rules))
    }

    /// Counts a documented flow; `place` is its place in the order of rows.
    pub(super) fn count(&mut self, host: IpAddr, set: usize, place: u64, flow: &Flow<'_>, ruling: &Ruling) {
        let attempts = self.attempts.entry((host, set)).or_default();
        let (first, last) = (flow.first_ts, flow.last_ts);
        attempts.range =
            Some(attempts.range.map_or((first, last), |(begin, end)| (begin.min(first), end.max(last))));
        attempts.outcomes.insert(flow.outcome);
        if flow.worked() {
            attempts.worked += 1;
            attempts.first_worked.get_or_insert_with(|| First::of(place, flow, ruling));
        }
        if flow.outcome.is_blocked() {
            attempts.blocked += 1;
            attempts.first_blocked.get_or_insert_with(|| First::of(place, flow, ruling));
        }
    }

    /// Adds what later flows came to.
    pub(super) fn add(&mut self, later: Intermittence) {
        let Intermittence { sets, attempts, .. } = later;
        let set_of: Vec<usize> = sets.iter().map(|rules| self.number(rules)).collect();
        for ((host, set), other) in attempts {
            if let Some(&set) = set_of.get(set) {
                self.attempts.entry((host, set)).or_default().add(other);
            }
        }
    }

    fn number(&mut self, rules: &Vec<usize>) -> usize {
        *self.set_of.entry_ref(rules).or_insert_with(|| {
            self.sets.push(rules.clone());
            self.sets.len() - 1
        })
    }

    /// The findings. Rules that the very same flows fit are told in one: those that stand in the same sets.
    pub(super) fn finish(self, classifier: &Classifier<'_>, findings: &mut Findings) {
        // Rules that stand in the same sets do so for every host: they are looked at together.
        let mut sets_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (set, rules) in self.sets.iter().enumerate() {
            for &rule in rules {
                sets_of.entry(rule).or_default().push(set);
            }
        }
        let mut kinds: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for (rule, sets) in sets_of {
            kinds.entry(sets).or_default().push(rule);
        }
        let mut kinds_in: Vec<Vec<usize>> = vec![Vec::new(); self.sets.len()];
        for (kind, sets) in kinds.keys().enumerate() {
            for &set in sets {
                kinds_in[set].push(kind);
            }
        }
        let kinds: Vec<Vec<usize>> = kinds.into_values().collect();
        let mut sets_of: BTreeMap<(IpAddr, usize), Vec<usize>> = BTreeMap::new();
        // Of most hosts nothing was blocked: there is nothing to say of them.
        let blocked = self.attempts.iter().filter(|(_, attempts)| attempts.blocked > 0);
        let blocked: HashSet<IpAddr, RandomState> = blocked.map(|(&(host, _), _)| host).collect();
        for &(host, set) in self.attempts.keys().filter(|(host, _)| blocked.contains(host)) {
            for &kind in kinds_in.get(set).into_iter().flatten() {
                sets_of.entry((host, kind)).or_default().push(set);
            }
        }
        let mut groups: BTreeMap<(IpAddr, Vec<usize>), Vec<usize>> = BTreeMap::new();
        for ((host, kind), mut sets) in sets_of {
            sets.sort_unstable();
            groups.entry((host, sets)).or_default().push(kind);
        }
        for ((host, sets), of) in groups {
            let mut all = Attempts::default();
            for attempts in sets.into_iter().filter_map(|set| self.attempts.get(&(host, set))) {
                all.add(attempts.clone());
            }
            let (Some(worked), Some(blocked)) = (&all.first_worked, &all.first_blocked) else { continue };
            let rules = of.iter().filter_map(|&kind| kinds.get(kind)).flatten();
            let rules = rules.filter_map(|&rule| classifier.rules().get(rule));
            let mut rules: Vec<String> = rules.map(|ready| ready.rule.id.to_string()).collect();
            rules.sort_unstable();
            let to = rules.first().map_or("", |rule| classifier.rule_title(rule));
            let roles = blocked.from_roles.words(classifier.matrix);
            let title = format!(
                "{} {host} -> {to}: blocked in {} of {} attempts",
                roles.join("+"),
                all.blocked,
                all.blocked.saturating_add(all.worked)
            );
            let points = worked.points.iter().chain(&blocked.points);
            let frames: Vec<EvidenceFrame> = points.map(|point| findings.frame(*point)).collect();
            let mut finding = findings::note(Code::Intermittent, title, frames);
            finding.from = Party { roles, ip: Some(host), ..Party::default() };
            finding.to = Party {
                roles: blocked.to_roles.words(classifier.matrix),
                port: Some(blocked.port),
                proto: Some(blocked.proto),
                ..Party::default()
            };
            finding.rules = rules;
            finding.count = all.blocked;
            (finding.first_ts, finding.last_ts) = all.range.unzip();
            finding.outcomes = all.outcomes.iter().collect();
            findings.add(finding);
        }
    }
}
