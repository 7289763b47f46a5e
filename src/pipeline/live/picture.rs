//! What a live run looks like from outside at one moment: plain values, replaced as a whole about once a second.

use super::{Notice, Problem};
use crate::audit::{Conversation, Coverage, EvidenceFrame, Finding, NamesQuality, Severity, Verdict};
use crate::capture::live::Metered;
use crate::flow::Outcome;
use crate::model::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A live run at one moment. What it says of flows is provisional: it rests on what was seen so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Picture {
    /// Counted from 1; 0 before anything was seen.
    pub serial: u64,
    /// When the run began, by the clock of this machine.
    pub began: Timestamp,
    /// When this was so, by the clock of this machine.
    pub now: Timestamp,
    /// The latest frame, by the capture's clock.
    pub latest: Option<Timestamp>,
    /// Whether the run is so young that names may have been learnt before it began.
    pub warm_up: bool,
    /// Whether the run has ended.
    pub ended: bool,
    /// The devices.
    pub interfaces: Vec<InterfacePicture>,
    /// Frames and what became of them.
    pub stages: Stages,
    /// Frames a second, over the last stretch.
    pub frames_per_second: f64,
    /// Bits a second on the wire, over the last stretch.
    pub bits_per_second: f64,
    /// Flows, each counted once.
    pub totals: FlowTotals,
    /// The rows of the matrix.
    pub matrix: Vec<RulePicture>,
    /// Findings, the latest first; at most [`Picture::MOST_FINDINGS`].
    pub findings: Vec<Arc<LiveFinding>>,
    /// Findings that are not among them, since they were too many.
    pub findings_folded: u64,
    /// Who talks to whom.
    pub conversations: Vec<Conversation>,
    /// What the name evidence is worth.
    pub names: NamesQuality,
    /// What else happened, the latest last; at most [`Picture::MOST_NOTICES`].
    pub notices: Vec<Notice>,
    /// The segment being written.
    pub segment: Arc<str>,
}

impl Picture {
    /// Findings shown at the most.
    pub const MOST_FINDINGS: usize = 10_000;
    /// Notices kept at the most.
    pub const MOST_NOTICES: usize = 200;
}

/// A device, and what it gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InterfacePicture {
    /// Its name.
    pub name: String,
    /// Its counts.
    #[serde(flatten)]
    pub counts: Metered,
}

/// What became of frames, stage by stage. Offered = lost + waiting + mapped; mapped = packets + skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// Frames that the devices offered: those that passed the filter, by the kernel's count, and those that it never saw.
    pub offered: u64,
    /// Frames that the kernel dropped.
    pub kernel_dropped: u64,
    /// Frames that devices or their drivers dropped.
    pub interface_dropped: u64,
    /// Frames on their way from the kernel to the mapper.
    pub waiting: u64,
    /// Frames that the mapper took.
    pub frames: u64,
    /// Bytes captured of them.
    pub bytes: u64,
    /// Those that gave a packet.
    pub packets: u64,
    /// Those that gave none, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Copies of packets that another device had shown (among `packets`).
    pub duplicates: u64,
    /// Conversations open now.
    pub open: u64,
    /// Conversations that may be open at the same time.
    pub capacity: u64,
    /// Conversations cut since the table was full: no loss, they are joined again.
    pub evicted: u64,
    /// Whether the table is so full that conversations stay open for a shorter time.
    pub emergency: bool,
    /// How often that began.
    pub emergencies: u64,
    /// Conversations cut early only since it was so: no loss, they are joined again.
    pub hurried: u64,
    /// Bytes that flows and names of the window take in memory, about.
    pub kept_bytes: u64,
    /// Bytes that they may take: with more, the window ends early.
    pub most_kept_bytes: u64,
    /// Conversations that changed and wait to be looked at.
    pub unlooked: u64,
    /// Conversations that came and went too fast to be followed live; the audit has them.
    pub unfollowed: u64,
    /// Conversations that are no longer followed since they were too many; the audit has them.
    pub forgotten: u64,
    /// Acknowledgements of data.
    pub acknowledgements: u64,
    /// Acknowledgements of data that were not seen: frames are missing that nobody counted.
    pub unseen_acknowledged: u64,
    /// Frames seen and not written to files that should hold them.
    pub unsaved: u64,
    /// What cannot be written at present, and why.
    pub refused: Vec<Problem>,
}

/// Flows as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlowTotals {
    /// How many.
    pub flows: u64,
    /// By verdict.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// By outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Findings by severity.
    pub findings: BTreeMap<Severity, u64>,
}

/// A row of the matrix, and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RulePicture {
    /// The row, its state, its flows.
    #[serde(flatten)]
    pub coverage: Coverage,
    /// Flows that worked.
    pub worked: u64,
    /// Flows that were blocked.
    pub blocked: u64,
    /// Frames of the first of its flows.
    pub evidence: Vec<EvidenceFrame>,
}

/// A finding while the run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LiveFinding {
    /// Counted from 1 in the order in which findings appeared.
    pub number: u64,
    /// What became of it last.
    pub event: Event,
    /// When that was, by the clock of this machine.
    pub at: Timestamp,
    /// Whether it appeared so early that names may have been learnt before the run began.
    pub warm_up: bool,
    /// Its flows that may still change.
    pub open: u64,
    /// What was found, as far as it is known. The count is that of its flows now.
    pub finding: Finding,
}

/// What became of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// It is new.
    Appeared,
    /// More flows belong to it, or others, or they got further.
    Updated,
    /// None of its flows changes any more.
    Settled,
    /// None of its flows belongs to it any more: later evidence explained them.
    Withdrawn,
}

impl Event {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Appeared => "appeared",
            Event::Updated => "updated",
            Event::Settled => "settled",
            Event::Withdrawn => "withdrawn",
        }
    }
}
