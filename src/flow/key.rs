//! What makes two packets belong to one conversation.

use super::community_id::community_id;
use crate::model::{Endpoint, Transport, address_bits};
use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;

/// Keys are held against each other by this hash over all captures of a run. It is seeded anew in each process, so that
/// nobody can make keys collide; nothing that is printed depends on it.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// The two endpoints of a conversation in a fixed order, and its transport. VLAN, VNI and interface are no part of it:
/// mirror ports tag each direction their own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowKey {
    /// The transport.
    pub transport: Transport,
    /// The lesser endpoint, by address then port.
    pub low: Endpoint,
    /// The greater endpoint.
    pub high: Endpoint,
}

/// Which endpoint of a [`FlowKey`] sends. Says nothing about who began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The lesser endpoint.
    Low,
    /// The greater endpoint.
    High,
}

impl Side {
    /// The other side.
    pub fn other(self) -> Side {
        self.of(Side::High, Side::Low)
    }

    /// Of what both sides have, its own.
    #[inline]
    pub(super) fn of<T>(self, low: T, high: T) -> T {
        match self {
            Side::Low => low,
            Side::High => high,
        }
    }
}

/// `a <= b`, told of whole addresses at once.
#[inline]
fn lies_below(a: &Endpoint, b: &Endpoint) -> bool {
    match (a.ip, b.ip) {
        (IpAddr::V4(x), IpAddr::V4(y)) => (u32::from(x), a.port) <= (u32::from(y), b.port),
        (IpAddr::V6(x), IpAddr::V6(y)) => (u128::from(x), a.port) <= (u128::from(y), b.port),
        (x, _) => x.is_ipv4(),
    }
}

impl FlowKey {
    /// The key of a packet from `src` to `dst`, and the side that sent it.
    #[inline(always)]
    pub fn of(transport: Transport, src: Endpoint, dst: Endpoint) -> (FlowKey, Side) {
        if lies_below(&src, &dst) {
            (FlowKey { transport, low: src, high: dst }, Side::Low)
        } else {
            (FlowKey { transport, low: dst, high: src }, Side::High)
        }
    }

    /// The endpoint of a side.
    pub fn endpoint(&self, side: Side) -> Endpoint {
        side.of(self.low, self.high)
    }

    /// The Community ID (v1, seed 0) of the flow that `initiator` began.
    pub fn flow_id(&self, initiator: Side) -> String {
        community_id(self.transport, self.endpoint(initiator), self.endpoint(initiator.other()))
    }
}

/// A [`FlowKey`] in words. Where both addresses are of version 4 two words are all of it, so that those of nearly every packet are
/// made, hashed and held against others without a look at what they mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyWords {
    /// From the greater bits on: the port of the lesser endpoint and that of the greater, the transport's number, and which of the
    /// two addresses are of version 6.
    rest: u64,
    /// Of version 4 both addresses in the first word, the lesser endpoint's above the other; else two words of each.
    addresses: [u64; 4],
}

impl KeyWords {
    const LOW_IS_V6: u64 = 1;
    const HIGH_IS_V6: u64 = 2;

    fn rest(transport: Transport, low_port: u16, high_port: u16) -> u64 {
        u64::from(low_port) << 32 | u64::from(high_port) << 16 | u64::from(transport.number()) << 8
    }

    /// The words of a packet from `src` to `dst`, and the side that sent it.
    #[inline(always)]
    pub fn of_packet(transport: Transport, src: Endpoint, dst: Endpoint) -> (KeyWords, Side) {
        let (IpAddr::V4(src_ip), IpAddr::V4(dst_ip)) = (src.ip, dst.ip) else {
            let (key, side) = FlowKey::of(transport, src, dst);
            return (KeyWords::of(&key), side);
        };
        // Both endpoints as numbers: which is the lesser is found without a jump that nobody can foresee.
        let src = u64::from(src_ip.to_bits()) << 16 | u64::from(src.port);
        let dst = u64::from(dst_ip.to_bits()) << 16 | u64::from(dst.port);
        let (low, high) = (src.min(dst), src.max(dst));
        let words = KeyWords {
            rest: KeyWords::rest(transport, low as u16, high as u16),
            addresses: [low >> 16 << 32 | high >> 16, 0, 0, 0],
        };
        (words, if src <= dst { Side::Low } else { Side::High })
    }

    /// Those of a key.
    #[inline(always)]
    pub fn of(key: &FlowKey) -> KeyWords {
        let rest = KeyWords::rest(key.transport, key.low.port, key.high.port);
        if let (IpAddr::V4(low), IpAddr::V4(high)) = (key.low.ip, key.high.ip) {
            let both = u64::from(low.to_bits()) << 32 | u64::from(high.to_bits());
            return KeyWords { rest, addresses: [both, 0, 0, 0] };
        }
        // No packet has an address of each version, and a key may.
        let v6 = |ip: IpAddr, bit| if ip.is_ipv6() { bit } else { 0 };
        let v6 = v6(key.low.ip, KeyWords::LOW_IS_V6) | v6(key.high.ip, KeyWords::HIGH_IS_V6);
        let (low, high) = (address_bits(key.low.ip), address_bits(key.high.ip));
        let addresses = [(low >> 64) as u64, low as u64, (high >> 64) as u64, high as u64];
        KeyWords { rest: rest | v6, addresses }
    }

    #[inline(always)]
    fn is_v4(&self) -> bool {
        self.rest & (KeyWords::LOW_IS_V6 | KeyWords::HIGH_IS_V6) == 0
    }

    /// The hash by which stretches of one conversation are found.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        let mut hasher = KEYS.build_hasher();
        let [first, second, third, fourth] = self.addresses;
        // All of it at once: this is asked for every packet.
        hasher.write_u128(u128::from(first) << 64 | u128::from(self.rest));
        if !self.is_v4() {
            hasher.write_u128(u128::from(second) << 64 | u128::from(third));
            hasher.write_u64(fourth);
        }
        hasher.finish()
    }

    /// Addresses of the lesser and the greater endpoint.
    #[inline(always)]
    pub fn addresses(&self) -> [IpAddr; 2] {
        let [first, second, third, fourth] = self.addresses;
        if self.is_v4() {
            return [((first >> 32) as u32).into(), (first as u32).into()].map(IpAddr::V4);
        }
        let ip = |high: u64, low: u64, bit: u64| match self.rest & bit {
            0 => IpAddr::V4((low as u32).into()),
            _ => IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))),
        };
        [ip(first, second, KeyWords::LOW_IS_V6), ip(third, fourth, KeyWords::HIGH_IS_V6)]
    }

    /// Ports of the lesser and the greater endpoint.
    #[inline(always)]
    pub fn ports(&self) -> [u16; 2] {
        [(self.rest >> 32) as u16, (self.rest >> 16) as u16]
    }

    /// The transport's number.
    #[inline(always)]
    pub fn transport_number(&self) -> u8 {
        (self.rest >> 8) as u8
    }

    /// The transport.
    #[inline(always)]
    pub fn transport(&self) -> Transport {
        Transport::from_number(self.transport_number())
    }

    /// The key of which they are.
    #[inline(always)]
    pub fn key(&self) -> FlowKey {
        let ([low, high], [low_port, high_port]) = (self.addresses(), self.ports());
        FlowKey {
            transport: self.transport(),
            low: Endpoint::new(low, low_port),
            high: Endpoint::new(high, high_port),
        }
    }
}

impl PartialEq for KeyWords {
    #[inline(always)]
    fn eq(&self, other: &KeyWords) -> bool {
        let ([first, further @ ..], [other_first, other_further @ ..]) = (&self.addresses, &other.addresses);
        (self.rest, first) == (other.rest, other_first) && (self.is_v4() || further == other_further)
    }
}

impl Eq for KeyWords {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> impl Strategy<Value = IpAddr> {
        // Few of each version, so that many are alike; those of version 6 that begin as one of version 4, too.
        let v4 = (0u32..3).prop_map(|low| IpAddr::V4((0x0a00_0000 + low).into()));
        let v6 = (0u128..3, any::<bool>()).prop_map(|(low, short)| {
            IpAddr::V6(Ipv6Addr::from_bits(low + if short { 0x0a00_0000 } else { 0x2001_0db8 << 96 }))
        });
        prop_oneof![v4, v6]
    }

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        (address(), 0u16..3).prop_map(|(ip, port)| Endpoint::new(ip, port))
    }

    fn transport() -> impl Strategy<Value = Transport> {
        prop_oneof![Just(6u8), Just(17), Just(1), Just(58), Just(132), any::<u8>()]
            .prop_map(Transport::from_number)
    }

    proptest! {
        #[test]
        fn words_are_those_of_the_key_and_equal_where_it_is(
            (a, b, c, d) in (endpoint(), endpoint(), endpoint(), endpoint()),
            (one, other) in (transport(), transport()),
        ) {
            let (key, side) = FlowKey::of(one, a, b);
            let words = KeyWords::of(&key);
            prop_assert_eq!(KeyWords::of_packet(one, a, b), (words, side));
            prop_assert_eq!(words.key(), key);
            prop_assert_eq!(words.addresses(), [key.low.ip, key.high.ip]);
            prop_assert_eq!((words.ports(), words.transport()), ([key.low.port, key.high.port], one));
            for further in [FlowKey::of(other, c, d).0, FlowKey::of(one, a, d).0, FlowKey::of(one, b, a).0] {
                let further_words = KeyWords::of(&further);
                prop_assert_eq!(words == further_words, key == further);
                prop_assert_eq!(words.hash() == further_words.hash(), key == further);
            }
        }
    }
}
