//! Compressed header fields of HTTP/2 (RFC 7541), decoded.
//!
//! A decoder of our own, since it reads untrusted bytes: nothing panics, the dynamic table is bounded, and a block of `n`
//! bytes costs in the order of `n`. It hands out each field as it is read, so that a block that is cut, or broken
//! further on, still gives what stands before.

use super::tls::Bytes;
use std::collections::VecDeque;
use std::rc::Rc;

/// What an entry of the dynamic table counts beside its text (RFC 7541 section 4.1), bytes.
const ENTRY_OVERHEAD: usize = 32;
/// Size of the dynamic table until a client says otherwise, bytes (RFC 9113 section 6.5.2).
const INITIAL_TABLE: usize = 4096;
/// The largest dynamic table that is kept, bytes: what servers allow lies between 4 and 64 KiB. A client that may use
/// more loses names by it; more would cost memory.
const MAX_TABLE: usize = 65_536;
/// The largest integer taken (RFC 7541 section 5.1 wants some limit): no length or index in a header block comes near.
const MAX_INTEGER: u32 = 1 << 24;

/// Name and value, as they came.
type Field = (Rc<[u8]>, Rc<[u8]>);

/// The fields' state of one direction of a connection: blocks must be given in order.
#[derive(Debug)]
pub struct Decoder {
    /// Newest first.
    table: VecDeque<Field>,
    size: usize,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { table: VecDeque::new(), size: 0, limit: INITIAL_TABLE }
    }
}

impl Decoder {
    /// Hands each field (name, value) of a header block to `take`. `None` where the block ends within a field or makes
    /// no sense: what follows on the connection cannot be relied on then.
    pub fn decode(&mut self, block: &[u8], mut take: impl FnMut(&[u8], &[u8])) -> Option<()> {
        let mut rest = Bytes(block);
        while let Some(&first) = rest.0.first() {
            if first & 0x80 != 0 {
                let (name, value) = self.field(integer(&mut rest, 7)?)?;
                take(&name, &value);
            } else if first & 0xe0 == 0x20 {
                let limit = integer(&mut rest, 5)?;
                self.limit = (limit <= MAX_TABLE).then_some(limit)?;
                self.evict();
            } else {
                let kept = first & 0x40 != 0;
                let index = integer(&mut rest, if kept { 6 } else { 4 })?;
                let name = if index == 0 { string(&mut rest)? } else { self.field(index)?.0 };
                let value = string(&mut rest)?;
                take(&name, &value);
                if kept {
                    self.size += name.len() + value.len() + ENTRY_OVERHEAD;
                    self.table.push_front((name, value));
                    self.evict();
                }
            }
        }
        Some(())
    }

    /// The field of an index, the static table first (RFC 7541 section 2.3.3).
    fn field(&self, index: usize) -> Option<Field> {
        let index = index.checked_sub(1)?;
        match STATIC_TABLE.get(index) {
            Some((name, value)) => Some((name.as_bytes().into(), value.as_bytes().into())),
            None => self.table.get(index - STATIC_TABLE.len()).cloned(),
        }
    }

    fn evict(&mut self) {
        while self.size > self.limit {
            let Some((name, value)) = self.table.pop_back() else { break };
            self.size -= name.len() + value.len() + ENTRY_OVERHEAD;
        }
    }
}

/// An integer whose first byte gives it `bits` bits (RFC 7541 section 5.1).
fn integer(bytes: &mut Bytes<'_>, bits: u32) -> Option<usize> {
    let mask = 0xff_u8 >> (8 - bits);
    let mut value = u32::from(bytes.u8()? & mask);
    if value == u32::from(mask) {
        let mut shift = 0;
        loop {
            let byte = bytes.u8()?;
            value = value.checked_add(u32::from(byte & 0x7f).checked_shl(shift)?)?;
            if value > MAX_INTEGER || shift > 21 {
                return None;
            }
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
    }
    usize::try_from(value).ok()
}

/// A text, plain or in Huffman's code (RFC 7541 section 5.2).
fn string(bytes: &mut Bytes<'_>) -> Option<Rc<[u8]>> {
    let coded = bytes.0.first()? & 0x80 != 0;
    let length = integer(bytes, 7)?;
    let text = bytes.take(length)?;
    if coded { huffman(text).map(Rc::from) } else { Some(text.into()) }
}

/// Bits of each symbol's code, 256 being the end of a text (RFC 7541 appendix B). The code is canonical: the lengths tell
/// all of it.
#[rustfmt::skip]
const CODE_BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The longest code, bits.
const LONGEST: usize = 30;
/// The symbol that no text may hold.
const END: u16 = 256;

/// For each length of code: the first code, how many there are, and where in [`SYMBOLS`] theirs begin.
const CODES: [(u32, u32, u16); LONGEST + 1] = {
    let mut codes = [(0, 0, 0); LONGEST + 1];
    let (mut code, mut begin, mut bits) = (0, 0, 1);
    while bits <= LONGEST {
        code <<= 1;
        let (mut count, mut symbol) = (0, 0);
        while symbol < CODE_BITS.len() {
            if CODE_BITS[symbol] as usize == bits {
                count += 1;
            }
            symbol += 1;
        }
        codes[bits] = (code, count, begin);
        code += count;
        begin += count as u16;
        bits += 1;
    }
    codes
};

/// The symbols by length of code, then by value.
const SYMBOLS: [u16; 257] = {
    let mut symbols = [0; 257];
    let (mut at, mut bits) = (0, 1);
    while bits <= LONGEST {
        let mut symbol = 0;
        while symbol < CODE_BITS.len() {
            if CODE_BITS[symbol] as usize == bits {
                symbols[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    symbols
};

/// A text in Huffman's code. What is left at its end are at most 7 bits, all ones.
fn huffman(coded: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(coded.len() * 8 / 5);
    let (mut code, mut bits) = (0_u32, 0_usize);
    for byte in coded {
        for place in (0..8).rev() {
            code = code << 1 | u32::from(byte >> place & 1);
            bits += 1;
            // No code is longer: 30 ones are that of the end, which no text may hold.
            let &(first, count, begin) = CODES.get(bits)?;
            let Some(nth) = code.checked_sub(first).filter(|&nth| nth < count) else { continue };
            let symbol = *SYMBOLS.get(usize::from(begin) + usize::try_from(nth).ok()?)?;
            text.push(u8::try_from(symbol).ok().filter(|_| symbol != END)?);
            (code, bits) = (0, 0);
        }
    }
    (bits < 8 && code == (1 << bits) - 1).then_some(text)
}

/// RFC 7541 appendix A.
#[rustfmt::skip]
const STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// `name: value` of each field, and whether the block was sound.
    fn fields(decoder: &mut Decoder, block: &[u8]) -> (Vec<String>, bool) {
        let mut out = Vec::new();
        let sound = decoder.decode(block, |name, value| {
            out.push(format!("{}: {}", name.escape_ascii(), value.escape_ascii()));
        });
        (out, sound.is_some())
    }

    /// Blocks of one connection in order, with the fields that each gives and the size of the table afterwards.
    type Exchange = (&'static str, usize, &'static [(&'static str, &'static [&'static str], usize)]);

    #[test]
    #[rustfmt::skip]
    fn the_examples_of_rfc_7541_appendix_c_decode() {
        const REQUESTS: [&[&str]; 3] = [
            &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
            &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"],
            &[":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"],
        ];
        const RESPONSES: [&[&str]; 3] = [
            &[":status: 302", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com"],
            &[":status: 307", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com"],
            &[":status: 200", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:22 GMT", "location: https://www.example.com",
              "content-encoding: gzip", "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
        ];
        let exchanges: [Exchange; 8] = [
            ("C.2.1", 4096, &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", &["custom-key: custom-header"], 55)]),
            ("C.2.2", 4096, &[("040c 2f73 616d 706c 652f 7061 7468", &[":path: /sample/path"], 0)]),
            ("C.2.3", 4096, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &["password: secret"], 0)]),
            ("C.2.4", 4096, &[("82", &[":method: GET"], 0)]),
            ("C.3", 4096, &[
                ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUESTS[0], 57),
                ("8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1], 110),
                ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", REQUESTS[2], 164),
            ]),
            ("C.4", 4096, &[
                ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0], 57),
                ("8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1], 110),
                ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUESTS[2], 164),
            ]),
            ("C.5", 256, &[
                ("4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", RESPONSES[0], 222),
                ("4803 3330 37c1 c0bf", RESPONSES[1], 222),
                ("88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31", RESPONSES[2], 215),
            ]),
            ("C.6", 256, &[
                ("4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3", RESPONSES[0], 222),
                ("4883 640e ffc1 c0bf", RESPONSES[1], 222),
                ("88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07", RESPONSES[2], 215),
            ]),
        ];
        for (section, limit, blocks) in exchanges {
            let mut decoder = Decoder { limit, ..Decoder::default() };
            for (nth, (block, expected, size)) in blocks.iter().enumerate() {
                let (got, sound) = fields(&mut decoder, &hex(block));
                assert_eq!(got, *expected, "{section}.{}", nth + 1);
                assert!(sound && decoder.size == *size, "{section}.{}: size {}", nth + 1, decoder.size);
            }
        }
    }

    #[test]
    #[rustfmt::skip]
    fn integers_are_read_as_in_appendix_c_1_and_long_ones_refused() {
        for (bytes, bits, expected) in [
            (&[0b01010][..],                    5, Some(10)),
            (&[0b11111, 154, 10],               5, Some(1337)),
            (&[42],                             8, Some(42)),
            (&[0b11111, 0x80, 0],               5, Some(31)),
            (&[0b11111],                        5, None),
            (&[0b11111, 0x80],                  5, None),
            (&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f], 7, None),
            (&[0x7f, 0x80, 0x80, 0x80, 0x80, 0], 7, None),
        ] {
            assert_eq!(integer(&mut Bytes(bytes), bits), expected, "{bytes:?}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn what_makes_no_sense_ends_the_block_and_what_stood_before_it_counts() {
        for (what, block) in [
            ("index 0",                       "82 80"),
            ("an index beyond both tables",   "82 be"),
            ("a cut name",                    "82 41 0f 77"),
            ("a cut size update",             "82 3f"),
            ("a table of gigabytes",          "82 3f ff ff ff 7f"),
            ("padding of more than 7 bits",   "82 41 82 07 ff"),
            ("padding of zeros",              "82 41 81 00"),
            ("the end within a text",         "82 41 84 ff ff ff ff"),
        ] {
            assert_eq!(fields(&mut Decoder::default(), &hex(block)), (vec![":method: GET".to_owned()], false), "{what}");
        }
    }

    #[test]
    fn the_table_never_outgrows_its_limit() {
        let mut decoder = Decoder::default();
        let entry = [&[0x40, 1, b'a', 0x7f, 0x81, 1][..], &[b'x'; 256]].concat();
        let block = entry.repeat(100);
        assert!(fields(&mut decoder, &block).1 && decoder.size <= INITIAL_TABLE && decoder.table.len() == 14);
        assert!(fields(&mut decoder, &[0x20]).1 && decoder.size == 0 && decoder.table.is_empty());
        assert!(
            fields(&mut decoder, &entry).1 && decoder.table.is_empty(),
            "larger than the table: kept out"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_swell(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8)) {
            let mut decoder = Decoder::default();
            for block in blocks {
                fields(&mut decoder, &block);
                let text: usize = decoder.table.iter().map(|(name, value)| name.len() + value.len()).sum();
                prop_assert_eq!(decoder.size, text + ENTRY_OVERHEAD * decoder.table.len());
                prop_assert!(decoder.size <= decoder.limit && decoder.limit <= MAX_TABLE);
            }
        }

        #[test]
        fn every_text_survives_its_code(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let (mut bits, mut coded) = (String::new(), Vec::new());
            for byte in &text {
                let length = usize::from(CODE_BITS[usize::from(*byte)]);
                let (first, _, begin) = CODES[length];
                let place = SYMBOLS.iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
                bits.push_str(&format!("{:0length$b}", first as usize + place - usize::from(begin)));
            }
            while bits.len() % 8 != 0 {
                bits.push('1');
            }
            for at in (0..bits.len()).step_by(8) {
                coded.push(u8::from_str_radix(&bits[at..at + 8], 2).unwrap());
            }
            prop_assert_eq!(huffman(&coded), Some(text));
        }
    }
}
