//! Values by number, each once, and numbers by the hash of what they number.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash};

/// Numbers by the hash of what they number. 32 bits of it stand beside each: what is numbered is looked at only where these
/// are the same, and not at all when the table grows. Most of it stands anywhere in memory, and waiting for that is most of
/// what a search costs.
#[derive(Clone, Debug, Default)]
pub struct ByHash(HashTable<(u32, u32)>);

impl ByHash {
    /// With room for so many.
    pub fn with_capacity(numbers: usize) -> Self {
        ByHash(HashTable::with_capacity(numbers))
    }

    /// The number of this hash that `same` says yes to, if it is here.
    #[inline]
    pub fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        let short = short(hash);
        let found = self.0.find(spread(short), |&(other, number)| other == short && same(number));
        found.map(|&(_, number)| number)
    }

    /// Adds a number that is not here.
    #[inline]
    pub fn insert(&mut self, hash: u64, number: u32) {
        let short = short(hash);
        self.0.insert_unique(spread(short), (short, number), |&(other, _)| spread(other));
    }

    /// For how many numbers there is room.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Forgets all, and keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// What the table takes for a hash: it looks at the lowest bits and at the highest seven, which must not be the same ones.
fn spread(short: u32) -> u64 {
    // 2^64 divided by the golden ratio: odd, so that the lowest bits stay apart (Knuth, TAOCP 3, section 6.4).
    u64::from(short).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Values by number, each once, numbered as they come. Hashing is seeded: what is kept here comes from captures.
#[derive(Clone, Debug)]
pub struct Distinct<T> {
    values: Vec<T>,
    table: ByHash,
    seed: RandomState,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Distinct { values: Vec::new(), table: ByHash::default(), seed: RandomState::default() }
    }
}

impl<T> Distinct<T> {
    /// The value of a number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.values.get(number as usize)
    }

    /// All values, by number.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// For how many values there is room.
    pub fn capacity(&self) -> usize {
        self.values.capacity()
    }

    /// All values, by number.
    pub fn into_values(self) -> Vec<T> {
        self.values
    }

    /// The hash of what is hashed of a value.
    #[inline]
    pub fn hash(&self, part: &(impl Hash + ?Sized)) -> u64 {
        self.seed.hash_one(part)
    }

    /// The number of the value of this hash that `same` says yes to, if it is here.
    #[inline]
    pub fn find(&self, hash: u64, same: impl Fn(&T) -> bool) -> Option<u32> {
        self.table.find(hash, |at| self.get(at).is_some_and(&same))
    }

    /// The number of a new value of this hash.
    pub fn insert(&mut self, hash: u64, value: T) -> u32 {
        let new = self.values.len() as u32;
        self.values.push(value);
        self.table.insert(hash, new);
        new
    }
}
