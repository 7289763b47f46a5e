//! The acceptance casebook: conversations with what SEMANTICS.md says of them.
//!
//! Each scene is a test whose name is the sentence that it holds the program to. Scenes marked `open:` expect what
//! their users would, where the text leaves room. The program is run from outside, over files.
//!
//! `PORTPROOF_SCENES=DIR` with the ignored test `every_scene_reads_well_in_tshark` keeps the written captures in DIR.

mod findings;
mod flows;
mod laws;
mod names;
mod outcome;
mod quality;
mod verdict;

use crate::scene::Scene;

/// Every scene: module, name, and what builds it.
pub fn all() -> Vec<(&'static str, &'static str, fn(&mut Scene))> {
    let modules: [(_, &[(_, fn(&mut Scene))]); 6] = [
        ("findings", findings::SCENES),
        ("flows", flows::SCENES),
        ("names", names::SCENES),
        ("outcome", outcome::SCENES),
        ("quality", quality::SCENES),
        ("verdict", verdict::SCENES),
    ];
    let scenes =
        modules.into_iter().flat_map(|(module, scenes)| scenes.iter().map(move |s| (module, s.0, s.1)));
    scenes.collect()
}
