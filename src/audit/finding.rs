//! Findings: what an audit reports, in one list of codes.

use crate::flow::Outcome;
use crate::model::{DomainName, Timestamp, Transport};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Act on it.
    High,
    /// Look at it.
    Medium,
    /// Know it.
    Note,
}

impl Severity {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::High => "high",
            Severity::Medium => "medium",
            Severity::Note => "note",
        }
    }
}

macro_rules! codes {
    ($($variant:ident $word:literal $severity:ident $sentence:literal $example:literal $todo:literal)*) => {
        /// A kind of finding. One list: documentation, SARIF rules and test vocabulary.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Code {
            $(#[doc = $sentence] $variant,)*
        }

        impl Code {
            /// All codes, in the order of the list.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The stable word.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $word,)* }
            }

            /// Whether it tells that a documented connection is blocked.
            pub fn tells_of_a_block(self) -> bool {
                matches!(self, Code::DocumentedBlocked | Code::Intermittent)
            }

            /// Whether one stands for all machines of a role, and all ports of a rule (SEMANTICS section 5).
            pub fn is_per_role(self) -> bool {
                self == Code::Undetermined
            }

            /// Whether one stands for all who ask a resolver, however they do (SEMANTICS section 3).
            pub fn is_per_resolver(self) -> bool {
                self == Code::UnexpectedResolver
            }

            /// How much findings of this kind matter, unless the finding itself says otherwise.
            pub fn severity(self) -> Severity {
                match self { $(Code::$variant => Severity::$severity,)* }
            }

            /// What it means, in one sentence.
            pub fn sentence(self) -> &'static str {
                match self { $(Code::$variant => $sentence,)* }
            }

            /// An example.
            pub fn example(self) -> &'static str {
                match self { $(Code::$variant => $example,)* }
            }

            /// What to do.
            pub fn advice(self) -> &'static str {
                match self { $(Code::$variant => $todo,)* }
            }
        }
    };
}

codes! {
    UnexpectedTraffic "unexpected-traffic" High
        "An audited machine takes part in traffic that no rule documents, and the traffic got through."
        "The backup appliance holds an established connection to 203.0.113.7 TCP 8443."
        "Find out which program does it; then stop it, block it, or list it under [[accept]] with a reason."
    UnexpectedAttempt "unexpected-attempt" Medium
        "An audited machine takes part in an attempt that no rule documents, and the attempt did not get through."
        "The worker sends SYNs to 198.51.100.9 TCP 22 and gets no answer."
        "Find out which program tries; the firewall holds, the configuration that causes it remains."
    DocumentedBlocked "documented-blocked" High
        "Traffic that the vendor documents is stopped on the way or at its destination."
        "The appliance's SYN to nginx.org TCP 443 is answered by ICMP administratively prohibited."
        "Open the rule named in the finding, at the device that its proof frames point to."
    PlatformBlocked "platform-blocked" Medium
        "Traffic that every machine on this platform needs is stopped."
        "The appliance's request to the instance metadata service 169.254.169.254 TCP 80 is reset."
        "Check host firewalls and routes: the platform's own addresses are usually reachable without a rule."
    NameBlocked "name-blocked" Medium
        "A name that the vendor documents cannot be resolved: its query is refused, fails, or stays without answer."
        "The query of the appliance for repository.veeam.com gets NXDOMAIN."
        "Check DNS filters and private zones on the resolver for this name."
    Intermittent "intermittent" Medium
        "For one rule and one host, attempts both worked and were blocked."
        "Of ten connections of the appliance to the Storage tag TCP 443 two stay without answer."
        "Look for address lists that are out of date, or for one of several paths or firewalls that differs."
    ProtocolMismatch "protocol-mismatch" Medium
        "A documented port carries another application protocol than the page says."
        "The connection to nginx.org TCP 443 begins with SSH."
        "Find out which program uses the opening; a port matrix opens ports, attackers use what is open."
    NameConflict "name-conflict" Medium
        "The evidence for the name of a destination contradicts itself, so that the name documents nothing."
        "One query for nginx.org got two answers with different addresses."
        "Look at the answers in the evidence frames: spoofing, an interfering middlebox, or a resolver to be listed."
    UnsolicitedAnswer "unsolicited-answer" Medium
        "A DNS answer came that the host had not asked for."
        "Resolver 168.63.129.16 answers for nginx.org to the appliance, which sent no such query."
        "Look at the frames: a spoofing attempt, or a capture that misses one direction of the host's DNS."
    UnexpectedResolver "unexpected-resolver" Medium
        "An audited machine asks a resolver that the site does not list."
        "The worker sends queries to 8.8.8.8."
        "List it under resolvers if it is meant to be used; else find out why it is."
    ForeignAccount "foreign-account" Medium
        "Storage traffic goes to an account that is not the site's."
        "The worker connects to someoneelse.blob.core.windows.net TCP 443."
        "List the account under storage_accounts if it is yours; else treat it as data leaving the site."
    Undetermined "undetermined" Medium
        "The evidence does not suffice to say whether the traffic is documented."
        "The appliance connects to 203.0.113.9 TCP 443 and no DNS answer to it holds this address."
        "Do what the finding says would settle it, usually: capture from before the resolver cache was filled."
    RuleNotObserved "rule-not-observed" Note
        "No traffic exercised a documented rule in these captures."
        "No connection of the appliance to apim-ratecard-v1.azure-api.net TCP 443 was seen."
        "Capture while the feature is used before you conclude that the rule is not needed."
    RuleNotObservable "rule-not-observable" Note
        "The captures cannot show a documented rule: no packet of any host that could initiate it is in them."
        "No packet of a worker is in the captures."
        "Capture where that host's traffic passes."
    CaptureDamaged "capture-damaged" Note
        "A capture could be read only up to a damaged place."
        "site-a.pcap: frame 4212, at byte 611040: the file ends after 12 of 66 bytes."
        "What came before the damage counts; repeat the capture, or repair the file (editcap)."
    CaptureLoss "capture-loss" Note
        "Frames are missing: the capturing machine dropped some, or too many could not be decoded."
        "The capture's own statistics count 512 dropped frames."
        "Capture with a larger buffer, a filter or a snapshot length; absence proves less where frames are missing."
    OneSidedCapture "one-sided-capture" Note
        "Of most TCP connections only one direction is in the captures."
        "40 of 42 connections show only packets of their initiator."
        "Mirror both directions; where replies are not seen, blocked cannot be told from working."
    Accepted "accepted" Note
        "Undocumented traffic that the site file accepts, with its reason."
        "The appliance talks to the monitoring server; accepted until 2027-01-01: change 4711."
        "Nothing; the entry stands in the report so that an auditor can judge it."
    AcceptExpired "accept-expired" Medium
        "An accepted exception is past its date; the traffic counts as undocumented again."
        "The exception for 10.20.0.99 TCP 9100 ran until 2026-01-01."
        "Renew the entry with a new date and reason, or remove the traffic."
    AcceptUnused "accept-unused" Note
        "An accepted exception matches no traffic in these captures."
        "Nothing went from the appliance to 10.20.0.99 TCP 9100."
        "Remove the entry if later captures agree."
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Code {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Code::ALL.iter().copied().find(|code| code.as_str() == text);
        known.ok_or_else(|| format!("`{}` is no finding code", text.escape_default()))
    }
}

/// One side of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// The roles that its address holds.
    pub roles: Vec<String>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// The name by which it was known.
    pub name: Option<DomainName>,
    /// Its port.
    pub port: Option<u16>,
    /// The transport.
    pub proto: Option<Transport>,
}

/// A frame that a stranger can look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EvidenceFrame {
    /// In which capture: its name as given.
    pub capture: Arc<str>,
    /// Its number there (Wireshark's `frame.number`).
    pub frame: u64,
}

/// What an audit reports: one (code, initiator host, destination, port, transport), with its count and evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// In one line.
    pub title: String,
    /// Who.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// The rules it is about.
    pub rules: Vec<String>,
    /// How often.
    pub count: u64,
    /// Since when.
    pub first_ts: Option<Timestamp>,
    /// Until when.
    pub last_ts: Option<Timestamp>,
    /// How the connections ended, each kind once.
    pub outcomes: Vec<Outcome>,
    /// What else there is to know, a line each.
    pub details: Vec<String>,
    /// At most 20 frames, the first ones.
    pub evidence: Vec<EvidenceFrame>,
    /// A filter for Wireshark and tshark that shows it.
    pub display_filter: Option<String>,
    /// What to do.
    pub remedy: Cow<'static, str>,
}

impl Finding {
    /// Frames that a finding cites at the most.
    pub const MOST_EVIDENCE: usize = 20;

    /// One of which nothing is told yet but its kind and its title.
    pub fn of(code: Code, title: String) -> Finding {
        Finding {
            code,
            severity: code.severity(),
            title,
            from: Party::default(),
            to: Party::default(),
            rules: Vec::new(),
            count: 0,
            first_ts: None,
            last_ts: None,
            outcomes: Vec::new(),
            details: Vec::new(),
            evidence: Vec::new(),
            display_filter: None,
            remedy: code.advice().into(),
        }
    }
}
