//! What each stage costs on one capture: nanoseconds of one thread and allocations, for each frame.
//!
//!     cargo bench --no-default-features --bench stages -- CAPTURE SITE.toml
//!
//! Each line runs the stages up to and with the one that it names; the difference between two lines is a stage's own cost.
//! It is the least of several runs that is shown: a stage cannot be faster than it is, only disturbed.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use portproof::capture::{CaptureReader, Digest, Input, InputSource};
use portproof::decode::{Decoded, decode};
use portproof::matrix::{Matrix, Site};
use portproof::pipeline::{ExtractOptions, Extracted, extract, judge};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const RUNS: usize = 3;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let (Some(capture), Some(site)) = (arguments.next(), arguments.next()) else {
        println!("stages: give a capture and a site file to measure; nothing was measured");
        return;
    };
    let open = || {
        let source = InputSource::File(capture.clone().into());
        CaptureReader::open(&Input { name: capture.clone(), source }, Digest::None).expect("a capture")
    };
    let read = || {
        let mut reader = open();
        let mut frames = 0u64;
        while let Some(frame) = reader.next() {
            frames += 1;
            black_box(frame.wire_len);
        }
        frames
    };
    let frames = measure("read", None, read);
    let decoded = || {
        let mut reader = open();
        let mut packets = 0u64;
        while let Some(frame) = reader.next() {
            packets += u64::from(matches!(black_box(decode(&frame)), Decoded::Packet(_)));
        }
        packets
    };
    measure("read, decode", Some(frames), decoded);
    let options = ExtractOptions::default();
    measure("read to flow table and names (extract)", Some(frames), || {
        extract(&capture, open(), &options).pieces.len() as u64
    });
    let (matrix, site) = policy(&site);
    measure("all, to the audit", Some(frames), || {
        let captures = vec![extract(&capture, open(), &options)];
        let judged = judge(Extracted { captures, ..Extracted::default() }, &matrix, &site);
        judged.map_or(0, |judged| judged.audit.totals.flows)
    });
}

fn policy(site: &str) -> (Matrix, Site) {
    let matrix = Matrix::builtin();
    let site = Site::load(site.as_ref(), &matrix);
    (matrix, site.unwrap_or_else(|problems| panic!("{problems:?}")))
}

fn measure(stage: &str, frames: Option<u64>, run: impl Fn() -> u64) -> u64 {
    let mut best = f64::INFINITY;
    let (mut result, mut allocations, mut bytes) = (0, 0, 0);
    for _ in 0..RUNS {
        let region = Region::new(ALLOCATOR);
        let start = Instant::now();
        result = run();
        best = best.min(start.elapsed().as_secs_f64());
        let change = region.change();
        (allocations, bytes) = (change.allocations, change.bytes_allocated);
    }
    let frames = frames.unwrap_or(result).max(1) as f64;
    println!(
        "{stage:<40} {:>8.1} ns/frame {:>9.3} allocations/frame {:>9.1} bytes/frame  {best:.3} s  ({result})",
        best * 1e9 / frames,
        allocations as f64 / frames,
        bytes as f64 / frames,
    );
    result
}
