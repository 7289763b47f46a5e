//! portproof proves, from packets, that a backup appliance talks only to what its vendor documents,
//! that what is documented is not blocked, and hands over evidence that a stranger can check.
//!
//! The way through the house is one way: `capture` (bytes to frames), `decode` (frames to packets),
//! `flow` and `names` (packets to facts), `matrix` (what is documented), `verdict` (judgement),
//! `audit` (everything a report may say), `report` (words). ARCHITECTURE.md draws it.

pub mod audit;
pub mod capture;
pub mod cli;
pub mod confine;
pub mod decode;
pub mod flow;
pub mod matrix;
pub mod model;
pub mod names;
pub mod pipeline;
pub mod report;
pub mod store;
pub mod verdict;
pub mod web;
