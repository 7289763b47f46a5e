//! Name evidence: DNS answers, TLS server names, HTTP hosts, and what they say about an address at a time.
//!
//! `dns` reads DNS messages, `tls` and `quic` ClientHellos, `http` and `http2` requests, `app` says which
//! protocol the first payload bytes speak: pure parsers over untrusted bytes. `hellos` keeps ClientHellos that were read, `ledger`
//! what each host was told.

pub mod app;
pub mod dns;
mod hellos;
mod host;
mod hpack;
pub mod http;
pub mod http2;
mod ledger;
mod log;
mod observation;
mod packed;
mod plain;
pub mod quic;
#[cfg(test)]
mod reference;
pub mod tls;

pub use dns::{AddressRecord, AliasRecord, DnsMessage};
pub use hellos::KnownHellos;
pub use host::{Host, HostName};
pub use ledger::{
    About, Answer, Bookmark, ChainNumber, DNS_PATIENCE_NANOS, DnsRow, GrowingLedger, LATE_ANSWER_NANOS,
    Ledger, Names, Query, RESOLVED_TOLD, Reading, Standings, Troubled,
};
pub use log::{Ahead, DnsLog};
pub use observation::{AliasRow, DnsObservation, NameRow, NameSource, ServerEnds};
pub use packed::MessageProblem;
pub use tls::ClientHello;
