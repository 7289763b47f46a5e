//! Addresses that hold no role, told apart: those beyond the first hundred of a finding, of which there may be millions.

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use std::net::IpAddr;

/// Folded addresses that are told apart over all findings: 8 million, 40 bytes or fewer each. Beyond, their number is told
/// as a least one.
pub(super) const MOST_DISTINCT: usize = 8 << 20;

/// Addresses beyond [`MOST_STRANGERS`](super::findings::MOST_STRANGERS).
#[derive(Default)]
pub(super) struct Strangers {
    /// Ascending.
    v4: Vec<u32>,
    /// Those that came since, in any order, as often as they came: looking each up in a large table costs a cache miss.
    pending: Vec<u32>,
    v6: HashSet<u128, RandomState>,
    /// Whether there may be more than were told apart.
    pub more: bool,
}

/// Addresses of version 4 that wait to be told apart, at the least.
const LEAST_PENDING: usize = 1 << 10;

impl Strangers {
    /// Counts an address; hands back by how many the number of those told apart has grown, of this one and of ones before it.
    /// No more than `room` are told apart; beyond, only whether there are more is.
    pub fn insert(&mut self, ip: IpAddr, room: usize) -> usize {
        match ip {
            IpAddr::V4(ip) => {
                self.pending.push(ip.to_bits());
                if self.pending.len() >= self.most_pending() { self.settle(room) } else { 0 }
            }
            IpAddr::V6(ip) => self.insert_v6(ip.to_bits(), room),
        }
    }

    fn insert_v6(&mut self, ip: u128, room: usize) -> usize {
        if room > 0 {
            return usize::from(self.v6.insert(ip));
        }
        self.more |= !self.v6.contains(&ip);
        0
    }

    fn most_pending(&self) -> usize {
        LEAST_PENDING.max(self.v4.len() / 4)
    }

    /// Tells apart those that wait; hands back how many are new.
    pub fn settle(&mut self, room: usize) -> usize {
        if self.pending.is_empty() {
            return 0;
        }
        self.pending.sort_unstable();
        self.pending.dedup();
        // Both lists ascend: they are gone through side by side.
        let mut known = self.v4.iter().copied().peekable();
        self.pending.retain(|&ip| {
            while known.next_if(|&known| known < ip).is_some() {}
            known.peek() != Some(&ip)
        });
        self.more |= self.pending.len() > room;
        self.pending.truncate(room);
        let new = self.pending.len();
        self.v4.append(&mut self.pending);
        // Two ascending runs, which a stable sort merges.
        self.v4.sort();
        new
    }

    /// Those told apart; all are settled.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub fn remove(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                if let Ok(place) = self.v4.binary_search(&ip.to_bits()) {
                    self.v4.remove(place);
                }
            }
            IpAddr::V6(ip) => {
                self.v6.remove(&ip.to_bits());
            }
        }
    }

    /// Adds others; hands back how many are new.
    pub fn add(&mut self, others: Strangers, room: usize) -> usize {
        self.more |= others.more;
        let mut new = 0;
        // As if they came one by one.
        for mut ips in [&others.v4[..], &others.pending] {
            while !ips.is_empty() {
                let room_for = self.most_pending().saturating_sub(self.pending.len());
                let (now, later) = ips.split_at(room_for.clamp(1, ips.len()));
                self.pending.extend_from_slice(now);
                if self.pending.len() >= self.most_pending() {
                    new += self.settle(room.saturating_sub(new));
                }
                ips = later;
            }
        }
        others.v6.into_iter().fold(new, |new, ip| new + self.insert_v6(ip, room.saturating_sub(new)))
    }
}
