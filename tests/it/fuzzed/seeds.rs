//! What the corpora began with: captures, scenes and packs of our own, and frames and messages cut from them. Nobody
//! else's bytes are in the repository.

use crate::casebook;
use crate::scene::{Captured, Scene, client_hello, http_connect, http_get, http_status, pcap, pcapng};
use crate::scene::{mongo, pg_startup, smb_negotiate, tds_prelogin};
use portproof::capture::write::{PcapStyle, PcapWriter};
use portproof::capture::{ByteOrder, CaptureReader, Digest, LinkType};
use portproof::decode::{Decoded, Payload, decode};
use portproof::pipeline::{ExtractOptions, extract};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Write};
use std::path::Path;

/// Frames of a piece of a capture: enough for a name, a handshake and an answer, small enough to be changed quickly.
const PIECE: usize = 24;

type Seeds = BTreeMap<&'static str, BTreeSet<Vec<u8>>>;

fn file(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a file of this repository")
}

/// The frames of every capture of ours: those in `captures/`, cut into pieces, and those of the scenes.
fn pieces() -> Vec<Vec<Captured>> {
    let mut pieces = Vec::new();
    for name in ["lab.pcap", "matrix.pcap", "violations.pcap", "blocked.pcap", "mixed.pcapng"] {
        let bytes = file(&format!("captures/{name}"));
        let mut reader =
            CaptureReader::from_read(name, Box::new(Cursor::new(bytes)), Digest::None).expect("a capture");
        let mut frames = Vec::new();
        while let Some(frame) = reader.next() {
            frames.push(Captured {
                time: frame.time.0,
                interface: frame.interface,
                wire_len: frame.wire_len,
                bytes: frame.bytes.to_vec(),
            });
        }
        pieces.extend(frames.chunks(PIECE).map(<[Captured]>::to_vec));
    }
    for (_, (_, build)) in casebook::all() {
        let mut scene = Scene::new();
        build(&mut scene);
        pieces.push(scene.ordered_frames());
    }
    pieces
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// Captures in every form: formats, byte orders, resolutions, compressions.
fn readers(seeds: &mut Seeds, pieces: &[Vec<Captured>]) {
    let few: Vec<&[Captured]> = pieces.iter().step_by(9).map(|piece| &piece[..piece.len().min(4)]).collect();
    let readers = seeds.entry("readers").or_default();
    for frames in few {
        let mut forms = vec![pcapng(frames, None), pcapng(frames, Some(3))];
        for byte_order in [ByteOrder::Big, ByteOrder::Little] {
            for nanoseconds in [false, true] {
                let style = PcapStyle { byte_order, nanoseconds, ..PcapStyle::ETHERNET };
                let mut writer = PcapWriter::new(Vec::new(), style).expect("memory");
                for frame in frames {
                    let time = portproof::model::Timestamp(frame.time);
                    writer.frame(time, &frame.bytes, frame.wire_len).expect("memory");
                }
                forms.push(writer.into_inner());
            }
        }
        for form in forms {
            readers.insert(gzip(&form));
            readers.insert(zstd::encode_all(&form[..], 3).expect("memory"));
            readers.insert(form);
        }
    }
    for other in
        [&b"RTSS\0\0\0\0"[..], b"\xfd7zXZ\0", b"BZh91AY&SY", &[0x04, 0x22, 0x4D, 0x18], b"\x0a\x0d\x0d\x0a"]
    {
        readers.insert(other.to_vec());
    }
}

fn eth(kind: u16) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind.to_be_bytes()].concat()
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let head = [0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, protocol, 0, 0, 10, 10, 1, 4, 203, 0, 113, 9];
    [&head[..], payload].concat()
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let head = [0x60, 0, 0, 0, length[0], length[1], next, 64];
    let (src, dst) = ([0xfd, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 4], [0x20; 16]);
    [&head[..], &src, &dst, payload].concat()
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    [&5000u16.to_be_bytes()[..], &port.to_be_bytes(), &length, &[0, 0], payload].concat()
}

/// One packet behind each link header, in each tunnel, under each extension header that is read.
fn wrapped() -> Vec<(u16, Vec<u8>)> {
    let syn = [&[0x9c, 0x41, 1, 0xbb, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, 2, 4, 0, 0, 0, 0, 0][..], b"hi"].concat();
    let (four, six) = (ipv4(6, &syn), ipv6(6, &syn));
    let inner = [eth(0x0800), four.clone()].concat();
    let gre = |flags: u16, kind: u16, more: &[u8], inner: &[u8]| {
        ipv4(47, &[&flags.to_be_bytes()[..], &kind.to_be_bytes(), more, inner].concat())
    };
    let heads: Vec<(u16, Vec<u8>, &[u8])> = vec![
        (1, eth(0x86DD), &six),
        (1, [&eth(8 + four.len() as u16)[..], &[0xAA, 0xAA, 3, 0, 0, 0, 8, 0]].concat(), &four),
        (1, [&eth(0x88A8)[..], &[0, 5, 0x81, 0, 0, 6, 0x86, 0xDD]].concat(), &six),
        (1, [&eth(0x8926)[..], &[0x80, 0, 0, 1, 8, 0]].concat(), &four),
        (1, [&eth(0x893F)[..], &[0, 0, 0, 1, 0, 0, 8, 0]].concat(), &four),
        (1, [&eth(0x8864)[..], &[0x11, 0, 0, 1, 0, four.len() as u8 + 2, 0, 0x21]].concat(), &four),
        (1, [&eth(0x8847)[..], &[0, 0, 0x10, 64, 0, 0, 0x21, 64]].concat(), &four),
        (1, [&eth(0x8847)[..], &[0, 0, 0x11, 64, 0, 0, 0, 0], &eth(0x0800)].concat(), &four),
        (113, vec![0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0], &four),
        (276, vec![0x86, 0xDD, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0], &six),
        (101, vec![], &four),
        (229, vec![], &six),
        (0, vec![2, 0, 0, 0], &four),
        (108, vec![0, 0, 0, 30], &six),
        (9, vec![0xFF, 3, 0, 0x21], &four),
        (50, vec![0x0F, 0, 8, 0], &four),
        (204, vec![1, 0xFF, 3, 0, 0x21], &four),
        (104, vec![0x0F, 0, 8, 0], &four),
        (9, vec![2, 0x81, 0, 0, 0x11, 64], &four),
        (239, vec![2, 0, 0, 0, 8, 0, 1, 0, 8, 0, 0, 0, 4 + four.len() as u8, 0, 9, 0], &four),
        (242, [&[0; 40][..], &[8, 0, 0, 0]].concat(), &four),
        (192, [&[0, 0, 12, 0, 1, 0, 0, 0, 9, 9, 9, 9][..], &eth(0x0800)].concat(), &four),
    ];
    let mut frames: Vec<(u16, Vec<u8>)> =
        heads.into_iter().map(|(link, head, inner)| (link, [&head[..], inner].concat())).collect();
    let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat();
    let routed = [&[6, 2, 0, 1, 0, 0, 0, 0][..], &[0; 16], &syn].concat();
    let mut fragment = four.clone();
    (fragment[6], fragment[7]) = (0x20, 0);
    frames.extend(
        [
            ipv4(4, &four),
            ipv4(41, &six),
            ipv6(4, &ipv4(41, &six)),
            gre(0, 0x0800, &[], &four),
            gre(0xB000, 0x86DD, &[0; 12], &six),
            gre(0x2000, 0x6558, &[0; 4], &inner),
            gre(0, 0x8847, &[0, 0, 0x11, 64], &four),
            gre(0x3081, 0x880B, &[0, 46, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 3, 0, 0x21], &four),
            gre(0, 0x883E, &[0; 4], &four),
            gre(0, 0x88BE, &[], &inner),
            gre(0x1000, 0x88BE, &[0, 0, 0, 1, 0x10, 1, 0, 1, 0, 0, 0, 1], &inner),
            gre(0x1000, 0x22EB, &[[0; 15].as_slice(), &[1], &[0; 8]].concat(), &inner),
            ipv4(137, &[&[0, 0, 0x11, 64][..], &four].concat()),
            ipv4(17, &udp(4789, &vxlan)),
            ipv4(17, &udp(4790, &[&[0x0C, 0, 0, 1, 0, 0, 7, 0][..], &four].concat())),
            ipv4(17, &udp(6081, &[&[1, 0, 0x86, 0xDD, 0, 0, 9, 0, 0, 0, 0, 0][..], &six].concat())),
            ipv4(1, &[&[3, 13, 0, 0, 0, 0, 0, 0][..], &four].concat()),
            ipv6(58, &[&[1, 1, 0, 0, 0, 0, 0, 0][..], &six].concat()),
            ipv6(0, &[&[60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0][..], &syn].concat()),
            ipv6(43, &routed),
            ipv6(44, &[&[6, 0, 0, 1, 0, 0, 0, 5][..], &syn].concat()),
            ipv4(
                51,
                &[&[6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &syn]
                    .concat(),
            ),
            ipv4(132, &[0x9c, 0x41, 1, 0xbb, 0, 0, 0, 7, 0, 0, 0, 9]),
            fragment,
        ]
        .map(|bytes| (101, bytes)),
    );
    frames
}

/// Sorts a payload to the targets that may read it.
fn payload(seeds: &mut Seeds, ports: [u16; 2], bytes: &[u8]) {
    let target = match bytes {
        [] => return,
        _ if ports.contains(&53) => "dns",
        [20..=23, 3, ..] => "client_hello",
        [b'A'..=b'Z', b'A'..=b'Z', ..] => "http",
        _ => "client_hello",
    };
    seeds.entry(target).or_default().insert(bytes.to_vec());
}

fn frames(seeds: &mut Seeds, pieces: &[Vec<Captured>]) {
    for piece in pieces {
        for captured in piece {
            let cut = (captured.wire_len as usize - captured.bytes.len()) as u16;
            let head = [&1u16.to_be_bytes()[..], &[0], &cut.to_be_bytes()].concat();
            seeds.entry("decode").or_default().insert([&head, &captured.bytes[..]].concat());
            let frame = portproof::capture::Frame {
                number: 1,
                offset: 24,
                time: portproof::model::Timestamp(captured.time),
                interface: captured.interface,
                link_type: LinkType(1),
                fcs_bytes: 0,
                wire_len: captured.wire_len,
                bytes: &captured.bytes,
            };
            let Decoded::Packet(packet) = decode(&frame) else { continue };
            match packet.payload {
                Payload::Tcp(tcp) => payload(seeds, [tcp.src_port, tcp.dst_port], tcp.payload),
                Payload::Udp(udp) => payload(seeds, [udp.src_port, udp.dst_port], udp.payload),
                Payload::Icmp(_) | Payload::Ports(..) | Payload::None => {}
            }
        }
    }
    for (link, bytes) in wrapped() {
        let head = [&link.to_be_bytes()[..], &[0, 0, 0]].concat();
        seeds.entry("decode").or_default().insert([&head, &bytes[..]].concat());
        let style = PcapStyle { link_type: LinkType(link), ..PcapStyle::ETHERNET };
        let mut writer = PcapWriter::new(Vec::new(), style).expect("memory");
        for second in 0..3 {
            let time = portproof::model::Timestamp((1_767_693_600 + second) * 1_000_000_000);
            writer.frame(time, &bytes, bytes.len() as u32).expect("memory");
        }
        seeds.entry("audit").or_default().insert(writer.into_inner());
    }
}

fn messages(seeds: &mut Seeds) {
    // HTTPS with hints, an UPDATE, a record whose length lies, a name of pointers.
    let mut https = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    https.extend(b"\x01a\x07example\x00\x00\x41\x00\x01\xc0\x0c\x00\x41\x00\x01\x00\x00\x00\x3c\x00\x17");
    https.extend(b"\x00\x01\x00\x00\x01\x00\x03\x02h2\x00\x04\x00\x08\xc0\x00\x02\x01\xc0\x00\x02\x02");
    let mut update = https.clone();
    update[2] = 0x28;
    let mut short = https.clone();
    short.truncate(50);
    let over_tcp = [&(https.len() as u16).to_be_bytes()[..], &https, &[0, 9, 1]].concat();
    seeds.entry("dns").or_default().extend([https, update, short, over_tcp]);
    seeds.entry("client_hello").or_default().extend([
        client_hello(None)[5..].to_vec(),
        client_hello(Some("nginx.org"))[5..].to_vec(),
        tds_prelogin(0x12),
        [tds_prelogin(0x12), client_hello(Some("db.example"))].concat(),
        [crate::scene::PG_SSL_REQUEST, &client_hello(Some("db.example"))].concat(),
        pg_startup(),
        mongo(1, 0),
        smb_negotiate(),
    ]);
    let length = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let crypto = |offset: u16, bytes: &[u8]| {
        let numbers = [0x4000 | offset, 0x4000 | bytes.len() as u16].map(u16::to_be_bytes).concat();
        [&[6][..], &numbers, bytes].concat()
    };
    let hello = &client_hello(Some("quic.example"))[5..];
    let (one, two) = hello.split_at(100);
    seeds.entry("quic").or_default().extend([
        length(&crypto(0, hello)),
        [length(&crypto(100, two)), length(&[&[1, 0, 2, 0, 0, 0, 0][..], &crypto(0, one)].concat())].concat(),
        length(&[
            0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x40, 30, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9,
        ]),
        length(&[
            0xf0, 0x6b, 0x33, 0x43, 0xcf, 0, 4, 1, 2, 3, 4, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
        ]),
    ]);
    let chunked = b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nTrailer: a\r\n\r\n";
    seeds.entry("http").or_default().extend([
        http_get("example.org:8080", "/a?b#c"),
        [http_connect("[2001:db8::1]:443"), http_connect("mail.example:25")].concat(),
        [http_status(407), http_status(200), http_status(403)].concat(),
        [
            &b"POST http://user@proxy.example/x HTTP/1.1\r\nHost: a\r\n b\r\n"[..],
            chunked,
            &http_get("b", "/"),
        ]
        .concat(),
        [&b"HTTP/1.1 200 OK\r\n"[..], chunked, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"]
            .concat(),
    ]);
}

fn policies(seeds: &mut Seeds) {
    let rules = seeds.entry("rules").or_default();
    let mut add = |kind: u8, text: &[u8]| rules.insert([&[kind], text].concat());
    for pack in ["veeam/vbazure-overlay.toml", "veeam/vbazure-ports.toml", "platform/azure.toml"] {
        let text = String::from_utf8(file(&format!("rules/{pack}"))).expect("UTF-8");
        add(0, text.as_bytes());
        // The head with each of a few tables: small, so that a change of one byte is soon tried everywhere.
        let mut tables = text.split("\n[[").map(str::to_owned);
        let head = tables.next().unwrap_or_default();
        for table in tables.step_by(5) {
            add(0, format!("{head}\n[[{table}").as_bytes());
        }
    }
    add(1, &file("captures/site.toml"));
    for (_, (_, build)) in casebook::all() {
        let mut scene = Scene::new();
        build(&mut scene);
        add(1, scene.site_toml().as_bytes());
    }
    for cloud in ["Public", "AzureGovernment"] {
        let tag = r#"{"name":"Storage.WestEurope","id":"Storage.WestEurope","properties":{"changeNumber":1,
            "region":"westeurope","regionId":18,"platform":"Azure","systemService":"AzureStorage",
            "addressPrefixes":["13.69.40.0/24","2603:1020:206::/48"],"networkFeatures":["API"]}}"#;
        let other = tag.replace("Storage.WestEurope", "AzureActiveDirectory").replace("/24", "");
        for values in [String::new(), tag.to_owned(), format!("{tag},{other}")] {
            let json = format!(r#"{{"changeNumber":363,"cloud":"{cloud}","values":[{values}]}}"#);
            add(2, json.as_bytes());
        }
    }
}

/// Stretches of conversations as rows for `judge`, each behind its length.
fn rows(seeds: &mut Seeds, pieces: &[Vec<Captured>]) {
    let options = ExtractOptions { keep_bytes: true, ..ExtractOptions::default() };
    let rows = seeds.entry("rows").or_default();
    for piece in pieces {
        let bytes = Box::new(Cursor::new(pcap(piece)));
        let reader = CaptureReader::from_read("seed.pcap", bytes, Digest::None).expect("a capture");
        let mut input = Vec::new();
        for flow in extract("seed.pcap", reader, &options).pieces.iter() {
            let row = flow.expect("nothing was put aside").to_row();
            let Ok(length) = u16::try_from(row.len()) else { continue };
            input.extend(length.to_le_bytes());
            input.extend(row);
        }
        if !input.is_empty() {
            rows.insert(input);
        }
    }
}

/// Pages of ports in every form.
fn pages(seeds: &mut Seeds) {
    let pages = seeds.entry("pages").or_default();
    for name in ["printers.md", "scanners.html", "plotters.adoc"] {
        pages.insert(file(&format!("tests/pages/{name}")));
    }
}

/// Seeds of every target.
fn seeds() -> Seeds {
    let mut seeds = Seeds::new();
    let pieces = pieces();
    readers(&mut seeds, &pieces);
    frames(&mut seeds, &pieces);
    messages(&mut seeds);
    policies(&mut seeds);
    rows(&mut seeds, &pieces);
    self::pages(&mut seeds);
    for piece in &pieces {
        seeds.entry("audit").or_default().extend([pcap(piece), pcapng(piece, Some(1))]);
    }
    seeds
}

/// With PORTPROOF_SEEDS=DIR they are written there, for a fuzzer to begin with.
#[test]
fn seeds_of_every_target_are_cut_from_captures_of_our_own() {
    let seeds = seeds();
    assert!(seeds.len() >= 10 && seeds.values().all(|inputs| !inputs.is_empty()), "{:?}", seeds.keys());
    let Some(folder) = std::env::var_os("PORTPROOF_SEEDS") else { return };
    for (target, inputs) in seeds {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder).expect("a folder");
        for input in inputs {
            let name: String =
                Sha256::digest(&input).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            std::fs::write(folder.join(name), input).expect("a seed can be written");
        }
    }
}
