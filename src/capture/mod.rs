//! Bytes to frames: file readers, standard input, directories and globs.

mod frame;

pub use frame::{Frame, LinkType};
