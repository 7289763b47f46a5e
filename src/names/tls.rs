//! TLS as far as it is readable from outside (RFC 8446, RFC 5246): record headers, the ClientHello, the version that
//! the server chose, alerts in the clear.
//!
//! Everything takes the contiguous first bytes of one direction and copes with a cut anywhere.

use super::host::name_from_wire;
use crate::model::DomainName;
use std::borrow::Cow;

/// Record type of ChangeCipherSpec.
pub const CHANGE_CIPHER_SPEC: u8 = 20;
/// Record type of alerts.
pub const ALERT: u8 = 21;
/// Record type of handshake messages.
pub const HANDSHAKE: u8 = 22;
/// Record type of application data.
pub const APPLICATION_DATA: u8 = 23;

/// TLS 1.3's number, also where older fields carry 0x0303.
pub const TLS_1_3: u16 = 0x0304;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const FATAL: u8 = 2;
pub(super) const EXT_SERVER_NAME: u16 = 0;
pub(super) const EXT_ALPN: u16 = 16;
pub(super) const EXT_SUPPORTED_VERSIONS: u16 = 43;
/// encrypted_client_hello (RFC 9849), and the numbers of its drafts' forerunner.
pub(super) const EXT_ECH: u16 = 0xfe0d;
pub(super) const EXT_ESNI: u16 = 0xffce;

/// Largest record body: 2^14 and what protection may add (RFC 5246 section 6.2.3).
const MAX_RECORD: u16 = 16_384 + 2_048;
/// Largest hello taken for one; real ones stay below 20 KiB even with post-quantum keys.
const MAX_HELLO: usize = 131_072;
/// Protocol names kept of one hello.
const MAX_ALPN: usize = 32;

/// A reader over bytes that may end anywhere.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let (&bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(bytes))
    }

    pub(super) fn u24(&mut self) -> Option<usize> {
        let (&[a, b, c], rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()
    }

    /// A vector with a length of one byte.
    pub(super) fn vec8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// A vector with a length of two bytes.
    fn vec16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// At most `count` of the bytes that are left.
    fn up_to(self, count: usize) -> Bytes<'a> {
        Bytes(self.0.get(..count).unwrap_or(self.0))
    }
}

/// What a client's hello says, as far as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientHello {
    /// The hello was there to its end and well formed. If not, an absent field says nothing.
    pub complete: bool,
    /// The `host_name` of server_name (RFC 6066 section 3), escaped. A client can write anything there, also a literal
    /// address.
    pub server_name: Option<DomainName>,
    /// Offered application protocols (RFC 7301), escaped, in order.
    pub alpn: Vec<String>,
    /// Offered versions of supported_versions, in order, without reserved (GREASE) values.
    pub versions: Vec<u16>,
    /// The version field of the hello itself: at most 0x0303.
    pub legacy_version: u16,
    /// An encrypted hello was offered; `server_name` is then the public name only. (Browsers also send one as GREASE.)
    pub ech: bool,
}

/// The ClientHello at the start of a client's direction. It may span several records.
///
/// `None` if the stream does not begin with one, or holds less than its 4 bytes of header. An SSLv2 hello is none.
pub fn client_hello(stream: &[u8]) -> Option<ClientHello> {
    client_hello_handshake(&handshake_bytes(stream, CLIENT_HELLO)?)
}

/// The ClientHello at the start of bare handshake bytes, as QUIC carries them in CRYPTO frames (RFC 9001 section 4).
pub fn client_hello_handshake(bytes: &[u8]) -> Option<ClientHello> {
    let (body, whole) = client_hello_body(bytes)?;
    let mut hello = ClientHello::default();
    let read = hello.read(body);
    if hello.legacy_version >> 8 != 3 && body.0.len() >= 2 {
        return None;
    }
    hello.complete = whole && read.is_some();
    Some(hello)
}

/// The whole ClientHello at the start of a client's direction, and the offset of the record after it. `None` unless
/// it is there to its end and well formed.
pub fn whole_client_hello(stream: &[u8]) -> Option<(ClientHello, usize)> {
    let (bytes, end) = first_client_hello(stream)?;
    Some((well_formed_client_hello(&bytes)?, end))
}

/// The handshake bytes that begin with the ClientHello at the start of a client's direction, if all of it is there, and the offset
/// of the record after it.
pub(super) fn first_client_hello(stream: &[u8]) -> Option<(Cow<'_, [u8]>, usize)> {
    first_message(stream, CLIENT_HELLO).filter(|_| looks_like_client(stream))
}

/// The ClientHello at the start of handshake bytes, if it is there to its end and well formed.
pub(super) fn well_formed_client_hello(bytes: &[u8]) -> Option<ClientHello> {
    client_hello_handshake(bytes).filter(|hello| hello.complete)
}

/// The version that the server chose, where its ServerHello is there to its end, and the offset of the record after it.
pub fn whole_server_hello(stream: &[u8]) -> Option<(u16, usize)> {
    let (_, end) = first_message(stream, SERVER_HELLO)?;
    Some((server_version(stream)?, end))
}

/// The handshake bytes that begin with the first message, and where the record ends in which that ends, by its header; `None`
/// unless the message is whole.
fn first_message(stream: &[u8], wanted: u8) -> Option<(Cow<'_, [u8]>, usize)> {
    let bytes = handshake_bytes(stream, wanted)?;
    let (_, whole) = message(&bytes, wanted)?;
    let (mut have, mut need) = (0, None);
    for record in records(stream).take_while(|record| whole && record.content_type == HANDSHAKE) {
        if need.is_none() {
            let mut head = Bytes(record.body);
            head.u8()?;
            need = Some(4 + head.u24()?);
        }
        have += usize::from(record.length);
        if need.is_some_and(|need| have >= need) {
            return Some((bytes, record.offset + 5 + usize::from(record.length)));
        }
    }
    None
}

/// Whether these are kind, version (its high byte) and length of a record.
pub fn is_record(content_type: u8, version_high: u8, length: u16) -> bool {
    (CHANGE_CIPHER_SPEC..=24).contains(&content_type) && version_high == 3 && length <= MAX_RECORD
}

/// Whether a record's header stands at the beginning.
pub(super) fn begins_record(stream: &[u8]) -> bool {
    records(stream).next().is_some()
}

/// The name of an application protocol, every odd byte escaped.
fn protocol_word(name: &[u8]) -> String {
    // As all are that are registered.
    let is_plain = name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_'));
    if is_plain { String::from_utf8_lossy(name).into_owned() } else { name.escape_ascii().to_string() }
}

/// What a ClientHello is made of, as far as anything is told of it.
pub(super) enum Part<'a> {
    /// Its own version field.
    Version(u16),
    /// An extension, by its kind: as much of it as there is.
    Extension(u16, Bytes<'a>),
}

/// Hands over the parts of a ClientHello's body, one by one; `None` where the bytes end or make no sense.
pub(super) fn parts<'a>(mut body: Bytes<'a>, mut take: impl FnMut(Part<'a>)) -> Option<()> {
    take(Part::Version(body.u16()?));
    body.take(32)?;
    body.vec8()?;
    body.vec16()?;
    body.vec8()?;
    if body.0.is_empty() {
        return Some(()); // before TLS 1.2 extensions were optional
    }
    let length = usize::from(body.u16()?);
    let mut extensions = body.up_to(length);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let length = usize::from(extensions.u16()?);
        take(Part::Extension(kind, extensions.up_to(length)));
        extensions.take(length)?;
    }
    (body.0.len() >= length).then_some(())
}

/// The body of the ClientHello at the start of handshake bytes, and whether all of it is there.
pub(super) fn client_hello_body(bytes: &[u8]) -> Option<(Bytes<'_>, bool)> {
    message(bytes, CLIENT_HELLO)
}

impl ClientHello {
    /// The versions that the client offers, by their usual names, in its order. Without supported_versions it offers what
    /// the hello's own field says, and lower ones.
    pub fn offered(&self) -> Vec<&'static str> {
        let own = [self.legacy_version];
        let versions = if self.versions.is_empty() && self.complete { &own[..] } else { &self.versions };
        let mut names: Vec<&'static str> =
            versions.iter().filter_map(|&version| version_name(version)).collect();
        names.dedup();
        names
    }

    /// The highest of them.
    pub fn highest_offered(&self) -> Option<u16> {
        let own = (self.versions.is_empty() && self.complete).then_some(self.legacy_version);
        let known =
            self.versions.iter().copied().chain(own).filter(|version| version_name(*version).is_some());
        // Drafts of 1.3 count below what became of them.
        known.max_by_key(|version| (version_name(*version), *version))
    }

    /// `None` where the bytes end or make no sense; what was read until there is kept.
    fn read(&mut self, body: Bytes<'_>) -> Option<()> {
        parts(body, |part| match part {
            Part::Version(version) => self.legacy_version = version,
            // A cut extension may still hold the whole name.
            Part::Extension(kind, data) => {
                self.read_extension(kind, data);
            }
        })
    }

    /// Takes of an extension what is there; damage inside one concerns no other.
    fn read_extension(&mut self, kind: u16, mut data: Bytes<'_>) -> Option<()> {
        match kind {
            EXT_SERVER_NAME if self.server_name.is_none() => {
                let length = usize::from(data.u16()?);
                let mut list = data.up_to(length);
                while self.server_name.is_none() {
                    let name_type = list.u8()?;
                    let name = list.vec16()?;
                    if name_type == 0 {
                        self.server_name = name_from_wire(name);
                    }
                }
            }
            EXT_ALPN => {
                let length = usize::from(data.u16()?);
                let mut list = data.up_to(length);
                while self.alpn.len() < MAX_ALPN {
                    self.alpn.push(protocol_word(list.vec8()?));
                }
            }
            EXT_SUPPORTED_VERSIONS => {
                let length = usize::from(data.u8()?);
                let mut list = data.up_to(length);
                loop {
                    let version = list.u16()?;
                    // 0x?a?a: RFC 8701.
                    if version & 0x0f0f != 0x0a0a {
                        self.versions.push(version);
                    }
                }
            }
            EXT_ECH | EXT_ESNI => self.ech = true,
            _ => {}
        }
        Some(())
    }
}

/// One record of a stream (RFC 8446 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsRecord<'a> {
    /// Where its header begins in the stream.
    pub offset: usize,
    /// 20 to 24.
    pub content_type: u8,
    /// The version field of the record layer.
    pub version: u16,
    /// Length of the body as the header says.
    pub length: u16,
    /// As much of the body as the stream holds.
    pub body: &'a [u8],
}

/// The records from the start of `stream`; ends at the first bytes that are no record header. The body of the last one
/// may be cut.
pub fn records(stream: &[u8]) -> Records<'_> {
    Records { stream, at: 0 }
}

/// See [`records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    stream: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = TlsRecord<'a>;

    fn next(&mut self) -> Option<TlsRecord<'a>> {
        let mut rest = Bytes(self.stream.get(self.at..)?);
        let offset = self.at;
        let content_type = rest.u8()?;
        let version = rest.u16()?;
        let length = rest.u16()?;
        if !is_record(content_type, (version >> 8) as u8, length) {
            self.at = self.stream.len();
            return None;
        }
        self.at = offset + 5 + usize::from(length);
        Some(TlsRecord { offset, content_type, version, length, body: rest.up_to(length.into()).0 })
    }
}

/// The handshake bytes of the leading handshake records, as far as the first message reaches. `None` unless they
/// begin with the message wanted.
fn handshake_bytes(stream: &[u8], wanted: u8) -> Option<Cow<'_, [u8]>> {
    let mut out: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    for record in records(stream) {
        if record.content_type != HANDSHAKE {
            break;
        }
        if out.is_empty() {
            out = Cow::Borrowed(record.body);
        } else {
            out.to_mut().extend_from_slice(record.body);
        }
        if out.first().is_some_and(|&kind| kind != wanted) {
            return None;
        }
        let whole = message(&out, wanted).is_some_and(|(_, whole)| whole);
        if whole || out.len() > MAX_HELLO + 4 || record.body.len() < usize::from(record.length) {
            break;
        }
    }
    (!out.is_empty()).then_some(out)
}

/// The body of the handshake message at the start of `bytes`, and whether all of it is there.
fn message(bytes: &[u8], wanted: u8) -> Option<(Bytes<'_>, bool)> {
    let mut bytes = Bytes(bytes);
    if bytes.u8()? != wanted {
        return None;
    }
    let length = bytes.u24()?;
    (length <= MAX_HELLO).then(|| (bytes.up_to(length), bytes.0.len() >= length))
}

/// The version that the server chose, from the ServerHello at the start of its direction: supported_versions where
/// there is one (TLS 1.3), else the hello's own field. `None` without ServerHello, or with one cut before that is known.
pub fn server_version(stream: &[u8]) -> Option<u16> {
    let bytes = handshake_bytes(stream, SERVER_HELLO)?;
    let (mut body, whole) = message(&bytes, SERVER_HELLO)?;
    let legacy = body.u16()?;
    let mut chosen = None;
    let mut read = || -> Option<()> {
        body.take(32)?;
        body.vec8()?;
        body.take(3)?; // cipher suite, compression
        if body.0.is_empty() {
            return Some(());
        }
        let length = usize::from(body.u16()?);
        let mut extensions = body.up_to(length);
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let mut data = Bytes(extensions.vec16()?);
            if kind == EXT_SUPPORTED_VERSIONS {
                chosen = Some(data.u16()?);
                return Some(());
            }
        }
        Some(())
    };
    let to_the_end = read().is_some() && whole;
    // Below 1.2 the field is the version; 0x0303 may be 1.2 or 1.3.
    chosen
        .or((to_the_end || legacy < 0x0303).then_some(legacy))
        .filter(|version| version_name(*version).is_some())
}

/// The usual name of a version number.
pub fn version_name(version: u16) -> Option<&'static str> {
    Some(match version {
        0x0300 => "SSLv3",
        0x0301 => "TLSv1.0",
        0x0302 => "TLSv1.1",
        0x0303 => "TLSv1.2",
        // Servers of its draft days say 0x7f00 and the draft's number.
        TLS_1_3 | 0x7f0e..=0x7f1c => "TLSv1.3",
        _ => return None,
    })
}

/// The first fatal alert that is readable in the clear before any application data of this direction: offset of its
/// record and its description (RFC 8446 section 6). Encrypted alerts are longer than 2 bytes or look like data.
pub fn fatal_alert(stream: &[u8]) -> Option<(usize, u8)> {
    for record in records(stream) {
        match (record.content_type, record.length, record.body) {
            (APPLICATION_DATA, ..) => return None,
            (ALERT, 2, &[FATAL, description]) => return Some((record.offset, description)),
            _ => {}
        }
    }
    None
}

/// Offset of the first application-data record of this direction.
pub fn first_application_data(stream: &[u8]) -> Option<usize> {
    records(stream).find(|record| record.content_type == APPLICATION_DATA).map(|record| record.offset)
}

/// Whether a client's first bytes are a TLS record: a ClientHello, or, where the capture began later, a record of what
/// clients send after it.
pub(super) fn looks_like_client(stream: &[u8]) -> bool {
    records(stream).next().is_some_and(|record| {
        (0x0300..=TLS_1_3).contains(&record.version)
            && match record.content_type {
                // ClientHello, Certificate, ClientKeyExchange.
                HANDSHAKE => record.body.first().is_none_or(|kind| matches!(kind, 1 | 11 | 16)),
                CHANGE_CIPHER_SPEC => record.length == 1,
                ALERT | APPLICATION_DATA => record.length >= 2,
                _ => false,
            }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vec16(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn vec8(bytes: &[u8]) -> Vec<u8> {
        [&[u8::try_from(bytes.len()).unwrap()][..], bytes].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vec16(data)].concat()
    }

    fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[kind][..], &length[1..], body].concat()
    }

    pub(crate) fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, 3, 1][..], &vec16(body)].concat()
    }

    /// The handshake message of a hello with server name, ALPN h2 and http/1.1, TLS 1.3 and 1.2.
    pub(crate) fn hello_message(name: &[u8]) -> Vec<u8> {
        hello_naming(&[name])
    }

    /// The same with as many server_name extensions.
    pub(crate) fn hello_naming(names: &[&[u8]]) -> Vec<u8> {
        let sni = |name: &&[u8]| extension(EXT_SERVER_NAME, &vec16(&[&[0][..], &vec16(name)].concat()));
        let alpn = vec16(&[vec8(b"h2"), vec8(b"http/1.1")].concat());
        let extensions = [
            extension(0x1a1a, b""),
            names.iter().flat_map(sni).collect(),
            extension(EXT_ALPN, &alpn),
            extension(EXT_SUPPORTED_VERSIONS, &vec8(&[0x2a, 0x2a, 3, 4, 3, 3])),
            extension(51, &[7; 300]),
        ]
        .concat();
        let body =
            [&[3, 3][..], &[9; 32], &vec8(&[1; 32]), &vec16(&[0x13, 1]), &vec8(&[0]), &vec16(&extensions)];
        handshake(CLIENT_HELLO, &body.concat())
    }

    pub(crate) fn hello_stream(name: &[u8]) -> Vec<u8> {
        record(HANDSHAKE, &hello_message(name))
    }

    /// A TLS 1.2 ServerHello without extensions.
    pub(crate) fn server_hello() -> Vec<u8> {
        server_hello_of([3, 3], None)
    }

    fn server_hello_of(version: [u8; 2], extensions: Option<Vec<u8>>) -> Vec<u8> {
        let tail = extensions.map(|e| vec16(&e)).unwrap_or_default();
        let body = [&version[..], &[5; 32], &vec8(&[]), &[0x13, 1, 0], &tail].concat();
        record(HANDSHAKE, &handshake(SERVER_HELLO, &body))
    }

    #[test]
    fn a_hello_gives_name_protocols_and_versions() {
        let hello = client_hello(&hello_stream(b"Repository.Example.COM.")).unwrap();
        assert!(hello.complete && !hello.ech);
        assert_eq!(hello.server_name.as_ref().unwrap().as_str(), "repository.example.com");
        assert_eq!(hello.alpn, ["h2", "http/1.1"]);
        assert_eq!(protocol_word(b"h2\x1b[\xff'"), "h2\\x1b[\\xff\\'");
        assert_eq!(hello.versions, [0x0304, 0x0303]);
        assert_eq!(hello.offered(), ["TLSv1.3", "TLSv1.2"]);
        assert_eq!(hello.legacy_version, 0x0303);
    }

    #[test]
    #[rustfmt::skip]
    fn a_server_name_is_safe_to_print_whatever_the_client_writes() {
        for (name, expected) in [
            (&b"192.0.2.7"[..],       Some("192.0.2.7")),
            (b"x\x1b]0;owned\x07.net", Some("x\\027]0;owned\\007.net")),
            (b"\xff\xfe",             Some("\\255\\254")),
            (b"a\\.b",                Some("a\\\\.b")),
            (b".trusted.example",     Some("\\.trusted\\.example")),
            (b"",                     None),
        ] {
            let hello = client_hello(&hello_stream(name)).unwrap();
            assert_eq!(hello.server_name.as_ref().map(DomainName::as_str), expected);
        }
    }

    #[test]
    fn a_hello_may_span_records_of_any_size() {
        let message = hello_message(b"a.example");
        let whole = client_hello(&record(HANDSHAKE, &message)).unwrap();
        for size in [1, 3, 4, 5, 100, 300] {
            let stream: Vec<u8> = message.chunks(size).flat_map(|part| record(HANDSHAKE, part)).collect();
            assert_eq!(client_hello(&stream), Some(whole.clone()), "records of {size} bytes");
        }
    }

    #[test]
    fn a_name_is_found_although_later_bytes_are_missing() {
        let stream = hello_stream(b"a.example");
        let end = stream.windows(9).position(|w| w == b"a.example").unwrap() + 9;
        let cut = client_hello(&stream[..end]).unwrap();
        assert!(!cut.complete);
        assert_eq!(cut.server_name.unwrap().as_str(), "a.example");
        let less = client_hello(&stream[..end - 1]).unwrap();
        assert_eq!(less.server_name, None, "half a name is no name");
    }

    #[test]
    fn what_is_no_hello_is_none() {
        let sslv2 = [0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10];
        for stream in [
            &b""[..],
            b"\x16\x03\x01",
            b"GET / HTTP/1.1",
            &sslv2,
            &record(ALERT, &[2, 40]),
            &server_hello_of([3, 3], None),
        ] {
            assert_eq!(client_hello(stream), None, "{stream:?}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn the_server_chooses_the_version_in_its_hello_or_its_extension() {
        let tls13 = || Some(extension(EXT_SUPPORTED_VERSIONS, &[3, 4]));
        for (what, stream, expected) in [
            ("1.3",                   server_hello_of([3, 3], tls13()),                             Some("TLSv1.3")),
            ("1.2",                   server_hello_of([3, 3], Some(extension(23, b""))),            Some("TLSv1.2")),
            ("1.0 without extension", server_hello_of([3, 1], None),                                Some("TLSv1.0")),
            ("cut before it is clear", server_hello_of([3, 3], tls13())[..45].to_vec(),             None),
            ("an alert",              record(ALERT, &[2, 40]),                                   None),
        ] {
            assert_eq!(server_version(&stream).and_then(version_name), expected, "{what}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn only_a_fatal_alert_in_the_clear_before_data_counts() {
        let hello = server_hello_of([3, 3], None);
        let data = record(APPLICATION_DATA, b"secret");
        for (what, stream, expected) in [
            ("at once",            record(ALERT, &[2, 40]),                                      Some((0, 40))),
            ("after the hello",    [hello.clone(), record(ALERT, &[2, 48])].concat(),            Some((hello.len(), 48))),
            ("a warning",          record(ALERT, &[1, 0]),                                       None),
            ("encrypted",          [hello.clone(), record(ALERT, &[2; 26])].concat(),            None),
            ("after data",         [data.clone(), record(ALERT, &[2, 40])].concat(),             None),
            ("cut",                record(ALERT, &[2, 40])[..6].to_vec(),                        None),
        ] {
            assert_eq!(fatal_alert(&stream), expected, "{what}");
        }
        assert_eq!(first_application_data(&[hello.clone(), data].concat()), Some(hello.len()));
        assert_eq!(first_application_data(&hello), None);
    }

    #[test]
    #[rustfmt::skip]
    fn what_a_client_offers_is_its_list_or_else_the_hellos_own_field() {
        for (what, complete, versions, legacy, expected, highest) in [
            ("a list",             true,  &[0x0304, 0x0303][..],  0x0303, &["TLSv1.3", "TLSv1.2"][..], Some(0x0304)),
            ("in any order",       true,  &[0x0302, 0x0303],      0x0303, &["TLSv1.1", "TLSv1.2"],     Some(0x0303)),
            ("drafts",             true,  &[0x7f17, 0x7f1c, 0x0303], 0x0303, &["TLSv1.3", "TLSv1.2"],  Some(0x7f1c)),
            ("unknown numbers",    true,  &[0x9999, 0x0303],      0x0303, &["TLSv1.2"],                Some(0x0303)),
            ("no list",            true,  &[],                    0x0301, &["TLSv1.0"],                Some(0x0301)),
            ("no list yet",        false, &[],                    0x0303, &[],                         None),
        ] {
            let hello = ClientHello { complete, versions: versions.to_vec(), legacy_version: legacy, ..ClientHello::default() };
            assert_eq!((hello.offered(), hello.highest_offered()), (expected.to_vec(), highest), "{what}");
        }
    }

    #[test]
    fn an_encrypted_hello_is_marked() {
        let extensions = extension(EXT_ECH, &[0, 1, 2, 3]);
        let body = [&[3, 3][..], &[9; 32], &vec8(&[]), &vec16(&[0x13, 1]), &vec8(&[0]), &vec16(&extensions)]
            .concat();
        assert!(client_hello_handshake(&handshake(CLIENT_HELLO, &body)).unwrap().ech);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(stream in proptest::collection::vec(any::<u8>(), 0..300), tls in any::<bool>()) {
            let stream = if tls { [&[22, 3, 1, 0, 200][..], &stream].concat() } else { stream };
            client_hello(&stream);
            client_hello_handshake(&stream);
            server_version(&stream);
            fatal_alert(&stream);
            first_application_data(&stream);
        }

        #[test]
        fn a_cut_or_damaged_hello_never_panics_and_a_cut_one_never_lies(cut in 0usize..600, place in 5usize..600, byte in any::<u8>()) {
            let mut stream = hello_stream(b"a.example");
            let whole = client_hello(&stream).unwrap();
            let cut = cut.min(stream.len());
            if let Some(part) = client_hello(&stream[..cut]) {
                prop_assert!(part.server_name.is_none() || part.server_name == whole.server_name);
                prop_assert!(whole.alpn.starts_with(&part.alpn) && whole.versions.starts_with(&part.versions));
                prop_assert_eq!(part.complete, cut == stream.len());
            }
            let place = place.min(stream.len() - 1);
            stream[place] = byte;
            client_hello(&stream);
        }
    }
}
