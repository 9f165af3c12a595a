//! JSON lines: an object a line, and in it a document.

use crate::documents::{Gathered, Piece, Reading};
use anyhow::{Context, Result, bail};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

pub(crate) fn read(
    path: &Path,
    reading: &mut Reading,
    take: &mut dyn FnMut(Piece) -> Result<()>,
) -> Result<()> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).context("cannot be read")?);
    let (mut gathered, mut line) = (Gathered::default(), vec![]);
    for number in 1.. {
        line.clear();
        let bytes = file.read_until(b'\n', &mut line).context("cannot be read")?;
        if bytes == 0 {
            break;
        }
        (reading.seen)(bytes as u64);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let document = document(&line, reading.field);
        let document = document.with_context(|| format!("line {number}"))?;
        gathered.push(document, reading.size, take)?;
    }
    gathered.flush(take)
}

/// The text of one line.
fn document(line: &[u8], field: &str) -> Result<String> {
    let mut parser = serde_json::Deserializer::from_slice(line);
    match Field(field).deserialize(&mut parser) {
        Ok(Some(text)) => {
            parser.end().context("it is not one JSON object")?;
            Ok(text)
        }
        Ok(None) => bail!("it has no field {field:?}: --text-field names the one with the text"),
        Err(error) => Err(error).with_context(|| {
            format!("it is not a JSON object with a text {field:?} (--text-field names another)")
        }),
    }
}

/// The one field of an object that is read; the others are passed over.
#[derive(Clone, Copy)]
struct Field<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<String>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value::<String>()?).is_some() {
                return Err(A::Error::custom("it has two of them"));
            }
        }
        Ok(found)
    }
}
