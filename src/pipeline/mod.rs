//! Composition only: extract (one capture to partial rows), reduction (all partial rows, joined: to an audit, or to whole
//! flows and names for people and tools, one row at a time).

mod chosen;
mod copies;
pub mod evidence;
mod extract;
mod gaps;
mod join;
mod judge;
pub mod live;
mod steal;
mod watch;

pub use extract::{Extract, ExtractOptions, Extracted, extract};
pub use judge::{Judged, Judging, Reduction, Sink, judge};
pub use steal::extract_all;
pub use watch::Watch;
