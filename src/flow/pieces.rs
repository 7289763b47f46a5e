//! The stretches that one capture gave, packed: in memory as far as the budget goes, beyond it in a temporary file.

use super::head::Head;
use super::key::{FlowKey, KeyWords, Side};
use super::packed::{BriefLine, Hellos, Origin, Row, RowProblem, Sides, View, of_row, pack, unpack};
use super::partial::PartialFlow;
use super::short::Unpacked;
use crate::model::{CaptureId, Timestamp, Transport, address_bits};
use crate::names::dns;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of one block of packed stretches: large enough that writing blocks costs few system calls, small enough that one
/// read for a single stretch wastes little, and that 16 bits tell where in it a stretch begins: of tens of millions of
/// stretches the index is what fills memory. A stretch that is larger has a block of its own.
pub const BLOCK_BYTES: usize = 1 << 16;

/// Bytes that no stretch without fragments and first bytes takes: eight ICMP errors of 47, two sides of 450, keys.
const SHORT_BYTES: usize = 1 << 11;

/// Addresses of which it is known without a look into the set of all that packets were seen to them, once there are stretches
/// enough to fill a block: 4,096, 68 KiB. With 256 W2 takes 1.02 of the CPU (nine runs in turn).
const REACHED_LATELY: usize = 1 << 12;

/// Blocks of a file that a reader keeps: it goes through them in their order, mostly.
const CACHED_BLOCKS: usize = 16;

/// How many bytes of packed stretches may stay in memory, over all captures of a run, and how many bytes of what cannot wait in
/// a file may stand beside them.
#[derive(Debug)]
pub struct Budget {
    stretches: AtomicUsize,
    beside: AtomicUsize,
}

/// Takes as many of so many bytes as are left, for good.
fn take_some(left: &AtomicUsize, bytes: usize) -> usize {
    let less = |left: usize| Some(left.saturating_sub(bytes));
    // It refuses nothing: both are what was left.
    let left = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or_else(|left| left);
    left.min(bytes)
}

impl Budget {
    /// Of so many bytes of stretches, and half as many beside them.
    pub fn new(bytes: usize) -> Self {
        Budget { stretches: bytes.into(), beside: (bytes / 2).into() }
    }

    /// Takes bytes for stretches for good, if they are left.
    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.stretches.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Takes bytes for good for what cannot wait in a file: of those beside stretches, then of theirs. Tells how many are missing.
    fn take_beside(&self, bytes: usize) -> usize {
        let missing = bytes - take_some(&self.beside, bytes);
        missing - take_some(&self.stretches, missing)
    }
}

fn is_dns_over_tcp(key: &FlowKey) -> bool {
    key.transport == Transport::Tcp && (key.low.port == dns::PORT || key.high.port == dns::PORT)
}

fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl FlowKey {
    /// The hash that [`Pieces::hashes`] has for stretches of this key. It is another in each run of the program.
    pub fn hash(&self) -> u32 {
        short(KeyWords::of(self).hash())
    }
}

struct Block {
    /// The number of its first stretch.
    first: u32,
    stored: Stored,
}

impl Block {
    fn bytes_in_memory(&self) -> usize {
        match &self.stored {
            Stored::Memory(bytes) => bytes.len(),
            Stored::File { .. } => 0,
        }
    }
}

enum Stored {
    Memory(Vec<u8>),
    File { offset: u64, bytes: usize },
}

/// Packed stretches of one capture.
pub struct Pieces {
    blocks: Vec<Block>,
    open: Vec<u8>,
    /// The number of the first stretch of `open`.
    open_first: u32,
    /// Where each stretch begins in its block.
    places: Vec<u16>,
    hashes: Vec<u32>,
    /// When each stretch begins, by [`PartialFlow::order_time`].
    times: Vec<Timestamp>,
    hellos: Hellos,
    scratch: Vec<u8>,
    /// Stretches of TCP port 53 that say something.
    dns_over_tcp: Vec<u32>,
    /// Addresses to which packets were seen.
    reached: HashSet<IpAddr, RandomState>,
    /// Some of those that were put there last, by their last bits: mostly the next is one of them. None of few stretches.
    reached_lately: Vec<Option<IpAddr>>,
    fragments: Vec<PartialFlow>,
    budget: Arc<Budget>,
    file: Option<File>,
    file_bytes: u64,
    /// What blocks stood in that made room: whoever reads them puts them there again.
    spare: Vec<Vec<u8>>,
    /// Why the temporary file could not be written; then everything stays in memory.
    no_file: Option<io::Error>,
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pieces")
            .field("len", &self.len())
            .field("blocks", &self.blocks.len())
            .field("file_bytes", &self.file_bytes)
            .finish_non_exhaustive()
    }
}

impl Default for Pieces {
    fn default() -> Self {
        Pieces::new(Arc::new(Budget::new(usize::MAX)))
    }
}

impl FromIterator<PartialFlow> for Pieces {
    fn from_iter<I: IntoIterator<Item = PartialFlow>>(flows: I) -> Self {
        let mut pieces = Pieces::default();
        flows.into_iter().for_each(|flow| pieces.push(flow));
        pieces
    }
}

impl PartialEq for Pieces {
    fn eq(&self, other: &Self) -> bool {
        self.iter().map(Result::ok).eq(other.iter().map(Result::ok))
    }
}

impl Pieces {
    /// None yet; what is beyond the budget waits in a temporary file.
    pub fn new(budget: Arc<Budget>) -> Self {
        Pieces {
            blocks: Vec::new(),
            open: Vec::new(),
            open_first: 0,
            places: Vec::new(),
            hashes: Vec::new(),
            times: Vec::new(),
            hellos: Hellos::default(),
            scratch: Vec::new(),
            dns_over_tcp: Vec::new(),
            reached: HashSet::default(),
            reached_lately: Vec::new(),
            fragments: Vec::new(),
            budget,
            file: None,
            file_bytes: 0,
            spare: Vec::new(),
            no_file: None,
        }
    }

    /// Bytes for each that stay in memory as long as any is read, about: where it stands, its hash, its time and its number in the
    /// order of rows are 18; what judging keeps of one flow among many, rulings and findings, is some thirty.
    const KEPT_BYTES: usize = 48;

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len() + self.fragments.len()
    }

    /// How many of them are no fragments.
    pub(super) fn packed_len(&self) -> u32 {
        self.places.len() as u32
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they take in memory, about: what is not in the temporary file, the index, the addresses.
    pub fn kept_bytes(&self) -> usize {
        let blocks = self.blocks.iter().map(|block| match &block.stored {
            Stored::Memory(bytes) => bytes.capacity(),
            Stored::File { .. } => 0,
        });
        let index = self.blocks.capacity() * size_of::<Block>()
            + self.places.capacity() * 2
            + self.hashes.capacity() * 4
            + self.times.capacity() * 8;
        // A place of the set, its tag, and as much again that is free.
        let reached = self.reached.capacity() * (size_of::<IpAddr>() + 1) * 8 / 7
            + self.reached_lately.capacity() * size_of::<Option<IpAddr>>();
        let fragments = self.fragments.len() * size_of::<PartialFlow>();
        blocks.sum::<usize>() + self.open.capacity() + index + reached + fragments
    }

    /// Bytes of all packed stretches, wherever they are.
    pub fn packed_bytes(&self) -> usize {
        let blocks = self.blocks.iter().map(|block| match &block.stored {
            Stored::Memory(bytes) => bytes.len(),
            Stored::File { bytes, .. } => *bytes,
        });
        blocks.sum::<usize>() + self.open.len()
    }

    /// Bytes that wait in the temporary file.
    pub fn spilled_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Adds a stretch; its points are all of one capture.
    pub fn push(&mut self, flow: PartialFlow) {
        if !flow.fragments.is_empty() {
            self.fragments.push(flow);
        } else if let Some(time) = flow.order_time() {
            self.push_view(&View::of(&flow), time, KeyWords::of(&flow.key).hash());
        }
    }

    /// `time` is its [`PartialFlow::order_time`].
    #[inline(always)]
    pub(super) fn push_view<'a>(&mut self, flow: &View<'a, impl Sides<'a>>, time: Timestamp, hash: u64) {
        let says = |side| flow.sides.head(side).is_some_and(Head::has_segments);
        let sent = [Side::Low, Side::High].map(|side| flow.sides.sent(side));
        let says = says(Side::Low) || says(Side::High);
        if says && is_dns_over_tcp(&flow.key) {
            self.dns_over_tcp.push(self.places.len() as u32);
        }
        let in_place = self.has_room() && !says && flow.fragments.is_empty();
        if in_place {
            self.enter([flow.key.low.ip, flow.key.high.ip], sent, time, hash);
        }
        self.scratch.clear();
        pack(flow, &mut self.hellos, if in_place { &mut self.open } else { &mut self.scratch });
        debug_assert!(
            self.open.len() <= BLOCK_BYTES || !in_place,
            "a stretch is longer than {SHORT_BYTES} bytes"
        );
        if !in_place {
            let packed = std::mem::take(&mut self.scratch);
            self.append(&packed, [flow.key.low.ip, flow.key.high.ip], sent, time, hash);
            self.scratch = packed;
        }
    }

    /// Whether the open block has room for a stretch without fragments and first bytes, whatever it is.
    #[inline(always)]
    fn has_room(&self) -> bool {
        !self.open.is_empty() && self.open.len() + SHORT_BYTES <= BLOCK_BYTES
    }

    /// Adds a stretch of a packet or two.
    #[inline(always)]
    pub(super) fn push_brief(&mut self, key: &KeyWords, line: &BriefLine, sent: [bool; 2], hash: u64) {
        if self.has_room() {
            self.enter(key.addresses(), sent, line.time(), hash);
            line.append_to(&mut self.open);
        } else {
            self.append(line.bytes(), key.addresses(), sent, line.time(), hash);
        }
    }

    /// Adds the stretch that a row carries ([`PartialFlow::to_row`]). The bytes may be anybody's: what is no stretch is
    /// refused, and nothing is added. `scratch` is overwritten.
    ///
    /// # Errors
    /// If the bytes are no stretch as this version writes them.
    pub fn push_row(&mut self, row: &[u8], scratch: &mut PartialFlow) -> Result<(), RowProblem> {
        let Row { packed, key, sent, time, carries_bytes } = of_row(row, scratch)?;
        match time {
            Some(time) => {
                if carries_bytes && is_dns_over_tcp(&key) {
                    self.dns_over_tcp.push(self.places.len() as u32);
                }
                self.append(packed, [key.low.ip, key.high.ip], sent, time, KeyWords::of(&key).hash());
            }
            None => self.fragments.push(scratch.clone()),
        }
        Ok(())
    }

    /// Makes room for so many more, so that the lists that grow with their number never have to move.
    pub fn reserve(&mut self, more: usize) {
        self.places.reserve_exact(more);
        self.hashes.reserve_exact(more);
        self.times.reserve_exact(more);
    }

    /// `ends`: addresses of the lesser and the greater endpoint; `sent`: whether they sent packets.
    fn append(&mut self, packed: &[u8], ends: [IpAddr; 2], sent: [bool; 2], time: Timestamp, hash: u64) {
        if !self.open.is_empty() && self.open.len() + packed.len() > BLOCK_BYTES {
            self.close_block();
        }
        if self.open.is_empty() {
            // The first block may stay small; those behind it are filled.
            let usual = if self.blocks.is_empty() { 1 << 12 } else { BLOCK_BYTES };
            self.open.reserve(packed.len().max(usual));
        }
        self.enter(ends, sent, time, hash);
        self.open.extend_from_slice(packed);
    }

    /// Enters a stretch that is written at the end of the open block: what [`Pieces::append`] is told of it.
    #[inline(always)]
    fn enter(&mut self, [low, high]: [IpAddr; 2], sent: [bool; 2], time: Timestamp, hash: u64) {
        for (sent, to) in sent.into_iter().zip([high, low]) {
            let mut lately = self.reached_lately.get_mut(address_bits(to) as usize % REACHED_LATELY);
            if sent && lately.as_deref() != Some(&Some(to)) {
                self.reached.insert(to);
                lately.iter_mut().for_each(|lately| **lately = Some(to));
            }
        }
        // An open block with something in it has no more than its measure, this stretch included.
        self.places.push(self.open.len() as u16);
        self.hashes.push(short(hash));
        self.times.push(time);
    }

    fn close_block(&mut self) {
        self.reached_lately.resize(REACHED_LATELY, None);
        let block = std::mem::take(&mut self.open);
        let first = std::mem::replace(&mut self.open_first, self.places.len() as u32);
        if !self.budget.take(block.len()) && self.no_file.is_none() {
            match self.write_block(&block) {
                Ok(stored) => {
                    self.blocks.push(Block { first, stored });
                    // The same memory takes the next one.
                    self.open = block;
                    self.open.clear();
                    return;
                }
                Err(error) => self.no_file = Some(error),
            }
        }
        self.blocks.push(Block { first, stored: Stored::Memory(block) });
    }

    fn write_block(&mut self, block: &[u8]) -> io::Result<Stored> {
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile()?);
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        file.write_all(block)?;
        let place = Stored::File { offset: self.file_bytes, bytes: block.len() };
        self.file_bytes += block.len() as u64;
        Ok(place)
    }

    /// All stretches are in. What is kept of each and so many bytes of something else, which cannot wait in a file, take from the
    /// budget from now on, and where that has no more, as many bytes of stretches that are in memory are put into the file: so
    /// memory grows less with the length of a capture. Where more is missing than stretches can give, as where nearly all that a capture
    /// holds are names, they stay: memory would grow all the same, and the file costs time.
    pub fn make_room(&mut self, bytes: usize) {
        self.reached_lately = Vec::new();
        let bytes = bytes.saturating_add(self.places.len() * Self::KEPT_BYTES);
        let mut missing = self.budget.take_beside(bytes);
        let at_hand: usize = self.blocks.iter().map(Block::bytes_in_memory).sum();
        if missing > at_hand {
            return;
        }
        let mut from = self.blocks.len();
        for block in self.blocks.iter().rev() {
            if missing == 0 {
                break;
            }
            from -= 1;
            missing = missing.saturating_sub(block.bytes_in_memory());
        }
        for place in from..self.blocks.len() {
            let Some(Block { stored: Stored::Memory(bytes), .. }) = self.blocks.get_mut(place) else {
                continue;
            };
            let mut bytes = std::mem::take(bytes);
            let stored = match self.write_block(&bytes) {
                Ok(stored) => {
                    bytes.clear();
                    self.spare.push(bytes);
                    stored
                }
                Err(error) => {
                    self.no_file = Some(error);
                    Stored::Memory(bytes)
                }
            };
            if let Some(block) = self.blocks.get_mut(place) {
                block.stored = stored;
            }
            if self.no_file.is_some() {
                break;
            }
        }
    }

    /// Takes the memory of blocks that made room, of [`BLOCK_BYTES`] each, or of one larger stretch. Given back, it would be no
    /// use: what is asked for next is smaller, and leaves holes in it.
    pub fn take_spare(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.spare)
    }

    /// Why stretches could not be put aside, if that was asked for and failed.
    pub fn spill_problem(&self) -> Option<&io::Error> {
        self.no_file.as_ref()
    }

    /// Fragments whose rest was not in this capture.
    pub fn fragments(&self) -> &[PartialFlow] {
        &self.fragments
    }

    /// Takes the fragments out.
    pub fn take_fragments(&mut self) -> Vec<PartialFlow> {
        std::mem::take(&mut self.fragments)
    }

    /// The addresses to which packets were seen.
    pub fn reached(&self) -> impl Iterator<Item = IpAddr> {
        self.reached.iter().copied()
    }

    /// The numbers of the stretches of TCP port 53 of which first bytes were kept, ascending: only they can hold messages, and
    /// a scan of ports leaves many others.
    pub fn dns_over_tcp(&self) -> &[u32] {
        &self.dns_over_tcp
    }

    /// A hash of each stretch's key, by number. Equal keys have equal hashes, in all captures of a run.
    pub fn hashes(&self) -> &[u32] {
        &self.hashes
    }

    /// When each stretch begins, by number.
    pub fn times(&self) -> &[Timestamp] {
        &self.times
    }

    /// Nobody asks for [`Pieces::hashes`] any more, and no stretch comes: their memory is for others.
    pub fn forget_hashes(&mut self) {
        self.hashes = Vec::new();
    }

    /// The same for [`Pieces::times`].
    pub fn forget_times(&mut self) {
        self.times = Vec::new();
    }

    /// Reads them, as stretches of a capture, or of a part of one.
    pub fn reader(&self, origin: impl Into<Origin>) -> PiecesReader<'_> {
        let origin = origin.into();
        let (cache, last, only) = Default::default();
        PiecesReader { pieces: self, origin, cache, last, sparse: false, only }
    }

    /// Reads a few of them, from anywhere: of a file no more than each.
    pub fn sparse_reader(&self, origin: impl Into<Origin>) -> PiecesReader<'_> {
        PiecesReader { sparse: true, ..self.reader(origin) }
    }

    /// All of them in the order in which they were cut, fragments last; their points are of capture 0.
    ///
    /// # Errors
    /// As for [`PiecesReader::get`].
    pub fn iter(&self) -> impl Iterator<Item = io::Result<PartialFlow>> {
        let reader = self.reader(CaptureId::new(0));
        let numbers = 0..self.places.len() as u32;
        numbers.map(move |number| reader.get(number)).chain(self.fragments.iter().cloned().map(Ok))
    }
}

/// Blocks of a file, in memory for a while.
#[derive(Default)]
struct Cache {
    blocks: Vec<Cached>,
    /// Where a block stands in `blocks`.
    place_of: HashMap<u32, usize, RandomState>,
    /// The place of the one that was asked for last.
    last: usize,
    next: usize,
}

struct Cached {
    /// [`NO_BLOCK`] while it is none.
    number: u32,
    bytes: Vec<u8>,
    /// Asked for since the replacement passed by.
    used: bool,
}

const NO_BLOCK: u32 = u32::MAX;

impl Cache {
    /// Where to put a block: a new place, or that of one that nobody asked for in a while.
    fn place(&mut self) -> usize {
        if self.blocks.len() < CACHED_BLOCKS {
            self.blocks.push(Cached { number: NO_BLOCK, bytes: Vec::new(), used: false });
            return self.blocks.len() - 1;
        }
        loop {
            self.next = (self.next + 1) % CACHED_BLOCKS;
            match self.blocks.get_mut(self.next) {
                Some(cached) if cached.used => cached.used = false,
                Some(cached) => {
                    self.place_of.remove(&cached.number);
                    return self.next;
                }
                None => return 0,
            }
        }
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a packed stretch cannot be read")
}

/// Reads the stretches of one capture.
pub struct PiecesReader<'a> {
    pieces: &'a Pieces,
    origin: Origin,
    cache: RefCell<Cache>,
    /// The block that was read last: the next stretch is mostly of the same.
    last: Cell<usize>,
    sparse: bool,
    /// Room for a stretch that is read by itself.
    only: RefCell<Vec<u8>>,
}

impl PiecesReader<'_> {
    /// A stretch by number.
    ///
    /// # Errors
    /// It was put into the temporary file, and that cannot be read.
    pub fn get(&self, number: u32) -> io::Result<PartialFlow> {
        let mut place = Unpacked::default();
        self.read_into(number, &mut place)?;
        Ok(std::mem::replace(place.in_full(), PartialFlow::nothing()))
    }

    /// A stretch by number, in place of another that is no longer needed.
    ///
    /// # Errors
    /// As for [`PiecesReader::get`].
    pub fn read_into(&self, number: u32, place: &mut Unpacked) -> io::Result<()> {
        self.with(number, |bytes| unpack(bytes, &self.pieces.hellos, self.origin, place))
    }

    /// Hands over the bytes of a stretch, for [`PiecesReader::unpacked`].
    ///
    /// # Errors
    /// As for [`PiecesReader::get`].
    pub fn packed(&self, number: u32, take: impl FnOnce(&[u8])) -> io::Result<()> {
        self.with(number, |bytes| {
            take(bytes);
            Some(())
        })
    }

    /// The stretch that bytes of these pieces are, in place of another that is no longer needed.
    ///
    /// # Errors
    /// They are not what [`PiecesReader::packed`] gave.
    pub fn unpacked(&self, bytes: &[u8], place: &mut Unpacked) -> io::Result<()> {
        unpack(bytes, &self.pieces.hellos, self.origin, place).ok_or_else(damaged)
    }

    /// All of them but fragments, in the order in which they were cut.
    ///
    /// # Errors
    /// As for [`PiecesReader::get`].
    pub fn all(&self) -> impl Iterator<Item = io::Result<PartialFlow>> {
        (0..self.pieces.places.len() as u32).map(|number| self.get(number))
    }

    /// Where no stretch is asked for whose block lies as many blocks behind the furthest one, no block is read twice.
    pub const NEAR_BLOCKS: usize = CACHED_BLOCKS / 2;

    /// Whether a stretch is in memory.
    pub fn is_at_hand(&self, number: u32) -> bool {
        let block = self.pieces.blocks.get(self.block(number));
        !matches!(block.map(|block| &block.stored), Some(Stored::File { .. }))
    }

    /// Which of the blocks a stretch stands in.
    pub fn block(&self, number: u32) -> usize {
        self.block_of(number).0
    }

    /// The block of a stretch, and the number of the first stretch behind it.
    fn block_of(&self, number: u32) -> (usize, u32) {
        let Pieces { blocks, open_first, places, .. } = self.pieces;
        let first = |block: usize| match blocks.get(block) {
            Some(block) => block.first,
            None if block == blocks.len() => *open_first,
            None => places.len() as u32,
        };
        let last = self.last.get();
        for block in [last, last + 1] {
            if (first(block)..first(block + 1)).contains(&number) {
                self.last.set(block);
                return (block, first(block + 1));
            }
        }
        let block = if number >= *open_first {
            blocks.len()
        } else {
            blocks.partition_point(|block| block.first <= number).saturating_sub(1)
        };
        self.last.set(block);
        (block, first(block + 1))
    }

    fn with<T>(&self, number: u32, read: impl FnOnce(&[u8]) -> Option<T>) -> io::Result<T> {
        let &offset = self.pieces.places.get(number as usize).ok_or_else(damaged)?;
        let (block, behind) = self.block_of(number);
        let next = self.pieces.places.get(number as usize + 1).filter(|_| number + 1 < behind);
        let range = |bytes: usize| offset as usize..next.map_or(bytes, |&end| end as usize);
        match self.pieces.blocks.get(block).map(|block| &block.stored) {
            None => {
                let open = &self.pieces.open;
                open.get(range(open.len())).and_then(read).ok_or_else(damaged)
            }
            Some(Stored::Memory(bytes)) => bytes.get(range(bytes.len())).and_then(read).ok_or_else(damaged),
            Some(&Stored::File { offset: start, bytes }) if self.sparse => {
                let mut only = self.only.borrow_mut();
                only.resize(range(bytes).len(), 0);
                let file = self.pieces.file.as_ref().ok_or_else(damaged)?;
                file.read_exact_at(&mut only, start + u64::from(offset))?;
                read(&only).ok_or_else(damaged)
            }
            Some(&Stored::File { offset: start, bytes }) => {
                let mut cache = self.cache.borrow_mut();
                let cache = &mut *cache;
                let block = block as u32;
                let is_last = cache.blocks.get(cache.last).is_some_and(|cached| cached.number == block);
                let known = if is_last { Some(cache.last) } else { cache.place_of.get(&block).copied() };
                let place = match known {
                    Some(place) => place,
                    None => {
                        let file = self.pieces.file.as_ref().ok_or_else(damaged)?;
                        let place = cache.place();
                        let cached = cache.blocks.get_mut(place).ok_or_else(damaged)?;
                        cached.number = NO_BLOCK;
                        cached.bytes.resize(bytes, 0);
                        file.read_exact_at(&mut cached.bytes, start)?;
                        cached.number = block;
                        cache.place_of.insert(block, place);
                        place
                    }
                };
                cache.last = place;
                let cached = cache.blocks.get_mut(place).ok_or_else(damaged)?;
                cached.used = true;
                cached.bytes.get(range(bytes)).and_then(read).ok_or_else(damaged)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::SideFacts;
    use crate::model::{Endpoint, FramePoint};

    fn lone_packet(number: u32) -> PartialFlow {
        let end = |ip: u32, port| Endpoint::new(IpAddr::V4(ip.into()), port);
        let (key, _) = FlowKey::of(Transport::Udp, end(number, 53), end(0x0a00_0001, 1000));
        let point = FramePoint {
            time: Timestamp(i64::from(number)),
            capture: CaptureId::new(0),
            frame: u64::from(number) + 1,
        };
        let low = SideFacts {
            packets: 1,
            bytes: 60,
            first: Some(point),
            last: Some(point.time),
            ..SideFacts::default()
        };
        PartialFlow { low, ..PartialFlow::new(key) }
    }

    #[test]
    fn addresses_reached_are_all_known_though_many_share_their_last_bits() {
        // The lesser endpoint, 10.0.0.1, sends to each of them; a quarter of them share one place among those known lately.
        let numbers: Vec<u32> = (0..8_000).map(|place| 0x0b00_0000 + place * 1_024).collect();
        let mut pieces = Pieces::default();
        for &number in numbers.iter().chain(&numbers) {
            pieces.push(lone_packet(number));
        }
        assert!(!pieces.reached_lately.is_empty(), "{pieces:?}");
        let mut reached: Vec<IpAddr> = pieces.reached().collect();
        reached.sort_unstable();
        assert_eq!(reached, numbers.iter().map(|&ip| IpAddr::V4(ip.into())).collect::<Vec<_>>());
        pieces.make_room(0);
        assert!(pieces.reached_lately.is_empty());
        assert_eq!(pieces.reached().count(), numbers.len());
    }

    #[test]
    fn what_waits_in_a_file_comes_back_in_any_order() {
        let count = 200_000;
        let mut pieces = Pieces::new(Arc::new(Budget::new(BLOCK_BYTES)));
        (0..count).for_each(|number| pieces.push(lone_packet(number)));
        assert!(pieces.spilled_bytes() > 30 * BLOCK_BYTES as u64, "{pieces:?}");
        for reader in [pieces.reader(CaptureId::new(0)), pieces.sparse_reader(CaptureId::new(0))] {
            for step in [1u32, 7_919, 99_991] {
                for number in (0..2_000u32).map(|n| n * step % count) {
                    assert_eq!(reader.get(number).unwrap(), lone_packet(number));
                }
            }
            assert_eq!(reader.get(count - 1).unwrap(), lone_packet(count - 1));
            let (mut packed, mut place) = (Vec::new(), Unpacked::default());
            for number in (0..500u32).map(|n| n * 7_919 % count) {
                reader.packed(number, |bytes| packed = bytes.to_vec()).unwrap();
                reader.unpacked(&packed, &mut place).unwrap();
                assert_eq!(*place.in_full(), lone_packet(number));
            }
        }
        assert!(pieces.iter().map(Result::unwrap).eq((0..count).map(lone_packet)));
    }

    #[test]
    fn stretches_make_room_for_what_cannot_wait_in_a_file() {
        let count = 100_000;
        let index = count as usize * Pieces::KEPT_BYTES;
        // Bytes that the budget has for stretches and beside them, bytes asked for, blocks that stay in memory.
        for (own, more, asked, left) in [
            (0, index, 0, 4),
            (0, index, 1, 3),
            (0, index, 2 * BLOCK_BYTES, 1),
            (0, index, 3 * BLOCK_BYTES + 1, 0),
            // More is missing than there is.
            (0, index, 4 * BLOCK_BYTES + 1, 4),
            (0, 0, 0, 4),
            (0, 7, usize::MAX, 4),
            (2 * BLOCK_BYTES, index, 2 * BLOCK_BYTES, 4),
            (BLOCK_BYTES, index, 2 * BLOCK_BYTES, 2),
        ] {
            let mut pieces = Pieces::new(Arc::new(Budget::new(4 * BLOCK_BYTES)));
            (0..count).for_each(|number| pieces.push(lone_packet(number)));
            let spilled = pieces.spilled_bytes();
            // As if the blocks had left so much of it.
            pieces.budget = Arc::new(Budget { stretches: own.into(), beside: more.into() });
            pieces.make_room(asked);
            let in_memory = |block: &&Block| matches!(block.stored, Stored::Memory(_));
            assert_eq!(pieces.blocks.iter().filter(in_memory).count(), left, "{asked} of {own} and {more}");
            assert!(pieces.spilled_bytes() - spilled <= ((4 - left) * BLOCK_BYTES) as u64);
            assert_eq!(pieces.take_spare().len(), 4 - left);
            assert!(pieces.iter().map(Result::unwrap).eq((0..count).map(lone_packet)));
        }
    }

    /// A stretch with every kind of fact, of one capture.
    fn connection() -> PartialFlow {
        use crate::flow::{Acks, DnsSeen, QuoteClass, QuoteFact, Reset, Side, Syn, SynAck};
        let end = |ip: &str, port| Endpoint::new(ip.parse().unwrap(), port);
        let point = |frame: u64| FramePoint {
            time: Timestamp(1_767_694_951_000_000_000 + frame as i64),
            capture: CaptureId::new(0),
            frame,
        };
        let (key, _) = FlowKey::of(Transport::Tcp, end("10.1.0.4", 51_000), end("10.0.0.9", 443));
        let mut flow = PartialFlow { vlan: Some(5), vni: Some(7), ..PartialFlow::new(key) };
        let high = &mut flow.high;
        (high.packets, high.bytes, high.payload) = (3, 300, 100);
        (high.first, high.last) = (Some(point(1)), Some(point(5).time));
        high.syn = Some(Syn { isn: 0xffff_fff0, first: point(1), last: point(2), count: 2 });
        (high.fin, high.data, high.acks) = (Some(point(6)), Some(point(4)), Acks::Many);
        (high.beyond_syn, high.beyond_syn_last) = (Some(point(4)), Some(point(6)));
        high.head.add(Some(0xffff_fff1), 0xffff_fff1, point(4), b"GET / HTTP/1.1\r\n\0\xff", 4096);
        let low = &mut flow.low;
        (low.packets, low.first, low.last) = (2, Some(point(3)), Some(point(6).time));
        low.syn_ack = Some(SynAck { isn: 9, ack: 0xffff_fff1, first: point(3) });
        low.reset = Some(Reset { first: point(6), ttl: 64 });
        (low.ttl, low.acks) = (Some((63, 64)), Acks::One(1));
        (low.alert, low.tls_data) = (Some((point(5), 40)), Some(point(5)));
        low.dns = DnsSeen { queries: 1, responses: 2 };
        flow.add_quote(QuoteFact {
            quoted: Side::High,
            class: QuoteClass::Prohibited,
            point: point(7),
            kind: 3,
            code: 13,
            sender: "192.0.2.1".parse().unwrap(),
            tcp_seq: Some(1),
        });
        flow
    }

    /// One whose frames are far from each other, and many.
    fn long_connection() -> PartialFlow {
        let mut flow = connection();
        let far = |point: &mut FramePoint| {
            point.time.0 += 3_600_000_000_000;
            point.frame += 1 << 33;
        };
        far(flow.high.fin.as_mut().unwrap());
        far(flow.high.beyond_syn_last.as_mut().unwrap());
        far(flow.low.tls_data.as_mut().unwrap());
        flow.high.last = flow.high.fin.map(|fin| fin.time);
        (flow.low.packets, flow.low.bytes, flow.low.payload) = (1 << 31, 1 << 40, 1 << 39);
        (flow.high.packets, flow.high.payload) = (1 << 10, 0);
        flow
    }

    #[test]
    fn only_stretches_of_tcp_port_53_that_say_something_may_hold_messages() {
        let to_resolver = |mut flow: PartialFlow| {
            flow.key.low.port = 53;
            flow
        };
        let scanned =
            PartialFlow { high: SideFacts { head: Default::default(), ..connection().high }, ..connection() };
        let flows = [connection(), to_resolver(scanned), to_resolver(connection()), lone_packet(7)];
        let pushed: Pieces = flows.iter().cloned().collect();
        let mut read = Pieces::default();
        for flow in &flows {
            read.push_row(&flow.to_row(), &mut PartialFlow::nothing()).unwrap();
        }
        assert_eq!((pushed.dns_over_tcp(), read.dns_over_tcp()), (&[2][..], &[2][..]));
    }

    #[test]
    fn a_row_comes_back_as_it_was_or_is_refused() {
        let mut scratch = PartialFlow::nothing();
        let mut read = |row: &[u8]| {
            let mut pieces = Pieces::default();
            pieces.push_row(row, &mut scratch).map(|()| pieces.iter().map(Result::unwrap).collect::<Vec<_>>())
        };
        for flow in [connection(), lone_packet(7), long_connection()] {
            let row = flow.to_row();
            assert_eq!(read(&row).unwrap(), [flow]);
            for length in 0..row.len() {
                assert!(read(&row[..length]).is_err(), "{length} of {} bytes", row.len());
            }
            assert!(read(&[&row[..], &[0]].concat()).is_err());
            assert_eq!(read(&[&[1], &row[1..]].concat()), Err(RowProblem::Version(1)));
            // Whatever is taken is a stretch: it can be written again, and is then the same.
            for (place, bit) in (0..row.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
                let mut other = row.clone();
                other[place] ^= 1 << bit;
                if let Ok(taken) = read(&other) {
                    assert_eq!(read(&taken[0].to_row()).unwrap(), taken, "byte {place}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn rows_that_no_table_cuts_are_refused() {
        let mut scratch = PartialFlow::nothing();
        let mut refused = |change: &dyn Fn(&mut PartialFlow)| {
            let mut flow = connection();
            change(&mut flow);
            let mut pieces = Pieces::default();
            let problem =
                pieces.push_row(&flow.to_row(), &mut scratch).err().map(|problem| problem.to_string());
            assert!(pieces.is_empty() == problem.is_some());
            problem.unwrap_or_default()
        };
        assert_eq!(refused(&|_| {}), "");
        let swap = |flow: &mut PartialFlow| std::mem::swap(&mut flow.key.low, &mut flow.key.high);
        let twice = |flow: &mut PartialFlow| flow.quotes.push(flow.quotes[0]);
        let huge = |flow: &mut PartialFlow| flow.low.bytes = u64::MAX;
        let nothing = |flow: &mut PartialFlow| *flow = PartialFlow::new(flow.key);
        for (change, part) in [
            (&swap as &dyn Fn(&mut PartialFlow), "not in order"),
            (&twice, "ICMP errors are not in order"),
            (&huge, "more than a capture"),
            (&nothing, "no frame"),
        ] {
            assert!(refused(change).contains(part), "{part}");
        }
    }
}
