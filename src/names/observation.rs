//! A DNS message on the wire, as evidence.

use super::dns::{DnsMessage, qtype_mnemonic};
use crate::model::{DomainName, Endpoint, FramePoint, Timestamp, Transport};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

/// One DNS message between a client and a resolver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsObservation {
    /// The frame that completed it.
    pub point: FramePoint,
    /// Who asks.
    pub client: Endpoint,
    /// Who answers.
    pub resolver: Endpoint,
    /// UDP or TCP.
    pub transport: Transport,
    /// The message.
    pub message: DnsMessage,
}

/// Where a names row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameSource {
    /// A DNS response.
    Dns,
    /// A DNS query (that nobody answered, unless the rows are partial).
    DnsQuery,
    /// A TLS ClientHello.
    Tls,
    /// A QUIC ClientHello.
    Quic,
    /// An HTTP Host.
    Http,
}

/// One alias of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRow {
    /// The name that is an alias.
    pub owner: DomainName,
    /// What it stands for.
    pub target: DomainName,
}

/// A row of the names table: one per DNS response, per unanswered query, and per server name seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    /// Where it comes from.
    pub source: NameSource,
    /// When.
    pub ts: Timestamp,
    /// In which capture.
    pub capture: Arc<str>,
    /// Who asked, or named the server.
    pub client_ip: IpAddr,
    /// Its port.
    pub client_port: u16,
    /// Who was asked (DNS).
    pub resolver_ip: Option<IpAddr>,
    /// Over which transport.
    pub transport: Transport,
    /// The message's identifier.
    pub dns_id: Option<u16>,
    /// The response code, with its EDNS bits.
    pub rcode: Option<u16>,
    /// The name asked for.
    pub qname: Option<DomainName>,
    /// The type asked for: IANA mnemonic, TYPEn if it has none.
    pub qtype: Option<String>,
    /// Whether a matching query was seen.
    pub answered_query: Option<bool>,
    /// IPv4 addresses of the answer.
    pub a: Vec<IpAddr>,
    /// IPv6 addresses of the answer.
    pub aaaa: Vec<IpAddr>,
    /// Aliases of the answer.
    pub cname_chain: Vec<AliasRow>,
    /// Times to live of the answer's records, seconds, in answer order.
    pub ttls: Vec<u32>,
    /// Address hints of HTTPS and SVCB records.
    pub svcb_hints: Vec<IpAddr>,
    /// Whether the message was cut for its transport (TC).
    pub truncated: Option<bool>,
    /// Whether only some of its records could be read.
    pub salvaged: Option<bool>,
    /// The frame.
    pub frame: u64,
    /// The server named (TLS, QUIC, HTTP).
    pub server_ip: Option<IpAddr>,
    /// Its port.
    pub server_port: Option<u16>,
    /// The name.
    pub name: Option<String>,
}

impl NameRow {
    /// The row of a DNS message.
    pub fn of_dns(observation: &DnsObservation, capture: Arc<str>, answered_query: bool) -> Self {
        let message = &observation.message;
        let of_family = |v4: bool| {
            message.addresses.iter().map(|record| record.ip).filter(|ip| ip.is_ipv4() == v4).collect()
        };
        NameRow {
            source: if message.response { NameSource::Dns } else { NameSource::DnsQuery },
            ts: observation.point.time,
            capture,
            client_ip: observation.client.ip,
            client_port: observation.client.port,
            resolver_ip: Some(observation.resolver.ip),
            transport: observation.transport,
            dns_id: Some(message.id),
            rcode: message.response.then_some(message.rcode),
            qname: message.qname.clone(),
            qtype: Some(qtype_mnemonic(message.qtype).into_owned()),
            answered_query: message.response.then_some(answered_query),
            a: of_family(true),
            aaaa: of_family(false),
            cname_chain: message
                .aliases
                .iter()
                .map(|alias| AliasRow { owner: alias.owner.clone(), target: alias.target.clone() })
                .collect(),
            ttls: message.ttls.clone(),
            svcb_hints: message.svcb_hints.clone(),
            truncated: Some(message.truncated),
            salvaged: Some(message.salvaged),
            frame: observation.point.frame,
            server_ip: None,
            server_port: None,
            name: None,
        }
    }

    /// The row of a server name that a client wrote.
    pub fn of_server(
        source: NameSource,
        name: String,
        point: FramePoint,
        capture: Arc<str>,
        ends: &ServerEnds,
    ) -> Self {
        NameRow {
            source,
            ts: point.time,
            capture,
            client_ip: ends.client.ip,
            client_port: ends.client.port,
            resolver_ip: None,
            transport: ends.transport,
            dns_id: None,
            rcode: None,
            qname: None,
            qtype: None,
            answered_query: None,
            a: Vec::new(),
            aaaa: Vec::new(),
            cname_chain: Vec::new(),
            ttls: Vec::new(),
            svcb_hints: Vec::new(),
            truncated: None,
            salvaged: None,
            frame: point.frame,
            server_ip: Some(ends.server.ip),
            server_port: Some(ends.server.port),
            name: Some(name),
        }
    }
}

/// Between whom a server name was written.
#[derive(Clone, Copy, Debug)]
pub struct ServerEnds {
    /// Who wrote it.
    pub client: Endpoint,
    /// To whom.
    pub server: Endpoint,
    /// Over which transport.
    pub transport: Transport,
}
