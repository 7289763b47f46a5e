//! The acceptance casebook: conversations with what SEMANTICS.md says of them.
//!
//! Each scene is a test whose name is the sentence that it holds the program to. Scenes marked `open:` expect what
//! their users would, where the text leaves room. The program is run from outside, over files.
//!
//! `PORTPROOF_SCENES=DIR` with the test `every_scene_reads_well_in_tshark` keeps the written captures in DIR.

mod findings;
mod flows;
mod laws;
mod names;
mod near_misses;
mod outcome;
mod quality;
mod verdict;

pub use laws::{tshark_complains, tshark_is_there};

use crate::scene::Builder;

/// Every scene with its module.
pub fn all() -> Vec<(&'static str, Builder)> {
    let modules: [(_, &[Builder]); 7] = [
        ("findings", findings::SCENES),
        ("flows", flows::SCENES),
        ("names", names::SCENES),
        ("near_misses", near_misses::SCENES),
        ("outcome", outcome::SCENES),
        ("quality", quality::SCENES),
        ("verdict", verdict::SCENES),
    ];
    modules
        .into_iter()
        .flat_map(|(module, scenes)| scenes.iter().map(move |&scene| (module, scene)))
        .collect()
}
