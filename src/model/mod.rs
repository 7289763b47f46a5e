//! Nouns that three or more stages use, and how several of them keep values and numbers. No input or output, no clock.

mod app;
mod chosen;
mod distinct;
mod domain;
mod frame;
mod hex;
mod ports;
mod time;
mod transport;
pub mod varint;

pub use app::{AppProtocol, AppProtocolError};
pub use chosen::NotChosen;
pub use distinct::{ByHash, Distinct};
pub use domain::{DomainName, DomainNameError, DomainPattern, DomainPatternError, Placeholder};
pub use frame::{BACKWARD_NANOS, CaptureId, FramePoint};
pub use hex::hex;
pub use ports::{PortSet, PortSetError};
pub use time::{NANOS_PER_SECOND, Spans, Timestamp, TypedTimeError};
pub use transport::{Endpoint, Transport, address_bits};
