//! Addresses that hold no role, told apart: those beyond the first hundred of a finding, of which there may be millions.

use std::net::IpAddr;

/// Folded addresses that are told apart over all findings: 8 million, of six bytes each (of version 6 24), twice as many where
/// lists have just grown. Beyond, their number is told as a least one.
pub(super) const MOST_DISTINCT: usize = 8 << 20;

/// Addresses beyond [`MOST_STRANGERS`](super::findings::MOST_STRANGERS).
#[derive(Default)]
pub(super) struct Strangers {
    v4: Apart<u32>,
    v6: Apart<u128>,
    /// Whether there may be more than were told apart.
    pub more: bool,
}

/// Values told apart by putting them in order, many at a time: looking each up in a large table costs a cache miss.
#[derive(Default)]
struct Apart<T> {
    /// Ascending, each once.
    known: Vec<T>,
    /// Those that came since, in any order, as often as they came.
    pending: Vec<T>,
}

/// Addresses that wait to be told apart, at the least.
const LEAST_PENDING: usize = 1 << 10;

impl<T: Ord + Copy> Apart<T> {
    /// Tells apart those that wait once they are as many as are known: so each is gone through twice.
    fn settle_if_due(&mut self, room: usize) -> (usize, bool) {
        let due = self.pending.len() >= LEAST_PENDING.max(self.known.len());
        if due { self.settle(room) } else { (0, false) }
    }

    /// Tells apart those that wait, as far as there is room for new ones; hands back how many are new, and whether there are more.
    fn settle(&mut self, room: usize) -> (usize, bool) {
        let Apart { known, pending } = self;
        pending.sort_unstable();
        pending.dedup();
        // Both lists ascend: they are gone through side by side.
        let mut rest = &known[..];
        pending.retain(|new| {
            while let [first, others @ ..] = rest
                && first < new
            {
                rest = others;
            }
            rest.first() != Some(new)
        });
        let more = pending.len() > room;
        pending.truncate(room);
        // From the end, where there is room for what is greater.
        let mut own = known.len();
        known.extend_from_slice(pending);
        let mut to = known.len();
        for &one in pending.iter().rev() {
            while own > 0 && known[own - 1] > one {
                (own, to) = (own - 1, to - 1);
                known[to] = known[own];
            }
            to -= 1;
            known[to] = one;
        }
        let new = pending.len();
        pending.clear();
        (new, more)
    }
}

impl Strangers {
    /// Counts an address; hands back by how many the number of those told apart has grown, of this one and of ones before it.
    /// No more than `room` are told apart; beyond, only whether there are more is.
    pub fn insert(&mut self, ip: IpAddr, room: usize) -> usize {
        let (new, more) = match ip {
            IpAddr::V4(ip) => {
                self.v4.pending.push(ip.to_bits());
                self.v4.settle_if_due(room)
            }
            IpAddr::V6(ip) => {
                self.v6.pending.push(ip.to_bits());
                self.v6.settle_if_due(room)
            }
        };
        self.more |= more;
        new
    }

    /// Tells apart those that wait; hands back how many are new.
    pub fn settle(&mut self, room: usize) -> usize {
        let (v4, more_v4) = self.v4.settle(room);
        let (v6, more_v6) = self.v6.settle(room - v4);
        self.more |= more_v4 | more_v6;
        v4 + v6
    }

    /// Those told apart; all are settled.
    pub fn len(&self) -> usize {
        self.v4.known.len() + self.v6.known.len()
    }

    pub fn remove(&mut self, ip: IpAddr) {
        fn remove<T: Ord>(known: &mut Vec<T>, one: &T) {
            if let Ok(place) = known.binary_search(one) {
                known.remove(place);
            }
        }
        match ip {
            IpAddr::V4(ip) => remove(&mut self.v4.known, &ip.to_bits()),
            IpAddr::V6(ip) => remove(&mut self.v6.known, &ip.to_bits()),
        }
    }

    /// Adds others; hands back how many are new.
    pub fn add(&mut self, others: Strangers, room: usize) -> usize {
        let Strangers { v4, v6, more } = others;
        self.v4.pending.extend(v4.known.into_iter().chain(v4.pending));
        self.v6.pending.extend(v6.known.into_iter().chain(v6.pending));
        let (v4, more_v4) = self.v4.settle_if_due(room);
        let (v6, more_v6) = self.v6.settle_if_due(room - v4);
        self.more |= more | more_v4 | more_v6;
        v4 + v6
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn addresses() -> impl Strategy<Value = Vec<IpAddr>> {
        let v4 = (0..3_000u32).prop_map(|bits| IpAddr::V4(bits.into()));
        let v6 = (0..3_000u128).prop_map(|bits| IpAddr::V6(bits.into()));
        prop::collection::vec(prop_oneof![3 => v4, 1 => v6], 0..6_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whoever comes in whichever order, each is one; what has no room is told, and not counted.
        #[test]
        fn each_is_told_apart_once(ips in addresses(), split in 0..6_000usize, room in 0..4_000usize) {
            let all: BTreeSet<IpAddr> = ips.iter().copied().collect();
            let (mut first, mut second, mut counted) = (Strangers::default(), Strangers::default(), 0);
            let (early, late) = ips.split_at(split.min(ips.len()));
            early.iter().for_each(|&ip| counted += first.insert(ip, room - counted));
            let mut of_second = 0;
            late.iter().for_each(|&ip| of_second += second.insert(ip, room - of_second));
            counted += first.add(second, room - counted);
            counted += first.settle(room - counted);
            prop_assert_eq!(counted, all.len().min(room));
            prop_assert_eq!(first.len(), counted);
            prop_assert_eq!(first.more, all.len() > room);
            prop_assert!(first.v4.known.is_sorted_by(|a, b| a < b) && first.v6.known.is_sorted_by(|a, b| a < b));
            if let Some(&ip) = all.first().filter(|_| room >= all.len()) {
                first.remove(ip);
                prop_assert_eq!(first.len(), counted - 1);
            }
        }
    }
}
