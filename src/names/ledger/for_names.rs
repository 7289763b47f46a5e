//! What hosts were told for a name, whatever the address.

use super::{Ledger, NONE, grouped, number, span};
use crate::model::Timestamp;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Answers between two checkpoints of what was told for a name.
const CHECKPOINT: usize = 32;

/// Finds the answers that count for a name. Few flows need any, so that each name's are put in order when they are first asked
/// for.
#[derive(Debug)]
pub(super) struct ForNames {
    /// By name: its part of `chains`.
    chains_of: Vec<(u32, u32)>,
    /// The chains that hold a name.
    chains: Vec<u32>,
    /// By chain: its part of `answers`.
    answers_of: Vec<(u32, u32)>,
    /// Answers that count, ascending within each part.
    answers: Vec<u32>,
    /// By name, those that were asked for.
    found: Mutex<HashMap<u32, Arc<ForName>, RandomState>>,
}

/// The answers that count for one name.
#[derive(Debug)]
pub(super) struct ForName {
    hosts: Vec<ToHost>,
    /// By host, ascending within each part.
    answers: Vec<u32>,
    /// Behind each [`CHECKPOINT`] answers of a part, unless they are its last, what holds longest of all up to there.
    checkpoints: Vec<[Longest; 2]>,
}

/// What one host was told for a name.
#[derive(Debug)]
struct ToHost {
    host: u32,
    /// Its part of the answers.
    answers: (u32, u32),
    /// Where its part of the checkpoints begins.
    checked: u32,
}

/// Of addresses of one family, the one that may be kept longest, and the one next to it: one of them is another than any
/// given address, if some is.
#[derive(Clone, Copy, Debug)]
struct Longest {
    first: (u32, Timestamp),
    second: (u32, Timestamp),
}

impl Longest {
    const NOTHING: Longest =
        Longest { first: (NONE, Timestamp(i64::MIN)), second: (NONE, Timestamp(i64::MIN)) };

    fn add(&mut self, (ip, end): (u32, Timestamp)) {
        if ip == NONE {
            return;
        }
        if self.first.0 == ip || self.first.0 == NONE {
            self.first = (ip, self.first.1.max(end));
        } else if end > self.first.1 {
            self.second = std::mem::replace(&mut self.first, (ip, end));
        } else if self.second.0 == NONE || end > self.second.1 {
            self.second = (ip, end);
        }
    }

    /// Whether another address than `ip` may be kept until `time`.
    fn another(&self, ip: u32, time: Timestamp) -> bool {
        [self.first, self.second].iter().any(|&(other, end)| other != NONE && other != ip && end >= time)
    }
}

impl ForNames {
    pub(super) fn of(ledger: &Ledger) -> Self {
        let chains = 0..number(ledger.chains.chains.len());
        let held = chains
            .clone()
            .flat_map(|chain| ledger.chains.numbers(chain).iter().map(move |&name| (name, chain)));
        let (chains_of, holding) = grouped(ledger.log.names().len(), held);
        let counting = (0..number(ledger.log.len())).filter(|&at| ledger.counts(at));
        let told =
            counting.map(|at| (ledger.said(ledger.entry(at)).chain, at)).filter(|&(chain, _)| chain != NONE);
        let (answers_of, answers) = grouped(chains.len(), told);
        ForNames { chains_of, chains: holding, answers_of, answers, found: Mutex::default() }
    }

    pub(super) fn of_name(&self, ledger: &Ledger, name: u32) -> Arc<ForName> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.entry(name).or_insert_with(|| Arc::new(self.find(ledger, name))).clone()
    }

    fn find(&self, ledger: &Ledger, name: u32) -> ForName {
        let chains = self.chains_of.get(name as usize).map_or(&[][..], |&part| span(&self.chains, part));
        let answers = chains.iter().flat_map(|&chain| span(&self.answers, self.answers_of[chain as usize]));
        let mut told: Vec<(u32, u32)> = answers.map(|&at| (ledger.host(ledger.entry(at)), at)).collect();
        told.sort_unstable();
        let answers = told.iter().map(|&(_, at)| at).collect();
        let mut made = ForName { hosts: Vec::new(), answers, checkpoints: Vec::new() };
        let mut from = 0;
        for of_host in told.chunk_by(|a, b| a.0 == b.0) {
            let part = (number(from), number(from + of_host.len()));
            from += of_host.len();
            let checked = number(made.checkpoints.len());
            made.hosts.extend(of_host.first().map(|&(host, _)| ToHost { host, answers: part, checked }));
            let mut longest = [Longest::NOTHING; 2];
            // Most names are asked for a few times: they need none.
            let whole = (of_host.len() - 1) / CHECKPOINT;
            for answers in of_host.chunks(CHECKPOINT).take(whole) {
                for &(_, at) in answers {
                    for (ip, end) in ledger.kept_until(at) {
                        longest[usize::from(ledger.ip(ip).is_ipv4())].add((ip, end));
                    }
                }
                made.checkpoints.push(longest);
            }
        }
        made
    }
}

impl ForName {
    pub(super) fn told_otherwise(
        &self,
        ledger: &Ledger,
        host: u32,
        (ip, is_ipv4): (u32, bool),
        time: Timestamp,
    ) -> bool {
        let Ok(place) = self.hosts.binary_search_by_key(&host, |to| to.host) else { return false };
        let ToHost { answers, checked, .. } = self.hosts[place];
        let answers = span(&self.answers, answers);
        let count = answers.partition_point(|&at| ledger.entry(at).time() <= time);
        let Some(last) = count.checked_sub(1) else { return false };
        let family = usize::from(is_ipv4);
        let chunk = last / CHECKPOINT;
        let before = chunk.checked_sub(1).map(|before| checked as usize + before);
        before.is_some_and(|before| self.checkpoints[before][family].another(ip, time))
            || answers[chunk * CHECKPOINT..count].iter().any(|&at| {
                let mut others = ledger.kept_until(at).filter(|&(other, _)| other != ip);
                others.any(|(other, end)| end >= time && ledger.ip(other).is_ipv4() == is_ipv4)
            })
    }
}
