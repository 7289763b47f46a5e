//! ClientHellos whose like was read before: a client says the same thousands of times, with other random numbers and keys.

use super::tls::{
    ClientHello, EXT_ALPN, EXT_ECH, EXT_ESNI, EXT_SERVER_NAME, EXT_SUPPORTED_VERSIONS, Part,
    client_hello_body, first_client_hello, parts, well_formed_client_hello,
};
use crate::model::ByHash;
use foldhash::fast::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Hellos remembered: beyond, all are forgotten and read again. A host knows hundreds of servers; names come from captures and
/// are not ours to bound otherwise. Some 300 bytes each, and never more than two kilobytes.
const MOST_KNOWN: usize = 1 << 12;

/// Bytes on which it depends what is told of a hello that is remembered, at the most: real ones have a tenth.
const MOST_TELLING_BYTES: usize = 1 << 10;

/// Whole ClientHellos, each kept once. No result depends on what it remembers.
#[derive(Debug, Default)]
pub struct KnownHellos {
    known: Vec<Known>,
    table: ByHash,
    seed: RandomState,
}

#[derive(Debug)]
struct Known {
    legacy_version: u16,
    ech: bool,
    server_name: Option<Box<[u8]>>,
    alpn: Option<Box<[u8]>>,
    versions: Option<Box<[u8]>>,
    hello: Arc<ClientHello>,
}

/// All bytes of a hello on which it depends what is told of it: of extensions what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Parts<'a> {
    legacy_version: u16,
    ech: bool,
    server_name: Option<&'a [u8]>,
    alpn: Option<&'a [u8]>,
    versions: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    /// Those of the hello that handshake bytes begin with; none where one of these extensions stands there twice, or they are too
    /// long to be remembered.
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (body, _) = client_hello_body(bytes)?;
        let mut told = Parts { legacy_version: 0, ech: false, server_name: None, alpn: None, versions: None };
        let (mut is_twice, mut length) = (false, 0);
        parts(body, |part| {
            let (place, data) = match part {
                Part::Version(version) => return told.legacy_version = version,
                Part::Extension(EXT_ECH | EXT_ESNI, _) => return told.ech = true,
                Part::Extension(EXT_SERVER_NAME, data) => (&mut told.server_name, data.0),
                Part::Extension(EXT_ALPN, data) => (&mut told.alpn, data.0),
                Part::Extension(EXT_SUPPORTED_VERSIONS, data) => (&mut told.versions, data.0),
                Part::Extension(..) => return,
            };
            length += data.len();
            is_twice |= place.replace(data).is_some();
        })?;
        (!is_twice && length <= MOST_TELLING_BYTES).then_some(told)
    }
}

impl Known {
    fn of(parts: &Parts<'_>, hello: Arc<ClientHello>) -> Self {
        // Every field is taken apart here, so that a new one cannot be forgotten.
        let Parts { legacy_version, ech, server_name, alpn, versions } = *parts;
        let [server_name, alpn, versions] = [server_name, alpn, versions].map(|part| part.map(Box::from));
        Known { legacy_version, ech, server_name, alpn, versions, hello }
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            legacy_version: self.legacy_version,
            ech: self.ech,
            server_name: self.server_name.as_deref(),
            alpn: self.alpn.as_deref(),
            versions: self.versions.as_deref(),
        }
    }
}

impl KnownHellos {
    /// What [`whole_client_hello`](super::tls::whole_client_hello) reads.
    pub fn whole(&mut self, stream: &[u8]) -> Option<(Arc<ClientHello>, usize)> {
        let (bytes, end) = first_client_hello(stream)?;
        let anew = || well_formed_client_hello(&bytes).map(Arc::new);
        let Some(parts) = Parts::of(&bytes) else { return Some((anew()?, end)) };
        let hash = self.seed.hash_one(parts);
        let at = |number: u32| self.known.get(number as usize);
        let same = |number: u32| at(number).is_some_and(|known| known.parts() == parts);
        if let Some(known) = self.table.find(hash, same).and_then(at) {
            return Some((Arc::clone(&known.hello), end));
        }
        let hello = anew()?;
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
            self.table.clear();
        }
        self.table.insert(hash, self.known.len() as u32);
        self.known.push(Known::of(&parts, Arc::clone(&hello)));
        Some((hello, end))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tls::tests::{hello_naming, hello_stream, record};
    use super::super::tls::{HANDSHAKE, whole_client_hello};
    use super::*;
    use proptest::prelude::*;

    /// What is read of a stream by itself, the first time, and once its like is known.
    fn read(known: &mut KnownHellos, stream: &[u8]) -> [Option<(ClientHello, usize)>; 3] {
        let mut again = || known.whole(stream).map(|(hello, end)| ((*hello).clone(), end));
        [whole_client_hello(stream), again(), again()]
    }

    #[test]
    fn hellos_of_other_random_numbers_are_one_and_of_other_names_are_not() {
        let mut known = KnownHellos::default();
        let mut hello = |name: &[u8], random: u8| {
            let mut stream = hello_stream(name);
            stream[11..43].fill(random);
            known.whole(&stream).unwrap().0
        };
        let first = hello(b"one.example", 1);
        assert!(Arc::ptr_eq(&first, &hello(b"one.example", 2)));
        let other = hello(b"two.example", 1);
        assert_ne!(first.server_name, other.server_name);
        // So many others came that the first was forgotten.
        for number in 0..MOST_KNOWN {
            hello(format!("{number}.example").as_bytes(), 1);
        }
        let again = hello(b"one.example", 1);
        assert_eq!(first, again);
        assert!(!Arc::ptr_eq(&first, &again));
        assert!(known.known.len() <= MOST_KNOWN);
    }

    #[test]
    fn hellos_that_differ_in_one_thing_that_is_told_are_not_one() {
        let plain = hello_stream(b"one.example");
        // The first extension, of a kind that says nothing, becomes another one.
        let place = plain.windows(4).position(|bytes| bytes == [0x1a, 0x1a, 0, 0]).unwrap();
        let of_kind = |kind: u16| {
            let mut stream = plain.clone();
            stream[place..place + 2].copy_from_slice(&kind.to_be_bytes());
            stream
        };
        let mut known = KnownHellos::default();
        // Of an extension that stands there twice the first counts, or both do.
        for names in [[&b"one.example"[..], b"two.example"], [b"three.example", b"two.example"]] {
            let [anew, first, again] = read(&mut known, &record(HANDSHAKE, &hello_naming(&names)));
            assert!(anew.is_some() && anew == first && anew == again);
        }
        for stream in
            [EXT_ECH, 0x2a2a, EXT_ESNI, EXT_ALPN, EXT_SERVER_NAME].map(of_kind).iter().chain([&plain])
        {
            let [anew, first, again] = read(&mut known, stream);
            assert!(anew.is_some());
            assert_eq!((&anew, &anew), (&first, &again));
        }
    }

    #[test]
    fn a_hello_that_says_too_much_is_read_each_time_and_one_in_several_records_is_remembered() {
        let mut known = KnownHellos::default();
        let long = hello_stream(&[b'a'; 2 * MOST_TELLING_BYTES]);
        let [anew, first, again] = read(&mut known, &long);
        assert!(anew.is_some() && anew == first && anew == again && known.known.is_empty());
        // The same message in two records.
        let whole = hello_stream(b"one.example");
        let (head, message) = whole.split_at(5);
        let record = |bytes: &[u8]| [&head[..3], &(bytes.len() as u16).to_be_bytes(), bytes].concat();
        let parted = [record(&message[..90]), record(&message[90..])].concat();
        let [anew, first, again] = read(&mut known, &parted);
        assert!(anew.is_some() && anew == first && anew == again);
        assert!(Arc::ptr_eq(&known.whole(&parted).unwrap().0, &known.whole(&whole).unwrap().0));
    }

    proptest! {
        #[test]
        fn what_was_remembered_is_what_is_read(
            names in prop::collection::vec("[a-c]{1,2}", 1..4),
            changes in prop::collection::vec((0usize..400, any::<u8>()), 0..4),
            (cut, more) in (0usize..400, 0usize..40),
        ) {
            let mut known = KnownHellos::default();
            for name in &names {
                let mut stream = hello_stream(name.as_bytes());
                let [anew, first, again] = read(&mut known, &stream);
                prop_assert!(anew.is_some() && anew == first && anew == again);
                stream.extend(vec![23; more]);
                for &(place, byte) in &changes {
                    stream.get_mut(place).into_iter().for_each(|place| *place = byte);
                    let [anew, first, again] = read(&mut known, &stream);
                    prop_assert_eq!((&anew, &anew), (&first, &again));
                }
                stream.truncate(cut);
                let [anew, first, again] = read(&mut known, &stream);
                prop_assert_eq!((&anew, &anew), (&first, &again));
            }
        }
    }
}
