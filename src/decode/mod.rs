//! Frames to packets. Never fails: says what it understood, and why it stopped.
//!
//! Read: Ethernet, 802.1Q and 802.1ad tags (up to 8), VN-Tag and E-Tag, 802.3 LLC/SNAP, Linux cooked v1 and v2, raw IP,
//! BSD null and loop, PPP, PPPoE session, MPLS (IP, or an Ethernet pseudowire), Cisco HDLC, NFLOG, IP over InfiniBand,
//! PPI; IPv4, IPv6 with its extension headers, AH, TCP, UDP, ICMP, ICMPv6, the ports of SCTP; IP in IP, GRE (IP,
//! Ethernet, MPLS, PPP, WCCP, ERSPAN), MPLS in IP, VXLAN, Geneve, nested up to 16 deep.
//!
//! **Not** read: 802.11, MACsec, TRILL, 802.1ah, L2TP, GTP, Teredo, Frame Relay, compressed or encrypted PPP. Of a
//! tunnel that is not read, or whose inner part is no sound IP packet, the outer packet stands. IPv4, TCP and UDP
//! checksums are not checked: offload leaves them unset in captures taken on a host.

mod icmp;
mod ip;
mod link;
mod packet;
mod plain;
mod region;
mod transport;
mod tunnel;

pub use packet::{
    Decoded, Fragment, Icmp, Packet, Payload, Quote, Shortfall, SkipReason, Tcp, TcpFlags, Udp, icmp_ports,
};
pub use plain::Plain;

use crate::capture::Frame;
use region::{Region, Walk};
use std::borrow::Cow;
use std::net::IpAddr;

/// What a site may set about decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// UDP destination ports of VXLAN. By default 4789 (RFC 7348) and 8472 (Linux's own, from before the RFC).
    pub vxlan_ports: Cow<'static, [u16]>,
    /// UDP destination ports of VXLAN with the generic protocol extension. By default 4790.
    pub vxlan_gpe_ports: Cow<'static, [u16]>,
    /// UDP destination ports of Geneve. By default 6081 (RFC 8926).
    pub geneve_ports: Cow<'static, [u16]>,
}

impl DecodeOptions {
    /// The ports that IANA and Linux give.
    pub const DEFAULT: DecodeOptions = DecodeOptions {
        vxlan_ports: Cow::Borrowed(&[4789, 8472]),
        vxlan_gpe_ports: Cow::Borrowed(&[4790]),
        geneve_ports: Cow::Borrowed(&[6081]),
    };
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

static DEFAULT_OPTIONS: DecodeOptions = DecodeOptions::DEFAULT;

/// Decodes with [`DecodeOptions::DEFAULT`].
#[inline]
pub fn decode<'a>(frame: &Frame<'a>) -> Decoded<'a> {
    decode_with(frame, &DEFAULT_OPTIONS)
}

/// Finds the innermost IP packet of a frame. Total: any bytes give an answer, and none makes it panic.
#[inline(always)]
pub fn decode_with<'a>(frame: &Frame<'a>, options: &DecodeOptions) -> Decoded<'a> {
    let whole = Region::new(frame.bytes, (frame.wire_len as usize).max(frame.bytes.len()));
    // The frame check sequence is the end of the frame on the wire; a cut frame has lost it, or part of it, already.
    let region = if frame.fcs_bytes == 0 {
        whole
    } else {
        whole.limit(whole.wire.saturating_sub(usize::from(frame.fcs_bytes)))
    };
    link::link(frame.link_type, region, Walk::new(options))
}

/// What all fragments of a datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramHead {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Time to live, or hop limit, of the first of them.
    pub ttl: u8,
    /// What the datagram carries, by protocol number.
    pub protocol: u8,
    /// Innermost VLAN identifier of the first of them.
    pub vlan: Option<u16>,
    /// Innermost virtual network identifier of the first of them.
    pub vni: Option<u32>,
}

/// Decodes a datagram that was put together again from its fragments (or as far as it is there).
pub fn decode_datagram<'a>(head: &DatagramHead, bytes: &'a [u8]) -> Decoded<'a> {
    let walk = Walk { vlan: head.vlan, vni: head.vni, ..Walk::new(&DEFAULT_OPTIONS) };
    let ip = ip::IpHead {
        src: head.src,
        dst: head.dst,
        ttl: head.ttl,
        fragment: None,
        fragment_bytes: &[],
        ip_bytes: bytes,
    };
    ip::datagram(head.protocol, bytes, ip, walk)
}

#[cfg(test)]
mod tests;
