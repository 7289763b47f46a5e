//! Verdicts already found, by all that they rest on.

use super::circumstances::{Circumstances, Evidence, FirstChain, Rare};
use super::classify::{Classifier, Ruling};
use super::findings::Kind;
use super::matches::{ClassNumber, SameNames};
use super::row::Nearest;
use crate::model::{DomainName, Transport, address_bits};
use crate::names::{ChainNumber, Ledger, Reading};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet, HashTable};
use std::hash::BuildHasher;
use std::sync::Arc;

/// Rulings remembered: beyond, all are forgotten and found again, which costs time and changes nothing. A site knows
/// hundreds of (role, destination, port); the rest comes from captures and is not ours to bound otherwise. About 1 KiB each.
const MOST_RULINGS: usize = 1 << 15;

/// First names and ports of one ruling of which it is remembered where their flows are counted: beyond, all are forgotten.
const MOST_LINES: usize = 1 << 12;

/// Chains of which no two alike are written into a key: beyond, the same may stand there again.
const MOST_APART: usize = 64;

/// Rulings from which on their memory is asked for: fewer, as a flood makes, are in a cache anyway.
const LEAST_ASKED_FOR: usize = 256;

/// Flows that are best judged together, so that what they need of memory is asked for ahead, and the instructions of each step
/// are fetched once for all of them: 32. Misses of a first-level cache for instructions in the first 400,000 packets of W2, of all
/// of an audit (cachegrind, 32 KiB): 15.4 million with 8, 11.1 with 16, 8.6 with 32; of one for data 17.2, 18.0, 19.5.
pub const JUDGED_AT_ONCE: usize = 32;

/// Where circumstances met before are remembered by a short hash of what parts most of them: 8,192 places, 32 KiB.
const MOST_MET: usize = 1 << 13;

/// A stretch of the rows, of which each has sums of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Stretch {
    /// Another one for each.
    pub number: u32,
    /// Another one for each run of stretches. What goes on from one stretch to the next is that of a run: see [`Judge::sums`].
    ///
    /// [`Judge::sums`]: super::judge::Judge::sums
    pub run: u32,
}

/// A ruling, and where its flows are counted.
#[derive(Debug)]
pub(super) struct Settled {
    pub ruling: Ruling,
    /// Differs from one ruling to the next, also of those forgotten.
    pub serial: u64,
    /// What the rows of its flows say of it, once there was one.
    words: Option<Box<RowWords>>,
    /// The stretch of the rows in whose sums the flows of what follows are counted; none where no flow was yet.
    stretch: Option<Stretch>,
    /// The set of rules that document its flows.
    pub rule_set: Option<usize>,
    /// Chains by which it is noted that the rules were exercised.
    pub noted: HashSet<ChainNumber, RandomState>,
    lines: Vec<Line>,
    line_of: HashMap<(FirstChain, u16), usize, RandomState>,
    /// Most flows have the first name and port of the one before.
    last: Option<((FirstChain, u16), usize)>,
    /// The line of the From x To table, where it is the same for all names.
    conversation: Option<usize>,
}

/// What a row says of a ruling: made once, and shared among the rows of its flows.
#[derive(Clone, Debug)]
pub(super) struct RowWords {
    pub initiator_roles: Arc<[String]>,
    pub responder_roles: Arc<[String]>,
    pub rules: Arc<[String]>,
    pub nearest: Option<Arc<Nearest>>,
}

impl RowWords {
    pub(super) fn of(classifier: &Classifier<'_>, ruling: &Ruling) -> RowWords {
        RowWords {
            initiator_roles: ruling.from_roles.words(classifier.matrix).into(),
            responder_roles: ruling.to_roles.words(classifier.matrix).into(),
            rules: ruling.rules.as_slice().into(),
            nearest: ruling.nearest.clone().map(Arc::new),
        }
    }
}

/// Where the flows of one ruling, first name and port are counted.
#[derive(Debug)]
pub(super) struct Line {
    /// The line of the From x To table; none before the first flow of a stretch.
    pub conversation: Option<usize>,
    /// The findings that they belong to, as far as there were any.
    pub findings: Vec<Kind>,
}

impl Settled {
    pub(super) fn new(ruling: Ruling, serial: u64) -> Settled {
        Settled {
            ruling,
            serial,
            words: None,
            stretch: None,
            rule_set: None,
            noted: HashSet::default(),
            lines: Vec::new(),
            line_of: HashMap::default(),
            last: None,
            conversation: None,
        }
    }

    /// Goes on to a stretch of the rows; `rule_set` is called where it is the first of a run.
    pub(super) fn enter(&mut self, stretch: Stretch, rule_set: impl FnOnce(&Ruling) -> Option<usize>) {
        // Nobody holds the place of a line here: flows at hand are given theirs once all of them have entered.
        if self.lines.len() >= MOST_LINES {
            self.lines.clear();
            self.line_of.clear();
            self.last = None;
        }
        if self.stretch == Some(stretch) {
            return;
        }
        // Every field is taken apart here, so that a new one cannot be forgotten.
        let Settled {
            ruling,
            serial: _,
            words: _,
            stretch: of,
            rule_set: set,
            noted,
            lines,
            line_of,
            last,
            conversation,
        } = self;
        let of_run = of.is_some_and(|of| of.run == stretch.run);
        *of = Some(stretch);
        if !of_run {
            *set = rule_set(ruling);
            noted.clear();
        }
        if of_run && !ruling.from_roles.is_empty() {
            lines.iter_mut().for_each(|line| line.conversation = None);
        } else {
            lines.clear();
            line_of.clear();
        }
        *last = None;
        *conversation = None;
    }

    /// The line of the From x To table of all its flows, where it is the same for all names and known.
    pub(super) fn common_conversation(&self) -> Option<usize> {
        self.conversation
    }

    /// The place of the line of a first name and port; `conversation` is asked for where it is not known. Without a name that
    /// tells it, always. It also says whether the conversation is the same for all names.
    pub(super) fn place(
        &mut self,
        name: Option<(FirstChain, u16)>,
        conversation: impl FnOnce(&Ruling) -> (usize, bool),
    ) -> usize {
        let known = match (name, self.last) {
            (Some(name), Some((last, place))) if name == last => return place,
            (Some(name), _) => self.line_of.get(&name).copied(),
            (None, _) => None,
        };
        // Of the same name only the findings tell one port from another.
        let last = self.last.filter(|((last, _), _)| name.is_some_and(|(name, _)| name == *last));
        let before = last.and_then(|(_, place)| self.lines.get(place)?.conversation);
        let place = known.unwrap_or_else(|| {
            self.lines.push(Line { conversation: None, findings: Vec::new() });
            let place = self.lines.len() - 1;
            name.map(|name| self.line_of.insert(name, place));
            place
        });
        if let Some(line) = self.lines.get_mut(place)
            && line.conversation.is_none()
        {
            line.conversation = before.or(self.conversation).or_else(|| {
                let (place, of_all) = conversation(&self.ruling);
                self.conversation = of_all.then_some(place);
                Some(place)
            });
        }
        self.last = name.map(|name| (name, place));
        place
    }

    /// The ruling, what rows say of it, and the line at a place that was just given, if one was.
    pub(super) fn line(
        &mut self,
        place: Option<usize>,
    ) -> (&Ruling, &mut Option<Box<RowWords>>, Option<&mut Line>) {
        let line = place.and_then(|place| self.lines.get_mut(place));
        (&self.ruling, &mut self.words, line)
    }
}

/// A chain, as far as a ruling can tell it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ChainKey {
    /// Where only what rules, baseline and site say of its names counts.
    Alike(ClassNumber),
    /// Where the names themselves do.
    Names(SameNames),
}

/// All that a ruling rests on. When a chain was told, and whether that was too late or too long ago, is no part of it.
#[derive(Debug)]
struct Key {
    around: Circumstances,
    /// Whether the address is one of one's own ([`Classifier::is_ours`]), which follows from the circumstances.
    ours: bool,
    /// The first of the chains, where no further memory is waited for: it alone tells most apart.
    first: Option<ChainKey>,
    chains: Box<[ChainKey]>,
    contested: bool,
    /// None where one of the chains holds it: they say it all.
    written: Option<DomainName>,
    is_written: bool,
    announced: bool,
    unsolicited: bool,
    elsewhere: bool,
    rare: Option<Box<Rare>>,
}

impl Key {
    fn of(around: &Circumstances, ours: bool, evidence: &Evidence<'_>, chains: &[ChainKey]) -> Key {
        // Every field is taken apart here, so that a new one cannot be forgotten.
        let Evidence { readings, written, announced, corroborated, unsolicited, elsewhere, rare } = evidence;
        Key {
            around: *around,
            ours,
            first: chains.first().copied(),
            chains: chains.into(),
            contested: Ledger::contested(readings),
            written: written.clone().filter(|_| !corroborated),
            is_written: written.is_some(),
            announced: *announced,
            unsolicited: *unsolicited,
            elsewhere: *elsewhere,
            rare: rare.clone(),
        }
    }

    fn is(&self, around: &Circumstances, evidence: &Evidence<'_>, chains: &[ChainKey]) -> bool {
        self.around == *around && self.rests_on(evidence, chains)
    }

    /// Whether all beside the circumstances is the same.
    fn rests_on(&self, evidence: &Evidence<'_>, chains: &[ChainKey]) -> bool {
        let Key {
            around: _,
            ours: _,
            first,
            chains: told,
            contested,
            written,
            is_written,
            announced,
            unsolicited,
            elsewhere,
            rare,
        } = self;
        let other = evidence.written.as_ref();
        (*first, told.len()) == (chains.first().copied(), chains.len())
            && (chains.len() < 2 || **told == *chains)
            && *contested == Ledger::contested(&evidence.readings)
            && *is_written == other.is_some()
            && written.as_ref() == other.filter(|_| !evidence.corroborated)
            && *rare == evidence.rare
            && (announced, unsolicited, elsewhere)
                == (&evidence.announced, &evidence.unsolicited, &evidence.elsewhere)
    }

    fn hash(&self, hasher: &RandomState) -> u64 {
        hash_of(hasher, &self.around, &self.chains, self.written.as_ref(), self.rare.as_deref())
    }
}

/// Of less than is compared: what parts most is enough, and this is asked of every flow.
fn hash_of(
    hasher: &RandomState,
    around: &Circumstances,
    chains: &[ChainKey],
    written: Option<&DomainName>,
    rare: Option<&Rare>,
) -> u64 {
    let target = rare.and_then(|rare| rare.target.as_ref());
    if chains.is_empty() && written.is_none() && target.is_none() {
        return hasher.hash_one(around);
    }
    hasher.hash_one((around, chains, written, target))
}

/// The slot for circumstances in [`Memo::met`], by all that parts them. Whoever makes all of them meet in one makes them be looked
/// up as if there were none.
#[inline]
fn slot_of(around: &Circumstances) -> usize {
    let Circumstances { port: _, alike, to, proto, from, reversed_by, app, telling } = *around;
    let to = address_bits(to);
    let few = u64::from(alike.number()) << 32
        ^ u64::from(from.kind()) << 16
        ^ u64::from(reversed_by.is_some()) << 15
        ^ app.map_or(0, |app| 1 + app as u64) << 10
        ^ (telling as u64) << 8
        // Most are of TCP; the numbers of all are told apart by many more steps.
        ^ if proto == Transport::Tcp { 6 } else { u64::from(proto.number()) };
    // Products with odd numbers spread the bits upwards; the first is that of Fibonacci hashing.
    let ends = (to as u64 ^ (to >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((ends ^ few).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 40) as usize % MOST_MET
}

/// Rulings by what they rest on.
pub(super) struct Memo {
    limit: usize,
    entries: Vec<(Key, Settled)>,
    table: HashTable<usize>,
    hasher: RandomState,
    /// Where the ruling on the last flow of such circumstances stands, by [`slot_of`]: mostly the next has the same.
    met: Vec<u32>,
    /// Those of the flow at hand.
    chains: Vec<ChainKey>,
}

impl Default for Memo {
    fn default() -> Self {
        Memo {
            limit: MOST_RULINGS,
            entries: Vec::new(),
            table: HashTable::new(),
            hasher: RandomState::default(),
            met: vec![0; MOST_MET],
            chains: Vec::new(),
        }
    }
}

impl Memo {
    /// Sees to it that the places of so many rulings stay theirs until it is asked again.
    pub(super) fn make_room(&mut self, rulings: usize) {
        if self.entries.len() + rulings > self.limit {
            self.entries.clear();
            self.table.clear();
        }
    }

    /// The ruling at a place.
    #[inline(always)]
    pub(super) fn settled(&mut self, place: usize) -> &mut Settled {
        &mut self.entries[place].1
    }

    /// The place of the ruling on flows of these circumstances; `settle` is called for each new one, for which
    /// [`Memo::make_room`] has made room.
    pub(super) fn place(
        &mut self,
        classifier: &Classifier<'_>,
        around: &Circumstances,
        evidence: &Evidence<'_>,
        settle: impl FnOnce(Ruling) -> Settled,
    ) -> usize {
        let Memo { limit: _, entries, table, hasher, met, chains } = self;
        chains.clear();
        let slot = slot_of(around);
        let last = met[slot] as usize;
        let alike = entries.get(last).filter(|(key, _)| key.around == *around);
        let ours = alike.map_or_else(|| classifier.is_ours(around.to), |(key, _)| key.ours);
        if !evidence.readings.is_empty() {
            let by_name = Classifier::rests_on_names(evidence, ours);
            let chain = |reading: &Reading<'_>| match by_name {
                true => ChainKey::Names(classifier.matches.same_names(reading)),
                false => ChainKey::Alike(classifier.matches.class(reading)),
            };
            // No ruling depends on how many chains are alike, nor on what comes after the first of them.
            for one in evidence.readings.iter().map(chain) {
                if chains.len() >= MOST_APART || !chains.contains(&one) {
                    chains.push(one);
                }
            }
        }
        if alike.is_some_and(|(key, _)| key.rests_on(evidence, chains)) {
            return last;
        }
        let same =
            |&place: &usize| entries.get(place).is_some_and(|(key, _)| key.is(around, evidence, chains));
        let written = evidence.written.as_ref().filter(|_| !evidence.corroborated);
        let hash = hash_of(hasher, around, chains, written, evidence.rare.as_deref());
        let place = match table.find(hash, same) {
            Some(&place) => place,
            None => {
                let place = entries.len();
                let settled = settle(classifier.rule_on(around, evidence));
                entries.push((Key::of(around, ours, evidence, chains), settled));
                let again = |&place: &usize| entries.get(place).map_or(0, |(key, _)| key.hash(hasher));
                table.insert_unique(hash, place, again);
                place
            }
        };
        met[slot] = place as u32;
        place
    }

    /// Asks for the memory in which the rulings on flows of such circumstances probably stand.
    pub(super) fn ask_for<'c>(
        &self,
        arounds: impl Iterator<Item = &'c Circumstances>,
        ask_for_draft: impl FnMut(usize),
    ) {
        if self.entries.len() < LEAST_ASKED_FOR {
            return;
        }
        // What stands behind the next word is asked for once all of the words are on their way.
        let mut likely: [Option<&(Key, Settled)>; JUDGED_AT_ONCE] = [None; JUDGED_AT_ONCE];
        for (likely, around) in likely.iter_mut().zip(arounds) {
            *likely = self.entries.get(self.met[slot_of(around)] as usize);
            if let Some((key, settled)) = likely {
                std::hint::black_box((key.around.alike, key.first, key.is_written));
                std::hint::black_box((settled.ruling.verdict, settled.serial, settled.last, settled.stretch));
            }
        }
        let mut lines: [Option<&Line>; JUDGED_AT_ONCE] = [None; JUDGED_AT_ONCE];
        for (line, (_, settled)) in lines.iter_mut().zip(likely.into_iter().flatten()) {
            *line = settled.last.and_then(|(_, place)| settled.lines.get(place));
            if let Some(line) = line {
                std::hint::black_box((line.conversation, line.findings.len()));
            }
        }
        let mut drafts: [Option<usize>; JUDGED_AT_ONCE] = [None; JUDGED_AT_ONCE];
        for (draft, line) in drafts.iter_mut().zip(lines.into_iter().flatten()) {
            *draft = line.findings.first().and_then(Kind::last_place);
        }
        drafts.into_iter().flatten().for_each(ask_for_draft);
    }
}

#[cfg(test)]
mod tests {
    use super::super::circumstances::Telling;
    use super::*;
    use crate::audit::Code;
    use crate::flow::ConnectTarget;
    use crate::matrix::{Matrix, RoleSet, Site};
    use crate::model::FramePoint;

    impl Memo {
        /// One that remembers so many rulings.
        pub(in super::super) fn of_limit(limit: usize) -> Memo {
            Memo { limit, ..Memo::default() }
        }

        /// How many it remembers.
        pub(in super::super) fn len(&self) -> usize {
            self.entries.len()
        }

        /// The ruling on one flow.
        fn ruling(
            &mut self,
            classifier: &Classifier<'_>,
            around: &Circumstances,
            evidence: &Evidence<'_>,
            settle: impl FnOnce(Ruling) -> Settled,
        ) -> &mut Settled {
            self.make_room(1);
            let place = self.place(classifier, around, evidence, settle);
            self.settled(place)
        }
    }

    const SITE: &str = r#"
        [site]
        name = "s"
        virtual_network = ["10.1.0.0/16"]
        [roles]
        backup-appliance = ["10.1.0.4"]
        worker = ["10.1.1.0/24"]
        web-browser = ["10.3.0.0/16"]
    "#;

    /// What makes the names of a chain count for more than the rules that they fit.
    const PARTICULAR: &str = r#"
        [site]
        name = "s"
        virtual_network = ["10.1.0.0/16"]
        storage_accounts = ["own"]
        time_servers = ["time.example"]
        [mirrors]
        "security.ubuntu.com" = ["198.51.100.2"]
        [roles]
        backup-appliance = ["10.1.0.4"]
        worker = ["10.1.1.0/24"]
        smtp-server = ["www.example"]
    "#;

    /// What a classifier rests on.
    struct Rules {
        matrix: Matrix,
        site: Site,
        ledger: Ledger,
    }

    impl Rules {
        fn at(site: &str) -> Rules {
            let matrix = Matrix::builtin();
            let site = Site::parse(site, "site.toml", &matrix).unwrap();
            Rules { matrix, site, ledger: Ledger::default() }
        }

        fn classifier(&self) -> Classifier<'_> {
            Classifier::new(&self.matrix, &self.site, &self.ledger)
        }
    }

    fn settle(ruling: Ruling) -> Settled {
        Settled::new(ruling, 0)
    }

    fn reading(names: &[&str], (late, expired, contested): (bool, bool, bool)) -> Reading<'static> {
        Reading {
            names: names.iter().map(|name| name.parse::<DomainName>().unwrap()).collect(),
            chain: None,
            point: FramePoint::default(),
            expired,
            late,
            contested,
            salvaged: late,
        }
    }

    fn around(
        classifier: &Classifier<'_>,
        (from, to): (&str, &str),
        (proto, port): (Transport, u16),
        telling: Telling,
    ) -> Circumstances {
        Circumstances {
            from: classifier.surveyor.initiator(from.parse().unwrap()),
            to: to.parse().unwrap(),
            port,
            alike: classifier.alike(proto, port),
            proto,
            reversed_by: None,
            app: None,
            telling,
        }
    }

    /// Names alone and together, told in time and not, written and not.
    fn evidences() -> Vec<Evidence<'static>> {
        let chains: &[&[&str]] = &[
            &["own.blob.core.windows.net", "blob.ams.store.core.windows.net"],
            &["theirs.blob.core.windows.net"],
            &["others.blob.core.windows.net"],
            &["management.azure.com"],
            &["www.example"],
            &["www.example", "management.azure.com"],
            &["time.example"],
            &["mirrored.example"],
            &[],
        ];
        let flags = [(false, false, false), (true, false, false), (false, true, false), (false, false, true)];
        let mut readings: Vec<Vec<Reading<'_>>> = vec![Vec::new()];
        for (first, flags) in chains.iter().flat_map(|chain| flags.map(|flags| (chain, flags))) {
            readings.push(vec![reading(first, flags)]);
            readings.extend(
                chains
                    .iter()
                    .map(|second| vec![reading(first, flags), reading(second, (false, false, false))]),
            );
        }
        let mut evidences = Vec::new();
        for (at, readings) in readings.into_iter().enumerate() {
            let plain = Evidence { readings, ..Evidence::default() };
            let written: DomainName = ["www.example", "management.azure.com"][at % 2].parse().unwrap();
            let by_client = Evidence { written: Some(written), announced: at % 3 == 0, ..plain.clone() };
            evidences.push(Evidence { corroborated: true, ..by_client.clone() });
            evidences.push(Evidence { elsewhere: at % 5 == 0, ..by_client });
            evidences.push(Evidence { unsolicited: at % 7 == 0, ..plain.clone() });
            // What differs in one thing alone stands side by side, so that the one is looked for where the other was found.
            for name in ["www.example", "management.azure.com"] {
                let name = Some(name.parse().unwrap());
                let target = ConnectTarget { name, ip: None, port: 443, tunnel: true };
                let rare = Some(Box::new(Rare::of_target(target)));
                let through = Evidence { rare, ..plain.clone() };
                evidences.push(Evidence { announced: true, ..through.clone() });
                evidences.push(through);
            }
            for resolver in [[198, 51, 100, 53], [198, 51, 100, 54]] {
                let rare = Some(Box::new(Rare::of_untrusted(resolver.into(), None)));
                evidences.push(Evidence { rare, ..plain.clone() });
            }
            for name in ["own.blob.core.windows.net", "theirs.blob.core.windows.net"] {
                let rare = Some(Box::new(Rare { inner: Some(name.parse().unwrap()), ..Rare::default() }));
                evidences.push(Evidence { rare, ..plain.clone() });
            }
            evidences.push(plain);
        }
        evidences
    }

    #[test]
    fn a_ruling_remembered_or_forgotten_is_the_one_that_is_found_anew() {
        let rules = Rules::at(SITE);
        let classifier = rules.classifier();
        let hosts =
            ["10.1.0.4", "10.1.1.7", "10.1.1.8", "10.3.0.9", "198.51.100.1", "198.51.100.2", "127.0.0.1"];
        let mut memos = [Memo::default(), Memo::of_limit(3)];
        for round in 0..2 {
            for (from, to) in hosts.iter().flat_map(|from| hosts.map(|to| (from, to))) {
                for (port, telling) in [(443, Telling::Nothing), (443, Telling::Enough), (22, Telling::Few)] {
                    let around = around(&classifier, (from, to), (Transport::Tcp, port), telling);
                    let evidence = Evidence::default();
                    let anew = format!("{:?}", classifier.rule_on(&around, &evidence));
                    for memo in &mut memos {
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

    #[test]
    fn flows_of_more_or_fewer_chains_do_not_share_a_ruling() {
        let rules = Rules::at(SITE);
        let classifier = rules.classifier();
        let around =
            around(&classifier, ("10.1.0.4", "198.51.100.1"), (Transport::Tcp, 443), Telling::Enough);
        let (azure, login, other) = ("management.azure.com", "login.microsoftonline.com", "www.example");
        let chains: [&[&str]; 8] = [
            &[azure, login],
            &[azure],
            &[login, azure],
            &[],
            &[login],
            &[azure, other],
            &[other],
            &[other, azure],
        ];
        let mut memo = Memo::default();
        // Each after each other, so that all of them stand where the last ruling on such circumstances is looked for.
        let pairs = (0..chains.len()).flat_map(|first| (0..chains.len()).map(move |second| [first, second]));
        let (mut serials, mut last) = (vec![None; chains.len()], 0);
        for place in pairs.flatten() {
            let readings =
                chains[place].iter().map(|&name| reading(&[name], (false, false, false))).collect();
            let evidence = Evidence { readings, ..Evidence::default() };
            let known = memo.ruling(&classifier, &around, &evidence, |ruling| {
                last += 1;
                Settled::new(ruling, last)
            });
            let serial = *serials[place].get_or_insert(known.serial);
            assert_eq!(known.serial, serial, "{:?}", chains[place]);
        }
        serials.sort_unstable();
        serials.dedup();
        assert_eq!(serials.len(), chains.len());
    }

    #[test]
    fn in_another_stretch_of_the_rows_a_ruling_is_counted_from_the_beginning() {
        let rules = Rules::at(SITE);
        let classifier = rules.classifier();
        let around = around(&classifier, ("10.1.0.4", "10.1.1.7"), (Transport::Tcp, 443), Telling::Enough);
        let mut settled = settle(classifier.rule_on(&around, &Evidence::default()));
        let named_by = Evidence::default().first_chain().map(|chain| (chain, 443));
        let kind = || Kind::of(Code::UnexpectedTraffic);
        // The set of rules is that of a run.
        let stretches = [(0, 0, Some(3), 7), (1, 0, Some(3), 1), (4, 1, None, 0), (5, 2, Some(2), 2)];
        for of_roles in [true, false] {
            if !of_roles {
                settled.ruling.from_roles = RoleSet::default();
                settled.stretch = None;
            }
            let mut run_before = None;
            for (number, run, set, conversation) in stretches {
                let stretch = Stretch { number, run };
                settled.enter(stretch, |_| {
                    assert_ne!(run_before, Some(run), "it is known in this run");
                    set
                });
                let place = settled.place(named_by, |_| (conversation, false));
                for _ in 0..2 {
                    settled.enter(stretch, |_| panic!("it is known in this stretch"));
                    assert_eq!(settled.place(named_by, |_| panic!("so is its line")), place);
                }
                let (_, _, line) = settled.line(Some(place));
                let line = line.unwrap();
                assert_eq!(line.conversation, Some(conversation));
                // The findings of who holds a role are known as long as the run goes on.
                assert_eq!(line.findings.len(), usize::from(of_roles && run_before == Some(run)));
                line.findings = vec![kind()];
                assert_eq!(settled.rule_set, set);
                run_before = Some(run);
            }
        }
    }

    #[test]
    fn ports_that_no_rule_tells_apart_share_a_ruling_which_is_that_of_each() {
        let rules = Rules::at(SITE);
        let classifier = rules.classifier();
        let names: &[&[&str]] = &[&[], &["server.database.windows.net"], &["www.example"]];
        let ports = [0, 22, 53, 67, 80, 123, 443, 1432, 1433, 10_999, 11_000, 11_001, 11_999, 12_000, 65_535];
        let mut memo = Memo::default();
        let mut asked = 0;
        for (from, to) in ["10.1.0.4", "10.1.1.7", "198.51.100.9"]
            .into_iter()
            .flat_map(|from| ["198.51.100.1", "10.1.1.8", "168.63.129.16"].map(|to| (from, to)))
        {
            for (names, proto) in
                names.iter().flat_map(|names| [Transport::Tcp, Transport::Udp].map(|proto| (names, proto)))
            {
                let readings =
                    if names.is_empty() { Vec::new() } else { vec![reading(names, (false, false, false))] };
                let evidence = Evidence { readings, ..Evidence::default() };
                for port in ports {
                    let around = around(&classifier, (from, to), (proto, port), Telling::Enough);
                    let anew = format!("{:?}", classifier.rule_on(&around, &evidence));
                    let known = memo.ruling(&classifier, &around, &evidence, settle);
                    assert_eq!(
                        format!("{:?}", known.ruling),
                        anew,
                        "{from} -> {to} {proto} {port} {names:?}"
                    );
                    asked += 1;
                }
            }
        }
        assert!(memo.entries.len() * 3 < asked * 2, "{} of {asked}", memo.entries.len());
    }

    #[test]
    fn a_tunnel_in_which_a_hello_was_read_is_ruled_on_by_itself() {
        let rules = Rules::at(SITE);
        let classifier = rules.classifier();
        let around = around(&classifier, ("10.1.0.4", "198.51.100.1"), (Transport::Tcp, 80), Telling::Enough);
        let name = Some("security.ubuntu.com".parse().unwrap());
        let target = Some(ConnectTarget { name, ip: None, port: 80, tunnel: true });
        let mut memo = Memo::default();
        let told = [false, true, false].map(|announced| {
            let readings = vec![reading(&["security.ubuntu.com"], (false, false, false))];
            let evidence = Evidence {
                readings,
                announced,
                rare: target.clone().map(Rare::of_target).map(Box::new),
                ..Evidence::default()
            };
            let anew = format!("{:?}", classifier.rule_on(&around, &evidence));
            let known = memo.ruling(&classifier, &around, &evidence, settle);
            assert_eq!(format!("{:?}", known.ruling), anew, "{announced}");
            anew
        });
        assert_ne!(told[0], told[1]);
    }

    #[test]
    fn a_ruling_rests_on_what_its_names_fit_and_on_the_names_only_where_they_count() {
        let evidences = evidences();
        let mut shared = Vec::new();
        for site in [SITE, PARTICULAR] {
            let rules = Rules::at(site);
            let classifier = rules.classifier();
            let mut memo = Memo::default();
            let mut asked = 0;
            for (from, to) in ["10.1.0.4", "10.1.1.7", "198.51.100.9"].into_iter().flat_map(|from| {
                ["198.51.100.1", "198.51.100.2", "13.69.40.16", "10.1.1.8", "10.9.9.9"].map(|to| (from, to))
            }) {
                for (port, proto) in [(443, Transport::Tcp), (123, Transport::Udp)] {
                    let around = around(&classifier, (from, to), (proto, port), Telling::Enough);
                    for evidence in &evidences {
                        let anew = format!("{:?}", classifier.rule_on(&around, evidence));
                        let known = memo.ruling(&classifier, &around, evidence, settle);
                        assert_eq!(format!("{:?}", known.ruling), anew, "{from} -> {to} {port} {evidence:?}");
                        asked += 1;
                    }
                }
            }
            shared.push(asked / memo.entries.len());
        }
        assert!(shared.iter().all(|&times| times >= 2), "few rulings are remembered: {shared:?}");
    }
}
