//! Findings in words: title, filter, advice, and what else there is to know.

use super::classify::Issue;
use super::findings::{Judged, Stem, destination, rules_of};
use super::reach::{Reach, push_filter};
use super::row::{Differs, Nearest};
use crate::audit::{Code, Finding, Grade, Missing, Party};
use crate::flow::Outcome;
use crate::matrix::RoleSet;
use crate::model::{Distinct, DomainName, Transport};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

/// What settles a name that encrypted DNS hides. An earlier capture would not show it either.
pub(super) const HIDDEN_REMEDY: &str = "switch encrypted DNS off on this host, or let it ask a resolver of the site in the clear, then capture again";

/// Whose finding a flow is counted with.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Share {
    /// The initiator's own.
    Own,
    /// That of all further strangers at the same destination and port.
    Destination,
    /// That of all further strangers of the same code.
    Code,
}

/// The first flow of a finding, as far as words are made of it.
pub(super) struct FirstFlow {
    pub share: Share,
    pub name: Option<DomainName>,
    pub from: IpAddr,
    pub to: IpAddr,
    /// What the client asked its proxy for.
    pub target: Option<Box<(IpAddr, u16)>>,
    pub port: u16,
    pub proto: Transport,
}

impl FirstFlow {
    pub fn of(share: Share, judged: &Judged<'_>) -> FirstFlow {
        let flow = judged.flow;
        FirstFlow {
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
    pub fn destination(&self) -> (IpAddr, u16) {
        self.target.as_deref().copied().unwrap_or((self.to, self.port))
    }
}

/// What the words of a finding are made of beside addresses and names: few flows differ in it.
pub(super) struct Phrase {
    pub code: Code,
    pub from_roles: RoleSet,
    pub to_roles: RoleSet,
    pub rules: Vec<String>,
    pub missing: Option<Missing>,
    pub nearest: Option<Nearest>,
    /// Where it tells what to do.
    pub outcome: Option<Outcome>,
}

/// All of a phrase, to be held against another's.
pub(super) type PhraseKey<'p> =
    (Code, RoleSet, RoleSet, &'p [String], Option<Missing>, Option<&'p Nearest>, Option<Outcome>);

pub(super) fn phrase_key<'j>(code: Code, judged: &Judged<'j>) -> PhraseKey<'j> {
    let ruling = judged.ruling;
    let outcome = (code == Code::DocumentedBlocked).then_some(judged.flow.outcome);
    let roles = (ruling.from_roles, ruling.to_roles);
    (code, roles.0, roles.1, rules_of(ruling), ruling.missing, ruling.nearest.as_ref(), outcome)
}

impl Phrase {
    pub fn key(&self) -> PhraseKey<'_> {
        let Phrase { code, from_roles, to_roles, rules, missing, nearest, outcome } = self;
        (*code, *from_roles, *to_roles, rules, *missing, nearest.as_ref(), *outcome)
    }
}

/// The number of a phrase; hashed is less of it than is compared: what parts most is enough.
pub(super) fn phrase_number(phrases: &mut Distinct<Phrase>, key: &PhraseKey<'_>) -> u32 {
    pub fn part<'p>(&(code, from, to, rules, ..): &PhraseKey<'p>) -> (Code, RoleSet, RoleSet, &'p [String]) {
        (code, from, to, rules)
    }
    let hash = phrases.hash(&part(key));
    phrases.find(hash, |known| known.key() == *key).unwrap_or_else(|| {
        let &(code, from_roles, to_roles, rules, missing, nearest, outcome) = key;
        let (rules, nearest) = (rules.to_vec(), nearest.cloned());
        let new = Phrase { code, from_roles, to_roles, rules, missing, nearest, outcome };
        phrases.insert(hash, new)
    })
}

/// What drafts are put into words by.
pub(super) struct Words<'w> {
    pub captures: &'w [Arc<str>],
    /// By name of capture.
    pub rank: &'w BTreeMap<&'w str, usize>,
    /// By number of capture.
    pub rank_of: &'w [usize],
    pub phrases: &'w Distinct<Phrase>,
    pub lines: &'w Distinct<Box<str>>,
    pub role_words: &'w dyn Fn(RoleSet) -> Vec<String>,
    /// Room for a title and a filter.
    pub texts: RefCell<(String, String)>,
}

/// Adds text to a string, which never fails.
fn push(to: &mut String, text: fmt::Arguments<'_>) {
    let _ = to.write_fmt(text);
}

fn push_who(to: &mut String, roles: &[String], ip: IpAddr) {
    for (place, role) in roles.iter().enumerate() {
        to.push_str(if place > 0 { "+" } else { "" });
        to.push_str(role);
    }
    push(to, format_args!("{}{ip}", if roles.is_empty() { "" } else { " " }));
}

fn push_in_capitals(to: &mut String, proto: Transport) {
    let from = to.len();
    push(to, format_args!("{proto}"));
    to.get_mut(from..).into_iter().for_each(str::make_ascii_uppercase);
}

/// A finding about flows, in words: `reach` is known where they are not all as the first; `phrase` is the number of its phrase.
pub(super) fn worded(
    first: FirstFlow,
    reach: Option<&Reach>,
    stem: Option<&Stem>,
    phrase: u32,
    words: &Words<'_>,
) -> Finding {
    let Some((stem, phrase)) = stem.zip(words.phrases.get(phrase)) else {
        // Every draft has both.
        return Finding::of(Code::Undetermined, String::new());
    };
    let [from_roles, to_roles] = [phrase.from_roles, phrase.to_roles].map(words.role_words);
    let (ip, port_number) = first.destination();
    let ports = first.proto.has_ports();
    // There may be a hundred thousand findings: each text is put together in one place, and takes no more than it needs.
    let mut texts = words.texts.borrow_mut();
    let (title, filter) = &mut *texts;
    title.clear();
    filter.clear();
    if first.share == Share::Own {
        push_who(title, &from_roles, first.from);
    }
    title.push_str(" -> ");
    if first.share == Share::Code {
        title.push_str("further destinations and ports");
    } else {
        match (&first.name, first.target.is_some()) {
            (Some(name), true) => push(title, format_args!("{name} (through {})", first.to)),
            (None, true) => push(title, format_args!("{ip} (through {})", first.to)),
            (Some(name), false) => push(title, format_args!("{name} ({})", first.to)),
            (None, false) => push_who(title, &to_roles, first.to),
        }
        title.push(' ');
        push_in_capitals(title, first.proto);
        if ports {
            push(title, format_args!(" {port_number}"));
        }
        match reach {
            Some(reach) => reach.push_filter(filter, first.proto),
            None => {
                let own = [first.from];
                let from = if first.share == Share::Own { &own[..] } else { &[] };
                push_filter(filter, (from, &[first.to], &[first.port]), first.proto);
            }
        }
    }
    let display_filter = (first.share != Share::Code).then(|| filter.clone());
    let mut finding = Finding {
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
        ..Finding::of(stem.code, title.clone())
    };
    if let Some(reach) = reach {
        reach.unname(&mut finding);
    }
    finding
}

fn remedy(row: &Phrase) -> Cow<'static, str> {
    use crate::audit::Missing;
    let code = row.code;
    match (code, row.missing, &row.nearest) {
        (Code::Undetermined, Some(Missing::Name), _) => {
            "capture from before the resolver cache was filled (restart the service or flush its cache), DNS included".into()
        }
        (Code::Undetermined, Some(Missing::Ambiguous), _) => {
            "several names share this address: capture the ClientHello too, which names the one that was meant; or the rule's service \
             tag is not known here: give its service tags"
                .into()
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

/// Whether details of a finding of this code tell how the destination is named.
fn tells_name(code: Code, judged: &Judged<'_>) -> bool {
    matches!(
        code,
        Code::UnexpectedTraffic
            | Code::UnexpectedAttempt
            | Code::DocumentedBlocked
            | Code::Undetermined
            | Code::Accepted
    ) && judged.flow.proto.has_ports()
}

fn is_by_role(judged: &Judged<'_>) -> bool {
    judged.ruling.grade == Some(Grade::Site)
}

/// Whether a flow's details hold its addresses: where there is no name for one.
pub(super) fn tells_addresses(code: Code, judged: &Judged<'_>) -> bool {
    tells_name(code, judged) && !is_by_role(judged) && judged.evidence.first_name().is_none()
}

/// By what name the destination was known, and how that is known.
fn how_named(judged: &Judged<'_>) -> String {
    let row = judged.ruling;
    let evidence = judged.evidence;
    let best = evidence.named().next();
    if is_by_role(judged) {
        let [_, to_roles] = judged.roles();
        return format!(
            "name: none needed, the site file gives this address the role {}",
            to_roles.join("+")
        );
    }
    if evidence.first_name().is_none() {
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
            let others = evidence.named().count() - 1;
            let mut how = format!("name: {name} by a DNS answer{via}");
            for (said, words) in [
                (row.grade == Some(Grade::Corroborated), ", and other evidence agrees"),
                (best.expired, ", past its time to live"),
                (best.late, ", which came after the flow began"),
            ] {
                how.push_str(if said { words } else { "" });
            }
            match others {
                0 => {}
                1 => how.push_str("; one more name shares the address"),
                _ => how.push_str(&format!("; {others} more names share the address")),
            }
            how
        }
        None => {
            format!("name: {name} by what the client itself wrote alone, and a client can write anything")
        }
    }
}

pub(super) fn details(code: Code, judged: &Judged<'_>) -> Vec<String> {
    let (row, flow) = (judged.ruling, judged.flow);
    let mut lines = Vec::new();
    if tells_name(code, judged) {
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
