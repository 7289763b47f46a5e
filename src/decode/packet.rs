//! What was understood of a frame.

use crate::model::Transport;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// A frame either became a packet or was skipped for a reason: nothing vanishes.
#[derive(Clone, Copy, Debug)]
pub enum Decoded<'a> {
    /// The innermost IP packet.
    Packet(Packet<'a>),
    /// No IP packet could be read.
    Skipped(SkipReason),
}

/// Why a frame gave no packet. The words are those of the `skipped` map in summaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// ARP: link upkeep, tallied.
    Arp,
    /// A frame of another protocol than IP (LLDP, STP, LACP, PPPoE discovery ...): known not to be IP.
    NotIp,
    /// A link type that portproof does not read.
    UnknownLinkType,
    /// The capture holds too few bytes of a header that the packet has on the wire.
    HeaderCut,
    /// The bytes contradict themselves (lengths, versions) at or above the IP header.
    Malformed,
    /// An encapsulation that portproof recognises but does not read.
    UnsupportedEncapsulation,
}

impl SkipReason {
    /// Whether the frame is known not to carry IP; such frames say nothing about the quality of the evidence.
    pub fn is_not_ip(self) -> bool {
        matches!(self, SkipReason::Arp | SkipReason::NotIp)
    }

    /// The stable word, as in the `skipped` map.
    pub fn as_str(self) -> &'static str {
        match self {
            SkipReason::Arp => "arp",
            SkipReason::NotIp => "not-ip",
            SkipReason::UnknownLinkType => "unknown-link-type",
            SkipReason::HeaderCut => "header-cut",
            SkipReason::Malformed => "malformed",
            SkipReason::UnsupportedEncapsulation => "unsupported-encapsulation",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The innermost IP packet of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// What the packet carries.
    pub transport: Transport,
    /// Innermost VLAN identifier, if tagged.
    pub vlan: Option<u16>,
    /// Innermost virtual network identifier (VXLAN, Geneve), if tunnelled.
    pub vni: Option<u32>,
    /// The interface index that the link header itself tells (Linux cooked v2).
    pub link_interface: Option<u32>,
    /// Set where the packet is a fragment of a datagram.
    pub fragment: Option<Fragment>,
    /// What was captured of a fragment's part of the datagram; empty where the packet is no fragment.
    pub fragment_bytes: &'a [u8],
    /// The transport's part.
    pub payload: Payload<'a>,
    /// Captured bytes from the innermost IP header on, link padding and trailers left out.
    pub ip_bytes: &'a [u8],
    /// Captured bytes from the outermost IP header on, of a packet within another; empty where it is within none.
    pub outer: &'a [u8],
    /// What could not be read above the IP header, if anything.
    pub shortfall: Option<Shortfall>,
}

impl Packet<'_> {
    /// Between whom the outermost packet was sent, of one within another.
    pub fn tunnel_ends(&self) -> Option<(IpAddr, IpAddr)> {
        match self.outer.first()? >> 4 {
            4 => {
                let ends = self.outer.get(12..20)?;
                let at =
                    |from: usize| ends.get(from..from + 4)?.first_chunk::<4>().copied().map(IpAddr::from);
                Some((at(0)?, at(4)?))
            }
            _ => {
                let ends = self.outer.get(8..40)?;
                let at =
                    |from: usize| ends.get(from..from + 16)?.first_chunk::<16>().copied().map(IpAddr::from);
                Some((at(0)?, at(16)?))
            }
        }
    }
}

/// Place of a fragment in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Identification, common to all fragments of a datagram.
    pub id: u32,
    /// Bytes before this fragment's payload in the datagram's.
    pub offset: u32,
    /// Whether more fragments follow.
    pub more: bool,
    /// What the datagram carries, by protocol number.
    pub protocol: u8,
}

/// Why a packet was understood only in part. It still counts as a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shortfall {
    /// The snapshot length cut the transport header.
    TransportCut,
    /// The transport header contradicts itself.
    TransportMalformed,
    /// A fragment other than the first: it has no transport header.
    LaterFragment,
}

/// The transport's part of a packet.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// A TCP segment.
    Tcp(Tcp<'a>),
    /// A UDP datagram (or its first fragment).
    Udp(Udp<'a>),
    /// An ICMP or ICMPv6 message.
    Icmp(Icmp<'a>),
    /// A transport of which only the ports are read (SCTP): source, destination.
    Ports(u16, u16),
    /// No transport header was read: another protocol, a later fragment, or see `shortfall`.
    None,
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; of meaning only with the ACK flag.
    pub ack: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Length of the payload on the wire by the IP header (for offload frames with IP length 0: by the frame), bytes.
    pub payload_len: u32,
    /// What was captured of the payload; shorter than `payload_len` where the snapshot length cut it.
    pub payload: &'a [u8],
}

/// The flag octet of a TCP header (RFC 9293).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// FIN: the sender has no more to send.
    pub fn fin(self) -> bool {
        self.0 & 0x01 != 0
    }
    /// SYN: sequence numbers are synchronised.
    pub fn syn(self) -> bool {
        self.0 & 0x02 != 0
    }
    /// RST: the connection is reset.
    pub fn rst(self) -> bool {
        self.0 & 0x04 != 0
    }
    /// ACK: the acknowledgement number has a meaning.
    pub fn ack(self) -> bool {
        self.0 & 0x10 != 0
    }
    /// Whether any of SYN, FIN and RST is set: of most segments none is.
    pub fn begins_or_ends(self) -> bool {
        self.0 & 0x07 != 0
    }
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Length of the payload on the wire, bytes.
    pub payload_len: u32,
    /// What was captured of the payload.
    pub payload: &'a [u8],
}

/// An ICMP or ICMPv6 message.
#[derive(Clone, Copy, Debug)]
pub struct Icmp<'a> {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Captured bytes after the first 8 of the message.
    pub body: &'a [u8],
    /// For error messages: the packet that it quotes, as far as it can be read.
    pub quote: Option<Quote>,
}

/// The packet that an ICMP or ICMPv6 error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Source address of the quoted packet.
    pub src: IpAddr,
    /// Destination address of the quoted packet.
    pub dst: IpAddr,
    /// Its transport.
    pub transport: Transport,
    /// Its source port (for ICMP: see [`icmp_ports`]).
    pub src_port: u16,
    /// Its destination port (for ICMP: see [`icmp_ports`]).
    pub dst_port: u16,
    /// The quoted TCP sequence number.
    pub tcp_seq: Option<u32>,
}

/// The two numbers that stand for an ICMP message's ports in the Community ID (v1) and in Zeek: a request's type and
/// its answer's, or type and code where the message has no counterpart. The sender's comes first.
pub fn icmp_ports(v6: bool, kind: u8, code: u8) -> (u16, u16) {
    let answer = if v6 {
        match kind {
            128 => Some(129),
            129 => Some(128),
            130 => Some(131),
            131 => Some(130),
            133 => Some(134),
            134 => Some(133),
            135 => Some(136),
            136 => Some(135),
            139 => Some(140),
            140 => Some(139),
            144 => Some(145),
            145 => Some(144),
            _ => None,
        }
    } else {
        match kind {
            0 => Some(8),
            8 => Some(0),
            9 => Some(10),
            10 => Some(9),
            13 => Some(14),
            14 => Some(13),
            15 => Some(16),
            16 => Some(15),
            17 => Some(18),
            18 => Some(17),
            _ => None,
        }
    };
    (kind.into(), answer.unwrap_or(code).into())
}
