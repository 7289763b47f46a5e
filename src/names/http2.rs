//! HTTP/2 in the clear (RFC 9113), as far as it names a host: `:authority` or `host` of the first request that has one.
//!
//! Takes the contiguous first bytes of a client's direction and copes with a cut anywhere. What comes by upgrade from
//! HTTP/1.1 has told its host there.

use super::host::Host;
use super::hpack::Decoder;
use super::http::HTTP2_PREFACE;
use super::tls::Bytes;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Frames followed in one stream: clients send a handful of settings and priorities before their first request.
const MAX_FRAMES: usize = 256;

/// The host of the first request that names one, and where in the stream that request begins. `None` unless the stream
/// begins with the preface.
pub fn authority(stream: &[u8]) -> Option<(usize, Host)> {
    let mut rest = Bytes(stream.strip_prefix(HTTP2_PREFACE)?);
    let mut fields = Decoder::default();
    let mut left = MAX_FRAMES;
    while left > 0 {
        let offset = stream.len() - rest.0.len();
        let frame = Frame::read(&mut rest)?;
        left -= 1;
        if frame.kind != HEADERS {
            continue;
        }
        let mut block = frame.fragment()?.to_vec();
        let mut more = frame.flags & END_HEADERS == 0;
        while more && left > 0 {
            // Nothing else may come between (RFC 9113 section 6.10); where the stream is cut, what is there counts.
            let Some(next) = Frame::read(&mut rest) else { break };
            left -= 1;
            if next.kind != CONTINUATION || next.stream != frame.stream {
                return None;
            }
            block.extend_from_slice(next.body);
            more = next.flags & END_HEADERS == 0;
        }
        let (mut authority, mut host) = (None, None);
        let sound = fields.decode(&block, |name, value| match name {
            b":authority" => authority = authority.take().or_else(|| Host::from_wire(value)),
            b"host" => host = host.take().or_else(|| Host::from_wire(value)),
            _ => {}
        });
        if let Some(host) = authority.or(host) {
            return Some((offset, host));
        }
        sound?;
    }
    None
}

/// A frame (RFC 9113 section 4.1).
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    /// As much of it as the stream holds.
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    fn read(bytes: &mut Bytes<'a>) -> Option<Frame<'a>> {
        let length = bytes.u24()?;
        let (kind, flags) = (bytes.u8()?, bytes.u8()?);
        let stream = bytes.take(4)?.first_chunk().map(|id| u32::from_be_bytes(*id) & 0x7fff_ffff)?;
        let body = bytes.take(length.min(bytes.0.len()))?;
        Some(Frame { kind, flags, stream, body })
    }

    /// The part of a HEADERS frame that is header block (RFC 9113 section 6.2).
    fn fragment(&self) -> Option<&'a [u8]> {
        let mut body = Bytes(self.body);
        let padding = if self.flags & PADDED != 0 { body.u8()? } else { 0 };
        if self.flags & PRIORITY != 0 {
            body.take(5)?;
        }
        let length = body.0.len().checked_sub(padding.into())?;
        body.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, stream: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], body].concat()
    }

    /// A literal field that stays out of the table, plain.
    fn field(name: &str, value: &str) -> Vec<u8> {
        [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    }

    #[test]
    #[rustfmt::skip]
    fn the_first_request_that_names_a_host_is_found() {
        let settings = frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]);
        let get = [0x82, 0x86, 0x84]; // GET, http, /
        let block = [&get[..], &field(":authority", "A.example:8080"), &field("host", "b.example")].concat();
        let (first, second) = block.split_at(12);
        let padded = [&[3, 0, 0, 0, 0, 16][..], &block, &[0; 3]].concat();
        let host_only = [&get[..], &field("host", "b.example")].concat();
        // `:authority` by index 1 of the static table, kept; then by its index in the dynamic one.
        let kept = [&get[..], &[0x41, 9], b"a.example"].concat();
        for (what, frames, expected) in [
            ("one frame",              frame(1, 5, 1, &block),                                                    Some("39 a.example:8080")),
            ("only the header field",  frame(1, 5, 1, &host_only),                                                Some("39 b.example")),
            ("padded, with priority",  frame(1, 0x2d, 1, &padded),                                                Some("39 a.example:8080")),
            ("continued",              [frame(1, 1, 1, first), frame(9, 0, 1, b""), frame(9, 4, 1, second)].concat(), Some("39 a.example:8080")),
            ("interrupted",            [frame(1, 1, 1, first), frame(4, 0, 0, b""), frame(9, 4, 1, second)].concat(), None),
            ("continued elsewhere",    [frame(1, 1, 1, first), frame(9, 4, 3, second)].concat(),                  None),
            ("not the first request",  [frame(1, 5, 1, &get), frame(0, 1, 1, b"x"), frame(1, 5, 3, &kept)].concat(), Some("61 a.example")),
            ("cut after the name",     { let mut cut = frame(1, 5, 1, &block); cut.truncate(9 + 3 + 27); cut },      Some("39 a.example:8080")),
            ("cut within the name",    { let mut cut = frame(1, 5, 1, &block); cut.truncate(9 + 3 + 26); cut },      None),
            ("more padding than body", frame(1, 0xd, 1, &[9, 0x82]),                                              None),
            ("a broken block",         [frame(1, 5, 1, &[0x80]), frame(1, 5, 3, &kept)].concat(),                 None),
            ("no request",             Vec::new(),                                                                None),
        ] {
            let stream = [HTTP2_PREFACE, &settings, &frames].concat();
            let got = authority(&stream).map(|(offset, host)| format!("{offset} {host}"));
            assert_eq!(got.as_deref(), expected, "{what}");
        }
        assert_eq!(authority(&[&settings[..], &frame(1, 5, 1, &block)].concat()), None, "without preface");
    }

    #[test]
    fn a_stream_of_settings_is_not_followed_for_ever() {
        let settings = frame(4, 0, 0, b"").repeat(MAX_FRAMES);
        let request = frame(1, 5, 1, &field(":authority", "a.example"));
        assert_eq!(authority(&[HTTP2_PREFACE, &settings, &request].concat()), None);
        assert!(authority(&[HTTP2_PREFACE, &settings[9..], &request].concat()).is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind in prop_oneof![Just(1u8), Just(9), any::<u8>()], flags in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..100), cut in 0usize..200) {
            let mut stream = [HTTP2_PREFACE, &frame(kind, flags, 1, &body), &frame(9, 4, 1, &body)].concat();
            stream.truncate(cut);
            authority(&stream);
        }

        #[test]
        fn a_cut_never_lies(cut in 0usize..100) {
            let mut stream = [HTTP2_PREFACE, &frame(1, 5, 1, &field(":authority", "a.example"))].concat();
            stream.truncate(cut);
            prop_assert!(authority(&stream).is_none_or(|(_, host)| host.to_string() == "a.example"));
        }
    }
}
