//! What each stage costs on one capture: nanoseconds of one thread and allocations, for each frame.
//!
//!     cargo bench --no-default-features --bench stages -- CAPTURE SITE.toml
//!
//! Each line runs the stages up to and with the one that it names; what a stage adds is the difference between its line and
//! the one before, and stands beside it. It is the least of several runs that is shown: a stage cannot be faster than it is,
//! only disturbed.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use portproof::capture::{CaptureReader, Digest, Input, InputSource};
use portproof::decode::{Decoded, decode};
use portproof::flow::{Budget, FlowTable, TableOptions};
use portproof::matrix::{Matrix, Site};
use portproof::model::{CaptureId, FramePoint};
use portproof::pipeline::{Extract, ExtractOptions, Extracted, Judging, extract};
use portproof::report::{Human, TOLD_PER_CODE};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::sync::Arc;
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
    let extracted = || extract(&capture, open(), &ExtractOptions::default());
    let (matrix, site) = policy(&site);
    let joined = |capture: Extract| {
        let extracted = Extracted { captures: vec![capture], ..Extracted::default() };
        Judging::new(extracted, &matrix, &site).expect("a temporary file")
    };
    let judged = || joined(extracted()).summary_alone(TOLD_PER_CODE).expect("a temporary file");

    let mut frames = 0;
    let mut reader = open();
    while reader.next().is_some() {
        frames += 1;
    }
    let mut bench = Bench { frames, before: 0.0 };
    bench.measure("read (bytes)", || {
        let (mut file, mut block) = (File::open(&capture).expect("a capture"), vec![0; 1 << 17]);
        let mut all = 0;
        while let Ok(bytes @ 1..) = file.read(&mut block) {
            all += black_box(&block[..bytes]).len() as u64;
        }
        all
    });
    bench.measure("frame walk", || {
        let (mut reader, mut frames) = (open(), 0);
        while let Some(frame) = reader.next() {
            frames += 1;
            black_box(frame.wire_len);
        }
        frames
    });
    bench.measure("decode", || {
        let (mut reader, mut packets) = (open(), 0);
        while let Some(frame) = reader.next() {
            packets += u64::from(matches!(black_box(decode(&frame)), Decoded::Packet(_)));
        }
        packets
    });
    bench.measure("flow table", || {
        let budget = Arc::new(Budget::new(ExtractOptions::PIECES_BYTES));
        let table = TableOptions { capacity: ExtractOptions::TABLE_CAPACITY, budget, keep_bytes: false };
        let (mut reader, mut table) = (open(), FlowTable::new(table, CaptureId::new(0)));
        while let Some(frame) = reader.next() {
            if let Decoded::Packet(packet) = decode(&frame) {
                let point = FramePoint { time: frame.time, capture: CaptureId::new(0), frame: frame.number };
                table.observe(&packet, point, frame.wire_len, None);
            }
        }
        table.finish().len() as u64
    });
    bench.measure("names, copies (extract)", || extracted().pieces.len() as u64);
    bench.measure("stitch, ledger (join)", || {
        joined(extracted());
        frames
    });
    bench.measure("finish, classify, findings (judge)", || judged().0.totals.flows);
    bench.measure("render", || {
        let (audit, untold) = judged();
        Human { audit: &audit, untold: &untold, colour: false }.to_string().len() as u64
    });
}

fn policy(site: &str) -> (Matrix, Site) {
    let matrix = Matrix::builtin();
    let site = Site::load(site.as_ref(), &matrix);
    (matrix, site.unwrap_or_else(|problems| panic!("{problems:?}")))
}

/// Measures stages, each with those before it.
struct Bench {
    frames: u64,
    /// Seconds of the line before.
    before: f64,
}

impl Bench {
    fn measure(&mut self, stage: &str, run: impl Fn() -> u64) {
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
        let frames = self.frames.max(1) as f64;
        println!(
            "{stage:<36} {:>7.1} ns/frame more, {:>7.1} in all {:>9.3} allocations/frame {:>9.1} bytes/frame  {best:.3} s  ({result})",
            (best - self.before) * 1e9 / frames,
            best * 1e9 / frames,
            allocations as f64 / frames,
            bytes as f64 / frames,
        );
        self.before = best;
    }
}
