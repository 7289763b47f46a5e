//! The same packet seen twice: on another interface of the same capture (one packet), or on the same one (said, not
//! removed).

use crate::decode::{Packet, Payload};
use crate::model::{Timestamp, address_bits};
use foldhash::fast::FixedState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;

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
    #[inline(always)]
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
    #[inline(always)]
    fn fingerprint(&self, packet: &Packet<'_>) -> u64 {
        // By words of sixteen bytes: this is asked of every packet.
        let mut hasher = self.state.build_hasher();
        // Identification of IPv4 (RFC 791): a retransmission has another.
        let mut id = [0; 2];
        let mut ends = 0;
        match (packet.src, packet.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                ends = u64::from(u32::from(src)) << 32 | u64::from(u32::from(dst));
                if let Some(bytes) = packet.ip_bytes.get(4..).and_then(|rest| rest.first_chunk()) {
                    id = *bytes;
                }
            }
            (src, dst) => {
                hasher.write_u128(address_bits(src));
                hasher.write_u128(address_bits(dst));
            }
        }
        if let Some(fragment) = packet.fragment {
            fragment.hash(&mut hasher);
        }
        let protocol = u64::from(packet.transport.number()) << 16 | u64::from(u16::from_be_bytes(id));
        let mut ports = |src: u16, dst: u16| {
            let ports = u64::from(src) << 48 | u64::from(dst) << 32 | protocol;
            hasher.write_u128(u128::from(ends) << 64 | u128::from(ports));
        };
        let payload = match packet.payload {
            Payload::Tcp(tcp) => {
                ports(tcp.src_port, tcp.dst_port);
                let numbers = u64::from(tcp.seq) << 32 | u64::from(tcp.ack);
                let rest = u64::from(tcp.payload_len) << 16 | u64::from(tcp.flags.0);
                hasher.write_u128(u128::from(numbers) << 64 | u128::from(rest));
                tcp.payload
            }
            Payload::Udp(udp) => {
                ports(udp.src_port, udp.dst_port);
                hasher.write_u32(udp.payload_len);
                udp.payload
            }
            Payload::Icmp(icmp) => {
                ports(0, 0);
                (icmp.kind, icmp.code).hash(&mut hasher);
                // Echo identifier and sequence number stand in the message's header, before the body.
                let message = packet.ip_bytes.len().saturating_sub(icmp.body.len() + 8);
                hasher.write(packet.ip_bytes.get(message..).unwrap_or_default());
                icmp.body
            }
            Payload::Ports(src, dst) => {
                ports(src, dst);
                packet.ip_bytes
            }
            Payload::None => {
                ports(0, 0);
                packet.ip_bytes.get(20..).unwrap_or_default()
            }
        };
        if !payload.is_empty() {
            hasher.write(&payload[..payload.len().min(TELLING_BYTES)]);
        }
        hasher.finish()
    }
}
