//! Two columns of a Parquet file as this program writes them, read page by page into memory that is used again: of rows for
//! `judge` no more is asked for, and polars would make columns of them first. What else a file may be is left to polars.

use super::StoreError;
use polars_parquet::parquet::encoding::Encoding;
use polars_parquet::parquet::encoding::hybrid_rle::{HybridRleChunk, HybridRleDecoder};
use polars_parquet::parquet::metadata::{ColumnChunkMetadata, RowGroupMetadata};
use polars_parquet::parquet::page::{DataPage, DataPageHeader, split_buffer};
use polars_parquet::parquet::read::{BasicDecompressor, PageReader};
use polars_parquet::parquet::schema::types::PhysicalType;
use std::fs::File;
use std::io::Cursor;
use std::os::unix::fs::FileExt;

/// Bytes of a column of one row group that are read at once, at the most, packed or unpacked: 64 MiB. Our own have a few.
const MOST_BYTES: i64 = 64 << 20;

/// Hands over the rows of a group, as far as both columns are plain: a column of texts and one of texts or bytes, without
/// nulls. Tells how many; the others are for somebody else to read, or to say why they cannot be read. `memory` is taken and given
/// back.
pub(super) fn rows(
    file: &File,
    group: &RowGroupMetadata,
    [texts, bytes]: [&str; 2],
    memory: &mut Vec<u8>,
    mut row: impl FnMut(&str, &[u8]) -> Result<(), StoreError>,
) -> Result<usize, StoreError> {
    let open = |name| pages(file, group, name, Vec::new());
    let Some(runs) = open(texts).and_then(Runs::of) else { return Ok(0) };
    let Some(mut pages) = pages(file, group, bytes, std::mem::take(memory)) else { return Ok(0) };
    let mut runs = runs.iter();
    let (mut text, mut left) = ("", 0);
    let mut done = 0;
    if matches!(pages.read_dict_page(), Ok(None)) {
        'pages: while let Some(page) = next(&mut pages) {
            let Some((Encoding::Plain, mut values)) = values(&page) else { break };
            for _ in 0..page.num_values() {
                while left == 0 {
                    let Some(run) = runs.next() else { break 'pages };
                    (text, left) = run;
                }
                let Some(value) = value(&mut values) else { break 'pages };
                row(text, value)?;
                left -= 1;
                done += 1;
            }
            pages.reuse_page_buffer(page);
        }
    }
    *memory = pages.into_inner();
    Ok(done)
}

/// The pages of a column that is no list and no structure.
fn pages(file: &File, group: &RowGroupMetadata, name: &str, memory: Vec<u8>) -> Option<BasicDecompressor> {
    let mut leaves = group.columns_under_root_iter(name)?;
    let (Some(column), None) = (leaves.next(), leaves.next()) else { return None };
    let levels = &column.descriptor().descriptor;
    let flat = levels.max_rep_level == 0 && levels.max_def_level <= 1;
    let small = |bytes: i64| (1..MOST_BYTES).contains(&bytes);
    if !flat
        || column.physical_type() != PhysicalType::ByteArray
        || !small(column.compressed_size())
        || !small(column.uncompressed_size())
    {
        return None;
    }
    let packed = packed(file, column)?;
    let reader = PageReader::new(Cursor::new(packed.into()), column, Vec::new(), MOST_BYTES as usize);
    Some(BasicDecompressor::new(reader, memory))
}

fn packed(file: &File, column: &ColumnChunkMetadata) -> Option<Vec<u8>> {
    let range = column.byte_range();
    let length = range.end.checked_sub(range.start).filter(|&length| length < MOST_BYTES as u64)?;
    let mut packed = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut packed, range.start).ok()?;
    Some(packed)
}

fn next(pages: &mut BasicDecompressor) -> Option<DataPage> {
    let page = pages.next()?.ok()?;
    if page.page().uncompressed_size() >= MOST_BYTES as usize {
        return None;
    }
    page.decompress(pages).ok()
}

/// How the values of a page are told, and they themselves; none where one is null.
fn values(page: &DataPage) -> Option<(Encoding, &[u8])> {
    match page.header() {
        DataPageHeader::V1(_) => {}
        DataPageHeader::V2(_) => return None,
    }
    let parts = split_buffer(page).ok()?;
    let rows = page.num_values();
    let present = match page.descriptor.max_def_level {
        0 => true,
        _ => numbers(parts.def, 1, rows, |level, _| (level == 1).then_some(())).is_some(),
    };
    present.then_some((page.encoding(), parts.values))
}

/// Hands over `count` numbers of so many bits, and how often each comes. None if there are fewer, or `take` wants no more.
fn numbers(
    bytes: &[u8],
    bits: u32,
    count: usize,
    mut take: impl FnMut(u32, usize) -> Option<()>,
) -> Option<()> {
    let mut chunks = HybridRleDecoder::new(bytes, bits, count);
    let (mut left, mut several) = (count, Vec::new());
    while let Some(chunk) = chunks.next_chunk().ok()? {
        left = left.checked_sub(chunk.len())?;
        match chunk {
            HybridRleChunk::Rle(number, times) => take(number, times)?,
            HybridRleChunk::Bitpacked(packed) => {
                several.clear();
                packed.collect_into(&mut several);
                several.iter().try_for_each(|&number| take(number, 1))?;
            }
        }
    }
    (left == 0).then_some(())
}

/// Takes a value off the front: its length, and so many bytes.
fn value<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    Some(value)
}

/// A column of few different texts, which mostly come many times in a row.
#[derive(Default)]
struct Runs {
    texts: Vec<String>,
    /// Which, and how often.
    runs: Vec<(u32, usize)>,
}

impl Runs {
    fn of(mut pages: BasicDecompressor) -> Option<Runs> {
        let dictionary = pages.read_dict_page().ok()??;
        let (mut all, mut texts) = (&dictionary.buffer[..], Vec::new());
        for _ in 0..dictionary.num_values {
            texts.push(std::str::from_utf8(value(&mut all)?).ok()?.to_owned());
        }
        let mut runs: Vec<(u32, usize)> = Vec::new();
        while let Some(page) = next(&mut pages) {
            let Some((Encoding::RleDictionary | Encoding::PlainDictionary, values)) = values(&page) else {
                return None;
            };
            let (&bits, values) = values.split_first()?;
            if bits > 32 {
                return None;
            }
            numbers(values, bits.into(), page.num_values(), |number, times| {
                texts.get(number as usize)?;
                match runs.last_mut() {
                    Some((last, count)) if *last == number => *count += times,
                    _ => runs.push((number, times)),
                }
                Some(())
            })?;
            pages.reuse_page_buffer(page);
        }
        Some(Runs { texts, runs })
    }

    fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.runs.iter().filter_map(|&(text, count)| Some((self.texts.get(text as usize)?.as_str(), count)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::columns::read_carried;
    use super::super::partial::Carrier;
    use super::*;
    use polars::prelude::*;

    type Row = (Option<String>, Option<Vec<u8>>);

    /// Rows of a file that polars wrote of two columns, and how many of them are read page by page.
    fn read(
        what: &str,
        texts: &[Option<&str>],
        bytes: &[Option<&[u8]>],
        packed: ParquetCompression,
    ) -> (Vec<Row>, usize) {
        let name = format!("portproof-plain-{}-{}.parquet", std::process::id(), what.replace(' ', "-"));
        let path = std::env::temp_dir().join(name);
        let file = File::create(&path).unwrap();
        let columns = [
            StringChunked::from_iter_options("capture".into(), texts.iter().copied()).into_column(),
            BinaryChunked::from_iter_options("partial".into(), bytes.iter().copied()).into_column(),
        ];
        let mut frame = DataFrame::new(texts.len(), columns.into()).unwrap();
        let writer = ParquetWriter::new(&file).with_compression(packed).with_row_group_size(Some(300));
        writer.with_data_page_size(Some(512)).finish(&mut frame).unwrap();
        let file = File::open(&path).unwrap();
        let facts = ParquetReader::new(File::open(&path).unwrap()).get_metadata().unwrap().clone();
        let (mut taken, mut memory) = (0, Vec::new());
        for group in &facts.row_groups {
            let names = ["capture", "partial"];
            taken += rows(&file, group, names, &mut memory, |_, _| Ok(())).unwrap();
        }
        let (mut all, path) = (Vec::new(), path.to_str().unwrap());
        let row = |text: Option<&str>, carried: Option<Carrier<'_>>| {
            let Some(Carrier::Bytes(bytes)) = carried else {
                all.push((text.map(str::to_owned), None));
                return Ok(());
            };
            all.push((text.map(str::to_owned), Some(bytes.to_vec())));
            Ok(())
        };
        let missing = || StoreError::new(path, "a column is missing");
        read_carried(path, Format::Parquet, ["capture", "partial"], row, missing).unwrap();
        std::fs::remove_file(path).unwrap();
        (all, taken)
    }

    #[test]
    fn whatever_is_read_page_by_page_every_row_comes_once_and_in_order() {
        let values: Vec<Vec<u8>> = (0..1000u32).map(|n| n.to_le_bytes().repeat(n as usize % 7)).collect();
        let bytes: Vec<Option<&[u8]>> = values.iter().map(|value| Some(&value[..])).collect();
        let mut few = vec![Some("a.pcap"); 1000];
        few[400..650].fill(Some("another capture, of a longer name.pcap"));
        few[900] = Some("");
        let names: Vec<String> = (0..1000).map(|n| format!("{n} {:?}", [n; 40])).collect();
        let many: Vec<Option<&str>> = names.iter().map(|name| Some(&name[..])).collect();
        let one_null = |mut texts: Vec<Option<&'static str>>| {
            texts[599] = None;
            texts
        };
        let mut null_bytes = bytes.clone();
        null_bytes[250] = None;
        let zstd = ParquetCompression::Zstd(None);
        for (what, texts, bytes, packed, least, most) in [
            ("few texts", &few, &bytes, zstd, 1000, 1000),
            ("not packed", &few, &bytes, ParquetCompression::Uncompressed, 1000, 1000),
            ("texts all different", &many, &bytes, zstd, 0, 0),
            ("a text that is null", &one_null(few.clone()), &bytes, zstd, 600, 800),
            ("bytes that are null", &few, &null_bytes, zstd, 600, 999),
        ] {
            let (rows, taken) = read(what, texts, bytes, packed);
            assert!((least..=most).contains(&taken), "{what}: {taken}");
            let same = |text: &Option<&str>, bytes: &Option<&[u8]>| {
                (text.map(str::to_owned), bytes.map(<[u8]>::to_vec))
            };
            let expected: Vec<Row> = texts.iter().zip(bytes).map(|(text, bytes)| same(text, bytes)).collect();
            assert!(rows == expected, "{what}");
        }
    }
}
