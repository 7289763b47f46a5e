//! All integration tests in one binary, so that the heavy crates link once.

mod captures;
mod casebook;
mod scene;
