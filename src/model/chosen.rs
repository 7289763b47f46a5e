//! Frames that were left out because somebody asked for others.

/// Why a frame was left out before anyone looked at what it carries. Counted under `skipped`, beside the reasons why a
/// frame could not be decoded, and never among them: a choice says nothing about the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotChosen {
    /// Its time lies outside the range asked for.
    OutsideTimeRange,
    /// The filter says no.
    ByFilter,
    /// The filter cannot be compiled for its link type: nobody knows whether the frame was wanted.
    FilterUnfit,
}

impl NotChosen {
    /// All of them.
    pub const ALL: [NotChosen; 3] =
        [NotChosen::OutsideTimeRange, NotChosen::ByFilter, NotChosen::FilterUnfit];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            NotChosen::OutsideTimeRange => "outside-time-range",
            NotChosen::ByFilter => "not-chosen-by-filter",
            NotChosen::FilterUnfit => "filter-unfit-for-link-type",
        }
    }
}
