//! What the captures show of each rule.

use super::circumstances::Evidence;
use super::classify::{Classifier, Ruling};
use super::fit::Ready;
use crate::audit::{Coverage, CoverageState};
use crate::flow::{Flow, Outcome};
use crate::matrix::RoleSet;
use crate::model::{DomainName, Timestamp};
use crate::names::{ChainNumber, Reading};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use std::collections::{BTreeMap, BTreeSet};

/// What the flows of one rule came to.
#[derive(Clone, Default)]
pub(super) struct RuleTally {
    pub flows: u64,
    pub worked: u64,
    pub blocked: u64,
    outcomes: OutcomeSet,
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

    pub(super) fn iter(self) -> impl Iterator<Item = Outcome> + Clone {
        Outcome::ALL.into_iter().filter(move |&outcome| self.0 & (1 << outcome as u16) != 0)
    }
}

/// Names listed for a rule: the first ones by alphabet. A hundred storage accounts help nobody.
const MOST_NAMES: usize = 20;

/// The first names by alphabet.
#[derive(Clone, Default)]
struct FirstNames(BTreeSet<DomainName>);

impl FirstNames {
    fn insert(&mut self, name: &DomainName) {
        let late = self.0.len() >= MOST_NAMES && self.0.last().is_some_and(|last| last < name);
        if !late && !self.0.contains(name) {
            self.0.insert(name.clone());
            if self.0.len() > MOST_NAMES {
                self.0.pop_last();
            }
        }
    }
}

/// Counts the documented flows of each rule.
#[derive(Default)]
pub(super) struct CoverageTally {
    /// By the rule's place.
    rules: Vec<RuleTally>,
    /// The names of flows that one and the same set of rules documents: a pack may give a flow hundreds of rules.
    names: HashMap<Vec<usize>, FirstNames, RandomState>,
    /// Roles of hosts that sent anything.
    senders: RoleSet,
    /// Names that could not be resolved, by (rule).
    unresolved: BTreeMap<String, String>,
}

impl CoverageTally {
    /// Notes by which names the rules of a ruling were exercised; `noted` are the chains of which it is known already.
    #[inline(always)]
    pub(super) fn note_names(
        &mut self,
        ruling: &Ruling,
        evidence: &Evidence<'_>,
        noted: &mut HashSet<ChainNumber, RandomState>,
    ) {
        if ruling.documented_by.is_empty() {
            return;
        }
        let written = evidence.written.as_ref();
        let new = |reading: &&Reading<'_>| reading.chain.is_none_or(|chain| noted.insert(chain));
        let mut told = evidence.named().filter(new).filter_map(|reading| reading.names.first()).peekable();
        if told.peek().is_none() && written.is_none() {
            return;
        }
        let names = self.names.entry_ref(&ruling.documented_by).or_default();
        told.chain(written).for_each(|name| names.insert(name));
    }

    #[inline(always)]
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
            tally.worked += u64::from(flow.worked());
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
            tally.first = tally.first.into_iter().chain(other.first).min();
            tally.last = tally.last.into_iter().chain(other.last).max();
        }
        for (rules, names) in later.names {
            let own = self.names.entry(rules).or_default();
            names.0.iter().for_each(|name| own.insert(name));
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
        let mut names: Vec<FirstNames> = vec![FirstNames::default(); classifier.rules().len()];
        for (rules, of_set) in &self.names {
            for &rule in rules {
                if let Some(names) = names.get_mut(rule) {
                    of_set.0.iter().for_each(|name| names.insert(name));
                }
            }
        }
        let kinds = Kinds::of(classifier);
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
            let same = kinds.like(ready).filter(|other| other.rule.id != rule.id);
            let same: Vec<String> = same.map(|other| other.rule.id.to_string()).collect();
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
                names: names.get(ready.order).into_iter().flat_map(|names| names.0.iter().cloned()).collect(),
                first_ts: tally.first,
                last_ts: tally.last,
                indistinguishable_from: same,
            });
        }
        lines
    }
}

/// Listed rules that would fit the same flows, beside each other.
struct Kinds<'c, 'a> {
    kinds: Vec<Vec<&'c Ready<'a>>>,
    /// By the rule's place.
    kind_of: HashMap<usize, usize, RandomState>,
}

impl<'c, 'a> Kinds<'c, 'a> {
    fn of(classifier: &'c Classifier<'a>) -> Self {
        let mut kinds: Vec<Vec<&Ready<'a>>> = Vec::new();
        let mut kind_of = HashMap::default();
        // Rules of the same traffic have one initiator, transport and ports: few others have these, too.
        let mut alike: HashMap<_, Vec<usize>, RandomState> = HashMap::default();
        for ready in classifier.rules().iter().filter(|ready| ready.listed()) {
            let rule = ready.rule;
            let alike = alike.entry((&rule.from, rule.transport, rule.ports.to_string())).or_default();
            let same =
                |&&kind: &&usize| kinds[kind].first().is_some_and(|other| other.rule.same_traffic(rule));
            let kind = alike.iter().find(same).copied().unwrap_or_else(|| {
                alike.push(kinds.len());
                kinds.push(Vec::new());
                kinds.len() - 1
            });
            kinds[kind].push(ready);
            kind_of.insert(ready.order, kind);
        }
        Kinds { kinds, kind_of }
    }

    /// The rules that would fit the same flows, itself among them.
    fn like(&self, ready: &Ready<'_>) -> impl Iterator<Item = &&'c Ready<'a>> {
        self.kind_of.get(&ready.order).and_then(|&kind| self.kinds.get(kind)).into_iter().flatten()
    }
}
