//! What was asked for, as the summary of a capture tells it.

use crate::audit::{Chosen, UnfitLink};
use crate::capture::{Choice, Chooser};

/// The choice, and where it could not be made.
pub(super) fn chosen(choice: &Choice, chooser: Chooser) -> Chosen {
    let unfit = chooser.unfit().into_iter().map(|unfit| UnfitLink {
        link_type: unfit.link_type.to_string(),
        frame: unfit.frame,
        offset: unfit.offset,
        problem: unfit.problem,
    });
    Chosen {
        filter: choice.filter.as_ref().map(ToString::to_string),
        since: choice.since,
        until: choice.until,
        unfit: unfit.collect(),
    }
}
