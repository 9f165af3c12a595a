//! Whatever the files, the threads and the pieces, the tokens are those of each document and an
//! end token behind it.

use super::*;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use std::sync::Arc;
use tempfile::TempDir;

fn tokenizers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/tokenizers")
}

fn expected() -> Value {
    serde_json::from_slice(&fs::read(tokenizers().join("expected.json")).unwrap()).unwrap()
}

/// The texts that Python has encoded, and its tokens of each.
fn texts(family: &str) -> Vec<(String, Vec<u32>)> {
    let expected = expected();
    let texts: Vec<String> = serde_json::from_value(expected["texts"].clone()).unwrap();
    let ids: Vec<Option<Vec<u32>>> =
        serde_json::from_value(expected["families"][family].clone()).unwrap();
    texts.into_iter().zip(ids).filter_map(|(text, ids)| Some((text, ids?))).collect()
}

struct Place {
    dir: TempDir,
    family: &'static str,
}

impl Place {
    fn new(family: &'static str) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), family }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.at(name), text).unwrap();
        self.at(name)
    }

    fn asked(&self, texts: &[PathBuf], threads: usize) -> Tokenize {
        Tokenize {
            texts: texts.to_vec(),
            out: self.at("tokens.u32"),
            tokenizer: tokenizers().join(format!("{}.json", self.family)),
            end_token: match self.family {
                "t5" => Some("</s>".into()), // no special one
                "across-spaces" => Some("<unk>".into()),
                _ => None,
            },
            text_field: "text".into(),
            threads: Some(threads),
        }
    }

    /// The tokens of the files, in pieces of so many bytes.
    fn tokens(&self, asked: &Tokenize, piece: usize) -> Result<Vec<u32>> {
        let (tokenizer, end, output) = asked.prepared()?;
        asked.go(&tokenizer, end, output, piece, |_| {})?;
        let bytes = fs::read(&asked.out).unwrap();
        let width = data::token_width(&asked.out).unwrap();
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b));
        Ok(bytes.chunks_exact(width).map(number).collect())
    }

    fn said(&self, asked: &Tokenize) -> String {
        let error = format!("{:#}", self.tokens(asked, 1000).unwrap_err());
        let names: Vec<_> = fs::read_dir(self.dir.path()).unwrap().collect();
        let partial = |entry: &std::io::Result<fs::DirEntry>| {
            entry.as_ref().unwrap().file_name().to_string_lossy().contains("partial")
        };
        assert!(!names.iter().any(partial) && !asked.out.exists(), "something is left");
        error.replace(&self.dir.path().display().to_string(), "DIR")
    }
}

/// The token that its tokenizer.json says, or the test.
fn end_of(place: &Place) -> u32 {
    let asked = place.asked(&[], 1);
    let Tokenizer::HuggingFace(tokenizer) = Tokenizer::from_file(&asked.tokenizer).unwrap() else {
        panic!("{}", place.family)
    };
    asked.end(&asked.tokenizer, &tokenizer).unwrap()
}

fn lines(texts: &[(String, Vec<u32>)]) -> String {
    texts
        .iter()
        .map(|(text, _)| format!("{}\n", json!({"id": 1, "text": text, "more": {}})))
        .collect()
}

/// A file of two row groups, with a column of numbers before that of texts.
fn columns(path: &Path, texts: &[(String, Vec<u32>)], compression: Compression, optional: bool) {
    let kind = if optional { "optional" } else { "required" };
    let message = format!("message m {{ required int32 id; {kind} binary text (UTF8); }}");
    let schema = Arc::new(parse_message_type(&message).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    for half in [&texts[..texts.len() / 2], &texts[texts.len() / 2..]] {
        let mut group = writer.next_row_group().unwrap();
        let mut ids = group.next_column().unwrap().unwrap();
        let numbers = vec![7; half.len()];
        ids.typed::<Int32Type>().write_batch(&numbers, None, None).unwrap();
        ids.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = half.iter().map(|(text, _)| text.as_str().into()).collect();
        let levels = vec![1; half.len()];
        let levels = optional.then_some(&levels[..]);
        column.typed::<ByteArrayType>().write_batch(&values, levels, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn with_ends(texts: &[(String, Vec<u32>)], end: u32) -> Vec<u32> {
    texts.iter().flat_map(|(_, ids)| ids.iter().copied().chain([end])).collect()
}

#[test]
fn each_document_has_pythons_tokens_and_one_end_whatever_it_lies_in() {
    for family in ["gpt2", "llama2", "llama3", "smollm", "gpt-4o", "t5"] {
        let (place, texts) = (Place::new(family), texts(family));
        let end = end_of(&place);
        assert!(texts.len() > 30, "{family}");
        let all = with_ends(&texts, end);
        let jsonl = place.write("a.jsonl", &lines(&texts));
        for (threads, piece) in [(1, 1), (3, 1), (3, 200), (2, 1 << 20)] {
            let got =
                place.tokens(&place.asked(std::slice::from_ref(&jsonl), threads), piece).unwrap();
            assert_eq!(got, all, "{family}: {threads} threads, pieces of {piece}");
        }
        for (compression, optional) in [
            (Compression::UNCOMPRESSED, false),
            (Compression::SNAPPY, true),
            (Compression::ZSTD(Default::default()), true),
        ] {
            let parquet = place.at("b.parquet");
            columns(&parquet, &texts, compression, optional);
            let got = place.tokens(&place.asked(&[parquet], 3), 100).unwrap();
            assert_eq!(got, all, "{family}: {compression:?}");
        }
    }
}

#[test]
fn files_follow_each_other_in_the_order_in_which_they_are_named() {
    let (place, texts) = (Place::new("llama3"), texts("llama3"));
    let end = end_of(&place);
    let some: Vec<_> = texts.iter().filter(|(text, _)| !text.is_empty()).cloned().collect();
    let (first, rest) = some.split_at(1);
    let (second, rest) = rest.split_at(9);
    let parquet = place.at("c.parquet");
    columns(&parquet, rest, Compression::SNAPPY, true);
    let files =
        [place.write("a.txt", &first[0].0), place.write("b.jsonl", &lines(second)), parquet];
    let got = place.tokens(&place.asked(&files, 2), 100).unwrap();
    assert_eq!(got, with_ends(&some, end));
    let reversed: Vec<_> = files.iter().rev().cloned().collect();
    let got = place.tokens(&place.asked(&reversed, 2), 100).unwrap();
    assert_eq!(got, with_ends(&[rest, second, first].concat(), end));
}

#[test]
fn a_long_text_has_in_parts_the_tokens_of_the_whole() {
    let text = data::corpus::text(100_000)
        + &"Привет, мир! 你好，世界。 e\u{301} 👩\u{200d}👩 ".repeat(200);
    for family in ["gpt2", "llama2", "llama3", "deepseek-v3", "across-spaces", "t5"] {
        let place = Place::new(family);
        let path = place.write("long.txt", &text);
        let asked = place.asked(&[path], 3);
        let mut whole = Tokenizer::from_file(&asked.tokenizer).unwrap().encode(&text).unwrap();
        whole.push(end_of(&place));
        for piece in [1000, 7777] {
            assert_eq!(place.tokens(&asked, piece).unwrap(), whole, "{family}, {piece}");
        }
    }
}

#[test]
fn two_bytes_hold_what_four_do() {
    let (place, texts) = (Place::new("gpt2"), texts("gpt2"));
    let path = place.write("a.jsonl", &lines(&texts));
    let mut asked = place.asked(&[path], 1);
    let four = place.tokens(&asked, 1000).unwrap();
    asked.out = place.at("tokens.bin");
    assert_eq!(place.tokens(&asked, 1000).unwrap(), four);
    assert_eq!(fs::metadata(&asked.out).unwrap().len(), 2 * four.len() as u64);
}

mod refused;
