//! Frames built layer by layer, and what is understood of them.

use super::*;
use crate::capture::LinkType;
use crate::model::{Timestamp, Transport};
use std::net::IpAddr;

/// Layers one after another.
fn stack(layers: &[&[u8]]) -> Vec<u8> {
    layers.concat()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

/// An Ethernet header.
fn eth(kind: u16) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind.to_be_bytes()].concat()
}

/// An IPv4 packet from 10.0.0.1 to 10.0.0.2.
fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    v4_from(1, protocol, payload)
}

/// An IPv4 packet from 10.0.0.`last` to 10.0.0.2.
fn v4_from(last: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len() as u16).to_be_bytes();
    let header =
        [0x45, 0, total[0], total[1], 0x12, 0x34, 0, 0, 64, protocol, 0, 0, 10, 0, 0, last, 10, 0, 0, 2];
    [&header, payload].concat()
}

/// An IPv6 packet from fd00::1 to fd00::2.
fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend([next, 63]);
    for last in [1, 2] {
        header.extend([0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    [&header, payload].concat()
}

/// A TCP SYN from 1000 to 443 with this payload.
fn tcp(payload: &[u8]) -> Vec<u8> {
    let header = [3, 232, 1, 187, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, 2, 1, 0, 0, 0, 0, 0];
    [&header, payload].concat()
}

/// A UDP datagram from 5000 to `port`.
fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    [&5000u16.to_be_bytes()[..], &port.to_be_bytes(), &length, &[0, 0], payload].concat()
}

fn frame(link_type: u16, bytes: &[u8], wire_len: usize) -> Frame<'_> {
    Frame {
        number: 1,
        offset: 0,
        time: Timestamp(0),
        interface: 0,
        link_type: LinkType(link_type),
        fcs_bytes: 0,
        wire_len: wire_len as u32,
        bytes,
    }
}

/// Decodes a whole frame.
fn whole(link_type: u16, bytes: &[u8]) -> Decoded<'_> {
    decode(&frame(link_type, bytes, bytes.len()))
}

fn packet<'a>(decoded: Decoded<'a>, case: &str) -> Packet<'a> {
    match decoded {
        Decoded::Packet(packet) => packet,
        Decoded::Skipped(reason) => panic!("{case}: skipped as {reason}"),
    }
}

/// What a packet is, in a line: `10.0.0.1 > 10.0.0.2 tcp 1000 443 len 2/2`.
fn line(decoded: Decoded<'_>) -> String {
    let packet = match decoded {
        Decoded::Packet(packet) => packet,
        Decoded::Skipped(reason) => return reason.to_string(),
    };
    let payload = match packet.payload {
        Payload::Tcp(t) => format!("{} {} len {}/{}", t.src_port, t.dst_port, t.payload.len(), t.payload_len),
        Payload::Udp(u) => format!("{} {} len {}/{}", u.src_port, u.dst_port, u.payload.len(), u.payload_len),
        Payload::Icmp(i) => format!("type {} code {} body {}", i.kind, i.code, i.body.len()),
        Payload::Ports(a, b) => format!("{a} {b} ports"),
        Payload::None => "none".to_owned(),
    };
    let shortfall = packet.shortfall.map_or(String::new(), |shortfall| format!(" {shortfall:?}"));
    format!("{} > {} {} {payload}{shortfall}", packet.src, packet.dst, packet.transport)
}

const V4_TCP: &str = "10.0.0.1 > 10.0.0.2 tcp 1000 443 len 2/2";
const V6_TCP: &str = "fd00::1 > fd00::2 tcp 1000 443 len 2/2";

#[test]
fn a_plain_packet_is_understood_in_all_its_fields() {
    let bytes = stack(&[&eth(0x0800), &v4(6, &tcp(b"hi"))]);
    let packet = packet(whole(1, &bytes), "plain");
    assert_eq!((packet.src, packet.dst, packet.ttl), (ip("10.0.0.1"), ip("10.0.0.2"), 64));
    assert_eq!((packet.transport, packet.vlan, packet.vni), (Transport::Tcp, None, None));
    assert_eq!((packet.fragment, packet.shortfall, packet.link_interface), (None, None, None));
    assert_eq!(packet.ip_bytes, &bytes[14..]);
    let Payload::Tcp(tcp) = packet.payload else { panic!("{packet:?}") };
    assert_eq!((tcp.src_port, tcp.dst_port, tcp.seq, tcp.ack, tcp.flags), (1000, 443, 7, 9, TcpFlags(2)));
    assert_eq!((tcp.payload, tcp.payload_len), (&b"hi"[..], 2));
}

#[test]
#[rustfmt::skip]
fn every_link_layer_leads_to_its_ip_packet() {
    let four = v4(6, &tcp(b"hi"));
    let six = v6(6, &tcp(b"hi"));
    let cooked = |protocol: [u8; 2]| [&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0][..], &protocol].concat();
    let cooked2 = |protocol: [u8; 2]| [&protocol[..], &[0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0]].concat();
    let snap = |length: usize| [&eth(8 + length as u16)[..], &[0xAA, 0xAA, 3, 0, 0, 0, 8, 0]].concat();
    let pppoe = |protocol: [u8; 2], length: usize| {
        [&eth(0x8864)[..], &[0x11, 0, 0, 1], &(length as u16 + 2).to_be_bytes(), &protocol].concat()
    };
    let nflog_length = ((4 + four.len()) as u16).to_le_bytes();
    let nflog_length_big = ((4 + four.len()) as u16).to_be_bytes();
    for (case, link_type, header, inner, expected) in [
        ("Ethernet, IPv4",             1, eth(0x0800), &four, V4_TCP),
        ("Ethernet, IPv6",             1, eth(0x86DD), &six, V6_TCP),
        ("802.3 with LLC and SNAP",    1, snap(four.len()), &four, V4_TCP),
        ("802.3 with LLC for IP",      1, stack(&[&eth(3 + four.len() as u16), &[6, 6, 3]]), &four, V4_TCP),
        ("802.1Q",                     1, stack(&[&eth(0x8100), &[0, 5, 8, 0]]), &four, V4_TCP),
        ("802.1ad",                    1, stack(&[&eth(0x88A8), &[0, 5, 0x81, 0, 0, 6, 0x86, 0xDD]]), &six, V6_TCP),
        ("VN-Tag",                     1, stack(&[&eth(0x8926), &[0x80, 0, 0, 1, 8, 0]]), &four, V4_TCP),
        ("E-Tag",                      1, stack(&[&eth(0x893F), &[0, 0, 0, 1, 0, 0, 8, 0]]), &four, V4_TCP),
        ("Linux cooked",             113, cooked([8, 0]), &four, V4_TCP),
        ("Linux cooked, tagged",     113, stack(&[&cooked([0x81, 0]), &[0, 5, 8, 0]]), &four, V4_TCP),
        ("Linux cooked v2",          276, cooked2([0x86, 0xDD]), &six, V6_TCP),
        ("raw",                      101, vec![], &four, V4_TCP),
        ("raw, as OpenBSD numbers",   14, vec![], &six, V6_TCP),
        ("raw, as BSD/OS numbers",    12, vec![], &six, V6_TCP),
        ("IPv4",                     228, vec![], &four, V4_TCP),
        ("IPv6",                     229, vec![], &six, V6_TCP),
        ("null, little-endian",        0, vec![2, 0, 0, 0], &four, V4_TCP),
        ("null, big-endian",           0, vec![0, 0, 0, 2], &four, V4_TCP),
        ("null, IPv6 of macOS",        0, vec![30, 0, 0, 0], &six, V6_TCP),
        ("null, IPv6 of FreeBSD",      0, vec![0, 0, 0, 28], &six, V6_TCP),
        ("null, IPv6 of NetBSD",       0, vec![24, 0, 0, 0], &six, V6_TCP),
        ("null, IPv6 of Linux",        0, vec![10, 0, 0, 0], &six, V6_TCP),
        ("loop",                     108, vec![0, 0, 0, 2], &four, V4_TCP),
        ("PPP with address",           9, vec![0xFF, 3, 0, 0x21], &four, V4_TCP),
        ("PPP, protocol compressed",   9, vec![0x57], &six, V6_TCP),
        ("PPP or Cisco HDLC",         50, vec![0x0F, 0, 8, 0], &four, V4_TCP),
        ("PPP with direction",       204, vec![1, 0xFF, 3, 0, 0x21], &four, V4_TCP),
        ("PPP over Ethernet",          1, pppoe([0, 0x21], four.len()), &four, V4_TCP),
        ("PPP over Ethernet, bare",   51, pppoe([0, 0x57], six.len())[14..].to_vec(), &six, V6_TCP),
        ("Cisco HDLC",               104, vec![0x0F, 0, 8, 0], &four, V4_TCP),
        ("MPLS, two labels",           1, stack(&[&eth(0x8847), &[0, 0, 0x10, 64, 0, 0, 0x21, 64]]), &four, V4_TCP),
        ("MPLS pseudowire",            1, stack(&[&eth(0x8847), &[0, 0, 0x11, 64, 0, 0, 0, 0], &eth(0x0800)]), &four, V4_TCP),
        ("pseudowire, no control word", 1, stack(&[&eth(0x8847), &[0, 0, 0x11, 64], &eth(0x0800)]), &four, V4_TCP),
        ("MPLS in PPP",                9, vec![2, 0x81, 0, 0, 0x11, 64], &four, V4_TCP),
        ("NFLOG",                    239, stack(&[&[2, 0, 0, 0, 8, 0, 1, 0, 8, 0, 0, 0], &nflog_length, &[9, 0]]), &four, V4_TCP),
        ("NFLOG, big-endian",        239, stack(&[&[2, 0, 0, 0, 0, 5, 0, 10, 0, 0, 0, 0], &nflog_length_big, &[0, 9]]), &four, V4_TCP),
        ("IP over InfiniBand",       242, stack(&[&[0; 40], &[8, 0, 0, 0]]), &four, V4_TCP),
        ("PPI, Ethernet",            192, stack(&[&[0, 0, 12, 0, 1, 0, 0, 0, 9, 9, 9, 9], &eth(0x0800)]), &four, V4_TCP),
    ] {
        let bytes = stack(&[&header, inner]);
        assert_eq!(line(whole(link_type, &bytes)), expected, "{case}");
    }
}

#[test]
#[rustfmt::skip]
fn a_frame_without_ip_is_skipped_for_its_reason() {
    for (link_type, bytes, expected) in [
        (1, stack(&[&eth(0x0806), &[0; 28]]), SkipReason::Arp),
        (1, stack(&[&eth(0x8035), &[0; 28]]), SkipReason::Arp),
        (1, stack(&[&eth(0x8100), &[0, 1, 8, 6], &[0; 28]]), SkipReason::Arp),
        (1, stack(&[&eth(0x88CC), &[0; 28]]), SkipReason::NotIp),                      // LLDP
        (1, stack(&[&eth(38), &[0x42, 0x42, 3], &[0; 43]]), SkipReason::NotIp),        // spanning tree
        (1, stack(&[&eth(100), &[0xAA, 0xAA, 3, 0, 0, 12, 1, 11]]), SkipReason::NotIp), // SNAP of an organisation
        (1, stack(&[&eth(0x8863), &[0x11, 9, 0, 0, 0, 0]]), SkipReason::NotIp),        // PPPoE discovery
        (1, stack(&[&eth(0x8864), &[0x11, 0, 0, 1, 0, 2, 0xC0, 0x21]]), SkipReason::NotIp),
        (1, stack(&[&eth(0x88E5), &[0; 40]]), SkipReason::UnsupportedEncapsulation),   // MACsec
        (1, stack(&[&eth(0x8100), &[0, 1, 0x81, 0].repeat(9)]), SkipReason::UnsupportedEncapsulation),
        (9, vec![0xFF, 3, 0, 0xFD, 1, 2], SkipReason::UnsupportedEncapsulation),       // compressed
        (105, vec![8; 40], SkipReason::UnknownLinkType),                               // 802.11
        (147, vec![8; 40], SkipReason::UnknownLinkType),
        (113, vec![0, 0, 3, 0x38, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], SkipReason::NotIp), // netlink
        (0, vec![7, 0, 0, 0, 1, 2], SkipReason::NotIp),
        (1, stack(&[&eth(0x0800), &[0x55; 40]]), SkipReason::Malformed),               // version 5
        (1, stack(&[&eth(0x0800), &[0x44; 40]]), SkipReason::Malformed),               // header of 16 bytes
        (1, stack(&[&eth(0x86DD), &[0x45; 60]]), SkipReason::Malformed),
        (1, stack(&[&eth(0x0800), &v4(6, &[])[..19]]), SkipReason::Malformed),         // short on the wire
        (1, vec![0; 13], SkipReason::Malformed),
        (228, v6(6, &tcp(b"")), SkipReason::Malformed),
        (101, vec![0x15; 40], SkipReason::Malformed),
    ] {
        assert_eq!(line(whole(link_type, &bytes)), expected.to_string(), "{link_type} {bytes:02x?}");
    }
    let total_below_header = stack(&[&eth(0x0800), &[0x46, 0, 0, 20], &v4(6, &tcp(b"hihihi"))[4..]]);
    assert_eq!(line(whole(1, &total_below_header)), "malformed");
}

#[test]
fn the_innermost_tag_that_names_a_vlan_counts() {
    for (tags, expected) in [
        (&[0, 5, 8, 0][..], Some(5)),
        (&[0xE0, 5, 0x81, 0, 0x1F, 0xFE, 8, 0], Some(0xFFE)),
        (&[0, 5, 0x81, 0, 0xE0, 0, 8, 0], Some(5)),
        (&[0xE0, 0, 8, 0], None),
    ] {
        let bytes = stack(&[&eth(0x8100), tags, &v4(6, &tcp(b""))]);
        assert_eq!(packet(whole(1, &bytes), "tagged").vlan, expected, "{tags:?}");
    }
}

#[test]
fn eight_tags_are_taken_off_and_no_more() {
    for count in [0, 1, 2, 7, 8, 9, 12] {
        let tags = [0x81, 0, 0, 7].repeat(count);
        let bytes = stack(&[&[2; 12], &tags, &[8, 0], &v4(6, &tcp(b""))]);
        let decoded = whole(1, &bytes);
        match decoded {
            Decoded::Packet(packet) => {
                assert_eq!((count <= 8, packet.vlan), (true, (count > 0).then_some(7)))
            }
            Decoded::Skipped(reason) => {
                assert_eq!((count > 8, reason), (true, SkipReason::UnsupportedEncapsulation));
            }
        }
    }
}

#[test]
fn a_cooked_frame_of_version_2_tells_its_interface() {
    let bytes = stack(&[&[8, 0, 0, 0, 0, 0, 0, 7, 0, 1, 0, 6], &[0; 8], &v4(6, &tcp(b""))]);
    assert_eq!(packet(whole(276, &bytes), "cooked v2").link_interface, Some(7));
}

#[test]
#[rustfmt::skip]
fn every_cut_leaves_what_stands_before_it() {
    let plain = stack(&[&eth(0x0800), &v4(6, &tcp(b"hello"))]);
    let datagram = stack(&[&eth(0x0800), &v4(17, &udp(53, b"hello"))]);
    let six = stack(&[&eth(0x86DD), &v6(60, &stack(&[&[6, 0, 1, 4, 0, 0, 0, 0], &tcp(b"hello")]))]);
    let echo = stack(&[&eth(0x0800), &v4(1, &[8, 0, 0, 0, 0, 1, 0, 2, 9, 9])]);
    let mut options = stack(&[&eth(0x0800), &v4(6, &stack(&[&[1; 8], &tcp(b"hello")]))]);
    options[14] = 0x47;
    for (bytes, captured, expected) in [
        (&plain, 13, "header-cut"),
        (&plain, 14, "header-cut"),
        (&plain, 33, "header-cut"),
        (&plain, 34, "10.0.0.1 > 10.0.0.2 tcp none TransportCut"),
        (&plain, 37, "10.0.0.1 > 10.0.0.2 tcp none TransportCut"),
        (&plain, 38, "10.0.0.1 > 10.0.0.2 tcp 1000 443 ports TransportCut"),
        (&plain, 47, "10.0.0.1 > 10.0.0.2 tcp 1000 443 ports TransportCut"),
        (&plain, 48, "10.0.0.1 > 10.0.0.2 tcp 1000 443 len 0/5 TransportCut"),
        (&plain, 53, "10.0.0.1 > 10.0.0.2 tcp 1000 443 len 0/5 TransportCut"),
        (&plain, 54, "10.0.0.1 > 10.0.0.2 tcp 1000 443 len 0/5"),
        (&plain, 57, "10.0.0.1 > 10.0.0.2 tcp 1000 443 len 3/5"),
        (&datagram, 37, "10.0.0.1 > 10.0.0.2 udp none TransportCut"),
        (&datagram, 41, "10.0.0.1 > 10.0.0.2 udp 5000 53 ports TransportCut"),
        (&datagram, 42, "10.0.0.1 > 10.0.0.2 udp 5000 53 len 0/5"),
        (&six, 53, "header-cut"),
        (&six, 54, "fd00::1 > fd00::2 60 none TransportCut"),
        (&six, 57, "fd00::1 > fd00::2 tcp none TransportCut"),
        (&six, 82, "fd00::1 > fd00::2 tcp 1000 443 len 0/5"),
        (&echo, 35, "10.0.0.1 > 10.0.0.2 icmp none TransportCut"),
        (&echo, 36, "10.0.0.1 > 10.0.0.2 icmp type 8 code 0 body 0 TransportCut"),
        (&echo, 43, "10.0.0.1 > 10.0.0.2 icmp type 8 code 0 body 1"),
        (&options, 34, "10.0.0.1 > 10.0.0.2 tcp none TransportCut"),
        (&options, 62, "10.0.0.1 > 10.0.0.2 tcp 1000 443 len 0/5"),
    ] {
        let cut = frame(1, &bytes[..captured], bytes.len());
        assert_eq!(line(decode(&cut)), expected, "{captured} of {} bytes", bytes.len());
    }
}

#[test]
#[rustfmt::skip]
fn lengths_come_from_the_ip_header_unless_offload_left_none() {
    let with = |mut bytes: Vec<u8>, at: usize, value: u16| {
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        bytes
    };
    let four = stack(&[&eth(0x0800), &v4(6, &tcp(b"hello"))]);
    let six = stack(&[&eth(0x86DD), &v6(6, &tcp(b"hello"))]);
    let datagram = stack(&[&eth(0x0800), &v4(17, &udp(53, b"hello"))]);
    let large = stack(&[&eth(0x0800), &v4(6, &tcp(&[7; 70_000]))]);
    let trailer = |bytes: &[u8]| stack(&[bytes, b"padding"]);
    for (case, bytes, expected) in [
        ("Ethernet padding",                    trailer(&four), "10.0.0.1 > 10.0.0.2 tcp 1000 443 len 5/5"),
        ("IPv6 too",                            trailer(&six), "fd00::1 > fd00::2 tcp 1000 443 len 5/5"),
        ("IPv4 total length 0",                 with(four.clone(), 16, 0), "10.0.0.1 > 10.0.0.2 tcp 1000 443 len 5/5"),
        ("IPv6 payload length 0",               with(six, 18, 0), "fd00::1 > fd00::2 tcp 1000 443 len 5/5"),
        ("IPv4 length wrapped around",          with(large, 16, 10), "10.0.0.1 > 10.0.0.2 tcp 1000 443 len 70000/70000"),
        ("a frame shorter than its IP length",  with(four.clone(), 16, 100), "10.0.0.1 > 10.0.0.2 tcp 1000 443 len 5/60"),
        ("UDP length 0",                        with(datagram.clone(), 38, 0), "10.0.0.1 > 10.0.0.2 udp 5000 53 len 5/5"),
        ("UDP length below IP's",               with(datagram.clone(), 38, 10), "10.0.0.1 > 10.0.0.2 udp 5000 53 len 2/2"),
        ("UDP length below 8",                  with(datagram.clone(), 38, 7), "10.0.0.1 > 10.0.0.2 udp 5000 53 ports TransportMalformed"),
        ("UDP length beyond IP's",              with(datagram.clone(), 38, 14), "10.0.0.1 > 10.0.0.2 udp 5000 53 ports TransportMalformed"),
        ("the same in a first fragment",        with(with(datagram, 38, 14), 20, 0x2000), "10.0.0.1 > 10.0.0.2 udp 5000 53 len 5/5"),
        ("TCP offset below 5",                  with(four.clone(), 46, 0x4002), "10.0.0.1 > 10.0.0.2 tcp 1000 443 ports TransportMalformed"),
        ("TCP offset beyond the packet",        with(four.clone(), 46, 0xF002), "10.0.0.1 > 10.0.0.2 tcp 1000 443 ports TransportMalformed"),
        ("IP too short for TCP",                with(four, 16, 36), "10.0.0.1 > 10.0.0.2 tcp 1000 443 ports TransportMalformed"),
    ] {
        assert_eq!(line(whole(1, &bytes)), expected, "{case}");
    }
}

#[test]
fn a_frame_check_sequence_is_no_payload() {
    let bytes = stack(&[&eth(0x86DD), &v6(6, &tcp(b"hello")), &[1, 2, 3, 4]]);
    let mut offload = bytes.clone();
    offload[18..20].copy_from_slice(&[0, 0]);
    let frame = Frame { fcs_bytes: 4, ..frame(1, &offload, offload.len()) };
    assert_eq!(line(decode(&frame)), "fd00::1 > fd00::2 tcp 1000 443 len 5/5");
    // Where the snapshot length cut the frame, what is left of the sequence goes.
    let cut = Frame { bytes: &offload[..offload.len() - 2], ..frame };
    assert_eq!(line(decode(&cut)), "fd00::1 > fd00::2 tcp 1000 443 len 5/5");
}

#[test]
fn fragments_tell_their_place_and_only_the_first_has_a_transport() {
    let place = |more: bool, offset: u32| Some(Fragment { id: 0x1234, offset, more, protocol: 6 });
    for (flags, fragment, expected) in [
        (0x4000u16, None, V4_TCP),
        (0x2000, place(true, 0), V4_TCP),
        (0x2001, place(true, 8), "10.0.0.1 > 10.0.0.2 tcp none LaterFragment"),
        (0x1FFF, place(false, 65_528), "10.0.0.1 > 10.0.0.2 tcp none LaterFragment"),
    ] {
        let mut bytes = stack(&[&eth(0x0800), &v4(6, &tcp(b"hi"))]);
        bytes[20..22].copy_from_slice(&flags.to_be_bytes());
        assert_eq!(line(whole(1, &bytes)), expected, "{flags:#x}");
        assert_eq!(packet(whole(1, &bytes), "fragment").fragment, fragment, "{flags:#x}");
    }
    for (flags, fragment, expected) in [
        (0u16, None, V6_TCP),
        (1, place(true, 0), V6_TCP),
        (8 << 3 | 1, place(true, 64), "fd00::1 > fd00::2 tcp none LaterFragment"),
    ] {
        let flags = flags.to_be_bytes();
        let header = [6, 0, flags[0], flags[1], 0, 0, 0x12, 0x34];
        let bytes = stack(&[&eth(0x86DD), &v6(44, &stack(&[&header, &tcp(b"hi")]))]);
        assert_eq!(line(whole(1, &bytes)), expected, "{flags:?}");
        assert_eq!(packet(whole(1, &bytes), "fragment").fragment, fragment, "{flags:?}");
    }
    // A first fragment too small for its TCP header goes on in the next: it is cut, not malformed.
    let mut tiny = stack(&[&eth(0x0800), &v4(6, &tcp(b"")[..8])]);
    tiny[20] = 0x20;
    assert_eq!(line(whole(1, &tiny)), "10.0.0.1 > 10.0.0.2 tcp 1000 443 ports TransportCut");
}

#[test]
fn extension_headers_are_walked_to_the_transport() {
    let hop_by_hop = [43, 0, 1, 4, 0, 0, 0, 0];
    let routing = [60, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let destination = [51, 0, 1, 4, 0, 0, 0, 0];
    let authentication = [6, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    let chain = stack(&[&hop_by_hop, &routing, &destination, &authentication, &tcp(b"hi")]);
    assert_eq!(line(whole(229, &v6(0, &chain))), V6_TCP);
    let authenticated = stack(&[&authentication, &tcp(b"hi")]);
    assert_eq!(line(whole(228, &v4(51, &authenticated))), V4_TCP);
    for (next, payload, expected) in [
        (59, &b"anything"[..], "fd00::1 > fd00::2 59 none"),
        (50, b"sealed..", "fd00::1 > fd00::2 50 none"),
        (0, &[6, 255, 0, 0], "fd00::1 > fd00::2 0 none TransportMalformed"),
        (44, &[6, 0, 0, 0], "fd00::1 > fd00::2 44 none TransportMalformed"),
    ] {
        assert_eq!(line(whole(229, &v6(next, payload))), expected);
    }
}

#[test]
fn sctp_tells_its_ports_and_other_protocols_their_number() {
    let sctp = [0x0B, 0x59, 0x0B, 0x5A, 0, 0, 0, 1, 0, 0, 0, 0];
    assert_eq!(line(whole(228, &v4(132, &sctp))), "10.0.0.1 > 10.0.0.2 sctp 2905 2906 ports");
    assert_eq!(line(whole(228, &v4(89, &sctp))), "10.0.0.1 > 10.0.0.2 89 none");
}

fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    stack(&[&[8, 0, 0, 0], &(vni << 8).to_be_bytes(), inner])
}

#[test]
#[rustfmt::skip]
fn of_a_tunnel_the_innermost_conversation_is_the_packet() {
    let four = v4_from(9, 6, &tcp(b"hi"));
    let six = v6(6, &tcp(b"hi"));
    let inner = stack(&[&eth(0x0800), &four]);
    let gre = |flags: u16, protocol: u16, more: &[u8], inner: &[u8]| {
        v4(47, &stack(&[&flags.to_be_bytes(), &protocol.to_be_bytes(), more, inner]))
    };
    let ppp = stack(&[&[0xFF, 3, 0, 0x21], &four]);
    let ppp_length = (ppp.len() as u16).to_be_bytes();
    const FOUR: &str = "10.0.0.9 > 10.0.0.2 tcp 1000 443 len 2/2";
    for (case, bytes, expected, vni) in [
        ("IPv4 in IPv4",        v4(4, &four), FOUR, None),
        ("IPv6 in IPv4",        v4(41, &six), V6_TCP, None),
        ("IPv4 in IPv6",        v6(4, &four), FOUR, None),
        ("IPv6 in IPv6",        v6(41, &six), V6_TCP, None),
        ("three deep",          v4(4, &v4(41, &v6(4, &four))), FOUR, None),
        ("GRE, IPv4",           gre(0, 0x0800, &[], &four), FOUR, None),
        ("GRE, all options",    gre(0xB000, 0x86DD, &[0; 12], &six), V6_TCP, None),
        ("GRE, Ethernet",       gre(0x2000, 0x6558, &[0; 4], &inner), FOUR, None),
        ("GRE, MPLS",           gre(0, 0x8847, &[0, 0, 0x11, 64], &four), FOUR, None),
        ("GRE, PPTP",           gre(0x3081, 0x880B, &stack(&[&ppp_length, &[0; 10]]), &ppp), FOUR, None),
        ("GRE, WCCP",           gre(0, 0x883E, &[0; 4], &four), FOUR, None),
        ("ERSPAN I",            gre(0, 0x88BE, &[], &inner), FOUR, None),
        ("ERSPAN II",           gre(0x1000, 0x88BE, &[0, 0, 0, 1, 0x10, 1, 0, 1, 0, 0, 0, 1], &inner), FOUR, None),
        ("ERSPAN III",          gre(0x1000, 0x22EB, &stack(&[&[0, 0, 0, 1, 0x20, 1, 0, 1], &[0; 8]]), &inner), FOUR, None),
        ("ERSPAN III, subheader", gre(0x1000, 0x22EB, &stack(&[&[0; 15], &[1], &[0; 8]]), &inner), FOUR, None),
        ("MPLS in IP",          v4(137, &stack(&[&[0, 0, 0x11, 64], &four])), FOUR, None),
        ("VXLAN",               v4(17, &udp(4789, &vxlan(0x123456, &inner))), FOUR, Some(0x123456)),
        ("VXLAN, Linux's port", v6(17, &udp(8472, &vxlan(7, &inner))), FOUR, Some(7)),
        ("VXLAN, IPv4 inside",  v4(17, &udp(4790, &stack(&[&[0x0C, 0, 0, 1, 0, 0, 7, 0], &four]))), FOUR, Some(7)),
        ("VXLAN, reserved bits", v4(17, &udp(4789, &stack(&[&[0xFF, 9, 9, 1, 0, 0, 7, 9], &inner]))), FOUR, Some(7)),
        ("VXLAN in VXLAN",      v4(17, &udp(4789, &vxlan(7, &stack(&[&eth(0x0800), &v4(17, &udp(4789, &vxlan(8, &inner)))])))), FOUR, Some(8)),
        ("Geneve, Ethernet",    v4(17, &udp(6081, &stack(&[&[0, 0, 0x65, 0x58, 0, 0, 9, 0], &inner]))), FOUR, Some(9)),
        ("Geneve with options", v4(17, &udp(6081, &stack(&[&[1, 0, 0x86, 0xDD, 0, 0, 9, 0, 0, 0, 0, 0], &six]))), V6_TCP, Some(9)),
    ] {
        let decoded = whole(101, &bytes);
        assert_eq!(line(decoded), expected, "{case}");
        let packet = packet(decoded, case);
        assert_eq!(packet.vni, vni, "{case}");
        // The outermost ends, however deep it is.
        let outer = packet.tunnel_ends().map(|(from, to)| format!("{from} > {to}"));
        let (six, four) = ("fd00::1 > fd00::2", "10.0.0.1 > 10.0.0.2");
        assert_eq!(outer.as_deref(), Some(if bytes[0] >> 4 == 6 { six } else { four }), "{case}");
        assert_eq!(packet.ip_bytes.first().map(|first| first >> 4), Some(if packet.src.is_ipv4() { 4 } else { 6 }), "{case}");
    }
}

#[test]
#[rustfmt::skip]
fn where_a_tunnel_holds_no_sound_packet_the_outer_one_stands() {
    let inner = stack(&[&eth(0x0800), &v4_from(9, 6, &tcp(b"hi"))]);
    let arp = stack(&[&eth(0x0806), &[0; 28]]);
    let mut too_long = inner.clone();
    too_long[17] = 99;
    let outer_udp = |length: usize| format!("10.0.0.1 > 10.0.0.2 udp 5000 4789 len {length}/{length}");
    for (case, bytes, expected) in [
        ("ARP in VXLAN",                 v4(17, &udp(4789, &vxlan(1, &arp))), outer_udp(8 + arp.len())),
        ("no I bit",                     v4(17, &udp(4789, &stack(&[&[0; 8], &inner]))), outer_udp(8 + inner.len())),
        ("inner length beyond the outer", v4(17, &udp(4789, &vxlan(1, &too_long))), outer_udp(8 + inner.len())),
        ("nothing in VXLAN",             v4(17, &udp(4789, &[])), outer_udp(0)),
        ("GRE keepalive",                v4(47, &[0, 0, 0, 0]), "10.0.0.1 > 10.0.0.2 47 none".to_owned()),
        ("GRE with routing",             v4(47, &stack(&[&[0x40, 0, 8, 0], &[0; 8], &v4(6, &[])])), "10.0.0.1 > 10.0.0.2 47 none".to_owned()),
        ("IPv6 announced as IPv4",       v4(4, &v6(6, &tcp(b""))), "10.0.0.1 > 10.0.0.2 4 none".to_owned()),
    ] {
        let decoded = whole(101, &bytes);
        assert_eq!(line(decoded), expected, "{case}");
        assert_eq!(packet(decoded, case).vni, None, "{case}");
    }
    let bytes = v4(17, &udp(4789, &vxlan(1, &inner)));
    let none = DecodeOptions { vxlan_ports: Vec::new().into(), ..DecodeOptions::DEFAULT };
    assert_eq!(line(decode_with(&frame(101, &bytes, bytes.len()), &none)), outer_udp(8 + inner.len()));
}

#[test]
fn a_cut_tunnel_still_gives_its_inner_packet() {
    let bytes = v4(17, &udp(4789, &vxlan(1, &stack(&[&eth(0x0800), &v4_from(9, 6, &tcp(&[0; 500]))]))));
    let cut = frame(101, &bytes[..100], bytes.len());
    assert_eq!(line(decode(&cut)), "10.0.0.9 > 10.0.0.2 tcp 1000 443 len 10/500");
}

#[test]
#[rustfmt::skip]
fn an_error_quotes_the_packet_it_is_about() {
    let quoted_tcp = v4_from(9, 6, &tcp(b"")[..8]);
    let mut later = quoted_tcp.clone();
    later[7] = 1;
    let quoted_echo = v4(1, &[8, 0, 0, 0, 0, 1, 0, 2]);
    let six = v6(0, &stack(&[&[17, 0, 1, 4, 0, 0, 0, 0], &udp(53, b"?")]));
    let quote = |src: &str, dst: &str, transport, src_port, dst_port, tcp_seq| {
        Some(Quote { src: ip(src), dst: ip(dst), transport, src_port, dst_port, tcp_seq })
    };
    let of_tcp = quote("10.0.0.9", "10.0.0.2", Transport::Tcp, 1000, 443, Some(7));
    for (protocol, kind, body, expected) in [
        (1, 3, quoted_tcp.clone(), of_tcp),
        (1, 11, quoted_tcp.clone(), of_tcp),
        (1, 12, quoted_tcp.clone(), of_tcp),
        (1, 8, quoted_tcp.clone(), None),                        // echo: no error
        (1, 3, quoted_tcp[..24].to_vec(), quote("10.0.0.9", "10.0.0.2", Transport::Tcp, 1000, 443, None)),
        (1, 3, quoted_tcp[..23].to_vec(), None),
        (1, 3, quoted_tcp[..19].to_vec(), None),
        (1, 3, later, None),                                     // no ports in a later fragment
        (1, 3, quoted_echo, quote("10.0.0.1", "10.0.0.2", Transport::Icmp, 8, 0, None)),
        (1, 3, v4(47, &[]), quote("10.0.0.1", "10.0.0.2", Transport::Other(47), 0, 0, None)),
        (58, 1, six.clone(), quote("fd00::1", "fd00::2", Transport::Udp, 5000, 53, None)),
        (58, 2, six.clone(), quote("fd00::1", "fd00::2", Transport::Udp, 5000, 53, None)),
        (58, 1, six[..47].to_vec(), None),
        (58, 135, six, None),                                    // neighbour discovery
    ] {
        let message = stack(&[&[kind, 1, 0, 0, 0, 0, 0, 0], &body]);
        let bytes = if protocol == 1 { v4(1, &message) } else { v6(58, &message) };
        let packet = packet(whole(101, &bytes), "error");
        let Payload::Icmp(icmp) = packet.payload else { panic!("{packet:?}") };
        assert_eq!((icmp.kind, icmp.code, icmp.body), (kind, 1, body.as_slice()));
        assert_eq!(icmp.quote, expected, "{protocol} {kind} {body:?}");
    }
}
