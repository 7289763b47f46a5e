//! Packets within packets. The innermost conversation is the one judged; where a tunnel's inner part is no sound IP
//! packet, these say `None` and the outer packet stands.

use super::DecodeOptions;
use super::ip::IpHead;
use super::link;
use super::packet::{Decoded, Packet};
use super::region::{Region, Walk};

fn packet<'a>(decoded: Decoded<'a>) -> Option<Packet<'a>> {
    match decoded {
        Decoded::Packet(packet) => Some(packet),
        Decoded::Skipped(_) => None,
    }
}

/// The packet within an IP packet of protocol 4, 41 (RFC 2003, 4213, 2473), 47 (GRE) or 137 (MPLS, RFC 4023).
#[cold]
#[inline(never)]
pub(super) fn by_protocol<'a>(protocol: u8, region: Region<'a>, walk: Walk<'_>) -> Option<Packet<'a>> {
    let walk = walk.deeper()?;
    match protocol {
        4 => packet(super::ip::ipv4(region, walk)),
        41 => packet(super::ip::ipv6(region, walk)),
        47 => gre(region, walk),
        137 => packet(link::mpls(region, walk)),
        _ => None,
    }
}

/// Whether a port is one of a tunnel.
#[inline(always)]
pub(super) fn is_port(port: u16, options: &DecodeOptions) -> bool {
    is_of(port, &options.vxlan_ports)
        || is_of(port, &options.vxlan_gpe_ports)
        || is_of(port, &options.geneve_ports)
}

/// Whether a port is one of these.
#[inline(always)]
#[expect(clippy::manual_contains, reason = "a call for each list of one or two, asked of every datagram")]
fn is_of(port: u16, ports: &[u16]) -> bool {
    ports.iter().any(|&one| one == port)
}

/// Generic routing encapsulation: version 0 (RFC 2784, 2890), and version 1 of PPTP (RFC 2637).
fn gre<'a>(region: Region<'a>, walk: Walk<'_>) -> Option<Packet<'a>> {
    let (flags, protocol) = (region.u16_at(0)?, region.u16_at(2)?);
    let (checksum, routing, key, sequence) =
        (flags & 0x8000 != 0, flags & 0x4000 != 0, flags & 0x2000 != 0, flags & 0x1000 != 0);
    let words = usize::from(checksum) + usize::from(key) + usize::from(sequence);
    match (flags & 7, protocol) {
        // Source routes in GRE went with RFC 1701.
        (0, _) if routing => None,
        (0, 0x88BE | 0x22EB) => erspan(protocol, sequence, region.after(4 + words * 4), walk),
        // A WCCP redirect header may stand before IP; it begins with other four bits than IP does.
        (0, 0x883E) => {
            let inner = region.after(4 + words * 4);
            let version = inner.bytes.first()? >> 4;
            packet(link::by_version(if version == 4 { inner } else { inner.after(4) }, walk))
        }
        (0, 1536..) => packet(link::by_ethertype(protocol, region.after(4 + words * 4), walk)),
        (1, 0x880B) => {
            let acknowledged = flags & 0x0080 != 0;
            // The key's first half is the payload's length.
            let length = usize::from(region.u16_at(4)?);
            let inner = region.after(8 + 4 * (usize::from(sequence) + usize::from(acknowledged)));
            if length == 0 || length > inner.wire {
                return None;
            }
            packet(link::ppp(inner.limit(length), walk))
        }
        _ => None,
    }
}

/// A mirrored frame: type I has no header, type II has 8 bytes (and a GRE sequence number), type III 12 or 20
/// (draft-foschiano-erspan).
fn erspan<'a>(protocol: u16, sequence: bool, region: Region<'a>, walk: Walk<'_>) -> Option<Packet<'a>> {
    if protocol == 0x88BE {
        let header_bytes = if sequence { 8 } else { 0 };
        return packet(link::ethernet(region.after(header_bytes), walk));
    }
    let last = region.u16_at(10)?;
    let header_bytes = if last & 1 == 0 { 12 } else { 20 };
    let inner = region.after(header_bytes);
    match last >> 10 & 0x1F {
        0 => packet(link::ethernet(inner, walk)),
        2 => packet(link::by_version(inner, walk)),
        _ => None,
    }
}

/// The packet within a UDP datagram to a port of VXLAN or Geneve. A port proves nothing: the inner lengths must fit,
/// except in a first fragment, which holds only the beginning.
#[inline]
pub(super) fn by_port<'a>(
    port: u16,
    data: Region<'a>,
    head: IpHead<'a>,
    walk: Walk<'_>,
) -> Option<Packet<'a>> {
    if is_of(port, &walk.options.vxlan_ports) {
        vxlan(data, head, walk, false)
    } else if is_of(port, &walk.options.vxlan_gpe_ports) {
        vxlan(data, head, walk, true)
    } else if is_of(port, &walk.options.geneve_ports) {
        geneve(data, head, walk)
    } else {
        None
    }
}

fn inside<'o>(head: IpHead<'_>, walk: Walk<'o>, vni: u32) -> Option<Walk<'o>> {
    let strict = walk.strict || head.fragment.is_none();
    Some(Walk { strict, vni: Some(vni), ..walk.deeper()? })
}

/// RFC 7348: flags with the I bit, 24 reserved bits (some carry a group policy), the network identifier, 8 reserved. In the
/// generic protocol extension (draft-ietf-nvo3-vxlan-gpe) the P bit says that the last reserved octet before the
/// identifier tells what is inside; elsewhere reserved bits carry no meaning, set or not.
#[cold]
#[inline(never)]
fn vxlan<'a>(data: Region<'a>, head: IpHead<'a>, walk: Walk<'_>, generic: bool) -> Option<Packet<'a>> {
    let (flags, vni) = (data.u32_at(0)?, data.u32_at(4)?);
    if flags & 0x0800_0000 == 0 {
        return None;
    }
    let (inner, walk) = (data.after(8), inside(head, walk, vni >> 8)?);
    match (generic && flags & 0x0400_0000 != 0, flags & 0xFF) {
        (false, _) | (true, 3) => packet(link::ethernet(inner, walk)),
        (true, 1) => packet(super::ip::ipv4(inner, walk)),
        (true, 2) => packet(super::ip::ipv6(inner, walk)),
        _ => None,
    }
}

/// RFC 8926: version 0, options in units of 4 bytes, an EtherType, the network identifier.
#[cold]
#[inline(never)]
fn geneve<'a>(data: Region<'a>, head: IpHead<'a>, walk: Walk<'_>) -> Option<Packet<'a>> {
    let (first, protocol, vni) = (data.u16_at(0)?, data.u16_at(2)?, data.u32_at(4)?);
    if first >> 14 != 0 || protocol < 1536 {
        return None;
    }
    let header_bytes = 8 + usize::from(first >> 8 & 0x3F) * 4;
    packet(link::by_ethertype(protocol, data.after(header_bytes), inside(head, walk, vni >> 8)?))
}
