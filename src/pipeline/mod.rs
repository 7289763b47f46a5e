//! Composition only: extract (one capture to partial rows), judge (all rows of a site to an audit), whole (all rows to
//! flows and names for people and tools).

mod chosen;
mod copies;
mod extract;
mod judge;

pub use extract::{Extract, ExtractOptions, Extracted, extract, extract_all};
pub use judge::{Judged, judge, whole};
