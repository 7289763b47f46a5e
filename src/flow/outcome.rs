//! How far a connection got: the ladder of SEMANTICS section 2, and Zeek's connection states.

use super::key::Side;
use super::partial::{Acks, PartialFlow, QuoteClass, QuoteFact};
use super::seen::{Seen, SideSeen};
use crate::model::{FramePoint, NANOS_PER_SECOND, Spans, Timestamp, Transport};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How far the connection got, as the packets show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A proxy refused the CONNECT.
    ProxyDenied,
    /// A fatal TLS alert in the clear, before any application data.
    TlsRefused,
    /// The handshake worked, the first payload did not get through.
    Cut,
    /// TCP: the connection was made.
    Established,
    /// Not TCP: packets both ways.
    Answered,
    /// TCP without SYN and SYN-ACK, packets both ways.
    Midstream,
    /// RST to the SYN, or UDP port unreachable from the target.
    Refused,
    /// An ICMP error such as firewalls send.
    Prohibited,
    /// Another ICMP unreachable, or time exceeded.
    Unreachable,
    /// SYN and SYN-ACK, and nothing from the initiator afterwards.
    HalfOpen,
    /// One direction is visible, the other demonstrably took part.
    OneSided,
    /// SYN and no reply where a reply would have been seen.
    Filtered,
    /// Not TCP: no reply.
    Unanswered,
    /// Too near the end of the capture, losses.
    Undetermined,
}

impl Outcome {
    /// All outcomes, in the order of the ladder.
    pub const ALL: [Outcome; 14] = [
        Outcome::ProxyDenied,
        Outcome::TlsRefused,
        Outcome::Cut,
        Outcome::Established,
        Outcome::Answered,
        Outcome::Midstream,
        Outcome::Refused,
        Outcome::Prohibited,
        Outcome::Unreachable,
        Outcome::HalfOpen,
        Outcome::OneSided,
        Outcome::Filtered,
        Outcome::Unanswered,
        Outcome::Undetermined,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::ProxyDenied => "proxy-denied",
            Outcome::TlsRefused => "tls-refused",
            Outcome::Cut => "cut",
            Outcome::Established => "established",
            Outcome::Answered => "answered",
            Outcome::Midstream => "midstream",
            Outcome::Refused => "refused",
            Outcome::Prohibited => "prohibited",
            Outcome::Unreachable => "unreachable",
            Outcome::HalfOpen => "half-open",
            Outcome::OneSided => "one-sided",
            Outcome::Filtered => "filtered",
            Outcome::Unanswered => "unanswered",
            Outcome::Undetermined => "undetermined",
        }
    }

    /// Whether something on the way, or the other side, demonstrably stopped it.
    pub fn is_blocked(self) -> bool {
        match self {
            Outcome::ProxyDenied
            | Outcome::TlsRefused
            | Outcome::Cut
            | Outcome::Refused
            | Outcome::Prohibited
            | Outcome::Unreachable
            | Outcome::Filtered => true,
            Outcome::Established
            | Outcome::Answered
            | Outcome::Midstream
            | Outcome::HalfOpen
            | Outcome::OneSided
            | Outcome::Unanswered
            | Outcome::Undetermined => false,
        }
    }

    /// Whether the connection demonstrably worked: what coverage counts as observed.
    pub fn worked(self) -> bool {
        matches!(self, Outcome::Established | Outcome::Answered | Outcome::Midstream | Outcome::OneSided)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the first payload bytes show that decides an outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PayloadSigns {
    /// The proxy's refusal.
    pub proxy_denied: Option<FramePoint>,
    /// The fatal alert.
    pub tls_refused: Option<FramePoint>,
}

/// What an outcome rests on beyond the flow itself.
pub(super) struct Surroundings<'a> {
    /// When the captures saw frames.
    pub spans: &'a Spans,
    /// Whether packets to the initiator's host are seen in other flows. Asked last: it looks the host up.
    pub sees_initiator: &'a dyn Fn() -> bool,
}

/// The outcome of a flow, the frame that decided it where it is one frame, and the ICMP error where it is that.
pub(super) struct Decision {
    pub outcome: Outcome,
    pub icmp: Option<QuoteFact>,
}

/// The first line of the ladder that fits.
pub(super) fn decide<S: Seen>(
    flow: &S,
    initiator: Side,
    signs: &PayloadSigns,
    around: &Surroundings<'_>,
) -> Decision {
    let plain = |outcome| Decision { outcome, icmp: None };
    let (own, peer) = (flow.side(initiator), flow.side(initiator.other()));
    if signs.proxy_denied.is_some() {
        return plain(Outcome::ProxyDenied);
    }
    if signs.tls_refused.is_some() {
        return plain(Outcome::TlsRefused);
    }
    let tcp = flow.key().transport == Transport::Tcp;
    let both_ways = own.packets() > 0 && peer.packets() > 0;
    if tcp {
        let (said, answered) = (flow.said(initiator), flow.said(initiator.other()));
        if is_cut(flow, initiator, (said, answered), around.spans) {
            return plain(Outcome::Cut);
        }
        let went_on = own.syn().is_some()
            && peer.syn_ack().is_some_and(|answer| {
                let later = |last: FramePoint| last.time >= answer.first.time || last.is_behind(answer.first);
                own.beyond_syn_last().is_some_and(later)
            });
        let payload_both_ways =
            (own.syn().is_some() || peer.syn_ack().is_some()) && said.is_some() && answered.is_some();
        if went_on || payload_both_ways {
            return plain(Outcome::Established);
        }
        if own.syn().is_none() && peer.syn_ack().is_none() && both_ways {
            return plain(Outcome::Midstream);
        }
    } else if both_ways {
        return plain(Outcome::Answered);
    }
    if peer.syn_ack().is_none() && peer.data().is_none() {
        // Of a conversation whose SYN-ACK is not in the captures, a reset is none to the SYN.
        let conversed = own.data().is_some() && peer.acks() != Acks::None;
        if own.syn().is_some() && peer.reset().is_some() && !conversed {
            return plain(Outcome::Refused);
        }
        for (class, outcome) in [
            (QuoteClass::Refused, Outcome::Refused),
            (QuoteClass::Prohibited, Outcome::Prohibited),
            (QuoteClass::Unreachable, Outcome::Unreachable),
        ] {
            if let Some(quote) = flow.quote(initiator, class) {
                return Decision { outcome, icmp: Some(*quote) };
            }
        }
    }
    if !tcp {
        let asked_in_vain = own.packets() > 0 && peer.packets() == 0;
        return plain(if asked_in_vain { Outcome::Unanswered } else { Outcome::Undetermined });
    }
    if own.syn().is_some() && peer.syn_ack().is_some() {
        return plain(Outcome::HalfOpen);
    }
    if peer.packets() == 0 {
        let acknowledged = own.syn().is_some() && own.acks() != Acks::None;
        if acknowledged || own.acks() == Acks::Many {
            return plain(Outcome::OneSided);
        }
    }
    if own.packets() == 0 && peer.packets() > 0 {
        return plain(Outcome::OneSided);
    }
    if let Some(syn) = own.syn()
        && peer.packets() == 0
        && (around.sees_initiator)()
        && (syn.count > 1 || goes_on(around.spans, syn.first.time))
    {
        return plain(Outcome::Filtered);
    }
    plain(Outcome::Undetermined)
}

/// Rung 3: SYN-ACK seen, the responder never sends payload, and the initiator's first payload is answered by a reset or
/// never acknowledged though the capture goes on for 3 s.
fn is_cut<S: Seen>(
    flow: &S,
    initiator: Side,
    (said, answered): (Option<FramePoint>, Option<FramePoint>),
    spans: &Spans,
) -> bool {
    let (own, peer) = (flow.side(initiator), flow.side(initiator.other()));
    let (Some(syn_ack), None, Some(data)) = (peer.syn_ack(), answered, said) else { return false };
    let reset = peer.reset().is_some_and(|reset| reset.first.is_behind(data));
    // The SYN-ACK's own acknowledgement is the first value; any other acknowledges more than the SYN. That itself may: of data in the
    // SYN (RFC 7413).
    let with_syn = own
        .syn()
        .is_some_and(|syn| (1..=MOST_IN_A_SYN).contains(&syn_ack.ack.wrapping_sub(syn.isn.wrapping_add(1))));
    let acknowledged = peer.acks() == Acks::Many || with_syn;
    reset || (!acknowledged && goes_on(spans, data.time))
}

/// Payload of a SYN, at the most: that of the largest IP packet, bytes.
const MOST_IN_A_SYN: u32 = 65_535;

/// How long after an attempt frames still tell that the capture went on: 60 s. What comes later may be another capture,
/// made when nothing of this attempt was left to see.
pub const GOES_ON_NANOS: i64 = 60 * NANOS_PER_SECOND;

/// Whether the captures go on long enough after `time` that what did not come by then was not sent: a frame 3 to 60 s
/// later.
fn goes_on(spans: &Spans, time: Timestamp) -> bool {
    spans.any_within(time.plus(3 * NANOS_PER_SECOND), time.plus(GOES_ON_NANOS))
}

/// Zeek's connection states (<https://docs.zeek.org/en/master/scripts/base/protocols/conn/main.zeek.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ConnState {
    /// Attempt seen, no reply.
    S0,
    /// Established, not terminated.
    S1,
    /// Normal establishment and termination.
    Sf,
    /// Attempt rejected.
    Rej,
    /// Established, close attempt by the originator, no reply from the responder.
    S2,
    /// Established, close attempt by the responder, no reply from the originator.
    S3,
    /// Established, originator aborted.
    Rsto,
    /// Responder aborted.
    Rstr,
    /// SYN followed by RST from the originator, no SYN-ACK seen.
    Rstos0,
    /// SYN-ACK followed by RST from the responder, no SYN seen.
    Rstrh,
    /// SYN followed by FIN from the originator, no SYN-ACK seen.
    Sh,
    /// SYN-ACK followed by FIN from the responder, no SYN seen.
    Shr,
    /// No SYN seen: midstream traffic.
    Oth,
}

impl ConnState {
    /// The code.
    pub fn as_str(self) -> &'static str {
        match self {
            ConnState::S0 => "S0",
            ConnState::S1 => "S1",
            ConnState::Sf => "SF",
            ConnState::Rej => "REJ",
            ConnState::S2 => "S2",
            ConnState::S3 => "S3",
            ConnState::Rsto => "RSTO",
            ConnState::Rstr => "RSTR",
            ConnState::Rstos0 => "RSTOS0",
            ConnState::Rstrh => "RSTRH",
            ConnState::Sh => "SH",
            ConnState::Shr => "SHR",
            ConnState::Oth => "OTH",
        }
    }
}

/// The state that Zeek would give.
pub(super) fn conn_state(flow: &PartialFlow, initiator: Side) -> ConnState {
    let (own, peer) = (flow.side(initiator), flow.side(initiator.other()));
    if flow.key.transport != Transport::Tcp {
        return match (flow.key.transport, own.packets > 0, peer.packets > 0) {
            (Transport::Udp, true, true) => ConnState::Sf,
            (Transport::Udp, true, false) => ConnState::S0,
            (Transport::Udp, false, true) => ConnState::Shr,
            _ => ConnState::Oth,
        };
    }
    match (own.syn.is_some(), peer.syn_ack.is_some()) {
        (true, true) => match (own.reset, peer.reset, own.fin, peer.fin) {
            (Some(own), Some(peer), ..) if peer.first < own.first => ConnState::Rstr,
            (Some(_), ..) => ConnState::Rsto,
            (None, Some(_), ..) => ConnState::Rstr,
            (None, None, Some(_), Some(_)) => ConnState::Sf,
            (None, None, Some(_), None) => ConnState::S2,
            (None, None, None, Some(_)) => ConnState::S3,
            (None, None, None, None) => ConnState::S1,
        },
        (true, false) if peer.reset.is_some() => ConnState::Rej,
        (true, false) if own.reset.is_some() => ConnState::Rstos0,
        (true, false) if own.fin.is_some() => ConnState::Sh,
        (true, false) if peer.packets == 0 => ConnState::S0,
        (true, false) => ConnState::Oth,
        (false, true) if peer.reset.is_some() => ConnState::Rstrh,
        (false, true) if peer.fin.is_some() => ConnState::Shr,
        (false, _) => ConnState::Oth,
    }
}
