//! Packets, byte for byte: Ethernet, VLAN tags, IPv4, IPv6, TCP, UDP, ICMP and ICMPv6, with right checksums.

use std::net::IpAddr;

/// TCP flags by their bit in the flag octet (RFC 9293).
pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

/// IANA protocol numbers.
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP6: u8 = 58;

/// Where an IPv4 fragment stands in its datagram: bytes before it, and whether more follow.
#[derive(Clone, Copy)]
pub struct Piece {
    pub offset: u16,
    pub more: bool,
}

/// One IP packet in the making.
pub struct Ip {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
    pub id: u16,
    pub protocol: u8,
    pub piece: Option<Piece>,
    /// Writes a total length of 0, as frames captured before segmentation offload have it.
    pub length_zero: bool,
    pub body: Vec<u8>,
}

/// The Internet checksum (RFC 1071) over the concatenation of `parts`; all but the last have even lengths.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The pseudo-header that TCP, UDP and ICMPv6 checksums cover.
fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut header = [octets(src), octets(dst)].concat();
    if src.is_ipv4() {
        header.extend([0, protocol]);
        header.extend((length as u16).to_be_bytes());
    } else {
        header.extend((length as u32).to_be_bytes());
        header.extend([0, 0, 0, protocol]);
    }
    header
}

impl Ip {
    /// The packet from its IP header on.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40 + self.body.len());
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let total = if self.length_zero { 0 } else { 20 + self.body.len() as u16 };
                let fragment = match self.piece {
                    None => 0x4000, // don't fragment
                    Some(piece) => (piece.offset / 8) | (u16::from(piece.more) << 13),
                };
                out.extend([0x45, 0]);
                out.extend(total.to_be_bytes());
                out.extend(self.id.to_be_bytes());
                out.extend(fragment.to_be_bytes());
                out.extend([self.ttl, self.protocol, 0, 0]);
                out.extend(src.octets());
                out.extend(dst.octets());
                let sum = checksum(&[&out]);
                out[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                out.extend([0x60, 0, 0, 0]);
                out.extend((self.body.len() as u16).to_be_bytes());
                out.extend([self.protocol, self.ttl]);
                out.extend(src.octets());
                out.extend(dst.octets());
            }
            (src, dst) => panic!("{src} and {dst} are not of one family"),
        }
        out.extend(&self.body);
        out
    }
}

/// A link-layer address that tells which IP address it stands for.
fn mac(ip: IpAddr) -> [u8; 6] {
    let octets = octets(ip);
    let tail = &octets[octets.len() - 4..];
    [2, if ip.is_ipv4() { 0 } else { 6 }, tail[0], tail[1], tail[2], tail[3]]
}

/// An Ethernet frame with an IP packet in it.
pub fn ethernet(src: IpAddr, dst: IpAddr, vlan: Option<u16>, packet: &[u8]) -> Vec<u8> {
    let mut out = [mac(dst), mac(src)].concat();
    if let Some(id) = vlan {
        out.extend([0x81, 0x00]);
        out.extend(id.to_be_bytes());
    }
    out.extend(if src.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
    out.extend(packet);
    out
}

/// What a TCP segment says besides its payload.
#[derive(Clone, Copy)]
pub struct Segment {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
}

/// A TCP segment; SYNs carry a maximum segment size.
pub fn tcp(src: (IpAddr, u16), dst: (IpAddr, u16), segment: Segment, payload: &[u8]) -> Vec<u8> {
    let options: &[u8] = if segment.flags & SYN == 0 { &[] } else { &[2, 4, 0x05, 0xb4] };
    let window: u16 = if segment.flags & RST == 0 { 64240 } else { 0 };
    let ack = if segment.flags & ACK == 0 { 0 } else { segment.ack };
    let mut out = Vec::with_capacity(24 + payload.len());
    out.extend(src.1.to_be_bytes());
    out.extend(dst.1.to_be_bytes());
    out.extend(segment.seq.to_be_bytes());
    out.extend(ack.to_be_bytes());
    out.extend([((20 + options.len()) as u8 / 4) << 4, segment.flags]);
    out.extend(window.to_be_bytes());
    out.extend([0, 0, 0, 0]);
    out.extend(options);
    out.extend(payload);
    let sum = checksum(&[&pseudo_header(src.0, dst.0, TCP, out.len()), &out]);
    out[16..18].copy_from_slice(&sum.to_be_bytes());
    out
}

/// A UDP datagram.
pub fn udp(src: (IpAddr, u16), dst: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + payload.len());
    out.extend(src.1.to_be_bytes());
    out.extend(dst.1.to_be_bytes());
    out.extend((8 + payload.len() as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    let sum = match checksum(&[&pseudo_header(src.0, dst.0, UDP, out.len()), &out]) {
        0 => 0xffff, // RFC 768: an all-zero checksum means none
        sum => sum,
    };
    out[6..8].copy_from_slice(&sum.to_be_bytes());
    out
}

/// An ICMP or ICMPv6 message, by the family of `src`: type, code, the four bytes after the checksum, the rest.
pub fn icmp(src: IpAddr, dst: IpAddr, kind: u8, code: u8, four: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, code, 0, 0];
    out.extend(four);
    out.extend(rest);
    let sum = match src {
        IpAddr::V4(_) => checksum(&[&out]),
        IpAddr::V6(_) => checksum(&[&pseudo_header(src, dst, ICMP6, out.len()), &out]),
    };
    out[2..4].copy_from_slice(&sum.to_be_bytes());
    out
}
