//! DNS messages as bytes: what a partial row of names carries for `judge`. The bytes that are read may be anybody's.

use super::dns::{AddressRecord, AliasRecord, DnsMessage, SectionCounts};
use super::observation::DnsObservation;
use crate::model::{CaptureId, DomainName, Endpoint, FramePoint, Timestamp, Transport, varint};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Version of what a row carries: its first byte. `{` can never be one: so rows began when they were JSON.
const ROW_VERSION: u8 = 1;

// What is there, by bits.
const RESPONSE: u8 = 1;
const TRUNCATED: u8 = 2;
const SALVAGED: u8 = 4;
const QNAME: u8 = 8;

/// What a row carries is none of what this version writes. Nothing of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageProblem {
    /// There are no bytes.
    #[error("it is empty")]
    Empty,
    /// Another version wrote it.
    #[error("it is of version {0}, and this portproof reads {ROW_VERSION}: extract the captures again")]
    Version(u8),
    /// It ends too early, goes on too long, or says what no message can.
    #[error("{0}")]
    Broken(&'static str),
}

impl DnsObservation {
    /// As a row for `judge` carries it. The capture of its point is not told.
    pub fn to_row(&self) -> Vec<u8> {
        let message = &self.message;
        let mut w = Writer { out: vec![ROW_VERSION], names: Vec::new() };
        let some = |there: bool, bit: u8| if there { bit } else { 0 };
        w.out.push(
            some(message.response, RESPONSE)
                | some(message.truncated, TRUNCATED)
                | some(message.salvaged, SALVAGED)
                | some(message.qname.is_some(), QNAME),
        );
        w.out.extend([message.opcode, self.transport.number()]);
        w.out.extend(self.point.time.0.to_le_bytes());
        w.number(self.point.frame);
        for end in [self.client, self.resolver] {
            w.address(end.ip);
            w.short(end.port);
        }
        for value in [message.id, message.rcode, message.qtype, message.qclass] {
            w.short(value);
        }
        let counts = &message.counts;
        for count in [counts.questions, counts.answers, counts.authorities, counts.additionals] {
            w.number(count.into());
        }
        if let Some(qname) = &message.qname {
            w.name(qname);
        }
        w.number(message.addresses.len() as u64);
        for record in &message.addresses {
            w.name(&record.owner);
            w.address(record.ip);
            w.number(record.ttl.into());
        }
        w.number(message.aliases.len() as u64);
        for record in &message.aliases {
            w.name(&record.owner);
            w.name(&record.target);
            w.number(record.ttl.into());
        }
        w.number(message.ttls.len() as u64);
        message.ttls.iter().for_each(|&ttl| w.number(ttl.into()));
        w.number(message.svcb_hints.len() as u64);
        message.svcb_hints.iter().for_each(|&ip| w.address(ip));
        w.out
    }

    /// Reads what [`DnsObservation::to_row`] wrote; its point is of capture 0.
    ///
    /// # Errors
    /// If the bytes are no message as this version writes them.
    pub fn of_row(row: &[u8]) -> Result<Self, MessageProblem> {
        let (version, bytes) = row.split_first().ok_or(MessageProblem::Empty)?;
        if *version != ROW_VERSION {
            return Err(MessageProblem::Version(*version));
        }
        let mut r = Reader { bytes, names: Vec::new() };
        let observation = r.observation().ok_or(MessageProblem::Broken(
            "it ends too early, or has a name, a number or an address that no message has",
        ))?;
        if r.bytes.is_empty() { Ok(observation) } else { Err(MessageProblem::Broken("bytes follow its end")) }
    }
}

struct Writer<'a> {
    out: Vec<u8>,
    /// Names already written: they are told by their place from then on.
    names: Vec<&'a DomainName>,
}

impl<'a> Writer<'a> {
    fn number(&mut self, value: u64) {
        varint::put(value, &mut self.out);
    }

    fn short(&mut self, value: u16) {
        self.out.extend(value.to_le_bytes());
    }

    fn address(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                self.out.push(4);
                self.out.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                self.out.push(6);
                self.out.extend(ip.octets());
            }
        }
    }

    fn name(&mut self, name: &'a DomainName) {
        // Most messages have a handful; of more, the later ones are told again.
        let known = self.names.iter().take(MOST_SOUGHT).position(|&known| known == name);
        match known {
            Some(place) => self.number(place as u64 + 1),
            None => {
                self.names.push(name);
                let text = name.as_str().as_bytes();
                self.number(0);
                self.number(text.len() as u64);
                self.out.extend(text);
            }
        }
    }
}

/// Names of a message that are looked through for one that was told before.
const MOST_SOUGHT: usize = 16;

struct Reader<'a> {
    bytes: &'a [u8],
    names: Vec<DomainName>,
}

impl Reader<'_> {
    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&head, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(head)
    }

    fn number(&mut self) -> Option<u64> {
        varint::take(&mut self.bytes)
    }

    fn seconds(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn count(&mut self) -> Option<u16> {
        u16::try_from(self.number()?).ok()
    }

    fn short(&mut self) -> Option<u16> {
        self.fixed().map(u16::from_le_bytes)
    }

    fn address(&mut self) -> Option<IpAddr> {
        match self.fixed()? {
            [4] => Some(Ipv4Addr::from(self.fixed::<4>()?).into()),
            [6] => Some(Ipv6Addr::from(self.fixed::<16>()?).into()),
            _ => None,
        }
    }

    fn end(&mut self) -> Option<Endpoint> {
        Some(Endpoint::new(self.address()?, self.short()?))
    }

    fn name(&mut self) -> Option<DomainName> {
        if let Some(place) = usize::try_from(self.number()?).ok()?.checked_sub(1) {
            return self.names.get(place).cloned();
        }
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        let name = DomainName::from_presentation(std::str::from_utf8(text).ok()?)?;
        self.names.push(name.clone());
        Some(name)
    }

    /// A list: every element takes at least a byte, so that no number can make it longer than the row.
    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut all = Vec::new();
        for _ in 0..self.number()? {
            all.push(one(self)?);
        }
        Some(all)
    }

    fn observation(&mut self) -> Option<DnsObservation> {
        let [flags, opcode, transport] = self.fixed()?;
        let has = |bit: u8| flags & bit != 0;
        let time = Timestamp(self.fixed().map(i64::from_le_bytes)?);
        let point = FramePoint { time, capture: CaptureId::new(0), frame: self.number()? };
        let (client, resolver) = (self.end()?, self.end()?);
        let (id, rcode, qtype, qclass) = (self.short()?, self.short()?, self.short()?, self.short()?);
        let counts = SectionCounts {
            questions: self.count()?,
            answers: self.count()?,
            authorities: self.count()?,
            additionals: self.count()?,
        };
        let qname = if has(QNAME) { Some(self.name()?) } else { None };
        let addresses =
            self.list(|r| Some(AddressRecord { owner: r.name()?, ip: r.address()?, ttl: r.seconds()? }))?;
        let aliases =
            self.list(|r| Some(AliasRecord { owner: r.name()?, target: r.name()?, ttl: r.seconds()? }))?;
        let ttls = self.list(Self::seconds)?;
        let svcb_hints = self.list(Self::address)?;
        let message = DnsMessage {
            id,
            response: has(RESPONSE),
            opcode,
            truncated: has(TRUNCATED),
            rcode,
            qname,
            qtype,
            qclass,
            addresses,
            aliases,
            ttls,
            svcb_hints,
            salvaged: has(SALVAGED),
            counts,
        };
        let transport = Transport::from_number(transport);
        Some(DnsObservation { point, client, resolver, transport, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    /// A response with every kind of fact.
    fn response() -> DnsObservation {
        let end = |ip: &str, port| Endpoint::new(ip.parse().unwrap(), port);
        let odd = DomainName::from_labels([&b"a.b\\ \xff"[..], b"example"]);
        let owner = name("edge.example.net");
        DnsObservation {
            point: FramePoint { time: Timestamp(-5), capture: CaptureId::new(0), frame: 300 },
            client: end("10.1.0.4", 51_000),
            resolver: end("2001:db8::53", 53),
            transport: Transport::Udp,
            message: DnsMessage {
                id: 0xfffe,
                response: true,
                opcode: 4,
                truncated: true,
                rcode: 23,
                qname: Some(name("www.example.org")),
                qtype: 65,
                qclass: 1,
                addresses: ["192.0.2.1", "2001:db8::1"]
                    .map(|ip| AddressRecord { owner: owner.clone(), ip: ip.parse().unwrap(), ttl: u32::MAX })
                    .to_vec(),
                aliases: vec![
                    AliasRecord { owner: name("www.example.org"), target: odd.clone(), ttl: 0 },
                    AliasRecord { owner: odd, target: owner.clone(), ttl: 60 },
                ],
                ttls: vec![0, 60, u32::MAX],
                svcb_hints: vec!["192.0.2.9".parse().unwrap(), "2001:db8::9".parse().unwrap()],
                salvaged: true,
                counts: SectionCounts { questions: 1, answers: 2, authorities: 3, additionals: u16::MAX },
            },
        }
    }

    /// A query without a question.
    fn bare() -> DnsObservation {
        let mut query = response();
        query.message = DnsMessage {
            response: false,
            qname: None,
            addresses: Vec::new(),
            aliases: Vec::new(),
            ttls: Vec::new(),
            svcb_hints: Vec::new(),
            ..query.message
        };
        query
    }

    #[test]
    fn a_message_comes_back_as_it_was_or_is_refused() {
        for message in [response(), bare()] {
            let row = message.to_row();
            assert_eq!(DnsObservation::of_row(&row).as_ref(), Ok(&message));
            for length in 0..row.len() {
                assert!(DnsObservation::of_row(&row[..length]).is_err(), "{length} of {} bytes", row.len());
            }
            assert!(DnsObservation::of_row(&[&row[..], &[0]].concat()).is_err());
            let other = [&[2], &row[1..]].concat();
            assert_eq!(DnsObservation::of_row(&other), Err(MessageProblem::Version(2)));
            // Whatever is taken is a message: it can be written again, and is then the same.
            for (place, bit) in (0..row.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
                let mut other = row.clone();
                other[place] ^= 1 << bit;
                if let Ok(taken) = DnsObservation::of_row(&other) {
                    let again = DnsObservation::of_row(&taken.to_row());
                    assert_eq!(again, Ok(taken), "byte {place}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_name_that_could_steer_a_terminal_is_none() {
        let row = response().to_row();
        let at = row.windows(3).position(|bytes| bytes == b"www").unwrap();
        for byte in [0x1b, b' ', b'W', 0xff] {
            let mut row = row.clone();
            row[at] = byte;
            assert!(matches!(DnsObservation::of_row(&row), Err(MessageProblem::Broken(_))), "{byte}");
        }
    }

    #[test]
    fn many_names_come_back_too() {
        let mut message = response();
        let owners = (0..100).map(|number| name(&format!("n{}.example", number % 40)));
        message.message.addresses =
            owners.map(|owner| AddressRecord { owner, ip: IpAddr::from([192, 0, 2, 1]), ttl: 1 }).collect();
        assert_eq!(DnsObservation::of_row(&message.to_row()), Ok(message));
    }
}
