//! Transports and the endpoints that speak over them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// What an IP packet carries, by its protocol number (IANA).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Protocol 6.
    Tcp,
    /// Protocol 17.
    Udp,
    /// ICMP for IPv4, protocol 1.
    Icmp,
    /// ICMPv6, protocol 58.
    Icmp6,
    /// Protocol 132.
    Sctp,
    /// Any other, by number.
    Other(u8),
}

impl Transport {
    /// The IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Icmp => 1,
            Transport::Icmp6 => 58,
            Transport::Sctp => 132,
            Transport::Other(number) => number,
        }
    }

    /// The transport of an IANA protocol number.
    pub fn from_number(number: u8) -> Self {
        match number {
            6 => Transport::Tcp,
            17 => Transport::Udp,
            1 => Transport::Icmp,
            58 => Transport::Icmp6,
            132 => Transport::Sctp,
            other => Transport::Other(other),
        }
    }

    /// Whether its endpoints have ports.
    pub fn has_ports(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Udp | Transport::Sctp)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Tcp => f.pad("tcp"),
            Transport::Udp => f.pad("udp"),
            Transport::Icmp => f.pad("icmp"),
            Transport::Icmp6 => f.pad("icmp6"),
            Transport::Sctp => f.pad("sctp"),
            Transport::Other(number) => f.pad(&number.to_string()),
        }
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            "icmp" => Transport::Icmp,
            "icmp6" => Transport::Icmp6,
            "sctp" => Transport::Sctp,
            other => Transport::from_number(other.parse().map_err(|_| {
                format!("`{other}` is no transport: tcp, udp, icmp, icmp6, sctp or a protocol number")
            })?),
        })
    }
}

impl Serialize for Transport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Transport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An address as a number, in the order of addresses of its version; of version 4 it is below 2^32.
#[inline]
pub fn address_bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// One side of a flow. For ICMP the port is the message type or code, as in the Community ID (v1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address.
    pub ip: IpAddr,
    /// The port; 0 for transports without.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint of its two parts.
    pub fn new(ip: IpAddr, port: u16) -> Self {
        Endpoint { ip, port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.ip, self.port).fmt(f)
    }
}
