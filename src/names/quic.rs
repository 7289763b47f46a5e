//! The ClientHello inside QUIC Initial packets (RFC 9001 section 5.2, RFC 9369).
//!
//! Their keys follow from the connection id in the client's first packet, so anyone on the way can read them; the
//! authentication tag shows that nothing was damaged, not who wrote it.

use super::tls::{self, Bytes, ClientHello};
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::aes::Aes128;
use aes_gcm::aes::cipher::BlockCipherEncrypt;
use aes_gcm::{Aes128Gcm, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;

/// QUIC version 1 (RFC 9000).
pub const VERSION_1: u32 = 1;
/// QUIC version 2 (RFC 9369).
pub const VERSION_2: u32 = 0x6b33_43cf;

/// Longest connection id (RFC 9000 section 17.2).
const MAX_ID: usize = 20;
/// CRYPTO bytes kept for one connection id; hellos with post-quantum keys need about 2 KiB.
const MAX_CRYPTO: usize = 16_384;
/// Packets that are decrypted at most in one call, and connection ids that keys are kept for.
const MAX_PACKETS: usize = 64;
const MAX_KEYS: usize = 4;
const TAG: usize = 16;

/// Whether a version's packets can be read here: 1, 2, the drafts 29 to 34, and the numbers `0x?a?a?a?a` by which clients
/// force a negotiation.
pub fn is_known_version(version: u32) -> bool {
    !Version::candidates(version).is_empty()
}

/// The ClientHello in a client's first datagrams (UDP payloads, in capture order).
///
/// Several datagrams may each carry a part, in any order and with gaps; what lies after a gap is not read. A Retry and a
/// version change are followed. At most 64 packets are tried. `None` if no Initial packet opens or none holds the start
/// of a ClientHello. Datagrams that the capture cut cannot be opened.
pub fn client_hello(datagrams: &[&[u8]]) -> Option<ClientHello> {
    let mut keys: Vec<Connection> = Vec::new();
    let mut best: Option<ClientHello> = None;
    let mut tried = 0;
    for datagram in datagrams {
        let mut rest = *datagram;
        while let Some((packet, after)) = LongPacket::read(rest) {
            rest = after;
            if !packet.is_initial {
                continue;
            }
            tried += 1;
            if tried > MAX_PACKETS {
                return best;
            }
            // The server's answer gives the client another id, but the keys stay those of the first one; after a Retry
            // or a version change there are new ones.
            let opened = (0..keys.len()).rev().find_map(|index| {
                let connection = keys.get(index).filter(|c| packet.versions.contains(&c.version))?;
                Some((index, connection.keys.open(&packet)?))
            });
            let (index, frames) = match opened {
                Some(found) => found,
                None => {
                    let fresh = packet.versions.iter().find_map(|&version| {
                        let keys = Keys::of_client(version, packet.destination_id)?;
                        let frames = keys.open(&packet)?;
                        Some((Connection { version, keys, crypto: Crypto::default() }, frames))
                    });
                    let Some((connection, frames)) = fresh.filter(|_| keys.len() < MAX_KEYS) else {
                        continue;
                    };
                    keys.push(connection);
                    (keys.len() - 1, frames)
                }
            };
            let Some(connection) = keys.get_mut(index) else { continue };
            connection.crypto.take_frames(&frames);
            let Some(hello) = tls::client_hello_handshake(connection.crypto.start()) else { continue };
            if hello.complete {
                return Some(hello);
            }
            if best.as_ref().is_none_or(|best| best.server_name.is_none()) {
                best = Some(hello);
            }
        }
    }
    best
}

struct Connection {
    version: Version,
    keys: Keys,
    crypto: Crypto,
}

/// How the versions differ for us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
    /// Drafts 29 to 32: version 1 with another salt.
    Draft29,
}

impl Version {
    /// The versions that a number may stand for. A client that forces a negotiation (RFC 9000 section 15) protects its
    /// packet as it would for a version of its choice; all candidates share their packet types.
    fn candidates(number: u32) -> &'static [Version] {
        match number {
            VERSION_1 | 0xff00_0021 | 0xff00_0022 => &[Version::One],
            VERSION_2 => &[Version::Two],
            0xff00_001d..=0xff00_0020 => &[Version::Draft29],
            forced if forced & 0x0f0f_0f0f == 0x0a0a_0a0a => &[Version::One, Version::Draft29],
            _ => &[],
        }
    }

    /// RFC 9001 section 5.2, RFC 9369 section 3.3.1, draft-ietf-quic-tls-29 section 5.2.
    fn salt(self) -> [u8; 20] {
        match self {
            Version::One => [
                0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c,
                0xad, 0xcc, 0xbb, 0x7f, 0x0a,
            ],
            Version::Two => [
                0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d,
                0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
            ],
            Version::Draft29 => [
                0xaf, 0xbf, 0xec, 0x28, 0x99, 0x93, 0xd2, 0x4c, 0x9e, 0x97, 0x86, 0xf1, 0x9c, 0x61, 0x11,
                0xe0, 0x43, 0x90, 0xa8, 0x99,
            ],
        }
    }

    /// Labels of key, initialisation vector and header protection key.
    fn labels(self) -> [&'static str; 3] {
        match self {
            Version::One | Version::Draft29 => ["quic key", "quic iv", "quic hp"],
            Version::Two => ["quicv2 key", "quicv2 iv", "quicv2 hp"],
        }
    }

    /// The type bits of Initial and Retry packets.
    fn initial_and_retry(self) -> (u8, u8) {
        match self {
            Version::One | Version::Draft29 => (0, 3),
            Version::Two => (1, 0),
        }
    }
}

/// A packet with a long header, still protected (RFC 9000 section 17.2).
struct LongPacket<'a> {
    /// Never empty.
    versions: &'static [Version],
    is_initial: bool,
    destination_id: &'a [u8],
    /// From the first byte to the packet's end.
    bytes: &'a [u8],
    /// Where the packet number begins in `bytes`.
    number_at: usize,
}

impl<'a> LongPacket<'a> {
    /// The packet at the start of `bytes`, and what follows it in the datagram. `None` for short headers, Retry, padding,
    /// unknown versions, and packets that are cut.
    fn read(bytes: &'a [u8]) -> Option<(LongPacket<'a>, &'a [u8])> {
        let mut rest = Bytes(bytes);
        let first = rest.u8()?;
        let number = rest.take(4)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
        let versions = Version::candidates(number);
        let version = versions.first()?;
        let (initial, retry) = version.initial_and_retry();
        let kind = (first >> 4) & 3;
        if first & 0xc0 != 0xc0 || kind == retry {
            return None;
        }
        let destination_id = rest.vec8().filter(|id| id.len() <= MAX_ID)?;
        rest.vec8().filter(|id| id.len() <= MAX_ID)?;
        if kind == initial {
            let token = varint(&mut rest)?;
            rest.take(token)?;
        }
        let length = varint(&mut rest)?;
        let number_at = bytes.len() - rest.0.len();
        rest.take(length)?;
        let (bytes, after) = bytes.split_at_checked(number_at + length)?;
        Some((LongPacket { versions, is_initial: kind == initial, destination_id, bytes, number_at }, after))
    }
}

/// A variable-length integer (RFC 9000 section 16).
fn varint(bytes: &mut Bytes<'_>) -> Option<usize> {
    let first = bytes.u8()?;
    let mut value = u64::from(first & 0x3f);
    for &byte in bytes.take((1 << (first >> 6)) - 1)? {
        value = (value << 8) | u64::from(byte);
    }
    usize::try_from(value).ok()
}

/// What protects a client's Initial packets.
struct Keys {
    seal: Aes128Gcm,
    iv: [u8; 12],
    header: Aes128,
}

impl Keys {
    /// From the destination connection id of the client's first packet.
    fn of_client(version: Version, destination_id: &[u8]) -> Option<Keys> {
        let initial = Hkdf::<Sha256>::new(Some(&version.salt()), destination_id);
        let secret: [u8; 32] = expand(&initial, "client in")?;
        let secret = Hkdf::<Sha256>::from_prk(&secret).ok()?;
        let [key, iv, header] = version.labels();
        Some(Keys {
            seal: Aes128Gcm::new(&expand::<16>(&secret, key)?.into()),
            iv: expand(&secret, iv)?,
            header: Aes128::new(&expand::<16>(&secret, header)?.into()),
        })
    }

    /// The mask of header protection for a sample of ciphertext (RFC 9001 section 5.4.3).
    fn mask(&self, sample: [u8; 16]) -> [u8; 16] {
        let mut block = sample.into();
        self.header.encrypt_block(&mut block);
        block.into()
    }

    /// The nonce of a packet number (RFC 9001 section 5.3).
    fn nonce(&self, number: u32) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, part) in nonce.iter_mut().rev().zip(number.to_be_bytes().iter().rev()) {
            *byte ^= part;
        }
        nonce
    }

    /// The frames of an Initial packet, if these are its keys.
    fn open(&self, packet: &LongPacket<'_>) -> Option<Vec<u8>> {
        // The sample is taken as if the packet number had 4 bytes (RFC 9001 section 5.4.2).
        let sample = packet.bytes.get(packet.number_at + 4..)?.first_chunk()?;
        let [first_mask, number_mask @ ..] = self.mask(*sample);
        let first = packet.bytes.first()? ^ (first_mask & 0x0f);
        let payload_at = packet.number_at + usize::from(first & 3) + 1;
        let mut header = packet.bytes.get(..payload_at)?.to_vec();
        *header.first_mut()? = first;
        // A client's first packet numbers are small: what is transmitted of them is all of them.
        let mut number = 0;
        for (byte, mask) in header.get_mut(packet.number_at..)?.iter_mut().zip(number_mask) {
            *byte ^= mask;
            number = (number << 8) | u32::from(*byte);
        }
        let sealed = packet.bytes.get(payload_at..).filter(|sealed| sealed.len() > TAG)?;
        self.seal.decrypt(&self.nonce(number).into(), Payload { msg: sealed, aad: &header }).ok()
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
fn expand<const N: usize>(secret: &Hkdf<Sha256>, label: &str) -> Option<[u8; N]> {
    let mut info = u16::try_from(N).ok()?.to_be_bytes().to_vec();
    info.push(u8::try_from(6 + label.len()).ok()?);
    info.extend_from_slice(b"tls13 ");
    info.extend_from_slice(label.as_bytes());
    info.push(0);
    let mut out = [0; N];
    secret.expand(&info, &mut out).ok()?;
    Some(out)
}

/// The CRYPTO stream, pieced together. What was there first stays.
#[derive(Default)]
struct Crypto {
    bytes: Vec<u8>,
    known: Vec<bool>,
}

impl Crypto {
    /// Takes the CRYPTO frames of a packet; ends at the first frame that an Initial packet cannot hold.
    fn take_frames(&mut self, frames: &[u8]) {
        let mut rest = Bytes(frames);
        while self.take_frame(&mut rest).is_some() {}
    }

    /// RFC 9000 sections 12.4 and 19.
    fn take_frame(&mut self, rest: &mut Bytes<'_>) -> Option<()> {
        match rest.u8()? {
            0x00 | 0x01 => {} // PADDING, PING
            kind @ (0x02 | 0x03) => {
                varint(rest)?; // largest acknowledged, delay
                varint(rest)?;
                let ranges = varint(rest)?;
                varint(rest)?;
                for _ in 0..ranges {
                    varint(rest)?;
                    varint(rest)?;
                }
                if kind == 0x03 {
                    for _ in 0..3 {
                        varint(rest)?;
                    }
                }
            }
            0x06 => {
                let offset = varint(rest)?;
                let length = varint(rest)?;
                self.insert(offset, rest.take(length)?);
            }
            _ => return None, // CONNECTION_CLOSE ends the matter, others are not allowed
        }
        Some(())
    }

    fn insert(&mut self, offset: usize, data: &[u8]) {
        let Some(end) = offset.checked_add(data.len()).filter(|&end| end <= MAX_CRYPTO) else { return };
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
            self.known.resize(end, false);
        }
        let places = self.bytes.iter_mut().zip(&mut self.known).skip(offset);
        for ((place, known), &byte) in places.zip(data) {
            if !*known {
                (*place, *known) = (byte, true);
            }
        }
    }

    /// The bytes from the start to the first gap.
    fn start(&self) -> &[u8] {
        let length = self.known.iter().position(|known| !known).unwrap_or(self.bytes.len());
        self.bytes.get(..length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tls::tests::hello_message;
    use super::*;
    use proptest::prelude::*;

    /// RFC 9001 and RFC 9369, appendix A: the destination connection id of their examples.
    const ID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.chars().filter_map(|c| c.to_digit(16)).map(|d| u8::try_from(d).unwrap()).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// The CRYPTO frame of RFC 9001 section A.2 (the same in RFC 9369).
    fn rfc_frame() -> Vec<u8> {
        hex("060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868
             04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578
             616d706c652e636f6dff01000100000a00080006001d00170018001000070005
             04616c706e000500050100000000003300260024001d00209370b2c9caa47fba
             baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400
             0d0010000e0403050306030203080408050806002d00020101001c0002400100
             3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000
             75300901100f088394c8f03e51570806048000ffff")
    }

    /// Protects frames, padded so that the datagram has 1200 bytes, under packet number `number` (4 bytes of it).
    fn initial(version: u32, keys_id: &[u8], id: &[u8], number: u32, frames: &[u8]) -> Vec<u8> {
        let kind = Version::candidates(version)[0];
        let keys = Keys::of_client(kind, keys_id).unwrap();
        let first = 0xc3 | kind.initial_and_retry().0 << 4;
        let mut header = [&[first][..], &version.to_be_bytes()].concat();
        header.push(u8::try_from(id.len()).unwrap());
        header.extend(id);
        header.extend([0, 0]); // no source id, no token
        let length = 1200 - header.len() - 2;
        header.extend((0x4000 | u16::try_from(length).unwrap()).to_be_bytes());
        let number_at = header.len();
        header.extend(number.to_be_bytes());
        let mut plain = frames.to_vec();
        plain.resize(length - 4 - TAG, 0);
        let sealed =
            keys.seal.encrypt(&keys.nonce(number).into(), Payload { msg: &plain, aad: &header }).unwrap();
        let mask = keys.mask(*sealed.first_chunk().unwrap());
        header[0] ^= mask[0] & 0x0f;
        for index in 0..4 {
            header[number_at + index] ^= mask[1 + index];
        }
        [header, sealed].concat()
    }

    fn crypto_frame(offset: usize, data: &[u8]) -> Vec<u8> {
        let number = |n: usize| (0x4000 | u16::try_from(n).unwrap()).to_be_bytes();
        [&[6][..], &number(offset), &number(data.len()), data].concat()
    }

    fn name(hello: Option<ClientHello>) -> Option<String> {
        hello?.server_name.map(|name| name.to_string())
    }

    #[test]
    fn keys_are_those_of_the_rfcs() {
        for (version, key, iv, header) in [
            (
                Version::One,
                "1f369613dd76d5467730efcbe3b1a22d",
                "fa044b2f42a3fd3b46fb255c",
                "9f50449e04a0e810283a1e9933adedd2",
            ),
            (
                Version::Two,
                "8b1a0bc121284290a29e0971b5cd045d",
                "91f73e2351d8fa91660e909f",
                "45b95e15235d6f45a6b19cbcb0294ba9",
            ),
        ] {
            let initial = Hkdf::<Sha256>::new(Some(&version.salt()), &ID);
            let secret: [u8; 32] = expand(&initial, "client in").unwrap();
            let secret = Hkdf::<Sha256>::from_prk(&secret).unwrap();
            let labels = version.labels();
            assert_eq!(expand::<16>(&secret, labels[0]).unwrap().to_vec(), hex(key));
            assert_eq!(expand::<12>(&secret, labels[1]).unwrap().to_vec(), hex(iv));
            assert_eq!(expand::<16>(&secret, labels[2]).unwrap().to_vec(), hex(header));
        }
    }

    #[test]
    fn the_initial_packets_of_the_rfcs_open_and_name_their_server() {
        // Equal header and equal tag under equal keys: the packet is the RFC's, byte by byte.
        for (version, header, tag) in [
            (VERSION_1, "c000000001088394c8f03e5157080000449e7b9aec34", "e221af44860018ab0856972e194cd934"),
            (VERSION_2, "d76b3343cf088394c8f03e5157080000449ea0c95e82", "a18b2faa745b6fe189cf772a9f84cbfc"),
        ] {
            let packet = initial(version, &ID, &ID, 2, &rfc_frame());
            assert_eq!(packet.len(), 1200);
            assert_eq!(packet[..22], hex(header)[..]);
            assert_eq!(packet[1184..], hex(tag)[..]);
            let hello = client_hello(&[&packet]).unwrap();
            assert!(hello.complete);
            assert_eq!(hello.alpn, ["alpn"]);
            assert_eq!(name(Some(hello)).as_deref(), Some("example.com"));
        }
    }

    #[test]
    fn a_hello_in_several_datagrams_out_of_order_is_pieced_together() {
        let message = hello_message(b"a.example");
        let (one, two) = message.split_at(200);
        let (two, three) = two.split_at(100);
        let first =
            initial(VERSION_1, &ID, &ID, 0, &[crypto_frame(300, three), crypto_frame(0, one)].concat());
        // The client may have learnt the server's id meanwhile: the keys stay those of its own first choice.
        let second =
            initial(VERSION_1, &ID, b"server", 1, &[vec![1, 2, 0, 0, 0, 0], crypto_frame(200, two)].concat());
        let hello = client_hello(&[&first, &second]).unwrap();
        assert!(hello.complete);
        assert_eq!(name(Some(hello)).as_deref(), Some("a.example"));
        let part = client_hello(&[&first]).unwrap();
        assert!(!part.complete, "a gap is a gap");
        assert_eq!(client_hello(&[b"noise", &second]), None, "without the first id nothing opens");
    }

    #[test]
    fn a_retry_and_a_coalesced_packet_do_not_hide_the_hello() {
        let message = hello_message(b"a.example");
        let lost = initial(VERSION_1, &ID, &ID, 0, &[1]);
        let again = initial(VERSION_1, b"retried!", b"retried!", 1, &crypto_frame(0, &message));
        assert_eq!(name(client_hello(&[&lost, &again])).as_deref(), Some("a.example"));
        let handshake = [0xe0, 0, 0, 0, 1, 0, 0, 3, 9, 9, 9];
        let coalesced = [&handshake[..], &again].concat();
        assert_eq!(name(client_hello(&[&coalesced])).as_deref(), Some("a.example"));
    }

    #[test]
    fn a_hello_under_a_version_that_forces_negotiation_is_read() {
        let packet = initial(0x0a1a_2a3a, &ID, &ID, 0, &rfc_frame());
        assert_eq!(name(client_hello(&[&packet])).as_deref(), Some("example.com"));
    }

    #[test]
    fn a_damaged_packet_does_not_open() {
        let mut packet = initial(VERSION_1, &ID, &ID, 0, &rfc_frame());
        assert_eq!(client_hello(&[&packet[..1199]]), None, "cut");
        packet[600] ^= 1;
        assert_eq!(client_hello(&[&packet]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(payload in proptest::collection::vec(any::<u8>(), 0..200), version in any::<bool>()) {
            let mut payload = payload;
            if version && payload.len() > 5 {
                payload[..5].copy_from_slice(&[0xc0, 0, 0, 0, 1]);
            }
            client_hello(&[&payload, &payload]);
        }

        #[test]
        fn no_frames_make_it_panic(frames in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut crypto = Crypto::default();
            crypto.take_frames(&frames);
            crypto.start();
            let packet = initial(VERSION_1, &ID, &ID, 0, &frames);
            client_hello(&[&packet]);
        }
    }
}
