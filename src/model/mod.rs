//! Nouns that three or more stages use. No input or output, no clock.

mod app;
mod chosen;
mod domain;
mod frame;
mod ports;
mod time;
mod transport;

pub use app::{AppProtocol, AppProtocolError};
pub use chosen::NotChosen;
pub use domain::{DomainName, DomainNameError, DomainPattern, DomainPatternError, Placeholder};
pub use frame::{CaptureId, FramePoint};
pub use ports::{PortSet, PortSetError};
pub use time::{NANOS_PER_SECOND, Spans, Timestamp, TypedTimeError};
pub use transport::{Endpoint, Transport};
