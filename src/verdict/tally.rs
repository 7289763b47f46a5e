//! What all flows come to, counted one by one: nothing of a flow is kept.

use super::circumstances::Evidence;
use super::classify::{Classifier, Ruling};
use crate::audit::{Conversation, Grade, NamesQuality, TimeBucket, Timeline, Totals, Verdict};
use crate::flow::{ConnectTarget, DNS_HEAD_BYTES, Flow, HEAD_BYTES, Outcome};
use crate::model::{DomainName, NANOS_PER_SECOND, Timestamp, Transport};
use crate::names::dns;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Counts by verdict.
#[derive(Clone, Copy, Default, PartialEq)]
struct Verdicts([u64; Verdict::ALL.len()]);

impl Verdicts {
    fn count(&mut self, verdict: Verdict) {
        self.0[verdict as usize] += 1;
    }

    fn merge(&mut self, other: &Verdicts) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// Those that came.
    fn table(&self) -> BTreeMap<Verdict, u64> {
        Verdict::ALL.into_iter().zip(self.0).filter(|&(_, count)| count > 0).collect()
    }
}

/// Counts by outcome.
#[derive(Clone, Copy, Default)]
struct Outcomes([u64; Outcome::ALL.len()]);

impl Outcomes {
    fn count(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }

    fn merge(&mut self, other: &Outcomes) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// Those that came.
    fn table(&self) -> BTreeMap<Outcome, u64> {
        Outcome::ALL.into_iter().zip(self.0).filter(|&(_, count)| count > 0).collect()
    }
}

/// Most lines of the From x To table; what is beyond goes into one line `(others)`.
const MOST_CONVERSATIONS: usize = 500;

#[derive(Default)]
struct Line {
    flows: u64,
    bytes: u64,
    verdicts: Verdicts,
    outcomes: Outcomes,
}

/// Who talks to whom.
#[derive(Default)]
struct Conversations {
    places: HashMap<(String, String), usize, RandomState>,
    lines: Vec<Line>,
}

impl Conversations {
    /// The line of the flows of a ruling whose destination has this name; to be asked in the order of rows, since the first ones get lines of their own.
    fn place(
        &mut self,
        classifier: &Classifier<'_>,
        ruling: &Ruling,
        name: Option<&DomainName>,
        responder: IpAddr,
    ) -> (usize, bool) {
        let from = if ruling.from_roles.is_empty() {
            "(no role)".to_owned()
        } else {
            ruling.from_roles.words(classifier.matrix).join("+")
        };
        let to = match (ruling.verdict, ruling.rules.first()) {
            (Verdict::Documented, Some(rule)) => Some(classifier.rule_title(rule).to_owned()),
            (Verdict::Platform, Some(line)) => Some(line.clone()),
            _ if !ruling.to_roles.is_empty() => Some(ruling.to_roles.words(classifier.matrix).join("+")),
            (Verdict::OutOfScope, _) => Some("(out of scope)".to_owned()),
            _ => None,
        };
        let of_all = to.is_some();
        let to = to.unwrap_or_else(|| name.map_or_else(|| responder.to_string(), ToString::to_string));
        (self.number((from, to)), of_all)
    }

    fn number(&mut self, mut key: (String, String)) -> usize {
        if let Some(&known) = self.places.get(&key) {
            return known;
        }
        if self.places.len() >= MOST_CONVERSATIONS {
            key.1 = "(others)".to_owned();
        }
        *self.places.entry(key).or_insert_with(|| {
            self.lines.push(Line::default());
            self.lines.len() - 1
        })
    }

    /// Adds those of later flows, in the order in which they came.
    fn add(&mut self, later: Conversations) {
        let mut keys: Vec<_> = later.places.into_iter().collect();
        keys.sort_by_key(|&(_, place)| place);
        for ((key, _), other) in keys.into_iter().zip(later.lines) {
            let place = self.number(key);
            if let Some(line) = self.lines.get_mut(place) {
                line.flows += other.flows;
                line.bytes += other.bytes;
                line.verdicts.merge(&other.verdicts);
                line.outcomes.merge(&other.outcomes);
            }
        }
    }

    fn finish(self) -> Vec<Conversation> {
        let places: BTreeMap<(String, String), usize> = self.places.into_iter().collect();
        let lines = places.into_iter().filter_map(|((from, to), place)| {
            let line = self.lines.get(place)?;
            Some(Conversation {
                from,
                to,
                flows: line.flows,
                verdicts: line.verdicts.table(),
                outcomes: line.outcomes.table(),
                bytes: line.bytes,
            })
        });
        lines.collect()
    }
}

/// Lengths of a stretch of the timeline, seconds. Each divides the next, so that stretches can be joined when the range
/// grows.
const STEPS_S: [i64; 6] = [1, 10, 60, 600, 3_600, 86_400];

/// Stretches at the most, but for the longest ones.
const MOST_STRETCHES: i64 = 120;

/// When flows began: in the least stretches that fit the range seen so far.
#[derive(Default)]
struct Times {
    range: Option<(Timestamp, Timestamp)>,
    step: usize,
    stretches: HashMap<i64, (Verdicts, u64), RandomState>,
    /// What came since the stretch that begins there was last put among them: flows come in the order of time.
    open: (i64, Verdicts, u64),
}

impl Times {
    fn bucket_ns(&self) -> i64 {
        STEPS_S.get(self.step).unwrap_or(&86_400) * NANOS_PER_SECOND
    }

    fn count(&mut self, time: Timestamp, verdict: Verdict, blocked: bool) {
        self.widen(time, time);
        let bucket = self.bucket_ns();
        if time.0.checked_sub(self.open.0).is_none_or(|since| !(0..bucket).contains(&since)) {
            self.close();
            self.open.0 = time.0 - time.0.rem_euclid(bucket);
        }
        let (_, verdicts, blocked_here) = &mut self.open;
        verdicts.count(verdict);
        *blocked_here += u64::from(blocked);
    }

    /// Puts what came last among the stretches.
    fn close(&mut self) {
        let (begin, verdicts, blocked) = std::mem::take(&mut self.open);
        if verdicts != Verdicts::default() {
            let into = self.stretches.entry(begin - begin.rem_euclid(self.bucket_ns())).or_default();
            into.0.merge(&verdicts);
            into.1 += blocked;
        }
    }

    /// Makes the range hold two times, and its stretches as long as that asks for.
    fn widen(&mut self, from: Timestamp, to: Timestamp) {
        let (first, last) = self.range.map_or((from, to), |(first, last)| (first.min(from), last.max(to)));
        self.range = Some((first, last));
        while last.since(first) >= MOST_STRETCHES * self.bucket_ns() && self.step + 1 < STEPS_S.len() {
            self.close();
            self.step += 1;
            let bucket = self.bucket_ns();
            for (begin, (verdicts, blocked)) in std::mem::take(&mut self.stretches) {
                let into = self.stretches.entry(begin - begin.rem_euclid(bucket)).or_default();
                into.0.merge(&verdicts);
                into.1 += blocked;
            }
        }
    }

    /// Adds those of other flows.
    fn add(&mut self, mut other: Times) {
        let Some((first, last)) = other.range else { return };
        other.close();
        self.widen(first, last);
        let bucket = self.bucket_ns();
        for (begin, (verdicts, blocked)) in other.stretches {
            let into = self.stretches.entry(begin - begin.rem_euclid(bucket)).or_default();
            into.0.merge(&verdicts);
            into.1 += blocked;
        }
    }

    fn finish(mut self) -> Timeline {
        self.close();
        if self.range.is_none() {
            return Timeline::default();
        }
        let bucket_ns = self.bucket_ns();
        let stretches: BTreeMap<i64, (Verdicts, u64)> = self.stretches.into_iter().collect();
        let bucket = |(begin, (verdicts, blocked)): (i64, (Verdicts, u64))| TimeBucket {
            ts: Timestamp(begin),
            verdicts: verdicts.table(),
            blocked,
        };
        Timeline { bucket_ns, buckets: stretches.into_iter().map(bucket).collect() }
    }
}

/// Connections of audited machines that asked somebody, whom the site lists as no proxy, for another host.
#[derive(Default)]
pub(super) struct Elsewhere {
    /// By whom was asked: how many did, and for what the first. Those of the least addresses, so that they are the same however rows are
    /// parted.
    asked: BTreeMap<(IpAddr, u16), (u64, String)>,
    more: bool,
}

impl Elsewhere {
    /// Those that are kept apart, and those that are told: a scan may make any number of them.
    const MOST_KEPT: usize = 64;
    const MOST_TOLD: usize = 3;

    fn count(&mut self, flow: &Flow<'_>, evidence: &Evidence<'_>) {
        let own = |target: &&ConnectTarget| {
            let named = |name: &DomainName| {
                evidence.readings.iter().any(|reading| reading.names.iter().any(|known| known == name))
            };
            target.ip == Some(flow.to.ip) || target.name.as_ref().is_some_and(named)
        };
        let Some(target) = flow.proxy_target().filter(|target| !own(target)) else { return };
        let host = target.name.as_ref().map(ToString::to_string);
        let host = host.or_else(|| target.ip.map(|ip| ip.to_string())).unwrap_or_default();
        self.add((flow.to.ip, flow.to.port), 1, || format!("{host} port {}", target.port));
    }

    fn add(&mut self, to: (IpAddr, u16), count: u64, first: impl FnOnce() -> String) {
        self.asked.entry(to).or_insert_with(|| (0, first())).0 += count;
        if self.asked.len() > Self::MOST_KEPT {
            self.asked.pop_last();
            self.more = true;
        }
    }

    /// What the reader must know of them.
    pub(super) fn remark(&self) -> Option<String> {
        let told = self.asked.iter().take(Self::MOST_TOLD);
        let told: Vec<String> = told
            .map(|((ip, port), (count, first))| format!("{ip} port {port} for {first} ({count})"))
            .collect();
        let more = if self.more || self.asked.len() > Self::MOST_TOLD { ", ..." } else { "" };
        (!self.asked.is_empty()).then(|| {
            format!(
                "audited machines asked somebody whom the site does not list as http-proxy for other hosts: {}{more}. Whether it \
                 connected them there is not judged: list it under [roles] if it is a proxy",
                told.join(", ")
            )
        })
    }
}

/// Grades, and none at all.
const GRADES: [Option<Grade>; 6] = [
    Some(Grade::Site),
    Some(Grade::Corroborated),
    Some(Grade::Dns),
    Some(Grade::Tag),
    Some(Grade::ServerName),
    None,
];

/// Counts over all judged flows.
#[derive(Default)]
pub(super) struct Tally {
    /// Flows judged.
    pub flows: u64,
    /// TCP flows.
    pub tcp: u64,
    /// TCP flows of which one direction is seen.
    pub one_sided: u64,
    /// TCP flows of which the beginning is not seen.
    pub midstream: u64,
    verdicts: Verdicts,
    outcomes: Outcomes,
    conditional: u64,
    supplied: u64,
    grades: [u64; GRADES.len()],
    shared_addresses: u64,
    expired: u64,
    late: u64,
    encrypted_hellos: u64,
    /// Flows in which an audited machine takes part.
    audited: u64,
    /// Connections that asked a proxy, in absolute form, for more than is kept of their first bytes.
    requests_beyond: u64,
    /// TCP connections to port 53 with more messages than are read.
    dns_beyond: u64,
    pub elsewhere: Elsewhere,
    conversations: Conversations,
    times: Times,
}

impl Tally {
    /// The line of the From x To table for the flows of a ruling whose destination has this name, and whether that of
    /// others is the same.
    pub(super) fn conversation(
        &mut self,
        classifier: &Classifier<'_>,
        ruling: &Ruling,
        name: Option<&DomainName>,
        responder: IpAddr,
    ) -> (usize, bool) {
        self.conversations.place(classifier, ruling, name, responder)
    }

    #[inline(always)]
    pub(super) fn count(
        &mut self,
        flow: &Flow<'_>,
        ruling: &Ruling,
        evidence: &Evidence<'_>,
        conversation: Option<usize>,
    ) {
        self.flows += 1;
        if flow.proto == Transport::Tcp {
            self.tcp += 1;
            self.one_sided += u64::from(flow.outcome == Outcome::OneSided);
            self.midstream += u64::from(flow.outcome == Outcome::Midstream);
            if flow.to.port == dns::PORT && flow.bytes > DNS_HEAD_BYTES.into() {
                let (to, from) = flow.payload();
                self.dns_beyond += u64::from(to.max(from) > DNS_HEAD_BYTES.into());
            }
        }
        self.verdicts.count(ruling.verdict);
        self.outcomes.count(flow.outcome);
        if ruling.verdict == Verdict::Documented {
            self.conditional += u64::from(ruling.by_default);
            self.supplied += u64::from(ruling.supplied);
        }
        self.grades[ruling.grade.map_or(GRADES.len() - 1, |grade| grade as usize)] += 1;
        if let Some(target) = evidence.target() {
            let beyond = !target.tunnel && flow.payload().0 > HEAD_BYTES.into();
            self.requests_beyond += u64::from(beyond);
        } else {
            if ruling.is_audited && flow.proxy_target().is_some() {
                self.elsewhere.count(flow, evidence);
            }
            let mut dns = evidence.named();
            if let Some(newest) = dns.next() {
                self.shared_addresses += u64::from(dns.next().is_some());
                self.expired += u64::from(newest.expired);
                self.late += u64::from(newest.late);
            }
        }
        self.encrypted_hellos += u64::from(flow.ech());
        self.audited += u64::from(ruling.is_audited);
        if let Some(line) = conversation.and_then(|place| self.conversations.lines.get_mut(place)) {
            line.flows += 1;
            line.bytes += flow.bytes;
            line.verdicts.count(ruling.verdict);
            line.outcomes.count(flow.outcome);
        }
        self.times.count(flow.first_ts, ruling.verdict, flow.outcome.is_blocked());
    }

    /// Adds what later flows came to.
    pub(super) fn add(&mut self, later: Tally) {
        // Every field is taken apart here, so that a new one cannot be forgotten.
        let Tally {
            flows,
            tcp,
            one_sided,
            midstream,
            verdicts,
            outcomes,
            conditional,
            supplied,
            grades,
            shared_addresses,
            expired,
            late,
            encrypted_hellos,
            audited,
            requests_beyond,
            dns_beyond,
            elsewhere,
            conversations,
            times,
        } = later;
        for (sum, more) in [
            (&mut self.flows, flows),
            (&mut self.tcp, tcp),
            (&mut self.one_sided, one_sided),
            (&mut self.midstream, midstream),
            (&mut self.conditional, conditional),
            (&mut self.supplied, supplied),
            (&mut self.shared_addresses, shared_addresses),
            (&mut self.expired, expired),
            (&mut self.late, late),
            (&mut self.encrypted_hellos, encrypted_hellos),
            (&mut self.audited, audited),
            (&mut self.requests_beyond, requests_beyond),
            (&mut self.dns_beyond, dns_beyond),
        ] {
            *sum += more;
        }
        self.verdicts.merge(&verdicts);
        self.outcomes.merge(&outcomes);
        self.grades.iter_mut().zip(grades).for_each(|(sum, more)| *sum += more);
        self.elsewhere.more |= elsewhere.more;
        for (to, (count, first)) in elsewhere.asked {
            self.elsewhere.add(to, count, || first);
        }
        self.conversations.add(conversations);
        self.times.add(times);
    }

    pub(super) fn totals(&self, totals: &mut Totals) {
        totals.flows = self.flows;
        totals.verdicts = self.verdicts.table();
        totals.outcomes = self.outcomes.table();
        totals.conditional = self.conditional;
        totals.supplied_names = self.supplied;
        totals.audited_flows = Some(self.audited);
        totals.requests_beyond = self.requests_beyond;
        totals.dns_beyond = self.dns_beyond;
    }

    pub(super) fn names_quality(&self, quality: &mut NamesQuality) {
        let word = |grade: Option<Grade>| grade.map_or("none", Grade::as_str).to_owned();
        let counts = GRADES.into_iter().zip(self.grades).filter(|&(_, count)| count > 0);
        quality.grades = counts.map(|(grade, count)| (word(grade), count)).collect();
        quality.shared_addresses = self.shared_addresses;
        quality.expired = self.expired;
        quality.late = self.late;
        quality.encrypted_hellos = self.encrypted_hellos;
    }

    pub(super) fn finish(self) -> (Vec<Conversation>, Timeline) {
        (self.conversations.finish(), self.times.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_who_are_asked_for_other_hosts_the_first_by_address_are_told_however_rows_are_parted() {
        let most = Elsewhere::MOST_KEPT as u32;
        let asked: Vec<u32> = (0..3 * most).map(|number| number * 7 % (most + 9)).collect();
        let of = |asked: &[u32]| {
            let mut tally = Tally::default();
            for &number in asked {
                tally.elsewhere.add((IpAddr::from(number.to_be_bytes()), 80), 1, || "x".to_owned());
            }
            tally
        };
        let whole = of(&asked);
        assert_eq!((whole.elsewhere.asked.len(), whole.elsewhere.more), (most as usize, true));
        for cut in [0, 1, 70, asked.len()] {
            let mut parted = of(&asked[..cut]);
            parted.add(of(&asked[cut..]));
            assert_eq!(parted.elsewhere.asked, whole.elsewhere.asked, "{cut}");
        }
        assert_eq!(
            of(&[1, 1]).elsewhere.remark().map(|told| told.contains("0.0.0.1 port 80 for x (2).")),
            Some(true)
        );
        assert_eq!(of(&[]).elsewhere.remark(), None);
    }

    /// The stretches as they are when the whole range is known beforehand.
    fn at_once(seconds: &[i64]) -> (i64, Vec<(i64, u64)>) {
        let (first, last) = (seconds.iter().min().unwrap(), seconds.iter().max().unwrap());
        let step = STEPS_S.iter().find(|step| (last - first) / **step < 120).unwrap_or(&86_400);
        let mut stretches: BTreeMap<i64, u64> = BTreeMap::new();
        seconds.iter().for_each(|s| *stretches.entry(s - s.rem_euclid(*step)).or_default() += 1);
        (*step, stretches.into_iter().collect())
    }

    #[test]
    fn a_timeline_that_grows_is_the_one_of_its_whole_range() {
        for seconds in [
            vec![7],
            vec![0, 119],
            vec![-5, 0, 119, 3],
            vec![5, 119, 120, 1_205],
            vec![1_000_000, 0, 86_400 * 121, 17, 86_399],
            (0..2_000).map(|n| n * n).collect(),
        ] {
            let mut times = Times::default();
            for &s in &seconds {
                times.count(Timestamp(s * NANOS_PER_SECOND), Verdict::Documented, s % 2 == 0);
            }
            let timeline = times.finish();
            let came: Vec<(i64, u64)> = timeline
                .buckets
                .iter()
                .map(|bucket| (bucket.ts.0 / NANOS_PER_SECOND, bucket.verdicts[&Verdict::Documented]))
                .collect();
            assert_eq!((timeline.bucket_ns / NANOS_PER_SECOND, came), at_once(&seconds), "{seconds:?}");
        }
    }

    #[test]
    fn places_in_tables_are_those_of_the_lists() {
        assert!(Verdict::ALL.into_iter().enumerate().all(|(place, verdict)| verdict as usize == place));
        assert!(Outcome::ALL.into_iter().enumerate().all(|(place, outcome)| outcome as usize == place));
        assert!(GRADES.into_iter().flatten().enumerate().all(|(place, grade)| grade as usize == place));
    }
}
