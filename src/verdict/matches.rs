//! Which of the patterns that rules, the baseline and the site give a chain of names fits. Chains that no such question
//! tells apart are of one class: what is judged by one of them is judged by the others, too.

use super::fit::Ready;
use super::index::RuleIndex;
use crate::matrix::{BaselineClass, DestinationHere, Matrix, Site};
use crate::model::{Distinct, DomainName, DomainPattern};
use crate::names::{ChainNumber, Reading};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// Chains without a number in the ledger that are remembered: beyond, all are forgotten and found again.
const MOST_UNNUMBERED: usize = 1 << 16;

/// A class of chains, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClassNumber(u32);

/// A chain of names: equal where the names are equal, and never again given to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SameNames {
    InLedger(ChainNumber),
    Elsewhere(u32),
}

/// What there is to say about the chains of a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Class {
    /// Places of the destinations of rules of which a name is given (or inferred), ascending.
    places: Box<[u32]>,
    /// Places of the lines of the baseline of which a name is given, ascending.
    lines: Box<[u32]>,
    /// Those that give it without a wildcard.
    exact_lines: Box<[u32]>,
    /// Whether the site lists a time server by one of the names.
    pub(super) serves_time: bool,
    /// Whether the site gives one of the names for an audited machine.
    pub(super) of_subject: bool,
    /// Whether the platform's own storage has one of the names.
    pub(super) of_platform: bool,
    /// Whether there is no name at all: it stands for chains too many to keep.
    pub(super) is_empty: bool,
    /// Where the site lists storage accounts: the one that the rules of a place make of the chain.
    accounts: Box<[(u32, NamedAccount)]>,
}

/// Whose account it is that a chain names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum NamedAccount {
    /// The site's.
    Own,
    /// Another one, by its name.
    Foreign(String),
}

impl Class {
    /// Whether a rule of this destination gives one of the names.
    pub(super) fn fits(&self, place: usize) -> bool {
        holds(&self.places, place)
    }

    /// Whether a line of the baseline gives one of the names, with or without wildcards.
    pub(super) fn fits_line(&self, place: usize, exactly: bool) -> bool {
        holds(if exactly { &self.exact_lines } else { &self.lines }, place)
    }

    /// The account that the rules of this destination make of the chain.
    pub(super) fn account(&self, place: usize) -> Option<&NamedAccount> {
        self.accounts.iter().find(|(of, _)| *of as usize == place).map(|(_, account)| account)
    }
}

fn holds(places: &[u32], place: usize) -> bool {
    u32::try_from(place).is_ok_and(|place| places.binary_search(&place).is_ok())
}

/// Who gives a pattern.
#[derive(Clone, Copy)]
enum Giver {
    Place(u32),
    Line { place: u32, exact: bool },
}

/// A pattern or a plain name, and who gives it.
enum Given<'a> {
    Pattern(&'a DomainPattern),
    Name(&'a DomainName),
}

impl Given<'_> {
    fn fits(&self, name: &DomainName) -> bool {
        match self {
            Given::Pattern(pattern) => pattern.matches(name),
            Given::Name(given) => *given == name,
        }
    }
}

/// All patterns by the plain labels at their end, and the classes found so far.
pub(super) struct Matches<'a> {
    site: &'a Site,
    matrix: &'a Matrix,
    /// One rule of each destination.
    places: Vec<Ready<'a>>,
    /// By plain ending; the empty one has those that end in a wildcard.
    given: HashMap<Box<str>, Vec<(Given<'a>, Giver)>, RandomState>,
    found: RefCell<Found>,
}

/// The class of a chain that has no number in the ledger, and a number of its own.
type Unnumbered = (ClassNumber, u32);

#[derive(Default)]
struct Found {
    /// By the place of a chain in the ledger.
    by_chain: Vec<Option<ClassNumber>>,
    unnumbered: HashMap<Arc<[DomainName]>, Unnumbered, RandomState>,
    /// The same by where a list stands, which is held so that no other can stand there: the same one is asked for again and again.
    by_place: HashMap<usize, (Arc<[DomainName]>, Unnumbered), RandomState>,
    /// Names given out to chains without number.
    serials: u32,
    classes: Distinct<Rc<Class>>,
}

impl<'a> Matches<'a> {
    pub(super) fn new(index: &RuleIndex<'a>, matrix: &'a Matrix, site: &'a Site) -> Self {
        let mut places: Vec<Ready<'a>> = Vec::new();
        for ready in index.all() {
            // Destinations are numbered in the order of their first rules.
            if ready.place == places.len() {
                places.push(*ready);
            }
        }
        let mut matches =
            Matches { site, matrix, places, given: HashMap::default(), found: RefCell::default() };
        for at in 0..matches.places.len() {
            let giver = Giver::Place(number(at));
            let (patterns, role): (&'a [DomainPattern], _) = match &matches.places[at].here.to {
                DestinationHere::Names { names, .. } | DestinationHere::Tag { names, .. } => (names, None),
                DestinationHere::Role(role) => (&[], Some(*role)),
                DestinationHere::SiteDefined { role, names } => (names, Some(*role)),
                DestinationHere::VirtualNetwork => (&[], None),
            };
            patterns.iter().for_each(|pattern| matches.give_pattern(pattern, giver));
            for name in role.map(|role| site.role_names(role)).unwrap_or_default() {
                matches.give(name.as_str().into(), Given::Name(name), giver);
            }
        }
        for (place, line) in matrix.baseline().iter().enumerate() {
            for pattern in &line.names {
                matches
                    .give_pattern(pattern, Giver::Line { place: number(place), exact: pattern.is_exact() });
            }
        }
        matches
    }

    fn give_pattern(&mut self, pattern: &'a DomainPattern, giver: Giver) {
        self.give(pattern.plain_ending().into(), Given::Pattern(pattern), giver);
    }

    fn give(&mut self, ending: Box<str>, given: Given<'a>, giver: Giver) {
        self.given.entry(ending).or_default().push((given, giver));
    }

    /// The class of a chain.
    pub(super) fn class(&self, reading: &Reading<'_>) -> ClassNumber {
        let mut found = self.found.borrow_mut();
        match reading.chain {
            Some(chain) => {
                if let Some(&Some(known)) = found.by_chain.get(chain.index()) {
                    return known;
                }
                let class = found.number_of(self.classify(&reading.names));
                let places = found.by_chain.len().max(chain.index() + 1);
                found.by_chain.resize(places, None);
                if let Some(place) = found.by_chain.get_mut(chain.index()) {
                    *place = Some(class);
                }
                class
            }
            None => self.unnumbered(&mut found, &reading.names.shared()).0,
        }
    }

    /// What a chain is told by from chains with other names.
    pub(super) fn same_names(&self, reading: &Reading<'_>) -> SameNames {
        match reading.chain {
            Some(chain) => SameNames::InLedger(chain),
            None => {
                SameNames::Elsewhere(self.unnumbered(&mut self.found.borrow_mut(), &reading.names.shared()).1)
            }
        }
    }

    fn unnumbered(&self, found: &mut Found, names: &Arc<[DomainName]>) -> Unnumbered {
        let place = names.as_ptr() as usize;
        if let Some((_, known)) = found.by_place.get(&place) {
            return *known;
        }
        let known = found.unnumbered.get(names).copied();
        let known = known.unwrap_or_else(|| {
            if found.unnumbered.len() >= MOST_UNNUMBERED {
                found.unnumbered.clear();
                found.by_place.clear();
            }
            found.serials += 1;
            let new = (found.number_of(self.classify(names)), found.serials);
            found.unnumbered.insert(names.clone(), new);
            new
        });
        if found.by_place.len() >= MOST_UNNUMBERED {
            found.by_place.clear();
        }
        found.by_place.insert(place, (names.clone(), known));
        known
    }

    /// What there is to say about a chain.
    pub(super) fn of(&self, reading: &Reading<'_>) -> Rc<Class> {
        let class = self.class(reading);
        self.found.borrow().classes.get(class.0).cloned().unwrap_or_default()
    }

    /// What there is to say about names, found anew.
    pub(super) fn classify(&self, names: &[DomainName]) -> Class {
        let (mut places, mut lines, mut exact_lines) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            let text = name.as_str();
            let endings = text.match_indices('.').map(|(at, _)| &text[at + 1..]);
            for ending in std::iter::once(text).chain(endings).chain([""]) {
                for (given, giver) in self.given.get(ending).into_iter().flatten() {
                    if !given.fits(name) {
                        continue;
                    }
                    match *giver {
                        Giver::Place(place) => places.push(place),
                        Giver::Line { place, exact } => {
                            lines.push(place);
                            exact_lines.extend(exact.then_some(place));
                        }
                    }
                }
            }
        }
        let each_once = |mut list: Vec<u32>| -> Box<[u32]> {
            list.sort_unstable();
            list.dedup();
            list.into()
        };
        let (places, lines) = (each_once(places), each_once(lines));
        let platforms = |place: &u32| {
            self.matrix.baseline().get(*place as usize).is_some_and(|line| {
                matches!(line.class, BaselineClass::Platform | BaselineClass::PlatformOrWorkload)
            })
        };
        Class {
            of_platform: lines.iter().any(platforms),
            exact_lines: each_once(exact_lines),
            serves_time: names.iter().any(|name| self.site.time_server_named(name)),
            of_subject: names.iter().any(|name| self.site.subject_named(name)),
            is_empty: names.is_empty(),
            accounts: places.iter().filter_map(|&place| Some((place, self.account(place, names)?))).collect(),
            places,
            lines,
        }
    }

    fn account(&self, place: u32, names: &[DomainName]) -> Option<NamedAccount> {
        if self.site.storage_accounts().is_empty() {
            return None;
        }
        let ready = self.places.get(place as usize).filter(|ready| ready.is_for_accounts())?;
        // All names of a chain count: one's own that leads to another's is that one.
        let mut accounts = ready.accounts_in(names).peekable();
        accounts.peek()?;
        let foreign = accounts.find(|account| self.site.owns_account(account) == Some(false));
        Some(foreign.map_or(NamedAccount::Own, NamedAccount::Foreign))
    }
}

impl Found {
    fn number_of(&mut self, class: Class) -> ClassNumber {
        let hash = self.classes.hash(&class);
        let known = self.classes.find(hash, |other| **other == class);
        let new = || self.classes.insert(hash, Rc::new(class));
        ClassNumber(known.unwrap_or_else(new))
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::fit::any_match;
    use super::*;
    use crate::matrix::Site;

    #[test]
    fn a_class_says_of_names_what_each_pattern_says_of_them() {
        let matrix = Matrix::builtin();
        let site = "[site]\nname = \"s\"\nvirtual_network = [\"10.1.0.0/16\"]\nstorage_accounts = [\"own\"]\n\
                    time_servers = [\"time.example\"]\n[roles]\nbackup-appliance = [\"10.1.0.4\"]\n\
                    smtp-server = [\"smtp.example\"]\n";
        let site = Site::parse(site, "site.toml", &matrix).unwrap();
        let index = RuleIndex::new(&matrix, &site);
        let matches = Matches::new(&index, &matrix, &site);
        let patterns = |to: &DestinationHere| -> Vec<DomainPattern> {
            match to {
                DestinationHere::Names { names, .. }
                | DestinationHere::Tag { names, .. }
                | DestinationHere::SiteDefined { names, .. } => names.clone(),
                DestinationHere::Role(_) | DestinationHere::VirtualNetwork => Vec::new(),
            }
        };
        // Every pattern with its wildcards filled in, a label more and one less, and names of the site.
        let mut names: Vec<DomainName> = vec![DomainName::root()];
        let rules = index.all().iter().flat_map(|ready| patterns(&ready.here.to));
        for pattern in rules.chain(matrix.baseline().iter().flat_map(|line| line.names.clone())) {
            for account in ["own", "theirs"] {
                let name =
                    pattern.to_string().replace("<account>", account).replace('*', "x").replace('#', "7");
                let less = name.split_once('.').map(|(_, rest)| rest.to_owned());
                names.extend(
                    [format!("a.{name}"), format!("{name}.x"), name].map(|name| name.parse().unwrap()),
                );
                names.extend(less.map(|name| name.parse().unwrap()));
            }
        }
        names.extend(["time.example", "smtp.example", "x.smtp.example"].map(|name| name.parse().unwrap()));
        let mut fitting = 0;
        for (at, name) in names.iter().enumerate() {
            let chain = [name.clone(), names[(at * 7 + 3) % names.len()].clone()];
            for names in [&chain[..1], &chain[..], &[]] {
                let class = matches.classify(names);
                for ready in index.all() {
                    let of_role = match ready.here.to {
                        DestinationHere::Role(role) | DestinationHere::SiteDefined { role, .. } => {
                            site.role_names(role).iter().any(|own| names.contains(own))
                        }
                        _ => false,
                    };
                    let fits = of_role || any_match(&patterns(&ready.here.to), names);
                    assert_eq!(class.fits(ready.place), fits, "{} {names:?}", ready.rule.id);
                    fitting += usize::from(fits);
                    let accounts = ready.accounts_in(names).filter(|_| ready.is_for_accounts());
                    let accounts: Vec<String> = accounts.collect();
                    let foreign = accounts.iter().find(|&account| account != "own");
                    let account = (!accounts.is_empty())
                        .then(|| foreign.cloned().map_or(NamedAccount::Own, NamedAccount::Foreign));
                    assert_eq!(class.account(ready.place), account.as_ref(), "{} {names:?}", ready.rule.id);
                }
                for (place, line) in matrix.baseline().iter().enumerate() {
                    assert_eq!(class.fits_line(place, false), any_match(&line.names, names), "{names:?}");
                    let exact: Vec<DomainPattern> =
                        line.names.iter().filter(|pattern| pattern.is_exact()).cloned().collect();
                    assert_eq!(class.fits_line(place, true), any_match(&exact, names), "{names:?}");
                }
                let time = names.iter().any(|name| name.as_str() == "time.example");
                assert_eq!((class.serves_time, class.is_empty), (time, names.is_empty()));
                let mut subjects = site.subjects().iter().flat_map(|role| site.role_names(role));
                assert_eq!(class.of_subject, subjects.any(|own| names.contains(own)));
            }
        }
        assert!(fitting > 200, "{fitting}");
    }
}
