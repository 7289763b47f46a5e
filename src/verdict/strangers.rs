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
    v6: HashSet<IpAddr, RandomState>,
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
                if self.pending.len() >= LEAST_PENDING.max(self.v4.len() / 4) { self.settle(room) } else { 0 }
            }
            IpAddr::V6(_) if room > 0 => usize::from(self.v6.insert(ip)),
            IpAddr::V6(_) => {
                self.more |= !self.v6.contains(&ip);
                0
            }
        }
    }

    /// Tells apart those that wait; hands back how many are new.
    pub fn settle(&mut self, room: usize) -> usize {
        self.pending.sort_unstable();
        self.pending.dedup();
        let before = self.v4.len();
        let new = self.pending.iter().copied().filter(|ip| self.v4.binary_search(ip).is_err());
        let mut new: Vec<u32> = new.collect();
        self.pending.clear();
        self.more |= new.len() > room;
        new.truncate(room);
        self.v4.append(&mut new);
        // Two ascending runs, which a stable sort merges.
        self.v4.sort();
        self.v4.len() - before
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
            IpAddr::V6(_) => {
                self.v6.remove(&ip);
            }
        }
    }

    /// Adds others; hands back how many are new.
    pub fn add(&mut self, others: Strangers, room: usize) -> usize {
        self.more |= others.more;
        let v4 = others.v4.into_iter().chain(others.pending).map(|ip| IpAddr::V4(ip.into()));
        v4.chain(others.v6).fold(0, |new, ip| new + self.insert(ip, room.saturating_sub(new)))
    }
}
