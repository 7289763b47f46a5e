//! Flows, names, matrix and site to judgement. Pure: no input or output, no clock.
//!
//! Is a flow documented? `classify` decides it, from the flow's `circumstances` alone; `fit` says which rules fit. `judge`
//! takes the flows one by one and lets the others count. `findings` keeps what findings are made of, `wording` says it.
//! `survey` is for who has no site yet: it drafts one.

mod circumstances;
mod classify;
mod coverage;
mod encrypted;
mod exceptions;
mod findings;
mod fit;
mod foremost;
mod index;
mod intermittent;
mod judge;
mod matches;
mod memo;
mod ports;
mod reach;
mod resolving;
mod row;
mod strangers;
mod survey;
mod tally;
mod wording;

pub use findings::{MOST_STRANGER_FINDINGS, MOST_STRANGERS};
pub use judge::{Case, Judge, Sums, packs_used};
pub use memo::JUDGED_AT_ONCE;
pub use reach::Reach;
pub use row::{Differs, NameEvidence, NameEvidenceSource, Nearest, VerdictRow};
pub use survey::{KeyDraft, Placed, RoleDraft, Server, SiteDraft, Survey, Unplaced};
