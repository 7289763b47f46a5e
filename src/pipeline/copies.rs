//! The same packet seen twice: on another interface of the same capture (one packet), or on the same one (said, not
//! removed).

use crate::decode::{Packet, Payload};
use crate::flow::{HashedKey, Side};
use crate::model::Timestamp;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;

/// Longest time between two copies of one packet on two interfaces: 5 ms (SEMANTICS section 1). A forwarding host needs
/// microseconds; a retransmission comes after 200 ms at the least.
const COPY_NANOS: i64 = 5_000_000;

/// How long packets are remembered of a capture with several interfaces, by the latest time so far: what each of them saw is mostly
/// written by turns, some hundred milliseconds of it at a time. Of one with one interface they are for as long as a copy may be late:
/// there copies are counted and nothing else depends on them.
const KEPT_NANOS: i64 = 1_000_000_000;

/// Packets remembered at the most: at 130,000 packets a second these are the last second, at 26 million the last 5 ms. Of a
/// packet that came before so many others no copy is found. Some 8 MiB.
const MOST_KEPT: u64 = 1 << 17;

/// Pairs of places for packets, each of one line of the cache: with as many packets in 5 ms as a busy link has, nearly all have one.
const PAIRS: usize = 2048;

/// A packet that is dated so long before the latest begins anew: were it not so, one wrong time in the future would hide all later
/// copies.
const BACK_NANOS: i64 = 2 * KEPT_NANOS;

/// Displaced packets from which on those that are over are looked for.
const LEAST_LOOKED_THROUGH: usize = 1024;

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

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    hash: u64,
    time: Timestamp,
    interface: u64,
    /// Which packet it was, counted from 1; 0 for none.
    number: u64,
}

/// Two places for packets of which the fingerprints fall here.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Pair([Seen; 2]);

const _: () = assert!(size_of::<Pair>() == 64);

/// Fingerprints of the packets just seen. Which of them are remembered depends on their times and their number alone: hashes are
/// seeded anew in each process, and whatever they displaced by chance would make one audit differ from the next.
#[derive(Clone)]
pub(super) struct Copies {
    pairs: Box<[Pair; PAIRS]>,
    /// Those whose places others took, by their hashes.
    displaced: HashMap<u64, Seen, FixedState>,
    /// The latest time of these.
    displaced_latest: Timestamp,
    /// How many of them there may be before those that are over are looked for.
    look_through_at: usize,
    /// Packets so far, the latest time of any, and how many came before times last went far back.
    packets: u64,
    latest: Timestamp,
    began_after: u64,
    /// Earlier packets are not remembered.
    from: Timestamp,
    /// What was forgotten before another interface was met stays so.
    floor: Timestamp,
    kept_nanos: i64,
    /// The interface of the first packet, or none that there is.
    interface: u64,
    state: FixedState,
}

impl Default for Copies {
    fn default() -> Self {
        Copies {
            pairs: Box::new([Pair::default(); PAIRS]),
            displaced: HashMap::default(),
            displaced_latest: Timestamp(i64::MIN),
            look_through_at: LEAST_LOOKED_THROUGH,
            packets: 0,
            latest: Timestamp(i64::MIN),
            began_after: 0,
            from: Timestamp(i64::MIN),
            floor: Timestamp(i64::MIN),
            kept_nanos: COPY_NANOS,
            interface: u64::MAX,
            state: FixedState::default(),
        }
    }
}

/// Which packets are still remembered.
#[derive(Clone, Copy)]
struct Kept {
    /// Those behind so many.
    behind: u64,
    /// Not older than this.
    from: Timestamp,
}

impl Kept {
    #[inline]
    fn has(self, seen: &Seen) -> bool {
        seen.number > self.behind && seen.time >= self.from
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
        let interface = u64::from(interface.0) << 32 | u64::from(interface.1);
        self.packets += 1;
        if interface != self.interface {
            self.meet(interface);
        }
        if time > self.latest {
            self.latest = time;
            self.from = Timestamp(time.0.saturating_sub(self.kept_nanos)).max(self.floor);
        } else {
            self.go_back(time);
        }
        let new = Seen { hash, time, interface, number: self.packets };
        let (from, none_displaced) = (self.from, self.displaced_latest < self.from);
        let Pair([one, other]) = &mut self.pairs[hash as usize % PAIRS];
        // Nearly always nothing else is asked: neither is it there, nor is there one of the same place.
        if none_displaced && one.hash != hash && other.hash != hash {
            if one.time < from {
                *one = new;
                return None;
            }
            if other.time < from {
                *other = new;
                return None;
            }
        }
        self.look_among_all(new)
    }

    /// Another interface than the first.
    #[cold]
    #[inline(never)]
    fn meet(&mut self, interface: u64) {
        if self.interface == u64::MAX {
            self.interface = interface;
            return;
        }
        self.expect_several();
    }

    /// There are several interfaces, whether packets of all were seen or not: what one saw may be written long before what another
    /// saw then.
    pub(super) fn expect_several(&mut self) {
        if self.kept_nanos != KEPT_NANOS {
            (self.kept_nanos, self.floor) = (KEPT_NANOS, self.from);
        }
    }

    /// A packet that is not dated after all others.
    #[inline(never)]
    fn go_back(&mut self, time: Timestamp) {
        if self.latest.since(time) > BACK_NANOS {
            (self.latest, self.began_after) = (time, self.packets - 1);
            self.floor = Timestamp(i64::MIN);
            self.from = Timestamp(time.0.saturating_sub(self.kept_nanos));
        }
    }

    #[inline(never)]
    fn look_among_all(&mut self, new: Seen) -> Option<Copy> {
        let kept = self.kept();
        let Pair(pair) = &mut self.pairs[new.hash as usize % PAIRS];
        let there = pair.iter_mut().find(|seen| seen.hash == new.hash && kept.has(seen));
        if let Some(seen) = there.or_else(|| self.displaced.get_mut(&new.hash).filter(|seen| kept.has(seen)))
        {
            let near = new.time.since(seen.time).saturating_abs() <= COPY_NANOS;
            // The first of several copies is the packet: later ones are held against it.
            if near && seen.interface != new.interface {
                return Some(Copy::OtherInterface);
            }
            *seen = new;
            self.displaced_latest = self.displaced_latest.max(new.time);
            return near.then_some(Copy::SameInterface);
        }
        // The place of one that is over, else of the older.
        let [one, other] = pair;
        let place =
            if kept.has(one) && (!kept.has(other) || other.number < one.number) { other } else { one };
        let before = std::mem::replace(place, new);
        if kept.has(&before) {
            self.displaced.insert(before.hash, before);
            self.displaced_latest = self.displaced_latest.max(before.time);
            if self.displaced.len() >= self.look_through_at {
                self.displaced.retain(|_, seen| kept.has(seen));
                self.look_through_at = (self.displaced.len() * 2).max(LEAST_LOOKED_THROUGH);
            }
        }
        None
    }

    /// Whether going on from these instead of from `others` makes no difference to packets between two times.
    pub(super) fn serve_as(&self, others: &Copies, first: Timestamp, last: Timestamp) -> bool {
        let idle = |seen: &Seen| first.since(seen.time) > COPY_NANOS || seen.time.since(last) > COPY_NANOS;
        let busy = |of: &Copies| {
            let kept = of.kept();
            let all = of
                .pairs
                .iter()
                .flat_map(|Pair(pair)| pair)
                .chain(of.displaced.values())
                .filter(|seen| kept.has(seen) && !idle(seen));
            let mut busy: Vec<_> = all.map(|seen| (seen.hash, seen.time, seen.interface)).collect();
            busy.sort_unstable();
            busy
        };
        let only = |of: &Copies| (of.kept_nanos, (of.kept_nanos == COPY_NANOS).then_some(of.interface));
        let since = |of: &Copies| (of.latest, of.from);
        // What is forgotten before the packets come is none of theirs, and the first of them is the latest for both.
        let is_before = |of: &Copies| of.latest <= first && first.since(of.from) >= COPY_NANOS;
        let forget_alike = since(self) == since(others) || (is_before(self) && is_before(others));
        forget_alike && only(self) == only(others) && busy(self) == busy(others)
    }

    /// Which packets are remembered now.
    fn kept(&self) -> Kept {
        Kept { behind: self.began_after.max(self.packets.saturating_sub(MOST_KEPT)), from: self.from }
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
    use proptest::prelude::*;

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
            outer: &[],
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

    /// Packets of which each is another, at these times on these interfaces.
    fn looks(packets: &[(u16, u32, i64)]) -> Vec<Option<Copy>> {
        looks_of(Copies::default(), packets)
    }

    fn looks_of(mut copies: Copies, packets: &[(u16, u32, i64)]) -> Vec<Option<Copy>> {
        let look = |&(number, interface, time): &(u16, u32, i64)| {
            let tcp = Tcp { seq: number.into(), ..TCP };
            let packet = packet([10, 0, 0, 1], [10, 0, 0, 2], tcp, &[0x45, 0, 0, 0, 1, 2]);
            copies.look(&packet, HashedKey::of_packet(&packet), (0, interface), Timestamp(time))
        };
        packets.iter().map(look).collect()
    }

    #[test]
    fn every_copy_is_found_however_many_packets_come_between() {
        // Twice as many as there are places within a few milliseconds, and as one interface after the other is written: half a second
        // of each.
        for (step, block) in [(100, 20_000), (25_000, 20_000)] {
            let of = |interface| {
                (0..block).map(move |number: u16| {
                    (number, interface, i64::from(number) * step + i64::from(interface))
                })
            };
            // Where nobody said that there is a second one, packets are forgotten sooner until it is met.
            let mut copies = Copies::default();
            copies.expect_several();
            let packets: Vec<_> = of(0).chain(of(1)).collect();
            let found = looks_of(copies, &packets);
            assert!(found[..usize::from(block)].iter().all(Option::is_none));
            assert!(found[usize::from(block)..].iter().all(|found| *found == Some(Copy::OtherInterface)));
        }
        let twice: Vec<_> = (0..40_000u16).map(|place| (place % 20_000, 0, i64::from(place) * 100)).collect();
        let found = looks(&twice);
        assert!(found[..20_000].iter().all(Option::is_none));
        assert!(found[20_000..].iter().all(|found| *found == Some(Copy::SameInterface)));
    }

    #[test]
    fn who_saw_the_last_packets_serves_as_who_saw_all() {
        let look = |copies: &mut Copies, number: u32, interface, time| {
            let packet =
                packet([10, 0, 0, 1], [10, 0, 0, 2], Tcp { seq: number, ..TCP }, &[0x45, 0, 0, 0, 1, 2]);
            copies.look(&packet, HashedKey::of_packet(&packet), (0, interface), Timestamp(time));
        };
        // A packet in a millisecond, on two interfaces by turns or on one.
        let after = |from: u32, interfaces: u32, late: i64| {
            let mut copies = Copies::default();
            for number in from..5_000 {
                look(&mut copies, number, number % interfaces, i64::from(number) * 1_000_000 + late);
            }
            copies
        };
        let begin = Timestamp(5_000_000_000);
        let end = Timestamp(9_000_000_000);
        for interfaces in [1, 2] {
            let all = after(0, interfaces, 0);
            for (from, expected) in [(0, true), (100, true), (4_990, true), (4_997, false), (5_000, false)] {
                assert_eq!(
                    after(from, interfaces, 0).serve_as(&all, begin, end),
                    expected,
                    "{interfaces} {from}"
                );
            }
            // Another time; another number of interfaces.
            assert!(!after(4_900, interfaces, 1).serve_as(&all, begin, end));
            assert!(!after(4_900, 3 - interfaces, 0).serve_as(&all, begin, end));
        }
    }

    #[test]
    fn a_wrong_time_in_the_future_hides_no_later_copy() {
        let second = 1_000_000_000;
        let packets =
            [(1, 0, 0), (2, 1, 900 * second), (3, 0, 1), (3, 1, 2), (4, 0, 3), (3, 0, 4), (4, 1, 5)];
        let (other, same) = (Some(Copy::OtherInterface), Some(Copy::SameInterface));
        assert_eq!(looks(&packets), [None, None, None, other, None, same, other]);
    }

    #[test]
    fn of_packets_of_one_moment_so_many_are_remembered_and_no_more() {
        let mut copies = Copies::default();
        let mut look = |number: u64, interface: u32| {
            let tcp = Tcp { seq: number as u32, ..TCP };
            let packet = packet([10, 0, 0, 1], [10, 0, 0, 2], tcp, &[0x45, 0, 0, 0, 1, 2]);
            copies.look(&packet, HashedKey::of_packet(&packet), (0, interface), Timestamp(0))
        };
        assert!((0..2 * MOST_KEPT).all(|number| look(number, 0).is_none()));
        // The next packet is the last that remembers the one, and forgets the other.
        assert_eq!(look(MOST_KEPT + 1, 1), Some(Copy::OtherInterface));
        assert_eq!(look(MOST_KEPT + 1, 1), None);
        assert!(copies.displaced.len() as u64 <= 2 * MOST_KEPT, "{}", copies.displaced.len());
    }

    #[test]
    fn what_was_forgotten_before_another_interface_was_met_stays_so() {
        let packets = [(1, 0, 0), (2, 0, 6_000_000), (3, 1, 7_000_000), (1, 1, 4_000_000), (2, 1, 7_000_001)];
        assert_eq!(looks(&packets), [None, None, None, None, Some(Copy::OtherInterface)]);
    }

    proptest! {
        /// All that were seen are looked through, in place of what is remembered by hashes.
        #[test]
        fn what_is_remembered_is_what_all_would_tell(
            packets in prop::collection::vec((0u16..6, 0u32..3, -3_000_000i64..7_000_000), 0..60),
        ) {
            let mut time = 0;
            let packets: Vec<_> = packets
                .into_iter()
                .map(|(number, interface, step)| {
                    time += step;
                    (number, interface, time)
                })
                .collect();
            let mut seen: Vec<(u16, u32, i64)> = Vec::new();
            let (mut latest, mut kept, mut from) = (i64::MIN, COPY_NANOS, i64::MIN);
            let mut expected = Vec::new();
            for &new in &packets {
                let (number, interface, time) = new;
                if interface != packets[0].1 {
                    kept = KEPT_NANOS;
                }
                latest = latest.max(time);
                from = from.max(latest - kept);
                let like = |seen: &&mut (u16, u32, i64)| seen.0 == number && seen.2 >= from;
                match seen.iter_mut().rev().find(like) {
                    Some(before) if (time - before.2).abs() <= COPY_NANOS => {
                        let same = before.1 == interface;
                        expected.push(Some(if same { Copy::SameInterface } else { Copy::OtherInterface }));
                        if same {
                            *before = new;
                        }
                    }
                    Some(before) => {
                        *before = new;
                        expected.push(None);
                    }
                    None => {
                        seen.retain(|seen| seen.0 != number);
                        seen.push(new);
                        expected.push(None);
                    }
                }
            }
            prop_assert_eq!(looks(&packets), expected);
        }
    }
}
