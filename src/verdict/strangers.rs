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

/// Numbers told apart by putting them in order, many at a time: looking each up in a large table costs a cache miss.
#[derive(Default)]
struct Apart<T> {
    /// Ascending, each once.
    known: Vec<T>,
    /// Those that came since, in any order, as often as they came.
    pending: Vec<T>,
}

/// Addresses that wait to be told apart, at the least.
const LEAST_PENDING: usize = 1 << 10;

/// Bytes of the longest numbers.
const MOST_BYTES: usize = 16;

/// A number that is put in order byte by byte.
trait Bytewise: Ord + Copy + Default {
    const BYTES: u32;

    /// One of its bytes, from the lowest on.
    fn byte(self, place: u32) -> u8;
}

impl Bytewise for u32 {
    const BYTES: u32 = 4;

    #[inline]
    fn byte(self, place: u32) -> u8 {
        (self >> (8 * place)) as u8
    }
}

impl Bytewise for u128 {
    const BYTES: u32 = 16;

    #[inline]
    fn byte(self, place: u32) -> u8 {
        (self >> (8 * place)) as u8
    }
}

/// Puts numbers in order; `room` is for as many. By one byte after another (radix sort), since which of two addresses is less
/// nobody foresees: with lists joined without a branch, as below, 0.97 of the CPU of W4 (nine runs in turn).
fn sort<T: Bytewise>(numbers: &mut [T], room: &mut [T]) {
    let (mut from, mut to) = (numbers, room);
    // How often each byte stands at each place: all places are counted in one go.
    let mut counts = [[0u32; 256]; MOST_BYTES];
    for number in &*from {
        for (place, counts) in (0..T::BYTES).zip(&mut counts) {
            counts[usize::from(number.byte(place))] += 1;
        }
    }
    let mut is_moved = false;
    for (place, ends) in (0..T::BYTES).zip(&mut counts) {
        // All alike, as the first bytes of addresses of version 6 mostly are.
        if ends.contains(&(from.len() as u32)) {
            continue;
        }
        let mut all = 0;
        for end in &mut *ends {
            // From here on each is where the next of its byte goes.
            all += std::mem::replace(end, all);
        }
        for &number in &*from {
            let next = &mut ends[usize::from(number.byte(place))];
            if let Some(into) = to.get_mut(*next as usize) {
                *into = number;
            }
            *next += 1;
        }
        std::mem::swap(&mut from, &mut to);
        is_moved = !is_moved;
    }
    if is_moved {
        to.copy_from_slice(from);
    }
}

impl<T: Bytewise> Apart<T> {
    /// Tells apart those that wait once they are as many as are known: so each is gone through twice.
    fn settle_if_due(&mut self, room: usize) -> (usize, bool) {
        let due = self.pending.len() >= LEAST_PENDING.max(self.known.len());
        if due { self.settle(room) } else { (0, false) }
    }

    /// Tells apart those that wait, as far as there is room for new ones; hands back how many are new, and whether there are more.
    fn settle(&mut self, room: usize) -> (usize, bool) {
        let mut pending = std::mem::take(&mut self.pending);
        // The room to put them in order is needed for them afterwards.
        let own = self.known.len();
        self.known.resize(own + pending.len(), T::default());
        sort(&mut pending, &mut self.known[own..]);
        self.known.truncate(own);
        pending.dedup();
        let told = self.join(&mut pending, room);
        pending.clear();
        self.pending = pending;
        told
    }

    /// Adds numbers that ascend, each once, as far as there is room for new ones; hands back how many are new, and whether there are
    /// more.
    fn join(&mut self, numbers: &mut Vec<T>, room: usize) -> (usize, bool) {
        let known = &mut self.known;
        let new = keep_new(numbers, known);
        let more = new > room;
        numbers.truncate(new.min(room));
        // From the end, where there is room for what is greater. Which of two goes there is told without a branch, as nobody
        // foresees it.
        let (mut own, mut left) = (known.len(), numbers.len());
        let new = left;
        known.resize(own + left, T::default());
        while own > 0 && left > 0 {
            let (known_one, new_one) = (known[own - 1], numbers[left - 1]);
            known[own + left - 1] = known_one.max(new_one);
            let is_known = known_one > new_one;
            (own, left) = (own - usize::from(is_known), left - usize::from(!is_known));
        }
        known[..left].copy_from_slice(&numbers[..left]);
        (new, more)
    }

    /// Adds others; hands back how many are new, and whether there are more than there is room for.
    fn add(&mut self, others: Self, room: usize) -> (usize, bool) {
        let Apart { mut known, pending } = others;
        self.pending.extend(pending);
        // Many are in order already, and to join them is less than to put them in order again; few wait as others do.
        if known.len() < LEAST_PENDING.max(self.known.len() / 8) {
            self.pending.append(&mut known);
            return self.settle_if_due(room);
        }
        let (new, more) = self.join(&mut known, room);
        let (later, more_later) = self.settle_if_due(room - new);
        (new + later, more | more_later)
    }
}

/// Moves those numbers to the front that are not `known`, and tells how many they are. All ascend, each once.
fn keep_new<T: Bytewise>(numbers: &mut [T], known: &[T]) -> usize {
    let (mut at, mut place, mut new) = (0, 0, 0);
    while at < known.len() && place < numbers.len() {
        let (known_one, number) = (known[at], numbers[place]);
        numbers[new] = number;
        new += usize::from(number < known_one);
        (at, place) = (at + usize::from(known_one <= number), place + usize::from(number <= known_one));
    }
    let rest = numbers.len() - place;
    numbers.copy_within(place.., new);
    new + rest
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
        let (v4, more_v4) = self.v4.add(v4, room);
        let (v6, more_v6) = self.v6.add(v6, room - v4);
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
        #[test]
        fn numbers_are_put_in_order(
            numbers in prop::collection::vec(any::<u128>(), 0..300),
            mask in prop_oneof![any::<u128>(), Just(0xff), Just(0xff << 120), Just(0xff_ffff), Just(0)],
        ) {
            let mut numbers: Vec<u128> = numbers.into_iter().map(|number| number & mask).collect();
            let mut short: Vec<u32> = numbers.iter().map(|&number| number as u32).collect();
            let (mut expected, mut expected_short) = (numbers.clone(), short.clone());
            expected.sort_unstable();
            expected_short.sort_unstable();
            sort(&mut numbers, &mut vec![0; expected.len()]);
            sort(&mut short, &mut vec![0; expected.len()]);
            prop_assert_eq!((numbers, short), (expected, expected_short));
        }

        #[test]
        fn what_is_known_is_not_new(
            (numbers, known) in (prop::collection::btree_set(0..60u32, 0..40), prop::collection::btree_set(0..60u32, 0..40)),
        ) {
            let expected: Vec<u32> = numbers.difference(&known).copied().collect();
            let known: Vec<u32> = known.into_iter().collect();
            let mut numbers: Vec<u32> = numbers.into_iter().collect();
            let new = keep_new(&mut numbers, &known);
            prop_assert_eq!(&numbers[..new], expected.as_slice());
        }
    }

    #[test]
    fn what_is_joined_and_what_waits_share_the_room() {
        let mut own = Apart { known: (0..1_100u32).collect(), pending: Vec::new() };
        let others = Apart { known: (1_100..2_200).collect(), pending: (3_000..5_300).collect() };
        assert_eq!(own.add(others, 1_500), (1_500, true));
        assert_eq!(own.known.len(), 2_600);
        assert!(own.known.is_sorted_by(|a, b| a < b) && own.pending.is_empty());
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
