//! Parquet: a document a row, in a column of text.

use crate::documents::{Gathered, Piece, Reading};
use anyhow::{Context, Result, bail, ensure};
use parquet::basic::Type;
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::fs::File;
use std::path::Path;

/// Rows that are decoded at once.
const ROWS: usize = 64;

pub(crate) fn read(
    path: &Path,
    reading: &mut Reading,
    take: &mut dyn FnMut(Piece) -> Result<()>,
) -> Result<()> {
    let (file, column) = open(path, reading.field)?;
    let mut gathered = Gathered::default();
    let mut row = 0;
    for index in 0..file.num_row_groups() {
        let group = file.get_row_group(index).context("cannot be read")?;
        let bytes = group.metadata().compressed_size().try_into().unwrap_or(0);
        let reader = group.get_column_reader(column).context("cannot be read")?;
        let ColumnReader::ByteArrayColumnReader(mut reader) = reader else {
            bail!("its column {:?} is no text", reading.field);
        };
        let may_be_null = file.metadata().file_metadata().schema_descr().column(column);
        let highest = may_be_null.max_def_level();
        let (mut levels, mut values) = (vec![], Vec::<ByteArray>::new());
        loop {
            levels.clear();
            values.clear();
            let given = (highest > 0).then_some(&mut levels);
            let (rows, ..) = reader
                .read_records(ROWS, given, None, &mut values)
                .with_context(|| format!("row {} and later ones cannot be read", row + 1))?;
            if rows == 0 {
                break;
            }
            if let Some(null) = levels.iter().position(|&level| level < highest) {
                bail!("row {}: its {:?} is null", row + null + 1, reading.field);
            }
            for value in &values {
                row += 1;
                let text =
                    value.as_utf8().with_context(|| format!("row {row}: it is not UTF-8 text"))?;
                gathered.push(text.to_owned(), reading.size, take)?;
            }
        }
        (reading.seen)(bytes);
    }
    gathered.flush(take)
}

/// The file, and which of its columns is the one of this name.
///
/// # Errors
/// If it is no Parquet, or has no such column of text.
pub(crate) fn open(path: &Path, field: &str) -> Result<(SerializedFileReader<File>, usize)> {
    let file = File::open(path).context("cannot be read")?;
    let file = SerializedFileReader::new(file).context("it is not a Parquet file")?;
    let schema = file.metadata().file_metadata().schema_descr_ptr();
    let columns = || schema.columns().iter();
    let named = columns().position(|column| column.path().parts() == [field]);
    let Some(column) = named else {
        let names: Vec<_> = columns().map(|column| column.path().string()).collect();
        bail!(
            "it has no column {field:?}: --text-field names the one with the text, of {}",
            names.join(", ")
        );
    };
    let of = schema.column(column);
    ensure!(
        of.physical_type() == Type::BYTE_ARRAY && of.max_rep_level() == 0,
        "its column {field:?} is no text: --text-field names the one that is"
    );
    Ok((file, column))
}
