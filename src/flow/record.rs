//! The row of a whole flow, as every export tells it.

use super::outcome::{ConnState, Outcome};
use crate::model::{AppProtocol, DomainName, Timestamp, Transport};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// How the initiator is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitiatorBy {
    /// It sent a SYN.
    Syn,
    /// The other side sent a SYN-ACK.
    SynAck,
    /// It sent a DNS query that the other side answered.
    DnsQuery,
    /// It sent the packet that an ICMP error quotes.
    IcmpQuote,
    /// Only the other side's port is a service's.
    Port,
    /// It sent the first packet seen.
    FirstPacket,
}

impl InitiatorBy {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            InitiatorBy::Syn => "syn",
            InitiatorBy::SynAck => "syn-ack",
            InitiatorBy::DnsQuery => "dns-query",
            InitiatorBy::IcmpQuote => "icmp-quote",
            InitiatorBy::Port => "port",
            InitiatorBy::FirstPacket => "first-packet",
        }
    }
}

/// What a frame proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofKind {
    /// The attempt.
    Syn,
    /// The first packet of the responder.
    Reply,
    /// The first payload of a direction, or the payload that decided the outcome.
    Payload,
    /// A reset.
    Reset,
    /// An ICMP error.
    Icmp,
    /// Where a name was learnt.
    Name,
}

impl ProofKind {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            ProofKind::Syn => "syn",
            ProofKind::Reply => "reply",
            ProofKind::Payload => "payload",
            ProofKind::Reset => "reset",
            ProofKind::Icmp => "icmp",
            ProofKind::Name => "name",
        }
    }
}

/// One frame that proves something about a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Proof {
    /// What it proves.
    pub what: ProofKind,
    /// In which capture: its name as given.
    pub capture: Arc<str>,
    /// Its number there (Wireshark's `frame.number`).
    pub frame: u64,
}

/// Where a client asked a proxy to connect it to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConnectTarget {
    /// The name asked for; none when the client gave an address.
    pub name: Option<DomainName>,
    /// The address asked for.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// Whether by CONNECT (else by a request in absolute form).
    pub tunnel: bool,
}

impl fmt::Display for ConnectTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.ip) {
            (Some(name), _) => write!(f, "{name}:{}", self.port),
            (None, Some(IpAddr::V6(ip))) => write!(f, "[{ip}]:{}", self.port),
            (None, Some(ip)) => write!(f, "{ip}:{}", self.port),
            (None, None) => write!(f, ":{}", self.port),
        }
    }
}

/// The row of a whole flow: the fields that exports promise, in their order. Made only where somebody wants rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRecord {
    /// Community ID v1.
    pub flow_id: String,
    /// The capture in which the flow begins.
    pub capture: Arc<str>,
    /// Who began.
    pub initiator_ip: IpAddr,
    /// Its port; for ICMP the type.
    pub initiator_port: u16,
    /// With whom.
    pub responder_ip: IpAddr,
    /// Its port; for ICMP the counterpart's type, or the code.
    pub responder_port: u16,
    /// The transport.
    pub proto: Transport,
    /// How the initiator is known.
    pub initiator_by: InitiatorBy,
    /// VLAN of the first frame.
    pub vlan: Option<u16>,
    /// Virtual network identifier of the first frame.
    pub vni: Option<u32>,
    /// Earliest time.
    pub first_ts: Timestamp,
    /// Latest time.
    pub last_ts: Timestamp,
    /// Frames from the initiator.
    pub packets_fwd: u64,
    /// Frames to the initiator.
    pub packets_rev: u64,
    /// Wire length of the frames from the initiator, bytes.
    pub bytes_fwd: u64,
    /// Wire length of the frames to the initiator, bytes.
    pub bytes_rev: u64,
    /// TCP or UDP payload from the initiator, bytes.
    pub payload_fwd: u64,
    /// TCP or UDP payload to the initiator, bytes.
    pub payload_rev: u64,
    /// Zeek's state.
    pub conn_state: ConnState,
    /// How far it got.
    pub outcome: Outcome,
    /// Type of the ICMP error that decided the outcome.
    pub icmp_type: Option<u8>,
    /// Code of that error.
    pub icmp_code: Option<u8>,
    /// SYN transmissions, duplicates left out.
    pub syn_count: u32,
    /// From a SYN that was sent once to the initiator's first packet after the SYN-ACK, nanoseconds.
    pub handshake_rtt_ns: Option<i64>,
    /// Application protocol seen in the first payload bytes.
    pub app: Option<AppProtocol>,
    /// Name in the ClientHello.
    pub server_name: Option<DomainName>,
    /// Host of the first HTTP request.
    pub http_host: Option<String>,
    /// Version the server chose, or the highest the client offered.
    pub tls_version: Option<String>,
    /// Frames in `capture` that prove it.
    pub frames: Vec<u64>,
    /// What each proving frame proves.
    pub proof: Vec<Proof>,
    /// Versions that the client offered, in its order.
    #[serde(default)]
    pub tls_offered: Vec<String>,
    /// Application protocols that the client offered inside TLS.
    pub alpn: Vec<String>,
    /// Whether the ClientHello is encrypted (ECH), so that its readable name may be a cover.
    pub ech: bool,
    /// Where the client asked a proxy to connect it to.
    pub proxy_target: Option<ConnectTarget>,
    /// Whether a reset came with another time to live than the responder's other packets: a hint at a device on the way.
    pub reset_ttl_differs: bool,
    /// Description of the fatal TLS alert that decided the outcome.
    pub tls_alert: Option<u8>,
    /// Status with which the proxy refused.
    pub proxy_status: Option<u16>,
}
