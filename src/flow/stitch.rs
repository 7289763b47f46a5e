//! The reducer: the only place that joins stretches of a conversation, and that says who began it.

use super::key::Side;
use super::partial::{PartialFlow, QuoteClass};
use super::record::InitiatorBy;
use super::seen::{Seen, SideSeen};
use crate::model::{NANOS_PER_SECOND, Transport};

/// Silence, in capture time, after which a flow other than TCP ends.
///
/// Two minutes is the least for which RFC 4787 (REQ-5) lets a NAT keep a UDP mapping. Shorter would split one exchange
/// into records, and the later ones may name the wrong initiator; longer would join two exchanges that happen to reuse
/// a source port. A change here changes audits: say so in the changelog.
pub const UDP_IDLE_NANOS: i64 = 120 * NANOS_PER_SECOND;

/// A SYN repeated sooner than this after the one before is a copy of it (a mirror port that sees both directions of a
/// switch), not a retransmission: 200 ms is the least retransmission timeout in common stacks (Linux TCP_RTO_MIN), and
/// initial ones are a second (RFC 6298).
pub const SYN_DUPLICATE_NANOS: i64 = 200 * NANOS_PER_SECOND / 1000;

/// Joins the stretches of each conversation. The result depends on the set of stretches alone, not on their order or
/// on where captures were cut; it comes in order of (key, beginning).
pub fn stitch(mut pieces: Vec<PartialFlow>) -> Vec<PartialFlow> {
    pieces.retain(|piece| piece.begin().is_some());
    pieces.sort_by_cached_key(|piece| (piece.key, piece.begin()));
    let mut flows: Vec<PartialFlow> = Vec::new();
    for piece in pieces {
        match flows.last_mut() {
            Some(flow) if flow.key == piece.key && flow.is_continued_by(&piece) => flow.join(&piece),
            _ => flows.push(piece),
        }
    }
    flows
}

impl PartialFlow {
    /// Whether `piece`, of the same conversation and begun later, is a further stretch of this flow.
    pub fn is_continued_by(&self, piece: &PartialFlow) -> bool {
        continues(self, piece)
    }

    /// Joins a further stretch, as [`PartialFlow::is_continued_by`] tells.
    pub fn join(&mut self, piece: &PartialFlow) {
        self.merge(piece, SYN_DUPLICATE_NANOS);
    }
}

fn continues(flow: &PartialFlow, piece: &PartialFlow) -> bool {
    if flow.key.transport != Transport::Tcp {
        let gap = piece.begin().zip(flow.latest()).map(|(begin, latest)| begin.time.since(latest));
        return gap.is_some_and(|gap| gap <= UDP_IDLE_NANOS);
    }
    let Some((side, syn)) = piece.syn() else {
        // Silence never ends a TCP flow, and only a SYN begins another.
        return true;
    };
    if flow.closed_before(syn.first) {
        return false;
    }
    if let Some((earlier_side, earlier)) = flow.syn() {
        return earlier_side == side && earlier.isn == syn.isn;
    }
    // Frames out of order: the answer to this very SYN, or an error quoting it, was taken before it.
    let answered =
        flow.side(side.other()).syn_ack.is_some_and(|answer| answer.ack == syn.isn.wrapping_add(1));
    let quoted = flow.first().is_none()
        && flow.quotes.iter().any(|quote| quote.quoted == side && quote.tcp_seq == Some(syn.isn));
    answered || quoted || flow.first().is_some_and(|first| syn.first.was_taken_before(first))
}

/// Who began a flow, and how that is known: SYN; SYN-ACK; a matched DNS query; an ICMP quote; a port on one side only that
/// lies below 1024 or that `is_service` names; the first packet.
pub fn initiator(flow: &PartialFlow, is_service: &dyn Fn(Transport, u16) -> bool) -> (Side, InitiatorBy) {
    began_by(flow, is_service)
}

/// The same of a stretch in full or in short.
#[inline]
pub(super) fn began_by<S: Seen>(
    flow: &S,
    is_service: &dyn Fn(Transport, u16) -> bool,
) -> (Side, InitiatorBy) {
    if let Some((side, _)) = flow.syn() {
        return (side, InitiatorBy::Syn);
    }
    let syn_ack = |side: Side| flow.side(side).syn_ack().map(|syn_ack| (syn_ack.first, side));
    if let Some((_, side)) = [Side::Low, Side::High].into_iter().filter_map(syn_ack).min() {
        return (side.other(), InitiatorBy::SynAck);
    }
    for side in [Side::Low, Side::High] {
        if flow.side(side).dns().queries > 0 && flow.side(side.other()).dns().responses > 0 {
            return (side, InitiatorBy::DnsQuery);
        }
    }
    // An error tells who sent towards whom, unless both did: then what it quotes may be a late answer that its receiver no
    // longer waited for.
    let quoted = flow.quotes().iter().min_by_key(|quote| (quote.point, quote.class));
    if let Some(quote) = quoted
        && flow.side(quote.quoted.other()).packets() == 0
    {
        return (quote.quoted, InitiatorBy::IcmpQuote);
    }
    if flow.key().transport.has_ports() {
        let service = |side: Side| {
            let port = flow.key().endpoint(side).port;
            port < 1024 || is_service(flow.key().transport, port)
        };
        match (service(Side::Low), service(Side::High)) {
            (true, false) => return (Side::High, InitiatorBy::Port),
            (false, true) => return (Side::Low, InitiatorBy::Port),
            (true, true) | (false, false) => {}
        }
    }
    let side = match (flow.side(Side::Low).first(), flow.side(Side::High).first()) {
        (Some(low), Some(high)) if high < low => Side::High,
        (Some(_), _) => Side::Low,
        (None, Some(_)) => Side::High,
        (None, None) => flow.quote(Side::High, QuoteClass::Note).map_or(Side::Low, |quote| quote.quoted),
    };
    (side, InitiatorBy::FirstPacket)
}
