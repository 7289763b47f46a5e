//! Flows, names, matrix and site to judgement. Pure: no input or output, no clock.

mod classify;
mod coverage;
mod encrypted;
mod findings;
mod fit;
mod judge;
mod row;

pub use classify::{Classifier, Issue, Judged};
pub use judge::{Case, judge};
pub use row::{Differs, NameEvidence, NameEvidenceSource, Nearest, VerdictRow};
