//! All integration tests in one binary, so that the heavy crates link once.
mod seed;
