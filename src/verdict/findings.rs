//! Judged flows, DNS evidence and captures to findings. SEMANTICS section 5.

use super::circumstances::{Evidence, FirstChain};
use super::classify::{Issue, Ruling};
use super::coverage::OutcomeSet;
use super::row::{Differs, NameEvidenceSource, Nearest};
use crate::audit::{CaptureSummary, Code, EvidenceFrame, Finding, Grade, Missing, Party, Severity, Verdict};
use crate::flow::{Flow, Outcome, capture_name};
use crate::matrix::RoleSet;
use crate::model::{CaptureId, DomainName, FramePoint, Timestamp, Transport};
use foldhash::fast::RandomState;
use hashbrown::{HashSet, HashTable};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

/// What makes two observations one finding, all but the initiator's host: code, name or address, port, transport.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Stem {
    pub code: Code,
    pub severity: Severity,
    pub to: String,
    pub port: Option<u16>,
    pub proto: Option<Transport>,
    pub rules: Vec<String>,
}

/// A stem, by number: looked up once for all flows of a ruling.
pub(super) type StemId = u32;

/// A finding while it grows. There may be a hundred thousand of them, so it holds what its words are made of; they are made
/// at the end.
pub(super) struct Draft {
    stem: StemId,
    host: Option<IpAddr>,
    about: About,
    count: u64,
    /// When the first began and the last ended.
    range: Option<(Timestamp, Timestamp)>,
    /// The first ones, each once; what is counted comes in order of time.
    evidence: Vec<Cited>,
    outcomes: OutcomeSet,
    /// The destination's addresses, once there are two.
    #[expect(clippy::box_collection, reason = "mostly none, and a draft is to be small")]
    hosts: Option<Box<BTreeSet<IpAddr>>>,
    /// Details, by their numbers in [`Lines`].
    details: Vec<u32>,
    /// Flows whose details are in already: see [`Detailed`].
    detailed: Vec<u64>,
    /// For the one that stands for all strangers beyond [`MOST_STRANGERS`].
    strangers: Option<Box<Strangers>>,
    /// Hosts for whose flows a name is missing.
    #[expect(clippy::box_collection, reason = "mostly none, and a draft is to be small")]
    nameless: Option<Box<BTreeSet<IpAddr>>>,
    /// Whether its initiator holds no role.
    of_stranger: bool,
    /// Whether its names are missing since they are resolved in secret.
    hidden: bool,
}

/// What a finding is about.
enum About {
    /// Flows, by the first of them.
    Flows(FirstFlow),
    /// What is told in words already.
    Told(Box<Finding>),
}

/// The first flow of a finding, as far as words are made of it.
struct FirstFlow {
    /// Its number in [`Phrases`].
    phrase: u32,
    share: Share,
    name: Option<DomainName>,
    from: IpAddr,
    to: IpAddr,
    /// What the client asked its proxy for.
    target: Option<Box<(IpAddr, u16)>>,
    port: u16,
    proto: Transport,
}

impl FirstFlow {
    fn of(phrase: u32, share: Share, judged: &Judged<'_>) -> FirstFlow {
        let flow = judged.flow;
        FirstFlow {
            phrase,
            share,
            name: judged.evidence.first_name().cloned(),
            from: flow.from.ip,
            to: flow.to.ip,
            target: judged.ruling.target.is_some().then(|| Box::new(destination(judged))),
            port: flow.to.port,
            proto: flow.proto,
        }
    }

    /// Where it goes, or what the client asked its proxy for.
    fn destination(&self) -> (IpAddr, u16) {
        self.target.as_deref().copied().unwrap_or((self.to, self.port))
    }
}

/// What the words of a finding are made of beside addresses and names: few flows differ in it.
struct Phrase {
    code: Code,
    from_roles: RoleSet,
    to_roles: RoleSet,
    rules: Vec<String>,
    missing: Option<Missing>,
    nearest: Option<Nearest>,
    /// Where it tells what to do.
    outcome: Option<Outcome>,
}

/// All of a phrase, to be held against another's.
type PhraseKey<'p> =
    (Code, RoleSet, RoleSet, &'p [String], Option<Missing>, Option<&'p Nearest>, Option<Outcome>);

fn phrase_key<'j>(code: Code, judged: &Judged<'j>) -> PhraseKey<'j> {
    let ruling = judged.ruling;
    let outcome = (code == Code::DocumentedBlocked).then_some(judged.flow.outcome);
    let roles = (ruling.from_roles, ruling.to_roles);
    (code, roles.0, roles.1, rules_of(ruling), ruling.missing, ruling.nearest.as_ref(), outcome)
}

impl Phrase {
    fn key(&self) -> PhraseKey<'_> {
        let Phrase { code, from_roles, to_roles, rules, missing, nearest, outcome } = self;
        (*code, *from_roles, *to_roles, rules, *missing, nearest.as_ref(), *outcome)
    }
}

/// Phrases by number, each once.
#[derive(Default)]
struct Phrases {
    all: Vec<Phrase>,
    table: HashTable<u32>,
    hasher: RandomState,
}

/// Of less than is compared: what parts most is enough.
fn phrase_hash(hasher: &RandomState, (code, from, to, rules, ..): &PhraseKey<'_>) -> u64 {
    hasher.hash_one((code, from, to, rules))
}

impl Phrases {
    fn get(&self, number: u32) -> Option<&Phrase> {
        self.all.get(number as usize)
    }

    /// The number of a phrase.
    fn number(&mut self, key: &PhraseKey<'_>) -> u32 {
        let hash = phrase_hash(&self.hasher, key);
        let same = |&at: &u32| self.get(at).is_some_and(|known| known.key() == *key);
        if let Some(&known) = self.table.find(hash, same) {
            return known;
        }
        let new = self.all.len() as u32;
        let &(code, from_roles, to_roles, rules, missing, nearest, outcome) = key;
        let (rules, nearest) = (rules.to_vec(), nearest.cloned());
        self.all.push(Phrase { code, from_roles, to_roles, rules, missing, nearest, outcome });
        let Phrases { all, table, hasher } = self;
        table.insert_unique(hash, new, |&at| {
            all.get(at as usize).map_or(0, |phrase| phrase_hash(hasher, &phrase.key()))
        });
        new
    }
}

/// Details by number, each line once: a thousand hosts are told the same of one name.
#[derive(Default)]
struct Lines {
    all: Vec<Box<str>>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Lines {
    fn get(&self, number: u32) -> &str {
        self.all.get(number as usize).map_or("", |line| line)
    }

    fn number(&mut self, line: String) -> u32 {
        let hash = self.hasher.hash_one(&*line);
        if let Some(&known) = self.table.find(hash, |&at| self.get(at) == line) {
            return known;
        }
        let new = self.all.len() as u32;
        self.all.push(line.into());
        let Lines { all, table, hasher } = self;
        table.insert_unique(hash, new, |&at| all.get(at as usize).map_or(0, |line| hasher.hash_one(&**line)));
        new
    }
}

/// A frame that a finding cites.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cited {
    capture: CaptureId,
    /// Low half and high half: so it takes twelve bytes, not sixteen.
    frame: [u32; 2],
}

impl Cited {
    fn of(point: FramePoint) -> Cited {
        Cited { capture: point.capture, frame: [point.frame as u32, (point.frame >> 32) as u32] }
    }

    fn frame(self) -> u64 {
        let [low, high] = self.frame;
        u64::from(high) << 32 | u64::from(low)
    }
}

/// All that the details of a flow depend on. Of those whose details are in, a draft keeps a hash: with a seed that nobody
/// knows, one in 10^19 flows would be taken for another, and one line of details be missing.
#[derive(Clone, Copy, PartialEq, Hash)]
struct Detailed {
    ruling: u64,
    named: Named,
    from: IpAddr,
    to: IpAddr,
    accepted: Option<(usize, bool)>,
    reset_ttl_differs: bool,
    icmp: Option<(u8, u8)>,
}

/// What is said of how a destination is named depends on this, beside the ruling.
#[derive(Clone, Copy, PartialEq, Hash)]
struct Named {
    first: FirstChain,
    chains: usize,
    expired: bool,
    late: bool,
}

impl Named {
    fn of(first: FirstChain, evidence: &Evidence) -> Named {
        let best = evidence.named().next();
        Named {
            first,
            chains: evidence.named().count(),
            expired: best.is_some_and(|best| best.expired),
            late: best.is_some_and(|best| best.late),
        }
    }
}

/// Flows remembered of which the details are in: those of a draft are few, else they are put together again.
const MOST_DETAILED: usize = 9;

/// Detail lines of a finding.
const MOST_DETAILS: usize = 12;

/// Initiators without a role that have findings of their own for one (code, destination, port, transport): 100. What more
/// there are is told in one further finding. A flood from forged addresses would bury all else and need a draft each;
/// fewer could hide a handful of real peers. Initiators that hold a role are never folded.
pub const MOST_STRANGERS: usize = 100;

/// Flows of one finding whose details are told: its first 64. What only later ones would add stands in their rows; to word
/// it for each of a million flows costs more than to judge them.
const MOST_TOLD: u64 = 64;

/// Hosts of one finding of which it is said that they resolve names in secret.
const MOST_NAMELESS: usize = 8;

/// What settles a name that encrypted DNS hides. An earlier capture would not show it either.
const HIDDEN_REMEDY: &str = "switch encrypted DNS off on this host, or let it ask a resolver of the site in the clear, then capture again";
/// Findings of their own that initiators without a role have of one code, whatever the destination and port: 1,000. A flood
/// may as well go to every port of every machine, a hundred addresses each.
pub const MOST_STRANGER_FINDINGS: usize = 1_000;

/// Whose finding a flow is counted with.
#[derive(Clone, Copy, PartialEq)]
enum Share {
    /// The initiator's own.
    Own,
    /// That of all further strangers at the same destination and port.
    Destination,
    /// That of all further strangers of the same code.
    Code,
}

/// Folded addresses that are told apart over all findings: 8 million, 40 bytes or fewer each. Beyond, their number is told
/// as a least one.
const MOST_DISTINCT: usize = 8 << 20;

/// Addresses beyond [`MOST_STRANGERS`].
#[derive(Default)]
struct Strangers {
    /// Ascending.
    v4: Vec<u32>,
    /// Those that came since, in any order, as often as they came: looking each up in a large table costs a cache miss.
    pending: Vec<u32>,
    v6: HashSet<IpAddr, RandomState>,
    /// Whether there may be more than were told apart.
    more: bool,
}

/// Addresses of version 4 that wait to be told apart, at the least.
const LEAST_PENDING: usize = 1 << 10;

impl Strangers {
    /// Counts an address; hands back by how many the number of those told apart has grown, of this one and of ones before it.
    /// No more than `room` are told apart; beyond, only whether there are more is.
    fn insert(&mut self, ip: IpAddr, room: usize) -> usize {
        match ip {
            IpAddr::V4(ip) => {
                self.pending.push(ip.to_bits());
                if self.pending.len() >= LEAST_PENDING.max(self.v4.len() / 4) { self.settle(room) } else { 0 }
            }
            IpAddr::V6(_) if room > 0 => usize::from(self.v6.insert(ip)),
            IpAddr::V6(_) => {
                self.more |= !self.v6.contains(&ip);
                0
            }
        }
    }

    /// Tells apart those that wait; hands back how many are new.
    fn settle(&mut self, room: usize) -> usize {
        self.pending.sort_unstable();
        self.pending.dedup();
        let before = self.v4.len();
        let new = self.pending.iter().copied().filter(|ip| self.v4.binary_search(ip).is_err());
        let mut new: Vec<u32> = new.collect();
        self.pending.clear();
        self.more |= new.len() > room;
        new.truncate(room);
        self.v4.append(&mut new);
        // Two ascending runs, which a stable sort merges.
        self.v4.sort();
        self.v4.len() - before
    }

    /// Those told apart; all are settled.
    fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    fn remove(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                if let Ok(place) = self.v4.binary_search(&ip.to_bits()) {
                    self.v4.remove(place);
                }
            }
            IpAddr::V6(_) => {
                self.v6.remove(&ip);
            }
        }
    }

    /// Adds others; hands back how many are new.
    fn add(&mut self, others: Strangers, room: usize) -> usize {
        self.more |= others.more;
        let v4 = others.v4.into_iter().chain(others.pending).map(|ip| IpAddr::V4(ip.into()));
        v4.chain(others.v6).fold(0, |new, ip| new + self.insert(ip, room.saturating_sub(new)))
    }
}

/// All findings of an audit.
pub(super) struct Findings {
    stems: Vec<Stem>,
    /// By stem.
    stem_of: HashTable<StemId>,
    hasher: RandomState,
    /// Each by itself: a list of a hundred thousand that grows would stand twice.
    #[expect(clippy::vec_box, reason = "as said: they are large, and are freed one by one")]
    drafts: Vec<Box<Draft>>,
    /// By stem and host.
    draft_of: HashTable<u32>,
    phrases: Phrases,
    lines: Lines,
    /// By stem: how many initiators without a role have findings of their own, and the draft for all others.
    strangers: Vec<(usize, Option<usize>)>,
    /// The same by code, whatever the destination.
    crowds: Vec<((Code, Severity), usize, Option<usize>)>,
    distinct: usize,
    captures: Arc<[Arc<str>]>,
}

impl Findings {
    pub(super) fn new(captures: &[Arc<str>]) -> Self {
        Findings {
            stems: Vec::new(),
            stem_of: HashTable::new(),
            hasher: RandomState::default(),
            drafts: Vec::new(),
            draft_of: HashTable::new(),
            phrases: Phrases::default(),
            lines: Lines::default(),
            strangers: Vec::new(),
            crowds: Vec::new(),
            distinct: 0,
            captures: captures.into(),
        }
    }

    /// The number of a stem.
    pub(super) fn stem(&mut self, stem: Stem) -> StemId {
        let Findings { stems, stem_of, hasher, .. } = self;
        let hash = hasher.hash_one(&stem);
        if let Some(&known) = stem_of.find(hash, |&id| stems.get(id as usize) == Some(&stem)) {
            return known;
        }
        let id = stems.len() as u32;
        stems.push(stem);
        let rehash = |&id: &StemId| stems.get(id as usize).map_or(0, |stem| hasher.hash_one(stem));
        stem_of.insert_unique(hash, id, rehash);
        self.strangers.push((0, None));
        id
    }

    /// The finding of a stem and host, made by `make` when it is the first of its kind.
    pub(super) fn draft(
        &mut self,
        stem: StemId,
        host: Option<IpAddr>,
        make: impl FnOnce() -> Finding,
    ) -> &mut Draft {
        let place = match self.place_of(stem, host) {
            Some(place) => place,
            None => self.insert(Draft::new(stem, host, About::Told(Box::new(make())))),
        };
        &mut self.drafts[place]
    }

    fn place_of(&self, stem: StemId, host: Option<IpAddr>) -> Option<usize> {
        let same = |&place: &u32| {
            self.drafts.get(place as usize).is_some_and(|draft| (draft.stem, draft.host) == (stem, host))
        };
        self.draft_of.find(self.hasher.hash_one((stem, host)), same).map(|&place| place as usize)
    }

    /// Adds a draft that is the only one of its stem and host.
    fn insert(&mut self, draft: Draft) -> usize {
        let Findings { drafts, draft_of, hasher, .. } = self;
        let place = drafts.len();
        let hash = hasher.hash_one((draft.stem, draft.host));
        drafts.push(Box::new(draft));
        draft_of.insert_unique(hash, place as u32, |&place| {
            drafts.get(place as usize).map_or(0, |draft| hasher.hash_one((draft.stem, draft.host)))
        });
        place
    }

    /// The finding of a stem for a flow of a host.
    fn draft_of_flow(
        &mut self,
        stem: StemId,
        host: Option<IpAddr>,
        code: Code,
        judged: &Judged<'_>,
    ) -> usize {
        self.place_of(stem, host).unwrap_or_else(|| {
            let first = FirstFlow::of(self.phrases.number(&phrase_key(code, judged)), Share::Own, judged);
            self.insert(Draft::new(stem, host, About::Flows(first)))
        })
    }

    /// The finding of a stem for an initiator that holds no role: its own, or a common one beyond [`MOST_STRANGERS`] of the
    /// stem and [`MOST_STRANGER_FINDINGS`] of the code.
    fn draft_of_stranger(&mut self, stem: StemId, code: Code, judged: &Judged<'_>) -> (usize, Share) {
        let host = judged.host;
        if let Some(place) = self.place_of(stem, Some(host)) {
            return (place, Share::Own);
        }
        let (own, of_stem) = &mut self.strangers[stem as usize];
        let (common, share) = if *own >= MOST_STRANGERS {
            (of_stem, Share::Destination)
        } else {
            let place = self.crowd(stem);
            let (own, _) = &mut self.strangers[stem as usize];
            let (_, count, of_code) = &mut self.crowds[place];
            if *count < MOST_STRANGER_FINDINGS {
                (*own, *count) = (*own + 1, *count + 1);
                let place = self.draft_of_flow(stem, Some(host), code, judged);
                self.drafts[place].of_stranger = true;
                return (place, Share::Own);
            }
            (of_code, Share::Code)
        };
        let (drafts, phrases) = (&mut self.drafts, &mut self.phrases);
        let place = *common.get_or_insert_with(|| {
            let first = FirstFlow::of(phrases.number(&phrase_key(code, judged)), share, judged);
            let mut draft = Draft::new(stem, None, About::Flows(first));
            draft.strangers = Some(Box::default());
            drafts.push(Box::new(draft));
            drafts.len() - 1
        });
        if let Some(strangers) = &mut self.drafts[place].strangers {
            self.distinct += strangers.insert(host, MOST_DISTINCT.saturating_sub(self.distinct));
        }
        (place, share)
    }

    pub(super) fn frame(&self, point: FramePoint) -> EvidenceFrame {
        frame(&self.captures, point)
    }

    /// A finding that stands by itself.
    pub(super) fn add(&mut self, finding: Finding) {
        let stem = self.stem(Stem {
            code: finding.code,
            severity: finding.severity,
            to: finding.title.clone(),
            port: finding.to.port,
            proto: finding.to.proto,
            rules: finding.rules.clone(),
        });
        let frames = finding.evidence.clone();
        let (host, outcomes) = (finding.from.ip, finding.outcomes.clone());
        let draft = self.draft(stem, host, || Finding { evidence: Vec::new(), ..finding });
        if let About::Told(told) = &mut draft.about {
            for frame in frames {
                if told.evidence.len() < Finding::MOST_EVIDENCE && !told.evidence.contains(&frame) {
                    told.evidence.push(frame);
                }
            }
        }
        outcomes.into_iter().for_each(|outcome| draft.outcomes.insert(outcome));
    }

    /// Adds what later flows came to. Strangers that were not met before have findings of their own as far as there is room.
    pub(super) fn absorb(&mut self, later: Findings) {
        let Findings { stems, drafts, strangers, crowds, phrases, lines, .. } = later;
        let stem_of: Vec<StemId> = stems.into_iter().map(|stem| self.stem(stem)).collect();
        let phrase_of: Vec<u32> =
            phrases.all.iter().map(|phrase| self.phrases.number(&phrase.key())).collect();
        let line_of: Vec<u32> = lines.all.into_iter().map(|line| self.lines.number(line.into())).collect();
        let here = |numbers: &[u32], there: u32| numbers.get(there as usize).copied().unwrap_or(u32::MAX);
        let of_stem: HashSet<usize, RandomState> =
            strangers.iter().filter_map(|&(_, common)| common).collect();
        let of_code: HashSet<usize, RandomState> = crowds.iter().filter_map(|&(.., common)| common).collect();
        for (place, draft) in drafts.into_iter().enumerate() {
            let mut draft = *draft;
            let Some(&stem) = stem_of.get(draft.stem as usize) else { continue };
            draft.stem = stem;
            if let About::Flows(first) = &mut draft.about {
                first.phrase = here(&phrase_of, first.phrase);
            }
            draft.details.iter_mut().for_each(|line| *line = here(&line_of, *line));
            if of_stem.contains(&place) {
                self.add_common(draft, Share::Destination);
            } else if of_code.contains(&place) {
                self.add_common(draft, Share::Code);
            } else if let Some(known) = self.place_of(stem, draft.host) {
                self.drafts[known].add(draft, 0);
            } else if !draft.of_stranger {
                self.insert(draft);
            } else {
                let own = self.strangers[stem as usize].0 < MOST_STRANGERS;
                let crowd = self.crowd(stem);
                if !own {
                    let common = draft.made_common(Share::Destination, &self.lines);
                    self.add_common(common, Share::Destination);
                } else if self.crowds[crowd].1 >= MOST_STRANGER_FINDINGS {
                    let common = draft.made_common(Share::Code, &self.lines);
                    self.add_common(common, Share::Code);
                } else {
                    self.strangers[stem as usize].0 += 1;
                    self.crowds[crowd].1 += 1;
                    self.insert(draft);
                }
            }
        }
    }

    /// Adds one that stands for many strangers to that of its kind, if there is one.
    fn add_common(&mut self, draft: Draft, share: Share) {
        let crowd = self.crowd(draft.stem);
        let (room, new) = (MOST_DISTINCT.saturating_sub(self.distinct), self.drafts.len());
        let common = match share {
            Share::Code => &mut self.crowds[crowd].2,
            Share::Destination | Share::Own => &mut self.strangers[draft.stem as usize].1,
        };
        let known = *common.get_or_insert(new);
        match self.drafts.get_mut(known) {
            Some(known) => self.distinct += known.add(draft, room),
            None => {
                self.distinct += draft.strangers.as_ref().map_or(0, |strangers| strangers.len());
                self.drafts.push(Box::new(draft));
            }
        }
    }

    /// The place of the crowd that strangers of a stem belong to.
    fn crowd(&mut self, stem: StemId) -> usize {
        let of = &self.stems[stem as usize];
        let code = (of.code, of.severity);
        self.crowds.iter().position(|(of, ..)| *of == code).unwrap_or_else(|| {
            self.crowds.push((code, 0, None));
            self.crowds.len() - 1
        })
    }

    /// Where a host's names are missing since it resolves them in secret, what waits for a name says so.
    pub(super) fn say_why_nameless(&mut self, reasons: &BTreeMap<IpAddr, String>) {
        if reasons.is_empty() {
            return;
        }
        for draft in &mut self.drafts {
            let Some(hosts) = draft.nameless.take() else { continue };
            for why in hosts.iter().filter_map(|host| reasons.get(host)) {
                draft.detail(self.lines.number(why.clone()));
                draft.hidden = true;
            }
        }
    }

    /// All findings, most severe first, then by code, initiator, destination, port and transport; of one code those that
    /// stand for many strangers last. `role_words` gives the ids of roles.
    pub(super) fn finish(self, role_words: &dyn Fn(RoleSet) -> Vec<String>) -> Vec<Finding> {
        let rank: BTreeMap<&str, usize> =
            self.captures.iter().enumerate().map(|(rank, name)| (&**name, rank)).collect();
        let stems = self.stems;
        let mut drafts = self.drafts;
        let mut room = MOST_DISTINCT.saturating_sub(self.distinct);
        for strangers in drafts.iter_mut().filter_map(|draft| draft.strangers.as_mut()) {
            room = room.saturating_sub(strangers.settle(room));
        }
        // Whoever has a finding of its own is none of the further ones: where stretches of the rows were judged apart, a
        // stranger may have been one of the many in one of them.
        let own: Vec<(usize, IpAddr)> = drafts
            .iter()
            .filter(|draft| draft.of_stranger)
            .filter_map(|draft| self.strangers.get(draft.stem as usize)?.1.zip(draft.host))
            .collect();
        for (common, host) in own {
            if let Some(strangers) = drafts.get_mut(common).and_then(|draft| draft.strangers.as_mut()) {
                strangers.remove(host);
            }
        }
        let (phrases, lines) = (self.phrases, self.lines);
        let stem = |draft: &Draft| stems.get(draft.stem as usize);
        // What is equal in all that orders findings keeps this order.
        drafts.sort_by(|a, b| {
            let key = |draft: &Draft| (stem(draft).map(|stem| (stem.code, stem.severity)), draft.host);
            let rest = |draft: &Draft| stem(draft).map(|stem| (&stem.to, stem.port, stem.proto, &stem.rules));
            key(a).cmp(&key(b)).then_with(|| rest(a).cmp(&rest(b)))
        });
        drafts.sort_by(|a, b| {
            let (a, b) = (a.rank(stem(a), &phrases), b.rank(stem(b), &phrases));
            a.cmp(&b)
        });
        let words =
            Words { captures: &self.captures, rank: &rank, phrases: &phrases, lines: &lines, role_words };
        let mut findings = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let stem = stem(&draft);
            findings.push(draft.finish(stem, &words));
        }
        findings
    }
}

/// What drafts are put into words by.
struct Words<'w> {
    captures: &'w [Arc<str>],
    /// By name of capture.
    rank: &'w BTreeMap<&'w str, usize>,
    phrases: &'w Phrases,
    lines: &'w Lines,
    role_words: &'w dyn Fn(RoleSet) -> Vec<String>,
}

/// What orders findings: severity, code, whether it stands for many strangers, initiator, destination, its name, port and
/// transport, rules.
type Rank<'r> = (
    (Option<(Severity, Code)>, bool, Option<IpAddr>, Option<IpAddr>),
    Option<&'r DomainName>,
    (Option<u16>, Option<Transport>, &'r [String]),
);

fn frame(captures: &[Arc<str>], point: FramePoint) -> EvidenceFrame {
    EvidenceFrame { capture: capture_name(captures, point.capture), frame: point.frame }
}

impl Draft {
    fn new(stem: StemId, host: Option<IpAddr>, about: About) -> Draft {
        let (count, range) = match &about {
            About::Flows(_) => (0, None),
            About::Told(told) => (told.count, told.first_ts.zip(told.last_ts)),
        };
        Draft {
            stem,
            host,
            about,
            count,
            range,
            evidence: Vec::new(),
            outcomes: OutcomeSet::default(),
            hosts: None,
            details: Vec::new(),
            detailed: Vec::new(),
            strangers: None,
            nameless: None,
            of_stranger: false,
            hidden: false,
        }
    }

    /// Adds what later flows came to; the numbers of its lines and phrases are those of the list that this one is of.
    fn add(&mut self, later: Draft, room: usize) -> usize {
        self.count += later.count;
        if let Some((first, last)) = later.range {
            self.widen(first, last);
        }
        self.cite_all(later.evidence);
        self.outcomes.merge(later.outcomes);
        if let About::Flows(first) = &later.about {
            self.reach(first.to);
        }
        later.hosts.into_iter().flat_map(|hosts| *hosts).for_each(|ip| self.reach(ip));
        for host in later.nameless.into_iter().flat_map(|hosts| *hosts) {
            self.nameless.get_or_insert_default().insert(host);
        }
        while let Some(hosts) = &mut self.nameless
            && hosts.len() > MOST_NAMELESS
        {
            hosts.pop_last();
        }
        later.details.into_iter().for_each(|line| self.detail(line));
        match (&mut self.strangers, later.strangers) {
            (Some(own), Some(more)) => own.add(*more, room),
            _ => 0,
        }
    }

    /// One that stands for many strangers, of this one's.
    fn made_common(mut self, share: Share, lines: &Lines) -> Draft {
        if let About::Flows(first) = &mut self.about {
            first.share = share;
            let own = first.from.to_string();
            self.details.retain(|&line| share != Share::Code && !lines.get(line).contains(&own));
        }
        if share == Share::Code {
            self.hosts = None;
        }
        let mut strangers = Box::<Strangers>::default();
        self.host.map(|host| strangers.insert(host, 1));
        Draft { host: None, strangers: Some(strangers), of_stranger: false, ..self }
    }

    /// Counts one more observation.
    pub(super) fn count(&mut self, first: Timestamp, last: Timestamp) {
        self.count += 1;
        self.widen(first, last);
    }

    fn widen(&mut self, first: Timestamp, last: Timestamp) {
        let (since, until) = self.range.unwrap_or((first, last));
        self.range = Some((since.min(first), until.max(last)));
    }

    /// Notes an address of the destination.
    fn reach(&mut self, ip: IpAddr) {
        let About::Flows(first) = &self.about else { return };
        if first.share == Share::Code || (self.hosts.is_none() && first.to == ip) {
            return;
        }
        self.hosts.get_or_insert_with(|| Box::new([first.to].into())).insert(ip);
    }

    /// Whether more frames would change nothing.
    fn is_cited(&self) -> bool {
        self.evidence.len() >= Finding::MOST_EVIDENCE
    }

    /// The first ones stay: the bound is on what is kept while there may be millions of flows.
    pub(super) fn cite(&mut self, frames: impl IntoIterator<Item = FramePoint>) {
        self.cite_all(frames.into_iter().map(Cited::of));
    }

    fn cite_all(&mut self, frames: impl IntoIterator<Item = Cited>) {
        let frames = frames.into_iter();
        let room = Finding::MOST_EVIDENCE.saturating_sub(self.evidence.len());
        // Most findings are of one flow: a list that grows by doubling would be half empty.
        self.evidence.reserve_exact(frames.size_hint().0.min(room));
        for frame in frames {
            if !self.is_cited() && !self.evidence.contains(&frame) {
                self.evidence.push(frame);
            }
        }
    }

    /// Adds a line of details, by its number.
    fn detail(&mut self, line: u32) {
        if self.details.len() < MOST_DETAILS && !self.details.contains(&line) {
            if self.details.len() == self.details.capacity() {
                self.details.reserve_exact(2);
            }
            self.details.push(line);
        }
    }

    /// What orders it among others.
    fn rank<'r>(&'r self, stem: Option<&'r Stem>, phrases: &'r Phrases) -> Rank<'r> {
        let common = self.strangers.is_some();
        match &self.about {
            About::Told(told) => (
                (Some((told.severity, told.code)), common, told.from.ip, told.to.ip),
                told.to.name.as_ref(),
                (told.to.port, told.to.proto, &told.rules),
            ),
            About::Flows(first) => {
                let rules = phrases.get(first.phrase).map_or(&[][..], |phrase| &phrase.rules);
                let (ip, port) = first.destination();
                let to = (first.share != Share::Code).then_some(first);
                (
                    (
                        stem.map(|stem| (stem.severity, stem.code)),
                        common,
                        (first.share == Share::Own).then_some(first.from),
                        to.map(|_| ip),
                    ),
                    to.and_then(|first| first.name.as_ref()),
                    (
                        to.and_then(|first| first.proto.has_ports().then_some(port)),
                        to.map(|first| first.proto),
                        rules,
                    ),
                )
            }
        }
    }

    fn finish(self, stem: Option<&Stem>, words: &Words<'_>) -> Finding {
        let mut finding = match self.about {
            About::Told(told) => *told,
            About::Flows(first) => worded(first, stem, words),
        };
        if self.hidden {
            finding.remedy = HIDDEN_REMEDY.into();
        }
        finding.count = self.count;
        (finding.first_ts, finding.last_ts) = self.range.unzip();
        finding.outcomes = self.outcomes.iter().collect();
        let cited = self
            .evidence
            .into_iter()
            .map(|at| EvidenceFrame { capture: capture_name(words.captures, at.capture), frame: at.frame() });
        // Some name their frames themselves.
        finding.evidence.extend(cited);
        finding.evidence.sort_by_key(|at| (words.rank.get(&*at.capture).copied(), at.frame));
        let hosts = self.hosts.filter(|hosts| hosts.len() > 1);
        let further = usize::from(hosts.is_some()) + usize::from(self.strangers.is_some());
        finding.details.reserve_exact(self.details.len() + further);
        finding.details.extend(self.details.iter().map(|&line| words.lines.get(line).to_owned()));
        if let Some(hosts) = hosts {
            let shown: Vec<String> = hosts.iter().take(8).map(ToString::to_string).collect();
            let more = hosts.len() - shown.len();
            let tail = if more == 0 { String::new() } else { format!(" and {more} more") };
            finding.details.push(format!("addresses: {}{tail}", shown.join(", ")));
        }
        if let Some(strangers) = self.strangers {
            let least = if strangers.more { "at least " } else { "" };
            let number = strangers.len();
            let to = finding.title.split_once(" -> ").map_or("", |(_, to)| to);
            finding.title = format!("and {least}{number} more addresses -> {to}");
            let most = if finding.to.ip.is_some() { MOST_STRANGERS } else { MOST_STRANGER_FINDINGS };
            let line = format!(
                "{} attempts from {least}{number} addresses that hold no role, beyond the first {most}, which have \
                 findings of their own",
                finding.count
            );
            finding.details.insert(0, line);
        }
        finding
    }
}

/// A judged flow, as findings tell of it.
pub(super) struct Judged<'j> {
    pub flow: &'j Flow<'j>,
    pub ruling: &'j Ruling,
    pub evidence: &'j Evidence,
    /// What its first name is told by.
    pub named_by: Option<FirstChain>,
    pub serial: u64,
    /// The ids of the initiator's roles, and of the responder's.
    pub roles: &'j dyn Fn() -> [Vec<String>; 2],
    /// The host that began.
    pub host: IpAddr,
    pub accepted: Option<&'j Accepted>,
}

/// Frames cited for the names of one flow, so that its own are not crowded out.
const MOST_NAME_FRAMES: usize = 5;

/// Frames that prove something about a flow: where its names were learnt, then its own, each in the order in which they
/// were taken.
fn points_of(judged: &Judged<'_>) -> Vec<FramePoint> {
    let mut points = judged.evidence.points();
    points.sort_unstable();
    points.truncate(MOST_NAME_FRAMES);
    points.extend(judged.flow.proofs().into_iter().map(|(_, point)| point));
    points
}

/// The codes that a flow's row carries.
fn codes_of(judged: &Judged<'_>) -> Vec<Code> {
    let ruling = judged.ruling;
    let got_through = matches!(
        judged.flow.outcome,
        Outcome::Established | Outcome::Answered | Outcome::Midstream | Outcome::HalfOpen | Outcome::OneSided
    );
    let code = match (ruling.verdict, judged.flow.outcome.is_blocked()) {
        (Verdict::Documented, true) => Some(Code::DocumentedBlocked),
        (Verdict::Platform, true) => Some(Code::PlatformBlocked),
        (Verdict::Undocumented, _) if judged.accepted.is_some_and(|accepted| !accepted.expired) => {
            Some(Code::Accepted)
        }
        (Verdict::Undocumented, _) if got_through => Some(Code::UnexpectedTraffic),
        (Verdict::Undocumented, _) => Some(Code::UnexpectedAttempt),
        (Verdict::Undetermined, _) => Some(Code::Undetermined),
        (Verdict::Documented | Verdict::Platform, false) | (Verdict::OutOfScope, _) => None,
    };
    let of_issue = |issue: &Issue| match issue {
        Issue::ProtocolMismatch { .. } => Code::ProtocolMismatch,
        Issue::NameConflict { .. } => Code::NameConflict,
        Issue::UnsolicitedAnswer => Code::UnsolicitedAnswer,
        Issue::ForeignAccount { .. } => Code::ForeignAccount,
    };
    let mut codes: Vec<Code> = code.into_iter().chain(ruling.issues.iter().map(of_issue)).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The findings of one flow; tells the codes that its row carries.
pub(super) fn of_flow(
    findings: &mut Findings,
    judged: &Judged<'_>,
    stems: &mut Vec<(Code, Severity, StemId)>,
) -> Vec<Code> {
    let (flow, ruling) = (judged.flow, judged.ruling);
    let codes = codes_of(judged);
    let alias = ruling.nearest.as_ref().is_some_and(|nearest| nearest.differs == Differs::Alias);
    for &code in &codes {
        let severity = match code {
            Code::UnexpectedTraffic if alias => Severity::Medium,
            code => code.severity(),
        };
        // Undetermined flows fold into one finding per (role, server name or address, rule).
        let folded = code == Code::Undetermined;
        let known = stems.iter().find(|(of, grade, _)| (*of, *grade) == (code, severity));
        let stem = match known {
            Some(&(.., stem)) => stem,
            None => {
                let stem = findings.stem(stem_of(judged, code, severity, folded));
                stems.push((code, severity, stem));
                stem
            }
        };
        let stranger = ruling.from_roles.is_empty();
        let (place, share) = if stranger {
            findings.draft_of_stranger(stem, code, judged)
        } else {
            let host = (!folded).then_some(judged.host);
            (findings.draft_of_flow(stem, host, code, judged), Share::Own)
        };
        let Findings { drafts, lines, hasher, .. } = &mut *findings;
        let draft = &mut drafts[place];
        draft.count(flow.first_ts, flow.last_ts);
        if !draft.is_cited() {
            draft.cite(points_of(judged));
        }
        draft.reach(flow.to.ip);
        draft.outcomes.insert(flow.outcome);
        if code == Code::Undetermined && ruling.missing == Some(Missing::Name) {
            let nameless = draft.nameless.get_or_insert_default();
            if nameless.len() < MOST_NAMELESS {
                nameless.insert(judged.host);
            }
        }
        add_details(draft, code, judged, share, lines, hasher);
    }
    codes
}

fn stem_of(judged: &Judged<'_>, code: Code, severity: Severity, folded: bool) -> Stem {
    let ruling = judged.ruling;
    let name = judged.evidence.first_name().map(ToString::to_string);
    let (ip, port) = destination(judged);
    let to = name.unwrap_or_else(|| ip.to_string());
    let [from_roles, _] = (judged.roles)();
    Stem {
        code,
        severity,
        to: if folded { format!("{} {to} {:?}", from_roles.join("+"), ruling.missing) } else { to },
        port: (!folded).then_some(port),
        proto: Some(judged.flow.proto),
        rules: if folded { rules_of(ruling).to_vec() } else { Vec::new() },
    }
}

fn rules_of(ruling: &Ruling) -> &[String] {
    if ruling.rules.is_empty() { &ruling.possible } else { &ruling.rules }
}

/// Adds the details of a flow, unless a flow with the same ones was there before.
fn add_details(
    draft: &mut Draft,
    code: Code,
    judged: &Judged<'_>,
    share: Share,
    known: &mut Lines,
    hasher: &RandomState,
) {
    let common = share != Share::Own;
    let full = draft.details.len() >= MOST_DETAILS;
    let told = draft.count > if common { 1 } else { MOST_TOLD };
    if full || told || share == Share::Code {
        return;
    }
    let flow = judged.flow;
    let detailed = judged.named_by.map(|named_by| Detailed {
        ruling: judged.serial,
        named: Named::of(named_by, judged.evidence),
        from: flow.from.ip,
        to: flow.to.ip,
        accepted: judged.accepted.map(|accepted| (accepted.entry, accepted.expired)),
        reset_ttl_differs: code == Code::DocumentedBlocked && flow.reset_ttl_differs(),
        icmp: flow.icmp,
    });
    if let Some(detailed) = detailed {
        let detailed = hasher.hash_one(detailed);
        if draft.detailed.contains(&detailed) {
            return;
        }
        if draft.detailed.len() < MOST_DETAILED {
            if draft.detailed.len() == draft.detailed.capacity() {
                draft.detailed.reserve_exact(draft.detailed.len().max(1));
            }
            draft.detailed.push(detailed);
        }
    }
    // What is said of all strangers names none of them.
    let own = common.then(|| flow.from.ip.to_string());
    for line in details(code, judged) {
        if own.as_ref().is_none_or(|own| !line.contains(own)) {
            draft.detail(known.number(line));
        }
    }
}

/// An `[[accept]]` entry that a flow matches.
pub(super) struct Accepted {
    /// Its place in the site file.
    pub entry: usize,
    pub reason: String,
    pub until: Option<String>,
    pub expired: bool,
}

/// Where a flow goes: its responder, or what the client asked its proxy for (by name: the proxy's address stands for it).
fn destination(judged: &Judged<'_>) -> (IpAddr, u16) {
    match &judged.ruling.target {
        Some(target) => (target.ip.unwrap_or(judged.flow.to.ip), target.port),
        None => (judged.flow.to.ip, judged.flow.to.port),
    }
}

fn who(roles: &[String], ip: IpAddr) -> String {
    if roles.is_empty() { ip.to_string() } else { format!("{} {ip}", roles.join("+")) }
}

/// A finding about flows, in words.
fn worded(first: FirstFlow, stem: Option<&Stem>, words: &Words<'_>) -> Finding {
    let Some((stem, phrase)) = stem.zip(words.phrases.get(first.phrase)) else {
        // Every draft has both.
        return Finding::of(Code::Undetermined, String::new());
    };
    let [from_roles, to_roles] = [phrase.from_roles, phrase.to_roles].map(words.role_words);
    let from = who(&from_roles, first.from);
    let (ip, port_number) = first.destination();
    let proxied = first.target.is_some();
    let to = match &first.name {
        Some(name) if proxied => format!("{name} (through {})", first.to),
        None if proxied => format!("{ip} (through {})", first.to),
        Some(name) => format!("{name} ({})", first.to),
        None => who(&to_roles, first.to),
    };
    let proto = first.proto.to_string().to_uppercase();
    let ports = first.proto.has_ports();
    let filter = filter_to(&first, &address_filter(first.to));
    let (title, display_filter) = match first.share {
        Share::Own => {
            let title = if ports {
                format!("{from} -> {to} {proto} {port_number}")
            } else {
                format!("{from} -> {to} {proto}")
            };
            (title, Some(format!("{} && {filter}", address_filter(first.from))))
        }
        Share::Destination => (
            if ports { format!(" -> {to} {proto} {port_number}") } else { format!(" -> {to} {proto}") },
            Some(filter),
        ),
        Share::Code => (" -> further destinations and ports".to_owned(), None),
    };
    Finding {
        severity: stem.severity,
        from: match first.share {
            Share::Own => Party { roles: from_roles, ip: Some(first.from), ..Party::default() },
            Share::Destination | Share::Code => Party::default(),
        },
        to: match first.share {
            Share::Own | Share::Destination => Party {
                roles: to_roles,
                ip: Some(ip),
                name: first.name,
                port: ports.then_some(port_number),
                proto: Some(first.proto),
            },
            Share::Code => Party::default(),
        },
        rules: phrase.rules.clone(),
        display_filter,
        remedy: remedy(phrase),
        ..Finding::of(stem.code, title)
    }
}

fn address_filter(ip: IpAddr) -> String {
    format!("{} == {ip}", if ip.is_ipv4() { "ip.addr" } else { "ipv6.addr" })
}

/// What a filter for Wireshark says of a destination: the conversation, and the ICMP errors that quote it.
fn filter_to(flow: &FirstFlow, to: &str) -> String {
    match flow.proto {
        Transport::Tcp | Transport::Udp | Transport::Sctp => {
            format!("{to} && {}.port == {}", flow.proto, flow.port)
        }
        Transport::Icmp => format!("{to} && icmp"),
        Transport::Icmp6 => format!("{to} && icmpv6"),
        Transport::Other(number) if flow.from.is_ipv4() => format!("{to} && ip.proto == {number}"),
        Transport::Other(number) => format!("{to} && ipv6.nxt == {number}"),
    }
}

fn remedy(row: &Phrase) -> Cow<'static, str> {
    use crate::audit::Missing;
    let code = row.code;
    match (code, row.missing, &row.nearest) {
        (Code::Undetermined, Some(Missing::Name), _) => {
            "capture from before the resolver cache was filled (restart the service or flush its cache), DNS included".into()
        }
        (Code::Undetermined, Some(Missing::Ambiguous), _) => {
            "several names share this address: capture the ClientHello too, which names the one that was meant".into()
        }
        (Code::Undetermined, Some(Missing::Account), _) => {
            "list the account under storage_accounts if it is yours".into()
        }
        (Code::Undetermined, Some(Missing::Conflict), _) => {
            "settle the contradiction in the name evidence first (see name-conflict)".into()
        }
        (Code::UnexpectedTraffic | Code::UnexpectedAttempt, _, Some(nearest)) => match nearest.differs {
            Differs::Alias => "set aliases = true in the site file if this name may stand for the documented one".into(),
            Differs::Condition => {
                format!("switch the condition of {} on in the site file if it applies here", nearest.rule).into()
            }
            Differs::Page => format!("hold it against the page \"{}\", which is not loaded", nearest.rule).into(),
            Differs::OsNoise => "the operating system does this: point it to servers of your own, or list it under [[accept]]".into(),
            _ => code.advice().into(),
        },
        (Code::DocumentedBlocked, ..) => {
            let rules = row.rules.join(", ");
            let kind = match row.outcome {
                Some(Outcome::Filtered) => "nothing answers: a packet filter drops it, or the host is down",
                Some(Outcome::Refused) => "the destination, or a firewall in its name, refuses it",
                Some(Outcome::Prohibited) => "a firewall says so by ICMP: see who sent it",
                Some(Outcome::Unreachable) => "a router says so by ICMP: see who sent it",
                Some(Outcome::Cut) => "the handshake passes and the first payload does not: an inspecting firewall",
                Some(Outcome::TlsRefused) => "TLS is refused: interception, or a missing certificate",
                Some(Outcome::ProxyDenied) => "the proxy refuses it: see its rules and its credentials",
                _ => "see the frames",
            };
            format!("open what {rules} documents; {kind}").into()
        }
        _ => code.advice().into(),
    }
}

/// By what name the destination was known, and how that is known.
fn how_named(judged: &Judged<'_>) -> String {
    let row = judged.ruling;
    let by_role = row.grade == Some(Grade::Site);
    let evidence = judged.evidence;
    let best = evidence.named().next();
    if by_role || evidence.first_name().is_none() {
        if by_role {
            let [_, to_roles] = (judged.roles)();
            return format!(
                "name: none needed, the site file gives this address the role {}",
                to_roles.join("+")
            );
        }
        return format!(
            "name: none, no DNS answer to {} in these captures holds {}",
            judged.flow.from.ip, judged.flow.to.ip
        );
    }
    let Some(name) = evidence.first_name() else { return String::new() };
    match best {
        _ if evidence.proxied() => format!("name: {name} as the proxy was asked for"),
        Some(best) => {
            let chain: Vec<&str> = best.names.iter().skip(1).map(DomainName::as_str).collect();
            let via =
                if chain.is_empty() { String::new() } else { format!(" (leads to {})", chain.join(", ")) };
            let further = evidence.further_names.iter();
            let further = further.filter(|name| name.source == NameEvidenceSource::Dns).count();
            let others = evidence.named().count() - 1 + further;
            let mut how = format!("name: {name} by a DNS answer{via}");
            for (said, words) in [
                (row.grade == Some(Grade::Corroborated), ", and other evidence agrees"),
                (best.expired, ", past its time to live"),
                (best.late, ", which came after the flow began"),
            ] {
                how.push_str(if said { words } else { "" });
            }
            if others > 0 {
                how.push_str(&format!("; {others} more names share the address"));
            }
            how
        }
        None => {
            format!("name: {name} by what the client itself wrote alone, and a client can write anything")
        }
    }
}

fn details(code: Code, judged: &Judged<'_>) -> Vec<String> {
    let (row, flow) = (judged.ruling, judged.flow);
    let mut lines = Vec::new();
    if matches!(
        code,
        Code::UnexpectedTraffic
            | Code::UnexpectedAttempt
            | Code::DocumentedBlocked
            | Code::Undetermined
            | Code::Accepted
    ) && flow.proto.has_ports()
    {
        lines.push(how_named(judged));
    }
    for issue in &row.issues {
        match (code, issue) {
            (Code::ProtocolMismatch, Issue::ProtocolMismatch { expected, seen }) => lines.push(match seen {
                Some(seen) => format!("the rule names {expected}, the first bytes are {seen}"),
                None => format!("the rule names {expected}, the first bytes are nothing known"),
            }),
            (Code::NameConflict, Issue::NameConflict { why }) => lines.push(why.clone()),
            (Code::UnsolicitedAnswer, Issue::UnsolicitedAnswer) => {
                lines.push("only an answer that nobody asked for gives this address".into());
            }
            (Code::ForeignAccount, Issue::ForeignAccount { account }) => {
                lines.push(format!("account {account} is not under storage_accounts"));
            }
            _ => {}
        }
    }
    if matches!(code, Code::UnexpectedTraffic | Code::UnexpectedAttempt)
        && let Some(nearest) = &row.nearest
    {
        lines.push(format!("nearest: {} (differs: {})", nearest.rule, nearest.differs.as_str()));
    }
    if let Some(accepted) = judged.accepted {
        match (code, &accepted.until) {
            (Code::Accepted, Some(until)) => {
                lines.push(format!("accepted until {until}: {}", accepted.reason))
            }
            (Code::Accepted, None) => lines.push(format!("accepted: {}", accepted.reason)),
            (_, Some(until)) if accepted.expired => {
                lines.push(format!("was accepted until {until}: {}", accepted.reason))
            }
            _ => {}
        }
    }
    if code == Code::DocumentedBlocked && flow.reset_ttl_differs() {
        lines.push("hint: the reset's TTL differs from the responder's other packets: a device on the way may have sent it".into());
    }
    if let (Code::DocumentedBlocked | Code::PlatformBlocked, Some((kind, number))) = (code, flow.icmp) {
        lines.push(format!("ICMP type {kind} code {number}"));
    }
    lines
}

/// Findings about the captures themselves.
pub(super) fn of_captures(findings: &mut Findings, inputs: &[CaptureSummary]) {
    use crate::audit::End;
    for input in inputs {
        if let End::Damaged { frame, offset, problem } = &input.end {
            findings.add(note(
                Code::CaptureDamaged,
                format!("{}: frame {frame}, at byte {offset}: {problem}", input.path.escape_debug()),
                // The last frame that is whole: the damaged one has no bytes that a stranger could look at.
                (*frame > 1)
                    .then(|| EvidenceFrame { capture: input.path.clone(), frame: frame - 1 })
                    .into_iter()
                    .collect(),
            ));
        }
        if let Some(drops) = input.drops.filter(|&drops| drops > 0) {
            let title = format!("{}: {drops} frames dropped while capturing", input.path.escape_debug());
            findings.add(note(Code::CaptureLoss, title, Vec::new()));
        }
        for unfit in input.chosen.iter().flat_map(|chosen| &chosen.unfit) {
            let title = format!("{}: {}", input.path.escape_debug(), unfit.to_string().escape_debug());
            let first = EvidenceFrame { capture: input.path.clone(), frame: unfit.frame };
            findings.add(note(Code::CaptureLoss, title, vec![first]));
        }
    }
}

/// A finding of severity note without parties.
pub(super) fn note(code: Code, title: String, evidence: Vec<EvidenceFrame>) -> Finding {
    Finding { count: 1, evidence, ..Finding::of(code, title) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_that_grows_takes_a_quarter_of_a_kilobyte_and_cites_frames_of_twelve_bytes() {
        assert!(size_of::<Draft>() <= 256, "{}", size_of::<Draft>());
        assert_eq!(size_of::<Cited>(), 12);
        for frame in [0, 1, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
            assert_eq!(Cited::of(FramePoint { frame, ..FramePoint::default() }).frame(), frame);
        }
    }

    #[test]
    fn a_line_of_details_is_kept_once() {
        let mut lines = Lines::default();
        let numbers: Vec<u32> = (0..1_000).map(|n| lines.number(format!("line {}", n % 10))).collect();
        assert_eq!(lines.all.len(), 10);
        assert!(numbers.iter().enumerate().all(|(n, &at)| lines.get(at) == format!("line {}", n % 10)));
    }
}
