//! All integration tests in one binary, so that the heavy crates link once.

mod capture_damage;
mod captures;
mod casebook;
mod choosing;
mod comparing;
#[cfg(target_os = "linux")]
mod confining;
mod evidence;
#[cfg(target_os = "linux")]
mod exporting;
mod fuzzed;
mod glossary;
mod golden;
mod importing;
#[cfg(unix)]
mod interrupting;
#[cfg(target_os = "linux")]
mod lab;
mod laws;
mod layering;
#[cfg(target_os = "linux")]
mod live;
#[cfg(target_os = "linux")]
mod live_killed;
mod live_run;
#[cfg(target_os = "linux")]
mod live_scarce;
mod reports;
mod scene;
mod second_reader;
mod seed;
mod shared_captures;
mod suggesting;
mod two_steps;
#[cfg(target_os = "linux")]
mod web;
