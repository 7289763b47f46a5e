#![no_main]

#[allow(dead_code, reason = "all targets stand in one file, and this one is run here")]
#[path = "../../tests/it/fuzzed/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::pages(data));
