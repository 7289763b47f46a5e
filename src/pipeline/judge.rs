//! The reduce step: all rows of all captures to flows, names and judgement.

use super::extract::Extracted;
use super::join::{FlowNumber, FlowReader, Joined, join, one_log};
use super::watch::Watch;
use crate::audit::{Audit, CaptureSummary, Unreadable, Untold};
use crate::flow::{Finisher, Flow, FlowRecord, HostSight, Unpacked, capture_name};
use crate::matrix::{Matrix, Site};
use crate::model::{CaptureId, FramePoint, Transport};
use crate::names::{DnsRow, Ledger, NameRow, NameSource, ServerEnds};
use crate::verdict::{Case, Judge, Sums, VerdictRow};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Takes rows, one by one, in their order.
pub type Sink<'s, R> = &'s mut dyn FnMut(R) -> io::Result<()>;

/// Everything judged at once, rows and all: for tests and for small captures. See [`Judging`] for the rest.
#[derive(Debug)]
pub struct Judged {
    /// Everything that a report may say.
    pub audit: Audit,
    /// Each judged flow.
    pub rows: Vec<VerdictRow>,
    /// Each DNS response, unanswered query and server name.
    pub names: Vec<NameRow>,
}

/// All captures' rows, joined and put in order: flows and names can be had from it one by one, as often as is wanted.
pub struct Reduction<'a> {
    joined: Joined,
    /// The flows, in the order of rows.
    order: Vec<FlowNumber>,
    sight: HostSight,
    ledger: Ledger,
    unreadable: Vec<Unreadable>,
    policy: Option<(&'a Matrix, &'a Site)>,
    jobs: usize,
    /// Into how many stretches rows are parted to be judged; told for tests only.
    parted: Option<usize>,
    inputs: OnceLock<Vec<CaptureSummary>>,
    /// The flows in which the client announced a name, in the order of rows, once somebody saw them all.
    named: OnceLock<Vec<FlowNumber>>,
    watch: Arc<Watch>,
}

/// Whether a port is a service's, found once for each port that comes.
type Services = RefCell<HashMap<(Transport, u16), bool, RandomState>>;

/// How many rows of each kind a capture gave, by its number.
struct Counts(Vec<(u64, u64)>);

impl Counts {
    fn add(&mut self, others: &Counts) {
        for (own, more) in self.0.iter_mut().zip(&others.0) {
            *own = (own.0 + more.0, own.1 + more.1);
        }
    }

    fn flow(&mut self, flow: &Flow<'_>) {
        self.begin(flow.begin());
        if let Some((.., point)) = server_name(flow) {
            self.name(point);
        }
    }

    /// A flow that begins there.
    fn begin(&mut self, point: Option<FramePoint>) {
        if let Some((flows, _)) = point.and_then(|at| self.0.get_mut(at.capture.index())) {
            *flows += 1;
        }
    }

    fn name(&mut self, point: FramePoint) {
        if let Some((_, names)) = self.0.get_mut(point.capture.index()) {
            *names += 1;
        }
    }
}

/// The name that a client announced in a flow, and where.
fn server_name<'f>(flow: &'f Flow<'_>) -> Option<(NameSource, &'f str, FramePoint)> {
    let point = flow.named_at()?;
    match (flow.server_name(), flow.http_host()) {
        (Some(name), _) if flow.proto == Transport::Udp => Some((NameSource::Quic, name.as_str(), point)),
        (Some(name), _) => Some((NameSource::Tls, name.as_str(), point)),
        (None, Some(host)) => Some((NameSource::Http, host, point)),
        (None, None) => None,
    }
}

impl<'a> Reduction<'a> {
    /// Joins what was extracted, without rules and a site.
    ///
    /// # Errors
    /// Stretches that were put aside in a temporary file cannot be read.
    pub fn new(extracted: Extracted) -> io::Result<Self> {
        Reduction::joined(extracted, None)
    }

    fn joined(extracted: Extracted, policy: Option<(&'a Matrix, &'a Site)>) -> io::Result<Self> {
        let (unreadable, jobs) = (extracted.unreadable.clone(), extracted.jobs);
        let mut joined = join(extracted);
        let host_of = |ip: IpAddr| policy.map_or(ip, |(_, site)| site.host_of(ip));
        let services = Services::default();
        let sight = HostSight::of_reached(joined.reached.iter().copied(), &host_of);
        let is_service = |transport, port| is_service(policy, &services, transport, port);
        let begins = joined.spans.begins();
        let trusted = |ip: IpAddr| policy.is_none_or(|(_, site)| site.is_resolver(ip));
        let ledger_of =
            |dns| Ledger::on_threads(one_log(dns), &host_of, &trusted, begins.clone().into(), jobs);
        let (ledger, order) = if jobs > 1 && !joined.holds_dns_over_tcp() {
            // Names and flows do not wait for each other, unless messages stand in flows.
            let dns = joined.take_dns();
            std::thread::scope(|scope| {
                let names = scope.spawn(|| ledger_of(dns));
                let order = joined.stitch(jobs).and_then(|()| joined.order(&is_service));
                let failed = |_| io::Error::other("the thread that puts names in order failed");
                names.join().map_err(failed).and_then(|names| Ok((names, order?)))
            })?
        } else {
            joined.stitch(jobs)?;
            joined.dns_over_tcp()?;
            let order = joined.order(&is_service)?;
            (ledger_of(joined.take_dns()), order)
        };
        let (inputs, named, watch) = (OnceLock::new(), OnceLock::new(), Arc::default());
        let parted = None;
        Ok(Reduction { joined, order, sight, ledger, unreadable, policy, jobs, parted, inputs, named, watch })
    }

    /// Lets somebody watch.
    #[must_use]
    pub fn watched(mut self, watch: Arc<Watch>) -> Self {
        self.watch = watch;
        self
    }

    /// Hands over all flows, in the order of rows.
    fn flows(&self, take: &mut dyn FnMut(&Flow<'_>) -> io::Result<()>) -> io::Result<()> {
        self.watch.pass(self.order.len());
        self.flows_of(&self.order, take)
    }

    /// Some of the flows, in the order of rows.
    fn stretch(&self, rows: Range<usize>) -> &[FlowNumber] {
        self.order.get(rows).unwrap_or_default()
    }

    /// Hands over some flows, in the order of rows.
    fn flows_of(
        &self,
        flows: &[FlowNumber],
        take: &mut dyn FnMut(&Flow<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.unfinished(flows, &mut |stretches, finisher| {
            stretches.iter().try_for_each(|stretch| take(&finisher.finish_read(stretch)))
        })
    }

    /// Hands over some flows as they were joined, a few at a time, and what finishes them.
    fn unfinished(
        &self,
        flows: &[FlowNumber],
        take: &mut dyn FnMut(&[Unpacked], &Finisher<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let services = Services::default();
        let host_of = |ip: IpAddr| self.policy.map_or(ip, |(_, site)| site.host_of(ip));
        let is_service = |transport, port| is_service(self.policy, &services, transport, port);
        let finisher = Finisher {
            spans: &self.joined.spans,
            sight: &self.sight,
            host_of: &host_of,
            is_service: &is_service,
        };
        let reader = FlowReader::new(&self.joined);
        let mut number = 0;
        reader.each_some(flows, &mut |stretches| {
            for _ in &*stretches {
                number += 1;
                self.watch.flow(number);
            }
            take(stretches, &finisher)
        })
    }

    /// Packets that belong to no flow of any capture, beside those that the summaries count.
    pub fn without_flow(&self) -> u64 {
        self.joined.without_flow.values().sum()
    }

    /// The rows of whole flows.
    ///
    /// # Errors
    /// As for [`Reduction::new`], and what `sink` answers.
    pub fn flow_rows(&self, sink: Sink<'_, FlowRecord>) -> io::Result<()> {
        self.flows(&mut |flow| sink(flow.record(&self.joined.captures)))
    }

    /// The rows of the names table: each response, each query that nobody answered, each server name.
    ///
    /// # Errors
    /// As for [`Reduction::new`], and what `sink` answers.
    pub fn name_rows(&self, sink: Sink<'_, NameRow>) -> io::Result<()> {
        let name = |id: CaptureId| capture_name(&self.joined.captures, id);
        let mut servers: Vec<NameRow> = Vec::new();
        let named = self.named.get().unwrap_or(&self.order);
        self.watch.pass(named.len());
        self.flows_of(named, &mut |flow| {
            if let Some((source, text, point)) = server_name(flow) {
                let ends = ServerEnds { client: flow.from, server: flow.to, transport: flow.proto };
                let capture = name(point.capture);
                servers.push(NameRow::of_server(source, text.to_owned(), point, capture, &ends));
            }
            Ok(())
        })?;
        let messages: Vec<DnsRow<'_>> = self.ledger.rows().collect();
        // What is put in order is a handle; rows of messages are made when their turn comes.
        let of_message = messages.iter().map(|message| {
            let source = if message.response { NameSource::Dns } else { NameSource::DnsQuery };
            let point = message.point;
            (point.time, name(point.capture), point.frame, source)
        });
        let of_server = servers.iter().map(|row| (row.ts, row.capture.clone(), row.frame, row.source));
        let mut handles: Vec<_> = of_message.chain(of_server).zip(0..).collect();
        handles.sort_unstable();
        for ((_, capture, ..), place) in handles {
            let server = || servers.get(place - messages.len()).cloned();
            let row = match messages.get(place) {
                Some(message) => Some(NameRow::of_dns(&message.observation(), capture, message.matched)),
                None => server(),
            };
            row.map_or(Ok(()), &mut *sink)?;
        }
        Ok(())
    }

    /// The captures, in the order in which their frames were taken, with how many rows each gave: what the mapper counted
    /// are stretches and messages.
    ///
    /// # Errors
    /// As for [`Reduction::new`].
    pub fn inputs(&self) -> io::Result<&[CaptureSummary]> {
        if let Some(inputs) = self.inputs.get() {
            return Ok(inputs);
        }
        let mut counts = self.counts();
        let (mut numbers, mut named) = (self.order.iter(), Vec::new());
        self.watch.pass(self.order.len());
        self.unfinished(&self.order, &mut |stretches, finisher| {
            for (stretch, number) in stretches.iter().zip(&mut numbers) {
                counts.begin(stretch.begin());
                // Most flows of a flood say nothing: how they ended is none of what is counted here.
                if stretch.may_say_something()
                    && let Some((.., point)) = server_name(&finisher.finish_read(stretch))
                {
                    counts.name(point);
                    named.push(*number);
                }
            }
            Ok(())
        })?;
        // Whoever found them before found the same.
        let _ = self.named.set(named);
        Ok(self.inputs.get_or_init(|| self.counted(&counts)))
    }

    /// Counts of the rows of DNS messages.
    fn counts(&self) -> Counts {
        let mut counts = Counts(vec![(0, 0); self.joined.captures.len()]);
        self.ledger.row_points().for_each(|point| counts.name(point));
        counts
    }

    fn counted(&self, counts: &Counts) -> Vec<CaptureSummary> {
        // Captures of the same name count together, as their rows cannot be told apart.
        let mut by_name: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (name, (flows, names)) in self.joined.captures.iter().zip(&counts.0) {
            let sum = by_name.entry(name).or_default();
            *sum = (sum.0 + flows, sum.1 + names);
        }
        let mut inputs = self.joined.inputs.clone();
        for input in &mut inputs {
            (input.flows, input.names) = by_name.get(&*input.path).copied().unwrap_or_default();
        }
        inputs
    }
}

/// A reduction that is held against the rules of a site.
pub struct Judging<'a> {
    reduction: Reduction<'a>,
    matrix: &'a Matrix,
    site: &'a Site,
}

impl<'a> Judging<'a> {
    /// Joins what was extracted, for these rules and this site.
    ///
    /// # Errors
    /// As for [`Reduction::new`].
    pub fn new(extracted: Extracted, matrix: &'a Matrix, site: &'a Site) -> io::Result<Self> {
        Ok(Judging { reduction: Reduction::joined(extracted, Some((matrix, site)))?, matrix, site })
    }

    /// Lets somebody watch.
    #[must_use]
    pub fn watched(self, watch: Arc<Watch>) -> Self {
        Judging { reduction: self.reduction.watched(watch), ..self }
    }

    /// Parts rows into so many stretches that are judged apart, instead of a number that follows from theirs. Where nothing is
    /// folded since there is too much of it, this changes no audit.
    #[must_use]
    pub fn parted(mut self, stretches: usize) -> Self {
        self.reduction.parted = Some(stretches.max(1));
        self
    }

    /// What was joined: the captures, the rows of names.
    pub fn reduction(&self) -> &Reduction<'a> {
        &self.reduction
    }

    /// Holds all flows against the rules; rows are made only for a sink.
    ///
    /// # Errors
    /// As for [`Reduction::new`], and what the sink answers.
    pub fn audit(&self, mut rows: Option<Sink<'_, VerdictRow>>) -> io::Result<Audit> {
        let (sums, counts) = match &mut rows {
            Some(sink) => {
                let case = self.case();
                let mut counts = self.reduction.counts();
                self.reduction.watch.pass(self.reduction.order.len());
                let mut sums: Option<Sums> = None;
                let mut named = Vec::new();
                let mut judge = Judge::new(&case);
                let stretches = self.stretches();
                let last = stretches.len().saturating_sub(1);
                for (place, rows) in stretches.into_iter().enumerate() {
                    judge.begin_stretch(rows.start as u64);
                    let flows = self.reduction.stretch(rows);
                    let mut numbers = flows.iter();
                    self.reduction.flows_of(flows, &mut |flow| {
                        counts.flow(flow);
                        named.extend(numbers.next().filter(|_| server_name(flow).is_some()));
                        judge.row(flow).map_or(Ok(()), &mut *sink)
                    })?;
                    sums = Some(added(sums, judge.sums(place < last)));
                }
                // What was found before is the same.
                let _ = self.reduction.named.set(named);
                (sums, counts)
            }
            None => self.judged(usize::MAX)?,
        };
        Ok(self.finish(sums, &counts))
    }

    /// Holds all flows against the rules, and gives them up before the audit is put into words: no rows can be had of it
    /// afterwards.
    ///
    /// # Errors
    /// As for [`Reduction::new`].
    pub fn audit_alone(&mut self) -> io::Result<Audit> {
        let (audit, _) = self.summary_alone(usize::MAX)?;
        Ok(audit)
    }

    /// The same for a summary: of each kind of findings `most` are put into words, and the others are counted.
    ///
    /// # Errors
    /// As for [`Reduction::new`].
    pub fn summary_alone(&mut self, most: usize) -> io::Result<(Audit, Untold)> {
        let (sums, counts) = self.judged(most)?;
        self.reduction.joined.give_up_flows();
        self.reduction.order = Vec::new();
        Ok(self.finish_summary(sums, &counts, most))
    }

    fn case(&self) -> Case<'_> {
        let Reduction { joined, ledger, unreadable, .. } = &self.reduction;
        Case {
            matrix: self.matrix,
            site: self.site,
            ledger,
            unreadable,
            captures: &joined.captures,
            spans: &joined.spans,
            without_flow: &joined.without_flow,
        }
    }

    fn stretches(&self) -> Vec<Range<usize>> {
        let flows = self.reduction.order.len();
        stretches(flows, self.reduction.parted.unwrap_or_else(|| stretches_of(flows)))
    }

    fn finish(&self, sums: Option<Sums>, counts: &Counts) -> Audit {
        self.finish_summary(sums, counts, usize::MAX).0
    }

    fn finish_summary(&self, sums: Option<Sums>, counts: &Counts, most: usize) -> (Audit, Untold) {
        let inputs = self.reduction.inputs.get_or_init(|| self.reduction.counted(counts));
        let case = self.case();
        let judge = Judge::of_summary(&case, most);
        let judge = match sums {
            Some(sums) => judge.with(sums),
            None => judge,
        };
        judge.finish_summary(inputs.clone())
    }

    /// Judges stretches of the rows on several threads. What each came to is added up in their order. Of each kind of findings
    /// `most` will be told.
    fn judged(&self, most: usize) -> io::Result<(Option<Sums>, Counts)> {
        let (reduction, case, stretches) = (&self.reduction, &self.case(), self.stretches());
        reduction.watch.pass(reduction.order.len());
        let one = |judge: &mut Judge<'_>, rows: Range<usize>, goes_on| -> io::Result<(Sums, Counts)> {
            judge.begin_stretch(rows.start as u64);
            let mut counts = Counts(vec![(0, 0); reduction.joined.captures.len()]);
            reduction.unfinished(reduction.stretch(rows), &mut |stretches, finisher| {
                let flows: Vec<Flow<'_>> =
                    stretches.iter().map(|stretch| finisher.finish_read(stretch)).collect();
                flows.iter().for_each(|flow| counts.flow(flow));
                judge.flows(&flows);
                Ok(())
            })?;
            Ok((judge.sums(goes_on), counts))
        };
        let jobs = reduction.jobs.clamp(1, stretches.len().max(1));
        let done = Mutex::new(InOrder {
            sums: Ok(None),
            counts: reduction.counts(),
            added: 0,
            waiting: BTreeMap::new(),
        });
        let work = |run: usize| {
            // Whoever judges several stretches, one after another, finds a verdict once for all of them, and findings too.
            let mut judge = Judge::of_summary(case, most);
            let of_run = stretches.len() * run / jobs..stretches.len() * (run + 1) / jobs;
            for place in of_run.clone() {
                let Some(rows) = stretches.get(place) else { return };
                let result = one(&mut judge, rows.clone(), place + 1 < of_run.end);
                done.lock().unwrap_or_else(PoisonError::into_inner).add(place, result);
            }
        };
        std::thread::scope(|scope| {
            for run in 1..jobs {
                let work = &work;
                scope.spawn(move || work(run));
            }
            work(0);
        });
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((done.sums?, done.counts))
    }
}

/// What stretches of the rows came to, added up in their order as soon as that can be: what waits takes memory, and much of
/// it is in several of them.
struct InOrder {
    sums: io::Result<Option<Sums>>,
    counts: Counts,
    /// How many are in.
    added: usize,
    waiting: BTreeMap<usize, io::Result<(Sums, Counts)>>,
}

impl InOrder {
    fn add(&mut self, place: usize, result: io::Result<(Sums, Counts)>) {
        self.waiting.insert(place, result);
        while let Some(result) = self.waiting.remove(&self.added) {
            self.added += 1;
            let sums = std::mem::replace(&mut self.sums, Ok(None));
            self.sums = sums.and_then(|sums| {
                let (more, counted) = result?;
                self.counts.add(&counted);
                Ok(Some(added(sums, more)))
            });
        }
    }
}

fn added(sums: Option<Sums>, later: Sums) -> Sums {
    match sums {
        Some(mut sums) => {
            sums.add(later);
            sums
        }
        None => later,
    }
}

/// Flows that are judged in one go: 32,768. What stretches come to is added up, so more of them cost more.
const STRETCH_FLOWS: usize = 1 << 15;

/// Stretches at the most. How rows are parted depends on their number alone: so what they come to is the same, whatever the
/// number of threads.
const MOST_STRETCHES: usize = 4;

fn stretches_of(flows: usize) -> usize {
    (flows / STRETCH_FLOWS).clamp(1, MOST_STRETCHES)
}

fn stretches(flows: usize, count: usize) -> Vec<Range<usize>> {
    (0..count).map(|part| flows * part / count..flows * (part + 1) / count).collect()
}

fn is_service(
    policy: Option<(&Matrix, &Site)>,
    services: &Services,
    transport: Transport,
    port: u16,
) -> bool {
    let Some((matrix, _)) = policy else { return false };
    let mut services = services.borrow_mut();
    *services.entry((transport, port)).or_insert_with(|| matrix.names_port(transport, port))
}

/// Holds everything against the rules of a site, rows and all.
///
/// # Errors
/// As for [`Reduction::new`].
pub fn judge(extracted: Extracted, matrix: &Matrix, site: &Site) -> io::Result<Judged> {
    let judging = Judging::new(extracted, matrix, site)?;
    let (mut rows, mut names) = (Vec::new(), Vec::new());
    let audit = judging.audit(Some(&mut |row| {
        rows.push(row);
        Ok(())
    }))?;
    judging.reduction().name_rows(&mut |row| {
        names.push(row);
        Ok(())
    })?;
    Ok(Judged { audit, rows, names })
}
