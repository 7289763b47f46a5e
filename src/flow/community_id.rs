//! Community ID v1 (<https://github.com/corelight/community-id-spec>), so that rows join with Zeek, Suricata, Arkime
//! and Wireshark.

use crate::decode::icmp_ports;
use crate::model::{Endpoint, Transport};
use data_encoding::BASE64;
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// `1:` and the base64 of SHA-1 over seed 0, addresses, protocol, padding and ports, lesser endpoint first; ICMP
/// messages without a counterpart keep their direction.
pub(super) fn community_id(transport: Transport, src: Endpoint, dst: Endpoint) -> String {
    let one_way = match transport {
        Transport::Icmp | Transport::Icmp6 => {
            let v6 = transport == Transport::Icmp6;
            let kind = src.port as u8;
            // A message has a counterpart exactly when its counterpart's counterpart is itself.
            let (_, answer) = icmp_ports(v6, kind, 255);
            answer == 255
        }
        _ => false,
    };
    let (first, second) =
        if one_way || (src.ip, src.port) <= (dst.ip, dst.port) { (src, dst) } else { (dst, src) };
    // All of it in one go: millions of rows have one.
    let mut input = Input { bytes: [0; MOST_HASHED], len: 0 };
    input.add(&[0, 0]);
    input.ip(first.ip);
    input.ip(second.ip);
    input.add(&[transport.number(), 0]);
    if transport.has_ports() || matches!(transport, Transport::Icmp | Transport::Icmp6) {
        input.add(&first.port.to_be_bytes());
        input.add(&second.port.to_be_bytes());
    }
    let mut text = String::with_capacity(2 + 28);
    text.push_str("1:");
    let digest = Sha1::digest(input.bytes.get(..input.len).unwrap_or_default());
    BASE64.encode_append(&digest, &mut text);
    text
}

/// Bytes that are hashed at the most: seed, two addresses, protocol, padding and two ports.
const MOST_HASHED: usize = 2 + 2 * 16 + 2 + 2 * 2;

struct Input {
    bytes: [u8; MOST_HASHED],
    len: usize,
}

impl Input {
    fn add(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        }
    }

    fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.add(&ip.octets()),
            IpAddr::V6(ip) => self.add(&ip.octets()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn ids_equal_those_of_the_specification() {
        // Baseline values of the specification's repository (baseline_deflt.json).
        for (transport, src, sport, dst, dport, expected) in [
            (Transport::Tcp, "128.232.110.120", 34855, "66.35.250.204", 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            (Transport::Tcp, "66.35.250.204", 80, "128.232.110.120", 34855, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            (Transport::Udp, "192.168.1.52", 54585, "8.8.8.8", 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            (Transport::Icmp, "192.168.0.89", 8, "192.168.0.1", 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            (Transport::Icmp, "192.168.0.1", 0, "192.168.0.89", 8, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
        ] {
            let src = Endpoint::new(src.parse().unwrap(), sport);
            let dst = Endpoint::new(dst.parse().unwrap(), dport);
            assert_eq!(community_id(transport, src, dst), expected, "{src} {dst}");
        }
    }
}
