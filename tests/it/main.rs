//! All integration tests in one binary, so that the heavy crates link once.

mod glossary;
mod layering;
