//! Judged flows, DNS evidence and captures to findings. SEMANTICS section 5.

use super::circumstances::{Evidence, FirstChain};
use super::classify::{Issue, Ruling};
use super::coverage::OutcomeSet;
use super::row::{Differs, NameEvidenceSource};
use crate::audit::{CaptureSummary, Code, EvidenceFrame, Finding, Grade, Missing, Party, Severity, Verdict};
use crate::flow::{Flow, Outcome, capture_name};
use crate::model::{CaptureId, DomainName, FramePoint, Timestamp, Transport};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet, HashTable};
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
pub(super) type StemId = usize;

/// A finding while it grows.
pub(super) struct Draft {
    stem: StemId,
    host: Option<IpAddr>,
    pub finding: Finding,
    /// The first ones, each once; what is counted comes in order of time.
    evidence: Vec<Cited>,
    outcomes: OutcomeSet,
    /// The destination's addresses.
    hosts: Hosts,
    /// Flows whose details are in already: the first one, and further ones.
    detailed: Option<Detailed>,
    more_detailed: Vec<Detailed>,
    /// For the one that stands for all strangers beyond [`MOST_STRANGERS`].
    strangers: Option<Box<Strangers>>,
    /// Hosts for whose flows a name is missing.
    nameless: BTreeSet<IpAddr>,
    /// Whether its initiator holds no role.
    of_stranger: bool,
}

/// A frame that a finding cites.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cited {
    capture: CaptureId,
    frame: u64,
}

/// Addresses, mostly one.
#[derive(Default)]
struct Hosts {
    last: Option<IpAddr>,
    /// All of them, once there are two.
    all: BTreeSet<IpAddr>,
}

impl Hosts {
    fn insert(&mut self, ip: IpAddr) {
        match self.last.replace(ip) {
            None => {}
            Some(last) if last == ip => {}
            Some(last) => self.all.extend([last, ip]),
        }
    }

    fn add(&mut self, others: Hosts) {
        others.last.into_iter().chain(others.all).for_each(|ip| self.insert(ip));
    }
}

/// All that the details of a flow depend on.
#[derive(Clone, Copy, PartialEq)]
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
#[derive(Clone, Copy, PartialEq)]
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
const MOST_DETAILED: usize = 8;

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
pub(super) struct Findings<'a> {
    stems: Vec<Stem>,
    /// By stem.
    stem_of: HashTable<StemId>,
    hasher: RandomState,
    drafts: Vec<Draft>,
    draft_of: HashMap<(StemId, Option<IpAddr>), usize, RandomState>,
    /// By stem: how many initiators without a role have findings of their own, and the draft for all others.
    strangers: Vec<(usize, Option<usize>)>,
    /// The same by code, whatever the destination.
    crowds: Vec<((Code, Severity), usize, Option<usize>)>,
    distinct: usize,
    captures: &'a [Arc<str>],
}

impl<'a> Findings<'a> {
    pub(super) fn new(captures: &'a [Arc<str>]) -> Self {
        Findings {
            stems: Vec::new(),
            stem_of: HashTable::new(),
            hasher: RandomState::default(),
            drafts: Vec::new(),
            draft_of: HashMap::default(),
            strangers: Vec::new(),
            crowds: Vec::new(),
            distinct: 0,
            captures,
        }
    }

    /// The number of a stem.
    pub(super) fn stem(&mut self, stem: Stem) -> StemId {
        let Findings { stems, stem_of, hasher, .. } = self;
        let hash = hasher.hash_one(&stem);
        if let Some(&known) = stem_of.find(hash, |&id| stems.get(id) == Some(&stem)) {
            return known;
        }
        let id = stems.len();
        stems.push(stem);
        stem_of.insert_unique(hash, id, |&id| stems.get(id).map_or(0, |stem| hasher.hash_one(stem)));
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
        let drafts = &mut self.drafts;
        let place = *self.draft_of.entry((stem, host)).or_insert_with(|| {
            drafts.push(Draft::new(stem, host, make()));
            drafts.len() - 1
        });
        &mut drafts[place]
    }

    /// The finding of a stem for an initiator that holds no role: its own, or a common one beyond [`MOST_STRANGERS`] of the
    /// stem and [`MOST_STRANGER_FINDINGS`] of the code.
    fn draft_of_stranger(
        &mut self,
        stem: StemId,
        host: IpAddr,
        make: impl FnOnce() -> Finding,
    ) -> (&mut Draft, Share) {
        if let Some(&place) = self.draft_of.get(&(stem, Some(host))) {
            return (&mut self.drafts[place], Share::Own);
        }
        let (own, of_stem) = &mut self.strangers[stem];
        let (common, share) = if *own >= MOST_STRANGERS {
            (of_stem, Share::Destination)
        } else {
            let place = self.crowd(stem);
            let (own, _) = &mut self.strangers[stem];
            let (_, count, of_code) = &mut self.crowds[place];
            if *count < MOST_STRANGER_FINDINGS {
                (*own, *count) = (*own + 1, *count + 1);
                let draft = self.draft(stem, Some(host), make);
                draft.of_stranger = true;
                return (draft, Share::Own);
            }
            (of_code, Share::Code)
        };
        let drafts = &mut self.drafts;
        let place = *common.get_or_insert_with(|| {
            let mut draft = Draft::new(stem, None, make());
            draft.finding.from = Party::default();
            if share == Share::Code {
                (draft.finding.to, draft.finding.display_filter) = (Party::default(), None);
                draft.finding.title = " -> further destinations and ports".to_owned();
            }
            draft.strangers = Some(Box::default());
            drafts.push(draft);
            drafts.len() - 1
        });
        let draft = &mut drafts[place];
        if let Some(strangers) = &mut draft.strangers {
            self.distinct += strangers.insert(host, MOST_DISTINCT.saturating_sub(self.distinct));
        }
        (draft, share)
    }

    pub(super) fn frame(&self, point: FramePoint) -> EvidenceFrame {
        frame(self.captures, point)
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
        let evidence = &mut draft.finding.evidence;
        for frame in frames {
            if evidence.len() < Finding::MOST_EVIDENCE && !evidence.contains(&frame) {
                evidence.push(frame);
            }
        }
        outcomes.into_iter().for_each(|outcome| draft.outcomes.insert(outcome));
    }

    /// Adds what later flows came to. Strangers that were not met before have findings of their own as far as there is room.
    pub(super) fn absorb(&mut self, later: Findings<'a>) {
        let Findings { stems, drafts, strangers, crowds, .. } = later;
        let stem_of: Vec<StemId> = stems.into_iter().map(|stem| self.stem(stem)).collect();
        let of_stem: HashSet<usize, RandomState> =
            strangers.iter().filter_map(|&(_, common)| common).collect();
        let of_code: HashSet<usize, RandomState> = crowds.iter().filter_map(|&(.., common)| common).collect();
        for (place, draft) in drafts.into_iter().enumerate() {
            let Some(&stem) = stem_of.get(draft.stem) else { continue };
            let draft = Draft { stem, ..draft };
            if of_stem.contains(&place) {
                self.add_common(draft, Share::Destination);
            } else if of_code.contains(&place) {
                self.add_common(draft, Share::Code);
            } else if let Some(&known) = self.draft_of.get(&(stem, draft.host)) {
                self.drafts[known].add(draft, 0);
            } else if !draft.of_stranger {
                self.adopt(draft);
            } else {
                let own = self.strangers[stem].0 < MOST_STRANGERS;
                let crowd = self.crowd(stem);
                if !own {
                    self.add_common(draft.made_common(Share::Destination), Share::Destination);
                } else if self.crowds[crowd].1 >= MOST_STRANGER_FINDINGS {
                    self.add_common(draft.made_common(Share::Code), Share::Code);
                } else {
                    self.strangers[stem].0 += 1;
                    self.crowds[crowd].1 += 1;
                    self.adopt(draft);
                }
            }
        }
    }

    fn adopt(&mut self, draft: Draft) {
        self.draft_of.insert((draft.stem, draft.host), self.drafts.len());
        self.drafts.push(draft);
    }

    /// Adds one that stands for many strangers to that of its kind, if there is one.
    fn add_common(&mut self, draft: Draft, share: Share) {
        let crowd = self.crowd(draft.stem);
        let (room, new) = (MOST_DISTINCT.saturating_sub(self.distinct), self.drafts.len());
        let common = match share {
            Share::Code => &mut self.crowds[crowd].2,
            Share::Destination | Share::Own => &mut self.strangers[draft.stem].1,
        };
        let known = *common.get_or_insert(new);
        match self.drafts.get_mut(known) {
            Some(known) => self.distinct += known.add(draft, room),
            None => {
                self.distinct += draft.strangers.as_ref().map_or(0, |strangers| strangers.len());
                self.drafts.push(draft);
            }
        }
    }

    /// The place of the crowd that strangers of a stem belong to.
    fn crowd(&mut self, stem: StemId) -> usize {
        let code = (self.stems[stem].code, self.stems[stem].severity);
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
            let hosts = std::mem::take(&mut draft.nameless);
            for why in hosts.iter().filter_map(|host| reasons.get(host)) {
                draft.detail(why.clone());
                draft.finding.remedy = HIDDEN_REMEDY.into();
            }
        }
    }

    /// All findings, most severe first, then by code, initiator, destination, port and transport; of one code those that
    /// stand for many strangers last.
    pub(super) fn finish(self) -> Vec<Finding> {
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
            .filter_map(|draft| self.strangers.get(draft.stem)?.1.zip(draft.host))
            .collect();
        for (common, host) in own {
            if let Some(strangers) = drafts.get_mut(common).and_then(|draft| draft.strangers.as_mut()) {
                strangers.remove(host);
            }
        }
        // What is equal in all that orders findings keeps this order.
        drafts.sort_by(|a, b| {
            let key = |draft: &Draft| {
                let stem = stems.get(draft.stem);
                (stem.map(|stem| (stem.code, stem.severity)), draft.host)
            };
            let rest = |draft: &Draft| {
                stems.get(draft.stem).map(|stem| (&stem.to, stem.port, stem.proto, &stem.rules))
            };
            key(a).cmp(&key(b)).then_with(|| rest(a).cmp(&rest(b)))
        });
        drafts.sort_by(|a, b| {
            let key = |draft: &Draft| {
                let finding = &draft.finding;
                let common = draft.strangers.is_some();
                (finding.severity, finding.code, common, finding.from.ip, finding.to.ip)
            };
            let (a, b, by_key) = (&a.finding, &b.finding, key(a).cmp(&key(b)));
            by_key
                .then_with(|| a.to.name.cmp(&b.to.name))
                .then_with(|| (a.to.port, a.to.proto, &a.rules).cmp(&(b.to.port, b.to.proto, &b.rules)))
        });
        drafts.into_iter().map(|draft| draft.finish(self.captures, &rank)).collect()
    }
}

fn frame(captures: &[Arc<str>], point: FramePoint) -> EvidenceFrame {
    EvidenceFrame { capture: capture_name(captures, point.capture), frame: point.frame }
}

impl Draft {
    fn new(stem: StemId, host: Option<IpAddr>, mut finding: Finding) -> Draft {
        // There may be a hundred thousand of them, and what is written piece by piece leaves room behind it.
        finding.title.shrink_to_fit();
        finding.display_filter.iter_mut().for_each(String::shrink_to_fit);
        Draft {
            stem,
            host,
            finding,
            evidence: Vec::new(),
            outcomes: OutcomeSet::default(),
            hosts: Hosts::default(),
            detailed: None,
            more_detailed: Vec::new(),
            strangers: None,
            nameless: BTreeSet::new(),
            of_stranger: false,
        }
    }

    /// Adds what later flows came to.
    fn add(&mut self, later: Draft, room: usize) -> usize {
        let (finding, more) = (&mut self.finding, later.finding);
        finding.count += more.count;
        finding.first_ts = finding.first_ts.into_iter().chain(more.first_ts).min();
        finding.last_ts = finding.last_ts.into_iter().chain(more.last_ts).max();
        self.cite_all(later.evidence);
        self.outcomes.merge(later.outcomes);
        self.hosts.add(later.hosts);
        self.nameless.extend(later.nameless);
        while self.nameless.len() > MOST_NAMELESS {
            self.nameless.pop_last();
        }
        more.details.into_iter().for_each(|line| self.detail(line));
        match (&mut self.strangers, later.strangers) {
            (Some(own), Some(more)) => own.add(*more, room),
            _ => 0,
        }
    }

    /// One that stands for many strangers, of this one's.
    fn made_common(mut self, share: Share) -> Draft {
        let own = self.finding.from.ip.map(|ip| ip.to_string()).unwrap_or_default();
        self.finding.details.retain(|line| !line.contains(&own));
        self.finding.from = Party::default();
        let to_filter = self.finding.display_filter.as_ref().and_then(|both| both.split_once(" && "));
        self.finding.display_filter = to_filter.map(|(_, to)| to.to_owned());
        if share == Share::Code {
            (self.finding.to, self.finding.display_filter) = (Party::default(), None);
            self.finding.title = " -> further destinations and ports".to_owned();
            self.finding.details.clear();
            self.hosts = Hosts::default();
        }
        let mut strangers = Box::<Strangers>::default();
        self.host.map(|host| strangers.insert(host, 1));
        Draft { host: None, strangers: Some(strangers), of_stranger: false, ..self }
    }

    /// Counts one more observation.
    pub(super) fn count(&mut self, first: Timestamp, last: Timestamp) {
        let finding = &mut self.finding;
        finding.count += 1;
        finding.first_ts = Some(finding.first_ts.map_or(first, |have| have.min(first)));
        finding.last_ts = Some(finding.last_ts.map_or(last, |have| have.max(last)));
    }

    /// Whether more frames would change nothing.
    fn is_cited(&self) -> bool {
        self.evidence.len() >= Finding::MOST_EVIDENCE
    }

    /// The first ones stay: the bound is on what is kept while there may be millions of flows.
    pub(super) fn cite(&mut self, frames: impl IntoIterator<Item = FramePoint>) {
        self.cite_all(frames.into_iter().map(|at| Cited { capture: at.capture, frame: at.frame }));
    }

    fn cite_all(&mut self, frames: impl IntoIterator<Item = Cited>) {
        for frame in frames {
            if !self.is_cited() && !self.evidence.contains(&frame) {
                self.evidence.push(frame);
            }
        }
    }

    fn detail(&mut self, mut line: String) {
        line.shrink_to_fit();
        if self.finding.details.len() < MOST_DETAILS && !self.finding.details.contains(&line) {
            self.finding.details.push(line);
        }
    }

    fn finish(self, captures: &[Arc<str>], rank: &BTreeMap<&str, usize>) -> Finding {
        let mut finding = self.finding;
        finding.outcomes = self.outcomes.iter().collect();
        let cited = self
            .evidence
            .into_iter()
            .map(|at| EvidenceFrame { capture: capture_name(captures, at.capture), frame: at.frame });
        // Some name their frames themselves.
        finding.evidence.extend(cited);
        finding.evidence.sort_by_key(|at| (rank.get(&*at.capture).copied(), at.frame));
        if self.hosts.all.len() > 1 {
            let shown: Vec<String> = self.hosts.all.iter().take(8).map(ToString::to_string).collect();
            let more = self.hosts.all.len() - shown.len();
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
    findings: &mut Findings<'_>,
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
        let make = || new_finding(code, severity, judged);
        let stranger = ruling.from_roles.is_empty();
        let (draft, share) = if stranger {
            findings.draft_of_stranger(stem, judged.host, make)
        } else {
            (findings.draft(stem, (!folded).then_some(judged.host), make), Share::Own)
        };
        draft.count(flow.first_ts, flow.last_ts);
        if share == Share::Destination && draft.finding.count == 1 {
            draft.finding.display_filter = Some(filter_to(flow, &address_filter(flow.to.ip)));
        }
        if !draft.is_cited() {
            draft.cite(points_of(judged));
        }
        if share != Share::Code {
            draft.hosts.insert(flow.to.ip);
        }
        draft.outcomes.insert(flow.outcome);
        if code == Code::Undetermined
            && ruling.missing == Some(Missing::Name)
            && draft.nameless.len() < MOST_NAMELESS
        {
            draft.nameless.insert(judged.host);
        }
        add_details(draft, code, judged, share);
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
        rules: if folded { rules_of(ruling) } else { Vec::new() },
    }
}

fn rules_of(ruling: &Ruling) -> Vec<String> {
    if ruling.rules.is_empty() { ruling.possible.clone() } else { ruling.rules.clone() }
}

/// Adds the details of a flow, unless a flow with the same ones was there before.
fn add_details(draft: &mut Draft, code: Code, judged: &Judged<'_>, share: Share) {
    let common = share != Share::Own;
    let full = draft.finding.details.len() >= MOST_DETAILS;
    let told = draft.finding.count > if common { 1 } else { MOST_TOLD };
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
        if draft.detailed == Some(detailed) || draft.more_detailed.contains(&detailed) {
            return;
        }
        if draft.detailed.is_none() {
            draft.detailed = Some(detailed);
        } else if draft.more_detailed.len() < MOST_DETAILED {
            draft.more_detailed.push(detailed);
        }
    }
    // What is said of all strangers names none of them.
    let own = common.then(|| flow.from.ip.to_string());
    for line in details(code, judged) {
        if own.as_ref().is_none_or(|own| !line.contains(own)) {
            draft.detail(line);
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

fn new_finding(code: Code, severity: Severity, judged: &Judged<'_>) -> Finding {
    let (flow, ruling) = (judged.flow, judged.ruling);
    let [from_roles, to_roles] = (judged.roles)();
    let name = judged.evidence.first_name().cloned();
    let from = who(&from_roles, flow.from.ip);
    let (ip, port_number) = destination(judged);
    let proxied = ruling.target.is_some();
    let to = match &name {
        Some(name) if proxied => format!("{name} (through {})", flow.to.ip),
        None if proxied => format!("{ip} (through {})", flow.to.ip),
        Some(name) => format!("{name} ({})", flow.to.ip),
        None => who(&to_roles, flow.to.ip),
    };
    let port = if flow.proto.has_ports() {
        format!("{} {}", flow.proto.to_string().to_uppercase(), port_number)
    } else {
        flow.proto.to_string().to_uppercase()
    };
    Finding {
        severity,
        from: Party { roles: from_roles, ip: Some(flow.from.ip), ..Party::default() },
        to: Party {
            roles: to_roles,
            ip: Some(ip),
            name,
            port: flow.proto.has_ports().then_some(port_number),
            proto: Some(flow.proto),
        },
        rules: rules_of(ruling),
        display_filter: Some(display_filter(flow)),
        remedy: remedy(code, judged),
        ..Finding::of(code, format!("{from} -> {to} {port}"))
    }
}

/// A filter for Wireshark that shows the conversation and the ICMP errors that quote it.
fn display_filter(flow: &Flow<'_>) -> String {
    format!("{} && {}", address_filter(flow.from.ip), filter_to(flow, &address_filter(flow.to.ip)))
}

fn address_filter(ip: IpAddr) -> String {
    format!("{} == {ip}", if ip.is_ipv4() { "ip.addr" } else { "ipv6.addr" })
}

fn filter_to(flow: &Flow<'_>, to: &str) -> String {
    match flow.proto {
        Transport::Tcp | Transport::Udp | Transport::Sctp => {
            format!("{to} && {}.port == {}", flow.proto, flow.to.port)
        }
        Transport::Icmp => format!("{to} && icmp"),
        Transport::Icmp6 => format!("{to} && icmpv6"),
        Transport::Other(number) if flow.from.ip.is_ipv4() => format!("{to} && ip.proto == {number}"),
        Transport::Other(number) => format!("{to} && ipv6.nxt == {number}"),
    }
}

fn remedy(code: Code, judged: &Judged<'_>) -> Cow<'static, str> {
    use crate::audit::Missing;
    let row = judged.ruling;
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
            let kind = match judged.flow.outcome {
                Outcome::Filtered => "nothing answers: a packet filter drops it, or the host is down",
                Outcome::Refused => "the destination, or a firewall in its name, refuses it",
                Outcome::Prohibited => "a firewall says so by ICMP: see who sent it",
                Outcome::Unreachable => "a router says so by ICMP: see who sent it",
                Outcome::Cut => "the handshake passes and the first payload does not: an inspecting firewall",
                Outcome::TlsRefused => "TLS is refused: interception, or a missing certificate",
                Outcome::ProxyDenied => "the proxy refuses it: see its rules and its credentials",
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
pub(super) fn of_captures(findings: &mut Findings<'_>, inputs: &[CaptureSummary]) {
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
