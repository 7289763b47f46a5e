//! Whole numbers in as few bytes as they need: seven bits a byte, the lowest first, all bytes but the last with their first
//! bit set (LEB128).

/// The bit of each of eight bytes that says that the number goes on.
const CONTINUED: u64 = 0x8080_8080_8080_8080;

/// 56 bits as eight bytes of seven.
#[inline]
fn spread(value: u64) -> u64 {
    let value = (value & 0x0000_0000_0fff_ffff) | (value & 0x00ff_ffff_f000_0000) << 4;
    let value = (value & 0x0000_3fff_0000_3fff) | (value & 0x0fff_c000_0fff_c000) << 2;
    (value & 0x007f_007f_007f_007f) | (value & 0x3f80_3f80_3f80_3f80) << 1
}

/// The reverse of [`spread`].
#[inline]
fn gather(bytes: u64) -> u64 {
    let value = (bytes & 0x007f_007f_007f_007f) | (bytes & 0x7f00_7f00_7f00_7f00) >> 1;
    let value = (value & 0x0000_3fff_0000_3fff) | (value & 0x3fff_0000_3fff_0000) >> 2;
    (value & 0x0000_0000_0fff_ffff) | (value & 0x0fff_ffff_0000_0000) >> 4
}

/// Writes a number. Without a branch on the value: lengths follow no pattern, and some forty numbers make a connection.
#[inline]
pub fn put(value: u64, out: &mut Vec<u8>) {
    let Some((word, bytes)) = word(value) else { return put_long(value, out) };
    out.extend_from_slice(&word.to_le_bytes());
    out.truncate(out.len() - 8 + bytes);
}

/// A number as [`put`] writes it, in the first bytes of a word whose lowest byte comes first, and how many these are; none if
/// it needs more than eight.
#[inline]
pub fn word(value: u64) -> Option<(u64, usize)> {
    if value >= 1 << 56 {
        return None;
    }
    let (bytes, continued) = LENGTHS[(value | 1).ilog2() as usize];
    Some((spread(value) | continued, bytes.into()))
}

/// By the place of a number's highest bit: its bytes, and their bits that say that it goes on. Counting them takes longer.
const LENGTHS: [(u8, u64); 64] = {
    let mut lengths = [(0, 0); 64];
    let mut bit = 0;
    while bit < 56 {
        let bytes = bit / 7 + 1;
        lengths[bit] = (bytes as u8, CONTINUED & !(u64::MAX << (8 * (bytes - 1))));
        bit += 1;
    }
    lengths
};

#[cold]
fn put_long(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off the front; none where it is not whole, or goes on beyond 64 bits.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    take_short(bytes).or_else(|| take_by_bytes(bytes))
}

/// Takes a number of at most eight bytes off the front, where at least as many are there; else nothing.
#[inline(always)]
pub fn take_short(bytes: &mut &[u8]) -> Option<u64> {
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    let last = !word & CONTINUED;
    if last == 0 {
        return None;
    }
    let length = last.trailing_zeros() as usize / 8 + 1;
    *bytes = bytes.get(length..)?;
    Some(gather(word & (last ^ (last - 1)) & !CONTINUED))
}

/// Writes bytes behind their length.
pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Takes bytes that stand behind their length off the front; none where not all of them are there.
pub fn take_bytes<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(take(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// Near the end of the bytes, or longer than eight of them.
fn take_by_bytes(bytes: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_if_all_of_them_are_there() {
        let mut out = Vec::new();
        put_bytes(&[5; 300], &mut out);
        put_bytes(&[], &mut out);
        let mut rest = &out[..];
        assert_eq!(take_bytes(&mut rest), Some(&[5; 300][..]));
        assert_eq!(take_bytes(&mut rest), Some(&[][..]));
        assert_eq!((take_bytes(&mut rest), take_bytes(&mut &out[..301])), (None, None));
    }

    #[test]
    fn a_number_comes_back_whatever_its_length() {
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for number in edges.chain([u64::MAX, 0x0123_4567_89ab_cdef]) {
            let mut out = vec![7];
            put(number, &mut out);
            let digits = (64 - (number | 1).leading_zeros()).div_ceil(7) as usize;
            assert_eq!(out.len(), 1 + digits);
            // Once with bytes behind it, once with none.
            for more in [0, 9] {
                let mut bytes = out[1..].to_vec();
                bytes.resize(bytes.len() + more, 0x81);
                let mut rest = &bytes[..];
                assert_eq!((take(&mut rest), rest.len()), (Some(number), more));
                assert_eq!(take(&mut &bytes[..digits - 1]), None);
            }
        }
    }
}
