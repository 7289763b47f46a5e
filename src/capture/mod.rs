//! Bytes to frames: file readers, standard input, directories and globs; and which frames count.

mod choice;
mod digest;
mod end;
mod filter;
mod frame;
mod input;
mod intake;
pub mod live;
mod patient;
mod pcap;
mod pcapng;
mod reader;
mod source;
mod split;
pub mod write;

pub use choice::{Choice, Chooser};
pub use end::{CaptureEnd, FrameProblem};
pub use filter::{Filter, FilterError, Unfit};
pub use frame::{Frame, LinkType};
pub use input::{Discovered, Input, InputProblem, InputSource, discover};
pub use intake::{CpuClock, Intake};
pub use reader::{
    ByteOrder, CaptureFacts, CaptureReader, Compression, Digest, FileFormat, OpenError, OpenProblem, Stored,
};
pub use split::{Cut, Divisible, Extent};

#[cfg(test)]
mod tests;
