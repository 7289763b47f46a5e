//! All integration tests in one binary, so that the heavy crates link once.

mod capture_damage;
mod captures;
mod casebook;
mod choosing;
mod fuzzed;
mod glossary;
mod golden;
#[cfg(unix)]
mod interrupting;
mod laws;
mod layering;
#[cfg(target_os = "linux")]
mod live;
mod reports;
mod scene;
mod second_reader;
mod seed;
mod shared_captures;
mod two_steps;
#[cfg(target_os = "linux")]
mod web;
