//! Names and first payload bytes: pure parsers over untrusted bytes. No input or output, no clock.
//!
//! `dns` reads DNS messages, `tls` and `quic` ClientHellos, `http` request and status lines, `app` says which
//! protocol the first payload bytes speak.

pub mod app;
pub mod dns;
mod host;
pub mod http;
pub mod quic;
pub mod tls;

pub use dns::{AddressRecord, AliasRecord, DnsMessage};
pub use host::{Host, HostName};
pub use tls::ClientHello;
