//! The mapper: packets to partial flows. It only cuts (at every SYN, at every idle gap, when it is full); it never
//! decides that two stretches are one connection. `stitch` does.

use super::head::{DNS_HEAD_BYTES, HEAD_BYTES};
use super::key::{FlowKey, Side};
use super::partial::{PartialFlow, QuoteClass, QuoteFact, Reset, Syn, SynAck};
use super::stitch::UDP_IDLE_NANOS;
use crate::decode::{Icmp, Packet, Payload, Quote, Tcp, icmp_ports};
use crate::model::{Endpoint, FramePoint, Transport};
use crate::names::http;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// The DNS port (RFC 1035).
const DNS: u16 = 53;

/// What the table made of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It belongs to a flow.
    Flow,
    /// An ICMP error bound to the flow that it quotes.
    Quote,
    /// An ICMP error whose quoted packet cannot be read: it can be bound to nothing.
    UnreadableQuote,
    /// Its transport header could not be read (a later fragment, a header cut off): it is counted, in no flow.
    NoTransport,
}

/// Open conversations of one capture, bounded, and those already cut off.
#[derive(Debug)]
pub struct FlowTable {
    index: HashMap<FlowKey, usize, RandomState>,
    open: Vec<PartialFlow>,
    done: Vec<PartialFlow>,
    capacity: usize,
    evicted: u64,
}

impl FlowTable {
    /// A table that keeps at most `capacity` conversations open. When it is full all of them are cut, which
    /// changes no audit: the cuts are joined again by `stitch`.
    pub fn new(capacity: usize) -> Self {
        FlowTable {
            index: HashMap::default(),
            open: Vec::new(),
            done: Vec::new(),
            capacity: capacity.max(1),
            evicted: 0,
        }
    }

    /// Conversations cut because the table was full.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Counts a packet. `dns` tells whether it is a DNS message over UDP, and if so whether a response.
    pub fn observe(
        &mut self,
        packet: &Packet<'_>,
        point: FramePoint,
        wire_len: u32,
        dns: Option<bool>,
    ) -> Observed {
        match packet.payload {
            Payload::Tcp(tcp) => {
                let (key, side) = key_of(packet, tcp.src_port, tcp.dst_port);
                let starts = tcp.flags.syn() && !tcp.flags.ack();
                let flow = self.flow(key, point, starts);
                count(flow, side, packet, point, wire_len);
                count_tcp(flow, side, &tcp, packet.ttl, point);
                Observed::Flow
            }
            Payload::Udp(udp) => {
                let (key, side) = key_of(packet, udp.src_port, udp.dst_port);
                let flow = self.flow(key, point, false);
                count(flow, side, packet, point, wire_len);
                let own = flow.side_mut(side);
                own.payload += u64::from(udp.payload_len);
                if udp.payload_len > 0 {
                    own.data = Some(own.data.map_or(point, |first| first.min(point)));
                }
                match dns {
                    Some(true) => own.dns.responses += 1,
                    Some(false) => own.dns.queries += 1,
                    // QUIC long headers (RFC 9000 section 17.2) carry the ClientHello.
                    None if udp.payload.first().is_some_and(|first| first & 0xc0 == 0xc0) => {
                        own.head.add_datagram(point, udp.payload, HEAD_BYTES);
                    }
                    // One of service discovery tells all that the next ones would.
                    None if [udp.src_port, udp.dst_port].contains(&http::SSDP_PORT)
                        && own.head.segments().is_empty()
                        && http::looks_like_ssdp(udp.payload) =>
                    {
                        own.head.add_datagram(point, udp.payload, HEAD_BYTES);
                    }
                    None => {}
                }
                Observed::Flow
            }
            Payload::Ports(src, dst) => {
                let (key, side) = key_of(packet, src, dst);
                count(self.flow(key, point, false), side, packet, point, wire_len);
                Observed::Flow
            }
            Payload::Icmp(icmp) => self.observe_icmp(packet, &icmp, point, wire_len),
            Payload::None if packet.shortfall.is_some() || packet.fragment.is_some_and(|f| f.offset > 0) => {
                Observed::NoTransport
            }
            Payload::None if packet.transport.has_ports() => Observed::NoTransport,
            Payload::None => {
                let (key, side) = key_of(packet, 0, 0);
                count(self.flow(key, point, false), side, packet, point, wire_len);
                Observed::Flow
            }
        }
    }

    /// Counts a datagram that came in several frames: `packet` at the last of them, the others with its flow.
    pub fn observe_datagram(
        &mut self,
        packet: &Packet<'_>,
        frames: &[(FramePoint, u32)],
        dns: Option<bool>,
    ) -> Observed {
        let Some((&(point, wire_len), earlier)) = frames.split_last() else { return Observed::NoTransport };
        let observed = self.observe(packet, point, wire_len, dns);
        let (src_port, dst_port) = match packet.payload {
            Payload::Tcp(tcp) => (tcp.src_port, tcp.dst_port),
            Payload::Udp(udp) => (udp.src_port, udp.dst_port),
            Payload::Ports(src, dst) => (src, dst),
            Payload::Icmp(icmp) => icmp_ports(packet.transport == Transport::Icmp6, icmp.kind, icmp.code),
            Payload::None => (0, 0),
        };
        if observed == Observed::Flow {
            let (key, side) = key_of(packet, src_port, dst_port);
            for &(point, wire_len) in earlier {
                count(self.flow(key, point, false), side, packet, point, wire_len);
            }
        }
        observed
    }

    fn observe_icmp(
        &mut self,
        packet: &Packet<'_>,
        icmp: &Icmp<'_>,
        point: FramePoint,
        wire_len: u32,
    ) -> Observed {
        let v6 = packet.transport == Transport::Icmp6;
        if is_error(v6, icmp.kind) {
            let Some(quote) = icmp.quote else { return Observed::UnreadableQuote };
            let src = Endpoint::new(quote.src, quote.src_port);
            let dst = Endpoint::new(quote.dst, quote.dst_port);
            let (key, quoted) = FlowKey::of(quote.transport, src, dst);
            let fact = QuoteFact {
                quoted,
                class: classify_error(v6, icmp.kind, icmp.code, packet, &quote),
                point,
                kind: icmp.kind,
                code: icmp.code,
                sender: packet.src,
                tcp_seq: quote.tcp_seq,
            };
            let flow = self.flow(key, point, false);
            if flow.begin().is_none() {
                (flow.vlan, flow.vni) = (packet.vlan, packet.vni);
            }
            flow.add_quote(fact);
            return Observed::Quote;
        }
        let (src, dst) = icmp_ports(v6, icmp.kind, icmp.code);
        let (key, side) = key_of(packet, src, dst);
        count(self.flow(key, point, false), side, packet, point, wire_len);
        Observed::Flow
    }

    /// The open stretch of a conversation, cut first where the mapper has to.
    fn flow(&mut self, key: FlowKey, point: FramePoint, starts: bool) -> &mut PartialFlow {
        if let Some(&slot) = self.index.get(&key) {
            let open = &self.open[slot];
            // Times may run backwards: a packet long before the stretch is as far from it as one long after.
            let after = open.latest().is_some_and(|latest| point.time.since(latest) > UDP_IDLE_NANOS);
            let before = open.begin().is_some_and(|begin| begin.time.since(point.time) > UDP_IDLE_NANOS);
            let idle = key.transport != Transport::Tcp && (after || before);
            if starts || idle {
                let cut = std::mem::replace(&mut self.open[slot], PartialFlow::new(key));
                self.done.push(cut);
            }
            return &mut self.open[slot];
        }
        if self.open.len() >= self.capacity {
            self.evicted += self.open.len() as u64;
            self.index.clear();
            self.done.append(&mut self.open);
        }
        let slot = self.open.len();
        self.index.insert(key, slot);
        self.open.push(PartialFlow::new(key));
        &mut self.open[slot]
    }

    /// All stretches, cut ones first; the order is that of the frames, never that of a hash.
    pub fn finish(mut self) -> Vec<PartialFlow> {
        self.done.append(&mut self.open);
        self.done
    }
}

fn key_of(packet: &Packet<'_>, src_port: u16, dst_port: u16) -> (FlowKey, Side) {
    FlowKey::of(packet.transport, Endpoint::new(packet.src, src_port), Endpoint::new(packet.dst, dst_port))
}

fn count(flow: &mut PartialFlow, side: Side, packet: &Packet<'_>, point: FramePoint, wire_len: u32) {
    if flow.first().is_none_or(|first| point < first) {
        (flow.vlan, flow.vni) = (packet.vlan, packet.vni);
    }
    let own = flow.side_mut(side);
    own.packets += 1;
    own.bytes += u64::from(wire_len);
    own.first = Some(own.first.map_or(point, |first| first.min(point)));
    own.last = own.last.max(Some(point.time));
}

fn count_tcp(flow: &mut PartialFlow, side: Side, tcp: &Tcp<'_>, ttl: u8, point: FramePoint) {
    let flags = tcp.flags;
    let own = flow.side_mut(side);
    own.payload += u64::from(tcp.payload_len);
    let first = |have: Option<FramePoint>| Some(have.map_or(point, |have| have.min(point)));
    if flags.syn() && !flags.ack() {
        own.syn.get_or_insert(Syn { isn: tcp.seq, first: point, last: point, count: 1 });
    } else {
        own.beyond_syn = first(own.beyond_syn);
        own.beyond_syn_last = own.beyond_syn_last.max(Some(point));
    }
    if flags.syn() && flags.ack() && own.syn_ack.is_none_or(|have| point < have.first) {
        own.syn_ack = Some(SynAck { isn: tcp.seq, ack: tcp.ack, first: point });
    }
    if flags.fin() {
        own.fin = first(own.fin);
    }
    if flags.rst() {
        if own.reset.is_none_or(|have| point < have.first) {
            own.reset = Some(Reset { first: point, ttl });
        }
        // What follows a reset's header explains it (RFC 9293 section 3.5.3): no payload, no acknowledgement.
        return;
    }
    own.ttl = Some(own.ttl.map_or((ttl, ttl), |(low, high)| (low.min(ttl), high.max(ttl))));
    if flags.ack() {
        own.acknowledge(tcp.ack);
    }
    if tcp.payload_len == 0 {
        return;
    }
    own.data = first(own.data);
    if let [kind, 3, _, high, low, rest @ ..] = tcp.payload {
        match (kind, rest) {
            // A record that is nothing but a fatal alert (RFC 8446 section 6): type 21, two bytes, level 2.
            (21, [2, description])
                if (*high, *low) == (0, 2) && own.alert.is_none_or(|have| point < have.0) =>
            {
                own.alert = Some((point, *description));
            }
            (23, _) => own.tls_data = first(own.tls_data),
            _ => {}
        }
    }
    let limit =
        if flow.key.low.port == DNS || flow.key.high.port == DNS { DNS_HEAD_BYTES } else { HEAD_BYTES };
    let start = flow.stream_start(side);
    // A SYN takes a sequence number of its own, before its payload (RFC 9293 section 3.4, TCP Fast Open).
    let seq = tcp.seq.wrapping_add(u32::from(flags.syn()));
    flow.side_mut(side).head.add(start, seq, point, tcp.payload, limit);
}

/// ICMP messages that quote the packet they are about (RFC 792, RFC 4443 section 2.1).
fn is_error(v6: bool, kind: u8) -> bool {
    if v6 { matches!(kind, 1..=4) } else { matches!(kind, 3 | 4 | 5 | 11 | 12) }
}

/// SEMANTICS section 2, rung 6: what an error says about the flow that it quotes.
fn classify_error(v6: bool, kind: u8, code: u8, packet: &Packet<'_>, quote: &Quote) -> QuoteClass {
    let port_unreachable = || {
        if quote.transport != Transport::Tcp && packet.src == quote.dst {
            QuoteClass::Refused
        } else {
            QuoteClass::Prohibited
        }
    };
    match (v6, kind, code) {
        (false, 3, 4) => QuoteClass::Note,
        (false, 3, 9 | 10 | 13) | (true, 1, 1 | 5 | 6) => QuoteClass::Prohibited,
        (false, 3, 3) | (true, 1, 4) => port_unreachable(),
        (false, 3 | 11, _) | (true, 1 | 3, _) => QuoteClass::Unreachable,
        _ => QuoteClass::Note,
    }
}
