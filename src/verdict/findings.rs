//! Judged flows, DNS evidence and captures to findings. SEMANTICS section 5.

use super::circumstances::{Evidence, FirstChain};
use super::classify::{Issue, Ruling};
use super::coverage::OutcomeSet;
use super::foremost::Foremost;
use super::judge::Case;
use super::reach::Reach;
use super::row::Differs;
use super::strangers::{MOST_DISTINCT, Strangers};
use super::wording::{
    FirstFlow, HIDDEN_REMEDY, Phrase, Share, Words, details, phrase_key, phrase_number, tells_addresses,
    worded,
};
use crate::audit::{CaptureSummary, Code, EvidenceFrame, Finding, Missing, Severity, Untold, Verdict};
use crate::flow::{Flow, Outcome, ProofKind, capture_name};
use crate::matrix::RoleSet;
use crate::model::{CaptureId, Distinct, DomainName, FramePoint, Timestamp, Transport, address_bits};
use foldhash::fast::RandomState;
use hashbrown::{HashSet, HashTable};
use std::cell::RefCell;
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

/// A finding while it grows: what it is known by, and what is counted of it whether it will be told or not.
pub(super) struct Draft {
    stem: StemId,
    /// The number of its phrase; none where it is told in words already.
    phrase: u32,
    host: Option<IpAddr>,
    outcomes: OutcomeSet,
    /// None where it is certain that others of its kind stand before it, as many as are told.
    body: Option<Box<Body>>,
}

/// All else that a finding tells. There may be a hundred thousand of them, so it holds what its words are made of; they are made
/// at the end.
struct Body {
    about: About,
    count: u64,
    /// When the first began and the last ended.
    range: Option<(Timestamp, Timestamp)>,
    /// The first ones, each once; what is counted comes in order of time.
    evidence: Vec<Cited>,
    /// From where to where its flows go, once there are two that differ in it.
    reach: Option<Box<Reach>>,
    /// Details, by their numbers in [`Findings::lines`].
    details: Vec<u32>,
    /// Flows whose details are in already: see [`Detailed`].
    detailed: Vec<u64>,
    /// The stretch of the rows in which it was counted last, and how often there.
    stretch: u32,
    counted: u32,
    /// For the one that stands for all strangers beyond [`MOST_STRANGERS`].
    strangers: Option<Box<Strangers>>,
    /// Hosts for whose flows a name is missing.
    #[expect(clippy::box_collection, reason = "mostly none, and a body is to be small")]
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

/// What a draft is found by, as two numbers: this is asked for every flow that a finding is about.
fn draft_hash(hasher: &RandomState, stem: StemId, host: Option<IpAddr>) -> u64 {
    let version = host.map_or(0, |ip| 1 + u64::from(ip.is_ipv6()));
    hasher.hash_one((u64::from(stem) << 2 | version, host.map_or(0, address_bits)))
}

/// The number of a line of details: a thousand hosts are told the same of one name.
fn line_number(lines: &mut Distinct<Box<str>>, line: String) -> u32 {
    let hash = lines.hash(&*line);
    let known = lines.find(hash, |known| **known == *line);
    known.unwrap_or_else(|| lines.insert(hash, line.into()))
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

/// All that the details of a flow depend on beside its ruling and its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
struct Wording {
    named: Named,
    accepted: Option<(usize, bool)>,
    reset_ttl_differs: bool,
    icmp: Option<(u8, u8)>,
}

/// All that they depend on. Of those flows whose details are in, a draft keeps a hash: with a seed that nobody knows, one in
/// 10^19 flows would be taken for another, and one line of details be missing.
#[derive(Clone, Copy, PartialEq, Hash)]
struct Detailed {
    ruling: u64,
    from: IpAddr,
    to: IpAddr,
    wording: Wording,
}

/// What is said of how a destination is named depends on this, beside the ruling.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
struct Named {
    first: FirstChain,
    chains: usize,
    expired: bool,
    late: bool,
}

impl Named {
    fn of(first: FirstChain, evidence: &Evidence<'_>) -> Named {
        let best = evidence.named().next();
        Named {
            first,
            chains: evidence.named().count(),
            expired: best.is_some_and(|best| best.expired),
            late: best.is_some_and(|best| best.late),
        }
    }
}

/// What is known of the findings of one code that flows of one ruling and first name belong to, all but the initiator.
#[derive(Debug)]
pub(super) struct Kind {
    code: Code,
    severity: Severity,
    stem: StemId,
    /// Where the finding of the flow before is, and of which host it is.
    last: Option<(Option<IpAddr>, usize)>,
    /// The details of flows by which no address is told: a thousand hosts are told the same of one name.
    details: Vec<(Wording, Box<[u32]>)>,
}

/// Wordings of details remembered of one kind: beyond, all are forgotten.
const MOST_WORDINGS: usize = 8;

/// Flows remembered of which the details are in: those of a draft are few, else they are put together again.
const MOST_DETAILED: usize = 9;

/// Detail lines of a finding.
const MOST_DETAILS: usize = 12;

/// Initiators without a role that have findings of their own for one (code, destination, port, transport): 100. What more
/// there are is told in one further finding. A flood from forged addresses would bury all else and need a draft each;
/// fewer could hide a handful of real peers. Initiators that hold a role are never folded.
pub const MOST_STRANGERS: usize = 100;

/// Flows of one finding and one stretch of the rows whose details are told: the first 64. What only later ones would add stands in
/// their rows; to word it for each of a million flows costs more than to judge them.
const MOST_TOLD: u32 = 64;

/// Hosts of one finding of which it is said that they resolve names in secret.
const MOST_NAMELESS: usize = 8;
/// Findings of their own that initiators without a role have of one code, whatever the destination and port: 1,000. A flood
/// may as well go to every port of every machine, a hundred addresses each.
pub const MOST_STRANGER_FINDINGS: usize = 1_000;

/// All findings of an audit.
pub(super) struct Findings {
    stems: Distinct<Stem>,
    hasher: RandomState,
    drafts: Vec<Draft>,
    /// By stem and host.
    draft_of: HashTable<u32>,
    phrases: Distinct<Phrase>,
    lines: Distinct<Box<str>>,
    /// By stem: how many initiators without a role have findings of their own, and the draft for all others.
    strangers: Vec<(usize, Option<usize>)>,
    /// The same by code, whatever the destination.
    crowds: Vec<((Code, Severity), usize, Option<usize>)>,
    distinct: usize,
    /// Which of them may be told.
    foremost: Foremost,
    captures: Arc<[Arc<str>]>,
    /// The stretch of the rows that is counted.
    stretch: u32,
    /// The frames of the flow at hand.
    points: Vec<FramePoint>,
    /// What they prove, those that are its own.
    proofs: Vec<(ProofKind, FramePoint)>,
}

impl Findings {
    /// None yet. Of each kind `most` will be told: of what certainly is none of them only what is counted is kept.
    pub(super) fn new(captures: &[Arc<str>], most: usize) -> Self {
        Findings {
            stems: Distinct::default(),
            hasher: RandomState::default(),
            drafts: Vec::new(),
            draft_of: HashTable::new(),
            phrases: Distinct::default(),
            lines: Distinct::default(),
            strangers: Vec::new(),
            crowds: Vec::new(),
            distinct: 0,
            foremost: Foremost::new(most),
            captures: captures.into(),
            stretch: 0,
            points: Vec::new(),
            proofs: Vec::new(),
        }
    }

    /// Goes on to a stretch of the rows. What findings say depends on how rows are parted, and so on no number of threads.
    pub(super) fn begin_stretch(&mut self) {
        self.stretch += 1;
    }

    /// The number of a stem.
    pub(super) fn stem(&mut self, stem: Stem) -> StemId {
        let hash = self.stems.hash(&stem);
        if let Some(known) = self.stems.find(hash, |other| *other == stem) {
            return known;
        }
        let id = self.stems.insert(hash, stem);
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
            None => self.insert(Draft::told(stem, host, make())),
        };
        &mut self.drafts[place]
    }

    fn place_of(&self, stem: StemId, host: Option<IpAddr>) -> Option<usize> {
        let same = |&place: &u32| {
            self.drafts.get(place as usize).is_some_and(|draft| (draft.stem, draft.host) == (stem, host))
        };
        self.draft_of.find(draft_hash(&self.hasher, stem, host), same).map(|&place| place as usize)
    }

    /// Adds a draft that is the only one of its stem and host.
    fn insert(&mut self, draft: Draft) -> usize {
        let Findings { drafts, draft_of, hasher, .. } = self;
        let place = drafts.len();
        let hash = draft_hash(hasher, draft.stem, draft.host);
        drafts.push(draft);
        draft_of.insert_unique(hash, place as u32, |&place| {
            drafts.get(place as usize).map_or(0, |draft| draft_hash(hasher, draft.stem, draft.host))
        });
        place
    }

    /// Asks for the memory of the finding at a place.
    pub(super) fn ask_for(&self, place: usize) {
        if let Some(draft) = self.drafts.get(place) {
            let body = draft.body.as_ref();
            std::hint::black_box(body.map(|body| (body.count, body.details.len(), body.detailed.len())));
        }
    }

    /// How many there are, and how many of them may be told.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.drafts.len(), self.drafts.iter().filter(|draft| draft.body.is_some()).count())
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
            let phrase = phrase_number(&mut self.phrases, &phrase_key(code, judged));
            let mut draft = Draft { stem, phrase, host, outcomes: OutcomeSet::default(), body: None };
            if self.may_be_told(stem, host, judged) {
                draft.body = Some(Body::of(About::Flows(FirstFlow::of(Share::Own, judged))));
            }
            self.insert(draft)
        })
    }

    /// Whether a new finding may be among those of its kind that are told. Strangers may be folded into others, and where a host
    /// has several addresses, which of them findings are ordered by is told by the first flow, which may be among rows that
    /// somebody else judges: such findings may always be, and count for nothing here.
    fn may_be_told(&mut self, stem: StemId, host: Option<IpAddr>, judged: &Judged<'_>) -> bool {
        let kind = self.stems.get(stem).map(|stem| (stem.severity, stem.code));
        let Some((kind, host)) = kind.zip(host).filter(|_| !self.foremost.are_all()) else { return true };
        let is_certain = !judged.ruling.from_roles.is_empty() && !judged.has_other_addresses();
        !is_certain || self.foremost.admit(kind, host)
    }

    /// The finding of a stem for an initiator that holds no role: its own, or a common one beyond [`MOST_STRANGERS`] of the
    /// stem and [`MOST_STRANGER_FINDINGS`] of the code.
    fn draft_of_stranger(&mut self, stem: StemId, code: Code, judged: &Judged<'_>) -> (usize, Share) {
        let host = judged.host;
        if let Some(place) = self.place_of(stem, Some(host)) {
            return (place, Share::Own);
        }
        let (own, common) = self.strangers[stem as usize];
        let (place, share) = match common {
            Some(common) if own >= MOST_STRANGERS => (common, Share::Destination),
            _ => self.draft_of_new_stranger(stem, code, judged),
        };
        if share != Share::Own
            && let Some(draft) = self.drafts.get_mut(place)
            && let Some(strangers) = draft.body.as_mut().and_then(|body| body.strangers.as_mut())
        {
            self.distinct += strangers.insert(host, MOST_DISTINCT.saturating_sub(self.distinct));
        }
        (place, share)
    }

    /// The same for one that has no finding of its own yet, where that of many may not be there, too.
    #[inline(never)]
    fn draft_of_new_stranger(&mut self, stem: StemId, code: Code, judged: &Judged<'_>) -> (usize, Share) {
        let (own, of_stem) = &mut self.strangers[stem as usize];
        let (common, share) = if *own >= MOST_STRANGERS {
            (of_stem, Share::Destination)
        } else {
            let place = self.crowd(stem);
            let (own, _) = &mut self.strangers[stem as usize];
            let (_, count, of_code) = &mut self.crowds[place];
            if *count < MOST_STRANGER_FINDINGS {
                (*own, *count) = (*own + 1, *count + 1);
                let place = self.draft_of_flow(stem, Some(judged.host), code, judged);
                if let Some(body) = &mut self.drafts[place].body {
                    body.of_stranger = true;
                }
                return (place, Share::Own);
            }
            (of_code, Share::Code)
        };
        let (drafts, phrases) = (&mut self.drafts, &mut self.phrases);
        let place = *common.get_or_insert_with(|| {
            let phrase = phrase_number(phrases, &phrase_key(code, judged));
            let mut body = Body::of(About::Flows(FirstFlow::of(share, judged)));
            body.strangers = Some(Box::default());
            drafts.push(Draft {
                stem,
                phrase,
                host: None,
                outcomes: OutcomeSet::default(),
                body: Some(body),
            });
            drafts.len() - 1
        });
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
        if let Some(About::Told(told)) = draft.body.as_mut().map(|body| &mut body.about) {
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
        if self.stems.values().is_empty() && self.drafts.is_empty() {
            *self = later;
            return;
        }
        let Findings { stems, drafts, strangers, crowds, phrases, lines, .. } = later;
        let stem_of: Vec<StemId> = stems.into_values().into_iter().map(|stem| self.stem(stem)).collect();
        let phrase_of: Vec<u32> =
            phrases.values().iter().map(|phrase| phrase_number(&mut self.phrases, &phrase.key())).collect();
        let line_of: Vec<u32> =
            lines.into_values().into_iter().map(|line| line_number(&mut self.lines, line.into())).collect();
        let here = |numbers: &[u32], there: u32| numbers.get(there as usize).copied().unwrap_or(u32::MAX);
        let of_stem: HashSet<usize, RandomState> =
            strangers.iter().filter_map(|&(_, common)| common).collect();
        let of_code: HashSet<usize, RandomState> = crowds.iter().filter_map(|&(.., common)| common).collect();
        for (place, mut draft) in drafts.into_iter().enumerate() {
            let Some(&stem) = stem_of.get(draft.stem as usize) else { continue };
            (draft.stem, draft.phrase) = (stem, here(&phrase_of, draft.phrase));
            if let Some(body) = &mut draft.body {
                body.details.iter_mut().for_each(|line| *line = here(&line_of, *line));
            }
            if of_stem.contains(&place) {
                self.add_common(draft, Share::Destination);
            } else if of_code.contains(&place) {
                self.add_common(draft, Share::Code);
            } else if let Some(known) = self.place_of(stem, draft.host) {
                self.drafts[known].add(draft, 0);
            } else if !draft.is_of_stranger() {
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
                self.distinct += draft.strangers().map_or(0, Strangers::len);
                self.drafts.push(draft);
            }
        }
    }

    /// The place of the crowd that strangers of a stem belong to.
    fn crowd(&mut self, stem: StemId) -> usize {
        let of = &self.stems.values()[stem as usize];
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
        for body in self.drafts.iter_mut().filter_map(|draft| draft.body.as_mut()) {
            let Some(hosts) = body.nameless.take() else { continue };
            for why in hosts.iter().filter_map(|host| reasons.get(host)) {
                body.detail(line_number(&mut self.lines, why.clone()));
                body.hidden = true;
            }
        }
    }

    /// All findings, most severe first, then by code, initiator, destination, port and transport; of one code those that
    /// stand for many strangers last. Of each kind no more are put into words than was asked for; the others are counted.
    /// `role_words` gives the ids of roles.
    pub(super) fn finish(self, role_words: &dyn Fn(RoleSet) -> Vec<String>) -> (Vec<Finding>, Untold) {
        let most = self.foremost.most();
        let rank: BTreeMap<&str, usize> =
            self.captures.iter().enumerate().map(|(rank, name)| (&**name, rank)).collect();
        let stems = self.stems;
        let mut drafts = self.drafts;
        let mut room = MOST_DISTINCT.saturating_sub(self.distinct);
        for strangers in drafts.iter_mut().filter_map(Draft::strangers_mut) {
            room = room.saturating_sub(strangers.settle(room));
        }
        // Whoever has a finding of its own is none of the further ones: where stretches of the rows were judged apart, a
        // stranger may have been one of the many in one of them.
        let own: Vec<(usize, IpAddr)> = drafts
            .iter()
            .filter(|draft| draft.is_of_stranger())
            .filter_map(|draft| self.strangers.get(draft.stem as usize)?.1.zip(draft.host))
            .collect();
        for (common, host) in own {
            if let Some(strangers) = drafts.get_mut(common).and_then(Draft::strangers_mut) {
                strangers.remove(host);
            }
        }
        let (phrases, lines) = (self.phrases, self.lines);
        let stem = |draft: &Draft| stems.get(draft.stem);
        // What tells most of them apart stands beside them: to look into each would cost more than to compare.
        let mut order: Vec<Ranked<'_>> = drafts
            .iter()
            .zip(0..)
            .map(|(draft, place)| {
                let (first, ..) = draft.rank(stem(draft), &phrases);
                (first, draft, place)
            })
            .collect();
        let by_rank = |(first_a, a, _): &Ranked<'_>, (first_b, b, _): &Ranked<'_>| {
            // What is equal in all that orders findings stands by its stem and host.
            let key = |draft: &Draft| (stem(draft).map(|stem| (stem.code, stem.severity)), draft.host);
            let rest = |draft: &Draft| stem(draft).map(|stem| (&stem.to, stem.port, stem.proto, &stem.rules));
            let ranks = || a.rank(stem(a), &phrases).cmp(&b.rank(stem(b), &phrases));
            let equal = || key(a).cmp(&key(b)).then_with(|| rest(a).cmp(&rest(b)));
            first_a.cmp(first_b).then_with(ranks).then_with(equal)
        };
        // Of a hundred thousand that are only counted none needs its place among the others.
        let kind = |(first, ..): &Ranked<'_>| first.0;
        order.sort_unstable_by_key(kind);
        for of_kind in order.chunk_by_mut(|a, b| kind(a) == kind(b)) {
            if of_kind.len() > most {
                of_kind.select_nth_unstable_by(most, by_rank);
            }
            let told = of_kind.len().min(most);
            of_kind[..told].sort_by(by_rank);
        }
        let order: Vec<usize> = order.into_iter().map(|(.., place)| place).collect();
        let rank_of: Vec<usize> =
            self.captures.iter().filter_map(|name| rank.get(&**name).copied()).collect();
        let words = Words {
            captures: &self.captures,
            rank: &rank,
            rank_of: &rank_of,
            phrases: &phrases,
            lines: &lines,
            role_words,
            texts: RefCell::default(),
        };
        let mut findings = Vec::with_capacity(if most == usize::MAX { drafts.len() } else { 0 });
        let (mut untold, mut last, mut told) = (Untold::default(), None, 0);
        for place in order {
            let Some(draft) = drafts.get_mut(place) else { continue };
            let stem = stem(draft);
            let ((kind, ..), _, (.., rules)) = draft.rank(stem, &phrases);
            told = if kind == last { told + 1 } else { 1 };
            last = kind;
            if let Some(kind) = kind.filter(|_| told > most || draft.body.is_none()) {
                debug_assert!(told > most, "what has no words stands behind all that is told");
                untold.add(kind, rules, draft.outcomes.iter());
                // It is freed in the order in which it was made: that is faster.
                continue;
            }
            let (phrase, outcomes) = (draft.phrase, draft.outcomes);
            findings.extend(draft.body.take().map(|body| body.finish(stem, phrase, outcomes, &words)));
        }
        (findings, untold)
    }
}

/// What tells apart most of them.
type RankFirst = (Option<(Severity, Code)>, bool, Option<IpAddr>, Option<IpAddr>);

/// A finding with what tells it apart, and its place.
type Ranked<'d> = (RankFirst, &'d Draft, usize);

/// What orders findings: severity, code, whether it stands for many strangers, initiator, destination, its name, port and
/// transport, rules.
type Rank<'r> = (RankFirst, Option<&'r DomainName>, (Option<u16>, Option<Transport>, &'r [String]));

fn frame(captures: &[Arc<str>], point: FramePoint) -> EvidenceFrame {
    EvidenceFrame { capture: capture_name(captures, point.capture), frame: point.frame }
}

impl Draft {
    fn told(stem: StemId, host: Option<IpAddr>, finding: Finding) -> Draft {
        let body = Some(Body::of(About::Told(Box::new(finding))));
        Draft { stem, phrase: u32::MAX, host, outcomes: OutcomeSet::default(), body }
    }

    fn strangers(&self) -> Option<&Strangers> {
        self.body.as_ref()?.strangers.as_deref()
    }

    fn strangers_mut(&mut self) -> Option<&mut Strangers> {
        self.body.as_mut()?.strangers.as_deref_mut()
    }

    /// Whether its initiator holds no role.
    fn is_of_stranger(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.of_stranger)
    }

    /// Counts one more observation.
    pub(super) fn count(&mut self, first: Timestamp, last: Timestamp) {
        if let Some(body) = &mut self.body {
            body.count(first, last);
        }
    }

    /// Cites frames, as far as there is room.
    pub(super) fn cite(&mut self, frames: impl IntoIterator<Item = FramePoint>) {
        if let Some(body) = &mut self.body {
            body.cite(frames);
        }
    }

    /// Adds what later flows came to; the numbers of its lines and phrases are those of the list that this one is of. What is not
    /// told of one of them is told of neither.
    fn add(&mut self, later: Draft, room: usize) -> usize {
        self.outcomes.merge(later.outcomes);
        match (&mut self.body, later.body) {
            (Some(body), Some(later)) => body.add(*later, room),
            (body, _) => {
                *body = None;
                0
            }
        }
    }

    /// One that stands for many strangers, of this one's.
    fn made_common(self, share: Share, lines: &Distinct<Box<str>>) -> Draft {
        let body = self.body.map(|body| Box::new(body.made_common(share, self.host, lines)));
        Draft { host: None, body, ..self }
    }

    /// What orders it among others. Of what is not told, so much that it stands behind all that is.
    fn rank<'r>(&'r self, stem: Option<&'r Stem>, phrases: &'r Distinct<Phrase>) -> Rank<'r> {
        let rules = phrases.get(self.phrase).map_or(&[][..], |phrase| &phrase.rules);
        let kind = stem.map(|stem| (stem.severity, stem.code));
        let Some(body) = &self.body else {
            return ((kind, false, self.host, None), None, (None, None, rules));
        };
        let common = body.strangers.is_some();
        match &body.about {
            About::Told(told) => (
                (Some((told.severity, told.code)), common, told.from.ip, told.to.ip),
                told.to.name.as_ref(),
                (told.to.port, told.to.proto, &told.rules),
            ),
            About::Flows(first) => {
                let (ip, port) = first.destination();
                let to = (first.share != Share::Code).then_some(first);
                (
                    (kind, common, (first.share == Share::Own).then_some(first.from), to.map(|_| ip)),
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
}

impl Body {
    fn of(about: About) -> Box<Body> {
        let (count, range) = match &about {
            About::Flows(_) => (0, None),
            About::Told(told) => (told.count, told.first_ts.zip(told.last_ts)),
        };
        Box::new(Body {
            about,
            count,
            range,
            evidence: Vec::new(),
            reach: None,
            details: Vec::new(),
            detailed: Vec::new(),
            stretch: 0,
            counted: 0,
            strangers: None,
            nameless: None,
            of_stranger: false,
            hidden: false,
        })
    }

    fn add(&mut self, later: Body, room: usize) -> usize {
        self.count += later.count;
        if let Some((first, last)) = later.range {
            self.widen(first, last);
        }
        self.cite_all(later.evidence);
        match (later.reach, &later.about) {
            (Some(more), _) => self.reach_further(|reach| reach.add(*more)),
            (None, About::Flows(first)) => self.reach(first.from, first.to, first.port),
            (None, About::Told(_)) => {}
        }
        later.nameless.into_iter().flat_map(|hosts| *hosts).for_each(|host| self.lacks_name(host));
        later.details.into_iter().for_each(|line| self.detail(line));
        match (&mut self.strangers, later.strangers) {
            (Some(own), Some(more)) => own.add(*more, room),
            _ => 0,
        }
    }

    fn made_common(mut self, share: Share, host: Option<IpAddr>, lines: &Distinct<Box<str>>) -> Body {
        if let About::Flows(first) = &mut self.about {
            first.share = share;
            let own = first.from.to_string();
            self.details.retain(|&line| {
                share != Share::Code && !lines.get(line).is_some_and(|line| line.contains(&own))
            });
        }
        match &mut self.reach {
            Some(reach) if share == Share::Destination => reach.forget_initiators(),
            reach => *reach = None,
        }
        let mut strangers = Box::<Strangers>::default();
        host.map(|host| strangers.insert(host, 1));
        Body { strangers: Some(strangers), of_stranger: false, ..self }
    }

    fn count(&mut self, first: Timestamp, last: Timestamp) {
        self.count += 1;
        self.widen(first, last);
    }

    fn widen(&mut self, first: Timestamp, last: Timestamp) {
        let (since, until) = self.range.unwrap_or((first, last));
        self.range = Some((since.min(first), until.max(last)));
    }

    /// Notes a host for whose flows a name is missing: of many the least, whichever comes first.
    #[inline(never)]
    fn lacks_name(&mut self, host: IpAddr) {
        let hosts = self.nameless.get_or_insert_default();
        if hosts.insert(host) && hosts.len() > MOST_NAMELESS {
            hosts.pop_last();
        }
    }

    /// Whether no details of a further flow are to be told; a flow of this stretch is counted already.
    fn has_told_enough(&self, share: Share) -> bool {
        let most = if share == Share::Own { MOST_TOLD } else { 1 };
        self.details.len() >= MOST_DETAILS || self.counted > most || share == Share::Code
    }

    /// Notes from where to where a flow goes.
    fn reach(&mut self, from: IpAddr, to: IpAddr, port: u16) {
        let About::Flows(first) = &self.about else { return };
        let same = first.to == to && first.port == port && (first.share != Share::Own || first.from == from);
        if !same {
            let own = (first.share == Share::Own).then_some(from);
            self.reach_further(|reach| reach.note(own, to, port));
        }
    }

    #[inline(never)]
    fn reach_further(&mut self, note: impl FnOnce(&mut Reach)) {
        let About::Flows(first) = &self.about else { return };
        if first.share == Share::Code {
            return;
        }
        let own = (first.share == Share::Own).then_some(first.from);
        let (to, port) = (first.to, first.port);
        let reach = self.reach.get_or_insert_with(|| {
            let mut reach = Box::<Reach>::default();
            reach.note(own, to, port);
            reach
        });
        note(reach);
    }

    /// Whether more frames would change nothing.
    fn is_cited(&self) -> bool {
        self.evidence.len() >= Finding::MOST_EVIDENCE
    }

    /// The first ones stay: the bound is on what is kept while there may be millions of flows.
    #[inline(never)]
    fn cite(&mut self, frames: impl IntoIterator<Item = FramePoint>) {
        self.cite_all(frames.into_iter().map(Cited::of));
    }

    fn cite_all(&mut self, frames: impl IntoIterator<Item = Cited>) {
        let frames = frames.into_iter();
        let room = Finding::MOST_EVIDENCE.saturating_sub(self.evidence.len());
        // Most findings are of one flow: a list that grows by doubling would be half empty. That of another one will be filled.
        let more = frames.size_hint().0.min(room);
        if self.evidence.capacity() - self.evidence.len() < more {
            self.evidence.reserve_exact(if self.evidence.is_empty() { more } else { room });
        }
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

    fn finish(self, stem: Option<&Stem>, phrase: u32, outcomes: OutcomeSet, words: &Words<'_>) -> Finding {
        let reach = self.reach.as_deref();
        let mut finding = match self.about {
            About::Told(told) => *told,
            About::Flows(first) => worded(first, reach, stem, phrase, words),
        };
        if self.hidden {
            finding.remedy = HIDDEN_REMEDY.into();
        }
        finding.count = self.count;
        (finding.first_ts, finding.last_ts) = self.range.unzip();
        finding.outcomes = outcomes.iter().collect();
        let by_itself = !finding.evidence.is_empty();
        let mut cited = self.evidence;
        cited.sort_by_key(|at| (words.rank_of.get(at.capture.index()).copied(), at.frame()));
        let frames = cited
            .into_iter()
            .map(|at| EvidenceFrame { capture: capture_name(words.captures, at.capture), frame: at.frame() });
        finding.evidence.extend(frames);
        if by_itself {
            // Some name their frames themselves.
            finding.evidence.sort_by_key(|at| (words.rank.get(&*at.capture).copied(), at.frame));
        }
        let beyond = reach.map(Reach::details).unwrap_or_default();
        let further = beyond.len() + usize::from(self.strangers.is_some());
        finding.details.reserve_exact(self.details.len() + further);
        finding.details.extend(
            self.details.iter().filter_map(|&line| words.lines.get(line)).map(|line| line.to_string()),
        );
        finding.details.extend(beyond);
        if let Some(strangers) = self.strangers {
            let least = if strangers.more { "at least " } else { "" };
            let number = strangers.len();
            let to = finding.title.split_once(" -> ").map_or("", |(_, to)| to);
            let addresses = if number == 1 { "address" } else { "addresses" };
            finding.title = format!("and {least}{number} more {addresses} -> {to}");
            let attempts = if finding.count == 1 { "attempt" } else { "attempts" };
            let most = if finding.to.ip.is_some() { MOST_STRANGERS } else { MOST_STRANGER_FINDINGS };
            let line = format!(
                "{} {attempts} from {least}{number} {addresses} without a role, beyond the first {most}, which have findings \
                 of their own",
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
    pub evidence: &'j Evidence<'j>,
    /// What its first name is told by.
    pub named_by: Option<FirstChain>,
    pub serial: u64,
    /// The host that began.
    pub host: IpAddr,
    pub accepted: Option<&'j Accepted>,
    pub case: &'j Case<'j>,
}

impl Judged<'_> {
    /// The ids of the initiator's roles, and of the responder's.
    pub(super) fn roles(&self) -> [Vec<String>; 2] {
        [self.ruling.from_roles, self.ruling.to_roles].map(|roles| roles.words(self.case.matrix))
    }

    /// Whether the host that began has further addresses.
    fn has_other_addresses(&self) -> bool {
        self.case.site.hosts().contains_key(&self.host)
    }
}

/// Frames cited for the names of one flow, so that its own are not crowded out.
const MOST_NAME_FRAMES: usize = 5;

/// Frames that prove something about a flow: where its names were learnt, then its own, each in the order in which they
/// were taken.
#[inline(never)]
fn collect_points(
    judged: &Judged<'_>,
    points: &mut Vec<FramePoint>,
    proofs: &mut Vec<(ProofKind, FramePoint)>,
) {
    points.clear();
    points.extend(judged.evidence.points());
    points.sort_unstable();
    points.truncate(MOST_NAME_FRAMES);
    judged.flow.proofs_into(proofs);
    points.extend(proofs.iter().map(|&(_, point)| point));
}

/// Codes, each once, in the order of their list: every flow has some or none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Codes(u32);

const _: () = assert!(Code::ALL.len() < u32::BITS as usize);

impl Codes {
    fn insert(&mut self, code: Code) {
        self.0 |= 1 << code as u32;
    }

    /// Adds those of another.
    pub(super) fn add(&mut self, others: Codes) {
        self.0 |= others.0;
    }

    /// Whether there is none.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Code> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let code = Code::ALL.get(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(*code)
        })
    }
}

/// The codes that a flow's row carries; `accepted` is the site's exception for it.
pub(super) fn codes_of(outcome: Outcome, ruling: &Ruling, accepted: Option<&Accepted>) -> Codes {
    let got_through = matches!(
        outcome,
        Outcome::Established | Outcome::Answered | Outcome::Midstream | Outcome::HalfOpen | Outcome::OneSided
    );
    let code = match (ruling.verdict, outcome.is_blocked()) {
        (Verdict::Documented, true) => Some(Code::DocumentedBlocked),
        (Verdict::Platform, true) => Some(Code::PlatformBlocked),
        (Verdict::Undocumented, _) if accepted.is_some_and(|accepted| !accepted.expired) => {
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
    let mut codes = Codes::default();
    code.into_iter().chain(ruling.issues.iter().map(of_issue)).for_each(|code| codes.insert(code));
    codes
}

/// The findings of one flow, by the codes that its row carries ([`codes_of`]). What few flows need is never inlined, so that what
/// all need stays in registers.
#[inline(always)]
pub(super) fn of_flow(findings: &mut Findings, judged: &Judged<'_>, codes: Codes, kinds: &mut Vec<Kind>) {
    let (flow, ruling) = (judged.flow, judged.ruling);
    for code in codes.iter() {
        let severity = severity_of(code, ruling);
        let known = kinds.iter().position(|kind| (kind.code, kind.severity) == (code, severity));
        let known = known.unwrap_or_else(|| new_kind(findings, judged, (code, severity), kinds));
        let Some(kind) = kinds.get_mut(known) else { continue };
        let (place, share) = if ruling.from_roles.is_empty() {
            findings.draft_of_stranger(kind.stem, code, judged)
        } else {
            let host = (!code.is_per_role()).then_some(judged.host);
            let place = match kind.last {
                Some((last, place)) if last == host => place,
                _ => findings.draft_of_flow(kind.stem, host, code, judged),
            };
            kind.last = Some((host, place));
            (place, Share::Own)
        };
        let Findings { drafts, lines, hasher, points, proofs, stretch, .. } = &mut *findings;
        let draft = &mut drafts[place];
        draft.outcomes.insert(flow.outcome);
        let Some(body) = &mut draft.body else { continue };
        body.count(flow.first_ts, flow.last_ts);
        body.counted = if body.stretch == *stretch { body.counted.saturating_add(1) } else { 1 };
        body.stretch = *stretch;
        if !body.is_cited() {
            collect_points(judged, points, proofs);
            body.cite(points.iter().copied());
        }
        body.reach(flow.from.ip, flow.to.ip, flow.to.port);
        if code == Code::Undetermined && ruling.missing == Some(Missing::Name) {
            body.lacks_name(judged.host);
        }
        if !body.has_told_enough(share) {
            add_details(body, kind, judged, share, lines, hasher);
        }
    }
}

/// How grave a code is for flows of a ruling.
fn severity_of(code: Code, ruling: &Ruling) -> Severity {
    let alias = || ruling.nearest.as_ref().is_some_and(|nearest| nearest.differs == Differs::Alias);
    match code {
        Code::UnexpectedTraffic if alias() => Severity::Medium,
        code => code.severity(),
    }
}

/// The place of what is known of findings of a code, of which nothing was known yet.
#[cold]
#[inline(never)]
fn new_kind(
    findings: &mut Findings,
    judged: &Judged<'_>,
    (code, severity): (Code, Severity),
    kinds: &mut Vec<Kind>,
) -> usize {
    let stem = findings.stem(stem_of(judged, code, severity, code.is_per_role()));
    kinds.push(Kind { severity, stem, ..Kind::of(code) });
    kinds.len() - 1
}

fn stem_of(judged: &Judged<'_>, code: Code, severity: Severity, folded: bool) -> Stem {
    let ruling = judged.ruling;
    let name = judged.evidence.first_name().map(ToString::to_string);
    let (ip, port) = destination(judged);
    let to = name.unwrap_or_else(|| ip.to_string());
    let folded_to = || {
        let [from_roles, _] = judged.roles();
        format!("{} {to} {:?}", from_roles.join("+"), ruling.missing)
    };
    Stem {
        code,
        severity,
        to: if folded { folded_to() } else { to },
        port: (!folded).then_some(port),
        proto: Some(judged.flow.proto),
        rules: if folded { rules_of(ruling).to_vec() } else { Vec::new() },
    }
}

impl Kind {
    /// Of a code, before anything is known.
    pub(super) fn of(code: Code) -> Kind {
        Kind { code, severity: code.severity(), stem: 0, last: None, details: Vec::new() }
    }

    /// Where the finding of the flow before is, among all.
    pub(super) fn last_place(&self) -> Option<usize> {
        self.last.map(|(_, place)| place)
    }

    /// The numbers of the details of a flow that tell no address.
    fn details(&mut self, wording: Wording, judged: &Judged<'_>, known: &mut Distinct<Box<str>>) -> &[u32] {
        let Kind { code, details: all, .. } = self;
        let place = all.iter().position(|(of, _)| *of == wording).unwrap_or_else(|| {
            if all.len() >= MOST_WORDINGS {
                all.clear();
            }
            let lines = details(*code, judged).into_iter().map(|line| line_number(known, line));
            all.push((wording, lines.collect()));
            all.len() - 1
        });
        all.get(place).map_or(&[], |(_, lines)| lines)
    }
}

pub(super) fn rules_of(ruling: &Ruling) -> &[String] {
    if ruling.rules.is_empty() { &ruling.possible } else { &ruling.rules }
}

/// Adds the details of a flow, unless a flow with the same ones was there before.
#[inline(never)]
fn add_details(
    body: &mut Body,
    kind: &mut Kind,
    judged: &Judged<'_>,
    share: Share,
    known: &mut Distinct<Box<str>>,
    hasher: &RandomState,
) {
    let (code, common) = (kind.code, share != Share::Own);
    let flow = judged.flow;
    let wording = judged.named_by.map(|named_by| Wording {
        named: Named::of(named_by, judged.evidence),
        accepted: judged.accepted.map(|accepted| (accepted.entry, accepted.expired)),
        reset_ttl_differs: code == Code::DocumentedBlocked && flow.reset_ttl_differs(),
        icmp: flow.icmp,
    });
    if let Some(wording) = wording {
        if !common && !tells_addresses(code, judged) {
            kind.details(wording, judged, known).iter().for_each(|&line| body.detail(line));
            return;
        }
        let detailed = Detailed { ruling: judged.serial, from: flow.from.ip, to: flow.to.ip, wording };
        let detailed = hasher.hash_one(detailed);
        if body.detailed.contains(&detailed) {
            return;
        }
        if body.detailed.len() < MOST_DETAILED {
            if body.detailed.len() == body.detailed.capacity() {
                body.detailed.reserve_exact(body.detailed.len().max(1));
            }
            body.detailed.push(detailed);
        }
    }
    // What is said of all strangers names none of them.
    let own = common.then(|| flow.from.ip.to_string());
    for line in details(code, judged) {
        if own.as_ref().is_none_or(|own| !line.contains(own)) {
            body.detail(line_number(known, line));
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
pub(super) fn destination(judged: &Judged<'_>) -> (IpAddr, u16) {
    match &judged.ruling.target {
        Some(target) => (target.ip.unwrap_or(judged.flow.to.ip), target.port),
        None => (judged.flow.to.ip, judged.flow.to.port),
    }
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
        assert!(size_of::<Draft>() <= 40, "{}", size_of::<Draft>());
        assert!(size_of::<Body>() <= 232, "{}", size_of::<Body>());
        assert_eq!(size_of::<Cited>(), 12);
        for frame in [0, 1, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
            assert_eq!(Cited::of(FramePoint { frame, ..FramePoint::default() }).frame(), frame);
        }
    }

    #[test]
    fn of_many_hosts_that_lack_a_name_the_least_are_known_in_whatever_order_they_come() {
        let host = |n: u32| IpAddr::V4(n.into());
        let least: BTreeSet<IpAddr> = (0..MOST_NAMELESS as u32).map(host).collect();
        for step in [1, 7, 19] {
            let body =
                || Body::of(About::Told(Box::new(note(Code::Undetermined, String::new(), Vec::new()))));
            let (mut whole, mut first, mut second) = (body(), body(), body());
            for n in (0..20).map(|n| n * step % 20) {
                whole.lacks_name(host(n));
                if n % 3 == 0 { &mut first } else { &mut second }.lacks_name(host(n));
            }
            first.add(*second, 0);
            for body in [whole, first] {
                assert_eq!(body.nameless.as_deref(), Some(&least), "{step}");
            }
        }
    }

    #[test]
    fn codes_stand_in_the_order_of_their_list_each_once() {
        let mut codes = Codes::default();
        assert_eq!(codes.iter().count(), 0);
        for (place, &code) in Code::ALL.iter().enumerate().rev() {
            assert_eq!(code as usize, place);
            (0..2).for_each(|_| codes.insert(code));
        }
        assert!(codes.iter().eq(Code::ALL.iter().copied()) && codes.iter().is_sorted());
    }

    #[test]
    fn a_line_of_details_is_kept_once() {
        let mut lines: Distinct<Box<str>> = Distinct::default();
        let numbers: Vec<u32> =
            (0..1_000).map(|n| line_number(&mut lines, format!("line {}", n % 10))).collect();
        assert_eq!(lines.values().len(), 10);
        assert!(
            numbers
                .iter()
                .enumerate()
                .all(|(n, &at)| lines.get(at).is_some_and(|line| **line == format!("line {}", n % 10)))
        );
    }
}
