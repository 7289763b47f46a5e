//! The floor under every reader of captures: the file once, in blocks of 1 MiB, its bytes summed, as fast as that goes: what is
//! measured is the copy out of the page cache, and the sum sees to it that every byte was there. Figures given as "times the
//! floor" stay comparable only while this stays as it is.
//!
//!     cargo bench --no-default-features --bench floor -- CAPTURE
//!
//! `benches/run.py` builds it with rustc alone: it needs nothing but the standard library.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::io::Read;

const BLOCK_BYTES: usize = 1 << 20;

/// The block begins where a page does. Sixteen bytes behind (where `malloc` puts a block of this size) the same copy takes
/// half as long again on the processor that benches/README.md names, 0.30 instead of 0.20 s for W1.
const PAGE_BYTES: usize = 4096;

/// Sums that are kept side by side: one register after another, which compilers make of it unasked.
const LANES: usize = 64;

/// The sum of some bytes. A plain loop that adds each to 64 bits takes as long as the copy itself: 0.28 s for W1.
fn sum(bytes: &[u8]) -> u64 {
    // No lane overflows: 257 bytes fit into 16 bits.
    let sums = bytes.chunks(LANES * 256).map(|part| {
        let (rows, rest) = part.as_chunks::<LANES>();
        let mut lanes = [0u16; LANES];
        for row in rows {
            lanes.iter_mut().zip(row).for_each(|(lane, &byte)| *lane += u16::from(byte));
        }
        let rest = rest.iter().map(|&byte| u64::from(byte));
        lanes.iter().map(|&lane| u64::from(lane)).chain(rest).sum::<u64>()
    });
    sums.sum()
}

fn main() {
    let Some(path) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else {
        println!("floor: give a file to read; nothing was measured");
        return;
    };
    let mut file = std::fs::File::open(path).expect("a file to read");
    let mut room = vec![0u8; BLOCK_BYTES + PAGE_BYTES];
    let begin = room.as_ptr().align_offset(PAGE_BYTES);
    let block = &mut room[begin..begin + BLOCK_BYTES];
    let mut total = 0u64;
    loop {
        let length = file.read(block).expect("a readable file");
        if length == 0 {
            break;
        }
        total = total.wrapping_add(sum(&block[..length]));
    }
    println!("{total}");
}
