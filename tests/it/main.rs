//! All integration tests in one binary, so that the heavy crates link once.

mod casebook;
mod laws;
mod layering;
mod scene;
