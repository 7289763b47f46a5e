//! The same packet seen twice: on another interface of the same capture (one packet), or on the same one (said, not
//! removed).

use crate::decode::{Packet, Payload};
use crate::flow::{HashedKey, Side};
use crate::model::Timestamp;
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
    interface: u64,
}

/// Fingerprints of the packets just seen.
#[derive(Clone)]
pub(super) struct Copies {
    seen: Box<[Option<Seen>; REMEMBERED]>,
    /// Of each of them some bits, 8 KiB in all: mostly the packet at hand has others, and then what was seen need not be waited for.
    tags: Box<[u16; REMEMBERED]>,
    state: FixedState,
}

impl Default for Copies {
    fn default() -> Self {
        let (seen, tags) = (Box::new([None; REMEMBERED]), Box::new([0; REMEMBERED]));
        Copies { seen, tags, state: FixedState::default() }
    }
}

impl Copies {
    /// Whether this packet was seen within 5 ms, and where.
    #[inline(always)]
    pub(super) fn look(
        &mut self,
        packet: &Packet<'_>,
        key: HashedKey,
        interface: (u8, u32),
        time: Timestamp,
    ) -> Option<Copy> {
        let hash = self.fingerprint(packet, key);
        let place = hash as usize % REMEMBERED;
        let slot = &mut self.seen[place];
        let interface = u64::from(interface.0) << 32 | u64::from(interface.1);
        let tag = (hash >> 48) as u16;
        let is_likely = std::mem::replace(&mut self.tags[place], tag) == tag;
        let mut found = None;
        if is_likely
            && let Some(seen) = slot
            && seen.hash == hash
            && time.since(seen.time).saturating_abs() <= COPY_NANOS
        {
            if seen.interface != interface {
                // The first of several copies is the packet: later ones are held against it.
                return Some(Copy::OtherInterface);
            }
            found = Some(Copy::SameInterface);
        }
        *slot = Some(Seen { hash, time, interface });
        found
    }

    /// Whether going on from these instead of from `others` makes no difference to packets between two times.
    pub(super) fn serve_as(&self, others: &Copies, first: Timestamp, last: Timestamp) -> bool {
        let idle = |seen: &Option<Seen>| {
            seen.is_none_or(|seen| first.since(seen.time) > COPY_NANOS || seen.time.since(last) > COPY_NANOS)
        };
        self.seen.iter().zip(&*others.seen).all(|(one, other)| one == other || (idle(one) && idle(other)))
    }

    /// Everything that stays the same from one interface to the next: not the time to live, nor what depends on it. Ends and
    /// transport are in the key's hash, whose seed nobody knows: so nobody can make one packet pass for a copy of another.
    #[inline(always)]
    fn fingerprint(&self, packet: &Packet<'_>, key: HashedKey) -> u64 {
        // By words of sixteen bytes: this is asked of every packet.
        let mut hasher = self.state.build_hasher();
        // Identification of IPv4 (RFC 791): a retransmission has another.
        let mut id = [0; 2];
        if let (IpAddr::V4(_), Some(bytes)) =
            (packet.src, packet.ip_bytes.get(4..6).and_then(|id| id.first_chunk()))
        {
            id = *bytes;
        }
        if let Some(fragment) = packet.fragment {
            fragment.hash(&mut hasher);
        }
        let whose = u64::from(u16::from_be_bytes(id)) << 16 | u64::from(key.side() == Side::High) << 8;
        let mut ends = |numbers: u64, rest: u64| {
            hasher.write_u128(u128::from(key.hash()) << 64 | u128::from(numbers));
            hasher.write_u64(rest);
        };
        let payload = match packet.payload {
            Payload::Tcp(tcp) => {
                let numbers = u64::from(tcp.seq) << 32 | u64::from(tcp.ack);
                ends(numbers, u64::from(tcp.payload_len) << 32 | whose | u64::from(tcp.flags.0));
                tcp.payload
            }
            Payload::Udp(udp) => {
                ends(0, u64::from(udp.payload_len) << 32 | whose);
                udp.payload
            }
            Payload::Icmp(icmp) => {
                ends(u64::from(icmp.kind) << 8 | u64::from(icmp.code), whose);
                // Echo identifier and sequence number stand in the message's header, before the body.
                let message = packet.ip_bytes.len().saturating_sub(icmp.body.len() + 8);
                hasher.write(packet.ip_bytes.get(message..).unwrap_or_default());
                icmp.body
            }
            Payload::Ports(..) => {
                ends(0, whose);
                packet.ip_bytes
            }
            Payload::None => {
                ends(0, whose);
                packet.ip_bytes.get(20..).unwrap_or_default()
            }
        };
        let (words, rest) = payload[..payload.len().min(TELLING_BYTES)].as_chunks::<16>();
        words.iter().for_each(|word| hasher.write_u128(u128::from_le_bytes(*word)));
        if !rest.is_empty() {
            hasher.write(rest);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Tcp, TcpFlags};
    use crate::model::Transport;

    const TCP: Tcp<'_> = Tcp {
        src_port: 7,
        dst_port: 7,
        seq: 1,
        ack: 1,
        flags: TcpFlags(0x10),
        payload_len: 70,
        payload: &[1; 70],
    };

    fn packet(src: [u8; 4], dst: [u8; 4], tcp: Tcp<'static>, ip_bytes: &'static [u8]) -> Packet<'static> {
        Packet {
            src: src.into(),
            dst: dst.into(),
            ttl: 64,
            transport: Transport::Tcp,
            vlan: None,
            vni: None,
            link_interface: None,
            fragment: None,
            fragment_bytes: &[],
            payload: Payload::Tcp(tcp),
            ip_bytes,
            shortfall: None,
        }
    }

    #[test]
    fn a_copy_is_alike_in_all_that_the_way_does_not_change() {
        const HEADER: &[u8] = &[0x45, 0, 0, 0, 1, 2];
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let first = packet(a, b, TCP, HEADER);
        let changed = |tcp: Tcp<'static>| packet(a, b, tcp, HEADER);
        let other = |byte: usize| {
            let mut payload = [1; 70];
            payload[byte] = 2;
            Tcp { payload: Box::leak(Box::new(payload)), ..TCP }
        };
        let (same, tagged) = (first, Packet { vlan: Some(9), ttl: 63, ..first });
        for (expected, second) in [
            (true, same),
            (true, tagged),
            // The last bytes are not looked at.
            (true, changed(other(69))),
            (true, changed(other(64))),
            (false, changed(other(63))),
            (false, changed(other(0))),
            (false, changed(Tcp { payload: &[1; 60], ..TCP })),
            // The other direction; another end, number, length, flag or identification.
            (false, packet(b, a, TCP, HEADER)),
            (false, packet([10, 0, 0, 3], b, TCP, HEADER)),
            (false, changed(Tcp { src_port: 8, ..TCP })),
            (false, changed(Tcp { seq: 2, ..TCP })),
            (false, changed(Tcp { ack: 2, ..TCP })),
            (false, changed(Tcp { payload_len: 71, ..TCP })),
            (false, changed(Tcp { flags: TcpFlags(0x18), ..TCP })),
            (false, packet(a, b, TCP, &[0x45, 0, 0, 0, 1, 3])),
        ] {
            for (time, in_time) in
                [(0, true), (COPY_NANOS, true), (-COPY_NANOS, true), (COPY_NANOS + 1, false)]
            {
                let mut copies = Copies::default();
                let mut look = |packet: &Packet<'_>, interface, time| {
                    copies.look(packet, HashedKey::of_packet(packet), interface, Timestamp(time))
                };
                assert_eq!(look(&first, (0, 0), 0), None);
                let found = look(&second, (0, 1), time);
                assert_eq!(
                    found,
                    (expected && in_time).then_some(Copy::OtherInterface),
                    "{second:?}, {time} ns"
                );
            }
        }
    }
}
