//! All flows of a site to findings, coverage and totals, one flow at a time.

use super::circumstances::{Circumstances, Evidence};
use super::classify::{Classifier, Ruling, is_private};
use super::coverage::CoverageTally;
use super::encrypted::Encrypted;
use super::exceptions::exception;
use super::findings::{self, Accepted, Codes, Findings, Judged};
use super::intermittent::Intermittence;
use super::memo::{Memo, RowWords, Settled, Stretch};
use super::resolving::Resolving;
use super::row::VerdictRow;
use super::tally::Tally;
use crate::audit::{
    Audit, CaptureQuality, CaptureSummary, Code, Coverage, CoverageState, NamesQuality, PackUsed, SCHEMA,
    SiteUsed, TagsUsed, Tool, Totals, Unreadable, Untold, Verdict,
};
use crate::flow::{Flow, FlowRecord};
use crate::matrix::{Matrix, PLATFORM_ADDRESS, Site, SwitchedBy, shown_prefix};
use crate::model::{Spans, Timestamp, Transport};
use crate::names::{About, Ledger};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that judging rests on beside the flows.
pub struct Case<'a> {
    /// The rules.
    pub matrix: &'a Matrix,
    /// The site.
    pub site: &'a Site,
    /// The DNS evidence.
    pub ledger: &'a Ledger,
    /// Captures that could not be opened.
    pub unreadable: &'a [Unreadable],
    /// Names of the captures, by number.
    pub captures: &'a [Arc<str>],
    /// When frames came.
    pub spans: &'a Spans,
    /// Packets that belong to no flow of any capture, by reason.
    pub without_flow: &'a BTreeMap<String, u64>,
}

/// DHCP and DHCPv6: link upkeep, tallied (SEMANTICS section 1). The link's and the site's own addresses only: what goes
/// to the Internet between these ports is judged, and so is what is no DHCP.
fn is_dhcp(case: &Case<'_>, flow: &Flow<'_>) -> bool {
    let pair = [flow.from.port, flow.to.port];
    let own = |ip: IpAddr| {
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        broadcast
            || ip.is_multicast()
            || ip == PLATFORM_ADDRESS
            || is_private(ip)
            || case.site.in_virtual_network(ip)
            || !case.site.roles_of(ip).is_empty()
    };
    flow.proto == Transport::Udp
        && (pair.iter().all(|p| matches!(p, 67 | 68)) || pair.iter().all(|p| matches!(p, 546 | 547)))
        && !flow.no_dhcp
        && own(flow.from.ip)
        && own(flow.to.ip)
}

/// A flow that is nothing but answers that nobody asked for: evidence of a finding, not a flow of its own.
fn is_forged_answer(case: &Case<'_>, flow: &Flow<'_>) -> bool {
    // A host at whose closed port it arrives says so by ICMP, and the sender counts as the initiator of what is quoted.
    let sides = [(flow.from, flow.to, flow.packets_fwd), (flow.to, flow.from, flow.packets_rev)];
    flow.proto == Transport::Udp
        && flow.dns_queries() == 0
        && sides.into_iter().any(|(client, resolver, sent)| {
            sent == 0 && resolver.port == 53 && case.ledger.only_forged(client, resolver.ip)
        })
}

/// Judges flows one by one, in the order of rows, and keeps of them only what they come to.
pub struct Judge<'a> {
    case: &'a Case<'a>,
    /// How many findings of each kind are put into words; others are counted.
    most: usize,
    classifier: Classifier<'a>,
    memo: Memo,
    rulings: u64,
    /// The place of the next flow in the order of rows.
    place: u64,
    sums: Sums,
    /// The stretch of the rows at hand.
    stretch: Stretch,
    /// Room for flows while they are judged.
    at_hand: AtHand<'a>,
}

/// Flows while they are judged: what is known of each so far.
#[derive(Default)]
struct AtHand<'a> {
    ends: Vec<Ends>,
    /// What the initiators' hosts were told of the responders' addresses.
    abouts: Vec<Option<About<'a>>>,
    /// None where nothing is known, as in a flood: such are neither made nor dropped.
    evidence: Vec<Option<Evidence<'a>>>,
    /// None where a flow is none of its own.
    ruled: Vec<Option<Ruled>>,
    /// Rulings on one flow alone.
    alone: Vec<Settled>,
    /// What such flows are made of, one after another.
    parts: Vec<Part<'a>>,
    /// The site's exceptions for flows.
    accepted: Vec<Accepted>,
}

/// Who a flow is of.
struct Ends {
    /// The address that stands for the initiator's host.
    host: IpAddr,
    around: Circumstances,
}

/// A flow that is ruled on.
#[derive(Clone, Copy)]
struct Ruled {
    ruling: RulingAt,
    /// Its place in the order of rows.
    place: u64,
    /// Where the site's exception for it stands.
    accepted: Option<usize>,
    codes: Codes,
    /// Where among the lines of its ruling it is counted.
    line: Option<usize>,
}

/// One of the destinations that a flow asked its proxy for. Findings and coverage are about each; the flow has one row.
struct Part<'a> {
    /// Where the ruling on the whole flow is, among those on one flow alone.
    of: usize,
    settled: Settled,
    evidence: Evidence<'a>,
    /// Where the site's exception for it stands.
    accepted: Option<usize>,
    codes: Codes,
}

impl Part<'_> {
    /// The flow as far as it is about this destination.
    fn flow<'p>(&self, whole: &Flow<'p>) -> Flow<'p> {
        match &self.settled.ruling.target {
            Some(target) => whole.of_target(target),
            None => whole.clone(),
        }
    }

    /// Counts it for its rules and the site's exceptions.
    #[inline(never)]
    fn taken(
        &mut self,
        whole: &Flow<'_>,
        case: &Case<'_>,
        accepts: &mut BTreeSet<usize>,
        exceptions: &mut Vec<Accepted>,
        coverage: &mut CoverageTally,
    ) -> &Self {
        let (flow, evidence) = (self.flow(whole), &self.evidence);
        let Settled { ruling, noted, .. } = &mut self.settled;
        coverage.note_names(ruling, evidence, noted);
        self.accepted = take_exception(case, &flow, ruling, evidence, accepts, exceptions);
        let accepted = self.accepted.and_then(|at| exceptions.get(at));
        self.codes = findings::codes_of(flow.outcome, ruling, accepted);
        coverage.count(&flow, ruling);
        self
    }

    /// Adds it to its findings; `whole` is the flow as one.
    #[inline(never)]
    fn found(&self, whole: &Judged<'_>, exceptions: &[Accepted], findings: &mut Findings) {
        let judged = Judged {
            flow: &self.flow(whole.flow),
            ruling: &self.settled.ruling,
            evidence: &self.evidence,
            named_by: self.evidence.first_chain(),
            serial: self.settled.serial,
            accepted: self.accepted.and_then(|at| exceptions.get(at)),
            ..*whole
        };
        findings::of_flow(findings, &judged, self.codes, &mut Vec::new());
    }
}

/// What a flow is made of that asked its proxy for several destinations.
#[cold]
fn of_whole<'s, 'a>(parts: &'s mut [Part<'a>], whole: usize) -> &'s mut [Part<'a>] {
    let begin = parts.partition_point(|part| part.of < whole);
    let end = parts.partition_point(|part| part.of <= whole);
    parts.get_mut(begin..end).unwrap_or_default()
}

/// Where the ruling on a flow is.
#[derive(Clone, Copy)]
enum RulingAt {
    /// Among those remembered.
    Known(usize),
    /// On this flow alone, since it asked its proxy for several destinations.
    Alone(usize),
}

impl RulingAt {
    #[inline(always)]
    fn settled<'s>(self, memo: &'s mut Memo, alone: &'s mut [Settled]) -> &'s mut Settled {
        match self {
            RulingAt::Known(place) => memo.settled(place),
            RulingAt::Alone(place) => &mut alone[place],
        }
    }
}

/// The row of a flow.
fn worded(
    case: &Case<'_>,
    classifier: &Classifier<'_>,
    flow: &Flow<'_>,
    settled: &mut Settled,
    evidence: &Evidence<'_>,
    codes: Codes,
) -> VerdictRow {
    let (ruling, words, _) = settled.line(None);
    let words = words.get_or_insert_with(|| Box::new(RowWords::of(classifier, ruling)));
    let words = RowWords::clone(words);
    let mut record: FlowRecord = flow.record(case.captures);
    if let Some(target) = ruling.target.as_deref() {
        record.proxy_target = Some(target.clone());
        if flow.further_targets().next().is_some() {
            record.proxy_status = flow.of_target(target).proxy_status();
        }
    }
    VerdictRow {
        flow: record,
        initiator_roles: words.initiator_roles,
        responder_roles: words.responder_roles,
        names: evidence.names(Some(flow.first_ts)),
        grade: ruling.grade,
        verdict: ruling.verdict,
        rules: words.rules,
        missing: ruling.missing,
        nearest: words.nearest,
        findings: codes.iter().collect(),
    }
}

/// The site's exception for an undocumented flow: where it stands among those at hand.
#[inline(always)]
fn take_exception(
    case: &Case<'_>,
    flow: &Flow<'_>,
    ruling: &Ruling,
    evidence: &Evidence<'_>,
    used: &mut BTreeSet<usize>,
    exceptions: &mut Vec<Accepted>,
) -> Option<usize> {
    if ruling.verdict != Verdict::Undocumented {
        return None;
    }
    let exception = exception(case.site, flow, ruling.target.as_deref(), evidence)?;
    used.insert(exception.entry);
    exceptions.push(exception);
    Some(exceptions.len() - 1)
}

/// What judged flows came to. Sums over two stretches of the rows add up to those of both, so that stretches can be judged
/// at the same time.
pub struct Sums {
    dhcp_packets: Option<u64>,
    unsolicited_flows: u64,
    tally: Tally,
    /// Findings of initiators without a role.
    findings: Findings,
    /// Findings of initiators that hold one. None of them is folded, so they may go on from one stretch to the next.
    of_roles: Findings,
    coverage: CoverageTally,
    intermittence: Intermittence,
    accepts: BTreeSet<usize>,
    encrypted: Encrypted,
}

impl Sums {
    fn new(case: &Case<'_>, most: usize) -> Self {
        Sums {
            dhcp_packets: None,
            unsolicited_flows: 0,
            tally: Tally::default(),
            findings: Findings::new(case.captures, most),
            of_roles: Findings::new(case.captures, most),
            coverage: CoverageTally::default(),
            intermittence: Intermittence::default(),
            accepts: BTreeSet::new(),
            encrypted: Encrypted::default(),
        }
    }

    /// Adds those of the rows that follow.
    pub fn add(&mut self, later: Self) {
        // Every field is taken apart here, so that a new one cannot be forgotten.
        let Sums {
            dhcp_packets,
            unsolicited_flows,
            tally,
            findings,
            of_roles,
            coverage,
            intermittence,
            accepts,
            encrypted,
        } = later;
        self.dhcp_packets = self.dhcp_packets.into_iter().chain(dhcp_packets).reduce(|a, b| a + b);
        self.unsolicited_flows += unsolicited_flows;
        self.tally.add(tally);
        self.findings.absorb(findings);
        self.of_roles.absorb(of_roles);
        self.coverage.add(coverage);
        self.intermittence.add(intermittence);
        self.accepts.extend(accepts);
        self.encrypted.add(encrypted);
    }
}

impl<'a> Judge<'a> {
    /// For these rules, this site, this evidence.
    pub fn new(case: &'a Case<'a>) -> Self {
        Judge::of_summary(case, usize::MAX)
    }

    /// The same for a summary: of each kind of findings `most` are put into words, and the others are counted.
    pub fn of_summary(case: &'a Case<'a>, most: usize) -> Self {
        Judge {
            case,
            most,
            classifier: Classifier::new(case.matrix, case.site, case.ledger),
            memo: Memo::default(),
            rulings: 0,
            place: 0,
            sums: Sums::new(case, most),
            stretch: Stretch::default(),
            at_hand: AtHand::default(),
        }
    }

    /// Begins a stretch of the rows, from the one at `place` on, counted from 0, once the [`Judge::sums`] of the one before were
    /// taken; rulings stay known, since they depend on no other flow.
    pub fn begin_stretch(&mut self, place: u64) {
        self.place = place;
    }

    /// Goes on from what earlier rows came to.
    #[must_use]
    pub fn with(self, sums: Sums) -> Self {
        Judge { sums, ..self }
    }

    /// What the flows of this stretch came to; what follows is summed up anew. If it `goes_on`, the next stretch is that of the next
    /// rows, and what is never folded is left for it, since to make it anew would cost more: findings of initiators that hold a
    /// role, which rules were exercised, and what worked and was blocked of them.
    pub fn sums(&mut self, goes_on: bool) -> Sums {
        let Judge { case, most, sums, stretch, .. } = self;
        stretch.number += 1;
        let mut taken = std::mem::replace(sums, Sums::new(case, *most));
        if goes_on {
            std::mem::swap(&mut sums.of_roles, &mut taken.of_roles);
            std::mem::swap(&mut sums.coverage, &mut taken.coverage);
            std::mem::swap(&mut sums.intermittence, &mut taken.intermittence);
            sums.of_roles.begin_stretch();
        } else {
            stretch.run += 1;
        }
        taken
    }

    /// Judges the next flows in the order of rows.
    pub fn flows(&mut self, flows: &[Flow<'_>]) {
        let mut at_hand = std::mem::take(&mut self.at_hand);
        self.judge(flows, &mut at_hand);
        self.give_back(at_hand);
    }

    /// Judges the next flow in the order of rows, and gives its row. None where the flow is none of its own: link upkeep,
    /// or answers that nobody asked for.
    pub fn row(&mut self, flow: &Flow<'_>) -> Option<VerdictRow> {
        let mut at_hand = std::mem::take(&mut self.at_hand);
        self.judge(std::slice::from_ref(flow), &mut at_hand);
        let row = self.row_of(flow, &mut at_hand);
        self.give_back(at_hand);
        row
    }

    /// The same; and of a flow that asked its proxy for several destinations what would be the row of each, with whether it
    /// demonstrably worked: findings and coverage are about these.
    pub fn row_and_parts(&mut self, flow: &Flow<'_>) -> Option<(VerdictRow, Vec<(VerdictRow, bool)>)> {
        let mut at_hand = std::mem::take(&mut self.at_hand);
        self.judge(std::slice::from_ref(flow), &mut at_hand);
        let row = self.row_of(flow, &mut at_hand);
        let part = |part: &mut Part<'a>| {
            let flow = part.flow(flow);
            let row =
                worded(self.case, &self.classifier, &flow, &mut part.settled, &part.evidence, part.codes);
            (row, flow.worked())
        };
        let parts = at_hand.parts.iter_mut().map(part).collect();
        self.give_back(at_hand);
        Some((row?, parts))
    }

    /// The row of the only flow at hand.
    fn row_of(&mut self, flow: &Flow<'_>, at_hand: &mut AtHand<'a>) -> Option<VerdictRow> {
        let AtHand { evidence, ruled, alone, .. } = at_hand;
        let Ruled { ruling, codes, .. } = (*ruled.first()?)?;
        let evidence = Evidence::or_nothing(evidence.first()?);
        let Judge { case, classifier, memo, .. } = self;
        Some(worded(case, classifier, flow, ruling.settled(memo, alone), evidence, codes))
    }

    /// Judges the next flows, step by step, each step of all of them: the instructions of all steps together are more than a
    /// first-level cache holds, and so are fetched once for several flows. What each flow needs stands in large tables, which no
    /// cache holds either: that of all is asked for before the first is looked up, so that they wait for it at the same time.
    fn judge(&mut self, flows: &[Flow<'_>], at_hand: &mut AtHand<'a>) {
        self.look_ahead(flows, at_hand);
        self.look_up(flows, at_hand);
        self.rule_on(flows, at_hand);
        self.count(flows, at_hand);
        self.find(flows, at_hand);
    }

    /// Keeps the room of flows that are judged.
    fn give_back(&mut self, mut at_hand: AtHand<'a>) {
        // Every field is taken apart here, so that a new one cannot be forgotten.
        let AtHand { ends, abouts, evidence, ruled, alone, parts, accepted } = &mut at_hand;
        for evidence in evidence.iter_mut().flatten() {
            self.classifier.surveyor.take_back(&mut evidence.readings);
        }
        ends.clear();
        abouts.clear();
        evidence.clear();
        ruled.clear();
        alone.clear();
        parts.clear();
        accepted.clear();
        self.at_hand = at_hand;
    }

    /// Finds out who flows are of, and asks for the memory of what they will need.
    fn look_ahead(&mut self, flows: &[Flow<'_>], AtHand { ends, abouts, .. }: &mut AtHand<'a>) {
        let Judge { classifier, memo, sums, .. } = self;
        ends.extend(flows.iter().map(|flow| {
            let met = classifier.surveyor.met(flow.from.ip);
            let alike = classifier.alike(flow.proto, flow.to.port);
            let around = classifier.surveyor.circumstances(flow, &met, alike, &classifier.index);
            Ends { host: met.host, around }
        }));
        memo.ask_for(ends.iter().map(|ends| &ends.around), |place| sums.of_roles.ask_for(place));
        let pairs = ends.iter().zip(flows).map(|(ends, flow)| (ends.host, flow.to.ip));
        classifier.surveyor.abouts(pairs, abouts);
    }

    /// Finds out what is known of where flows go.
    fn look_up(&mut self, flows: &[Flow<'_>], AtHand { ends, abouts, evidence, .. }: &mut AtHand<'a>) {
        let surveyor = &self.classifier.surveyor;
        evidence.extend(flows.iter().zip(ends).zip(abouts).map(|((flow, &mut Ends { host, .. }), about)| {
            match about {
                None if !flow.says_something() => None,
                about => Some(surveyor.evidence(flow, host, flow.proxy_target(), *about)),
            }
        }));
    }

    /// Rules on flows that are flows of their own; counts what others are.
    fn rule_on(&mut self, flows: &[Flow<'_>], at_hand: &mut AtHand<'a>) {
        let Judge { case, classifier, memo, rulings, stretch, sums, place, .. } = self;
        let AtHand { ends, abouts, evidence, ruled, alone, parts, .. } = at_hand;
        memo.make_room(flows.len());
        for (((flow, Ends { host, around }), about), evidence) in
            flows.iter().zip(ends).zip(abouts).zip(evidence)
        {
            *place += 1;
            if flow.proto == Transport::Udp {
                if is_dhcp(case, flow) {
                    *sums.dhcp_packets.get_or_insert(0) += flow.packets_fwd + flow.packets_rev;
                    ruled.push(None);
                    continue;
                }
                if is_forged_answer(case, flow) {
                    sums.unsolicited_flows += 1;
                    ruled.push(None);
                    continue;
                }
            }
            let mut settle = |ruling: Ruling| {
                *rulings += 1;
                Settled::new(ruling, *rulings)
            };
            let ruling = match classifier.rule_on_several(flow, *host, around, *about) {
                Some(several) => {
                    *evidence = Some(several.evidence);
                    let of = alone.len();
                    alone.push(settle(several.ruling));
                    for (ruling, evidence) in several.each {
                        let mut settled = settle(ruling);
                        settled.enter(*stretch, |ruling| sums.intermittence.set(ruling));
                        let codes = Codes::default();
                        parts.push(Part { of, settled, evidence, accepted: None, codes });
                    }
                    RulingAt::Alone(of)
                }
                None => {
                    let evidence = Evidence::or_nothing(evidence);
                    RulingAt::Known(memo.place(classifier, around, evidence, settle))
                }
            };
            ruling.settled(memo, alone).enter(*stretch, |ruling| sums.intermittence.set(ruling));
            let codes = Codes::default();
            ruled.push(Some(Ruled { ruling, place: *place, accepted: None, codes, line: None }));
        }
    }

    /// Counts flows.
    fn count(&mut self, flows: &[Flow<'_>], at_hand: &mut AtHand<'a>) {
        let AtHand { ends, evidence, ruled, alone, parts, accepted: exceptions, .. } = at_hand;
        let Judge { case, classifier, memo, .. } = self;
        let Sums { tally, coverage, intermittence, accepts, .. } = &mut self.sums;
        for (((flow, ends), evidence), ruled) in flows.iter().zip(ends).zip(evidence).zip(ruled) {
            let Some(Ruled { ruling, place, accepted: by_site, codes, line }) = ruled else { continue };
            let evidence = Evidence::or_nothing(evidence);
            if let RulingAt::Alone(whole) = *ruling
                && let Some(settled) = alone.get_mut(whole)
            {
                let parts = of_whole(parts, whole);
                for part in &mut *parts {
                    let part = part.taken(flow, case, accepts, exceptions, coverage);
                    codes.add(part.codes);
                    if let Some(set) = part.settled.rule_set {
                        let flow = part.flow(flow);
                        intermittence.count(ends.host, set, *place, &flow, &part.settled.ruling);
                    }
                }
                let ruling = &settled.ruling;
                let (conversation, _) =
                    tally.conversation(classifier, ruling, evidence.first_name(), flow.to.ip);
                tally.count(flow, ruling, evidence, Some(conversation));
                continue;
            }
            let settled = ruling.settled(memo, alone);
            coverage.note_names(&settled.ruling, evidence, &mut settled.noted);
            *by_site = take_exception(case, flow, &settled.ruling, evidence, accepts, exceptions);
            *codes =
                findings::codes_of(flow.outcome, &settled.ruling, by_site.and_then(|at| exceptions.get(at)));
            // Of most flows nothing is found, and where they are counted is known: then their line is not looked up.
            let common = settled.common_conversation().filter(|_| codes.is_empty());
            if common.is_none() {
                let named_by = evidence.first_chain().map(|named_by| (named_by, flow.to.port));
                *line = Some(settled.place(named_by, |ruling| {
                    tally.conversation(classifier, ruling, evidence.first_name(), flow.to.ip)
                }));
            }
            let rule_set = settled.rule_set;
            let (ruling, _, line) = settled.line(*line);
            tally.count(flow, ruling, evidence, line.map_or(common, |line| line.conversation));
            coverage.count(flow, ruling);
            if let Some(set) = rule_set {
                intermittence.count(ends.host, set, *place, flow, ruling);
            }
        }
    }

    /// Finds what is to be said of flows.
    fn find(&mut self, flows: &[Flow<'_>], at_hand: &mut AtHand<'a>) {
        let AtHand { ends, evidence, ruled, alone, parts, accepted: exceptions, .. } = at_hand;
        let Judge { case, memo, .. } = self;
        let Sums { findings, of_roles, encrypted, .. } = &mut self.sums;
        for (((flow, &mut Ends { host, .. }), evidence), ruled) in
            flows.iter().zip(ends).zip(evidence).zip(ruled)
        {
            let Some(Ruled { ruling: at, accepted, codes, line, .. }) = *ruled else { continue };
            let settled = at.settled(memo, alone);
            let may_hide = Encrypted::may_count(flow, &settled.ruling, case);
            if codes.is_empty() && !may_hide {
                continue;
            }
            let serial = settled.serial;
            let (ruling, _, line) = settled.line(line);
            let evidence = Evidence::or_nothing(evidence);
            let judged = Judged {
                flow,
                ruling,
                evidence,
                named_by: evidence.first_chain(),
                serial,
                host,
                accepted: accepted.and_then(|at| exceptions.get(at)),
                case,
            };
            if may_hide {
                encrypted.count(&judged);
            }
            let findings = if ruling.from_roles.is_empty() { &mut *findings } else { &mut *of_roles };
            if let RulingAt::Alone(whole) = at {
                of_whole(parts, whole).iter().for_each(|part| part.found(&judged, exceptions, findings));
            }
            if let Some(line) = line {
                findings::of_flow(findings, &judged, codes, &mut line.findings);
            }
        }
    }

    /// What all flows came to; `inputs` are the captures, in the order in which their frames were taken.
    pub fn finish(self, inputs: Vec<CaptureSummary>) -> Audit {
        self.finish_summary(inputs).0
    }

    /// The same, and what [`Judge::of_summary`] left untold.
    pub fn finish_summary(self, inputs: Vec<CaptureSummary>) -> (Audit, Untold) {
        self.finished(inputs, true)
    }

    /// The same for somebody who looks again and again, and knows what the names come to: findings about them, and what they are
    /// worth, are left out. All messages are looked at for them, each time.
    pub fn finish_flows(self) -> Audit {
        self.finished(Vec::new(), false).0
    }

    fn finished(mut self, inputs: Vec<CaptureSummary>, with_names: bool) -> (Audit, Untold) {
        let case = self.case;
        // Those without a role are few.
        let of_strangers =
            std::mem::replace(&mut self.sums.findings, Findings::new(case.captures, self.most));
        std::mem::swap(&mut self.sums.findings, &mut self.sums.of_roles);
        self.sums.findings.absorb(of_strangers);
        let encrypted = std::mem::take(&mut self.sums.encrypted);
        let reasons = encrypted.reasons();
        self.sums.findings.say_why_nameless(&reasons);
        std::mem::take(&mut self.sums.intermittence).finish(&self.classifier, &mut self.sums.findings);
        let mut resolving = Resolving {
            case,
            classifier: &self.classifier,
            findings: &mut self.sums.findings,
            coverage: &mut self.sums.coverage,
        };
        let led_nowhere = with_names.then(|| {
            resolving.find();
            resolving.led_nowhere()
        });
        findings::of_captures(&mut self.sums.findings, &inputs);
        let capture_quality = self.capture_quality(&inputs);
        self.capture_findings(&capture_quality);
        self.accept_findings();
        let coverage = std::mem::take(&mut self.sums.coverage).finish(&self.classifier);
        self.coverage_findings(&coverage);
        let names_quality = if with_names { self.names_quality(&encrypted) } else { NamesQuality::default() };
        let mut totals = Totals { unsolicited_flows: self.sums.unsolicited_flows, ..Totals::default() };
        totals.upkeep.extend(self.sums.dhcp_packets.map(|packets| ("dhcp".to_owned(), packets)));
        self.sums.tally.totals(&mut totals);
        let (findings, untold) = self.sums.findings.finish(&|roles| roles.words(self.case.matrix));
        for input in &inputs {
            totals.frames += input.frames;
            totals.packets += input.packets;
            add(&mut totals.skipped, &input.skipped);
            add(&mut totals.upkeep, &input.upkeep);
            add(&mut totals.without_flow, &input.without_flow);
        }
        add(&mut totals.without_flow, case.without_flow);
        for finding in &findings {
            *totals.findings.entry(finding.severity).or_default() += 1;
        }
        for (&(severity, _), count) in &untold.counts {
            *totals.findings.entry(severity).or_default() += count;
        }
        let further = led_nowhere.flatten().into_iter().chain(self.sums.tally.elsewhere.remark()).collect();
        let (conversations, timeline) = self.sums.tally.finish();
        let audit = Audit {
            schema: SCHEMA,
            tool: Tool::this(),
            unreadable: case.unreadable.to_vec(),
            rules: packs_used(case.matrix),
            service_tags: tags_used(case, true).into_iter().next(),
            unaudited: None,
            further_service_tags: further_tags(case),
            site: SiteUsed { name: case.site.name().to_owned(), sha256: case.site.sha256().to_owned() },
            remarks: remarks(case, &totals, &coverage, &encrypted, &inputs, further),
            totals,
            coverage,
            findings,
            conversations,
            timeline,
            names_quality,
            capture_quality,
            inputs,
        };
        (audit, untold)
    }

    /// Findings about the exceptions themselves.
    fn accept_findings(&mut self) {
        let end = self.case.spans.range().map(|(_, end)| end);
        for (index, entry) in self.case.site.accepts().iter().enumerate() {
            let used = self.sums.accepts.contains(&index);
            let expired = entry.until.is_some_and(|until| end.is_some_and(|end| end >= until.end()));
            let until = entry.until.map(|until| format!(" until {until}")).unwrap_or_default();
            if expired {
                let title = format!("[[accept]] at line {}{until}: {}", entry.line, entry.reason);
                self.sums.findings.add(findings::note(Code::AcceptExpired, title, Vec::new()));
            }
            if !used {
                let title =
                    format!("[[accept]] at line {}{until} matches no flow: {}", entry.line, entry.reason);
                self.sums.findings.add(findings::note(Code::AcceptUnused, title, Vec::new()));
            }
        }
    }

    fn capture_findings(&mut self, quality: &CaptureQuality) {
        if quality.undecodable_ppm > Audit::UNDECODABLE_LIMIT_PPM {
            let title = format!(
                "{:.1} % of the frames could not be decoded",
                quality.undecodable_ppm as f64 / 10_000.0
            );
            self.sums.findings.add(findings::note(Code::CaptureLoss, title, Vec::new()));
        }
        let tcp = self.sums.tally.tcp;
        if tcp >= 2 && quality.one_sided * 2 > tcp {
            let title = format!("{} of {tcp} TCP connections show only one direction", quality.one_sided);
            self.sums.findings.add(findings::note(Code::OneSidedCapture, title, Vec::new()));
        }
    }

    fn coverage_findings(&mut self, coverage: &[Coverage]) {
        for line in coverage {
            let code = match line.state {
                CoverageState::NotObserved => Code::RuleNotObserved,
                CoverageState::NotObservable => Code::RuleNotObservable,
                CoverageState::Observed
                | CoverageState::Blocked
                | CoverageState::Intermittent
                | CoverageState::NotApplicable => continue,
            };
            let why = line.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            let title = format!(
                "{} row {}: {} -> {} {} {}{why}",
                line.rule,
                line.row,
                line.from,
                line.to,
                line.proto.to_uppercase(),
                line.ports
            );
            let mut finding = findings::note(code, title, Vec::new());
            finding.rules = vec![line.rule.clone()];
            self.sums.findings.add(finding);
        }
    }

    fn capture_quality(&self, inputs: &[CaptureSummary]) -> CaptureQuality {
        let case = self.case;
        let sum = |of: fn(&CaptureSummary) -> u64| inputs.iter().map(of).sum::<u64>();
        let range = case.spans.range();
        CaptureQuality {
            complete: case.unreadable.is_empty() && inputs.iter().all(CaptureSummary::whole),
            drops: sum(|input| input.drops.unwrap_or_default()),
            snaplen_cut: sum(|input| input.snaplen_cut),
            duplicates: sum(|input| input.duplicates),
            undecodable_ppm: CaptureSummary::undecodable_ppm(inputs, case.without_flow.values().sum()),
            one_sided: self.sums.tally.one_sided,
            midstream: self.sums.tally.midstream,
            intervals: case.spans.len() as u64,
            first_ts: range.map(|(first, _)| first),
            last_ts: range.map(|(_, last)| last),
            unreadable_quotes: sum(|input| input.unreadable_quotes),
        }
    }

    fn names_quality(&self, encrypted: &Encrypted) -> NamesQuality {
        let case = self.case;
        let mut quality = NamesQuality {
            messages: case.ledger.standings(),
            resolvers_listed: case.site.resolvers_listed(),
            encrypted_dns: encrypted.list(),
            ..NamesQuality::default()
        };
        self.sums.tally.names_quality(&mut quality);
        quality
    }
}

fn add(to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (word, count) in from {
        *to.entry(word.clone()).or_default() += count;
    }
}

/// The packs of a matrix, as an audit names them.
pub fn packs_used(matrix: &Matrix) -> Vec<PackUsed> {
    let told = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    matrix
        .packs()
        .iter()
        .map(|pack| PackUsed {
            id: pack.id.to_string(),
            page: pack.page.to_string(),
            url: pack.url.clone(),
            product: pack.product.to_string(),
            page_date: told(&pack.page_date),
            date: pack.date.map(|date| date.to_string()),
            product_version: told(&pack.product_version),
            sha256: pack.sha256.clone(),
        })
        .collect()
}

/// The service tag files of the site's cloud (or of the others), as loaded.
fn tags_used(case: &Case<'_>, own_cloud: bool) -> Vec<TagsUsed> {
    let sources = case.matrix.tags().sources().iter();
    sources
        .filter(|source| (source.cloud == case.site.cloud()) == own_cloud)
        .map(|source| TagsUsed {
            change_number: source.change_number,
            cloud: source.cloud.as_str().to_owned(),
            date: source.date.map(|date| date.to_string()),
            sha256: source.sha256.clone(),
        })
        .collect()
}

fn further_tags(case: &Case<'_>) -> Vec<TagsUsed> {
    let mut further: Vec<TagsUsed> = tags_used(case, true).into_iter().skip(1).collect();
    further.extend(tags_used(case, false));
    further
}

/// That so many frames were cut by the snapshot length, a hundredth at least, that names are missing which were on the wire.
fn of_cut_frames(inputs: &[CaptureSummary]) -> Option<String> {
    let sum = |of: fn(&CaptureSummary) -> u64| inputs.iter().map(of).sum::<u64>();
    let (cut, frames) = (sum(|input| input.snaplen_cut), sum(|input| input.frames));
    (cut > 0 && cut >= frames / 100).then(|| {
        format!(
            "{cut} of {frames} frames were cut by the snapshot length: DNS answers and first bytes in them are not read, and names that \
             they hold are missing here (record with -s 0)"
        )
    })
}

/// That it cannot be told of some rules which addresses they mean, and why: one remark for each reason.
fn of_unknown_tags(case: &Case<'_>) -> impl Iterator<Item = String> {
    case.site.undecidable().into_iter().map(|(why, rules)| {
        format!(
            "the addresses of {} cannot be told, so nothing is documented by them: {why}",
            rules.join(", ")
        )
    })
}

/// Captures named in a remark; more are counted.
const MOST_NAMED: usize = 3;

/// That only a part of the captures was looked at, and which: one remark for each choice that was made.
fn of_parts(inputs: &[CaptureSummary]) -> Vec<String> {
    type Part<'a> = (Option<&'a str>, Option<Timestamp>, Option<Timestamp>);
    let mut parts: BTreeMap<Part<'_>, Vec<&CaptureSummary>> = BTreeMap::new();
    for input in inputs {
        if let Some(chosen) = &input.chosen {
            parts.entry((chosen.filter.as_deref(), chosen.since, chosen.until)).or_default().push(input);
        }
    }
    let remark = |((filter, since, until), chosen): (Part<'_>, Vec<&CaptureSummary>)| {
        let of = if chosen.len() == inputs.len() {
            "the captures".to_owned()
        } else {
            let named: Vec<&str> = chosen.iter().take(MOST_NAMED).map(|input| &*input.path).collect();
            let more = chosen.len() - named.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}{more}", named.join(", "))
        };
        let which = [
            filter.map(|filter| format!("those that fit `{filter}`")),
            since.map(|since| format!("from {since} on")),
            until.map(|until| format!("before {until}")),
        ];
        let which: Vec<String> = which.into_iter().flatten().collect();
        format!(
            "only a part of {of} was audited, {} of {} frames: {}. What was left out is in no finding; an answer that was \
             left out looks like none, and a rule that only left-out frames exercise looks not observed",
            chosen.iter().map(|input| input.looked_at()).sum::<u64>(),
            chosen.iter().map(|input| input.frames).sum::<u64>(),
            which.join(", ")
        )
    };
    parts.into_iter().map(remark).collect()
}

/// That captures seem to be the same one under several names: with as many frames and packets, and of the same times to the
/// nanosecond. Nothing is taken for a copy by that alone.
fn of_copies(inputs: &[CaptureSummary]) -> impl Iterator<Item = String> {
    type Looks = (u64, u64, Option<Timestamp>, Option<Timestamp>);
    let mut alike: BTreeMap<Looks, Vec<&str>> = BTreeMap::new();
    for input in inputs.iter().filter(|input| input.first_ts < input.last_ts) {
        let looks = (input.frames, input.packets, input.first_ts, input.last_ts);
        alike.entry(looks).or_default().push(&input.path);
    }
    alike.into_iter().filter(|(_, paths)| paths.len() > 1).map(|((frames, ..), paths)| {
        let named = paths.get(..MOST_NAMED).unwrap_or(&paths).join(", ");
        let more = paths.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!(
            "{named}{more} hold {frames} frames each, of the same times: if they are one capture under several names, its packets are \
             counted {} times",
            paths.len()
        )
    })
}

/// The first thing to know where no audited machine was seen: then nothing was found since nothing was looked at.
fn of_nobody(case: &Case<'_>, totals: &Totals) -> Option<String> {
    const MOST: usize = 6;
    if totals.audited_flows != Some(0) || case.captures.is_empty() {
        return None;
    }
    let held = case.site.subjects().iter().flat_map(|role| {
        let id = &case.matrix.role_def(role).id;
        case.site.role_prefixes(role).iter().map(move |net| format!("{id} {}", shown_prefix(net)))
    });
    let held: Vec<String> = held.collect();
    let more = if held.len() > MOST { ", ..." } else { "" };
    let which = held.get(..MOST).unwrap_or(&held).join(", ");
    let which = if which.is_empty() { "the site gives none an address".to_owned() } else { which };
    Some(format!(
        "no packet of any audited machine was judged ({which}{more}): check [roles] in the site file, and where and when was captured"
    ))
}

/// Of packets within others the inner one is judged, as is right for a mirror's; a tunnel of an audited machine hides a destination.
fn of_tunnels(case: &Case<'_>, inputs: &[CaptureSummary]) -> Option<String> {
    const MOST: usize = 3;
    let is_audited = |ip: &IpAddr| case.site.roles_of(*ip).meets(case.site.subjects());
    let mut tunnels: BTreeMap<(IpAddr, IpAddr), u64> = BTreeMap::new();
    for ((from, to), packets) in inputs.iter().flat_map(|input| input.tunnels.ends()) {
        if is_audited(&from) || is_audited(&to) {
            *tunnels.entry((from, to)).or_default() += packets;
        }
    }
    let mut told: Vec<_> = tunnels.iter().collect();
    told.sort_by_key(|&(ends, packets)| (std::cmp::Reverse(packets), ends));
    let of = |ip: &IpAddr| match case.site.roles_of(*ip).words(case.matrix).join("+") {
        roles if roles.is_empty() => ip.to_string(),
        roles => format!("{roles} {ip}"),
    };
    let told: Vec<String> = told
        .iter()
        .take(MOST)
        .map(|((from, to), packets)| format!("{} -> {} ({packets})", of(from), of(to)))
        .collect();
    let more = if tunnels.len() > MOST { ", ..." } else { "" };
    (!told.is_empty()).then(|| {
        format!(
            "an audited machine is an end of a tunnel, by packets: {}{more}. What is inside was judged as if it were on the wire, and the \
             tunnel itself was not: unless a mirror made it, look at what it is",
            told.join(", ")
        )
    })
}

fn connections(count: u64) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") }
}

fn flows_rest(flows: u64) -> String {
    if flows == 1 { "1 documented flow rests".to_owned() } else { format!("{flows} documented flows rest") }
}

/// What the reader must know before the findings.
fn remarks(
    case: &Case<'_>,
    totals: &Totals,
    coverage: &[Coverage],
    encrypted: &Encrypted,
    inputs: &[CaptureSummary],
    further: Vec<String>,
) -> Vec<String> {
    let mut remarks: Vec<String> = of_nobody(case, totals).into_iter().collect();
    remarks.extend(of_parts(inputs));
    remarks.extend(further);
    remarks.extend(encrypted.remarks());
    if !case.site.resolvers_listed() {
        remarks.push(
            "the site lists no resolvers: answers of every resolver count as names, and forged ones are not told apart"
                .to_owned(),
        );
    }
    if case.site.storage_accounts().is_empty() {
        remarks.push(
            "the site lists no storage accounts: a Storage tag or name proves the service, not whose account it is"
                .to_owned(),
        );
    }
    let undated = case.matrix.tags().sources().iter().filter(|source| source.date.is_none());
    for source in undated {
        remarks.push(format!(
            "service tags (change number {}, {}) carry no date: their age is unknown",
            source.change_number,
            source.cloud.as_str()
        ));
    }
    remarks.extend(of_copies(inputs));
    remarks.extend(of_cut_frames(inputs));
    remarks.extend(of_unknown_tags(case));
    remarks.extend(of_tunnels(case, inputs));
    if totals.requests_beyond > 0 {
        remarks.push(format!(
            "{} asked a proxy for more than the first 4 KiB show: what for is not known of the rest",
            connections(totals.requests_beyond)
        ));
    }
    if totals.dns_beyond > 0 {
        remarks.push(format!(
            "{} to TCP port 53 with more than 64 KiB: answers beyond are not read, and look like none",
            connections(totals.dns_beyond)
        ));
    }
    let met =
        || coverage.iter().filter(|line| line.flows > 0).filter_map(|line| case.matrix.rule(&line.rule));
    if totals.conditional > 0 {
        let unset = met().filter_map(|rule| rule.condition.as_ref());
        let unset = unset.filter(|id| case.site.condition(id.as_str()).by == SwitchedBy::Pack);
        let unset: BTreeSet<&str> = unset.map(|id| id.as_str()).collect();
        remarks.push(format!(
            "{} on conditions that the site file does not set: {} (true or false under [conditions] settles it)",
            flows_rest(totals.conditional),
            unset.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    if totals.supplied_names > 0 {
        let supplied = met().filter(|rule| rule.supplied_names).map(|rule| rule.id.as_str());
        remarks.push(format!(
            "{} on names that the page does not give, and the pack does: {} (`portproof rules show ID` tells them)",
            flows_rest(totals.supplied_names),
            supplied.collect::<Vec<_>>().join(", ")
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Severity;
    use crate::flow::{Finisher, FlowKey, HostSight, PartialFlow, SideFacts};
    use crate::model::{Endpoint, FramePoint};

    const SITE: &str = r#"
        [site]
        name = "s"
        virtual_network = ["10.1.0.0/16"]
        [roles]
        worker = ["10.1.1.0/24"]
    "#;

    /// Does something with a case without names, and with what finishes its flows.
    fn with_case<T>(work: impl FnOnce(&Case<'_>, &Finisher<'_>) -> T) -> T {
        let matrix = Matrix::builtin();
        let site = Site::parse(SITE, "site.toml", &matrix).unwrap();
        let (ledger, spans, sight, without_flow) =
            (Ledger::default(), Spans::default(), HostSight::default(), BTreeMap::new());
        let case = Case {
            matrix: &matrix,
            site: &site,
            ledger: &ledger,
            unreadable: &[],
            captures: &["one".into()],
            spans: &spans,
            without_flow: &without_flow,
        };
        let finisher =
            Finisher { spans: &spans, sight: &sight, host_of: &|ip| ip, is_service: &|_, port| port == 9999 };
        work(&case, &finisher)
    }

    #[test]
    fn captures_of_the_same_frames_and_times_are_said_to_look_alike() {
        let capture = |path: &str, frames, first, last| CaptureSummary {
            frames,
            packets: frames,
            first_ts: Some(Timestamp(first)),
            last_ts: Some(Timestamp(last)),
            ..CaptureSummary::of_nothing(path, "pcap")
        };
        let told = |captures: &[CaptureSummary]| of_copies(captures).collect::<Vec<_>>();
        let (one, other) = (capture("a.pcap", 9, 10, 20), capture("b.pcap", 9, 10, 20));
        let [remark] = &told(&[one.clone(), capture("c.pcap", 9, 10, 21), other])[..] else { panic!() };
        assert!(remark.starts_with("a.pcap, b.pcap hold 9 frames each, of the same times: "), "{remark}");
        assert!(remark.ends_with("are counted 2 times"), "{remark}");
        for another in [capture("b", 8, 10, 20), capture("b", 9, 11, 20), capture("b", 9, 10, 19)] {
            assert!(told(&[one.clone(), another]).is_empty());
        }
        // Frames of one moment are no more than that; nor are captures without any.
        assert!(told(&[capture("a", 1, 10, 10), capture("b", 1, 10, 10)]).is_empty());
        assert!(told(&["a", "b"].map(|path| CaptureSummary::of_nothing(path, "pcap"))).is_empty());
        let five = ["a", "b", "c", "d", "e"].map(|path| capture(path, 2, 1, 2));
        assert!(told(&five)[0].starts_with("a, b, c and 2 more hold 2 frames each"));
    }

    /// A datagram of a worker to a port that no rule names; `place` is its frame.
    fn attempt(place: u32, worker: u8, port: u16) -> PartialFlow {
        let client = Endpoint::new([10, 1, 1, worker].into(), 5_000);
        let server = Endpoint::new([198, 51, 100, 7].into(), port);
        let (key, _) = FlowKey::of(Transport::Udp, client, server);
        let point = FramePoint {
            time: Timestamp(i64::from(place)),
            frame: u64::from(place) + 1,
            ..FramePoint::default()
        };
        // The lesser endpoint is the client.
        let low =
            SideFacts { packets: 1, first: Some(point), last: Some(point.time), ..SideFacts::default() };
        PartialFlow { low, ..PartialFlow::new(key) }
    }

    #[test]
    fn flows_judged_together_are_judged_as_one_by_one_though_rulings_and_lines_are_forgotten() {
        // More ports than lines are remembered of a ruling, and rulings on other ports in between.
        let attempts: Vec<PartialFlow> = (0..5_000)
            .map(|n| match n % 9 {
                0 => attempt(n, 9, [53, 123, 137, 443, 1_433, 67][n as usize / 9 % 6]),
                _ => attempt(n, (n % 2) as u8, 20_000 + n as u16),
            })
            .collect();
        let audit = |together: usize, rulings: usize| {
            with_case(|case, finisher| {
                let mut judge = Judge::new(case);
                judge.memo = Memo::of_limit(rulings);
                for attempts in attempts.chunks(together) {
                    let flows: Vec<Flow<'_>> =
                        attempts.iter().map(|attempt| finisher.finish(attempt)).collect();
                    judge.flows(&flows);
                    assert!(judge.memo.len() <= rulings.max(together));
                }
                let audit = judge.finish(Vec::new());
                assert_eq!(audit.totals.flows, attempts.len() as u64);
                audit
            })
        };
        let one_by_one = audit(1, usize::MAX);
        for (together, rulings) in [(1, 3), (7, 3), (32, 3), (32, usize::MAX), (5_000, 3)] {
            assert!(audit(together, rulings) == one_by_one, "{together} together, {rulings} rulings");
        }
    }

    #[test]
    fn of_findings_that_will_not_be_told_no_more_is_kept_than_what_is_counted() {
        // Two hundred hosts of a role, the least first, each at two ports that no rule names.
        let attempts: Vec<PartialFlow> =
            (0..400).map(|n| attempt(n, (n / 2) as u8, 9_000 + (n % 2) as u16)).collect();
        let kept = |most| {
            with_case(|case, finisher| {
                let mut judge = Judge::of_summary(case, most);
                attempts.iter().for_each(|attempt| judge.flows(&[finisher.finish(attempt)]));
                let (all, told) = judge.sums.of_roles.sizes();
                let (audit, untold) = judge.finish_summary(Vec::new());
                let told_of = audit.findings.iter().filter(|finding| finding.from.ip.is_some()).count();
                (all, told, told_of, untold.of(Severity::Medium))
            })
        };
        assert_eq!(kept(usize::MAX), (400, 400, 400, 0));
        // Both of the last host that may be told are kept whole.
        assert_eq!(kept(3), (400, 4, 3, 397));
    }
}
