//! The rules by who begins and on which port, so that no flow has to be held against all of them.

use super::fit::Ready;
use crate::matrix::{DestinationHere, Matrix, RoleSet, Site};
use crate::model::Transport;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::cell::RefCell;
use std::hash::Hash;
use std::ops::Deref;
use std::rc::Rc;

/// Rules in the order of the packs.
pub(super) type Rules<'a> = Rc<RuleList<'a>>;

/// Some rules in the order of the packs, and the same by where they lead to: many rules of a pack have one destination, and
/// what fits it is found once.
pub(super) struct RuleList<'a> {
    rules: Box<[Ready<'a>]>,
    /// Those of one destination beside each other, in the order of the packs; destinations in the order of their first.
    by_place: Box<[Ready<'a>]>,
}

impl<'a> RuleList<'a> {
    /// Rules of one destination beside each other; never empty.
    fn groups(&self) -> impl Iterator<Item = &[Ready<'a>]> {
        self.by_place.chunk_by(|a, b| a.place == b.place)
    }

    /// The first rule of each destination.
    pub(super) fn places(&self) -> impl Iterator<Item = &Ready<'a>> {
        self.groups().filter_map(<[_]>::first)
    }

    /// The rules of destinations that are marked, in the order of the packs; `marked` is by place of [`RuleList::places`].
    pub(super) fn of_places(&self, marked: &[bool]) -> Vec<Ready<'a>> {
        let groups = self.groups().zip(marked).filter(|&(_, &marked)| marked);
        let mut rules: Vec<Ready<'a>> = groups.flat_map(|(group, _)| group).copied().collect();
        rules.sort_by_key(|ready| ready.order);
        rules
    }

    /// The rules whose destination fits, with what `fits` says of it. It must depend on the destination alone.
    pub(super) fn leading<T: Copy>(&self, fits: impl Fn(&Ready<'a>) -> Option<T>) -> Vec<(Ready<'a>, T)> {
        let mut found = Vec::new();
        for group in self.groups() {
            if let Some(what) = group.first().and_then(&fits) {
                found.extend(group.iter().map(|ready| (*ready, what)));
            }
        }
        found.sort_by_key(|(ready, _)| ready.order);
        found
    }

    /// The first rule that `is` says yes to, of those whose destination fits; `fits` must depend on the destination alone.
    pub(super) fn first(
        &self,
        fits: impl Fn(&Ready<'a>) -> bool,
        is: impl Fn(&Ready<'a>) -> bool,
    ) -> Option<&Ready<'a>> {
        // The destination is asked about only where it matters.
        let of_group =
            |group: &'_ [Ready<'a>]| group.iter().position(&is).filter(|_| group.first().is_some_and(&fits));
        let firsts = self.groups().filter_map(|group| group.get(of_group(group)?));
        firsts.min_by_key(|ready| ready.order)
    }
}

impl<'a> FromIterator<Ready<'a>> for RuleList<'a> {
    fn from_iter<I: IntoIterator<Item = Ready<'a>>>(rules: I) -> Self {
        let rules: Box<[Ready<'a>]> = rules.into_iter().collect();
        let mut first: HashMap<usize, usize, RandomState> = HashMap::default();
        for ready in &rules {
            first.entry(ready.place).or_insert(ready.order);
        }
        let mut by_place = rules.clone();
        by_place.sort_by_key(|ready| (first.get(&ready.place).copied(), ready.order));
        RuleList { rules, by_place }
    }
}

impl<'a> Deref for RuleList<'a> {
    type Target = [Ready<'a>];

    fn deref(&self) -> &[Ready<'a>] {
        &self.rules
    }
}

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
        let mut place_of: HashMap<&DestinationHere, usize, RandomState> = HashMap::default();
        let all = rules.map(|(order, (rule, here))| {
            let next = place_of.len();
            Ready { order, rule, here, place: *place_of.entry(&here.to).or_insert(next) }
        });
        RuleIndex {
            all: all.collect(),
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

fn list<'a, K: Hash + Eq>(lists: &Lists<'a, K>, key: K, find: impl FnOnce() -> RuleList<'a>) -> Rules<'a> {
    if let Some(known) = lists.borrow().get(&key) {
        return known.clone();
    }
    let found = Rc::new(find());
    let mut lists = lists.borrow_mut();
    if lists.len() >= MOST_LISTS {
        lists.clear();
    }
    lists.insert(key, found.clone());
    found
}
