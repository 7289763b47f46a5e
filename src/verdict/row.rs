//! A judged flow.

use crate::audit::{Code, Grade, Missing, Verdict};
use crate::flow::FlowRecord;
use crate::model::DomainName;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// Where a name of a flow's destination comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameEvidenceSource {
    /// A DNS answer to the host.
    Dns,
    /// The client's ClientHello.
    Tls,
    /// The client's HTTP request.
    Http,
    /// What the client asked its proxy for.
    Proxy,
}

/// One name, or chain of names, of a flow's destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameEvidence {
    /// The asked name.
    pub name: DomainName,
    /// All names of the chain, the asked one first.
    pub chain: Arc<[DomainName]>,
    /// Where it comes from.
    pub source: NameEvidenceSource,
    /// From the answer to the flow's first frame, nanoseconds; negative for a late answer.
    pub age_ns: Option<i64>,
    /// For whom it is evidence: `host` (all flows of the host that was told) or `flow`.
    pub scope: Cow<'static, str>,
    /// Past its time to live when the flow began.
    pub expired: bool,
    /// The answer came after the flow began.
    pub late: bool,
}

/// What keeps the closest rule from fitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Differs {
    /// The port.
    Port,
    /// The destination's name or address.
    Name,
    /// Who began.
    Direction,
    /// The initiator's role.
    Role,
    /// A condition that is off.
    Condition,
    /// The role is also covered by a page that is not loaded.
    Page,
    /// A known alias of a documented name, which the site does not count.
    Alias,
    /// A baseline line of class os-noise.
    OsNoise,
    /// A baseline line of class noise.
    Noise,
    /// A baseline line of class platform-or-workload.
    PlatformOrWorkload,
}

impl Differs {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Differs::Port => "port",
            Differs::Name => "name",
            Differs::Direction => "direction",
            Differs::Role => "role",
            Differs::Condition => "condition",
            Differs::Page => "page",
            Differs::Alias => "alias",
            Differs::OsNoise => "os-noise",
            Differs::Noise => "noise",
            Differs::PlatformOrWorkload => "platform-or-workload",
        }
    }
}

/// The closest rule to an undocumented flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Nearest {
    /// The rule's or baseline line's id; for `page` the page that is not loaded.
    pub rule: String,
    /// What differs.
    pub differs: Differs,
}

/// A judged flow: the flow's own fields, then these. What many flows have in common is shared among their rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRow {
    /// The flow.
    #[serde(flatten)]
    pub flow: FlowRecord,
    /// Roles of the initiator.
    pub initiator_roles: Arc<[String]>,
    /// Roles of the responder.
    pub responder_roles: Arc<[String]>,
    /// Names of the destination, newest first.
    pub names: Vec<NameEvidence>,
    /// How well the destination is identified; none where it is not.
    pub grade: Option<Grade>,
    /// Whether the matrix documents it.
    pub verdict: Verdict,
    /// The rules (or the baseline line) that fit.
    pub rules: Arc<[String]>,
    /// What is missing, where undetermined.
    pub missing: Option<Missing>,
    /// The closest rule, where undocumented.
    pub nearest: Option<Arc<Nearest>>,
    /// The codes of the findings that it belongs to.
    pub findings: Vec<Code>,
}
