//! Values by number, each once.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash};

/// Values by number, each once, numbered as they come. Hashing is seeded: what is kept here comes from captures.
#[derive(Clone, Debug)]
pub struct Distinct<T> {
    values: Vec<T>,
    table: HashTable<u32>,
    seed: RandomState,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Distinct { values: Vec::new(), table: HashTable::new(), seed: RandomState::default() }
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
        self.table.find(hash, |&at| self.get(at).is_some_and(&same)).copied()
    }

    /// The number of a new value; `hash_of` hashes one as [`Distinct::hash`] does.
    pub fn insert(&mut self, hash: u64, value: T, hash_of: impl Fn(&RandomState, &T) -> u64) -> u32 {
        let new = self.values.len() as u32;
        self.values.push(value);
        let (values, seed) = (&self.values, &self.seed);
        let rehash = |&at: &u32| values.get(at as usize).map_or(0, |value| hash_of(seed, value));
        self.table.insert_unique(hash, new, rehash);
        new
    }
}
