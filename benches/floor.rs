//! The floor under every reader of captures: the file once, in blocks of 1 MiB, its bytes summed. One loop, no cleverness:
//! figures given as "times the floor" stay comparable only while this stays as it is.
//!
//!     cargo bench --no-default-features --bench floor -- CAPTURE
//!
//! `benches/run.py` builds it with rustc alone: it needs nothing but the standard library.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::io::Read;

fn main() {
    let Some(path) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else {
        println!("floor: give a file to read; nothing was measured");
        return;
    };
    let mut file = std::fs::File::open(path).expect("a file to read");
    let mut block = vec![0u8; 1 << 20];
    let mut sum = 0u64;
    loop {
        let length = file.read(&mut block).expect("a readable file");
        if length == 0 {
            break;
        }
        sum = sum.wrapping_add(block[..length].iter().map(|&byte| u64::from(byte)).sum::<u64>());
    }
    println!("{sum}");
}
