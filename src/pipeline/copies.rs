//! The same packet seen twice: on another interface of the same capture (one packet), or on the same one (said, not
//! removed).

use crate::decode::{Packet, Payload};
use crate::model::Timestamp;
use foldhash::fast::FixedState;
use std::hash::{BuildHasher, Hash, Hasher};

/// Longest time between two copies of one packet on two interfaces: 5 ms (SEMANTICS section 1). A forwarding host needs
/// microseconds; a retransmission comes after 200 ms at the least.
const COPY_NANOS: i64 = 5_000_000;

/// Packets remembered: at 800,000 packets a second these are the last 5 ms.
const REMEMBERED: usize = 4096;

/// Payload bytes that tell packets apart.
const TELLING_BYTES: usize = 64;

/// How a packet was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    /// On another interface.
    OtherInterface,
    /// On the same interface.
    SameInterface,
}

#[derive(Clone, Copy, PartialEq)]
struct Seen {
    hash: u64,
    time: Timestamp,
    interface: (u8, u32),
}

/// Fingerprints of the packets just seen.
#[derive(Clone)]
pub(super) struct Copies {
    seen: Vec<Option<Seen>>,
    state: FixedState,
}

impl Default for Copies {
    fn default() -> Self {
        Copies { seen: vec![None; REMEMBERED], state: FixedState::default() }
    }
}

impl Copies {
    /// Whether this packet was seen within 5 ms, and where.
    pub(super) fn look(
        &mut self,
        packet: &Packet<'_>,
        interface: (u8, u32),
        time: Timestamp,
    ) -> Option<Copy> {
        let hash = self.fingerprint(packet);
        let slot = &mut self.seen[hash as usize % REMEMBERED];
        let found = slot
            .filter(|seen| seen.hash == hash && time.since(seen.time).saturating_abs() <= COPY_NANOS)
            .map(|seen| if seen.interface == interface { Copy::SameInterface } else { Copy::OtherInterface });
        // The first of several copies is the packet: later ones are held against it.
        if found != Some(Copy::OtherInterface) {
            *slot = Some(Seen { hash, time, interface });
        }
        found
    }

    /// Whether going on from these instead of from `others` makes no difference to packets between two times.
    pub(super) fn serve_as(&self, others: &Copies, first: Timestamp, last: Timestamp) -> bool {
        let idle = |seen: &Option<Seen>| {
            seen.is_none_or(|seen| first.since(seen.time) > COPY_NANOS || seen.time.since(last) > COPY_NANOS)
        };
        self.seen.iter().zip(&others.seen).all(|(one, other)| one == other || (idle(one) && idle(other)))
    }

    /// Everything that stays the same from one interface to the next: not the time to live, nor what depends on it.
    fn fingerprint(&self, packet: &Packet<'_>) -> u64 {
        let mut hasher = self.state.build_hasher();
        (packet.src, packet.dst, packet.transport, packet.fragment).hash(&mut hasher);
        // Identification of IPv4 (RFC 791): a retransmission has another.
        if packet.src.is_ipv4()
            && let Some(id) = packet.ip_bytes.get(4..6)
        {
            hasher.write(id);
        }
        let payload = match packet.payload {
            Payload::Tcp(tcp) => {
                (tcp.src_port, tcp.dst_port, tcp.seq, tcp.ack, tcp.flags, tcp.payload_len).hash(&mut hasher);
                tcp.payload
            }
            Payload::Udp(udp) => {
                (udp.src_port, udp.dst_port, udp.payload_len).hash(&mut hasher);
                udp.payload
            }
            Payload::Icmp(icmp) => {
                (icmp.kind, icmp.code).hash(&mut hasher);
                // Echo identifier and sequence number stand in the message's header, before the body.
                let message = packet.ip_bytes.len().saturating_sub(icmp.body.len() + 8);
                hasher.write(packet.ip_bytes.get(message..).unwrap_or_default());
                icmp.body
            }
            Payload::Ports(src, dst) => {
                (src, dst).hash(&mut hasher);
                packet.ip_bytes
            }
            Payload::None => packet.ip_bytes.get(20..).unwrap_or_default(),
        };
        hasher.write(&payload[..payload.len().min(TELLING_BYTES)]);
        hasher.finish()
    }
}
