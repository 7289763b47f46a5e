//! Follows conversations while they go on: judges those that changed, with the names known so far, by the same code as the
//! audit, and tells what findings come of it. Nothing of this enters the audit, which judges everything at its end.

use super::Policy;
use super::ending::Ending;
use super::events::{Notice, Outlet};
use super::memory::Shares;
use super::picture::{Event, FlowTotals, InterfacePicture, LiveFinding, Picture, RulePicture, Stages};
use super::save::Disk;
use super::waiting::{self, LookQueue};
use crate::audit::{
    Audit, Code, Conversation, Coverage, CoverageState, EvidenceFrame, Finding, NamesQuality, Party, Verdict,
};
use crate::capture::live::now;
use crate::flow::{Finisher, Flow, FlowKey, FlowRecord, HostSight, Outcome, PartialFlow, Side, Stretch};
use crate::matrix::{HTTP_PROXY_ROLE, Matrix, Site};
use crate::model::{CaptureId, Endpoint, FramePoint, NANOS_PER_SECOND, Spans, Timestamp, Transport};
use crate::names::{DnsObservation, GrowingLedger};
use crate::pipeline::join::{dns_of_tcp, is_dns_over_tcp};
use crate::verdict::{Case, Judge, MOST_STRANGER_FINDINGS, MOST_STRANGERS, Reach, VerdictRow};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Conversations followed at the same time, as far as memory goes: 16,384, twice as many as may wait to be looked at. Those heard
/// of longest ago are forgotten first: one of them that is heard of again then counts anew in what is shown live.
const MOST_FOLLOWED: usize = 2 * waiting::MOST_WAITING;

/// Conversations taken from the table at the end of a segment, even if there is no room: 8,192. They begin anew in the next, and what
/// was not taken is not followed.
pub(super) const MOST_AT_END: usize = 1 << 13;

/// How long conversations are looked at before what came meanwhile is taken: 100 ms.
const LOOK: Duration = Duration::from_millis(100);

/// Conversations judged together, after which what is found is told: 2,048, some 20 ms. Fewer would pay more often for what each
/// time costs, and not see together what worked and what was blocked; more would be told later.
const AT_ONCE: usize = 1 << 11;

/// Connections that ended for another between the same ports and wait for their last look, at the most.
const MOST_FINISHED: usize = 1 << 12;

/// Conversations that are looked at again where a run has to end at once.
const MOST_JUDGED_IN_HURRY: usize = 1 << 10;

/// How often it is told that conversations are not followed: 10 s.
const UNFOLLOWED_EVERY: Duration = Duration::from_secs(10);

/// How long a look waits for those who write down what it tells: half of it.
const WRITTEN_WITHIN: Duration = Duration::from_millis(50);

/// How often it is asked whether something has to be told only since time went by.
const TOLD_EVERY: Duration = Duration::from_millis(250);

/// How often findings about names themselves are looked for (names that are refused, resolvers): all messages are looked at.
const NAMES_EVERY: Duration = Duration::from_millis(500);

/// DNS messages that live verdicts rest on, as far as memory goes: beyond, the older half is left out. Half an hour of a busy site;
/// more would take longer to be read than a finding may wait for.
const MOST_MESSAGES: usize = 1 << 18;

/// How often a new picture is made.
const SHOWN_EVERY: Duration = Duration::from_millis(500);

/// When a conversation that nothing new is seen of is looked at again, after its latest frame: what depends on time alone
/// has changed then. Late answers name it within 5 s; silence is one after 3 s (SEMANTICS sections 2 and 3).
const LOOKS_NANOS: [i64; 4] =
    [NANOS_PER_SECOND, NANOS_PER_SECOND * 33 / 10, NANOS_PER_SECOND * 53 / 10, NANOS_PER_SECOND * 61];

/// How long nothing may happen to a finding before it is settled.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// How often a growing count is told.
const COUNTED_EVERY: Duration = Duration::from_secs(10);

/// How long a run is warming up: 5 minutes. Resolvers of hosts keep most names for less.
pub(super) const WARM_UP: Duration = Duration::from_secs(300);

/// What the mapper tells about the time since the last look.
pub(super) struct Tick {
    pub segment: Arc<str>,
    pub capture: CaptureId,
    /// What changed.
    pub stretches: Vec<Stretch>,
    pub unfollowed: u64,
    pub dns: Vec<DnsObservation>,
    pub spans: Spans,
    pub latest: Option<Timestamp>,
    pub stages: Stages,
    pub interfaces: Vec<InterfacePicture>,
    pub last: bool,
}

/// What several threads of a live run share.
pub(super) struct Shared {
    pub policy: Mutex<Arc<Policy>>,
    pub picture: watch::Sender<Arc<Picture>>,
    /// What became of frames that are to be written.
    pub disk: Arc<Disk>,
    /// When the run has to be over, and what it saw.
    pub ending: Arc<Ending>,
    /// Whether the last tick is still being looked at.
    pub busy: AtomicBool,
    /// How long that took the last time, in milliseconds.
    pub cost_ms: AtomicU64,
    /// How many conversations that changed can be told of in time.
    pub room: AtomicUsize,
    /// How many wait to be looked at.
    pub unlooked: AtomicUsize,
    /// How many were not followed though there was room, since others like them wait.
    pub turned_away: AtomicU64,
    pub began: Instant,
    pub began_at: Timestamp,
}

/// In place of roles, where initiators without one share a finding.
const STRANGERS: &str = "strangers";

/// In place of a destination, where they share one for all of them.
const FURTHER: &str = "further";

/// What makes two observations one finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    code: Code,
    from: Option<IpAddr>,
    roles: String,
    to: String,
    port: Option<u16>,
    proto: Option<Transport>,
}

impl Key {
    /// The one of a judged flow.
    fn of_row(code: Code, row: &VerdictRow, site: &Site) -> Key {
        let flow = &row.flow;
        // What is asked of a proxy that the site does not list replaces nothing.
        let is_proxy = row.responder_roles.iter().any(|role| role == HTTP_PROXY_ROLE);
        let target = flow.proxy_target.as_ref().filter(|_| is_proxy);
        let (ip, port) = match target {
            Some(target) => (target.ip.unwrap_or(flow.responder_ip), target.port),
            None => (flow.responder_ip, flow.responder_port),
        };
        // An address that is asked for is known by no name of what else was.
        let name = row.names.first().filter(|_| target.is_none_or(|target| target.ip.is_none()));
        let name = name.map(|name| name.name.to_string());
        let folded = code.is_per_role();
        Key {
            code,
            from: (!folded).then(|| site.host_of(flow.initiator_ip)),
            roles: if folded { row.initiator_roles.join("+") } else { String::new() },
            to: name.unwrap_or_else(|| ip.to_string()),
            port: (!folded && flow.proto.has_ports()).then_some(port),
            proto: Some(flow.proto),
        }
    }

    /// The one of a finding as an audit words it.
    fn of_finding(finding: &Finding, site: &Site) -> Key {
        let folded = finding.code.is_per_role();
        let of_all = folded || finding.code.is_per_resolver();
        let to = finding.to.name.as_ref().map(ToString::to_string);
        Key {
            code: finding.code,
            from: finding.from.ip.filter(|_| !of_all).map(|ip| site.host_of(ip)),
            roles: if folded { finding.from.roles.join("+") } else { String::new() },
            to: to.or(finding.to.ip.map(|ip| ip.to_string())).unwrap_or_else(|| finding.title.clone()),
            port: finding.to.port.filter(|_| !folded),
            proto: finding.to.proto.filter(|_| !finding.code.is_per_resolver()),
        }
    }
}

/// A finding while it grows.
struct Growing {
    number: u64,
    finding: Finding,
    outcomes: BTreeMap<Outcome, u64>,
    /// From where to where its flows go, also those that turned out to be something else.
    reach: Reach,
    /// Flows of it that may still change.
    open: u64,
    warm_up: bool,
    /// What was told last: count, outcomes.
    told: Option<(u64, Vec<Outcome>)>,
    told_at: Instant,
    changed_at: Instant,
    event: Event,
    shown: Option<Arc<LiveFinding>>,
}

impl Growing {
    /// Goes from there to where a flow goes, too.
    fn go(&mut self, from: Option<IpAddr>, flow: &FlowRecord) {
        let (to, port) = (flow.responder_ip, flow.responder_port);
        if !self.reach.has(from, to, port) {
            self.reach.note(from, to, port);
            self.reach.trim();
            self.reach.unname(&mut self.finding);
            self.finding.display_filter = Some(self.reach.filter(flow.proto));
        }
    }
}

/// The row of a conversation, and whether it demonstrably worked ([`Flow::worked`]).
struct JudgedRow {
    row: VerdictRow,
    worked: bool,
    /// What would be the rows of each destination that it asked its proxy for, where these are several.
    parts: Vec<(VerdictRow, bool)>,
}

impl JudgedRow {
    /// The rows that findings and coverage are about.
    fn each(&self) -> impl Iterator<Item = (&VerdictRow, bool)> {
        let whole = self.parts.is_empty().then_some((&self.row, self.worked));
        whole.into_iter().chain(self.parts.iter().map(|(row, worked)| (row, *worked)))
    }
}

/// What a conversation was found to be at the last look.
#[derive(Default)]
struct Standing {
    verdict: Option<Verdict>,
    outcome: Option<Outcome>,
    /// What it counts for, and with which outcome.
    findings: Vec<(usize, Outcome)>,
    /// Which rules it exercised, with which outcome, and whether that demonstrably worked.
    rules: Vec<(usize, Outcome, bool)>,
    line: Option<usize>,
    bytes: u64,
    /// Whether more frames are not expected to change what it is, but only how much.
    plain: bool,
}

/// What conversations have in common that are probably the same to the rules: who began, with whom, and how far it got, as far as
/// that is seen without judging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    transport: Transport,
    initiator: IpAddr,
    responder: Endpoint,
    /// Whether the initiator and the responder said something, whether there was an answer, and whether somebody reset.
    signs: [bool; 4],
}

impl Kind {
    fn of(flow: &PartialFlow, initiator: Side) -> Kind {
        let (own, other) = (flow.side(initiator), flow.side(initiator.other()));
        let reset = own.reset.is_some() || other.reset.is_some();
        Kind {
            transport: flow.key.transport,
            initiator: flow.key.endpoint(initiator).ip,
            responder: flow.key.endpoint(initiator.other()),
            signs: [own.payload > 0, other.payload > 0, other.packets > 0, reset],
        }
    }
}

/// A conversation that is followed.
struct Followed {
    /// Its stretches before the one at hand, joined.
    before: Option<Box<PartialFlow>>,
    capture: CaptureId,
    current: Stretch,
    /// Whether it closed as TCP does.
    closed: bool,
    standing: Standing,
    /// Nothing more is expected to change.
    settled: bool,
    /// Whether it waits to be looked at, since it changed.
    waits: bool,
    /// When it is looked at again.
    due: Option<Timestamp>,
    /// Heard of since it was queued to be forgotten.
    heard: bool,
    /// DNS messages of it over TCP that were read already.
    messages: BTreeSet<FramePoint>,
}

/// A connection after which another began between the same ports.
struct Finished {
    flow: PartialFlow,
    standing: Standing,
    settled: bool,
}

impl Followed {
    fn whole(&self) -> PartialFlow {
        let current = self.current.flow(self.capture);
        match (&self.before, current) {
            (None, current) => current.unwrap_or_else(PartialFlow::nothing),
            (Some(before), current) => {
                let mut whole = (**before).clone();
                current.into_iter().for_each(|current| whole.join(&current));
                whole
            }
        }
    }

    /// Bytes that it takes in memory, about.
    fn bytes(&self) -> usize {
        /// Its places in tables and queues, its messages.
        const PLACES: usize = 256;
        /// What a stretch keeps apart.
        const APART: usize = 512;
        let before = if self.before.is_some() { size_of::<PartialFlow>() + APART } else { 0 };
        size_of::<Followed>() + PLACES + self.current.bytes() + before
    }
}

/// Counts of one row of the matrix.
#[derive(Clone, Default)]
struct RuleCount {
    flows: u64,
    worked: u64,
    blocked: u64,
    outcomes: BTreeMap<Outcome, u64>,
    names: BTreeSet<crate::model::DomainName>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    evidence: Vec<EvidenceFrame>,
}

#[derive(Default)]
struct Line {
    flows: u64,
    bytes: u64,
    verdicts: BTreeMap<Verdict, u64>,
    outcomes: BTreeMap<Outcome, u64>,
}

/// Of one host and rule, the conversations that worked and were blocked last, and when that was found, counted in judgements: judged
/// together they show that the rule is intermittent, however long one came after the other.
#[derive(Clone, Copy, Default)]
struct Witnesses {
    worked: Option<(FlowKey, u64)>,
    blocked: Option<(FlowKey, u64)>,
    /// Two of them were judged together.
    heard: bool,
}

/// The thread that follows.
pub(super) struct Follower {
    shared: Arc<Shared>,
    shares: Shares,
    outlet: Outlet,
    policy: Arc<Policy>,
    captures: Vec<Arc<str>>,
    followed: HashMap<FlowKey, Followed, RandomState>,
    /// Bytes that they take.
    followed_bytes: usize,
    /// To be judged for the last time.
    finished: VecDeque<Finished>,
    order: VecDeque<FlowKey>,
    waiting: LookQueue,
    /// Of which kinds of conversations it is known what they are.
    known: HashSet<Kind, RandomState>,
    /// How often some were judged together.
    judgements: u64,
    /// By host and place of a rule.
    witnesses: HashMap<(IpAddr, usize), Witnesses, RandomState>,
    /// Rows at hand: reused, since there are many.
    rows: Vec<(FlowKey, Option<JudgedRow>, Timestamp, Timestamp)>,
    /// How long one of those takes that may bring a finding, with all others that are looked at meanwhile and the time between looks.
    each: Duration,
    /// When the last look ended, if some of them were left.
    left: Option<Instant>,
    sight: HostSight,
    ledger: GrowingLedger,
    ledger_built: Option<Instant>,
    ledger_cost: Duration,
    /// When findings about names themselves were looked for.
    names_judged: Option<Instant>,
    findings: Vec<Growing>,
    finding_of: HashMap<Key, usize, RandomState>,
    folded: u64,
    /// How many findings initiators without a role have, by what they would share.
    strangers: HashMap<Key, usize, RandomState>,
    /// Findings of which something changed.
    stirred: BTreeSet<usize>,
    /// Findings of which something has to be told when it is time.
    unsettled: BTreeSet<usize>,
    /// When these were asked.
    told: Option<Instant>,
    coverage: Vec<Coverage>,
    rule_of: HashMap<String, usize, RandomState>,
    rules: Vec<RuleCount>,
    lines: Vec<Line>,
    line_of: BTreeMap<(String, String), usize>,
    totals: FlowTotals,
    names: NamesQuality,
    forgotten: u64,
    unfollowed: u64,
    /// How many of these were told, and when.
    unfollowed_told: (u64, Option<Instant>),
    serial: u64,
    rate: Option<(Instant, u64, u64)>,
    rates: (f64, f64),
    /// When a picture was made last.
    shown: Option<Instant>,
}

fn add<K: Ord>(map: &mut BTreeMap<K, u64>, key: K) {
    *map.entry(key).or_default() += 1;
}

fn take<K: Ord>(map: &mut BTreeMap<K, u64>, key: &K) {
    if let Some(count) = map.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            map.remove(key);
        }
    }
}

/// Whether the conversation closed as TCP does.
fn is_closed(flow: &PartialFlow) -> bool {
    let (low, high) = (flow.side(Side::Low), flow.side(Side::High));
    low.reset.is_some() || high.reset.is_some() || (low.fin.is_some() && high.fin.is_some())
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, shares: Shares, outlet: Outlet) -> Self {
        let policy = shared.policy.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Follower {
            shared,
            shares,
            outlet,
            policy,
            captures: Vec::new(),
            followed: HashMap::default(),
            followed_bytes: 0,
            finished: VecDeque::new(),
            order: VecDeque::new(),
            waiting: LookQueue::default(),
            known: HashSet::default(),
            judgements: 0,
            witnesses: HashMap::default(),
            rows: Vec::new(),
            each: Duration::ZERO,
            left: None,
            sight: HostSight::default(),
            ledger: GrowingLedger::default(),
            ledger_built: None,
            ledger_cost: Duration::ZERO,
            names_judged: None,
            findings: Vec::new(),
            finding_of: HashMap::default(),
            folded: 0,
            strangers: HashMap::default(),
            stirred: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            told: None,
            coverage: Vec::new(),
            rule_of: HashMap::default(),
            rules: Vec::new(),
            lines: Vec::new(),
            line_of: BTreeMap::new(),
            totals: FlowTotals::default(),
            names: NamesQuality::default(),
            forgotten: 0,
            unfollowed: 0,
            unfollowed_told: (0, None),
            serial: 0,
            rate: None,
            rates: (0.0, 0.0),
            shown: None,
        }
    }

    /// Looks at what changed, tick by tick, until there are no more.
    pub(super) fn run(mut self, ticks: &Receiver<Tick>) {
        for tick in ticks {
            let began = Instant::now();
            self.tick(tick);
            let cost = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let waiting = self.waiting.soon();
            self.shared.cost_ms.store(cost, Ordering::Relaxed);
            self.shared.unlooked.store(self.waiting.len(), Ordering::Relaxed);
            let room = waiting::in_time(self.each).saturating_sub(waiting);
            self.shared.room.store(room, Ordering::Relaxed);
            self.shared.busy.store(false, Ordering::Release);
        }
    }

    fn tick(&mut self, tick: Tick) {
        let began = Instant::now();
        let fresh = self.shared.policy.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let policy_changed = !Arc::ptr_eq(&fresh, &self.policy);
        if policy_changed {
            self.policy = fresh;
            self.ledger.start_over();
            self.known.clear();
            self.witnesses.clear();
        }
        let policy = Arc::clone(&self.policy);
        let place = tick.capture.index();
        if self.captures.len() <= place {
            self.captures.resize(place + 1, Arc::from(""));
        }
        if let Some(name) = self.captures.get_mut(place) {
            name.clone_from(&tick.segment);
        }
        self.unfollowed += tick.unfollowed;
        let latest = tick.latest.unwrap_or_default();
        for stretch in tick.stretches {
            self.take_stretch(stretch, tick.capture, &policy.site);
        }
        for mut message in tick.dns {
            message.point.capture = tick.capture;
            self.ledger.add(message);
        }
        if policy_changed {
            self.look_at_all_again();
        }
        self.know_names(&policy, &tick.spans, tick.last || policy_changed);
        self.look(&policy, &tick.spans, latest, began, (tick.last, policy_changed));
        self.forget();
        self.tell_unfollowed(tick.last);
        if self.shown.is_some_and(|shown| shown.elapsed() < SHOWN_EVERY) && !tick.last && !policy_changed {
            return;
        }
        self.shown = Some(Instant::now());
        self.show(&policy, tick.stages, tick.interfaces, tick.latest, tick.segment, tick.last);
    }

    /// Everything that is followed is to be judged anew.
    fn look_at_all_again(&mut self) {
        for &key in &self.order {
            if let Some(followed) = self.followed.get_mut(&key)
                && !std::mem::replace(&mut followed.waits, true)
            {
                self.waiting.add_later(key);
            }
        }
    }

    /// Looks at conversations for a while since it began; for as long as it takes where this is the last look, or other rules are
    /// in force.
    fn look(
        &mut self,
        policy: &Policy,
        spans: &Spans,
        latest: Timestamp,
        began: Instant,
        (last, policy_changed): (bool, bool),
    ) {
        // Nothing comes after the last look: whatever waits for its time is looked at, and not again.
        let now = if last { Timestamp(i64::MAX) } else { latest };
        let most = if last && self.shared.ending.is_hurried() {
            self.waiting.soon() + MOST_JUDGED_IN_HURRY
        } else {
            usize::MAX
        };
        let whole = last || policy_changed;
        // At the end all together, so that what worked and what was blocked are seen together.
        let at_once = if whole { MOST_FOLLOWED } else { AT_ONCE };
        let (mut looked, mut soon) = (0, 0);
        loop {
            let soon_before = self.waiting.soon();
            let taken = self.waiting.take(at_once.min(most - looked), now);
            looked += taken.len();
            soon += soon_before - self.waiting.soon();
            // Looked at while it waited: once is enough.
            let changed: BTreeSet<FlowKey> =
                taken.iter().filter(|key| self.is_to_be_looked_at(key, now)).copied().collect();
            let finished = self.finished.len().min(AT_ONCE);
            let others: Vec<Finished> = self.finished.drain(..finished).collect();
            let over = taken.len() < at_once && self.finished.is_empty();
            self.judge(policy, spans, &changed, others, now, whole && over);
            self.tell(last && over);
            if over || (!whole && began.elapsed() >= LOOK) {
                break;
            }
        }
        if soon >= AT_ONCE / 4 {
            // Where none was left the time between looks was not needed.
            let each = self.left.unwrap_or(began).elapsed() / u32::try_from(soon).unwrap_or(u32::MAX);
            // As the last looks were, lest a short one counts for much; a long one counts at once.
            self.each = each.max((self.each * 3 + each) / 4);
        }
        self.left = (self.waiting.soon() > 0).then(Instant::now);
        if last {
            self.unfollowed += self.waiting.give_up() as u64;
            self.tell_the_rest();
        }
    }

    /// Whether a conversation that was taken from those that wait was not looked at meanwhile; now it waits no more.
    fn is_to_be_looked_at(&mut self, key: &FlowKey, now: Timestamp) -> bool {
        let Some(followed) = self.followed.get_mut(key) else { return false };
        let due = followed.due.is_some_and(|due| due <= now);
        std::mem::take(&mut followed.waits) || due
    }

    /// Takes what changed of a conversation.
    fn take_stretch(&mut self, stretch: Stretch, capture: CaptureId, site: &Site) {
        let Some(flow) = stretch.flow(capture) else { return };
        for side in [Side::Low, Side::High] {
            if flow.side(side).packets > 0 && self.sight.len() < self.shares.hosts {
                self.sight.add(site.host_of(flow.key.endpoint(side.other()).ip));
            }
        }
        let (key, closed) = (flow.key, is_closed(&flow));
        let is_known = self.is_known(&flow);
        let Some(followed) = self.followed.get_mut(&key) else {
            if is_known && self.waiting.later() >= self.most_later() {
                self.unfollowed += 1;
                self.shared.turned_away.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let followed = Followed {
                before: None,
                capture,
                current: stretch,
                closed,
                standing: Standing::default(),
                settled: false,
                waits: true,
                due: None,
                heard: false,
                messages: BTreeSet::new(),
            };
            self.followed_bytes += followed.bytes();
            self.followed.insert(key, followed);
            self.order.push_back(key);
            if is_known {
                self.waiting.add_later(key)
            } else {
                self.waiting.add_soon(key)
            }
            self.read_messages(&key, &flow);
            return;
        };
        followed.heard = true;
        let bytes_before = followed.bytes();
        if (followed.capture, followed.current.serial) != (capture, stretch.serial) {
            let before = followed.whole();
            if before.is_continued_by(&flow) {
                followed.before = Some(Box::new(before));
            } else {
                // Another connection between the same ports: the one before is what it is.
                followed.before = None;
                self.finished.push_back(Finished {
                    flow: before,
                    standing: std::mem::take(&mut followed.standing),
                    settled: std::mem::take(&mut followed.settled),
                });
            }
        }
        (followed.capture, followed.current, followed.closed) = (capture, stretch, closed);
        self.followed_bytes = (self.followed_bytes + followed.bytes()).saturating_sub(bytes_before);
        if followed.settled {
            followed.settled = false;
            for &(finding, _) in &followed.standing.findings {
                if let Some(growing) = self.findings.get_mut(finding) {
                    growing.open += 1;
                }
            }
        }
        if !std::mem::replace(&mut followed.waits, true) {
            if followed.standing.plain { self.waiting.add_later(key) } else { self.waiting.add_soon(key) }
        }
        while self.finished.len() > MOST_FINISHED {
            let Some(Finished { standing, settled, .. }) = self.finished.pop_front() else { break };
            // As it was when it was looked at last.
            self.forgotten += 1;
            if !settled {
                self.close(&standing);
            }
        }
        self.read_messages(&key, &flow);
    }

    /// Where a conversation of a rule worked and others of the same host were blocked, or the other way round: one of these for each
    /// rule of which that was not found yet, to be judged with it.
    fn witnesses(&self, key: FlowKey, judged: &JudgedRow, site: &Site) -> Vec<FlowKey> {
        let host = site.host_of(judged.row.flow.initiator_ip);
        let telling = judged.each().filter(|(row, worked)| {
            row.verdict == Verdict::Documented && *worked != row.flow.outcome.is_blocked()
        });
        let places = telling.flat_map(|(row, worked)| {
            row.rules.iter().filter_map(move |rule| Some((*self.rule_of.get(rule)?, worked)))
        });
        let others = places.filter_map(|(place, worked)| {
            let of = self.witnesses.get(&(host, place)).filter(|of| !of.heard)?;
            let (other, _) = if worked { of.blocked? } else { of.worked? };
            // It may be the same one, which came further since.
            (other != key && self.followed.contains_key(&other)).then_some(other)
        });
        others.collect()
    }

    /// Takes down that a conversation worked, or was blocked.
    fn witness(&mut self, key: FlowKey, host: IpAddr, standing: &Standing) {
        let telling = standing.rules.iter().filter(|(_, outcome, worked)| *worked != outcome.is_blocked());
        for &(place, _, worked) in telling {
            if self.witnesses.len() >= self.shares.witnessed {
                self.witnesses.clear();
            }
            let of = self.witnesses.entry((host, place)).or_default();
            let (own, other) =
                if worked { (&mut of.worked, of.blocked) } else { (&mut of.blocked, of.worked) };
            *own = Some((key, self.judgements));
            of.heard |= other.is_some_and(|(other, when)| other != key && when == self.judgements);
        }
    }

    /// Whether it is known what conversations like this are: one more is probably no other, and can wait behind those of which nothing
    /// is known.
    fn is_known(&self, flow: &PartialFlow) -> bool {
        [Side::Low, Side::High].into_iter().any(|initiator| self.known.contains(&Kind::of(flow, initiator)))
    }

    /// How many of these may wait: where there are others before them, a sixth of what of those is looked at in time, since of each
    /// look at most three quarters are those and an eighth these.
    fn most_later(&self) -> usize {
        if self.left.is_some() { waiting::in_time(self.each) / 6 } else { waiting::MOST_WAITING }
    }

    /// Reads the DNS messages of a conversation over TCP of which this stretch came.
    fn read_messages(&mut self, key: &FlowKey, flow: &PartialFlow) {
        if !is_dns_over_tcp(flow) {
            return;
        }
        let Some(followed) = self.followed.get_mut(key) else { return };
        for message in dns_of_tcp(&followed.whole()) {
            if followed.messages.insert(message.point) {
                self.ledger.add(message);
            }
        }
    }

    /// Reads what DNS told so far, if there is anything new, and not more often than it is cheap.
    fn know_names(&mut self, policy: &Policy, spans: &Spans, at_once: bool) {
        // It takes half of the time at the most.
        let wait = self.ledger_cost;
        let soon = self.ledger_built.is_some_and(|built| built.elapsed() < wait);
        if !at_once && (soon || !self.ledger.has_news()) {
            return;
        }
        let began = Instant::now();
        if self.ledger.kept_bytes() > self.shares.messages_bytes || self.ledger.len() > MOST_MESSAGES {
            self.ledger.forget_half();
        }
        let site = &policy.site;
        let host_of = |ip: IpAddr| site.host_of(ip);
        let trusted = |ip: IpAddr| site.is_resolver(ip);
        self.ledger.know(&host_of, &trusted, spans.begins().into());
        self.ledger_built = Some(Instant::now());
        self.ledger_cost = began.elapsed();
    }

    fn judge(
        &mut self,
        policy: &Policy,
        spans: &Spans,
        changed: &BTreeSet<FlowKey>,
        finished: Vec<Finished>,
        latest: Timestamp,
        last_look: bool,
    ) {
        let Policy { matrix, site } = policy;
        let nothing = BTreeMap::new();
        let captures = self.captures.clone();
        let ledger = std::mem::take(&mut self.ledger);
        let case = Case {
            matrix,
            site,
            ledger: ledger.ledger(),
            unreadable: &[],
            captures: &captures,
            spans,
            without_flow: &nothing,
        };
        let mut judge = Judge::new(&case);
        let sight = std::mem::take(&mut self.sight);
        let host_of = |ip: IpAddr| site.host_of(ip);
        let is_service = |transport, port| matrix.names_port(transport, port);
        let finisher = Finisher { spans, sight: &sight, host_of: &host_of, is_service: &is_service };
        let mut judged = |flow: &Flow<'_>| {
            let (row, parts) = judge.row_and_parts(flow)?;
            Some(JudgedRow { row, worked: flow.worked(), parts })
        };
        let over: Vec<Option<JudgedRow>> =
            finished.iter().map(|finished| judged(&finisher.finish(&finished.flow))).collect();
        let mut rows = std::mem::take(&mut self.rows);
        self.judgements += 1;
        let mut keys: Vec<FlowKey> = changed.iter().copied().collect();
        let mut called = HashSet::<FlowKey, RandomState>::default();
        let mut at = 0;
        while let Some(&key) = keys.get(at) {
            at += 1;
            let Some(followed) = self.followed.get(&key) else { continue };
            let whole = followed.whole();
            let flow = finisher.finish(&whole);
            let row = judged(&flow);
            if let Some(JudgedRow { row, .. }) = row.as_ref().filter(|judged| is_plain(&judged.row)) {
                if self.known.len() >= self.shares.known {
                    self.known.clear();
                }
                let is_low = whole.key.endpoint(Side::Low).ip == row.flow.initiator_ip;
                self.known.insert(Kind::of(&whole, if is_low { Side::Low } else { Side::High }));
            }
            let others = row.as_ref().map(|row| self.witnesses(key, row, site)).unwrap_or_default();
            keys.extend(others.into_iter().filter(|other| !changed.contains(other) && called.insert(*other)));
            rows.push((key, row, flow.first_ts, flow.last_ts));
        }
        // In the order of the audit: it decides which strangers have findings of their own.
        rows.sort_by_key(|&(key, _, first, _)| (first, key));
        let with_names = last_look || self.names_judged.is_none_or(|then| then.elapsed() >= NAMES_EVERY);
        let audit = if with_names { judge.finish(Vec::new()) } else { judge.finish_flows() };
        self.sight = sight;
        self.ledger = ledger;
        self.take_words(&audit, site);
        let words: HashMap<Key, &Finding, RandomState> =
            audit.findings.iter().map(|finding| (Key::of_finding(finding, site), finding)).collect();
        for (Finished { standing, settled, .. }, row) in finished.into_iter().zip(over) {
            let standing = self.stand(standing, !settled, row.as_ref(), matrix, site, &words);
            if !settled {
                self.close(&standing);
            }
        }
        for (key, row, _, last) in rows.drain(..) {
            let Some(followed) = self.followed.get_mut(&key) else { continue };
            let (old, open) = (std::mem::take(&mut followed.standing), !followed.settled);
            let new = self.stand(old, open, row.as_ref(), matrix, site, &words);
            if let Some(JudgedRow { row, .. }) = &row {
                self.witness(key, site.host_of(row.flow.initiator_ip), &new);
            }
            if let Some(followed) = self.followed.get_mut(&key) {
                followed.standing = new;
            }
            self.look_again(&key, last, latest);
        }
        self.rows = rows;
        if with_names {
            self.names_judged = Some(Instant::now());
            self.names = audit.names_quality;
        }
        self.standing_findings(&audit.findings, site);
    }

    /// The rows of the matrix as this audit words them.
    fn take_words(&mut self, audit: &Audit, _site: &Site) {
        if self.rule_of.len() != audit.coverage.len()
            || audit.coverage.iter().any(|line| !self.rule_of.contains_key(&line.rule))
        {
            // Rules that are no longer in force go, with what was counted for them.
            let counts: HashMap<String, RuleCount, RandomState> = self
                .rule_of
                .drain()
                .filter_map(|(rule, at)| Some((rule, self.rules.get(at)?.clone())))
                .collect();
            self.rules = audit
                .coverage
                .iter()
                .map(|line| counts.get(&line.rule).cloned().unwrap_or_default())
                .collect();
            let places = audit.coverage.iter().enumerate();
            self.rule_of = places.map(|(place, line)| (line.rule.clone(), place)).collect();
            for followed in self.followed.values_mut() {
                followed.standing.rules.clear();
            }
            self.coverage.clone_from(&audit.coverage);
            return;
        }
        for (have, line) in self.coverage.iter_mut().zip(&audit.coverage) {
            let (state, why) = match line.state {
                CoverageState::NotObserved | CoverageState::NotObservable | CoverageState::NotApplicable => {
                    (line.state, line.why.clone())
                }
                CoverageState::Observed | CoverageState::Blocked | CoverageState::Intermittent => {
                    (CoverageState::NotObserved, None)
                }
            };
            // Once a packet of a host was seen that could begin it, it can be observed.
            if have.state != CoverageState::NotObserved || state != CoverageState::NotObservable {
                (have.state, have.why) = (state, why);
            }
        }
    }

    /// Counts a conversation as what it is found to be now, in place of what it was before.
    fn stand(
        &mut self,
        old: Standing,
        open: bool,
        row: Option<&JudgedRow>,
        matrix: &Matrix,
        site: &Site,
        words: &HashMap<Key, &Finding, RandomState>,
    ) -> Standing {
        if let (Some(verdict), Some(outcome)) = (old.verdict, old.outcome) {
            take(&mut self.totals.verdicts, &verdict);
            take(&mut self.totals.outcomes, &outcome);
            self.totals.flows -= 1;
            for &(place, outcome, worked) in &old.rules {
                let Some(rule) = self.rules.get_mut(place) else { continue };
                rule.flows = rule.flows.saturating_sub(1);
                rule.worked -= u64::from(worked).min(rule.worked);
                rule.blocked -= u64::from(outcome.is_blocked()).min(rule.blocked);
                take(&mut rule.outcomes, &outcome);
            }
            if let Some(line) = old.line.and_then(|line| self.lines.get_mut(line)) {
                line.flows -= 1;
                line.bytes = line.bytes.saturating_sub(old.bytes);
                take(&mut line.verdicts, &verdict);
                take(&mut line.outcomes, &outcome);
            }
            for &(finding, outcome) in &old.findings {
                if let Some(growing) = self.findings.get_mut(finding) {
                    growing.finding.count = growing.finding.count.saturating_sub(1);
                    growing.open -= u64::from(open).min(growing.open);
                    take(&mut growing.outcomes, &outcome);
                    self.stirred.insert(finding);
                }
            }
        }
        let Some(judged) = row else { return Standing::default() };
        let row = &judged.row;
        let flow = &row.flow;
        let mut new = Standing {
            verdict: Some(row.verdict),
            outcome: Some(flow.outcome),
            bytes: flow.bytes_fwd + flow.bytes_rev,
            plain: is_plain(row),
            ..Standing::default()
        };
        add(&mut self.totals.verdicts, row.verdict);
        add(&mut self.totals.outcomes, flow.outcome);
        self.totals.flows += 1;
        let line = self.line(row, matrix);
        if let Some(line) = self.lines.get_mut(line) {
            line.flows += 1;
            line.bytes += new.bytes;
            add(&mut line.verdicts, row.verdict);
            add(&mut line.outcomes, flow.outcome);
        }
        new.line = Some(line);
        for (row, worked) in judged.each() {
            self.stand_for(row, worked, open, site, words, &mut new);
        }
        new
    }

    /// Counts what a row is about for its rules and findings.
    fn stand_for(
        &mut self,
        row: &VerdictRow,
        worked: bool,
        open: bool,
        site: &Site,
        words: &HashMap<Key, &Finding, RandomState>,
        new: &mut Standing,
    ) {
        let flow = &row.flow;
        let rules = row.rules.iter().filter(|_| row.verdict == Verdict::Documented);
        let places: Vec<usize> = rules.filter_map(|rule| self.rule_of.get(rule).copied()).collect();
        for place in places {
            new.rules.push((place, flow.outcome, worked));
            let Some(rule) = self.rules.get_mut(place) else { continue };
            rule.flows += 1;
            rule.worked += u64::from(worked);
            rule.blocked += u64::from(flow.outcome.is_blocked());
            add(&mut rule.outcomes, flow.outcome);
            rule.first = Some(rule.first.map_or(flow.first_ts, |first| first.min(flow.first_ts)));
            rule.last = rule.last.max(Some(flow.last_ts));
            if rule.names.len() < 20 {
                rule.names.extend(row.names.iter().map(|name| name.name.clone()));
            }
            if rule.evidence.is_empty() {
                rule.evidence = evidence(row);
            }
        }
        for &code in &row.findings {
            let key = Key::of_row(code, row, site);
            let key = if row.initiator_roles.is_empty() { self.among_strangers(key) } else { key };
            let (is_own, is_further) = (key.roles != STRANGERS, key.to == FURTHER);
            let Some(place) = self.finding(key, row, code, words) else { continue };
            let Some(growing) = self.findings.get_mut(place) else { continue };
            if !is_further {
                growing.go(is_own.then_some(flow.initiator_ip), flow);
            }
            growing.finding.count += 1;
            growing.open += u64::from(open);
            add(&mut growing.outcomes, flow.outcome);
            let finding = &mut growing.finding;
            finding.first_ts = Some(finding.first_ts.map_or(flow.first_ts, |first| first.min(flow.first_ts)));
            finding.last_ts = finding.last_ts.max(Some(flow.last_ts));
            for frame in evidence(row) {
                if finding.evidence.len() < Finding::MOST_EVIDENCE && !finding.evidence.contains(&frame) {
                    finding.evidence.push(frame);
                }
            }
            new.findings.push((place, flow.outcome));
            self.stirred.insert(place);
        }
    }

    /// A flow of these findings changes no more.
    fn close(&mut self, standing: &Standing) {
        for &(finding, _) in &standing.findings {
            if let Some(growing) = self.findings.get_mut(finding) {
                growing.open = growing.open.saturating_sub(1);
                self.stirred.insert(finding);
            }
        }
    }

    /// Initiators without a role have findings of their own up to as many as in an audit; all others of one destination and
    /// port, or of one code, share one.
    fn among_strangers(&mut self, key: Key) -> Key {
        if self.finding_of.contains_key(&key) || key.from.is_none() {
            return key;
        }
        let common = Key { from: None, roles: STRANGERS.to_owned(), ..key.clone() };
        let of_stem = self.strangers.entry(common.clone()).or_default();
        if *of_stem >= MOST_STRANGERS {
            return common;
        }
        let code = Key { to: FURTHER.to_owned(), port: None, proto: None, ..common.clone() };
        *of_stem += 1;
        let of_code = self.strangers.entry(code.clone()).or_default();
        if *of_code >= MOST_STRANGER_FINDINGS {
            if let Some(of_stem) = self.strangers.get_mut(&common) {
                *of_stem -= 1;
            }
            return code;
        }
        *of_code += 1;
        key
    }

    /// The finding of a key, made where there is none yet. None where there are too many.
    fn finding(
        &mut self,
        key: Key,
        row: &VerdictRow,
        code: Code,
        words: &HashMap<Key, &Finding, RandomState>,
    ) -> Option<usize> {
        let worded = words.get(&key).map(|finding| Finding {
            count: 0,
            evidence: Vec::new(),
            first_ts: None,
            last_ts: None,
            outcomes: Vec::new(),
            ..(*finding).clone()
        });
        if let Some(&place) = self.finding_of.get(&key) {
            if let (Some(growing), Some(worded)) = (self.findings.get_mut(place), worded) {
                // Later evidence words it better.
                let have = &mut growing.finding;
                have.details = worded.details;
                (have.severity, have.remedy) = (worded.severity, worded.remedy);
                (have.rules, have.title) = (worded.rules, worded.title);
                (have.from, have.to) = (worded.from, worded.to);
                growing.reach.unname(have);
            }
            return Some(place);
        }
        if self.findings.len() >= self.shares.findings {
            self.folded += 1;
            return None;
        }
        let mut finding = worded.unwrap_or_else(|| plain(code, row));
        if key.roles == STRANGERS {
            let to = finding.title.split_once(" -> ").map_or("", |(_, to)| to);
            finding.title = if key.to == FURTHER {
                "further addresses that hold no role -> further destinations and ports".to_owned()
            } else {
                format!("further addresses that hold no role -> {to}")
            };
            finding.from = Party::default();
            if key.to == FURTHER {
                finding.to = Party::default();
            }
        }
        Some(self.grow(key, finding))
    }

    fn grow(&mut self, key: Key, finding: Finding) -> usize {
        let place = self.findings.len();
        let now = Instant::now();
        self.findings.push(Growing {
            number: place as u64 + 1,
            finding,
            outcomes: BTreeMap::new(),
            reach: Reach::default(),
            open: 0,
            warm_up: self.shared.began.elapsed() < WARM_UP,
            told: None,
            told_at: now,
            changed_at: now,
            event: Event::Appeared,
            shown: None,
        });
        self.finding_of.insert(key, place);
        place
    }

    /// Findings that belong to no flow: names that cannot be resolved, resolvers, exceptions that ran out.
    fn standing_findings(&mut self, findings: &[Finding], site: &Site) {
        for finding in findings {
            let standing = match finding.code {
                Code::NameBlocked
                | Code::UnexpectedResolver
                | Code::AcceptExpired
                | Code::Intermittent
                | Code::UnsolicitedAnswer => true,
                // Of flows; or of the captures as a whole, which the end tells.
                _ => false,
            };
            if !standing {
                continue;
            }
            let key = Key::of_finding(finding, site);
            let known = self.finding_of.get(&key).copied();
            let place = match known {
                Some(place) => place,
                None if self.findings.len() >= self.shares.findings => {
                    self.folded += 1;
                    continue;
                }
                None => self.grow(key, finding.clone()),
            };
            if let Some(growing) = self.findings.get_mut(place)
                && (known.is_none() || finding.count > growing.finding.count)
            {
                growing.finding = finding.clone();
                growing.outcomes = finding.outcomes.iter().map(|&outcome| (outcome, 1)).collect();
                self.stirred.insert(place);
            }
        }
    }

    /// The line of the From x To table, worded as the audit does.
    fn line(&mut self, row: &VerdictRow, matrix: &Matrix) -> usize {
        let from = if row.initiator_roles.is_empty() {
            "(no role)".to_owned()
        } else {
            row.initiator_roles.join("+")
        };
        let title =
            |rule: &String| matrix.rule(rule).map_or_else(|| rule.clone(), |rule| rule.to_title.clone());
        let to = match (row.verdict, row.rules.first()) {
            (Verdict::Documented, Some(rule)) => title(rule),
            (Verdict::Platform, Some(line)) => line.clone(),
            _ if !row.responder_roles.is_empty() => row.responder_roles.join("+"),
            (Verdict::OutOfScope, _) => "(out of scope)".to_owned(),
            _ => row
                .names
                .first()
                .map_or_else(|| row.flow.responder_ip.to_string(), |name| name.name.to_string()),
        };
        let mut key = (from, to);
        if self.lines.len() >= 500 && !self.line_of.contains_key(&key) {
            key.1 = "(others)".to_owned();
        }
        let lines = &mut self.lines;
        *self.line_of.entry(key).or_insert_with(|| {
            lines.push(Line::default());
            lines.len() - 1
        })
    }

    /// Says when a conversation is looked at next, or that nothing more is expected of it.
    fn look_again(&mut self, key: &FlowKey, last: Timestamp, latest: Timestamp) {
        let Some(followed) = self.followed.get_mut(key) else { return };
        if let Some(due) = followed.due.take() {
            self.waiting.remove_due(due, *key);
        }
        let next = LOOKS_NANOS.iter().map(|&after| last.plus(after)).find(|&time| time > latest);
        let sure = matches!(followed.standing.outcome, Some(outcome) if outcome != Outcome::Undetermined)
            && followed.standing.verdict != Some(Verdict::Undetermined);
        let over = followed.current.over && followed.closed && sure;
        match next {
            Some(next) if !over => {
                followed.due = Some(next);
                self.waiting.add_due(next, *key);
            }
            _ => {
                if !followed.settled {
                    followed.settled = true;
                    let standing = std::mem::take(&mut followed.standing);
                    self.close(&standing);
                    if let Some(followed) = self.followed.get_mut(key) {
                        followed.standing = standing;
                    }
                }
                if over && let Some(gone) = self.followed.remove(key) {
                    self.followed_bytes = self.followed_bytes.saturating_sub(gone.bytes());
                }
            }
        }
    }

    /// Tells what became of findings.
    fn tell(&mut self, last: bool) {
        let mut stirred = std::mem::take(&mut self.stirred);
        if last || self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            self.told = Some(Instant::now());
            stirred.append(&mut self.unsettled);
        }
        let until = Instant::now() + WRITTEN_WITHIN;
        for place in stirred {
            let Some(growing) = self.findings.get_mut(place) else { continue };
            growing.finding.outcomes = growing.outcomes.keys().copied().collect();
            let standing = (growing.finding.count, growing.finding.outcomes.clone());
            let event = match &growing.told {
                // It came and went between two looks.
                None if standing.0 == 0 => continue,
                None => Some(Event::Appeared),
                Some(told) if told.0 != 0 && standing.0 == 0 => Some(Event::Withdrawn),
                Some(told) if standing.0 == 0 && told.0 == 0 => None,
                Some(told) if told.1 != standing.1 || (told.0 == 0) => Some(Event::Updated),
                Some(told)
                    if told.0 != standing.0
                        && (standing.0 >= told.0 * 2
                            || growing.told_at.elapsed() >= COUNTED_EVERY
                            || last) =>
                {
                    Some(Event::Updated)
                }
                Some(told) if told.0 != standing.0 => {
                    // Told when it is time.
                    self.unsettled.insert(place);
                    None
                }
                Some(_) => None,
            };
            if growing.told.as_ref() != Some(&standing) {
                growing.changed_at = Instant::now();
            }
            let settled = growing.event == Event::Settled || growing.event == Event::Withdrawn;
            let event = match event {
                Some(event) => Some(event),
                None if growing.open == 0 && !settled => {
                    if growing.changed_at.elapsed() >= SETTLED_AFTER || last {
                        Some(Event::Settled)
                    } else {
                        self.unsettled.insert(place);
                        None
                    }
                }
                None => None,
            };
            let Some(event) = event else { continue };
            growing.told = Some(standing);
            growing.told_at = Instant::now();
            growing.event = event;
            let told = Arc::new(LiveFinding {
                number: growing.number,
                event,
                at: now(),
                warm_up: growing.warm_up,
                open: growing.open,
                finding: growing.finding.clone(),
            });
            self.outlet.finding(&told, until);
            growing.shown = Some(told);
            if event != Event::Settled && event != Event::Withdrawn {
                self.unsettled.insert(place);
            }
        }
    }

    /// Tells how many conversations are not followed, now and then.
    fn tell_unfollowed(&mut self, last: bool) {
        let (told, at) = self.unfollowed_told;
        let due = last || at.is_none_or(|at| at.elapsed() >= UNFOLLOWED_EVERY);
        if self.unfollowed > told && due {
            self.unfollowed_told = (self.unfollowed, Some(Instant::now()));
            self.outlet.notice(Notice::Unfollowed { at: now(), conversations: self.unfollowed - told });
        }
    }

    /// Each finding has its last word.
    fn tell_the_rest(&mut self) {
        (self.stirred, self.unsettled) = Default::default();
        let until = Instant::now() + WRITTEN_WITHIN;
        for growing in &mut self.findings {
            if growing.told.is_none() || matches!(growing.event, Event::Settled | Event::Withdrawn) {
                continue;
            }
            growing.event = Event::Settled;
            let told = Arc::new(LiveFinding {
                number: growing.number,
                event: Event::Settled,
                at: now(),
                warm_up: growing.warm_up,
                open: 0,
                finding: growing.finding.clone(),
            });
            self.outlet.finding(&told, until);
            growing.shown = Some(told);
        }
    }

    /// Forgets conversations where too many are followed: those heard of longest ago.
    fn forget(&mut self) {
        let mut looked = 0;
        while self.followed.len() > MOST_FOLLOWED
            || self.followed_bytes > self.shares.followed_bytes
            || self.order.len() > 4 * MOST_FOLLOWED
        {
            looked += 1;
            let Some(key) = self.order.pop_front() else { break };
            let Some(followed) = self.followed.get_mut(&key) else { continue };
            if (std::mem::take(&mut followed.heard) || followed.waits) && looked < 2 * MOST_FOLLOWED {
                self.order.push_back(key);
                continue;
            }
            if let Some(due) = followed.due.take() {
                self.waiting.remove_due(due, key);
            }
            if let Some(gone) = self.followed.remove(&key) {
                self.followed_bytes = self.followed_bytes.saturating_sub(gone.bytes());
                if gone.standing.verdict.is_none() && gone.waits {
                    // Nobody looked at it.
                    self.unfollowed += 1;
                    continue;
                }
                if !gone.settled {
                    self.close(&gone.standing);
                }
            }
            self.forgotten += 1;
        }
    }

    fn show(
        &mut self,
        policy: &Policy,
        mut stages: Stages,
        interfaces: Vec<InterfacePicture>,
        latest: Option<Timestamp>,
        segment: Arc<str>,
        ended: bool,
    ) {
        let _ = policy;
        self.serial += 1;
        (stages.unfollowed, stages.forgotten) = (self.unfollowed, self.forgotten);
        stages.unlooked += self.waiting.len() as u64;
        let now_is = Instant::now();
        if let Some((then, frames, bytes)) = self.rate {
            let seconds = now_is.duration_since(then).as_secs_f64();
            if seconds >= 0.5 {
                let frames = stages.frames.saturating_sub(frames) as f64;
                let bits = stages.bytes.saturating_sub(bytes) as f64 * 8.0;
                self.rates = (frames / seconds, bits / seconds);
                self.rate = Some((now_is, stages.frames, stages.bytes));
            }
        } else {
            self.rate = Some((now_is, stages.frames, stages.bytes));
        }
        let mut totals = self.totals.clone();
        let mut findings: Vec<Arc<LiveFinding>> =
            self.findings.iter().filter_map(|growing| growing.shown.clone()).collect();
        findings.sort_by_key(|told| std::cmp::Reverse((told.at, told.number)));
        for told in findings.iter().filter(|told| told.finding.count > 0) {
            add(&mut totals.findings, told.finding.severity);
        }
        let lines = self.line_of.iter().filter_map(|((from, to), &place)| {
            let line = self.lines.get(place).filter(|line| line.flows > 0)?;
            Some(Conversation {
                from: from.clone(),
                to: to.clone(),
                flows: line.flows,
                verdicts: line.verdicts.clone(),
                outcomes: line.outcomes.clone(),
                bytes: line.bytes,
            })
        });
        let picture = Picture {
            serial: self.serial,
            began: self.shared.began_at,
            now: now(),
            latest,
            warm_up: self.shared.began.elapsed() < WARM_UP,
            ended,
            interfaces,
            stages,
            frames_per_second: self.rates.0,
            bits_per_second: self.rates.1,
            totals,
            matrix: self.coverage.iter().zip(&self.rules).map(|(line, count)| rule(line, count)).collect(),
            findings,
            findings_folded: self.folded,
            conversations: lines.collect(),
            names: self.names.clone(),
            notices: self.outlet.recent(),
            segment,
        };
        self.shared.picture.send_replace(Arc::new(picture));
    }
}

/// A row of the matrix with its counts so far: states as the audit has them.
fn rule(line: &Coverage, count: &RuleCount) -> RulePicture {
    let mut coverage = line.clone();
    let words = |wanted: fn(Outcome) -> bool| {
        let outcomes = count.outcomes.keys().copied().filter(|&outcome| wanted(outcome));
        outcomes.map(Outcome::as_str).collect::<Vec<_>>().join(", ")
    };
    (coverage.state, coverage.why) = match (count.worked, count.blocked, count.flows) {
        (1.., 1.., _) => {
            (CoverageState::Intermittent, Some(format!("{} worked, {} blocked", count.worked, count.blocked)))
        }
        (1.., 0, _) => (CoverageState::Observed, None),
        (0, 1.., _) => (CoverageState::Blocked, Some(words(Outcome::is_blocked))),
        (0, 0, 1..) if line.state != CoverageState::NotApplicable => {
            (CoverageState::NotObserved, Some(format!("only {}", words(|_| true))))
        }
        _ => match line.state {
            CoverageState::NotApplicable | CoverageState::NotObservable | CoverageState::NotObserved => {
                (line.state, line.why.clone())
            }
            // Of flows that have turned out to be something else since.
            CoverageState::Observed | CoverageState::Blocked | CoverageState::Intermittent => {
                (CoverageState::NotObserved, None)
            }
        },
    };
    coverage.flows = count.flows;
    coverage.names = count.names.iter().cloned().collect();
    (coverage.first_ts, coverage.last_ts) = (count.first, count.last);
    RulePicture { coverage, worked: count.worked, blocked: count.blocked, evidence: count.evidence.clone() }
}

/// Whether a conversation is what it will be, as far as frames tell: it is decided, and both sides said something if they can.
fn is_plain(row: &VerdictRow) -> bool {
    let flow = &row.flow;
    let said = flow.payload_fwd > 0 && flow.payload_rev > 0;
    row.verdict != Verdict::Undetermined
        && flow.outcome != Outcome::Undetermined
        && (said || flow.outcome.is_blocked() || flow.proto != Transport::Tcp)
}

fn evidence(row: &VerdictRow) -> Vec<EvidenceFrame> {
    let proofs = row.flow.proof.iter();
    proofs.map(|proof| EvidenceFrame { capture: proof.capture.clone(), frame: proof.frame }).collect()
}

/// A finding for which the audit has no words of its own, since there are many like it.
fn plain(code: Code, row: &VerdictRow) -> Finding {
    let flow = &row.flow;
    let name = row.names.first().map(|name| name.name.clone());
    let who = |roles: &[String], ip: IpAddr| {
        if roles.is_empty() { ip.to_string() } else { format!("{} {ip}", roles.join("+")) }
    };
    let to = match &name {
        Some(name) => format!("{name} ({})", flow.responder_ip),
        None => who(&row.responder_roles, flow.responder_ip),
    };
    let ports = flow.proto.has_ports();
    let port = if ports { format!(" {}", flow.responder_port) } else { String::new() };
    let title = format!(
        "{} -> {to} {}{port}",
        who(&row.initiator_roles, flow.initiator_ip),
        flow.proto.to_string().to_uppercase()
    );
    Finding {
        from: Party { roles: row.initiator_roles.to_vec(), ip: Some(flow.initiator_ip), ..Party::default() },
        to: Party {
            roles: row.responder_roles.to_vec(),
            ip: Some(flow.responder_ip),
            name,
            port: ports.then_some(flow.responder_port),
            proto: Some(flow.proto),
        },
        rules: row.rules.to_vec(),
        ..Finding::of(code, title)
    }
}
