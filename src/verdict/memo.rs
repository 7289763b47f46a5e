//! Verdicts already found, by the circumstances that they were found for.

use super::circumstances::{Circumstances, Evidence};
use super::classify::{Classifier, Ruling};
use super::findings::StemId;
use crate::audit::{Code, Severity};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Rulings remembered: beyond, all are forgotten and found again, which costs time and changes nothing. A site knows
/// hundreds of (role, destination, port); the rest comes from captures and is not ours to bound otherwise. About 1 KiB each.
const MOST_RULINGS: usize = 1 << 15;

/// A ruling, and where its flows are counted.
#[derive(Debug)]
pub(super) struct Settled {
    pub ruling: Ruling,
    /// Differs from one ruling to the next, also of those forgotten.
    pub serial: u64,
    /// The line of the From x To table.
    pub conversation: usize,
    /// The set of rules that document its flows.
    pub rule_set: Option<usize>,
    /// The findings that its flows belong to, all but the initiator, as far as there were any.
    pub stems: Vec<(Code, Severity, StemId)>,
}

/// Rulings by circumstances and evidence.
pub(super) struct Memo {
    limit: usize,
    entries: Vec<(Circumstances, Evidence, Settled)>,
    table: HashTable<usize>,
    hasher: RandomState,
}

impl Default for Memo {
    fn default() -> Self {
        Memo {
            limit: MOST_RULINGS,
            entries: Vec::new(),
            table: HashTable::new(),
            hasher: RandomState::default(),
        }
    }
}

impl Memo {
    /// The ruling on flows of these circumstances; `settle` is called for each new one.
    pub(super) fn ruling(
        &mut self,
        classifier: &Classifier<'_>,
        around: &Circumstances,
        evidence: &Evidence,
        settle: impl FnOnce(Ruling) -> Settled,
    ) -> &mut Settled {
        let hash = hash_of(&self.hasher, around, evidence);
        let entries = &self.entries;
        let same = |&place: &usize| {
            entries.get(place).is_some_and(|(known, told, _)| known == around && told == evidence)
        };
        let place = match self.table.find(hash, same) {
            Some(&place) => place,
            None => {
                if self.entries.len() >= self.limit {
                    self.entries.clear();
                    self.table.clear();
                }
                let place = self.entries.len();
                let settled = settle(classifier.rule_on(around, evidence));
                self.entries.push((*around, evidence.clone(), settled));
                let (entries, hasher) = (&self.entries, &self.hasher);
                let again = |&place: &usize| {
                    entries.get(place).map_or(0, |(around, evidence, _)| hash_of(hasher, around, evidence))
                };
                self.table.insert_unique(hash, place, again);
                place
            }
        };
        &mut self.entries[place].2
    }
}

fn hash_of(hasher: &RandomState, around: &Circumstances, evidence: &Evidence) -> u64 {
    if evidence.is_none() { hasher.hash_one(around) } else { hasher.hash_one((around, evidence)) }
}

#[cfg(test)]
mod tests {
    use super::super::circumstances::Telling;
    use super::*;
    use crate::matrix::{Matrix, Site};
    use crate::model::Transport;
    use crate::names::Ledger;

    const SITE: &str = r#"
        [site]
        name = "s"
        virtual_network = ["10.1.0.0/16"]
        [roles]
        backup-appliance = ["10.1.0.4"]
        worker = ["10.1.1.0/24"]
        web-browser = ["10.3.0.0/16"]
    "#;

    #[test]
    fn a_ruling_remembered_or_forgotten_is_the_one_that_is_found_anew() {
        let matrix = Matrix::builtin();
        let site = Site::parse(SITE, "site.toml", &matrix).unwrap();
        let ledger = Ledger::default();
        let classifier = Classifier::new(&matrix, &site, &ledger);
        let hosts =
            ["10.1.0.4", "10.1.1.7", "10.1.1.8", "10.3.0.9", "198.51.100.1", "198.51.100.2", "127.0.0.1"];
        let mut memos = [Memo::default(), Memo { limit: 3, ..Memo::default() }];
        for round in 0..2 {
            for (from, to) in hosts.iter().flat_map(|from| hosts.map(|to| (from, to))) {
                for (port, telling) in [(443, Telling::Nothing), (443, Telling::Enough), (22, Telling::Few)] {
                    let around = Circumstances {
                        from: classifier.surveyor.initiator(from.parse().unwrap()),
                        to: to.parse().unwrap(),
                        port,
                        proto: Transport::Tcp,
                        reversed_by: None,
                        app: None,
                        telling,
                    };
                    let evidence = Evidence::default();
                    let anew = format!("{:?}", classifier.rule_on(&around, &evidence));
                    for memo in &mut memos {
                        let settle = |ruling| Settled {
                            ruling,
                            serial: 0,
                            conversation: 0,
                            rule_set: None,
                            stems: Vec::new(),
                        };
                        let known = memo.ruling(&classifier, &around, &evidence, settle);
                        assert_eq!(format!("{:?}", known.ruling), anew, "{round}: {from} -> {to} {port}");
                    }
                }
            }
        }
        let [whole, small] = memos;
        // Two strangers, and two workers, are the same as initiators.
        assert_eq!((whole.entries.len(), small.entries.len() <= 3), (5 * hosts.len() * 3, true));
    }
}
