//! What the captures show of each rule.

use super::classify::{Classifier, Ruling};
use crate::audit::{Coverage, CoverageState};
use crate::flow::{Flow, Outcome};
use crate::matrix::RoleSet;
use crate::model::{DomainName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What the flows of one rule came to.
#[derive(Clone, Default)]
pub(super) struct RuleTally {
    pub flows: u64,
    pub worked: u64,
    pub blocked: u64,
    outcomes: OutcomeSet,
    names: BTreeSet<DomainName>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// Which outcomes came, in the order of the ladder.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OutcomeSet(u16);

impl OutcomeSet {
    pub(super) fn insert(&mut self, outcome: Outcome) {
        self.0 |= 1 << outcome as u16;
    }

    pub(super) fn merge(&mut self, other: OutcomeSet) {
        self.0 |= other.0;
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Outcome> {
        Outcome::ALL.into_iter().filter(move |&outcome| self.0 & (1 << outcome as u16) != 0)
    }
}

/// Names listed for a rule: the first ones by alphabet. A hundred storage accounts help nobody.
const MOST_NAMES: usize = 20;

/// Counts the documented flows of each rule.
#[derive(Default)]
pub(super) struct CoverageTally {
    /// By the rule's place.
    rules: Vec<RuleTally>,
    /// Roles of hosts that sent anything.
    senders: RoleSet,
    /// Names that could not be resolved, by (rule).
    unresolved: BTreeMap<String, String>,
}

impl CoverageTally {
    /// Notes by which names the rules of a ruling were exercised: once for all of its flows.
    pub(super) fn note_names(&mut self, ruling: &Ruling) {
        for &rule in &ruling.documented_by {
            let tally = self.rule(rule);
            for name in &ruling.names {
                if tally.names.insert(name.name.clone()) && tally.names.len() > MOST_NAMES {
                    tally.names.pop_last();
                }
            }
        }
    }

    pub(super) fn count(&mut self, flow: &Flow<'_>, ruling: &Ruling) {
        if flow.packets_fwd > 0 {
            self.senders = self.senders.union(ruling.from_roles);
        }
        if flow.packets_rev > 0 {
            self.senders = self.senders.union(ruling.to_roles);
        }
        for &rule in &ruling.documented_by {
            let tally = self.rule(rule);
            tally.flows += 1;
            tally.worked += u64::from(flow.outcome.worked());
            tally.blocked += u64::from(flow.outcome.is_blocked());
            tally.outcomes.insert(flow.outcome);
            tally.first = Some(tally.first.map_or(flow.first_ts, |have| have.min(flow.first_ts)));
            tally.last = Some(tally.last.map_or(flow.last_ts, |have| have.max(flow.last_ts)));
        }
    }

    /// Adds what later flows came to.
    pub(super) fn add(&mut self, later: CoverageTally) {
        self.senders = self.senders.union(later.senders);
        for (place, other) in later.rules.into_iter().enumerate() {
            let tally = self.rule(place);
            tally.flows += other.flows;
            tally.worked += other.worked;
            tally.blocked += other.blocked;
            tally.outcomes.merge(other.outcomes);
            tally.names.extend(other.names);
            while tally.names.len() > MOST_NAMES {
                tally.names.pop_last();
            }
            tally.first = tally.first.into_iter().chain(other.first).min();
            tally.last = tally.last.into_iter().chain(other.last).max();
        }
        for (rule, why) in later.unresolved {
            self.unresolved.entry(rule).or_insert(why);
        }
    }

    fn rule(&mut self, place: usize) -> &mut RuleTally {
        if self.rules.len() <= place {
            self.rules.resize_with(place + 1, RuleTally::default);
        }
        &mut self.rules[place]
    }

    /// Notes that a name of a rule could not be resolved.
    pub(super) fn unresolved(&mut self, rule: &str, why: String) {
        self.unresolved.entry(rule.to_owned()).or_insert(why);
    }

    /// One line a rule, in the order of the packs.
    pub(super) fn finish(self, classifier: &Classifier<'_>) -> Vec<Coverage> {
        let empty = RuleTally::default();
        let mut lines: Vec<Coverage> = Vec::new();
        for ready in classifier.rules().iter().filter(|ready| ready.listed()) {
            let rule = ready.rule;
            let tally = self.rules.get(ready.order).unwrap_or(&empty);
            let (state, why) = if tally.worked > 0 && tally.blocked > 0 {
                (
                    CoverageState::Intermittent,
                    Some(format!("{} worked, {} blocked", tally.worked, tally.blocked)),
                )
            } else if tally.worked > 0 {
                (CoverageState::Observed, None)
            } else if tally.blocked > 0 {
                let kinds = tally.outcomes.iter().filter(|outcome| outcome.is_blocked());
                let kinds: Vec<&str> = kinds.map(Outcome::as_str).collect();
                (CoverageState::Blocked, Some(kinds.join(", ")))
            } else if let Some(why) = ready.not_applicable() {
                (CoverageState::NotApplicable, Some(why))
            } else if tally.flows > 0 {
                let seen: Vec<&str> = tally.outcomes.iter().map(Outcome::as_str).collect();
                (CoverageState::NotObserved, Some(format!("only {}", seen.join(", "))))
            } else if !self.senders.contains(ready.here.from) {
                let why = format!("no packet of any {} in the captures", rule.from_title);
                (CoverageState::NotObservable, Some(why))
            } else {
                (CoverageState::NotObserved, self.unresolved.get(rule.id.as_str()).cloned())
            };
            let same: Vec<String> = classifier
                .rules()
                .iter()
                .filter(|other| other.listed() && other.rule.id != rule.id && other.rule.same_traffic(rule))
                .map(|other| other.rule.id.to_string())
                .collect();
            lines.push(Coverage {
                rule: rule.id.to_string(),
                page: rule.citation.page.to_string(),
                row: rule.citation.row,
                from: rule.from_title.clone(),
                to: rule.to_title.clone(),
                proto: rule.transport.to_string(),
                ports: rule.ports.to_string(),
                requirement: rule.requirement,
                state,
                why,
                flows: tally.flows,
                names: tally.names.iter().cloned().collect(),
                first_ts: tally.first,
                last_ts: tally.last,
                indistinguishable_from: same,
            });
        }
        lines
    }
}
