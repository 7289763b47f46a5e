//! DNS messages (RFC 1035) as evidence: what was asked, what was answered.
//!
//! hickory-proto decodes; what it refuses as a whole is salvaged record by record by a bounded walker of our own, and
//! marked. Plain messages take a short way (`plain`) that must say the same. Only the *answer* section is evidence:
//! authority and additional records name nothing.

use super::plain::{self, Plain, Taker};
use crate::model::DomainName;
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamValue};
use hickory_proto::rr::{DNSClass, Name, RData, Record};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The port of DNS over UDP and TCP. Multicast DNS (5353) and LLMNR (5355) are other protocols: they name nothing here.
pub const PORT: u16 = 53;

pub(super) const HEADER: usize = 12;
/// Names of a chain that are followed; real chains have fewer than ten.
const MAX_CHAIN: usize = 64;
/// Compression pointers followed within one name. Honest senders use one or two; without a limit a message of 64 KiB
/// can cost millions of steps.
const MAX_POINTERS: usize = 64;
/// Longer messages (only TCP carries them) go to the walker at once: hickory follows any number of pointers for each
/// name, which is quadratic in the length of the message.
pub(super) const MAX_FOR_HICKORY: usize = 4096;

pub(super) const TYPE_A: u16 = 1;
pub(super) const TYPE_CNAME: u16 = 5;
pub(super) const TYPE_AAAA: u16 = 28;
pub(super) const TYPE_OPT: u16 = 41;
const TYPE_SVCB: u16 = 64;
const TYPE_HTTPS: u16 = 65;
pub(super) const CLASS_IN: u16 = 1;
const OPCODE_UPDATE: u8 = 5;

/// What a DNS message says. Lists keep the order of the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsMessage {
    /// Transaction id.
    pub id: u16,
    /// Whether it is a response (QR).
    pub response: bool,
    /// 0 QUERY, 4 NOTIFY, 5 UPDATE ... (RFC 6895).
    pub opcode: u8,
    /// TC: the sender cut it.
    pub truncated: bool,
    /// Response code, with the high bits of an OPT record where there is one (RFC 6891 section 6.1.3).
    pub rcode: u16,
    /// Name of the first question.
    pub qname: Option<DomainName>,
    /// Type of the first question; 0 without question.
    pub qtype: u16,
    /// Class of the first question; 0 without question.
    pub qclass: u16,
    /// A and AAAA records of the answer section, class IN.
    pub addresses: Vec<AddressRecord>,
    /// CNAME records of the answer section, class IN, those synthesised from a DNAME included.
    pub aliases: Vec<AliasRecord>,
    /// Time to live of every record of the answer section, of any type, in seconds.
    pub ttls: Vec<u32>,
    /// Address hints of HTTPS and SVCB records of the answer section (RFC 9460 section 7.3): ipv4hint and ipv6hint in
    /// the order of the record.
    pub svcb_hints: Vec<IpAddr>,
    /// The message was not sound as a whole; the fields above hold the records that are.
    pub salvaged: bool,
    /// Number of records that the header claims for each section.
    pub counts: SectionCounts,
}

/// The four counts of the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectionCounts {
    /// QDCOUNT.
    pub questions: u16,
    /// ANCOUNT.
    pub answers: u16,
    /// NSCOUNT.
    pub authorities: u16,
    /// ARCOUNT.
    pub additionals: u16,
}

/// An A or AAAA record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AddressRecord {
    /// The name that has the address.
    pub owner: DomainName,
    /// The address.
    pub ip: IpAddr,
    /// Time to live in seconds.
    pub ttl: u32,
}

/// A CNAME record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AliasRecord {
    /// The alias.
    pub owner: DomainName,
    /// The name that it stands for.
    pub target: DomainName,
    /// Time to live in seconds.
    pub ttl: u32,
}

/// What a response's answer section says about the name that was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The asked name, then the CNAME targets reached from it, nearest first, each once.
    pub names: Vec<DomainName>,
    /// The address records owned by one of them, in message order.
    pub addresses: Vec<AddressRecord>,
}

/// Whether a port is DNS. Only 53: mDNS and LLMNR are not DNS.
pub fn is_dns_port(port: u16) -> bool {
    port == PORT
}

/// Decodes one message (without TCP's length prefix).
///
/// `None` if it is no plausible DNS message: shorter than a header, or not one sound question or record although the
/// header claims some.
pub fn parse(bytes: &[u8]) -> Option<DnsMessage> {
    parse_plain(bytes).or_else(|| parse_any(bytes))
}

/// Whether the short way for plain messages says what hickory-proto says, or stands back. It must, whatever the bytes:
/// tests and fuzzing ask.
pub fn fast_and_slow_agree(bytes: &[u8]) -> bool {
    parse_plain(bytes).is_none_or(|message| parse_any(bytes) == Some(message))
}

/// Decodes a plain message; `None` for all others.
fn parse_plain(bytes: &[u8]) -> Option<DnsMessage> {
    let mut parts = Parts::default();
    let plain = plain::read(bytes, &mut parts)?;
    let name = |place: usize| parts.names.get(place).cloned();
    let mut message = DnsMessage::of_plain(&plain, name(plain.qname)?);
    for (owner, ip, ttl) in parts.addresses {
        message.addresses.push(AddressRecord { owner: name(owner)?, ip, ttl });
    }
    for (owner, target, ttl) in parts.aliases {
        message.aliases.push(AliasRecord { owner: name(owner)?, target: name(target)?, ttl });
    }
    message.ttls = parts.ttls;
    Some(message)
}

/// The parts of a plain message; names by their place in a list.
#[derive(Default)]
struct Parts {
    names: Vec<DomainName>,
    addresses: Vec<(usize, IpAddr, u32)>,
    aliases: Vec<(usize, usize, u32)>,
    ttls: Vec<u32>,
}

impl Taker for Parts {
    type Name = usize;

    fn name(&mut self, text: &[u8]) -> usize {
        self.names.push(plain::domain_name(text));
        self.names.len() - 1
    }

    fn address(&mut self, owner: usize, ip: IpAddr, ttl: u32) {
        self.addresses.push((owner, ip, ttl));
        self.ttls.push(ttl);
    }

    fn alias(&mut self, owner: usize, target: usize, ttl: u32) {
        self.aliases.push((owner, target, ttl));
        self.ttls.push(ttl);
    }
}

/// Decodes any message: hickory-proto, and the walker for what it refuses.
pub(super) fn parse_any(bytes: &[u8]) -> Option<DnsMessage> {
    let header = Header::read(bytes)?;
    // hickory reserves memory for as many questions as the header claims: 64 Ki of them cost 6 MB.
    if bytes.len() <= MAX_FOR_HICKORY && usize::from(header.counts.questions) <= bytes.len() / 5 {
        if let Ok(message) = Message::from_vec(bytes) {
            return Some(from_hickory(&header, &message));
        }
        let mut message = walk(&header, bytes)?;
        message.salvaged = true;
        return Some(message);
    }
    walk(&header, bytes)
}

/// The fixed header (RFC 1035 section 4.1.1).
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) counts: SectionCounts,
}

impl Header {
    pub(super) fn read(bytes: &[u8]) -> Option<Header> {
        let word = |at| u16_at(bytes, at);
        Some(Header {
            id: word(0)?,
            flags: word(2)?,
            counts: SectionCounts {
                questions: word(4)?,
                answers: word(6)?,
                authorities: word(8)?,
                additionals: word(10)?,
            },
        })
    }

    /// A message of this header alone.
    fn message(&self) -> DnsMessage {
        let [high, low] = self.flags.to_be_bytes();
        DnsMessage {
            id: self.id,
            response: high & 0x80 != 0,
            opcode: (high >> 3) & 0x0f,
            truncated: high & 0x02 != 0,
            rcode: u16::from(low & 0x0f),
            qname: None,
            qtype: 0,
            qclass: 0,
            addresses: Vec::new(),
            aliases: Vec::new(),
            ttls: Vec::new(),
            svcb_hints: Vec::new(),
            salvaged: false,
            counts: self.counts,
        }
    }
}

fn from_hickory(header: &Header, message: &Message) -> DnsMessage {
    let mut out = header.message();
    out.response = message.metadata.message_type == MessageType::Response;
    out.rcode = message.metadata.response_code.into();
    if let Some(question) = message.queries.first() {
        out.qname = Some(domain_name(&question.name));
        out.qtype = question.query_type.into();
        out.qclass = question.query_class.into();
    }
    if out.opcode != OPCODE_UPDATE {
        for record in &message.answers {
            out.ttls.push(record.ttl);
            if record.dns_class == DNSClass::IN {
                out.take_data(record);
            }
        }
    }
    out
}

impl DnsMessage {
    fn of_plain(plain: &Plain<usize>, qname: DomainName) -> DnsMessage {
        DnsMessage {
            id: plain.id,
            response: plain.response,
            opcode: 0,
            truncated: plain.truncated,
            rcode: plain.rcode,
            qname: Some(qname),
            qtype: plain.qtype,
            qclass: CLASS_IN,
            addresses: Vec::new(),
            aliases: Vec::new(),
            ttls: Vec::new(),
            svcb_hints: Vec::new(),
            salvaged: false,
            counts: plain.counts,
        }
    }

    fn take_data(&mut self, record: &Record) {
        let owner = || domain_name(&record.name);
        let ttl = record.ttl;
        match &record.data {
            RData::A(a) => self.addresses.push(AddressRecord { owner: owner(), ip: a.0.into(), ttl }),
            RData::AAAA(aaaa) => {
                self.addresses.push(AddressRecord { owner: owner(), ip: aaaa.0.into(), ttl })
            }
            RData::CNAME(target) => {
                self.aliases.push(AliasRecord { owner: owner(), target: domain_name(&target.0), ttl });
            }
            RData::SVCB(svcb) => self.take_hints(svcb),
            RData::HTTPS(https) => self.take_hints(&https.0),
            _ => {}
        }
    }

    fn take_hints(&mut self, svcb: &SVCB) {
        for (_, value) in &svcb.svc_params {
            match value {
                SvcParamValue::Ipv4Hint(hint) => {
                    self.svcb_hints.extend(hint.0.iter().map(|a| IpAddr::V4(a.0)))
                }
                SvcParamValue::Ipv6Hint(hint) => {
                    self.svcb_hints.extend(hint.0.iter().map(|a| IpAddr::V6(a.0)))
                }
                _ => {}
            }
        }
    }

    /// The names and addresses that the answer section gives for the asked name: the asked name first, then CNAME
    /// targets reached from it. Address records of other owners name nothing. At most 64 names; cycles end.
    ///
    /// Empty without question and for other opcodes than QUERY.
    pub fn reached(&self) -> Reached {
        let Some(asked) = self.qname.as_ref().filter(|_| self.opcode == 0) else { return Reached::default() };
        let mut targets: BTreeMap<&DomainName, Vec<&DomainName>> = BTreeMap::new();
        for alias in &self.aliases {
            targets.entry(&alias.owner).or_default().push(&alias.target);
        }
        let mut names = vec![asked];
        let mut seen = BTreeSet::from([asked]);
        let mut next = 0;
        while let Some(&name) = names.get(next) {
            next += 1;
            for &target in targets.get(name).into_iter().flatten() {
                if names.len() < MAX_CHAIN && seen.insert(target) {
                    names.push(target);
                }
            }
        }
        Reached {
            addresses: self.addresses.iter().filter(|record| seen.contains(&record.owner)).cloned().collect(),
            names: names.into_iter().cloned().collect(),
        }
    }
}

/// hickory's name in our presentation (its own prints octal).
fn domain_name(name: &Name) -> DomainName {
    DomainName::from_labels(name.iter())
}

/// Reads the message record by record as far as it is sound. A record with unsound data is left out; a record whose
/// end is unknown ends the walk. `salvaged` says that something was left out.
fn walk(header: &Header, bytes: &[u8]) -> Option<DnsMessage> {
    let mut out = header.message();
    let mut at = HEADER;
    let mut sound = 0usize;
    let claimed = header.counts;
    let walked = walk_sections(&mut out, bytes, &mut at, &mut sound);
    if walked.is_none() {
        out.salvaged = true;
    }
    let claims = claimed != SectionCounts::default();
    (sound > 0 || !claims).then_some(out)
}

/// `None` where the walk had to stop.
fn walk_sections(out: &mut DnsMessage, bytes: &[u8], at: &mut usize, sound: &mut usize) -> Option<()> {
    let counts = out.counts;
    for index in 0..counts.questions {
        let (name, next) = read_name(bytes, *at)?;
        let qtype = u16_at(bytes, next)?;
        let qclass = u16_at(bytes, next + 2)?;
        *at = next + 4;
        match name {
            None => out.salvaged = true,
            Some(name) => {
                *sound += 1;
                if index == 0 {
                    (out.qname, out.qtype, out.qclass) = (Some(name), qtype, qclass);
                }
            }
        }
    }
    for _ in 0..counts.answers {
        let record = RawRecord::read(bytes, at)?;
        if out.opcode == OPCODE_UPDATE {
            *sound += 1;
            continue;
        }
        match out.take_raw(bytes, record) {
            Some(()) => *sound += 1,
            None => out.salvaged = true,
        }
    }
    for section in [counts.authorities, counts.additionals] {
        for _ in 0..section {
            let record = RawRecord::read(bytes, at)?;
            *sound += 1;
            if record.rtype == TYPE_OPT {
                // The first byte of its TTL field holds the high bits of the response code.
                let [high, ..] = record.ttl.to_be_bytes();
                out.rcode = (u16::from(high) << 4) | (out.rcode & 0x0f);
            }
        }
    }
    Some(())
}

/// A record of which only the frame was read (RFC 1035 section 4.1.3).
struct RawRecord {
    /// `None` if the name breaks the rules although its end is known.
    owner: Option<DomainName>,
    rtype: u16,
    class: u16,
    ttl: u32,
    /// Where the data lie; inside the message.
    data: std::ops::Range<usize>,
}

impl RawRecord {
    fn read(bytes: &[u8], at: &mut usize) -> Option<RawRecord> {
        let (owner, next) = read_name(bytes, *at)?;
        let rtype = u16_at(bytes, next)?;
        let class = u16_at(bytes, next + 2)?;
        let ttl = u32::from_be_bytes(*bytes.get(next + 4..)?.first_chunk()?);
        let start = next + 10;
        let end = start + usize::from(u16_at(bytes, next + 8)?);
        if end > bytes.len() {
            return None;
        }
        *at = end;
        Some(RawRecord { owner, rtype, class, ttl, data: start..end })
    }
}

impl DnsMessage {
    /// `None` if the record is unsound.
    fn take_raw(&mut self, bytes: &[u8], record: RawRecord) -> Option<()> {
        let owner = record.owner?;
        let ttl = record.ttl;
        let data = bytes.get(record.data.clone())?;
        if record.class == CLASS_IN {
            match record.rtype {
                TYPE_A | TYPE_AAAA => {
                    let ip = match record.rtype {
                        TYPE_A => IpAddr::from(<[u8; 4]>::try_from(data).ok()?),
                        _ => IpAddr::from(<[u8; 16]>::try_from(data).ok()?),
                    };
                    self.addresses.push(AddressRecord { owner, ip, ttl });
                }
                TYPE_CNAME => {
                    let (target, next) = read_name(bytes, record.data.start)?;
                    if next != record.data.end {
                        return None;
                    }
                    self.aliases.push(AliasRecord { owner, target: target?, ttl });
                }
                TYPE_SVCB | TYPE_HTTPS => {
                    let hints = svcb_hints(bytes, record.data.clone())?;
                    self.svcb_hints.extend(hints);
                }
                _ => {}
            }
        }
        self.ttls.push(ttl);
        Some(())
    }
}

/// The address hints of SVCB data (RFC 9460 section 2.2): priority, target, then key, length, value.
fn svcb_hints(bytes: &[u8], data: std::ops::Range<usize>) -> Option<Vec<IpAddr>> {
    let (_, mut at) = read_name(bytes, data.start + 2)?;
    let mut hints = Vec::new();
    while at < data.end {
        let key = u16_at(bytes, at)?;
        let start = at + 4;
        let end = start + usize::from(u16_at(bytes, at + 2)?);
        if end > data.end {
            return None;
        }
        let value = bytes.get(start..end)?;
        match key {
            4 => hints.extend(value.as_chunks::<4>().0.iter().map(|&ip| IpAddr::V4(Ipv4Addr::from(ip)))),
            6 => hints.extend(value.as_chunks::<16>().0.iter().map(|&ip| IpAddr::V6(Ipv6Addr::from(ip)))),
            _ => {}
        }
        at = end;
    }
    (at == data.end).then_some(hints)
}

/// Reads the name at `at`: the name, or `None` if it breaks a rule, and where what follows begins. No pair at all if the
/// end cannot be known.
///
/// Every pointer must go back before the piece of name that holds it, and a piece must not run into the one that
/// pointed to it, so a loop cannot be written; their number is limited besides.
fn read_name(bytes: &[u8], at: usize) -> Option<(Option<DomainName>, usize)> {
    let mut labels: Vec<&[u8]> = Vec::with_capacity(8);
    let mut length = 0;
    let mut here = at;
    // Where the name ends in place: known once the first pointer is met.
    let mut after = None;
    let mut piece_start = at;
    let mut limit = bytes.len();
    let mut pointers = 0;
    loop {
        let unsound = |after: Option<usize>| after.map(|after| (None, after));
        if here >= limit {
            return unsound(after);
        }
        let Some(&byte) = bytes.get(here) else { return unsound(after) };
        match byte {
            0 => break,
            1..=63 => {
                let end = here + 1 + usize::from(byte);
                let Some(label) = bytes.get(here + 1..end) else { return unsound(after) };
                length += label.len() + 1;
                labels.push(label);
                here = end;
                // With the root's byte a name has at most 255 (RFC 1035 section 2.3.4).
                if length > 254 {
                    return after.or_else(|| skip_name(bytes, here)).map(|after| (None, after));
                }
            }
            0xc0.. => {
                let Some(pointer) = u16_at(bytes, here) else { return unsound(after) };
                after = after.or(Some(here + 2));
                let target = usize::from(pointer & 0x3fff);
                pointers += 1;
                if target >= piece_start || pointers > MAX_POINTERS {
                    return unsound(after);
                }
                limit = piece_start;
                piece_start = target;
                here = target;
            }
            // 0x40 and 0x80 were never given a meaning that lived (RFC 6891 section 5).
            _ => return unsound(after),
        }
    }
    Some((Some(DomainName::from_labels(labels)), after.unwrap_or(here + 1)))
}

/// Where a name that is too long ends in place.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Cuts a TCP stream into messages (RFC 1035 section 4.2.2: two bytes of length before each): pairs of the offset of
/// the message's first byte and the message, then the unfinished rest with its length prefix. The stream must begin
/// at a message.
pub fn tcp_messages(stream: &[u8]) -> (Vec<(usize, &[u8])>, &[u8]) {
    let mut messages = Vec::new();
    let mut at = 0;
    while let Some(length) = u16_at(stream, at) {
        let start = at + 2;
        let Some(message) = stream.get(start..start + usize::from(length)) else { break };
        messages.push((start, message));
        at = start + usize::from(length);
    }
    (messages, stream.get(at..).unwrap_or_default())
}

/// Whether these may be the first bytes of a client's DNS over TCP: a length that holds a question, then the header of
/// a query with one question and no answer. Cut input is judged by what is there; shorter than a header is no.
pub(super) fn looks_like_tcp_query(stream: &[u8]) -> bool {
    // One question, no answer: what is no query mostly ends here.
    if !matches!(stream, [_, _, _, _, _, _, 0, 1, 0, 0, ..]) {
        return false;
    }
    let Some((prefix, rest)) = stream.split_first_chunk() else { return false };
    let length = usize::from(u16::from_be_bytes(*prefix));
    let Some(header) = Header::read(rest) else { return false };
    let empty = header.message();
    let counts = header.counts;
    // A zone transfer carries one authority record (IXFR); OPT and TSIG stand in the additional section.
    length >= HEADER + 5
        && !empty.response
        && matches!(empty.opcode, 0 | 4)
        && header.flags & 0x0040 == 0
        && empty.rcode == 0
        && counts.authorities <= 1
        && counts.additionals <= 2
        && rest
            .get(..length)
            .is_none_or(|message| parse(message).is_some_and(|message| message.qname.is_some()))
}

/// The IANA mnemonic of a record or query type, or `TYPEn` (RFC 3597) for types that have none. What the registry calls `*` is known as
/// `ANY` (RFC 8482).
pub fn qtype_mnemonic(qtype: u16) -> Cow<'static, str> {
    Cow::Borrowed(match qtype {
        1 => "A",
        2 => "NS",
        3 => "MD",
        4 => "MF",
        5 => "CNAME",
        6 => "SOA",
        7 => "MB",
        8 => "MG",
        9 => "MR",
        10 => "NULL",
        11 => "WKS",
        12 => "PTR",
        13 => "HINFO",
        14 => "MINFO",
        15 => "MX",
        16 => "TXT",
        17 => "RP",
        18 => "AFSDB",
        19 => "X25",
        20 => "ISDN",
        21 => "RT",
        22 => "NSAP",
        23 => "NSAP-PTR",
        24 => "SIG",
        25 => "KEY",
        26 => "PX",
        27 => "GPOS",
        28 => "AAAA",
        29 => "LOC",
        30 => "NXT",
        31 => "EID",
        32 => "NIMLOC",
        33 => "SRV",
        34 => "ATMA",
        35 => "NAPTR",
        36 => "KX",
        37 => "CERT",
        38 => "A6",
        39 => "DNAME",
        40 => "SINK",
        41 => "OPT",
        42 => "APL",
        43 => "DS",
        44 => "SSHFP",
        45 => "IPSECKEY",
        46 => "RRSIG",
        47 => "NSEC",
        48 => "DNSKEY",
        49 => "DHCID",
        50 => "NSEC3",
        51 => "NSEC3PARAM",
        52 => "TLSA",
        53 => "SMIMEA",
        55 => "HIP",
        56 => "NINFO",
        57 => "RKEY",
        58 => "TALINK",
        59 => "CDS",
        60 => "CDNSKEY",
        61 => "OPENPGPKEY",
        62 => "CSYNC",
        63 => "ZONEMD",
        64 => "SVCB",
        65 => "HTTPS",
        66 => "DSYNC",
        67 => "HHIT",
        68 => "BRID",
        99 => "SPF",
        100 => "UINFO",
        101 => "UID",
        102 => "GID",
        103 => "UNSPEC",
        104 => "NID",
        105 => "L32",
        106 => "L64",
        107 => "LP",
        108 => "EUI48",
        109 => "EUI64",
        128 => "NXNAME",
        249 => "TKEY",
        250 => "TSIG",
        251 => "IXFR",
        252 => "AXFR",
        253 => "MAILB",
        254 => "MAILA",
        255 => "ANY",
        256 => "URI",
        257 => "CAA",
        258 => "AVC",
        259 => "DOA",
        260 => "AMTRELAY",
        261 => "RESINFO",
        262 => "WALLET",
        263 => "CLA",
        264 => "IPN",
        32768 => "TA",
        32769 => "DLV",
        other => return Cow::Owned(format!("TYPE{other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{OpCode, Query, ResponseCode};
    use hickory_proto::rr::RecordType;
    use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SOA, TXT};
    use proptest::prelude::*;

    fn hickory(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(owner: &str, ttl: u32, data: RData) -> Record {
        Record::from_rdata(hickory(owner), ttl, data)
    }

    fn a(owner: &str, last: u8) -> Record {
        record(owner, 60, RData::A(A::new(192, 0, 2, last)))
    }

    fn cname(owner: &str, target: &str) -> Record {
        record(owner, 300, RData::CNAME(CNAME(hickory(target))))
    }

    fn answer(asked: &str, answers: Vec<Record>) -> Message {
        let mut message = Message::response(0x1234, OpCode::Query);
        message.add_query(Query::query(hickory(asked), RecordType::A));
        message.add_answers(answers);
        message
    }

    fn bytes(message: &Message) -> Vec<u8> {
        message.to_vec().unwrap()
    }

    fn texts(names: &[DomainName]) -> Vec<&str> {
        names.iter().map(DomainName::as_str).collect()
    }

    #[test]
    fn an_answer_names_its_addresses_through_the_chain_from_the_question() {
        let mut message = answer(
            "WWW.example.org.",
            vec![
                cname("cdn.example.net.", "edge.example.net."), // out of order
                cname("www.example.org.", "cdn.example.net."),
                a("edge.example.net.", 1),
                a("stranger.example.", 2),
                record("edge.example.net.", 7, RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
            ],
        );
        message.add_additional(a("www.example.org.", 9)); // additional records name nothing
        let parsed = parse(&bytes(&message)).unwrap();
        assert!(parsed.response && !parsed.salvaged);
        assert_eq!((parsed.id, parsed.qtype, parsed.qclass), (0x1234, 1, 1));
        assert_eq!(parsed.ttls, [300, 300, 60, 60, 7]);
        assert_eq!(parsed.addresses.len(), 3);
        assert_eq!(parsed.counts.additionals, 1);
        let reached = parsed.reached();
        assert_eq!(texts(&reached.names), ["www.example.org", "cdn.example.net", "edge.example.net"]);
        let ips: Vec<String> = reached.addresses.iter().map(|record| record.ip.to_string()).collect();
        assert_eq!(ips, ["192.0.2.1", "2001:db8::1"]);
    }

    #[test]
    fn an_alias_cycle_ends_and_names_each_name_once() {
        let message =
            answer("a.example.", vec![cname("a.example.", "b.example."), cname("b.example.", "a.example.")]);
        assert_eq!(texts(&parse(&bytes(&message)).unwrap().reached().names), ["a.example", "b.example"]);
    }

    #[test]
    fn the_high_bits_of_the_response_code_come_from_edns() {
        let mut message = answer("a.example.", vec![]);
        message.metadata.response_code = ResponseCode::BADVERS;
        message.set_edns(hickory_proto::op::Edns::new());
        let wire = bytes(&message);
        assert_eq!(parse(&wire).unwrap().rcode, 16);
        assert_eq!(walk(&Header::read(&wire).unwrap(), &wire).unwrap().rcode, 16);
    }

    #[test]
    fn a_bad_record_in_the_middle_is_left_out_and_the_others_stay() {
        let message = answer("a.example.", vec![a("a.example.", 1), a("a.example.", 2), a("a.example.", 3)]);
        let mut wire = bytes(&message);
        let place = wire.windows(4).position(|w| w == [192, 0, 2, 2]).unwrap();
        wire.remove(place); // three bytes of address, and its length says so
        wire[place - 1] = 3;
        let parsed = parse(&wire).unwrap();
        assert!(parsed.salvaged);
        let ips: Vec<String> = parsed.addresses.iter().map(|record| record.ip.to_string()).collect();
        assert_eq!(ips, ["192.0.2.1", "192.0.2.3"]);
    }

    #[test]
    #[rustfmt::skip]
    fn pointers_that_loop_or_lead_forward_are_unsound_and_bounded() {
        let header = [0, 1, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0];
        for (what, body) in [
            ("itself",  vec![0xc0, 12, 0, 1, 0, 1]),
            ("forward", vec![0xc0, 14, 0, 1, 0, 1]),
            ("loop",    vec![1, b'a', 0xc0, 12, 0, 1, 0, 1]),
            ("reserved label type", vec![0x40, 0, 0, 1, 0, 1]),
        ] {
            let wire = [&header[..], &body].concat();
            assert_eq!(parse(&wire), None, "{what}");
        }
        // 8191 pointers, each to the one before, and thousands of names that start at the last one.
        let mut wire = vec![0, 1, 0x81, 0x80, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
        wire.extend([0, 0]);
        while wire.len() < 16380 {
            let to = u16::try_from(wire.len() - 2).unwrap();
            wire.extend((0xc000 | to).to_be_bytes());
        }
        while wire.len() < 65500 {
            wire.extend([0xff, 0xf0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
        }
        parse(&wire); // quick, or the suite hangs
    }

    #[test]
    fn what_is_no_message_is_none() {
        for wire in [&b""[..], b"short", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[0xff; 40]] {
            assert_eq!(parse(wire), None, "{wire:?}");
        }
        assert!(parse(&[0; 12]).is_some(), "an empty message is odd but sound");
    }

    #[test]
    fn a_stream_is_cut_at_its_length_prefixes_and_keeps_the_unfinished_rest() {
        let (messages, rest) = tcp_messages(&[0, 2, 1, 2, 0, 0, 0, 3, 9, 9]);
        assert_eq!(messages, [(2, &[1u8, 2][..]), (6, &[][..])]);
        assert_eq!(rest, [0, 3, 9, 9]);
        assert_eq!(tcp_messages(&[7]), (vec![], &[7u8][..]));
    }

    #[test]
    fn a_type_has_its_mnemonic_or_a_number() {
        for (qtype, expected) in [
            (1, "A"),
            (28, "AAAA"),
            (65, "HTTPS"),
            (255, "ANY"),
            (105, "L32"),
            (0, "TYPE0"),
            (61440, "TYPE61440"),
        ] {
            assert_eq!(qtype_mnemonic(qtype), expected);
        }
    }

    #[test]
    fn names_are_printed_with_decimal_escapes() {
        let message = answer("a.example.", vec![]);
        let mut wire = bytes(&message);
        wire[13] = 0xff;
        assert_eq!(parse(&wire).unwrap().qname.unwrap().as_str(), "\\255.example");
    }

    #[test]
    fn hints_of_https_records_are_kept_apart_from_addresses() {
        // q: a.example HTTPS; answer: priority 1, target root, alpn h2, ipv4hint two, ipv6hint one
        let mut wire = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        wire.extend(b"\x01a\x07example\x00\x00\x41\x00\x01");
        let mut data =
            vec![0, 1, 0, 0, 1, 0, 3, 2, b'h', b'2', 0, 4, 0, 8, 192, 0, 2, 1, 192, 0, 2, 2, 0, 6, 0, 16];
        data.extend(Ipv6Addr::LOCALHOST.octets());
        wire.extend([0xc0, 12, 0, 65, 0, 1, 0, 0, 0, 60, 0, u8::try_from(data.len()).unwrap()]);
        wire.extend(data);
        let parsed = parse(&wire).unwrap();
        assert!(!parsed.salvaged && parsed.addresses.is_empty());
        let hints: Vec<String> = parsed.svcb_hints.iter().map(IpAddr::to_string).collect();
        assert_eq!(hints, ["192.0.2.1", "192.0.2.2", "::1"]);
        assert_eq!(walk(&Header::read(&wire).unwrap(), &wire).unwrap(), parsed);
    }

    fn label() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 1..8)
    }

    fn wire_name() -> impl Strategy<Value = Name> {
        proptest::collection::vec(label(), 0..5).prop_map(|labels| {
            let mut name = Name::root();
            for label in labels {
                name = name.append_label(&label[..]).unwrap();
            }
            name
        })
    }

    fn wire_record() -> impl Strategy<Value = Record> {
        let data = prop_oneof![
            any::<[u8; 4]>().prop_map(|ip| RData::A(A(ip.into()))),
            any::<[u8; 16]>().prop_map(|ip| RData::AAAA(AAAA(ip.into()))),
            wire_name().prop_map(|name| RData::CNAME(CNAME(name))),
            wire_name().prop_map(|name| RData::MX(MX::new(10, name))),
            Just(RData::TXT(TXT::new(vec!["text".to_owned()]))),
        ];
        (wire_name(), any::<u32>(), data).prop_map(|(name, ttl, data)| Record::from_rdata(name, ttl, data))
    }

    fn wire_message() -> impl Strategy<Value = Vec<u8>> {
        let records = || proptest::collection::vec(wire_record(), 0..6);
        (any::<u16>(), wire_name(), records(), records()).prop_map(|(id, asked, answers, more)| {
            let mut message = Message::response(id, OpCode::Query);
            message.add_query(Query::query(asked, RecordType::AAAA));
            message.add_answers(answers);
            message.add_additionals(more);
            message.to_vec().unwrap()
        })
    }

    /// Names of few labels, so that messages point at one another's; now and then one that needs escapes, or is long.
    fn plain_name() -> impl Strategy<Value = Name> {
        let label = prop_oneof![
            8 => Just(b"www".to_vec()),
            8 => Just(b"Example".to_vec()),
            8 => Just(b"a-b_c".to_vec()),
            1 => Just(vec![b'x'; 63]),
            1 => Just(b"d.t".to_vec()),
            1 => Just(vec![0xff]),
        ];
        proptest::collection::vec(label, 0..5).prop_map(|labels| {
            let append = |name: Name, label: Vec<u8>| name.clone().append_label(&label[..]).unwrap_or(name);
            labels.into_iter().fold(Name::root(), append)
        })
    }

    fn plain_record() -> impl Strategy<Value = Record> {
        let data = prop_oneof![
            8 => any::<[u8; 4]>().prop_map(|ip| RData::A(A(ip.into()))),
            8 => any::<[u8; 16]>().prop_map(|ip| RData::AAAA(AAAA(ip.into()))),
            8 => plain_name().prop_map(|name| RData::CNAME(CNAME(name))),
            1 => plain_name().prop_map(|name| RData::NS(NS(name))),
            1 => plain_name().prop_map(|name| RData::SOA(SOA::new(name.clone(), name, 1, 2, 3, 4, 5))),
        ];
        let class = prop_oneof![20 => Just(DNSClass::IN), 1 => Just(DNSClass::CH)];
        (plain_name(), any::<u32>(), class, data).prop_map(|(name, ttl, class, data)| {
            let mut record = Record::from_rdata(name, ttl, data);
            record.dns_class = class;
            record
        })
    }

    /// Messages as resolvers write them, and some that come near.
    fn plain_message() -> impl Strategy<Value = Vec<u8>> {
        let answers = proptest::collection::vec(plain_record(), 0..6);
        let soa = plain_name().prop_map(|name| {
            let numbers = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, 5);
            Record::from_rdata(name, 60, RData::SOA(numbers))
        });
        let ends = (proptest::option::of(soa), proptest::option::of((0u16..3, 8u16..14)));
        let flags = (any::<bool>(), any::<u16>(), 0u16..7, any::<bool>());
        (plain_name(), answers, ends, flags).prop_map(|(asked, answers, (soa, edns), flags)| {
            let (response, id, rcode, truncated) = flags;
            let mut message = if response { Message::response(id, OpCode::Query) } else { Message::query() };
            message.metadata.id = id;
            message.metadata.truncation = truncated;
            message.metadata.response_code = rcode.into();
            message.add_query(Query::query(asked, RecordType::from(id % 70)));
            if response {
                message.add_answers(answers);
                message.add_authorities(soa);
            }
            let mut wire = message.to_vec().unwrap();
            if let Some((length, code)) = edns {
                let option = [code.to_be_bytes(), length.to_be_bytes()].concat();
                wire.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
                wire.extend((4 + length).to_be_bytes());
                wire.extend(option);
                wire.extend(std::iter::repeat_n(7, usize::from(length)));
                wire[11] += 1;
            }
            wire
        })
    }

    #[test]
    #[rustfmt::skip]
    fn plain_messages_take_the_short_way_and_no_others() {
        let ask = |wire: &[u8]| parse_plain(wire).is_some();
        let mut nxdomain = answer("gone.example.", vec![]);
        nxdomain.metadata.response_code = ResponseCode::NXDomain;
        let numbers = SOA::new(hickory("ns.example."), hickory("admin.example."), 1, 2, 3, 4, 5);
        nxdomain.add_authority(record("example.", 60, RData::SOA(numbers)));
        nxdomain.set_edns(hickory_proto::op::Edns::new());
        let mut badvers = answer("a.example.", vec![]);
        badvers.metadata.response_code = ResponseCode::BADVERS;
        badvers.set_edns(hickory_proto::op::Edns::new());
        let mut query = Message::query();
        query.add_query(Query::query(hickory("a.example."), RecordType::HTTPS));
        let chain = answer("WWW.a.example.", vec![cname("www.a.example.", "b.example."), a("b.example.", 1)]);
        let mx = record("a.example.", 60, RData::MX(MX::new(10, hickory("b.example."))));
        let whole = bytes(&chain);
        let mut escapes = bytes(&answer("a.example.", vec![]));
        escapes[13] = b' ';
        for (what, wire, expected) in [
            ("a query",                  bytes(&query),                                true),
            ("a chain",                  whole.clone(),                                true),
            ("no such name",             bytes(&nxdomain),                             true),
            ("bytes behind the message", [&whole[..], b"more"].concat(),               true),
            ("a cut record",             whole[..whole.len() - 1].to_vec(),            false),
            ("another type",             bytes(&answer("a.example.", vec![mx])),       false),
            ("an extended code",         bytes(&badvers),                              false),
            ("a name with escapes",      escapes,                                      false),
            ("a pointer into the header", [&whole[..12], &[0xc0, 4, 0, 1, 0, 1]].concat(), false),
        ] {
            assert_eq!(ask(&wire), expected, "{what}");
            assert!(fast_and_slow_agree(&wire), "{what}");
        }
    }

    #[test]
    fn every_type_asked_for_is_read_as_hickory_reads_it() {
        let mut wire = bytes(&answer("a.example.", vec![]));
        let place = wire.len() - 4;
        for qtype in 0..=u16::MAX {
            wire[place..place + 2].copy_from_slice(&qtype.to_be_bytes());
            assert!(fast_and_slow_agree(&wire), "{qtype}");
        }
    }

    /// Names of every length about the limit, in one piece and over pointers.
    #[test]
    fn names_about_the_longest_are_read_as_hickory_reads_them() {
        for last in 1..=63u8 {
            let mut wire = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
            for length in [63, 63, 63, last] {
                wire.push(length);
                wire.extend(std::iter::repeat_n(b'a', usize::from(length)));
            }
            wire.extend([0, 0, 1, 0, 1]);
            assert!(fast_and_slow_agree(&wire), "{last}");
            let asked = wire.len();
            for prefix in [&[][..], b"\x01b", b"\x02bb", b"\x03bbb"] {
                wire.truncate(asked);
                wire.extend(prefix);
                wire.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
                assert!(fast_and_slow_agree(&wire), "{last} {prefix:?}");
            }
        }
    }

    /// The messages on port 53 of every capture here, and of the collection beside the repository if there is one.
    #[test]
    fn messages_of_captures_are_read_as_hickory_reads_them() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut folders = vec![root.join("captures")];
        folders.extend(["normal", "hostile"].map(|set| root.join("../shared/captures").join(set)));
        let (mut seen, mut plain) = (0u64, 0u64);
        for entry in folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
            // Without reading the capture's format: a message is wherever a UDP header with port 53 may be.
            for (at, window) in bytes.windows(8).enumerate() {
                let [s0, s1, d0, d1, l0, l1, _, _] = window else { continue };
                let length = usize::from(u16::from_be_bytes([*l0, *l1]));
                if ([*s0, *s1] == [0, 53] || [*d0, *d1] == [0, 53])
                    && let Some(payload) = bytes.get(at + 8..at + length.max(8))
                {
                    seen += 1;
                    plain += u64::from(parse_plain(payload).is_some());
                    assert!(fast_and_slow_agree(payload), "{payload:02x?}");
                }
            }
        }
        assert!(plain > 50, "{plain} of {seen}");
    }

    proptest! {
        #[test]
        fn plain_messages_are_read_as_hickory_reads_them(wire in plain_message()) {
            prop_assert!(fast_and_slow_agree(&wire));
        }

        #[test]
        fn damaged_plain_messages_are_read_as_hickory_reads_them(
            mut wire in plain_message(),
            places in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
            cut in proptest::option::of(0usize..200),
        ) {
            for (place, byte) in places {
                let place = usize::from(place) % wire.len();
                wire[place] = byte;
            }
            wire.truncate(cut.unwrap_or(usize::MAX));
            prop_assert!(fast_and_slow_agree(&wire));
        }

        #[test]
        fn hickory_and_the_walker_agree_on_sound_messages(wire in wire_message()) {
            let parsed = parse(&wire).unwrap();
            prop_assert!(!parsed.salvaged);
            prop_assert_eq!(walk(&Header::read(&wire).unwrap(), &wire), Some(parsed));
        }

        #[test]
        fn cutting_an_answer_keeps_the_records_before_the_cut(wire in wire_message(), cut in 0usize..600) {
            let whole = parse(&wire).unwrap();
            let cut = cut.min(wire.len());
            if let Some(part) = parse(&wire[..cut]) {
                prop_assert!(part.salvaged || cut == wire.len());
                prop_assert!(whole.addresses.starts_with(&part.addresses));
                prop_assert!(whole.aliases.starts_with(&part.aliases));
                prop_assert!(whole.ttls.starts_with(&part.ttls));
                prop_assert!(part.qname.is_none() || part.qname == whole.qname);
            }
            // All answers lie before the first byte of the additional section's last record, at the least.
            if cut + 1 >= wire.len() && whole.counts.additionals > 0 {
                prop_assert_eq!(parse(&wire[..cut]).unwrap().addresses, whole.addresses);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(wire in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(message) = parse(&wire) {
                message.reached();
            }
            tcp_messages(&wire);
            looks_like_tcp_query(&wire);
        }

        #[test]
        fn no_damage_to_a_message_makes_it_panic(mut wire in wire_message(), places in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
            for (place, byte) in places {
                let place = usize::from(place) % wire.len();
                wire[place] = byte;
            }
            if let Some(message) = parse(&wire) {
                prop_assert!(message.reached().names.len() <= MAX_CHAIN);
            }
        }
    }
}
