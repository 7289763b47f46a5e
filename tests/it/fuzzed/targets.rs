//! What must hold whatever the bytes are: one function for each fuzz target, named as the target.
//!
//! The fuzzer (`fuzz/`) and the replay of the corpora (`super`) call the very same functions: what the fuzzer found once
//! is tested for ever, without a fuzzer. Each function is total over its input; whatever it asserts is a law.

use aes_gcm::aead::{Aead, Payload as Sealed};
use aes_gcm::aes::Aes128;
use aes_gcm::aes::cipher::BlockCipherEncrypt;
use aes_gcm::{Aes128Gcm, KeyInit};
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamValue};
use hickory_proto::rr::{DNSClass, RData};
use hkdf::Hkdf;
use portproof::audit::{Audit, FailOn, Totals, Untold};
use portproof::capture::write::{PcapStyle, PcapWriter};
use portproof::capture::{CaptureEnd, CaptureReader, Compression, Digest, Frame, LinkType};
use portproof::decode::{
    DatagramHead, DecodeOptions, Decoded, Packet, Payload, Plain, decode, decode_datagram,
};
use portproof::flow::{PartialFlow, Pieces};
use portproof::matrix::{
    Cloud, Firewall, ImportError, Matrix, Problem, ServiceTags, Site, TagName, firewall_rules, import,
    lint_text,
};
use portproof::model::{
    AppProtocol, DomainName, Endpoint, FramePoint, NANOS_PER_SECOND, Timestamp, Transport,
};
use portproof::names::{
    AddressRecord, AliasRecord, ClientHello, DnsMessage, DnsObservation, Host, KnownHellos, app,
    dns as messages,
};
use portproof::names::{http as web, quic as datagrams, tls};
use portproof::pipeline::{Extract, ExtractOptions, Extracted, Judged, extract, judge};
use portproof::report::{self, Human};
use sha2::Sha256;
use std::io::{self, Cursor, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;

/// A target: its name (that of its binary and of its corpus) and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target there is.
pub const TARGETS: [Target; 10] = [
    ("readers", readers),
    ("decode", decode_frame),
    ("dns", dns),
    ("client_hello", client_hello),
    ("quic", quic),
    ("http", http),
    ("rules", rules),
    ("pages", pages),
    ("rows", rows),
    ("audit", audit),
];

/// A place in the input that the input itself chooses, by its last byte: so the fuzzer can move it.
fn place(data: &[u8]) -> usize {
    data.last().map_or(0, |&last| data.len() * usize::from(last) / 256)
}

/// Whether `inner` lies in `outer`: what is borrowed from a frame is of that frame.
fn lies_in(inner: &[u8], outer: &[u8]) -> bool {
    let (inner, outer) = (inner.as_ptr_range(), outer.as_ptr_range());
    inner.is_empty() || (outer.start <= inner.start && inner.end <= outer.end)
}

// ---------------------------------------------------------------------------------------------------------- readers

/// Frames of one input that are looked at. Compression can make thousands of frames of a byte, and reading takes time for
/// each: that is in the nature of compressed files, and not what is looked for here.
const MAX_FRAMES: usize = 20_000;

/// Gives its bytes in pieces of 1, 2, 3 ... bytes, as a pipe may.
struct Trickle {
    rest: Cursor<Vec<u8>>,
    step: usize,
}

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.step = self.step % 1000 + 1;
        let room = buffer.len().min(self.step);
        self.rest.read(&mut buffer[..room])
    }
}

/// A frame, its place and its bytes, as far as they tell it from others.
#[derive(Debug, PartialEq)]
struct Seen {
    number: u64,
    offset: u64,
    time: Timestamp,
    interface: u32,
    link_type: LinkType,
    wire_len: u32,
    bytes: Vec<u8>,
}

struct ReadThrough {
    frames: Vec<Seen>,
    /// `None` where reading was given up.
    end: Option<CaptureEnd>,
    compression: Compression,
}

/// Reads a capture to its end; the message where it is none.
fn read_through(stream: Box<dyn Read + Send>, stored: u64) -> Result<ReadThrough, String> {
    let mut reader =
        CaptureReader::from_read("fuzzed", stream, Digest::Sha256).map_err(|error| error.to_string())?;
    let mut frames: Vec<Seen> = Vec::new();
    while let Some(frame) = reader.next() {
        assert!(frame.bytes.len() <= frame.wire_len as usize, "captured more than there was");
        if let Some(last) = frames.last() {
            assert!(last.number < frame.number && last.offset < frame.offset, "frames come in order");
        }
        frames.push(Seen {
            number: frame.number,
            offset: frame.offset,
            time: frame.time,
            interface: frame.interface,
            link_type: frame.link_type,
            wire_len: frame.wire_len,
            bytes: frame.bytes.to_vec(),
        });
        if frames.len() == MAX_FRAMES {
            break;
        }
    }
    let given_up = frames.len() == MAX_FRAMES;
    if !given_up {
        assert!(reader.next().is_none(), "the end is final");
    }
    let end = reader.end().cloned();
    match &end {
        None => assert!(given_up, "reading ended and does not say how"),
        Some(CaptureEnd::Complete) => {}
        Some(CaptureEnd::Damaged { frame, offset, problem }) => {
            assert!(!problem.to_string().is_empty());
            let after = |last: &Seen| last.number < *frame && last.offset < *offset;
            assert!(frames.last().is_none_or(after), "damage lies behind what was read");
        }
    }
    let facts = reader.facts();
    assert_eq!(facts.frames, frames.len() as u64);
    assert_eq!(
        facts.snaplen_cut,
        frames.iter().filter(|f| f.bytes.len() < f.wire_len as usize).count() as u64
    );
    let compression = facts.compression;
    let stored_again = reader.finish().expect("memory can be read");
    assert_eq!(stored_again.bytes, stored, "the digest is of the whole file");
    Ok(ReadThrough { frames, end, compression })
}

/// Any bytes as a capture file, compressed or not: frames in order, an end that is said, nothing that depends on how the
/// bytes come in; and what stands before a cut counts as if there were no cut.
pub fn readers(data: &[u8]) {
    let whole = read_through(Box::new(Cursor::new(data.to_vec())), data.len() as u64);
    let Ok(whole) = whole else {
        return;
    };
    if whole.compression != Compression::None {
        return;
    }
    let trickle = Trickle { rest: Cursor::new(data.to_vec()), step: 0 };
    let pieces = read_through(Box::new(trickle), data.len() as u64).expect("it opened before");
    assert_eq!((&pieces.frames, &pieces.end), (&whole.frames, &whole.end), "read in pieces");
    let cut = place(data);
    if let Ok(part) = read_through(Box::new(Cursor::new(data[..cut].to_vec())), cut as u64) {
        assert!(whole.frames.starts_with(&part.frames), "a cut at {cut} changes frames before it");
    }
}

// ----------------------------------------------------------------------------------------------------------- decode

/// The laws of a packet of `frame`.
fn check_packet(packet: &Packet<'_>, frame: &[u8]) {
    assert_eq!(packet.src.is_ipv4(), packet.dst.is_ipv4(), "one family");
    assert!(lies_in(packet.ip_bytes, frame) && lies_in(packet.fragment_bytes, frame));
    assert!(packet.fragment.is_some() || packet.fragment_bytes.is_empty());
    match packet.payload {
        Payload::Tcp(tcp) => {
            assert!(lies_in(tcp.payload, frame));
            assert!(tcp.payload.len() <= tcp.payload_len as usize, "captured more than there was");
        }
        Payload::Udp(udp) => {
            assert!(lies_in(udp.payload, frame));
            assert!(udp.payload.len() <= udp.payload_len as usize, "captured more than there was");
        }
        Payload::Icmp(icmp) => {
            assert!(lies_in(icmp.body, frame));
            if let Some(quote) = icmp.quote {
                assert_eq!(quote.src.is_ipv4(), quote.dst.is_ipv4(), "one family");
            }
        }
        Payload::Ports(..) | Payload::None => {}
    }
}

/// A link type (two bytes), bytes of frame check sequence, bytes that the snapshot length cut (two), and a frame.
pub fn decode_frame(data: &[u8]) {
    let Some((&[link_high, link_low, fcs_bytes, cut_high, cut_low], bytes)) = data.split_first_chunk() else {
        return;
    };
    let frame = Frame {
        number: 1,
        offset: 24,
        time: Timestamp(0),
        interface: 0,
        link_type: LinkType(u16::from_be_bytes([link_high, link_low])),
        fcs_bytes: fcs_bytes % 9,
        wire_len: bytes.len() as u32 + u32::from(u16::from_be_bytes([cut_high, cut_low])),
        bytes,
    };
    let decoded = decode(&frame);
    // What is read in one step is what all steps read.
    let plain = Plain::v4(&frame).or_else(|| Plain::v6(&frame));
    if let Some(plain) = plain.and_then(|plain| plain.tcp().or_else(|| plain.udp(&DecodeOptions::DEFAULT))) {
        assert_eq!(format!("{:?}", Decoded::Packet(plain)), format!("{decoded:?}"));
    }
    let Decoded::Packet(packet) = decoded else { return };
    check_packet(&packet, bytes);
    let Some(fragment) = packet.fragment else { return };
    // As if its fragments had been put together: the first of them carries the headers.
    let head = DatagramHead {
        src: packet.src,
        dst: packet.dst,
        ttl: packet.ttl,
        protocol: fragment.protocol,
        vlan: packet.vlan,
        vni: packet.vni,
    };
    if let Decoded::Packet(inner) = decode_datagram(&head, packet.fragment_bytes) {
        check_packet(&inner, packet.fragment_bytes);
    }
}

// -------------------------------------------------------------------------------------------------------------- dns

/// A message above this length, or with more questions than it can hold, is never given to hickory-proto.
const HICKORY_LIMIT: usize = 4096;

/// What hickory-proto alone makes of a message: the measure for every faster way of reading one.
fn by_hickory(bytes: &[u8]) -> Option<DnsMessage> {
    let mut message = Message::from_vec(bytes).ok()?;
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let name = |name: &hickory_proto::rr::Name| DomainName::from_labels(name.iter());
    let question = message.queries.first();
    let mut out = DnsMessage {
        id: message.metadata.id,
        response: message.metadata.message_type == MessageType::Response,
        opcode: bytes[2] >> 3 & 0x0f,
        truncated: bytes[2] & 2 != 0,
        rcode: message.metadata.response_code.into(),
        qname: question.map(|question| name(&question.name)),
        qtype: question.map_or(0, |question| question.query_type.into()),
        qclass: question.map_or(0, |question| question.query_class.into()),
        addresses: Vec::new(),
        aliases: Vec::new(),
        ttls: Vec::new(),
        svcb_hints: Vec::new(),
        salvaged: false,
        counts: messages::SectionCounts {
            questions: word(4),
            answers: word(6),
            authorities: word(8),
            additionals: word(10),
        },
    };
    if out.opcode == 5 {
        message.answers.clear(); // an UPDATE has prerequisites there
    }
    for record in &message.answers {
        let (owner, ttl) = (name(&record.name), record.ttl);
        out.ttls.push(ttl);
        if record.dns_class != DNSClass::IN {
            continue;
        }
        match &record.data {
            RData::A(a) => out.addresses.push(AddressRecord { owner, ip: a.0.into(), ttl }),
            RData::AAAA(aaaa) => out.addresses.push(AddressRecord { owner, ip: aaaa.0.into(), ttl }),
            RData::CNAME(target) => out.aliases.push(AliasRecord { owner, target: name(&target.0), ttl }),
            RData::SVCB(svcb) => hints(svcb, &mut out.svcb_hints),
            RData::HTTPS(https) => hints(&https.0, &mut out.svcb_hints),
            _ => {}
        }
    }
    Some(out)
}

fn hints(svcb: &SVCB, out: &mut Vec<IpAddr>) {
    for (_, value) in &svcb.svc_params {
        match value {
            SvcParamValue::Ipv4Hint(hint) => out.extend(hint.0.iter().map(|a| IpAddr::V4(a.0))),
            SvcParamValue::Ipv6Hint(hint) => out.extend(hint.0.iter().map(|a| IpAddr::V6(a.0))),
            _ => {}
        }
    }
}

/// A name is safe to print, whoever wrote it.
fn check_name(name: &DomainName) {
    let text = name.as_str();
    assert!(
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()),
        "{text:?}"
    );
}

/// **Law of the fast path.** However a message is read, it says what hickory-proto says where that accepts it, and is
/// marked as salvaged where that refuses it.
fn equals_hickory(bytes: &[u8], parsed: Option<&DnsMessage>) {
    let questions = bytes.get(4..6).map_or(0, |word| usize::from(u16::from_be_bytes([word[0], word[1]])));
    if bytes.len() < 12 || bytes.len() > HICKORY_LIMIT || questions > bytes.len() / 5 {
        return;
    }
    match by_hickory(bytes) {
        Some(expected) => assert_eq!(parsed, Some(&expected)),
        None => assert!(parsed.is_none_or(|message| message.salvaged), "unsound, and not marked: {parsed:?}"),
    }
}

/// Any bytes as a DNS message, and as DNS over TCP.
pub fn dns(data: &[u8]) {
    let parsed = messages::parse(data);
    equals_hickory(data, parsed.as_ref());
    if let Some(message) = &parsed {
        let owners = message.addresses.iter().map(|record| &record.owner);
        let aliases = message.aliases.iter().flat_map(|record| [&record.owner, &record.target]);
        message.qname.iter().chain(owners).chain(aliases).for_each(check_name);
        let reached = message.reached();
        assert!(reached.names.len() <= 64);
        assert!(reached.addresses.iter().all(|record| reached.names.contains(&record.owner)));
        assert!(!messages::qtype_mnemonic(message.qtype).is_empty());
        // Partial rows carry messages from extract to judge.
        let end = |port| Endpoint::new(Ipv4Addr::from(place(data) as u32).into(), port);
        let carried = DnsObservation {
            point: FramePoint::default(),
            client: end(1024),
            resolver: end(53),
            transport: Transport::Udp,
            message: message.clone(),
        };
        assert_eq!(DnsObservation::of_row(&carried.to_row()), Ok(carried));
        if let Some(part) = messages::parse(&data[..place(data)]) {
            assert!(message.addresses.starts_with(&part.addresses), "a cut changes records before it");
            assert!(message.aliases.starts_with(&part.aliases), "a cut changes records before it");
            assert!(message.ttls.starts_with(&part.ttls), "a cut changes records before it");
        }
    }
    let (found, rest) = messages::tcp_messages(data);
    let mut at = 0;
    for (offset, bytes) in &found {
        assert_eq!(*offset, at + 2, "each message begins where the one before ended");
        assert!(lies_in(bytes, data));
        at = offset + bytes.len();
    }
    assert_eq!(rest.len(), data.len() - at);
    assert!(data.ends_with(rest));
}

// --------------------------------------------------------------------------------------------------------------- tls

/// What is known of a cut hello stays known.
fn check_cut_hello(whole: Option<&ClientHello>, part: Option<ClientHello>) {
    // Cut before its version, anything may still be a hello.
    let Some(part) = part.filter(|part| part.legacy_version != 0) else { return };
    let whole = whole.expect("the start of a hello is one, the whole is none");
    if part.complete {
        assert_eq!(whole, &part);
    }
    assert!(part.server_name.is_none() || part.server_name == whole.server_name, "{part:?}: {whole:?}");
    assert!(whole.alpn.starts_with(&part.alpn), "{part:?}: {whole:?}");
    assert!(whole.versions.starts_with(&part.versions), "{part:?}: {whole:?}");
    assert!(!part.ech || whole.ech, "{part:?}: {whole:?}");
}

fn check_hello(hello: Option<&ClientHello>) {
    let Some(hello) = hello else { return };
    hello.server_name.iter().for_each(check_name);
    assert!(hello.alpn.len() <= 32 && hello.alpn.iter().all(|word| word.is_ascii()));
}

/// Any bytes as the start of both directions of a TLS connection, or of what carries TLS.
pub fn client_hello(data: &[u8]) {
    let cut = place(data);
    let (part, rest) = data.split_at(cut);
    for read in [tls::client_hello, tls::client_hello_handshake] {
        let whole = read(data);
        check_hello(whole.as_ref());
        check_cut_hello(whole.as_ref(), read(part));
    }
    // Whatever was read before, hellos that are remembered are those that are read.
    let mut known = KnownHellos::default();
    for stream in [part, data, rest, data] {
        let remembered = known.whole(stream).map(|(hello, end)| ((*hello).clone(), end));
        assert_eq!(remembered, tls::whole_client_hello(stream));
    }
    let mut at = 0;
    for record in tls::records(data) {
        assert_eq!(record.offset, at, "records stand one behind the other");
        assert!(lies_in(record.body, data) && record.body.len() <= usize::from(record.length));
        at += 5 + usize::from(record.length);
    }
    if let Some(version) = tls::server_version(data) {
        assert!(tls::version_name(version).is_some());
    }
    let alert = tls::fatal_alert(data);
    let secret = tls::first_application_data(data);
    if let (Some((alert, _)), Some(secret)) = (alert, secret) {
        assert!(alert < secret, "what follows application data is not in the clear");
    }
    for (client, server) in [(data, &[][..]), (&[][..], data), (part, rest)] {
        app::recognise(client, server);
    }
    for app in AppProtocol::ALL {
        check_hello(app::inner_client_hello(app, data).map(|(_, hello)| hello).as_ref());
    }
}

// -------------------------------------------------------------------------------------------------------------- quic

/// The connection id and the salt of RFC 9001, appendix A and section 5.2: any would do.
const ID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
const SALT: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc,
    0xbb, 0x7f, 0x0a,
];

/// HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
fn expand<const N: usize>(secret: &Hkdf<Sha256>, label: &str) -> [u8; N] {
    let label = format!("tls13 {label}");
    let info = [&[0, N as u8, label.len() as u8][..], label.as_bytes(), &[0]].concat();
    let mut out = [0; N];
    secret.expand(&info, &mut out).expect("a short secret");
    out
}

/// An Initial packet of version 1 with these frames: no fuzzer finds a valid authentication tag, so it is made here.
fn sealed(number: u8, frames: &[u8]) -> Vec<u8> {
    let secret = Hkdf::<Sha256>::new(Some(&SALT), &ID);
    let secret = Hkdf::<Sha256>::from_prk(&expand::<32>(&secret, "client in")).expect("32 bytes");
    let seal = Aes128Gcm::new(&expand::<16>(&secret, "quic key").into());
    let header_key = Aes128::new(&expand::<16>(&secret, "quic hp").into());
    let mut nonce = expand::<12>(&secret, "quic iv");
    nonce[11] ^= number;
    let mut plain = frames.to_vec();
    plain.resize(plain.len().max(20), 0);
    let mut packet = vec![0xc0, 0, 0, 0, 1, ID.len() as u8];
    packet.extend(ID);
    packet.extend([0, 0]); // no source id, no token
    packet.extend((0x4000 | (1 + plain.len() + 16) as u16).to_be_bytes());
    let number_at = packet.len();
    packet.push(number);
    let body = seal.encrypt(&nonce.into(), Sealed { msg: &plain, aad: &packet }).expect("memory");
    packet.extend(body);
    let mut mask = <[u8; 16]>::try_from(&packet[number_at + 4..number_at + 20]).expect("a sample").into();
    header_key.encrypt_block(&mut mask);
    packet[0] ^= mask[0] & 0x0f;
    packet[number_at] ^= mask[1];
    packet
}

/// Datagrams, each with its length (two bytes) before it: once as they stand, once as the frames of Initial packets.
pub fn quic(data: &[u8]) {
    let mut pieces: Vec<&[u8]> = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (piece, after) = after.split_at(length);
        pieces.push(piece);
        rest = after;
    }
    check_hello(datagrams::client_hello(&pieces).as_ref());
    for piece in &pieces {
        app::recognise_udp(piece, &[]);
        app::recognise_udp(&[], piece);
    }
    // Packets beyond 64 are not tried, and longer ones do not fit the length field used here.
    let packets: Vec<Vec<u8>> =
        (0..).zip(pieces.iter().take(70)).map(|(n, p)| sealed(n, &p[..p.len().min(4_000)])).collect();
    let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    let whole = datagrams::client_hello(&packets);
    check_hello(whole.as_ref());
    if let Some(whole) = &whole {
        let again = [packets.clone(), packets].concat();
        assert_eq!(datagrams::client_hello(&again).as_ref(), Some(whole), "what was there first stays");
    }
}

// -------------------------------------------------------------------------------------------------------------- http

fn check_host(host: &Host) {
    if let Some(name) = host.name.as_name() {
        check_name(name);
    }
}

/// Any bytes as either direction of an HTTP/1 connection.
pub fn http(data: &[u8]) {
    let requests = web::requests(data);
    assert!(requests.len() <= 256);
    for pair in requests.windows(2) {
        assert!(pair[0].head_end.is_some_and(|end| end <= pair[1].offset), "one behind the other: {pair:?}");
    }
    for request in &requests {
        assert!(request.offset < data.len() && request.head_end.is_none_or(|end| end <= data.len()));
        assert!(!request.method.is_empty() && request.target.bytes().all(|b| (0x20..=0x7e).contains(&b)));
        request.host.iter().chain(&request.authority).for_each(check_host);
        assert_eq!(
            request.name().is_some(),
            request.destination().is_some_and(|d| d.name.as_name().is_some())
        );
    }
    let statuses = web::statuses(data);
    assert!(statuses.len() <= 256);
    assert!(statuses.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(statuses.iter().all(|(offset, code)| *offset < data.len() && (100..600).contains(code)));
    // A cut changes nothing of the messages whose head lies before it.
    let part = &data[..place(data)];
    let whole_heads = web::requests(part).into_iter().take_while(|request| request.head_end.is_some());
    for (cut, whole) in whole_heads.zip(&requests) {
        assert_eq!(&cut, whole);
    }
    assert!(statuses.iter().zip(web::statuses(part)).all(|(whole, cut)| *whole == cut));
    Host::from_wire(data).iter().for_each(check_host);
    for (client, server) in [(data, &[][..]), (&[][..], data)] {
        app::recognise(client, server);
    }
}

// ------------------------------------------------------------------------------------------------------------- rules

/// The built-in rules.
pub fn built_in() -> &'static Matrix {
    static MATRIX: OnceLock<Matrix> = OnceLock::new();
    MATRIX.get_or_init(Matrix::builtin)
}

/// A mistake is told in lines that cannot steer a terminal, and stands where the text is.
fn check_problems<'a>(problems: impl IntoIterator<Item = &'a Problem>, text: &str) {
    for problem in problems {
        let told = problem.to_string();
        assert!(!told.chars().any(char::is_control), "{told:?}");
        let shown = format!("{problem:#}");
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        let lines = text.bytes().filter(|&b| b == b'\n').count() as u32 + 1;
        if let Some(position) = problem.position.filter(|_| problem.file.starts_with("fuzzed")) {
            assert!((1..=lines).contains(&position.line) && position.column >= 1, "{problem:?}");
        }
    }
}

/// What is asked of a site once it stands.
fn use_site(site: &Site) {
    for address in ["10.10.1.4", "168.63.129.16", "203.0.113.9", "fd10::1:4", "::"] {
        let ip: IpAddr = address.parse().expect("an address");
        let host = site.host_of(ip);
        assert_eq!(site.host_of(host), host, "the host of a host is itself");
        for role in site.roles_of(ip).iter() {
            site.role_names(role);
            site.subject(role);
        }
        site.is_resolver(ip);
        site.in_virtual_network(ip);
        site.is_mirror(ip);
    }
    for firewall in [Firewall::Nftables, Firewall::Nsg] {
        // A site without an address to guard is refused.
        let Ok(rules) = firewall_rules(firewall, built_in(), site, site.subjects()) else { continue };
        assert!(!rules.text.contains(|c: char| c.is_control() && c != '\n'), "{}", rules.text);
        match firewall {
            Firewall::Nsg => drop(serde_json::from_str::<serde_json::Value>(&rules.text).expect("JSON")),
            Firewall::Nftables => {
                let mut code = rules.text.lines().filter(|line| !line.trim_start().starts_with('#'));
                assert!(code.all(|line| line.matches('"').count() % 2 == 0), "{}", rules.text);
            }
        }
    }
}

/// The first byte says what the rest is: a rules pack, a site file, or service tags.
pub fn rules(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    // A file that is no UTF-8 is refused as a whole, before any of this.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match kind % 3 {
        0 => {
            let linted = lint_text("fuzzed.toml", text);
            check_problems(&linted, text);
            match Matrix::parse(&[("fuzzed.toml", text)], built_in().tags().clone()) {
                Ok(matrix) => {
                    check_problems(matrix.warnings(), text);
                    let wrong: Vec<&Problem> = linted.iter().filter(|problem| problem.is_error()).collect();
                    assert!(wrong.is_empty(), "accepted, yet lint says {wrong:?}");
                    for rule in matrix.rules() {
                        assert!(matrix.rule(rule.id.as_str()).is_some());
                        assert!(
                            rule.ports
                                .ranges()
                                .iter()
                                .all(|range| rule.carries(rule.transport, *range.start()))
                        );
                    }
                }
                Err(problems) => {
                    assert!(!problems.is_empty());
                    check_problems(&problems, text);
                }
            }
        }
        1 => match Site::parse(text, "fuzzed.toml", built_in()) {
            Ok(site) => {
                check_problems(site.warnings(), text);
                use_site(&site);
            }
            Err(problems) => {
                assert!(problems.iter().any(Problem::is_error));
                check_problems(&problems, text);
            }
        },
        _ => match ServiceTags::parse("fuzzed.json", text) {
            Ok(tags) => {
                for cloud in [Cloud::Public, Cloud::UsGov, Cloud::China] {
                    tags.regions(cloud);
                    for address in ["13.69.40.17", "2603:1020::1"] {
                        let ip = address.parse().expect("an address");
                        for tag in tags.tags_of(cloud, ip) {
                            assert!(tags.contains(tag, ip), "{}", tags.name(tag));
                        }
                    }
                    for name in ["Storage", "Storage.WestEurope", "AzureActiveDirectory"] {
                        let name: TagName = name.parse().expect("a tag");
                        let _ = tags.resolve(cloud, &name, Some("westeurope"));
                    }
                }
            }
            Err(problems) => {
                assert!(!problems.is_empty());
                check_problems(&problems, text);
            }
        },
    }
}

// ------------------------------------------------------------------------------------------------------------- audit

fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        Site::parse(include_str!("../../../captures/site.toml"), "site.toml", built_in())
            .expect("our own site file")
    })
}

/// A vendor's page in whatever form: a pack that lints without error, or a reason why there is none.
pub fn pages(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match import("fuzzed page", text) {
        Ok(draft) => {
            let linted = lint_text("fuzzed.toml", &draft.text);
            let wrong: Vec<&Problem> = linted.iter().filter(|problem| problem.is_error()).collect();
            assert!(wrong.is_empty(), "drafted, yet lint says {wrong:?}");
            let rules = draft.text.lines().filter(|line| *line == "[[rule]]").count();
            assert_eq!(rules, draft.rules, "every rule is counted");
            assert!(draft.left_out < draft.rows && draft.to_check <= draft.rules, "{draft:?}");
            let steers = |c: char| c.is_control() && c != '\n';
            assert!(!draft.text.contains(steers), "nothing of the page steers a terminal");
        }
        Err(ImportError::Unsound(problem)) => panic!("what is guessed can be read: {problem}"),
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
}

/// Rows for `judge`, each behind its length in two bytes, the lesser first: refused, or read, written again and judged.
pub fn rows(data: &[u8]) {
    let (mut pieces, mut again) = (Pieces::default(), Pieces::default());
    let mut scratch = PartialFlow::nothing();
    let mut rest = data;
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let (row, more) = more.split_at(usize::from(u16::from_le_bytes(*length)).min(more.len()));
        let before = pieces.len();
        let taken = pieces.push_row(row, &mut scratch).is_ok();
        assert_eq!(pieces.len(), before + usize::from(taken), "a row is taken whole or not at all");
        rest = more;
    }
    for flow in pieces.iter() {
        let row = flow.expect("nothing was put aside").to_row();
        again.push_row(&row, &mut scratch).expect("what was read can be written");
    }
    assert_eq!(pieces, again, "what was read is written as it was");
    let mut empty = PcapWriter::new(Vec::new(), PcapStyle::ETHERNET).expect("memory").into_inner();
    let mut capture = extracted("rows.pcap", &std::mem::take(&mut empty)).expect("a capture");
    capture.pieces = pieces;
    check_reports(&judged(vec![capture]), data.len());
}

/// A capture through the map step; `None` if it is none.
pub fn extracted(name: &str, bytes: &[u8]) -> Option<Extract> {
    let reader = CaptureReader::from_read(name, Box::new(Cursor::new(bytes.to_vec())), Digest::None).ok()?;
    let extract = extract(name, reader, &ExtractOptions::default());
    let summary = &extract.summary;
    let skipped: u64 = summary.skipped.values().sum();
    assert_eq!(summary.frames, summary.packets + skipped, "nothing vanishes");
    Some(extract)
}

/// What the reduce step says of captures at the site that `captures/` show.
pub fn judged(captures: Vec<Extract>) -> Judged {
    judge(Extracted { captures, ..Extracted::default() }, built_in(), site()).expect("nothing was put aside")
}

/// An audit reads back from its JSON as it was; each other report can be written, is what it says it is, and steers no
/// terminal. One of these an input, whichever the input's length chooses: all of them take ten times as long.
fn check_reports(judged: &Judged, which: usize) {
    let Judged { audit, rows, names } = judged;
    let mut text = Vec::new();
    report::json(&mut text, audit).expect("memory");
    let again: Audit = serde_json::from_slice(&text).expect("its own JSON");
    assert_eq!(&again, audit, "an audit is rendered again from its JSON");
    let mut bytes = Vec::new();
    let printed = match which % 7 {
        0 => {
            report::json_lines(&mut bytes, audit, rows, FailOn::Medium).expect("memory");
            for line in bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
                serde_json::from_slice::<serde_json::Value>(line).expect("a line of JSON");
            }
            assert!(serde_json::to_string(names).is_ok());
            return;
        }
        1 => {
            report::sarif(&mut bytes, audit).expect("memory");
            serde_json::from_slice::<serde_json::Value>(&bytes).expect("SARIF is JSON");
            return;
        }
        2 => {
            report::csv(&mut bytes, rows).expect("memory");
            String::from_utf8(bytes).expect("text").replace("\r\n", "\n")
        }
        3 => Human { audit, untold: &Untold::default(), colour: false }.to_string(),
        4 => report::markdown(audit),
        5 => report::html(audit),
        _ => report::junit(audit),
    };
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    assert!(!printed.contains(steers), "a control character in a report");
}

/// What an audit says of its flows, without the frames and files that it cites.
#[derive(Debug, PartialEq)]
struct Told {
    totals: Totals,
    flows: Vec<String>,
}

fn told(judged: Judged) -> Told {
    let mut flows: Vec<String> = judged
        .rows
        .iter()
        .map(|row| {
            let flow = &row.flow;
            let (from, to) =
                ((flow.initiator_ip, flow.initiator_port), (flow.responder_ip, flow.responder_port));
            let counts = (flow.packets_fwd, flow.packets_rev, flow.bytes_fwd, flow.bytes_rev);
            let names = (&flow.server_name, &flow.http_host, &row.names);
            let judgement = (row.verdict, flow.outcome, &row.rules, &row.missing, &row.findings);
            format!(
                "{from:?} {to:?} {:?} {counts:?} {names:?} {judgement:?}",
                (flow.proto, flow.first_ts, flow.last_ts)
            )
        })
        .collect();
    flows.sort();
    Told { totals: judged.audit.totals, flows }
}

/// The frames of a capture as one-interface captures: the whole, and cut in two at a frame that the input chooses. Times
/// are made to ascend, since only there the law of scissors is exact.
fn scissors(data: &[u8]) -> Option<(Vec<u8>, [Vec<u8>; 2])> {
    const MOST: usize = 400;
    let mut reader =
        CaptureReader::from_read("fuzzed", Box::new(Cursor::new(data.to_vec())), Digest::None).ok()?;
    let (mut frames, mut link_type) = (Vec::new(), None);
    let mut last = Timestamp(0);
    while let Some(frame) = reader.next() {
        if frame.link_type != *link_type.get_or_insert(frame.link_type) || frames.len() == MOST {
            return None;
        }
        let latest = i64::from(u32::MAX - 1_000_000) * NANOS_PER_SECOND;
        last = frame.time.min(Timestamp(latest)).max(last.plus(1));
        frames.push((last, frame.bytes.to_vec(), frame.wire_len));
    }
    let style = PcapStyle { link_type: link_type?, snaplen_bytes: u32::MAX, ..PcapStyle::ETHERNET };
    let file = |frames: &[(Timestamp, Vec<u8>, u32)]| {
        let mut writer = PcapWriter::new(Vec::new(), style).expect("memory");
        for (time, bytes, wire_len) in frames {
            writer.frame(*time, bytes, *wire_len).expect("memory");
        }
        writer.into_inner()
    };
    let cut = frames.len() * usize::from(*data.last()?) / 256;
    let (one, two) = frames.split_at(cut);
    Some((file(&frames), [file(one), file(two)]))
}

/// Any bytes as a capture, from the file to every report.
pub fn audit(data: &[u8]) {
    let Some(whole) = extracted("fuzzed.pcap", data) else { return };
    let whole = judged(vec![whole]);
    assert_eq!(
        whole.audit.totals.frames,
        whole.audit.totals.packets + whole.audit.totals.skipped.values().sum::<u64>()
    );
    check_reports(&whole, data.len());
    let Some((whole, [one, two])) = scissors(data) else { return };
    let whole = told(judged(vec![extracted("whole.pcap", &whole).expect("a capture")]));
    let parts = [("part-1.pcap", one), ("part-2.pcap", two)];
    let parts = parts.map(|(name, bytes)| extracted(name, &bytes).expect("a capture"));
    assert_eq!(told(judged(parts.into())), whole, "scissors change what an audit says");
}
