//! IPv4 and IPv6, up to the transport.

use super::packet::{Decoded, Fragment, Packet, Payload, Shortfall, SkipReason};
use super::region::{Region, Walk};
use super::transport;
use crate::model::Transport;
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use std::net::IpAddr;

/// What an IP header tells of its packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpHead<'a> {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) ttl: u8,
    pub(super) fragment: Option<Fragment>,
    pub(super) fragment_bytes: &'a [u8],
    pub(super) ip_bytes: &'a [u8],
}

impl<'a> IpHead<'a> {
    /// The packet with this header.
    #[inline(always)]
    pub(super) fn packet(
        self,
        transport: Transport,
        payload: Payload<'a>,
        shortfall: Option<Shortfall>,
        walk: Walk<'_>,
    ) -> Decoded<'a> {
        Decoded::Packet(Packet {
            src: self.src,
            dst: self.dst,
            ttl: self.ttl,
            transport,
            vlan: walk.vlan,
            vni: walk.vni,
            link_interface: walk.link_interface,
            fragment: self.fragment,
            fragment_bytes: self.fragment_bytes,
            payload,
            ip_bytes: self.ip_bytes,
            outer: &[],
            shortfall,
        })
    }

    /// Why the transport of `need` bytes could not be read from `region`: a first fragment may go on in the next one.
    pub(super) fn short(self, region: Region<'_>, need: usize) -> Shortfall {
        let goes_on = self.fragment.is_some_and(|fragment| fragment.more);
        if region.wire < need && !goes_on { Shortfall::TransportMalformed } else { Shortfall::TransportCut }
    }
}

/// The length of an IPv4 packet: its total length, or what the frame has where offload left none.
///
/// Segmentation offload hands the capture frames above 64 KiB, whose length field is 0 or has wrapped around.
#[inline]
fn ipv4_length(total: usize, header: usize, region: Region<'_>) -> Option<usize> {
    if total >= header {
        Some(total)
    } else if total == 0 || region.wire > usize::from(u16::MAX) {
        Some(region.wire)
    } else {
        None
    }
}

/// An IPv4 packet (RFC 791).
#[inline(always)]
pub(super) fn ipv4<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let Ok(header) = Ipv4HeaderSlice::from_slice(region.bytes) else { return ipv4_irregular(region, walk) };
    let header_bytes = header.slice().len();
    let Some(length) = ipv4_length(header.total_len().into(), header_bytes, region) else {
        return Decoded::Skipped(SkipReason::Malformed);
    };
    if walk.strict && length > region.wire {
        return Decoded::Skipped(SkipReason::Malformed);
    }
    let packet = region.limit(length);
    let fragment = header.is_fragmenting_payload().then(|| Fragment {
        id: header.identification().into(),
        offset: u32::from(header.fragments_offset().value()) * 8,
        more: header.more_fragments(),
        protocol: header.protocol().0,
    });
    let payload = packet.after(header_bytes);
    let head = IpHead {
        src: IpAddr::V4(header.source_addr()),
        dst: IpAddr::V4(header.destination_addr()),
        ttl: header.ttl(),
        fragment,
        fragment_bytes: if fragment.is_some() { payload.bytes } else { &[] },
        ip_bytes: packet.bytes,
    };
    match header.protocol().0 {
        protocol @ (6 | 17 | 1) if fragment.is_none() => transport::transport(protocol, payload, head, walk),
        51 => extensions(51, payload, head, walk),
        protocol => unless_later_fragment(protocol, payload, head, walk),
    }
}

/// An IPv4 header that is cut or contradicts itself.
#[cold]
#[inline(never)]
fn ipv4_irregular<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let [first, ..] = region.bytes else { return region.short(20) };
    let header_bytes = usize::from(first & 0xF) * 4;
    if first >> 4 != 4 || header_bytes < 20 || region.wire < header_bytes {
        return Decoded::Skipped(SkipReason::Malformed);
    }
    let Some(fixed) = region.bytes.first_chunk::<20>() else { return region.short(20) };
    // Only the options are cut: the addresses stand before them.
    let total = u16::from_be_bytes([fixed[2], fixed[3]]);
    let Some(length) = ipv4_length(total.into(), header_bytes, region) else {
        return Decoded::Skipped(SkipReason::Malformed);
    };
    let flags = u16::from_be_bytes([fixed[6], fixed[7]]);
    let offset = u32::from(flags & 0x1FFF) * 8;
    let more = flags & 0x2000 != 0;
    let id = u16::from_be_bytes([fixed[4], fixed[5]]).into();
    let packet = region.limit(length);
    let protocol = fixed[9];
    let head = IpHead {
        src: IpAddr::from([fixed[12], fixed[13], fixed[14], fixed[15]]),
        dst: IpAddr::from([fixed[16], fixed[17], fixed[18], fixed[19]]),
        ttl: fixed[8],
        fragment: (more || offset > 0).then_some(Fragment { id, offset, more, protocol }),
        fragment_bytes: &[],
        ip_bytes: packet.bytes,
    };
    unless_later_fragment(protocol, packet.after(header_bytes), head, walk)
}

/// An IPv6 packet (RFC 8200).
#[inline]
pub(super) fn ipv6<'a>(region: Region<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let Ok(header) = Ipv6HeaderSlice::from_slice(region.bytes) else {
        return match region.bytes {
            [first, ..] if first >> 4 != 6 => Decoded::Skipped(SkipReason::Malformed),
            _ => region.short(40),
        };
    };
    // No payload length: offload, a jumbogram (RFC 2675), or indeed nothing.
    let length = match usize::from(header.payload_length()) {
        0 => region.wire,
        payload => 40 + payload,
    };
    if walk.strict && length > region.wire {
        return Decoded::Skipped(SkipReason::Malformed);
    }
    let packet = region.limit(length);
    let head = IpHead {
        src: IpAddr::V6(header.source_addr()),
        dst: IpAddr::V6(header.destination_addr()),
        ttl: header.hop_limit(),
        fragment: None,
        fragment_bytes: &[],
        ip_bytes: packet.bytes,
    };
    let payload = packet.after(40);
    match header.next_header().0 {
        protocol @ (6 | 17 | 58) => transport::transport(protocol, payload, head, walk),
        protocol => extensions(protocol, payload, head, walk),
    }
}

/// One extension header.
pub(super) enum Extension {
    /// The protocol after it, and its length in bytes.
    Whole(u8, usize),
    /// A fragment header: the protocol after it, and the place in the datagram.
    Fragment(u8, Fragment),
    /// Bytes that it needs to be read.
    Short(usize),
    /// Not an extension header: the transport, or something that hides it (ESP).
    None,
}

/// Reads the extension header of IPv6 (or AH of IPv4) that `protocol` announces.
pub(super) fn extension(protocol: u8, bytes: &[u8]) -> Extension {
    let size = match protocol {
        // Hop-by-hop options, routing, destination options, mobility, HIP, Shim6: units of 8 bytes beyond the first.
        0 | 43 | 60 | 135 | 139 | 140 => |length: usize| (length + 1) * 8,
        // AH (RFC 4302): units of 4 bytes, less 2.
        51 => |length: usize| (length + 2) * 4,
        44 => {
            let Some(&[next, _, a, b, id @ ..]) = bytes.first_chunk::<8>() else {
                return Extension::Short(8);
            };
            let place = u16::from_be_bytes([a, b]);
            let fragment = Fragment {
                id: u32::from_be_bytes(id),
                offset: (place & 0xFFF8).into(),
                more: place & 1 != 0,
                protocol: next,
            };
            return Extension::Fragment(next, fragment);
        }
        _ => return Extension::None,
    };
    match bytes {
        [next, length, ..] => Extension::Whole(*next, size(usize::from(*length))),
        _ => Extension::Short(8),
    }
}

/// Walks extension headers to the transport. Each has at least 8 bytes, so the walk ends with the packet.
fn extensions<'a>(protocol: u8, region: Region<'a>, head: IpHead<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let (mut protocol, mut region, mut head) = (protocol, region, head);
    loop {
        // A later fragment begins in the middle of something.
        if head.fragment.is_some_and(|fragment| fragment.offset > 0) {
            return unless_later_fragment(protocol, region, head, walk);
        }
        match extension(protocol, region.bytes) {
            Extension::None => return unless_later_fragment(protocol, region, head, walk),
            Extension::Fragment(next, fragment) => {
                // A fragment that is the whole datagram (RFC 6946) is none.
                let whole = fragment.offset == 0 && !fragment.more;
                protocol = next;
                region = region.after(8);
                if !whole {
                    head.fragment = Some(fragment);
                    head.fragment_bytes = region.bytes;
                }
            }
            Extension::Whole(next, size) if size <= region.wire => {
                protocol = next;
                region = region.after(size);
            }
            Extension::Whole(_, need) | Extension::Short(need) => {
                let shortfall = head.short(region, need);
                return head.packet(Transport::from_number(protocol), Payload::None, Some(shortfall), walk);
            }
        }
    }
}

/// The transport, if the packet has its beginning.
fn unless_later_fragment<'a>(
    protocol: u8,
    region: Region<'a>,
    head: IpHead<'a>,
    walk: Walk<'_>,
) -> Decoded<'a> {
    if head.fragment.is_some_and(|fragment| fragment.offset > 0) {
        let transport = Transport::from_number(protocol);
        return head.packet(transport, Payload::None, Some(Shortfall::LaterFragment), walk);
    }
    transport::transport(protocol, region, head, walk)
}

/// A datagram put together again from its fragments: what its protocol carries.
pub(super) fn datagram<'a>(protocol: u8, bytes: &'a [u8], head: IpHead<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let region = Region::new(bytes, bytes.len());
    match extension(protocol, bytes) {
        Extension::None => transport::transport(protocol, region, head, walk),
        _ => extensions(protocol, region, head, walk),
    }
}
