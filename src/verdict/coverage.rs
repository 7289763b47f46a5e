//! What the captures show of each rule.

use super::classify::{Classifier, Judged};
use crate::audit::{Coverage, CoverageState, Verdict};
use crate::flow::Outcome;
use crate::matrix::RoleSet;
use crate::model::{DomainName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the flows of one rule came to.
#[derive(Default)]
pub(super) struct RuleTally {
    pub flows: u64,
    pub worked: u64,
    pub blocked: u64,
    outcomes: BTreeMap<Outcome, u64>,
    names: BTreeSet<DomainName>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// Names listed for a rule: the first ones by alphabet. A hundred storage accounts help nobody.
const MOST_NAMES: usize = 20;

/// Counts the documented flows of each rule.
#[derive(Default)]
pub(super) struct CoverageTally {
    rules: BTreeMap<String, RuleTally>,
    /// Hosts that sent anything, by address.
    senders: BTreeSet<IpAddr>,
    /// Names that could not be resolved, by (rule).
    unresolved: BTreeMap<String, String>,
}

impl CoverageTally {
    pub(super) fn count(&mut self, judged: &Judged) {
        let row = &judged.row;
        if row.flow.packets_fwd > 0 {
            self.senders.insert(row.flow.initiator_ip);
        }
        if row.flow.packets_rev > 0 {
            self.senders.insert(row.flow.responder_ip);
        }
        if row.verdict != Verdict::Documented {
            return;
        }
        for rule in &row.rules {
            let tally = self.rules.entry(rule.clone()).or_default();
            tally.flows += 1;
            tally.worked += u64::from(row.flow.outcome.worked());
            tally.blocked += u64::from(row.flow.outcome.is_blocked());
            *tally.outcomes.entry(row.flow.outcome).or_default() += 1;
            for name in &row.names {
                if tally.names.insert(name.name.clone()) && tally.names.len() > MOST_NAMES {
                    tally.names.pop_last();
                }
            }
            let (first, last) = (row.flow.first_ts, row.flow.last_ts);
            tally.first = Some(tally.first.map_or(first, |have| have.min(first)));
            tally.last = Some(tally.last.map_or(last, |have| have.max(last)));
        }
    }

    /// Notes that a name of a rule could not be resolved.
    pub(super) fn unresolved(&mut self, rule: &str, why: String) {
        self.unresolved.entry(rule.to_owned()).or_insert(why);
    }

    /// One line a rule, in the order of the packs.
    pub(super) fn finish(self, classifier: &Classifier<'_>) -> Vec<Coverage> {
        let senders = self
            .senders
            .iter()
            .map(|ip| classifier.site.roles_of(*ip))
            .fold(RoleSet::default(), RoleSet::union);
        let empty = RuleTally::default();
        let mut lines: Vec<Coverage> = Vec::new();
        for ready in classifier.rules().iter().filter(|ready| ready.listed()) {
            let rule = ready.rule;
            let tally = self.rules.get(rule.id.as_str()).unwrap_or(&empty);
            let (state, why) = if tally.worked > 0 && tally.blocked > 0 {
                (
                    CoverageState::Intermittent,
                    Some(format!("{} worked, {} blocked", tally.worked, tally.blocked)),
                )
            } else if tally.worked > 0 {
                (CoverageState::Observed, None)
            } else if tally.blocked > 0 {
                let kinds: Vec<&str> = tally
                    .outcomes
                    .keys()
                    .filter(|outcome| outcome.is_blocked())
                    .map(|outcome| outcome.as_str())
                    .collect();
                (CoverageState::Blocked, Some(kinds.join(", ")))
            } else if let Some(why) = ready.not_applicable() {
                (CoverageState::NotApplicable, Some(why))
            } else if tally.flows > 0 {
                let seen: Vec<&str> = tally.outcomes.keys().map(|outcome| outcome.as_str()).collect();
                (CoverageState::NotObserved, Some(format!("only {}", seen.join(", "))))
            } else if !senders.contains(ready.here.from) {
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
