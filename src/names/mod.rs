//! Name evidence: DNS answers, TLS server names, HTTP hosts, and what they say about an address at a time.

pub mod app;
pub mod dns;
pub mod http;
mod ledger;
mod observation;
pub mod tls;

pub use ledger::{Answer, DNS_PATIENCE_NANOS, LATE_ANSWER_NANOS, Ledger, Query, Reading};
pub use observation::{AliasRow, DnsObservation, NameRow, NameSource};
