//! Captures made to be expensive: each costs time in proportion to its length. No clock looks on; what was quadratic
//! before takes many minutes here, and the suite hangs.
//!
//! The fuzzer's inputs are too short to show such costs, so these are written by hand.

use super::targets::{built_in, extracted, judged};
use etherparse::PacketBuilder;
use portproof::capture::write::{PcapStyle, PcapWriter};
use portproof::model::Timestamp;
use portproof::pipeline::Judged;
use portproof::verdict::VerdictRow;

const APPLIANCE: [u8; 4] = [10, 10, 1, 4];
const RESOLVER: [u8; 4] = [168, 63, 129, 16];
const SERVER: [u8; 4] = [203, 0, 113, 9];
const BEGIN: i64 = 1_767_693_600_000_000_000;

type Frames = Vec<(Timestamp, Vec<u8>)>;

/// What an audit says of these frames.
fn audited(frames: &Frames) -> Judged {
    let mut writer = PcapWriter::new(Vec::new(), PcapStyle::ETHERNET).expect("memory");
    for (time, bytes) in frames {
        writer.frame(*time, bytes, bytes.len() as u32).expect("memory");
    }
    judged(vec![extracted("flood.pcap", &writer.into_inner()).expect("a capture")])
}

/// Frames a millisecond apart.
#[derive(Default)]
struct Flood(Frames);

impl Flood {
    fn push(&mut self, bytes: Vec<u8>) {
        let time = Timestamp(BEGIN + self.0.len() as i64 * 1_000_000);
        self.0.push((time, bytes));
    }

    fn udp(&mut self, from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from.0, to.0, 64).udp(from.1, to.1);
        builder.write(&mut bytes, payload).expect("memory");
        self.push(bytes);
    }

    fn query(&mut self, id: u16, name: &str) {
        self.udp((APPLIANCE, 50_000), (RESOLVER, 53), &message(id, 0x0100, name, &[]));
    }

    /// An answer with one record: type and data.
    fn answer(&mut self, id: u16, name: &str, records: &[(&str, u16, &[u8])]) {
        self.udp((RESOLVER, 53), (APPLIANCE, 50_000), &message(id, 0x8180, name, records));
    }

    fn syn(&mut self, port: u16) {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(APPLIANCE, SERVER, 64);
        builder.tcp(port, 443, 1, 1000).syn().write(&mut bytes, &[]).expect("memory");
        self.push(bytes);
    }

    fn rows(&self) -> Vec<VerdictRow> {
        audited(&self.0).rows
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

fn message(id: u16, flags: u16, name: &str, records: &[(&str, u16, &[u8])]) -> Vec<u8> {
    let head = [id, flags, 1, records.len() as u16, 0, 0].map(u16::to_be_bytes).concat();
    let mut bytes = [head, wire_name(name), vec![0, 1, 0, 1]].concat();
    for (owner, kind, data) in records {
        bytes.extend(wire_name(owner));
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 60]);
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(*data);
    }
    bytes
}

#[test]
fn twenty_thousand_answers_to_one_query_are_held_against_the_first() {
    let mut flood = Flood::default();
    flood.query(1, "nginx.org");
    for _ in 0..20_000 {
        flood.answer(1, "nginx.org", &[("nginx.org", 1, &SERVER)]);
    }
    flood.syn(1024);
    let rows = flood.rows();
    let row = rows.iter().find(|row| row.flow.responder_port == 443).expect("the flow");
    assert_eq!(row.names.len(), 1);
    assert_eq!(row.verdict, portproof::audit::Verdict::Documented, "all answers say the same");
    flood.answer(1, "nginx.org", &[("nginx.org", 1, &[203, 0, 113, 10])]);
    let row = flood.rows().into_iter().find(|row| row.flow.responder_port == 443).expect("the flow");
    assert_eq!(row.missing, Some(portproof::audit::Missing::Conflict), "one says something else");
}

#[test]
fn a_query_is_marked_as_answered_once_however_often_both_are_repeated() {
    let mut flood = Flood::default();
    (0..20_000).for_each(|_| flood.query(1, "nginx.org"));
    (0..20_000).for_each(|_| flood.answer(1, "nginx.org", &[("nginx.org", 1, &SERVER)]));
    flood.rows();
}

/// Each flow would carry each name otherwise.
#[test]
fn an_address_with_thousands_of_names_costs_each_flow_a_few_of_them_and_documents_none() {
    let mut flood = Flood::default();
    // Every name that is kept is a documented one; only what is beyond is not.
    for number in 0..4_000u16 {
        let name = if number < 1_024 { "nginx.org".to_owned() } else { format!("n{number}.example") };
        let alias = format!("a{number}.example");
        flood.query(number, &name);
        flood.answer(number, &name, &[(&name, 5, &wire_name(&alias)), (&alias, 1, &SERVER)]);
    }
    (0..200).for_each(|number| flood.syn(1024 + number));
    let rows: Vec<VerdictRow> =
        flood.rows().into_iter().filter(|row| row.flow.responder_port == 443).collect();
    assert_eq!(rows.len(), 200);
    for row in rows {
        assert!((1..=1_024).contains(&row.names.len()), "{} names", row.names.len());
        assert_eq!(row.missing, Some(portproof::audit::Missing::Ambiguous), "{row:?}");
    }
}

#[test]
fn frames_of_which_each_comes_before_all_others_cost_no_more() {
    let frames: Frames =
        (0..300_000).rev().map(|n| (Timestamp(BEGIN + n * 4_000_000_000), Vec::new())).collect();
    assert_eq!(audited(&frames).audit.capture_quality.intervals, 300_000);
}

/// A file that a program wrote: one line, each prefix wrong.
#[test]
fn of_a_policy_of_one_line_with_thousands_of_mistakes_a_thousand_are_told_without_the_line() {
    let prefixes = (0..4_000).map(|n| format!("\"10.0.0.{n}/99\"")).collect::<Vec<_>>().join(",");
    let text = format!("[site]\nname=\"x\"\ncloud=\"public\"\nvirtual_network=[{prefixes}]");
    let problems = portproof::matrix::Site::parse(&text, "site.toml", built_in()).unwrap_err();
    assert_eq!(problems.len(), 1_000);
    assert!(problems.iter().all(|problem| format!("{problem:#}").len() < 1_000));
}
