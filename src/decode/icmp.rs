//! ICMP (RFC 792) and ICMPv6 (RFC 4443), and the packets that their errors quote.

use super::ip::{Extension, IpHead, extension};
use super::packet::{Decoded, Icmp, Payload, Quote, Shortfall, icmp_ports};
use super::region::{Region, Walk};
use crate::model::Transport;
use std::net::IpAddr;

pub(super) fn icmp<'a>(protocol: u8, region: Region<'a>, head: IpHead<'a>, walk: Walk<'_>) -> Decoded<'a> {
    let transport = Transport::from_number(protocol);
    let shortfall = (region.bytes.len() < 8).then(|| head.short(region, 8));
    let payload = match (region.bytes, shortfall) {
        (_, Some(Shortfall::TransportMalformed)) => Payload::None,
        ([kind, code, ..], _) => {
            let body = region.bytes.get(8..).unwrap_or_default();
            let is_error = match transport {
                // Unreachable, source quench, redirect, time exceeded, parameter problem.
                Transport::Icmp => matches!(kind, 3 | 4 | 5 | 11 | 12),
                // Unreachable, packet too big, time exceeded, parameter problem.
                _ => matches!(kind, 1..=4),
            };
            let quote = if is_error { quote(body) } else { None };
            Payload::Icmp(Icmp { kind: *kind, code: *code, body, quote })
        }
        _ => Payload::None,
    };
    head.packet(transport, payload, shortfall, walk)
}

/// Reads the packet that an error quotes, as far as there is any of it: lengths and checksums are not held against it.
/// `None` where it does not tell which flow it is of.
fn quote(bytes: &[u8]) -> Option<Quote> {
    let (src, dst, protocol, rest) = match bytes.first()? >> 4 {
        4 => {
            let fixed = bytes.first_chunk::<20>()?;
            let header_bytes = usize::from(fixed[0] & 0xF) * 4;
            let later_fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x1FFF != 0;
            if header_bytes < 20 || later_fragment {
                return None;
            }
            let src = IpAddr::from([fixed[12], fixed[13], fixed[14], fixed[15]]);
            let dst = IpAddr::from([fixed[16], fixed[17], fixed[18], fixed[19]]);
            (src, dst, fixed[9], bytes.get(header_bytes..).unwrap_or_default())
        }
        6 => {
            let src: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            let dst: [u8; 16] = *bytes.get(24..)?.first_chunk()?;
            let (mut protocol, mut rest) = (*bytes.get(6)?, bytes.get(40..)?);
            loop {
                match extension(protocol, rest) {
                    Extension::None => break,
                    Extension::Whole(next, size) => (protocol, rest) = (next, rest.get(size..)?),
                    Extension::Fragment(_, fragment) if fragment.offset > 0 => return None,
                    Extension::Fragment(next, _) => (protocol, rest) = (next, rest.get(8..)?),
                    Extension::Short(_) => return None,
                }
            }
            (IpAddr::from(src), IpAddr::from(dst), protocol, rest)
        }
        _ => return None,
    };
    let transport = Transport::from_number(protocol);
    let (src_port, dst_port) = match (transport, rest) {
        (Transport::Tcp | Transport::Udp | Transport::Sctp, [a, b, c, d, ..]) => {
            (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        (Transport::Icmp | Transport::Icmp6, [kind, code, ..]) => {
            icmp_ports(transport == Transport::Icmp6, *kind, *code)
        }
        (Transport::Other(_), _) => (0, 0),
        _ => return None,
    };
    let sequence = || rest.get(4..)?.first_chunk().map(|&word| u32::from_be_bytes(word));
    let tcp_seq = if transport == Transport::Tcp { sequence() } else { None };
    Some(Quote { src, dst, transport, src_port, dst_port, tcp_seq })
}
