//! The laws of the house as properties of whole audits: captures made at random, audited in one way and another.
//!
//! Random conversations between few hosts, over few ports and with few sequence numbers, so that reuse, retransmission,
//! resets, silence, split payload and forged answers meet by chance. Times strictly increase: there the laws are exact.

use crate::scene::{Captured, pcapng};
use etherparse::{Icmpv4Type, PacketBuilder, icmpv4::DestUnreachableHeader};
use portproof::audit::{Audit, CaptureSummary, Code, EvidenceFrame, Finding, Severity, Untold};
use portproof::capture::write::{PcapStyle, PcapWriter};
use portproof::capture::{CaptureReader, Digest};
use portproof::flow::{Budget, PartialFlow, Pieces, stitch};
use portproof::matrix::{Matrix, Site};
use portproof::model::{NANOS_PER_SECOND, Timestamp};
use portproof::pipeline::{Extract, ExtractOptions, Extracted, Judged, Judging, extract, judge};
use portproof::report::{Human, TOLD_PER_CODE};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::net::IpAddr;
use std::sync::Arc;

const BEGIN: i64 = 1_767_600_000 * NANOS_PER_SECOND;
const APPLIANCE: [u8; 4] = [10, 10, 1, 4];
const RESOLVER: [u8; 4] = [168, 63, 129, 16];
const SERVERS: [[u8; 4]; 3] = [[203, 0, 113, 9], [203, 0, 113, 10], [10, 10, 2, 7]];
const FIREWALL: [u8; 4] = [10, 10, 1, 1];
const NAMES: [&str; 6] = [
    "nginx.org",
    "edge.nginx.org",
    "evil.example",
    "packages.microsoft.com",
    "apt.postgresql.org",
    "worse.example",
];

const SITE: &str = r#"
[site]
name = "laws"
cloud = "public"
region = "westeurope"
resolvers = ["168.63.129.16"]
virtual_network = ["10.10.0.0/16"]
[roles]
backup-appliance = ["10.10.1.4"]
worker = ["10.10.2.0/24"]
"#;

#[derive(Clone, Debug)]
enum Event {
    /// From the client (or the server), with these flags, a sequence number of few, one of [`SAYINGS`].
    Tcp {
        server: usize,
        client_port: u16,
        from_client: bool,
        flags: u8,
        seq: u32,
        ack: u32,
        says: usize,
    },
    /// A ClientHello that names a server, or one half of it.
    Hello {
        server: usize,
        client_port: u16,
        name: usize,
        part: Part,
        isn: u32,
    },
    /// What follows a ClientHello: a TLS record of this kind.
    Record {
        server: usize,
        client_port: u16,
        name: usize,
        kind: u8,
        isn: u32,
    },
    Udp {
        server: usize,
        client_port: u16,
        from_client: bool,
    },
    Query {
        id: u16,
        name: usize,
    },
    Answer {
        id: u16,
        name: usize,
        alias: Option<usize>,
        server: usize,
        rcode: u8,
    },
    /// An ICMP error quoting the client's SYN.
    Quote {
        server: usize,
        client_port: u16,
        from_target: bool,
        seq: u32,
    },
    Arp,
}

/// Payloads: none, some that say nothing, and one that is too short for that to be certain.
const SAYINGS: [&[u8]; 5] =
    [b"", &[b'x'; 50], &[b'x'; 100], &[b'x'; 10], b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"];

#[derive(Clone, Copy, Debug)]
enum Part {
    First,
    Second,
    Whole,
}

fn event() -> impl Strategy<Value = Event> {
    let server = 0..SERVERS.len();
    let port = prop::sample::select(vec![40_001u16, 40_002]);
    let flags = prop::sample::select(vec![0x02u8, 0x02, 0x12, 0x10, 0x10, 0x18, 0x18, 0x11, 0x04, 0x14]);
    // Within one window of first bytes, and far outside it.
    let number =
        prop::sample::select(vec![4_000u32, 4_001, 5_000, 5_001, 5_101, 900_000, 900_001, 1_531_948_803]);
    let name = 0..NAMES.len();
    let part = prop::sample::select(vec![Part::First, Part::Second, Part::Whole]);
    let isn = prop::sample::select(vec![4_000u32, 5_000, 900_000]);
    prop_oneof![
        8 => (server.clone(), port.clone(), any::<bool>(), flags, number.clone(), number.clone(), 0..SAYINGS.len())
            .prop_map(|(server, client_port, from_client, flags, seq, ack, says)| Event::Tcp {
                server, client_port, from_client, flags, seq, ack, says,
            }),
        2 => (server.clone(), port.clone(), name.clone(), part, isn.clone())
            .prop_map(|(server, client_port, name, part, isn)| Event::Hello { server, client_port, name, part, isn }),
        1 => (server.clone(), port.clone(), name.clone(), prop::sample::select(vec![21u8, 23]), isn)
            .prop_map(|(server, client_port, name, kind, isn)| Event::Record { server, client_port, name, kind, isn }),
        2 => (server.clone(), port.clone(), any::<bool>())
            .prop_map(|(server, client_port, from_client)| Event::Udp { server, client_port, from_client }),
        2 => (1u16..3, name.clone()).prop_map(|(id, name)| Event::Query { id, name }),
        3 => (1u16..3, name.clone(), prop::option::of(name), server.clone(), prop::sample::select(vec![0u8, 0, 0, 3, 5]))
            .prop_map(|(id, name, alias, server, rcode)| Event::Answer { id, name, alias, server, rcode }),
        1 => (server, port, any::<bool>(), number)
            .prop_map(|(server, client_port, from_target, seq)| Event::Quote { server, client_port, from_target, seq }),
        1 => Just(Event::Arp),
    ]
}

/// Events with the silence before each: from microseconds to longer than any timeout.
fn story() -> impl Strategy<Value = Vec<(i64, Event)>> {
    let gap = prop::sample::select(vec![
        50_000i64,
        6_000_000,
        100_000_000,
        250_000_000,
        1_000_000_000,
        2_999_999_999,
        3_000_000_001,
        5_100_000_000,
        30_000_000_000,
        119_000_000_000,
        121_000_000_000,
    ]);
    prop::collection::vec((gap, event()), 1..40)
}

fn client_hello(name: &str) -> Vec<u8> {
    let host = name.as_bytes();
    let mut sni = vec![0];
    sni.extend((host.len() as u16).to_be_bytes());
    sni.extend(host);
    let mut extension = vec![0, 0];
    extension.extend((sni.len() as u16 + 2).to_be_bytes());
    extension.extend((sni.len() as u16).to_be_bytes());
    extension.extend(sni);
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend((extension.len() as u16).to_be_bytes());
    body.extend(extension);
    let mut handshake = vec![1, 0];
    handshake.extend((body.len() as u16).to_be_bytes());
    handshake.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend((handshake.len() as u16).to_be_bytes());
    record.extend(handshake);
    record
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn dns(id: u16, name: &str, answer: Option<(Option<&str>, [u8; 4], u8)>) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    let (flags, records) = match answer {
        None => (0x0100u16, 0u16),
        Some((_, _, rcode)) if rcode > 0 => (0x8180 | u16::from(rcode), 0),
        Some((alias, ..)) => (0x8180, 1 + u16::from(alias.is_some())),
    };
    bytes.extend(flags.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(records.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(wire_name(name));
    bytes.extend([0, 1, 0, 1]);
    if let Some((alias, ip, 0)) = answer {
        let mut owner = wire_name(name);
        if let Some(alias) = alias {
            let target = wire_name(alias);
            bytes.extend(&owner);
            bytes.extend([0, 5, 0, 1, 0, 0, 0, 60]);
            bytes.extend((target.len() as u16).to_be_bytes());
            bytes.extend(&target);
            owner = target;
        }
        bytes.extend(owner);
        bytes.extend([0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend(ip);
    }
    bytes
}

/// The bytes of a frame. `id` goes into the IP header, so that no two frames are copies of one packet.
fn frame(event: &Event, id: u16) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = |from: [u8; 4], to: [u8; 4]| {
        let mut header = etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, from, to).unwrap();
        header.identification = id;
        etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
    };
    let mut bytes = Vec::new();
    match event {
        Event::Tcp { server, client_port, from_client, flags, seq, ack, says } => {
            let (from, to) =
                if *from_client { (APPLIANCE, SERVERS[*server]) } else { (SERVERS[*server], APPLIANCE) };
            let (sport, dport) = if *from_client { (*client_port, 443) } else { (443, *client_port) };
            let syn = flags & 0x02 != 0;
            let mut header = etherparse::TcpHeader::new(sport, dport, *seq, 1000);
            header.acknowledgment_number = *ack;
            (header.fin, header.syn, header.rst) = (flags & 1 != 0, syn, flags & 4 != 0);
            (header.psh, header.ack) = (flags & 8 != 0, flags & 16 != 0);
            let payload = if syn { b"" } else { SAYINGS[*says] };
            ethernet.ip(ip(from, to)).tcp_header(header).write(&mut bytes, payload).unwrap();
        }
        Event::Hello { server, client_port, name, part, isn } => {
            let hello = client_hello(NAMES[*name]);
            let (said, seq) = match part {
                Part::First => (&hello[..40], isn + 1),
                Part::Second => (&hello[40..], isn + 41),
                Part::Whole => (&hello[..], isn + 1),
            };
            let mut header = etherparse::TcpHeader::new(*client_port, 443, seq, 1000);
            (header.ack, header.acknowledgment_number) = (true, 5_001);
            ethernet.ip(ip(APPLIANCE, SERVERS[*server])).tcp_header(header).write(&mut bytes, said).unwrap();
        }
        Event::Record { server, client_port, name, kind, isn } => {
            let seq = isn + 1 + client_hello(NAMES[*name]).len() as u32;
            let mut header = etherparse::TcpHeader::new(*client_port, 443, seq, 1000);
            (header.ack, header.acknowledgment_number) = (true, 5_001);
            // A fatal alert that the name is not known, as RFC 8446 writes it, or two bytes that nobody can read.
            let record = [*kind, 3, 3, 0, 2, 2, 112];
            ethernet
                .ip(ip(APPLIANCE, SERVERS[*server]))
                .tcp_header(header)
                .write(&mut bytes, &record)
                .unwrap();
        }
        Event::Udp { server, client_port, from_client } => {
            let (from, to) =
                if *from_client { (APPLIANCE, SERVERS[*server]) } else { (SERVERS[*server], APPLIANCE) };
            let (sport, dport) = if *from_client { (*client_port, 9000) } else { (9000, *client_port) };
            ethernet.ip(ip(from, to)).udp(sport, dport).write(&mut bytes, b"ping").unwrap();
        }
        Event::Query { id: dns_id, name } => {
            let message = dns(*dns_id, NAMES[*name], None);
            ethernet.ip(ip(APPLIANCE, RESOLVER)).udp(50_000, 53).write(&mut bytes, &message).unwrap();
        }
        Event::Answer { id: dns_id, name, alias, server, rcode } => {
            let alias = alias.filter(|alias| alias != name).map(|alias| NAMES[alias]);
            let message = dns(*dns_id, NAMES[*name], Some((alias, SERVERS[*server], *rcode)));
            ethernet.ip(ip(RESOLVER, APPLIANCE)).udp(53, 50_000).write(&mut bytes, &message).unwrap();
        }
        Event::Quote { server, client_port, from_target, seq } => {
            let mut quoted = Vec::new();
            PacketBuilder::ipv4(APPLIANCE, SERVERS[*server], 60)
                .tcp(*client_port, 443, *seq, 1000)
                .syn()
                .write(&mut quoted, &[])
                .unwrap();
            let sender = if *from_target { SERVERS[*server] } else { FIREWALL };
            let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FilterProhibited);
            ethernet.ip(ip(sender, APPLIANCE)).icmpv4(kind).write(&mut bytes, &quoted[..28]).unwrap();
        }
        Event::Arp => {
            bytes.extend([0xff; 6]);
            bytes.extend([2, 0, 0, 0, 0, 1, 8, 6]);
            bytes.extend([0, 1, 8, 0, 6, 4, 0, 1]);
            bytes.extend([0; 20]);
        }
    }
    bytes
}

type Frames = Vec<(Timestamp, Vec<u8>)>;

fn frames(story: &[(i64, Event)]) -> Frames {
    let mut time = BEGIN;
    let mut frames = Vec::new();
    for (order, (gap, event)) in story.iter().enumerate() {
        time += gap;
        frames.push((Timestamp(time), frame(event, order as u16 + 1)));
    }
    frames
}

fn one_capture(name: &str, frames: &[(Timestamp, Vec<u8>)], options: &ExtractOptions) -> Extract {
    let mut writer = PcapWriter::new(Vec::new(), PcapStyle::ETHERNET).unwrap();
    for (time, bytes) in frames {
        writer.frame(*time, bytes, bytes.len() as u32).unwrap();
    }
    let reader =
        CaptureReader::from_read(name, Box::new(Cursor::new(writer.into_inner())), Digest::None).unwrap();
    extract(name, reader, options)
}

fn audit(captures: Vec<Extract>) -> Judged {
    let matrix = Matrix::builtin();
    let site = Site::parse(SITE, "site.toml", &matrix).unwrap();
    judge(Extracted { captures, ..Extracted::default() }, &matrix, &site).unwrap()
}

/// Everything that an audit says but its inputs, with frames counted over all captures.
fn comparable(judged: Judged, first_frame: &BTreeMap<String, u64>) -> String {
    let mut audit: Audit = judged.audit;
    audit.inputs = Vec::<CaptureSummary>::new();
    let whole = |frame: &mut EvidenceFrame| {
        frame.frame += first_frame[&*frame.capture];
        frame.capture = "whole".into();
    };
    for finding in &mut audit.findings {
        finding.evidence.iter_mut().for_each(whole);
    }
    let mut rows = judged.rows;
    for row in &mut rows {
        let begin = first_frame[&*row.flow.capture];
        row.flow.capture = "whole".into();
        for proof in &mut row.flow.proof {
            proof.frame += first_frame[&*proof.capture];
            proof.capture = "whole".into();
        }
        // `frames` lists only those of the capture in which the flow begins.
        row.flow.frames.iter_mut().for_each(|frame| *frame += begin);
        row.flow.frames = row.flow.proof.iter().map(|proof| proof.frame).collect();
        row.flow.frames.dedup();
    }
    let rows: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
    format!("{}\n{}", serde_json::to_string_pretty(&audit).unwrap(), rows.join("\n"))
}

fn whole(frames: &Frames, options: &ExtractOptions) -> String {
    let first = BTreeMap::from([("whole".to_owned(), 0)]);
    comparable(audit(vec![one_capture("whole", frames, options)]), &first)
}

/// Cuts at the given places into captures, given in an order that the seed decides.
fn cut(frames: &Frames, places: &[prop::sample::Index], backwards: bool, options: &ExtractOptions) -> String {
    let places = places.iter().map(|place| place.index(frames.len() + 1)).collect();
    cut_at(frames, places, backwards, options)
}

fn cut_at(frames: &Frames, mut places: Vec<usize>, backwards: bool, options: &ExtractOptions) -> String {
    places.extend([0, frames.len()]);
    places.sort_unstable();
    places.dedup();
    let mut captures = Vec::new();
    let mut first = BTreeMap::new();
    for (order, ends) in places.windows(2).enumerate() {
        let name = format!("part-{order:02}.pcap");
        first.insert(name.clone(), ends[0] as u64);
        captures.push(one_capture(&name, &frames[ends[0]..ends[1]], options));
    }
    if backwards {
        captures.reverse();
    }
    comparable(audit(captures), &first)
}

/// The law drew the first and the last of these: how far one stream came said nothing of another, far from it.
#[test]
fn a_stream_far_from_the_one_that_a_syn_ack_tells_of_is_kept_wherever_it_is_cut() {
    let (server, client_port, isn) = (0, 40_002, 900_000);
    let said = |from_client, flags, seq, ack| Event::Tcp {
        server,
        client_port,
        from_client,
        flags,
        seq,
        ack,
        says: 0,
    };
    let of = |part, name, isn| Event::Hello { server, client_port, name, part, isn };
    let hello = |part| of(part, 0, isn);
    let (syn, syn_ack) = (|| said(true, 2, isn, 0), || said(true, 18, 4000, 4000));
    let options = ExtractOptions::default();
    for (story, is_named) in [
        (vec![syn(), hello(Part::Second), syn_ack(), hello(Part::Whole)], true),
        (vec![syn(), syn_ack(), hello(Part::Whole), hello(Part::Second)], true),
        (vec![syn(), syn_ack(), hello(Part::Second), hello(Part::First)], true),
        (vec![syn(), hello(Part::First), syn_ack(), hello(Part::Second)], true),
        (
            vec![
                of(Part::First, 1, isn),
                of(Part::First, 0, 4000),
                said(false, 18, 4000, isn + 1),
                hello(Part::Second),
            ],
            true,
        ),
        (vec![of(Part::First, 1, isn), of(Part::First, 0, 4000), hello(Part::Second)], false),
    ] {
        let story: Vec<(i64, Event)> = story.into_iter().map(|event| (50_000, event)).collect();
        let frames = frames(&story);
        let whole = whole(&frames, &options);
        assert_eq!(whole.contains("\"server_name\":\""), is_named, "{story:?}");
        for place in 1..frames.len() {
            assert_eq!(cut_at(&frames, vec![place], false, &options), whole, "{place} {story:?}");
        }
    }
}

fn stretches(extract: &Extract) -> Vec<PartialFlow> {
    extract.pieces.iter().collect::<Result<_, _>>().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scissors_change_no_byte_of_the_audit(
        story in story(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        backwards in any::<bool>(),
    ) {
        let frames = frames(&story);
        let options = ExtractOptions::default();
        prop_assert_eq!(whole(&frames, &options), cut(&frames, &places, backwards, &options));
    }

    #[test]
    fn a_flow_table_of_size_one_changes_no_audit(story in story()) {
        let frames = frames(&story);
        let tiny = ExtractOptions { table_capacity: 1, ..ExtractOptions::default() };
        prop_assert_eq!(whole(&frames, &ExtractOptions::default()), whole(&frames, &tiny));
    }

    #[test]
    fn stitching_does_not_depend_on_the_order_of_the_stretches(story in story(), seed in any::<prop::sample::Index>()) {
        let options = ExtractOptions { table_capacity: 1, ..ExtractOptions::default() };
        let pieces = stretches(&one_capture("whole", &frames(&story), &options));
        let mut turned = pieces.clone();
        turned.rotate_left(seed.index(pieces.len().max(1)).min(pieces.len()));
        turned.reverse();
        prop_assert_eq!(stitch(pieces), stitch(turned));
    }

    #[test]
    fn what_is_packed_comes_back_as_it_was(story in story(), keep_bytes in any::<bool>()) {
        let options = ExtractOptions { table_capacity: 1, keep_bytes, ..ExtractOptions::default() };
        let pieces = stretches(&one_capture("whole", &frames(&story), &options));
        let again: Pieces = pieces.iter().cloned().collect();
        prop_assert_eq!(again.iter().collect::<Result<Vec<_>, _>>().unwrap(), pieces);
    }

    /// TLS read where it arrives, or from bytes that are kept: the one audit, whatever is cut.
    #[test]
    fn kept_bytes_and_read_bytes_give_the_same_audit(
        story in story(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let frames = frames(&story);
        let kept = ExtractOptions { keep_bytes: true, ..ExtractOptions::default() };
        prop_assert_eq!(whole(&frames, &kept), cut(&frames, &places, false, &ExtractOptions::default()));
    }

    #[test]
    fn stitching_what_is_stitched_changes_nothing(story in story()) {
        let flows = stitch(stretches(&one_capture("whole", &frames(&story), &ExtractOptions::default())));
        prop_assert_eq!(stitch(flows.clone()), flows);
    }

    /// A row goes to the partitions of both its endpoints, and only that of the resolved initiator keeps the flow: all
    /// partitions together give each flow once.
    #[test]
    fn every_flow_is_kept_once_at_its_initiator(story in story(), partitions in 1u8..5) {
        let pieces = stretches(&one_capture("whole", &frames(&story), &ExtractOptions::default()));
        let partition = |ip: IpAddr| match ip { IpAddr::V4(ip) => ip.octets()[3] % partitions, IpAddr::V6(_) => 0 };
        let none = |_: portproof::model::Transport, _: u16| false;
        let began_by = |flow: &PartialFlow| {
            let (side, _) = portproof::flow::initiator(flow, &none);
            flow.key.endpoint(side).ip
        };
        let mut kept = Vec::new();
        for number in 0..partitions {
            let here = |piece: &&PartialFlow| {
                partition(piece.key.low.ip) == number || partition(piece.key.high.ip) == number
            };
            let rows: Vec<PartialFlow> = pieces.iter().filter(here).cloned().collect();
            kept.extend(stitch(rows).into_iter().filter(|flow| partition(began_by(flow)) == number));
        }
        kept.sort_by_key(|flow| (flow.key, flow.begin()));
        prop_assert_eq!(kept, stitch(pieces));
    }

    #[test]
    fn nothing_vanishes(story in story()) {
        let frames = frames(&story);
        let extract = one_capture("whole", &frames, &ExtractOptions::default());
        let summary = &extract.summary;
        prop_assert_eq!(summary.frames, frames.len() as u64);
        prop_assert_eq!(summary.frames, summary.packets + summary.skipped.values().sum::<u64>());
        let in_flows: u64 = stretches(&extract).iter().map(|piece| piece.low.packets + piece.high.packets).sum();
        let quotes = story.iter().filter(|(_, event)| matches!(event, Event::Quote { .. })).count() as u64;
        prop_assert_eq!(summary.packets, in_flows + quotes);
    }

    /// Stretches of the rows are judged apart, at the same time, and added up.
    #[test]
    fn rows_judged_apart_come_to_the_same(story in story(), stretches in 1usize..6, jobs in 1usize..4) {
        let frames = frames(&story);
        let matrix = Matrix::builtin();
        let site = Site::parse(SITE, "site.toml", &matrix).unwrap();
        let audit = |stretches, jobs, rows: bool| {
            let captures = vec![one_capture("whole", &frames, &ExtractOptions::default())];
            let extracted = Extracted { captures, jobs, ..Extracted::default() };
            let mut judging = Judging::new(extracted, &matrix, &site).unwrap().parted(stretches);
            let mut none = |_| Ok(());
            let audit = judging.audit(if rows { Some(&mut none) } else { None }).unwrap();
            // The flows are given up before the audit is put into words.
            assert_eq!(judging.audit_alone().unwrap(), audit);
            serde_json::to_string_pretty(&audit).unwrap()
        };
        let whole = audit(1, 1, false);
        let judging = || {
            let captures = vec![one_capture("whole", &frames, &ExtractOptions::default())];
            Judging::new(Extracted { captures, ..Extracted::default() }, &matrix, &site).unwrap()
        };
        assert_summary_is_the_same(judging, 1);
        prop_assert_eq!(&audit(stretches, jobs, false), &whole);
        prop_assert_eq!(&audit(stretches, jobs, true), &whole);
    }

    #[test]
    fn the_same_captures_give_the_same_bytes(story in story()) {
        let frames = frames(&story);
        prop_assert_eq!(whole(&frames, &ExtractOptions::default()), whole(&frames, &ExtractOptions::default()));
    }
}

/// The terminal says the same where no more than the first findings of each kind are put into words.
fn assert_summary_is_the_same<'a>(judging: impl Fn() -> Judging<'a>, most: usize) {
    let all = judging().audit_alone().unwrap();
    let (some, untold) = judging().summary_alone(most).unwrap();
    assert_eq!(all.totals, some.totals);
    let kind = |finding: &Finding| (finding.severity, finding.code);
    let groups = || all.findings.chunk_by(|a, b| kind(a) == kind(b));
    let first: Vec<&Finding> = groups().flat_map(|group| group.iter().take(most)).collect();
    assert_eq!(some.findings.iter().collect::<Vec<_>>(), first);
    let more = groups().filter(|group| group.len() > most);
    let more = more.map(|group| (kind(&group[0]), (group.len() - most) as u64));
    assert!(untold.counts.iter().map(|(&kind, &count)| (kind, count)).eq(more), "{untold:?}");
    // The blocks of a rule are told of by all of them.
    let page = |audit: &Audit, untold: &Untold| Human { audit, untold, colour: false }.to_string();
    if most == TOLD_PER_CODE {
        assert_eq!(page(&some, &untold), page(&all, &Untold::default()));
        assert!(!untold.counts.is_empty());
    }
    let coverage = |page: String| page.split("\nCoverage").nth(1).map(str::to_owned);
    assert_eq!(coverage(page(&some, &untold)), coverage(page(&all, &Untold::default())));
    for severity in [Severity::High, Severity::Medium, Severity::Note] {
        let told = some.findings.iter().filter(|finding| finding.severity == severity).count() as u64;
        let whole = all.findings.iter().filter(|finding| finding.severity == severity).count() as u64;
        assert_eq!(told + untold.of(severity), whole);
    }
}

/// Two names of one address that no rule tells apart: their flows share a ruling, and have lines of their own in the From x To
/// table.
#[test]
fn names_of_one_ruling_have_lines_of_their_own_in_the_table_of_conversations() {
    let connection = |client_port, name, id| {
        let tcp = |from_client, flags, seq, ack| Event::Tcp {
            server: 0,
            client_port,
            from_client,
            flags,
            seq,
            ack,
            says: 0,
        };
        let answer = Event::Answer { id, name, alias: None, server: 0, rcode: 0 };
        [Event::Query { id, name }, answer, tcp(true, 2, 4_000, 0), tcp(false, 0x12, 5_000, 4_001)]
    };
    let [evil, worse] = [2, 5];
    let events = connection(40_001, evil, 1).into_iter().chain(connection(40_002, worse, 2));
    let story: Vec<(i64, Event)> = events.map(|event| (50_000_000, event)).collect();
    let judged = audit(vec![one_capture("whole", &frames(&story), &ExtractOptions::default())]);
    for name in [evil, worse] {
        let lines: Vec<u64> = judged
            .audit
            .conversations
            .iter()
            .filter(|line| line.to == NAMES[name])
            .map(|line| line.flows)
            .collect();
        assert_eq!(lines, [1], "{:?}", judged.audit.conversations);
    }
}

/// One rule is blocked by a reset, another by a firewall that says so: of the second finding only that is known where one is told.
#[test]
fn how_a_rule_is_blocked_is_known_also_of_findings_that_are_not_told() {
    let at_server = |server, name, id| {
        let tcp = |from_client, flags, seq, ack| Event::Tcp {
            server,
            client_port: 40_001,
            from_client,
            flags,
            seq,
            ack,
            says: 0,
        };
        let answer = Event::Answer { id, name, alias: None, server, rcode: 0 };
        [Event::Query { id, name }, answer, tcp(true, 2, 4_000, 0), tcp(false, 0x14, 0, 4_001)]
    };
    let [first, second] = [at_server(0, 0, 1), at_server(1, 4, 2)];
    let quote = Event::Quote { server: 1, client_port: 40_001, from_target: false, seq: 4_000 };
    let events = first.into_iter().chain(second.into_iter().take(3)).chain([quote]);
    let story: Vec<(i64, Event)> = events.map(|event| (50_000_000, event)).collect();
    let frames = frames(&story);
    let matrix = Matrix::builtin();
    let site = Site::parse(SITE, "site.toml", &matrix).unwrap();
    let judging = || {
        let captures = vec![one_capture("whole", &frames, &ExtractOptions::default())];
        Judging::new(Extracted { captures, ..Extracted::default() }, &matrix, &site).unwrap()
    };
    assert_summary_is_the_same(judging, 1);
    let (_, untold) = judging().summary_alone(1).unwrap();
    assert!(!untold.blocks.is_empty(), "{untold:?}");
}

/// What becomes of the first words of one connection, told from captures that hold these of its frames.
fn told(frames: &Frames, captures: &[Vec<usize>], options: &ExtractOptions) -> String {
    let mut pieces = Vec::new();
    for (order, places) in captures.iter().enumerate() {
        let frames: Frames = places.iter().map(|&place| frames[place].clone()).collect();
        for mut stretch in stretches(&one_capture("part", &frames, options)) {
            stretch.renumber(|_| portproof::model::CaptureId::new(order as u32));
            pieces.push(stretch);
        }
    }
    let names: Vec<Arc<str>> = (0..captures.len()).map(|order| order.to_string().into()).collect();
    let (spans, sight) = (portproof::model::Spans::default(), portproof::flow::HostSight::default());
    let finisher = portproof::flow::Finisher {
        spans: &spans,
        sight: &sight,
        host_of: &|ip| ip,
        is_service: &|_, port| port == 443,
    };
    let mut rows = String::new();
    for flow in stitch(pieces) {
        let mut row = finisher.finish(&flow).record(&names);
        for proof in &mut row.proof {
            let capture: usize = proof.capture.parse().unwrap();
            proof.frame = captures[capture][proof.frame as usize - 1] as u64 + 1;
            proof.capture = "whole".into();
        }
        row.capture = "whole".into();
        row.frames = Vec::new();
        rows += &serde_json::to_string(&row).unwrap();
        rows.push('\n');
    }
    rows
}

/// Every order of a few segments of one connection, among them copies: whatever is cut, and whether bytes are kept, the
/// frames that prove its name are the first.
#[test]
fn first_words_are_told_from_their_first_copies_however_they_are_cut() {
    let (server, client_port, name, isn) = (0, 40_001, 1, 4_000);
    let syn = Event::Tcp { server, client_port, from_client: true, flags: 2, seq: isn, ack: 0, says: 0 };
    let hello = |part| Event::Hello { server, client_port, name, part, isn };
    let record = |kind| Event::Record { server, client_port, name, kind, isn };
    // It overlaps both halves of a hello.
    let other = Event::Tcp { server, client_port, from_client: true, flags: 16, seq: isn, ack: 901, says: 1 };
    let [whole, first, second] = [Part::Whole, Part::First, Part::Second].map(hello);
    let kinds = [syn, whole, first, second, record(21), record(23), other];
    let choices = kinds.len();
    let plain = ExtractOptions::default();
    let kept = ExtractOptions { keep_bytes: true, ..ExtractOptions::default() };
    let tiny = ExtractOptions { table_capacity: 1, ..ExtractOptions::default() };
    // Whoever says hello may not have begun the connection: then it is no client's.
    let begun = |from_client, flags, seq| {
        let ack = if from_client { 901 } else { 0 };
        Event::Tcp { server, client_port, from_client, flags, seq, ack, says: 0 }
    };
    let by_other = [begun(false, 2, 900), begun(true, 18, isn)];
    let orders = |count: u32| {
        (0..choices.pow(count))
            .map(move |order| (0..count).map(move |place| order / choices.pow(place) % choices))
    };
    let plain_orders = orders(4).map(|order| order.map(|kind| kinds[kind].clone()).collect::<Vec<_>>());
    let others = orders(2)
        .map(|order| by_other.iter().cloned().chain(order.map(|kind| kinds[kind].clone())).collect());
    let mut named = 0;
    for events in plain_orders.chain(others) {
        let story: Vec<(i64, Event)> = events.into_iter().map(|event| (50_000_000, event)).collect();
        let frames = frames(&story);
        let captures = |of: &[&[usize]]| of.iter().map(|places| places.to_vec()).collect::<Vec<_>>();
        let whole = captures(&[&[0, 1, 2, 3]]);
        let expected = told(&frames, &whole, &kept);
        named += usize::from(expected.contains("edge.nginx.org"));
        for (what, captures, options) in [
            ("read where they arrive", &whole, &plain),
            ("a table of one", &whole, &tiny),
            ("a capture each, bytes kept", &captures(&[&[0], &[1], &[2], &[3]]), &kept),
            ("a capture each", &captures(&[&[0], &[1], &[2], &[3]]), &plain),
            ("captures of two", &captures(&[&[0, 1], &[2, 3]]), &plain),
            ("captures of three", &captures(&[&[0, 1, 2], &[3]]), &plain),
            ("captures of two places, in turn", &captures(&[&[0, 2], &[1, 3]]), &plain),
            ("one place sees what is between", &captures(&[&[0, 3], &[1, 2]]), &plain),
        ] {
            // What was said before a SYN is another connection's, and whose it is a capture alone cannot tell. Nor has a hello that
            // one place read the bytes that another saw said otherwise, and before.
            let in_turn = captures.iter().any(|places| places.windows(2).any(|pair| pair[0] + 1 < pair[1]));
            let otherwise = |(_, event): &(i64, Event)| matches!(event, Event::Tcp { says: 1, .. });
            let begun = matches!(story.first(), Some((_, Event::Tcp { from_client: true, flags: 2, .. })));
            if !in_turn || (begun && !story.iter().any(otherwise)) {
                assert_eq!(told(&frames, captures, options), expected, "{what}: {story:?}");
            }
        }
    }
    assert!(named > 200, "{named} of the orders have a name");
}

/// A segment of one connection to port 443, whose initial sequence numbers are 4000 and 5000.
fn segment(from_client: bool, flags: u8, seq: u32, said: &[u8]) -> Vec<u8> {
    let (src, dst) = if from_client { (APPLIANCE, SERVERS[0]) } else { (SERVERS[0], APPLIANCE) };
    let (src_port, dst_port) = if from_client { (40_001, 443) } else { (443, 40_001) };
    let mut header = etherparse::TcpHeader::new(src_port, dst_port, seq, 1000);
    (header.syn, header.ack) = (flags & 2 != 0, flags & 16 != 0);
    header.acknowledgment_number = if from_client { 5_001 } else { 4_001 };
    let mut bytes = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    ethernet.ipv4(src, dst, 64).tcp_header(header).write(&mut bytes, said).unwrap();
    bytes
}

/// The first words of a connection, all but the last byte, then the same SYN again and other words: what came first counts, read where
/// it arrives or kept.
#[test]
fn words_behind_a_repeated_syn_are_read_beside_those_before_it() {
    let hellos = ["worse.example", "edge.nginx.org"].map(client_hello);
    let alert = [22, 3, 3, 0, 6, 2, 0, 0, 2, 3, 3, 21, 3, 3, 0, 2, 2, 112];
    for (first, second) in [
        (&hellos[0][..hellos[0].len() - 1], &hellos[1][..]),
        (&hellos[0][..60], &hellos[1]),
        (b"EHLO x\r\n", &[b'x'; 50]),
        (&hellos[0], &hellos[1]),
    ] {
        for syn_too in [false, true] {
            let mut said = vec![
                segment(true, 2, 4_000, b""),
                segment(false, 18, 5_000, b""),
                segment(true, 24, 4_001, first),
            ];
            said.extend(syn_too.then(|| segment(true, 2, 4_000, b"")));
            said.extend([segment(false, 18, 5_000, b""), segment(true, 24, 4_001, second)]);
            said.push(segment(false, 24, 5_001, &alert));
            let frames: Vec<(Timestamp, Vec<u8>)> =
                (0..).map(|at: i64| Timestamp(BEGIN + at * 50_000_000)).zip(said).collect();
            let kept = ExtractOptions { keep_bytes: true, ..ExtractOptions::default() };
            assert_eq!(
                whole(&frames, &ExtractOptions::default()),
                whole(&frames, &kept),
                "{first:?} {syn_too}"
            );
        }
    }
}

/// What one interface saw in a tenth of a second, then what another saw then: each packet is one, from the first on.
#[test]
fn copies_that_are_written_behind_all_that_another_interface_saw_are_copies() {
    let said = |number: i64| segment(true, 24, 4_001 + number as u32, &number.to_be_bytes());
    let captured = |interface: u32, number: i64| {
        let bytes = said(number);
        let time = BEGIN + number * 1_000_000 + i64::from(interface) * 2_000_000;
        Captured { time, interface, wire_len: bytes.len() as u32, bytes }
    };
    let frames: Vec<Captured> = [0, 1]
        .into_iter()
        .flat_map(|interface| (0..100).map(move |number| captured(interface, number)))
        .collect();
    let file = pcapng(&frames, None);
    let reader = CaptureReader::from_read("two", Box::new(Cursor::new(file)), Digest::None).unwrap();
    let summary = extract("two", reader, &ExtractOptions::default()).summary;
    assert_eq!((summary.packets, summary.duplicates, summary.same_interface_copies), (200, 100, 0));
}

/// A fatal alert in front of application data in one segment comes before it.
#[test]
fn an_alert_comes_before_the_data_behind_it_in_one_segment() {
    let hello = [22, 3, 3, 0, 42, 2, 0, 0, 38, 3, 3];
    let mut said = hello.to_vec();
    said.resize(hello.len() + 32, 7);
    said.extend([0, 0x13, 1, 0, 21, 3, 3, 0, 2, 2, 40, 23, 3, 3, 0, 2, 1, 1]);
    let segments = [
        segment(true, 2, 4_000, b""),
        segment(false, 18, 5_000, b""),
        segment(true, 24, 4_001, &client_hello("evil.example")),
        segment(false, 24, 5_001, &said),
    ];
    let frames: Vec<(Timestamp, Vec<u8>)> =
        (0..).map(|at: i64| Timestamp(BEGIN + at * 50_000_000)).zip(segments).collect();
    for keep_bytes in [false, true] {
        let options = ExtractOptions { keep_bytes, ..ExtractOptions::default() };
        let rows = audit(vec![one_capture("whole", &frames, &options)]).rows;
        assert_eq!(rows[0].flow.outcome, portproof::flow::Outcome::TlsRefused, "{keep_bytes}");
    }
}

/// The SYN of a connection is dated after what follows it, as clocks that are set back do, and it was put aside before that came.
#[test]
fn times_that_run_backward_do_not_part_a_connection() {
    let other = frame(&Event::Arp, 1);
    let segments = [
        (12_000, segment(true, 2, 4_000, b"")),
        (13_000, segment(false, 18, 5_000, b"")),
        (10_000, segment(true, 16, 4_001, b"")),
        (11_000, segment(true, 24, 4_001, b"GET / HTTP/1.1\r\n\r\n")),
    ];
    let frames: Vec<(Timestamp, Vec<u8>)> = std::iter::once((0, other))
        .chain(segments)
        .map(|(time, bytes)| (Timestamp(BEGIN + time), bytes))
        .collect();
    let flows = |captures: Vec<Extract>| audit(captures).rows.len();
    let options = ExtractOptions::default();
    let tiny = ExtractOptions { table_capacity: 1, ..ExtractOptions::default() };
    assert_eq!(flows(vec![one_capture("whole", &frames, &options)]), 1);
    // Another conversation takes the only place in between.
    let mut between = frames.clone();
    between.insert(
        3,
        (Timestamp(BEGIN + 9_000), frame(&Event::Udp { server: 1, client_port: 7, from_client: true }, 2)),
    );
    assert_eq!(flows(vec![one_capture("whole", &between, &tiny)]), 2);
    let parts =
        [0..3, 3..5].map(|part| one_capture(&format!("part-{}", part.start), &frames[part], &options));
    assert_eq!(flows(parts.into()), 1);
}

/// Times that run backwards by more than the silence that ends a flow: files written one after the other into one.
#[test]
fn a_udp_silence_ends_a_flow_in_whatever_order_its_sides_were_written() {
    let udp = |id| frame(&Event::Udp { server: 0, client_port: 40_001, from_client: true }, id);
    let at = |seconds: i64| Timestamp(BEGIN + seconds * 1_000_000_000);
    let frames = vec![(at(300), udp(1)), (at(0), udp(2)), (at(10), udp(3))];
    let options = ExtractOptions::default();
    let flows = |captures: Vec<Extract>| audit(captures).rows.len();
    let parts =
        [0..1, 1..3].map(|part| one_capture(&format!("part-{}", part.start), &frames[part], &options));
    assert_eq!(flows(vec![one_capture("whole", &frames, &options)]), 2);
    assert_eq!(flows(parts.into()), 2);
}

/// Twenty thousand exchanges, each cut in two since the table holds few, most of them put aside on disk.
#[test]
fn what_waits_in_a_temporary_file_changes_no_audit() {
    let frames: Vec<(Timestamp, Vec<u8>)> = [true, false]
        .into_iter()
        .flat_map(|from_client| {
            (0..20_000u16).map(move |n| {
                let event = Event::Udp { server: 0, client_port: 20_000 + n, from_client };
                let seconds = if from_client { 0 } else { 30 };
                (Timestamp(BEGIN + seconds * 1_000_000_000 + i64::from(n) * 1_000_000), frame(&event, n))
            })
        })
        .collect();
    let aside =
        ExtractOptions { table_capacity: 64, budget: Arc::new(Budget::new(0)), ..ExtractOptions::default() };
    assert!(one_capture("whole", &frames, &aside).pieces.spilled_bytes() > 1_000_000);
    assert_eq!(whole(&frames, &ExtractOptions::default()), whole(&frames, &aside));
}

/// The audit of one capture whose rows are parted into so many stretches, with a sink for rows or without.
fn parted(frames: &Frames, stretches: usize, jobs: usize, rows: bool) -> Audit {
    let matrix = Matrix::builtin();
    let site = Site::parse(SITE, "site.toml", &matrix).unwrap();
    let captures = vec![one_capture("whole", frames, &ExtractOptions::default())];
    let extracted = Extracted { captures, jobs, ..Extracted::default() };
    let judging = Judging::new(extracted, &matrix, &site).unwrap().parted(stretches);
    let mut none = |_| Ok(());
    judging.audit(if rows { Some(&mut none) } else { None }).unwrap()
}

/// Four rounds of a hundred attempts at one name, whose answer is too old from the second one on: what is told of the later ones is
/// told by any number of threads, though each tells no more than the first flows of a stretch in detail.
#[test]
fn findings_of_many_flows_are_told_alike_by_any_number_of_threads() {
    let lookup =
        [Event::Query { id: 1, name: 2 }, Event::Answer { id: 1, name: 2, alias: None, server: 0, rcode: 0 }];
    let attempts = (0..400u16).map(|n| {
        let client_port = 40_000 + n;
        let syn = Event::Tcp { server: 0, client_port, from_client: true, flags: 2, seq: 1, ack: 0, says: 0 };
        (if n % 100 == 0 { 100_000_000_000_000 } else { 1_000_000 }, syn)
    });
    let mut story: Vec<(i64, Event)> =
        lookup.into_iter().map(|event| (50_000_000, event)).chain(attempts).collect();
    // The first round follows the answer at once.
    story[2].0 = 1_000_000;
    let frames = frames(&story);
    let audit = |stretches, jobs, rows| parted(&frames, stretches, jobs, rows);
    for stretches in [4, 5] {
        let one = audit(stretches, 1, false);
        let finding = one.findings.iter().find(|finding| finding.count == 400).unwrap();
        let expired = finding.details.iter().filter(|line| line.contains("past its time")).count();
        assert_eq!((expired, finding.evidence.len()), (1, Finding::MOST_EVIDENCE), "{:?}", finding.details);
        assert_eq!(audit(stretches, 1, true), one, "{stretches} stretches, rows");
        for jobs in 2..=stretches {
            assert_eq!(audit(stretches, jobs, false), one, "{stretches} stretches, {jobs} threads");
        }
    }
}

/// Forty attempts at one name, of which some of the first work and the last are blocked: that they did both is told, and what became
/// of their rule, wherever rows are parted and whoever judges them.
#[test]
fn what_worked_in_one_stretch_and_was_blocked_in_another_is_intermittent() {
    let lookup =
        [Event::Query { id: 1, name: 0 }, Event::Answer { id: 1, name: 0, alias: None, server: 0, rcode: 0 }];
    let attempts = (0..40u16).flat_map(|n| {
        let client_port = 40_000 + n;
        let packet = |from_client, flags, seq, ack| Event::Tcp {
            server: 0,
            client_port,
            from_client,
            flags,
            seq,
            ack,
            says: 0,
        };
        let shake = [packet(true, 2, 1, 0), packet(false, 0x12, 1, 2), packet(true, 0x10, 2, 2)];
        shake.into_iter().take(if n < 20 && n % 3 == 0 { 3 } else { 1 })
    });
    let mut story: Vec<(i64, Event)> =
        lookup.into_iter().chain(attempts).map(|event| (1_000_000, event)).collect();
    // Silence counts once it has lasted.
    story.push((10_000_000_000, Event::Udp { server: 0, client_port: 50_000, from_client: true }));
    let frames = frames(&story);
    let audit = |stretches, jobs, rows| parted(&frames, stretches, jobs, rows);
    let whole = audit(1, 1, false);
    assert!(whole.findings.iter().any(|finding| finding.code == Code::Intermittent), "{:?}", whole.findings);
    for stretches in 2..=6 {
        assert_eq!(audit(stretches, 1, true), whole, "{stretches} stretches, rows");
        for jobs in 1..=3 {
            assert_eq!(audit(stretches, jobs, false), whole, "{stretches} stretches, {jobs} threads");
        }
    }
}

/// Sixty hosts of a role go where no rule lets them, in four rounds, the least first, last or anywhere; one of them has two addresses,
/// and begins with the lesser of them. What a summary tells is what a whole audit tells of the first of them, wherever rows are
/// parted and whoever judges them: what is left out in one stretch is not told of another.
#[test]
fn a_summary_tells_the_first_findings_whole_whatever_comes_first() {
    let attempt = |round: u16, host: u8| {
        let mut bytes = Vec::new();
        // The host of two addresses: what it does first is done by the lesser one.
        let last = if host == 0 && round > 0 { 200 } else { host + 1 };
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let ip = ethernet.ipv4([10, 10, 2, last], [198, 51, 100, 7], 60);
        ip.tcp(40_000 + round, 22, 1, 1000).syn().write(&mut bytes, &[]).unwrap();
        bytes
    };
    let matrix = Matrix::builtin();
    let site = SITE.replace(r#"["10.10.2.0/24"]"#, r#"["10.10.2.0/24", ["10.10.2.200", "10.10.2.1"]]"#);
    let site = Site::parse(&site, "site.toml", &matrix).unwrap();
    let orders: [fn(u8) -> u8; 4] = [|n| n, |n| 59 - n, |n| (n as u16 * 37 % 60) as u8, |n| (n + 1) % 60];
    for order in orders {
        let rounds = (0..4u16).flat_map(|round| (0..60u8).map(move |n| (round, n)));
        let frames: Frames = rounds
            .zip(0..)
            .map(|((round, n), at)| (Timestamp(BEGIN + at * 10_000_000_000), attempt(round, order(n))))
            .collect();
        for (stretches, jobs) in [(1, 1), (2, 1), (3, 2), (4, 4)] {
            let judging = || {
                let captures = vec![one_capture("whole", &frames, &ExtractOptions::default())];
                let extracted = Extracted { captures, jobs, ..Extracted::default() };
                Judging::new(extracted, &matrix, &site).unwrap().parted(stretches)
            };
            [1, 3, TOLD_PER_CODE, 60, 61]
                .into_iter()
                .for_each(|most| assert_summary_is_the_same(judging, most));
            let (some, untold) = judging().summary_alone(3).unwrap();
            let told = some.findings.iter().filter(|finding| finding.code == Code::UnexpectedAttempt);
            let told: Vec<u64> = told.map(|finding| finding.count).collect();
            assert_eq!((told, untold.of(Severity::Medium)), (vec![4, 4, 4], 57), "{stretches} stretches");
        }
    }
}

/// Four hundred strangers knock twice each, in two rounds: wherever rows are parted, a hundred have findings of their own, and
/// what the others did is told in one, each of them counted once.
#[test]
fn strangers_are_folded_alike_wherever_rows_are_parted() {
    let knock = |round: u16, stranger: u16| {
        let mut bytes = Vec::new();
        let [_, low] = stranger.to_be_bytes();
        let from = [198, 19, (stranger / 200) as u8, low];
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let ip = ethernet.ipv4(from, APPLIANCE, 60);
        ip.tcp(40_000 + round, 22, 1, 1000).syn().write(&mut bytes, &[]).unwrap();
        bytes
    };
    let at =
        |round: u16, n: u16| Timestamp(BEGIN + i64::from(round) * 100_000_000_000 + i64::from(n) * 1_000_000);
    // The second round the other way round, so that other strangers come first in a later stretch.
    let first = (0..400).map(|n| (at(0, n), knock(0, n)));
    let second = (0..400).map(|n| (at(1, n), knock(1, 399 - n)));
    let frames: Frames = first.chain(second).collect();
    let matrix = Matrix::builtin();
    let site = Site::parse(SITE, "site.toml", &matrix).unwrap();
    let told = |stretches: usize| {
        let audit = parted(&frames, stretches, 2, false);
        let of_strangers = || audit.findings.iter().filter(|finding| finding.to.port == Some(22));
        let common = of_strangers().filter(|finding| finding.from.ip.is_none());
        let titles: Vec<String> = common.map(|finding| finding.title.clone()).collect();
        let sum: u64 = of_strangers().map(|finding| finding.count).sum();
        (of_strangers().count() - titles.len(), titles, sum)
    };
    let whole = told(1);
    assert_eq!((whole.0, whole.1.len(), whole.2), (100, 1, 800));
    assert!(whole.1[0].starts_with("and 300 more addresses"), "{:?}", whole.1);
    for stretches in 1..6 {
        assert_eq!(told(stretches), whole, "{stretches} stretches");
        // In a summary, too, each stranger is told, folded or counted once.
        let judging = || {
            let captures = vec![one_capture("whole", &frames, &ExtractOptions::default())];
            let extracted = Extracted { captures, ..Extracted::default() };
            Judging::new(extracted, &matrix, &site).unwrap().parted(stretches)
        };
        assert_summary_is_the_same(judging, TOLD_PER_CODE);
    }
}
