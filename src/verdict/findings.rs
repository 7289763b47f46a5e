//! Judged flows, DNS evidence and captures to findings. SEMANTICS section 5.

use super::classify::{Issue, Judged};
use super::row::{Differs, NameEvidenceSource};
use crate::audit::{CaptureSummary, Code, EvidenceFrame, Finding, Grade, Party, Severity, Verdict};
use crate::flow::{FlowRecord, Outcome};
use crate::model::{DomainName, FramePoint, Timestamp, Transport};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What makes two observations one finding: code, initiator host, name or address, port, transport.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub code: Code,
    pub severity: Severity,
    pub host: Option<IpAddr>,
    pub to: String,
    pub port: Option<u16>,
    pub proto: Option<Transport>,
    pub rules: Vec<String>,
}

/// A finding while it grows.
pub(super) struct Draft {
    pub finding: Finding,
    /// The first ones, each once; what is counted comes in order of time.
    evidence: Vec<EvidenceFrame>,
    hosts: BTreeMap<IpAddr, ()>,
}

/// All findings of an audit.
pub(super) struct Findings<'a> {
    drafts: BTreeMap<Key, Draft>,
    captures: &'a [Arc<str>],
}

impl<'a> Findings<'a> {
    pub(super) fn new(captures: &'a [Arc<str>]) -> Self {
        Findings { drafts: BTreeMap::new(), captures }
    }

    /// The finding of a key, made by `make` when it is the first of its kind.
    pub(super) fn draft(&mut self, key: Key, make: impl FnOnce() -> Finding) -> &mut Draft {
        self.drafts.entry(key).or_insert_with(|| Draft {
            finding: make(),
            evidence: Vec::new(),
            hosts: BTreeMap::new(),
        })
    }

    pub(super) fn frame(&self, point: FramePoint) -> EvidenceFrame {
        let capture = self.captures.get(point.capture.0 as usize).cloned().unwrap_or_else(|| Arc::from(""));
        EvidenceFrame { capture, frame: point.frame }
    }

    /// A finding that stands by itself.
    pub(super) fn add(&mut self, finding: Finding) {
        let key = Key {
            code: finding.code,
            severity: finding.severity,
            host: finding.from.ip,
            to: finding.title.clone(),
            port: finding.to.port,
            proto: finding.to.proto,
            rules: finding.rules.clone(),
        };
        let frames = finding.evidence.clone();
        let draft = self.draft(key, || finding);
        draft.cite(frames);
    }

    /// All findings, most severe first, then by code, initiator, destination, port and transport.
    pub(super) fn finish(self) -> Vec<Finding> {
        let rank: BTreeMap<&str, usize> =
            self.captures.iter().enumerate().map(|(rank, name)| (&**name, rank)).collect();
        let mut findings: Vec<Finding> = self
            .drafts
            .into_values()
            .map(|draft| {
                let mut finding = draft.finding;
                finding.evidence = draft.evidence;
                finding.evidence.sort_by_key(|at| (rank.get(&*at.capture).copied(), at.frame));
                let addresses: Vec<String> = draft.hosts.keys().map(ToString::to_string).collect();
                if addresses.len() > 1 {
                    let (shown, more) = addresses.split_at(addresses.len().min(8));
                    let tail =
                        if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
                    finding.details.push(format!("addresses: {}{tail}", shown.join(", ")));
                }
                finding
            })
            .collect();
        findings.sort_by(|a, b| {
            let key = |finding: &Finding| (finding.severity, finding.code, finding.from.ip, finding.to.ip);
            key(a)
                .cmp(&key(b))
                .then_with(|| a.to.name.cmp(&b.to.name))
                .then_with(|| (a.to.port, a.to.proto, &a.rules).cmp(&(b.to.port, b.to.proto, &b.rules)))
        });
        findings
    }
}

impl Draft {
    /// Counts one more observation.
    pub(super) fn count(&mut self, first: Timestamp, last: Timestamp, frames: Vec<EvidenceFrame>) {
        let finding = &mut self.finding;
        finding.count += 1;
        finding.first_ts = Some(finding.first_ts.map_or(first, |have| have.min(first)));
        finding.last_ts = Some(finding.last_ts.map_or(last, |have| have.max(last)));
        self.cite(frames);
    }

    /// The first ones stay: the bound is on what is kept while there may be millions of flows.
    fn cite(&mut self, frames: Vec<EvidenceFrame>) {
        for frame in frames {
            if self.evidence.len() < Finding::MOST_EVIDENCE && !self.evidence.contains(&frame) {
                self.evidence.push(frame);
            }
        }
    }

    pub(super) fn detail(&mut self, line: String) {
        if self.finding.details.len() < 12 && !self.finding.details.contains(&line) {
            self.finding.details.push(line);
        }
    }
}

/// Frames cited for the names of one flow, so that its own are not crowded out.
const MOST_NAME_FRAMES: usize = 5;

/// Frames that prove something about a flow: where its names were learnt, then its own, each in the order in which they
/// were taken.
fn frames_of(judged: &Judged, findings: &Findings<'_>) -> Vec<EvidenceFrame> {
    let own = judged.row.flow.proof.iter();
    let own = own.map(|proof| EvidenceFrame { capture: proof.capture.clone(), frame: proof.frame });
    let mut names = judged.name_points.clone();
    names.sort_unstable();
    names.truncate(MOST_NAME_FRAMES);
    names.iter().map(|point| findings.frame(*point)).chain(own).collect()
}

/// The findings of one flow; tells the codes that its row carries.
pub(super) fn of_flow(
    findings: &mut Findings<'_>,
    judged: &Judged,
    host: IpAddr,
    accepted: Option<&Accepted>,
) -> Vec<Code> {
    let row = &judged.row;
    let blocked = row.flow.outcome.is_blocked();
    let got_through = matches!(
        row.flow.outcome,
        Outcome::Established | Outcome::Answered | Outcome::Midstream | Outcome::HalfOpen | Outcome::OneSided
    );
    let alias = row.nearest.as_ref().is_some_and(|nearest| nearest.differs == Differs::Alias);
    let code = match (row.verdict, blocked) {
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
    let mut codes: Vec<Code> = code.into_iter().collect();
    codes.extend(judged.issues.iter().map(|issue| match issue {
        Issue::ProtocolMismatch { .. } => Code::ProtocolMismatch,
        Issue::NameConflict { .. } => Code::NameConflict,
        Issue::UnsolicitedAnswer => Code::UnsolicitedAnswer,
        Issue::ForeignAccount { .. } => Code::ForeignAccount,
    }));
    codes.sort_unstable();
    codes.dedup();
    for &code in &codes {
        let severity = match code {
            Code::UnexpectedTraffic if alias => Severity::Medium,
            code => code.severity(),
        };
        let name = destination_name(judged);
        let to = name.as_ref().map_or_else(|| destination(judged).0.to_string(), ToString::to_string);
        // Undetermined flows fold into one finding per (role, server name or address, rule).
        let folded = code == Code::Undetermined;
        let rules = if row.rules.is_empty() { judged.possible.clone() } else { row.rules.clone() };
        let key = Key {
            code,
            severity,
            host: if folded && !row.initiator_roles.is_empty() { None } else { Some(host) },
            to: if folded { format!("{} {to} {:?}", row.initiator_roles.join("+"), row.missing) } else { to },
            port: (!folded).then_some(destination(judged).1),
            proto: Some(row.flow.proto),
            rules: if folded { rules.clone() } else { Vec::new() },
        };
        let frames = frames_of(judged, findings);
        let draft = findings.draft(key, || new_finding(code, severity, judged, name.clone(), rules));
        draft.count(row.flow.first_ts, row.flow.last_ts, frames);
        draft.hosts.insert(row.flow.responder_ip, ());
        if !draft.finding.outcomes.contains(&row.flow.outcome) {
            draft.finding.outcomes.push(row.flow.outcome);
            draft.finding.outcomes.sort_unstable();
        }
        for line in details(code, judged, accepted) {
            draft.detail(line);
        }
    }
    codes
}

/// An `[[accept]]` entry that a flow matches.
pub(super) struct Accepted {
    pub reason: String,
    pub until: Option<String>,
    pub expired: bool,
}

/// Where a flow goes: its responder, or what the client asked its proxy for (by name: the proxy's address stands for it).
fn destination(judged: &Judged) -> (IpAddr, u16) {
    let flow = &judged.row.flow;
    match &flow.proxy_target {
        Some(target) if judged.proxied => (target.ip.unwrap_or(flow.responder_ip), target.port),
        _ => (flow.responder_ip, flow.responder_port),
    }
}

fn destination_name(judged: &Judged) -> Option<DomainName> {
    judged.row.names.first().map(|name| name.name.clone())
}

fn who(roles: &[String], ip: Option<IpAddr>) -> String {
    let ip = ip.map(|ip| ip.to_string()).unwrap_or_default();
    if roles.is_empty() { ip } else { format!("{} {ip}", roles.join("+")) }
}

fn new_finding(
    code: Code,
    severity: Severity,
    judged: &Judged,
    name: Option<DomainName>,
    rules: Vec<String>,
) -> Finding {
    let row = &judged.row;
    let flow = &row.flow;
    let from = who(&row.initiator_roles, Some(flow.initiator_ip));
    let (ip, port_number) = destination(judged);
    let to = match &name {
        Some(name) if judged.proxied => format!("{name} (through {})", flow.responder_ip),
        None if judged.proxied => format!("{ip} (through {})", flow.responder_ip),
        Some(name) => format!("{name} ({})", flow.responder_ip),
        None => who(&row.responder_roles, Some(flow.responder_ip)),
    };
    let port = if flow.proto.has_ports() {
        format!("{} {}", flow.proto.to_string().to_uppercase(), port_number)
    } else {
        flow.proto.to_string().to_uppercase()
    };
    Finding {
        code,
        severity,
        title: format!("{from} -> {to} {port}"),
        from: Party { roles: row.initiator_roles.clone(), ip: Some(flow.initiator_ip), ..Party::default() },
        to: Party {
            roles: row.responder_roles.clone(),
            ip: Some(ip),
            name,
            port: flow.proto.has_ports().then_some(port_number),
            proto: Some(flow.proto),
        },
        rules,
        count: 0,
        first_ts: None,
        last_ts: None,
        outcomes: Vec::new(),
        details: Vec::new(),
        evidence: Vec::new(),
        display_filter: Some(display_filter(flow)),
        remedy: remedy(code, judged),
    }
}

/// A filter for Wireshark that shows the conversation and the ICMP errors that quote it.
fn display_filter(flow: &FlowRecord) -> String {
    let field = |ip: IpAddr| if ip.is_ipv4() { "ip.addr" } else { "ipv6.addr" };
    let ends = format!(
        "{} == {} && {} == {}",
        field(flow.initiator_ip),
        flow.initiator_ip,
        field(flow.responder_ip),
        flow.responder_ip
    );
    match flow.proto {
        Transport::Tcp | Transport::Udp | Transport::Sctp => {
            format!("{ends} && {}.port == {}", flow.proto, flow.responder_port)
        }
        Transport::Icmp => format!("{ends} && icmp"),
        Transport::Icmp6 => format!("{ends} && icmpv6"),
        Transport::Other(number) if flow.initiator_ip.is_ipv4() => format!("{ends} && ip.proto == {number}"),
        Transport::Other(number) => format!("{ends} && ipv6.nxt == {number}"),
    }
}

fn remedy(code: Code, judged: &Judged) -> String {
    use crate::audit::Missing;
    let row = &judged.row;
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
            Differs::Condition => format!("switch the condition of {} on in the site file if it applies here", nearest.rule),
            Differs::Page => format!("hold it against the page \"{}\", which is not loaded", nearest.rule),
            Differs::OsNoise => "the operating system does this: point it to servers of your own, or list it under [[accept]]".into(),
            _ => code.advice().into(),
        },
        (Code::DocumentedBlocked, ..) => {
            let rules = row.rules.join(", ");
            let kind = match row.flow.outcome {
                Outcome::Filtered => "nothing answers: a packet filter drops it, or the host is down",
                Outcome::Refused => "the destination, or a firewall in its name, refuses it",
                Outcome::Prohibited => "a firewall says so by ICMP: see who sent it",
                Outcome::Unreachable => "a router says so by ICMP: see who sent it",
                Outcome::Cut => "the handshake passes and the first payload does not: an inspecting firewall",
                Outcome::TlsRefused => "TLS is refused: interception, or a missing certificate",
                Outcome::ProxyDenied => "the proxy refuses it: see its rules and its credentials",
                _ => "see the frames",
            };
            format!("open what {rules} documents; {kind}")
        }
        _ => code.advice().into(),
    }
}

/// By what name the destination was known, and how that is known.
fn how_named(judged: &Judged) -> String {
    let row = &judged.row;
    let by_role = row.grade == Some(Grade::Site);
    let Some(best) = row.names.first().filter(|_| !by_role) else {
        if by_role {
            return format!(
                "name: none needed, the site file gives this address the role {}",
                row.responder_roles.join("+")
            );
        }
        return format!(
            "name: none, no DNS answer to {} in these captures holds {}",
            row.flow.initiator_ip, row.flow.responder_ip
        );
    };
    let chain: Vec<&str> = best.chain.iter().skip(1).map(DomainName::as_str).collect();
    let via = if chain.is_empty() { String::new() } else { format!(" (leads to {})", chain.join(", ")) };
    match best.source {
        NameEvidenceSource::Dns => {
            let others = row.names.iter().filter(|name| name.source == NameEvidenceSource::Dns).count() - 1;
            let mut how = format!("name: {} by a DNS answer{via}", best.name);
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
        NameEvidenceSource::Proxy => format!("name: {} as the proxy was asked for", best.name),
        NameEvidenceSource::Tls | NameEvidenceSource::Http => {
            format!(
                "name: {} by what the client itself wrote alone, and a client can write anything",
                best.name
            )
        }
    }
}

fn details(code: Code, judged: &Judged, accepted: Option<&Accepted>) -> Vec<String> {
    let row = &judged.row;
    let mut lines = Vec::new();
    if matches!(
        code,
        Code::UnexpectedTraffic
            | Code::UnexpectedAttempt
            | Code::DocumentedBlocked
            | Code::Undetermined
            | Code::Accepted
    ) && row.flow.proto.has_ports()
    {
        lines.push(how_named(judged));
    }
    for issue in &judged.issues {
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
    if let Some(accepted) = accepted {
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
    if code == Code::DocumentedBlocked && row.flow.reset_ttl_differs {
        lines.push("hint: the reset's TTL differs from the responder's other packets: a device on the way may have sent it".into());
    }
    if let (Code::DocumentedBlocked | Code::PlatformBlocked, Some(kind), Some(number)) =
        (code, row.flow.icmp_type, row.flow.icmp_code)
    {
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
    Finding {
        code,
        severity: code.severity(),
        title,
        from: Party::default(),
        to: Party::default(),
        rules: Vec::new(),
        count: 1,
        first_ts: None,
        last_ts: None,
        outcomes: Vec::new(),
        details: Vec::new(),
        evidence,
        display_filter: None,
        remedy: code.advice().into(),
    }
}
