//! Verdicts already found, by the circumstances that they were found for.

use super::circumstances::{Circumstances, Evidence};
use super::classify::{Classifier, Ruling};
use super::findings::StemId;
use crate::audit::{Code, Severity};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Rulings remembered: beyond, all are forgotten and found again, which costs time and changes nothing. A site knows
/// hundreds of (role, destination, port); the rest comes from captures and is not ours to bound otherwise. 16 MiB or so.
const MOST_RULINGS: usize = 1 << 14;

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
#[derive(Default)]
pub(super) struct Memo {
    entries: Vec<(Circumstances, Evidence, Settled)>,
    table: HashTable<usize>,
    hasher: RandomState,
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
                if self.entries.len() >= MOST_RULINGS {
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
