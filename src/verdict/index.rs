//! The rules by who begins and on which port, so that no flow has to be held against all of them.

use super::fit::Ready;
use crate::matrix::{Matrix, RoleSet, Site};
use crate::model::Transport;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::cell::RefCell;
use std::hash::Hash;
use std::rc::Rc;

/// Rules in the order of the packs.
pub(super) type Rules<'a> = Rc<[Ready<'a>]>;

/// Lists kept of each kind: beyond, all are forgotten and found again. Ports come from captures, so their number is not
/// ours to choose.
const MOST_LISTS: usize = 1 << 12;

type Lists<'a, K> = RefCell<HashMap<K, Rules<'a>, RandomState>>;

/// All rules, and those of some roles, some port, or both.
pub(super) struct RuleIndex<'a> {
    all: Vec<Ready<'a>>,
    by_role: Lists<'a, RoleSet>,
    by_port: Lists<'a, (Transport, u16)>,
    by_both: Lists<'a, (RoleSet, Transport, u16)>,
}

impl<'a> RuleIndex<'a> {
    pub(super) fn new(matrix: &'a Matrix, site: &'a Site) -> Self {
        let rules = matrix.rules().iter().zip(site.rules()).enumerate();
        RuleIndex {
            all: rules.map(|(order, (rule, here))| Ready { order, rule, here }).collect(),
            by_role: Lists::default(),
            by_port: Lists::default(),
            by_both: Lists::default(),
        }
    }

    /// All rules.
    pub(super) fn all(&self) -> &[Ready<'a>] {
        &self.all
    }

    /// The rules whose From is one of these roles, whether they apply here or not.
    pub(super) fn of(&self, from: RoleSet) -> Rules<'a> {
        let of_role = |ready: &&Ready<'a>| from.contains(ready.here.from);
        list(&self.by_role, from, || self.all.iter().filter(of_role).copied().collect())
    }

    /// The rules for a port, whether they apply here or not.
    pub(super) fn on(&self, transport: Transport, port: u16) -> Rules<'a> {
        let carries = |ready: &&Ready<'a>| ready.rule.carries(transport, port);
        list(&self.by_port, (transport, port), || self.all.iter().filter(carries).copied().collect())
    }

    /// The rules whose From, transport, port and condition fit.
    pub(super) fn fitting(&self, from: RoleSet, transport: Transport, port: u16) -> Rules<'a> {
        let fits = |ready: &&Ready<'a>| ready.here.state.applies() && ready.rule.carries(transport, port);
        list(&self.by_both, (from, transport, port), || self.of(from).iter().filter(fits).copied().collect())
    }
}

fn list<'a, K: Hash + Eq>(lists: &Lists<'a, K>, key: K, find: impl FnOnce() -> Rules<'a>) -> Rules<'a> {
    if let Some(known) = lists.borrow().get(&key) {
        return known.clone();
    }
    let found = find();
    let mut lists = lists.borrow_mut();
    if lists.len() >= MOST_LISTS {
        lists.clear();
    }
    lists.insert(key, found.clone());
    found
}
