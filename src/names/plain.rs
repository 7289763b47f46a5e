//! The usual DNS message, read without allocating: one question of class IN; in a response A, AAAA and CNAME records.
//!
//! hickory-proto stays the judge of what a message means. What is not read here with certainty as hickory-proto reads it
//! gives `None`, and goes there: other types, names with characters that need escapes, anything that is not sound to
//! the last record. `dns::fast_and_slow_agree` holds the two against each other.

use super::dns::{
    CLASS_IN, HEADER, Header, MAX_FOR_HICKORY, SectionCounts, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_OPT, u16_at,
};
use crate::model::DomainName;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TYPE_NS: u16 = 2;
const TYPE_SOA: u16 = 6;

/// Bytes of SOA data behind its two names: five numbers (RFC 1035 section 3.3.13).
const SOA_NUMBERS: usize = 20;

/// Most pointers within one name; real ones have one or two. More go to hickory-proto.
const MOST_POINTERS: usize = 4;

/// Names of one message remembered by where they begin: owners point to them again and again.
const REMEMBERED: usize = 8;

/// EDNS options that hickory-proto keeps as they are, so that no value of theirs makes it refuse the message: COOKIE,
/// edns-tcp-keepalive, Padding, Extended DNS Error.
const OPAQUE_OPTIONS: [u16; 4] = [10, 11, 12, 15];

/// What takes the parts of a plain message.
pub(super) trait Taker {
    /// What stands for a name.
    type Name: Copy;
    /// A name in presentation form: lower case, no escapes.
    fn name(&mut self, text: &[u8]) -> Self::Name;
    /// An address record of the answer section.
    fn address(&mut self, owner: Self::Name, ip: IpAddr, ttl: u32);
    /// A CNAME record of the answer section.
    fn alias(&mut self, owner: Self::Name, target: Self::Name, ttl: u32);
}

/// A plain message but for its records.
#[derive(Clone, Copy)]
pub(super) struct Plain<N> {
    pub id: u16,
    pub response: bool,
    pub truncated: bool,
    pub rcode: u16,
    pub qname: N,
    pub qtype: u16,
    pub counts: SectionCounts,
}

/// Reads a plain message. After `None`, what `taker` got is to be forgotten.
pub(super) fn read<T: Taker>(bytes: &[u8], taker: &mut T) -> Option<Plain<T::Name>> {
    let header = Header::read(bytes)?;
    let [high, low] = header.flags.to_be_bytes();
    let response = high & 0x80 != 0;
    let counts = header.counts;
    let plain = high & 0x78 == 0 // opcode QUERY
        && counts.questions == 1
        && (response || (counts.answers == 0 && counts.authorities == 0))
        && bytes.len() <= MAX_FOR_HICKORY;
    if !plain {
        return None;
    }
    let mut reader =
        Reader { bytes, taker, names: [None; REMEMBERED], remembered: 0, text: [0; 256 + TOGETHER] };
    let (qname, at) = reader.name(HEADER)?;
    let qtype = u16_at(bytes, at)?;
    if u16_at(bytes, at + 2)? != CLASS_IN {
        return None;
    }
    let mut at = at + 4;
    for _ in 0..counts.answers {
        at = reader.answer(at)?;
    }
    for _ in 0..counts.authorities {
        at = reader.authority(at)?;
    }
    let mut edns = false;
    for _ in 0..counts.additionals {
        at = reader.additional(at, &mut edns)?;
    }
    Some(Plain {
        id: header.id,
        response,
        truncated: high & 0x02 != 0,
        rcode: u16::from(low & 0x0f),
        qname,
        qtype,
        counts,
    })
}

struct Reader<'b, 't, T: Taker> {
    bytes: &'b [u8],
    taker: &'t mut T,
    /// Names that stand in full or in part at an offset.
    names: [Option<(usize, T::Name)>; REMEMBERED],
    remembered: usize,
    text: [u8; 256 + TOGETHER],
}

/// The fixed part of a record behind its owner.
struct Frame {
    rtype: u16,
    class: u16,
    ttl: u32,
    start: usize,
    end: usize,
}

impl Frame {
    fn read(bytes: &[u8], at: usize) -> Option<Frame> {
        let &[t0, t1, c0, c1, l0, l1, l2, l3, d0, d1] = bytes.get(at..)?.first_chunk()?;
        let start = at + 10;
        let end = start + usize::from(u16::from_be_bytes([d0, d1]));
        (end <= bytes.len()).then_some(Frame {
            rtype: u16::from_be_bytes([t0, t1]),
            class: u16::from_be_bytes([c0, c1]),
            ttl: u32::from_be_bytes([l0, l1, l2, l3]),
            start,
            end,
        })
    }

    /// The address of an A or AAAA record of class IN, if it has the length of one.
    fn address(&self, bytes: &[u8]) -> Option<IpAddr> {
        let data = bytes.get(self.start..self.end)?;
        match (self.class, self.rtype) {
            (CLASS_IN, TYPE_A) => Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            (CLASS_IN, TYPE_AAAA) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            _ => None,
        }
    }
}

impl<T: Taker> Reader<'_, '_, T> {
    /// The name at `at`, and where what follows begins.
    fn name(&mut self, at: usize) -> Option<(T::Name, usize)> {
        // A name that is but a pointer is the name pointed to. That one was read where it stands, and all of it lies
        // before this one: it runs into nothing.
        let (place, after) = match u16_at(self.bytes, at) {
            Some(pointer @ 0xc000..) => (usize::from(pointer & 0x3fff), Some(at + 2)),
            _ => (at, None),
        };
        if let Some(after) = after
            && let Some(&(_, name)) = self.names.iter().flatten().find(|(known, _)| *known == place)
        {
            return Some((name, after));
        }
        let (length, after) = self.labels_at_once(at).or_else(|| self.labels_one_by_one(at))?;
        let name = self.taker.name(if length == 0 { b"." } else { self.text.get(..length)? });
        if let Some(slot) = self.names.get_mut(self.remembered) {
            *slot = Some((place, name));
            self.remembered += 1;
        }
        Some((name, after))
    }

    /// Writes the name at `at` as text; gives how long that is, and where what follows begins.
    fn labels_one_by_one(&mut self, at: usize) -> Option<(usize, usize)> {
        let text = &mut self.text;
        let mut length = 0;
        let after = walk(self.bytes, at, |label| {
            if length > 0 {
                *text.get_mut(length)? = b'.';
                length += 1;
            }
            let mut plain = true;
            for (to, &byte) in text.get_mut(length..length + label.len())?.iter_mut().zip(label) {
                *to = WRITTEN[usize::from(byte)];
                plain &= *to != NOT_PLAIN;
            }
            length += label.len();
            plain.then_some(())
        })?;
        Some((length, after))
    }

    /// The same of a name of some labels without pointers, sixteen bytes at a time. None if it is another, or not plain.
    #[inline(always)]
    fn labels_at_once(&mut self, at: usize) -> Option<(usize, usize)> {
        // Where labels begin, as distances from the name.
        let (mut begins, mut labels, mut here) = ([0u8; MOST_LABELS], 0, at);
        loop {
            match *self.bytes.get(here)? {
                0 => break,
                byte @ 1..=63 => {
                    *begins.get_mut(labels)? = u8::try_from(here - at).ok()?;
                    labels += 1;
                    here += 1 + usize::from(byte);
                }
                _ => return None,
            }
        }
        let begins = begins.get(1..labels)?;
        let length = here - at - 1;
        if length > MOST_TEXT {
            return None;
        }
        let (text, behind) = self.text.split_at_mut_checked(length)?;
        text.copy_from_slice(self.bytes.get(at + 1..here)?);
        // Lengths between labels, and whatever stands behind the last, must not make the name look strange.
        *behind.first_chunk_mut()? = [PLAIN; TOGETHER];
        mark(&mut self.text, begins, PLAIN);
        let mut strange = false;
        for bytes in self.text.get_mut(..length.next_multiple_of(TOGETHER))?.as_chunks_mut::<TOGETHER>().0 {
            for byte in bytes {
                let is_plain = matches!(*byte, 0x21..=0x7e) & (*byte != b'.') & (*byte != b'\\');
                strange |= !is_plain;
                *byte |= u8::from(byte.is_ascii_uppercase()) << 5;
            }
        }
        mark(&mut self.text, begins, b'.');
        (!strange).then_some((length, here + 1))
    }

    fn answer(&mut self, at: usize) -> Option<usize> {
        let (owner, at) = self.name(at)?;
        let frame = Frame::read(self.bytes, at)?;
        if (frame.class, frame.rtype) == (CLASS_IN, TYPE_CNAME) {
            let (target, end) = self.name(frame.start)?;
            if end != frame.end {
                return None;
            }
            self.taker.alias(owner, target, frame.ttl);
        } else {
            self.taker.address(owner, frame.address(self.bytes)?, frame.ttl);
        }
        Some(frame.end)
    }

    /// What says that there is no such name or no such record, and who knows better.
    fn authority(&mut self, at: usize) -> Option<usize> {
        let frame = Frame::read(self.bytes, skip(self.bytes, at)?)?;
        let end = match frame.rtype {
            TYPE_SOA => skip(self.bytes, skip(self.bytes, frame.start)?)? + SOA_NUMBERS,
            TYPE_NS => skip(self.bytes, frame.start)?,
            _ => return None,
        };
        (end == frame.end).then_some(end)
    }

    fn additional(&mut self, at: usize, edns: &mut bool) -> Option<usize> {
        let data = skip(self.bytes, at)?;
        let frame = Frame::read(self.bytes, data)?;
        if frame.rtype != TYPE_OPT {
            frame.address(self.bytes)?;
            return Some(frame.end);
        }
        // At the root, only once, without further bits of the response code.
        if data != at + 1 || std::mem::replace(edns, true) || frame.ttl > 0x00ff_ffff {
            return None;
        }
        let mut option = frame.start;
        while option < frame.end {
            if !OPAQUE_OPTIONS.contains(&u16_at(self.bytes, option)?) {
                return None;
            }
            option += 4 + usize::from(u16_at(self.bytes, option + 2)?);
        }
        (option == frame.end).then_some(frame.end)
    }
}

/// Writes a byte between labels, which begin at these distances from the name.
#[inline(always)]
fn mark(text: &mut [u8], begins: &[u8], byte: u8) {
    for &begin in begins {
        // The first label's length is not part of the text.
        if let Some(place) = text.get_mut(usize::from(begin) - 1) {
            *place = byte;
        }
    }
}

/// Labels of a name that is read at once; real ones have three to six.
const MOST_LABELS: usize = 16;

/// Bytes of a name's text, at the most (RFC 1035 section 2.3.4: 255 with a byte for each label and the root).
const MOST_TEXT: usize = 253;

/// Bytes of a name that are looked at together.
const TOGETHER: usize = 16;

/// A byte that nothing needs to be done about.
const PLAIN: u8 = b'-';

/// What [`WRITTEN`] has for a byte that would be escaped.
const NOT_PLAIN: u8 = 0;

/// As what each byte of a label is written: in small letters.
const WRITTEN: [u8; 256] = {
    let mut written = [NOT_PLAIN; 256];
    let mut byte = 0x21;
    while byte <= 0x7e {
        if byte != b'.' && byte != b'\\' {
            written[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    written
};

/// The name of a text that [`Taker::name`] was given, which is its own text: taken as a whole, it is not written again byte by
/// byte.
pub(super) fn domain_name(text: &[u8]) -> DomainName {
    let whole = std::str::from_utf8(text).ok().and_then(DomainName::from_presentation);
    whole.unwrap_or_else(|| {
        DomainName::from_labels(text.split(|&byte| byte == b'.').filter(|label| !label.is_empty()))
    })
}

/// Where what follows the name at `at` begins; what it says is of no matter.
fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    walk(bytes, at, |_| Some(()))
}

/// Hands over the labels of the name at `at`, and gives where what follows begins. Pointers must go back before the piece
/// of name that holds them, and no piece may run into the one that pointed to it.
#[inline]
fn walk<'b>(bytes: &'b [u8], at: usize, mut take: impl FnMut(&'b [u8]) -> Option<()>) -> Option<usize> {
    let mut here = at;
    let mut after = None;
    let mut piece_start = at;
    let mut limit = bytes.len();
    let mut length = 0;
    let mut pointers = 0;
    loop {
        if here >= limit {
            return None;
        }
        match *bytes.get(here)? {
            0 => return Some(after.unwrap_or(here + 1)),
            byte @ 1..=63 => {
                let end = here + 1 + usize::from(byte);
                length += usize::from(byte) + 1;
                // With the root's byte a name has at most 255 (RFC 1035 section 2.3.4).
                if length > 254 {
                    return None;
                }
                take(bytes.get(here + 1..end)?)?;
                here = end;
            }
            0xc0.. => {
                let target = usize::from(u16_at(bytes, here)? & 0x3fff);
                after = after.or(Some(here + 2));
                pointers += 1;
                if !(HEADER..piece_start).contains(&target) || pointers > MOST_POINTERS {
                    return None;
                }
                limit = piece_start;
                piece_start = target;
                here = target;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Texts;

    /// Writes a name as text: how long that is, and where what follows begins.
    type Way = fn(&mut Reader<'_, '_, Texts>, usize) -> Option<(usize, usize)>;

    impl Taker for Texts {
        type Name = ();
        fn name(&mut self, _: &[u8]) {}
        fn address(&mut self, (): (), _: IpAddr, _: u32) {}
        fn alias(&mut self, (): (), (): (), _: u32) {}
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn labels_read_at_once_are_those_read_one_by_one(
            labels in prop::collection::vec(
                prop_oneof![6 => "[a-zA-Z0-9_-]{1,63}", 1 => "[ -~]{1,20}", 1 => "\\PC{1,3}"], 0..18
            ),
            changed in prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>())),
            cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        ) {
            let mut bytes = vec![7; HEADER];
            for label in &labels {
                bytes.push(label.len() as u8);
                bytes.extend(label.bytes());
            }
            bytes.extend([0, 0, 1]);
            if let Some((place, byte)) = changed {
                let place = HEADER + place.index(bytes.len() - HEADER);
                bytes[place] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(HEADER + cut.index(bytes.len() - HEADER));
            }
            let read = |way: Way| {
                let (names, text) = ([None; REMEMBERED], [b'.'; 256 + TOGETHER]);
                let mut reader = Reader { bytes: &bytes, taker: &mut Texts, names, remembered: 0, text };
                way(&mut reader, HEADER).map(|(length, after)| (reader.text[..length].to_vec(), after))
            };
            let one_by_one = read(|reader, at| reader.labels_one_by_one(at));
            let at_once = read(|reader, at| reader.labels_at_once(at));
            // What is left to be read one by one are the root, names of many labels, and what points elsewhere.
            let is_usual = changed.is_none() && (1..=MOST_LABELS).contains(&labels.len());
            if at_once.is_some() || is_usual {
                prop_assert_eq!(at_once, one_by_one);
            }
        }
    }
}
