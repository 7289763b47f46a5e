//! Frames that are missing although nobody counted a loss: TCP acknowledges data only that arrived, so what is
//! acknowledged and was not seen passed the place of capture unseen (or another way).

use crate::decode::{Packet, Payload, Tcp};
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::net::IpAddr;

/// Conversations remembered: of those that share a place the last one stays. 16,384, half a MiB.
const REMEMBERED: usize = 1 << 14;

/// An acknowledgement farther ahead than this is none of the stream: half of the sequence space would be ambiguous
/// (RFC 9293 section 3.4), and no window is larger than 2^30 (RFC 7323 section 2.3).
const FARTHEST: u32 = 1 << 30;

#[derive(Clone, Copy, Default)]
struct Place {
    tag: u64,
    /// What each side sends next, once something of it was seen.
    next: [Option<u32>; 2],
    /// What each side acknowledged last.
    acked: [Option<u32>; 2],
}

/// Counts acknowledgements of data.
pub(super) struct Gaps {
    places: Vec<Place>,
    state: FixedState,
    /// Acknowledgements that went further than the one before.
    pub acknowledged: u64,
    /// Those of them that acknowledge something that was not seen.
    pub unseen: u64,
}

impl Default for Gaps {
    fn default() -> Self {
        Gaps {
            places: vec![Place::default(); REMEMBERED],
            state: FixedState::default(),
            acknowledged: 0,
            unseen: 0,
        }
    }
}

/// Whether `a` is before `b` in a sequence space that begins anew.
fn is_before(a: u32, b: u32) -> bool {
    (1..FARTHEST).contains(&b.wrapping_sub(a))
}

impl Gaps {
    /// Looks at a packet.
    #[inline]
    pub(super) fn look(&mut self, packet: &Packet<'_>) {
        if let Payload::Tcp(tcp) = packet.payload {
            self.segment(packet.src, packet.dst, &tcp);
        }
    }

    fn segment(&mut self, src: IpAddr, dst: IpAddr, tcp: &Tcp<'_>) {
        let (from, to) = ((src, tcp.src_port), (dst, tcp.dst_port));
        let side = usize::from(from > to);
        let ends = if side == 0 { (from, to) } else { (to, from) };
        let tag = self.state.hash_one(ends) | 1;
        let place = &mut self.places[tag as usize / 2 % REMEMBERED];
        if place.tag != tag {
            *place = Place { tag, ..Place::default() };
        }
        if tcp.flags.rst() {
            return;
        }
        let taken = u32::from(tcp.flags.syn()) + u32::from(tcp.flags.fin());
        let next = tcp.seq.wrapping_add(tcp.payload_len).wrapping_add(taken);
        let own = &mut place.next[side];
        match own {
            // A SYN begins a stream.
            _ if tcp.flags.syn() => *own = Some(next),
            Some(known) if is_before(*known, next) => *known = next,
            Some(_) => {}
            None => *own = Some(next),
        }
        if !tcp.flags.ack() {
            return;
        }
        let further = place.acked[side].is_none_or(|last| is_before(last, tcp.ack));
        let Some(known) = place.next[1 - side].as_mut().filter(|_| further) else { return };
        self.acknowledged += 1;
        place.acked[side] = Some(tcp.ack);
        if is_before(*known, tcp.ack) {
            self.unseen += 1;
            *known = tcp.ack;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::TcpFlags;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    /// From the client or the server: flags, sequence number, acknowledgement, payload bytes.
    type Step = (bool, u8, u32, u32, u32);

    fn counted(steps: &[Step]) -> (u64, u64) {
        let mut gaps = Gaps::default();
        for &(from_client, flags, seq, ack, payload_len) in steps {
            let (src, dst, ports) =
                if from_client { (CLIENT, SERVER, (40_000, 443)) } else { (SERVER, CLIENT, (443, 40_000)) };
            let tcp = Tcp {
                src_port: ports.0,
                dst_port: ports.1,
                seq,
                ack,
                flags: TcpFlags(flags),
                payload: &[],
                payload_len,
            };
            gaps.segment(src, dst, &tcp);
        }
        (gaps.acknowledged, gaps.unseen)
    }

    #[test]
    #[rustfmt::skip]
    fn what_is_acknowledged_and_was_not_seen_is_missing() {
        let (syn, syn_ack, ack) = (0x02, 0x12, 0x10);
        let shaken = [(true, syn, 99, 0, 0), (false, syn_ack, 499, 100, 0), (true, ack, 100, 500, 0)];
        for (name, more, expected) in [
            ("all seen",                     &[(true, ack, 100, 500, 50), (false, ack, 500, 150, 0)][..],    (3, 0)),
            ("the data are missing",         &[(false, ack, 500, 150, 0)],                                   (3, 1)),
            ("the first of two is missing",  &[(true, ack, 150, 500, 50), (false, ack, 500, 200, 0)],        (3, 0)),
            ("a gap counts once",            &[(false, ack, 500, 150, 0), (false, ack, 500, 150, 0)],        (3, 1)),
            ("an old acknowledgement",       &[(true, ack, 100, 500, 50), (false, ack, 500, 100, 0)],        (2, 0)),
            ("one from nowhere",             &[(false, ack, 500, 100 + (1 << 30), 0)],                       (2, 0)),
            ("none of a stranger",           &[(true, 0x04, 100, 900, 0)],                                   (2, 0)),
        ] {
            assert_eq!(counted(&[&shaken, more].concat()), expected, "{name}");
        }
        // Sequence numbers begin anew after 2^32.
        let wrapped = [(true, ack, u32::MAX - 9, 1, 20), (false, ack, 1, 10, 0), (false, ack, 1, 30, 0)];
        assert_eq!(counted(&wrapped), (2, 1));
    }
}
