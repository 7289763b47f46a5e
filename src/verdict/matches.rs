//! Whose names a chain holds: found once for each chain of the ledger, since a shared address has the same few chains in
//! ever other orders and ages.

use crate::names::{ChainNumber, Reading};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::cell::RefCell;

/// Bytes of what is remembered: beyond, all is forgotten and found again.
const MOST_BYTES: usize = 8 << 20;

/// What is known of one question about one chain.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    Nothing,
    No,
    Yes,
}

/// Answers to a fixed number of yes-or-no questions about chains of names.
pub(super) struct Matches {
    questions: usize,
    by_chain: RefCell<HashMap<ChainNumber, Box<[Known]>, RandomState>>,
}

impl Matches {
    pub(super) fn new(questions: usize) -> Self {
        Matches { questions, by_chain: RefCell::default() }
    }

    /// The answer to a question, which depends on nothing but the chain's names.
    pub(super) fn holds(&self, reading: &Reading, question: usize, find: impl FnOnce() -> bool) -> bool {
        let Some(chain) = reading.chain else { return find() };
        let mut by_chain = self.by_chain.borrow_mut();
        if by_chain.len() * self.questions > MOST_BYTES && !by_chain.contains_key(&chain) {
            by_chain.clear();
        }
        let known = by_chain.entry(chain).or_insert_with(|| vec![Known::Nothing; self.questions].into());
        let Some(known) = known.get_mut(question) else { return find() };
        if *known == Known::Nothing {
            *known = if find() { Known::Yes } else { Known::No };
        }
        *known == Known::Yes
    }
}
