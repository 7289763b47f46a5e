//! From the link layer to IP.

use super::ip;
use super::packet::{Decoded, SkipReason};
use super::region::{Region, Walk, vlan_of};
use crate::capture::LinkType;

/// VLAN tags on one frame. Two are usual (802.1ad), three exist; eight is beyond any equipment.
const MAX_TAGS: usize = 8;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86DD;

fn skip<'a>(reason: SkipReason) -> Decoded<'a> {
    Decoded::Skipped(reason)
}

/// What a frame of this link type holds.
#[inline(always)]
pub(super) fn link<'a>(link_type: LinkType, region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    if link_type == LinkType(1) { ethernet(region, walk) } else { other_link(link_type, region, walk) }
}

/// The numbers are LINKTYPE_ values (www.tcpdump.org/linktypes.html).
fn other_link<'a>(link_type: LinkType, region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    match link_type.0 {
        0 | 108 => null(region, walk),
        9 => ppp(region, walk),
        // PPP in HDLC-like framing, or Cisco HDLC, as the address octet says.
        50 => match region.bytes.first() {
            Some(0x0F | 0x8F) => cisco_hdlc(region, walk),
            _ => ppp(region, walk),
        },
        51 => pppoe_session(region, walk),
        12 | 14 | 101 => by_version(region, walk),
        104 => cisco_hdlc(region, walk),
        113 => cooked_v1(region, walk),
        192 => per_packet_information(region, walk),
        // PPP with an octet before it that tells the direction.
        204 => ppp(region.after(1), walk),
        228 => ip::ipv4(region, walk),
        229 => ip::ipv6(region, walk),
        239 => nflog(region, walk),
        // IP over InfiniBand: a route header of 40 bytes, EtherType, reserved.
        242 => match region.u16_at(40) {
            Some(kind) => by_ethertype(kind, region.after(44), walk),
            None => region.short(44),
        },
        276 => cooked_v2(region, walk),
        _ => skip(SkipReason::UnknownLinkType),
    }
}

/// An Ethernet frame without preamble and frame check sequence.
#[inline(always)]
pub(super) fn ethernet<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    match region.u16_at(12) {
        Some(IPV4) => ip::ipv4(region.after(14), walk),
        Some(IPV6) => ip::ipv6(region.after(14), walk),
        Some(kind) => by_ethertype(kind, region.after(14), walk),
        None => region.short(14),
    }
}

/// What an EtherType, or an 802.3 length, announces. VLAN tags are taken off on the way.
pub(super) fn by_ethertype<'a>(kind: u16, region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let (mut kind, mut region, mut walk) = (kind, region, walk);
    for _ in 0..MAX_TAGS {
        // The tag's bytes before the EtherType that follows it.
        let tag_bytes = match kind {
            0x8100 | 0x88A8 | 0x9100 | 0x9200 | 0x9300 => 2,
            // VN-Tag and E-Tag (802.1BR): which port of a fabric extender; nothing that IP depends on.
            0x8926 => 4,
            0x893F => 6,
            _ => break,
        };
        let (Some(tag), Some(inner)) = (region.u16_at(0), region.u16_at(tag_bytes)) else {
            return region.short(tag_bytes + 2);
        };
        if tag_bytes == 2 {
            walk.vlan = vlan_of(tag).or(walk.vlan);
        }
        kind = inner;
        region = region.after(tag_bytes + 2);
    }
    match kind {
        IPV4 => ip::ipv4(region, walk),
        IPV6 => ip::ipv6(region, walk),
        // ARP and RARP.
        0x0806 | 0x8035 => skip(SkipReason::Arp),
        0..=1500 => logical_link(region.limit(usize::from(kind).min(region.wire)), walk),
        // LLC in jumbo frames.
        0x8870 => logical_link(region, walk),
        0x8847 | 0x8848 => mpls(region, walk),
        0x8864 => pppoe_session(region, walk),
        // A whole Ethernet frame within.
        0x6558 => match walk.deeper() {
            Some(walk) => ethernet(region, walk),
            None => skip(SkipReason::UnsupportedEncapsulation),
        },
        // More than eight tags; MACsec; 802.1ah; TRILL; FabricPath; NSH; Cisco MetaData.
        0x8100 | 0x88A8 | 0x9100 | 0x9200 | 0x9300 | 0x88E5 | 0x88E7 | 0x22F3 | 0x8903 | 0x8926 | 0x893F
        | 0x894F | 0x8909 => skip(SkipReason::UnsupportedEncapsulation),
        _ => skip(SkipReason::NotIp),
    }
}

/// 802.2 logical link control; IP stands behind SNAP (RFC 1042), or behind DSAP 6.
fn logical_link<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    match region.bytes {
        [0xAA, 0xAA, 3, rest @ ..] => match rest {
            // Of the organisations that give protocol numbers, these two give EtherTypes.
            [0, 0, 0, high, low, ..] | [0, 0, 0xF8, high, low, ..] => {
                let kind = u16::from_be_bytes([*high, *low]);
                match walk.deeper() {
                    Some(walk) if kind > 1500 => by_ethertype(kind, region.after(8), walk),
                    _ => skip(SkipReason::NotIp),
                }
            }
            [_, _, _, ..] => skip(SkipReason::NotIp),
            _ => region.short(8),
        },
        [6, 6, 3, ..] => ip::ipv4(region.after(3), walk),
        [_, _, _, ..] => skip(SkipReason::NotIp),
        _ if region.wire < 3 => skip(SkipReason::NotIp),
        _ => region.short(3),
    }
}

/// An IP packet whose version is its first four bits.
pub(super) fn by_version<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    match region.bytes.first().map(|first| first >> 4) {
        Some(4) => ip::ipv4(region, walk),
        Some(6) => ip::ipv6(region, walk),
        Some(_) => skip(SkipReason::Malformed),
        None => region.short(1),
    }
}

/// BSD loopback: an address family, in the byte order of the machine that captured (null) or of the network (loop).
fn null<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let Some(family) = region.u32_at(0) else { return region.short(4) };
    let family = if family > 0xFFFF { family.swap_bytes() } else { family };
    match family {
        // AF_INET, and AF_INET6 of Linux, Windows, NetBSD and OpenBSD, FreeBSD, macOS.
        2 | 10 | 23 | 24 | 28 | 30 => by_version(region.after(4), walk),
        _ => skip(SkipReason::NotIp),
    }
}

/// Per-packet information (PPI): version, flags, length of all its fields, link type of what follows; little-endian.
fn per_packet_information<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let [_, _, low, high, link_type @ ..] = region.bytes else { return region.short(8) };
    let Some(&link_type) = link_type.first_chunk() else { return region.short(8) };
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    match (u16::try_from(u32::from_le_bytes(link_type)), walk.deeper()) {
        (Ok(inner), Some(walk)) if length >= 8 => link(LinkType(inner), region.after(length), walk),
        _ => skip(SkipReason::Malformed),
    }
}

/// Linux cooked capture: packet type, ARPHRD type, address length, address, protocol.
fn cooked_v1<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let (Some(hardware), Some(protocol)) = (region.u16_at(2), region.u16_at(14)) else {
        return region.short(16);
    };
    cooked(hardware, protocol, region.after(16), walk)
}

/// Linux cooked capture v2: protocol, reserved, interface index, ARPHRD type, packet type, address length, address.
fn cooked_v2<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    if region.bytes.len() < 20 {
        return region.short(20);
    }
    let (Some(protocol), Some(interface), Some(hardware)) =
        (region.u16_at(0), region.u32_at(4), region.u16_at(8))
    else {
        return region.short(20);
    };
    cooked(hardware, protocol, region.after(20), Walk { link_interface: Some(interface), ..walk })
}

fn cooked<'a>(hardware: u16, protocol: u16, region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    match (hardware, protocol) {
        // ARPHRD_NETLINK: the protocol is a netlink family. 802.11 in monitor mode: nothing but 802.11.
        (824 | 801..=803, _) => skip(SkipReason::NotIp),
        // 802.2 behind an 802.3 header.
        (_, 4) => logical_link(region, walk),
        (_, 0..=1535) => skip(SkipReason::NotIp),
        _ => by_ethertype(protocol, region, walk),
    }
}

/// PPP (RFC 1661), with or without its HDLC-like address and control octets, protocol field compressed or not.
pub(super) fn ppp<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let region = if region.bytes.starts_with(&[0xFF, 3]) { region.after(2) } else { region };
    let (protocol, size) = match region.bytes {
        // The last octet of the protocol number is odd, all before it are even.
        [first, ..] if first & 1 == 1 => (u16::from(*first), 1),
        [first, second, ..] => (u16::from_be_bytes([*first, *second]), 2),
        _ => return region.short(2),
    };
    let inner = region.after(size);
    match protocol {
        0x0021 => ip::ipv4(inner, walk),
        0x0057 => ip::ipv6(inner, walk),
        0x0281 | 0x0283 => mpls(inner, walk),
        // Van Jacobson and IP header compression, multilink, encryption, compression.
        0x002D | 0x002F | 0x003D | 0x0053 | 0x0055 | 0x0061 | 0x0063 | 0x00FB | 0x00FD => {
            skip(SkipReason::UnsupportedEncapsulation)
        }
        _ => skip(SkipReason::NotIp),
    }
}

/// The session stage of PPP over Ethernet (RFC 2516).
fn pppoe_session<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let Some(length) = region.u16_at(4) else { return region.short(6) };
    match region.bytes {
        [0x11, 0, ..] => {
            let inner = region.after(6);
            // A length of 0 or beyond the frame is no length (offload).
            let length = usize::from(length);
            let inner = if length == 0 || length > inner.wire { inner } else { inner.limit(length) };
            ppp(inner, walk)
        }
        // Another code: discovery.
        [0x11, ..] => skip(SkipReason::NotIp),
        _ => skip(SkipReason::Malformed),
    }
}

/// An MPLS label stack (RFC 3032). What follows it is not announced: IP shows its version, a pseudowire (RFC 4448) may
/// begin with a control word whose first four bits are 0.
pub(super) fn mpls<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let Some(walk) = walk.deeper() else { return skip(SkipReason::UnsupportedEncapsulation) };
    let mut region = region;
    loop {
        let Some(label) = region.u32_at(0) else { return region.short(4) };
        region = region.after(4);
        if label & 0x100 != 0 {
            break;
        }
    }
    let guess = Walk { strict: true, ..walk };
    match region.bytes.first().map(|first| first >> 4) {
        Some(4) => ip::ipv4(region, walk),
        Some(6) => ip::ipv6(region, walk),
        Some(0) => match ethernet(region.after(4), guess) {
            sound @ (Decoded::Packet(_) | Decoded::Skipped(SkipReason::Arp)) => sound,
            // One guess within a guess: two at each level would double the work with each.
            word if walk.strict => word,
            word => match ethernet(region, guess) {
                sound @ (Decoded::Packet(_) | Decoded::Skipped(SkipReason::Arp)) => sound,
                Decoded::Skipped(_) => word,
            },
        },
        // An associated channel (RFC 5586): upkeep of the path.
        Some(1) => skip(SkipReason::NotIp),
        Some(_) => match ethernet(region, guess) {
            sound @ (Decoded::Packet(_) | Decoded::Skipped(SkipReason::Arp)) => sound,
            Decoded::Skipped(_) => skip(SkipReason::UnsupportedEncapsulation),
        },
        None => region.short(1),
    }
}

/// Cisco HDLC: address, control, EtherType.
fn cisco_hdlc<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    match region.u16_at(2) {
        // SLARP has RARP's number.
        Some(0x8035) | Some(0..=1500) => skip(SkipReason::NotIp),
        Some(kind) => by_ethertype(kind, region.after(4), walk),
        None => region.short(4),
    }
}

/// Linux netfilter log: address family, version, resource, then attributes, one of which is the packet. Attribute
/// lengths are in the byte order of the machine that captured, which no field tells.
fn nflog<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    const PAYLOAD: u16 = 9;
    let [family, version, _, _, ..] = region.bytes else { return region.short(4) };
    if *version != 0 {
        return skip(SkipReason::Malformed);
    }
    // AF_INET, AF_INET6; others are ARP and bridged frames.
    if !matches!(family, 2 | 10) {
        return skip(SkipReason::NotIp);
    }
    let mut rest = region.after(4);
    // Every attribute has at least its own four bytes, so the walk ends.
    while let [a, b, c, d, ..] = rest.bytes {
        let (little, big) = (u16::from_le_bytes([*a, *b]), u16::from_be_bytes([*a, *b]));
        let fits = |length: u16| length >= 4 && usize::from(length) <= rest.wire;
        let (length, kind) = match (fits(little), fits(big)) {
            // Both fit only where the packet is larger than 1 KiB: attribute numbers are small, so the type decides.
            (true, true) if *c != 0 && *d == 0 => (little, u16::from_le_bytes([*c, *d])),
            (true, true) if *c == 0 && *d != 0 => (big, u16::from_be_bytes([*c, *d])),
            (true, _) => (little, u16::from_le_bytes([*c, *d])),
            (_, true) => (big, u16::from_be_bytes([*c, *d])),
            (false, false) => return skip(SkipReason::Malformed),
        };
        let length = usize::from(length);
        if kind & 0x7FFF == PAYLOAD {
            return by_version(rest.limit(length).after(4), walk);
        }
        rest = rest.after(length.next_multiple_of(4));
    }
    if rest.wire > 0 { rest.short(4) } else { skip(SkipReason::NotIp) }
}
