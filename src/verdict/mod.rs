//! Flows, names, matrix and site to judgement. Pure: no input or output, no clock.

mod row;

pub use row::{Differs, NameEvidence, NameEvidenceSource, Nearest, VerdictRow};
