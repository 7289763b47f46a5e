//! TCP, UDP, SCTP's ports; other protocols go to `icmp` and `tunnel`.

use super::ip::IpHead;
use super::packet::{Decoded, Packet, Payload, Shortfall, Tcp, TcpFlags, Udp};
use super::region::{Region, Walk};
use super::{icmp, tunnel};
use crate::model::Transport;
use etherparse::{TcpHeaderSlice, UdpHeaderSlice};

/// A wire length as packets tell it.
#[inline]
fn length(wire: usize) -> u32 {
    u32::try_from(wire).unwrap_or(u32::MAX)
}

/// What an IP packet carries, from its first byte after IP.
#[inline(always)]
pub(super) fn transport<'a>(
    protocol: u8,
    region: Region<'a>,
    head: IpHead<'a>,
    walk: Walk<'_>,
) -> Decoded<'a> {
    match protocol {
        6 => tcp(region, head, walk),
        17 => udp(region, head, walk),
        1 | 58 => icmp::icmp(protocol, region, head, walk),
        132 => head.packet(Transport::Sctp, ports(region), shortfall(region, head, 12), walk),
        4 | 41 | 47 | 137 => match tunnel::by_protocol(protocol, region, walk) {
            Some(packet) => Decoded::Packet(Packet { outer: head.ip_bytes, ..packet }),
            None => head.packet(Transport::Other(protocol), Payload::None, None, walk),
        },
        other => head.packet(Transport::Other(other), Payload::None, None, walk),
    }
}

/// The ports, which stand first in all transports that have some, and are believed whatever is wrong behind them: a
/// packet between two endpoints stays theirs.
fn ports<'a>(region: Region<'a>) -> Payload<'a> {
    match (region.u16_at(0), region.u16_at(2)) {
        (Some(src), Some(dst)) => Payload::Ports(src, dst),
        _ => Payload::None,
    }
}

/// What is missing of a header of `need` bytes, if anything.
fn shortfall(region: Region<'_>, head: IpHead<'_>, need: usize) -> Option<Shortfall> {
    (region.bytes.len() < need).then(|| head.short(region, need))
}

#[inline(always)]
fn tcp<'a>(region: Region<'a>, head: IpHead<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let Ok(header) = TcpHeaderSlice::from_slice(region.bytes) else {
        let (payload, shortfall) = tcp_irregular(region, head);
        return head.packet(Transport::Tcp, payload, Some(shortfall), walk);
    };
    let bytes = header.slice();
    let data = region.after(bytes.len());
    let tcp = Tcp {
        src_port: header.source_port(),
        dst_port: header.destination_port(),
        seq: header.sequence_number(),
        ack: header.acknowledgment_number(),
        flags: TcpFlags(bytes.get(13).copied().unwrap_or_default()),
        payload_len: length(data.wire),
        payload: data.bytes,
    };
    head.packet(Transport::Tcp, Payload::Tcp(tcp), None, walk)
}

/// A TCP header that is cut or contradicts itself. All that is used of it stands in its first 14 bytes.
#[cold]
#[inline(never)]
fn tcp_irregular<'a>(region: Region<'a>, head: IpHead<'a>) -> (Payload<'a>, Shortfall) {
    let goes_on = head.fragment.is_some_and(|fragment| fragment.more);
    if let Some(first) = region.bytes.first_chunk::<14>() {
        let header_bytes = usize::from(first[12] >> 4) * 4;
        if header_bytes < 20 || (header_bytes > region.wire && !goes_on) {
            return (ports(region), Shortfall::TransportMalformed);
        }
        let tcp = Tcp {
            src_port: u16::from_be_bytes([first[0], first[1]]),
            dst_port: u16::from_be_bytes([first[2], first[3]]),
            seq: u32::from_be_bytes([first[4], first[5], first[6], first[7]]),
            ack: u32::from_be_bytes([first[8], first[9], first[10], first[11]]),
            flags: TcpFlags(first[13]),
            payload_len: length(region.wire.saturating_sub(header_bytes)),
            payload: &[],
        };
        return (Payload::Tcp(tcp), Shortfall::TransportCut);
    }
    (ports(region), head.short(region, 20))
}

#[inline(always)]
fn udp<'a>(region: Region<'a>, head: IpHead<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let Ok(header) = UdpHeaderSlice::from_slice(region.bytes) else {
        return head.packet(Transport::Udp, ports(region), shortfall(region, head, 8), walk);
    };
    let datagram = match usize::from(header.length()) {
        // Offload, or a jumbogram (RFC 2675): the IP header decides.
        0 => region,
        told if told >= 8 && told <= region.wire => region.limit(told),
        // A first fragment tells the length of the whole datagram.
        8.. if head.fragment.is_some_and(|fragment| fragment.more) => region,
        _ => return head.packet(Transport::Udp, ports(region), Some(Shortfall::TransportMalformed), walk),
    };
    let data = datagram.after(8);
    let udp = Udp {
        src_port: header.source_port(),
        dst_port: header.destination_port(),
        payload_len: length(data.wire),
        payload: data.bytes,
    };
    if let Some(packet) = tunnel::by_port(udp.dst_port, data, head, walk) {
        return Decoded::Packet(Packet { outer: head.ip_bytes, ..packet });
    }
    head.packet(Transport::Udp, Payload::Udp(udp), None, walk)
}
