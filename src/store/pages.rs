//! Columns to pages of Parquet. Polars does it for flat columns; of nested ones it finds out the levels value by value and
//! several times over, which was most of what writing a row cost. Here each column's levels are found once.

use polars::prelude::*;
use polars_arrow::array::{Array, DictionaryArray, PrimitiveArray, Utf8ViewArray};
use polars_arrow::bitmap::Bitmap;
use polars_arrow::datatypes::IntegerType;
use polars_parquet::parquet::CowBuffer;
use polars_parquet::parquet::encoding::hybrid_rle;
use polars_parquet::parquet::page::{DataPage, DataPageHeader, DataPageHeaderV1};
use polars_parquet::parquet::schema::Repetition;
use polars_parquet::parquet::schema::types::PrimitiveType;
use polars_parquet::parquet::statistics::ParquetStatistics;
use polars_parquet::write::{
    CompressedPage, Descriptor, Encoding, Nested, Page, ParquetType, StatisticsOptions, Version,
    WriteOptions, array_to_pages, compress, get_dtype_encoding, to_leaves, to_nested, to_parquet_leaves,
};
use std::collections::BTreeMap;

/// What polars does by itself, so that readers find what they know.
fn options() -> WriteOptions {
    WriteOptions {
        statistics: StatisticsOptions::default(),
        version: Version::V1,
        compression: ParquetCompression::default().into(),
        data_page_size: None,
    }
}

/// The pages of a row group: of each leaf column, in the order of the schema.
pub(super) type RowGroup = Vec<Vec<CompressedPage>>;

/// The pages of some rows. `fields` are those of the file's schema.
pub(super) fn row_group(batch: &DataFrame, fields: &[ParquetType]) -> PolarsResult<RowGroup> {
    let mut group = Vec::new();
    for chunk in batch.iter_chunks(CompatLevel::newest(), false) {
        for (array, field) in chunk.columns().iter().zip(fields) {
            let encodings = get_dtype_encoding(array.dtype());
            let (nested, types) = (to_nested(&**array, field)?, to_parquet_leaves(field.clone()));
            let mut leaves = Vec::new();
            to_leaves(&**array, &mut leaves);
            for (((leaf, nested), type_), encoding) in leaves.iter().zip(nested).zip(types).zip(encodings) {
                let pages = leaf_pages(&**leaf, &nested, &type_, encoding)?.into_iter();
                let compressed = pages.map(|page| compress(page, Vec::new(), options().compression));
                group.push(compressed.collect::<Result<Vec<_>, _>>()?);
            }
        }
    }
    Ok(group)
}

/// The pages of a leaf: what `array` has where nothing above it is null or empty.
fn leaf_pages(
    array: &dyn Array,
    nested: &[Nested],
    type_: &PrimitiveType,
    encoding: Encoding,
) -> PolarsResult<Vec<Page>> {
    if nested.len() > 1
        && let Some(levels) = Levels::of(nested)
        && let Some(pages) = nested_pages(array, &levels, type_, encoding)?
    {
        return Ok(pages);
    }
    match few_words(array, encoding) {
        Some(words) if nested.len() == 1 => {
            array_to_pages(&words, type_.clone(), nested, options(), encoding)?.collect()
        }
        Some(_) | None => array_to_pages(array, type_.clone(), nested, options(), encoding)?.collect(),
    }
}

/// Distinct texts of a column up to which it is told by their numbers without a further look.
const FEW_WORDS: usize = 256;

/// A column of few different texts as their numbers. Polars would come to the same, but hash each of them twice.
fn few_words(array: &dyn Array, encoding: Encoding) -> Option<DictionaryArray<u32>> {
    let texts =
        array.as_any().downcast_ref::<Utf8ViewArray>().filter(|_| encoding == Encoding::RleDictionary)?;
    let mut words: Vec<&str> = Vec::new();
    let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut last, mut last_view, mut number) = (None, None, 0u32);
    let mut keys = Vec::with_capacity(texts.len());
    for (view, text) in texts.views().iter().zip(texts.iter()) {
        // A short text is its view: most words are not even looked at.
        if text.is_some() && last_view != Some(*view) && text != last {
            let word = text?;
            number = *numbers.entry(word).or_insert_with(|| {
                words.push(word);
                words.len() as u32 - 1
            });
            if words.len() > FEW_WORDS {
                return None;
            }
            last = text;
            last_view = Some(*view);
        }
        // Where there is none, any number will do.
        keys.push(number);
    }
    if words.is_empty() {
        return None;
    }
    let keys = PrimitiveArray::try_new(ArrowDataType::UInt32, keys.into(), texts.validity().cloned()).ok()?;
    let dtype = ArrowDataType::Dictionary(IntegerType::UInt32, Box::new(ArrowDataType::Utf8View), false);
    let words = Utf8ViewArray::from_slice_values(&words);
    DictionaryArray::try_new(dtype, keys, words.boxed()).ok()
}

/// The values of a nested leaf as if it were flat, and its levels before them; none if they do not fit together, as with an
/// array that has more values than its lists tell.
fn nested_pages(
    array: &dyn Array,
    levels: &Levels,
    type_: &PrimitiveType,
    encoding: Encoding,
) -> PolarsResult<Option<Vec<Page>>> {
    let present = array.len() - array.null_count();
    if levels.present() != present {
        return Ok(None);
    }
    let nulls = (levels.len() - present) as i64;
    let page = |encoding: Encoding, values: &[u8], known: Option<&ParquetStatistics>| -> PolarsResult<Page> {
        let mut bytes = Vec::with_capacity(levels.len() / 4 + values.len());
        levels.write(&mut bytes)?;
        bytes.extend_from_slice(values);
        let header = DataPageHeader::V1(DataPageHeaderV1 {
            num_values: i32::try_from(levels.len()).map_err(|_| too_many())?,
            encoding: encoding.into(),
            definition_level_encoding: Encoding::Rle.into(),
            repetition_level_encoding: Encoding::Rle.into(),
            statistics: Some(ParquetStatistics {
                null_count: Some(nulls),
                distinct_count: None,
                max: known.and_then(|known| known.max.clone()),
                min: known.and_then(|known| known.min.clone()),
                max_value: known.and_then(|known| known.max_value.clone()),
                min_value: known.and_then(|known| known.min_value.clone()),
                is_max_value_exact: known.and_then(|known| known.is_max_value_exact),
                is_min_value_exact: known.and_then(|known| known.is_min_value_exact),
            }),
        });
        let descriptor = Descriptor { primitive_type: type_.clone(), max_def_level: 0, max_rep_level: 0 };
        Ok(Page::Data(DataPage::new(header, CowBuffer::Owned(bytes), descriptor, levels.rows)))
    };
    if present == 0 {
        return page(Encoding::Plain, &[], None).map(|page| Some(vec![page]));
    }
    let optional = type_.field_info.repetition == Repetition::Optional;
    let flat = [Nested::primitive(array.validity().cloned(), optional, array.len())];
    let whole = WriteOptions { data_page_size: Some(usize::MAX), ..options() };
    let words = few_words(array, encoding);
    let array = words.as_ref().map_or(array, |words| words as &dyn Array);
    let mut pages = Vec::new();
    for flat in array_to_pages(array, type_.clone(), &flat, whole, encoding)? {
        pages.push(match flat? {
            Page::Dict(dictionary) => Page::Dict(dictionary),
            Page::Data(data) if pages.iter().any(|page| matches!(page, Page::Data(_))) => {
                // More than one page after all: of a gigabyte of values.
                drop(data);
                return Ok(None);
            }
            Page::Data(data) => {
                // Levels of the flat column stand before its values, behind their length.
                let bytes = data.buffer();
                let values = match (optional, bytes.split_first_chunk()) {
                    (true, Some((length, rest))) => rest.get(u32::from_le_bytes(*length) as usize..),
                    (true, None) => None,
                    (false, _) => Some(bytes),
                };
                let Some(values) = values else { return Ok(None) };
                let known = match data.header() {
                    DataPageHeader::V1(header) => header.statistics.as_ref(),
                    DataPageHeader::V2(header) => header.statistics.as_ref(),
                };
                page(data.encoding(), values, known)?
            }
        });
    }
    Ok(Some(pages))
}

fn too_many() -> PolarsError {
    polars_err!(ComputeError: "more values in a row group than a page can tell")
}

/// One place in a column: a value, or where something above it is null or an empty list.
#[derive(Clone, Copy)]
struct Slot {
    /// Repetition level: 0 begins a row.
    rep: u8,
    /// Definition level: how much of what is above is there.
    def: u8,
    /// Where its value stands in the array below; [`ENDS`] if there is none.
    below: u32,
}

const ENDS: u32 = u32::MAX;

/// Repetition and definition levels of a leaf column.
struct Levels {
    rows: usize,
    slots: Vec<Slot>,
    /// The definition level of every row, where nothing stands in any: then there are no slots. Most columns of lists are so.
    nothing: Option<u8>,
    most_rep: u8,
    most_def: u8,
}

impl Levels {
    /// Of what is above a leaf, the row's column first. None for kinds of lists that no row has.
    fn of(nested: &[Nested]) -> Option<Levels> {
        let rows = nested.first()?.len();
        let mut levels = Levels {
            rows,
            slots: Vec::new(),
            nothing: nothing_in(nested.first()?),
            most_rep: 0,
            most_def: 0,
        };
        if levels.nothing.is_none() {
            levels.slots =
                (0..u32::try_from(rows).ok()?).map(|below| Slot { rep: 0, def: 0, below }).collect();
        }
        for level in nested {
            match level {
                Nested::Primitive(leaf) => levels.optional(leaf.is_optional, leaf.validity.as_ref()),
                Nested::Struct(fields) => levels.optional(fields.is_optional, fields.validity.as_ref()),
                Nested::LargeList(list) => {
                    levels.optional(list.is_optional, list.validity.as_ref());
                    levels.repeated(list.offsets.as_slice())?;
                }
                Nested::List(_) | Nested::FixedSizeList(_) => return None,
            }
        }
        Some(levels)
    }

    fn optional(&mut self, optional: bool, validity: Option<&Bitmap>) {
        if !optional {
            return;
        }
        self.most_def += 1;
        let there =
            |at: u32| validity.is_none_or(|bits| (at as usize) < bits.len() && bits.get_bit(at as usize));
        for slot in self.slots.iter_mut().filter(|slot| slot.below != ENDS) {
            if there(slot.below) {
                slot.def += 1;
            } else {
                slot.below = ENDS;
            }
        }
    }

    fn repeated(&mut self, offsets: &[i64]) -> Option<()> {
        self.most_rep += 1;
        self.most_def += 1;
        if self.nothing.is_some() {
            return Some(());
        }
        let mut slots = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let list = if slot.below == ENDS { None } else { offsets.get(slot.below as usize..)?.get(..2) };
            let (from, to) = match list {
                Some(&[from, to]) => (u32::try_from(from).ok()?, u32::try_from(to).ok()?),
                _ => (0, 0),
            };
            if from == to {
                slots.push(Slot { below: ENDS, ..*slot });
                continue;
            }
            slots.push(Slot { rep: slot.rep, def: slot.def + 1, below: from });
            slots.extend((from + 1..to).map(|below| Slot { rep: self.most_rep, def: slot.def + 1, below }));
        }
        self.slots = slots;
        Some(())
    }

    /// How many places there are.
    fn len(&self) -> usize {
        if self.nothing.is_some() { self.rows } else { self.slots.len() }
    }

    /// How many values there are.
    fn present(&self) -> usize {
        self.slots.iter().filter(|slot| slot.below != ENDS).count()
    }

    fn write(&self, out: &mut Vec<u8>) -> PolarsResult<()> {
        if let Some(def) = self.nothing {
            written(out, std::iter::repeat_n(0, self.rows), self.most_rep)?;
            return written(out, std::iter::repeat_n(def.into(), self.rows), self.most_def);
        }
        written(out, self.slots.iter().map(|slot| slot.rep.into()), self.most_rep)?;
        written(out, self.slots.iter().map(|slot| slot.def.into()), self.most_def)
    }
}

/// The definition level of all rows of a column of lists that are all empty, or of structures that are all null.
fn nothing_in(outermost: &Nested) -> Option<u8> {
    match outermost {
        Nested::LargeList(list) => {
            let offsets = list.offsets.as_slice();
            let empty = offsets.first() == offsets.last();
            let all = list.validity.as_ref().is_none_or(|bits| bits.unset_bits() == 0);
            (empty && all).then_some(u8::from(list.is_optional))
        }
        Nested::Struct(fields) => {
            let bits = fields.validity.as_ref()?;
            (fields.is_optional && bits.unset_bits() == bits.len()).then_some(0)
        }
        Nested::Primitive(_) | Nested::List(_) | Nested::FixedSizeList(_) => None,
    }
}

/// Levels, behind the length of what they take; nothing where all are 0.
fn written(out: &mut Vec<u8>, levels: impl ExactSizeIterator<Item = u32>, most: u8) -> PolarsResult<()> {
    if most == 0 {
        return Ok(());
    }
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    hybrid_rle::encode::<u32, _, _>(out, levels, u8::BITS - most.leading_zeros())?;
    let length = u32::try_from(out.len() - start - 4).map_err(|_| too_many())?;
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars_arrow::array::StructArray;
    use polars_arrow::datatypes::Field;
    use polars_parquet::write::{to_parquet_type, write_rep_and_def};

    /// Lists of so many elements each; none is a list that is null.
    fn lists(lengths: &[Option<usize>], values: Box<dyn Array>) -> Box<dyn Array> {
        let mut offsets = vec![0i64];
        let mut end = 0;
        for length in lengths {
            end += length.unwrap_or_default() as i64;
            offsets.push(end);
        }
        let validity =
            lengths.iter().any(Option::is_none).then(|| lengths.iter().map(Option::is_some).collect());
        let dtype = LargeListArray::default_datatype(values.dtype().clone());
        LargeListArray::try_new(dtype, offsets.try_into().unwrap(), values, validity).unwrap().boxed()
    }

    fn numbers(values: &[Option<u64>]) -> Box<dyn Array> {
        PrimitiveArray::<u64>::from(values).boxed()
    }

    fn pairs(values: Box<dyn Array>, present: &[bool]) -> Box<dyn Array> {
        let dtype = ArrowDataType::Struct(vec![Field::new("one".into(), values.dtype().clone(), true)]);
        let validity = Some(present.iter().copied().collect());
        StructArray::try_new(dtype, present.len(), vec![values], validity).unwrap().boxed()
    }

    #[test]
    fn levels_are_those_that_polars_finds() {
        let some = |count: u64| (0..count).map(Some).collect::<Vec<_>>();
        let deep = lists(&[Some(1), Some(0), Some(2)], numbers(&some(3)));
        for (what, array) in [
            ("lists of numbers", lists(&[Some(2), Some(0), Some(1)], numbers(&some(3)))),
            ("nothing but empty lists", lists(&[Some(0); 100], numbers(&[]))),
            ("no row", lists(&[], numbers(&[]))),
            ("lists that are null", lists(&[None, Some(1), None, Some(0)], numbers(&some(1)))),
            ("elements that are null", lists(&[Some(3), Some(1)], numbers(&[None, Some(1), None, None]))),
            ("structs that are null", pairs(numbers(&[None, None]), &[false, false])),
            ("lists of no structs", lists(&[Some(0); 3], pairs(numbers(&[]), &[]))),
            ("structs", pairs(numbers(&[Some(1), None, None]), &[true, true, false])),
            ("lists of structs", lists(&[Some(1), Some(2)], pairs(numbers(&some(3)), &[true, false, true]))),
            ("lists of lists", lists(&[Some(2), Some(0), Some(1), Some(0)], deep.clone())),
            ("lists of structs of lists", lists(&[Some(0), Some(3)], pairs(deep, &[true, true, true]))),
            ("many lists", lists(&[Some(3); 1000], numbers(&some(3000)))),
        ] {
            let field = to_parquet_type(&Field::new("column".into(), array.dtype().clone(), true)).unwrap();
            for nested in to_nested(&*array, &field).unwrap() {
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                Levels::of(&nested).unwrap().write(&mut ours).unwrap();
                write_rep_and_def(Version::V1, &nested, &mut theirs).unwrap();
                assert_eq!(ours, theirs, "{what}");
            }
        }
    }
}
