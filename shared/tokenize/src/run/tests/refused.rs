//! What cannot be read or written is said in one sentence, and leaves nothing.

use super::*;

#[test]
fn what_cannot_be_read_is_named_with_its_place_and_leaves_nothing() {
    let place = Place::new("gpt2");
    let said = |name: &str, text: &[u8]| {
        fs::write(place.at(name), text).unwrap();
        place.said(&place.asked(&[place.at(name)], 2))
    };
    let good = "{\"text\": \"good\"}\n";
    let line = |second: &str| said("a.jsonl", format!("{good}{second}\n").as_bytes());
    assert_eq!(
        line("{\"words\": \"x\"}"),
        "DIR/a.jsonl: line 2: it has no field \"text\": --text-field names the one with the text"
    );
    let other = "it is not a JSON object with a text \"text\" (--text-field names another)";
    for wrong in
        ["Once", "{\"text\": 3}", "{\"text\": null}", "[]", "{\"text\": \"a\", \"text\": \"b\"}"]
    {
        let told = line(wrong);
        assert!(told.starts_with(&format!("DIR/a.jsonl: line 2: {other}: ")), "{told}");
    }
    assert!(line("{\"text\": \"a\"} {}").contains("line 2: it is not one JSON object"));
    let latin = [b"a\nb\n", &b"x ".repeat(50_000)[..], b"caf\xe9 au lait"].concat();
    assert_eq!(
        said("a.txt", &latin),
        "DIR/a.txt: it is not UTF-8 text: byte 0xe9 at position 100007, line 3"
    );
    assert_eq!(
        said("b.txt", b"cut \xc3"),
        "DIR/b.txt: it is not UTF-8 text: byte 0xc3 at position 4, line 1"
    );
    assert_eq!(said("c.txt", b""), "DIR/c.txt: it is empty");
    assert!(said("d.parquet", b"Once").starts_with("DIR/d.parquet: it is not a Parquet file: "));
    assert_eq!(
        said("e.jsonl.gz", b""),
        "DIR/e.jsonl.gz: DIR/e.jsonl.gz is compressed: unpack it first"
    );
    assert_eq!(said("e.bin", b""), "DIR/e.bin: DIR/e.bin holds tokens, and not text");

    columns(&place.at("f.parquet"), &texts("gpt2"), Compression::SNAPPY, true);
    let mut asked = place.asked(&[place.at("f.parquet")], 2);
    asked.text_field = "words".into();
    assert_eq!(
        place.said(&asked),
        "DIR/f.parquet: it has no column \"words\": --text-field names the one with the text, of id, text"
    );
    asked.text_field = "id".into();
    assert_eq!(
        place.said(&asked),
        "DIR/f.parquet: its column \"id\" is no text: --text-field names the one that is"
    );
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_written() {
    let place = Place::new("gpt2");
    let text = place.write("a.txt", "Once");
    let asked = || place.asked(std::slice::from_ref(&text), 1);
    let refused = |asked: Tokenize| place.said(&asked);
    let out = |name: &str| Tokenize { out: place.at(name), ..asked() };
    assert_eq!(
        refused(out("tokens.txt")),
        "out is DIR/tokens.txt, but must end in .bin (tokens of two bytes) or .u32 (of four)"
    );
    assert!(refused(out("no/tokens.u32")).starts_with("out DIR/no/tokens.u32 cannot be written: "));
    let threads = Tokenize { threads: Some(0), ..asked() };
    assert_eq!(refused(threads), "threads is 0, but must be at least 1");
    let end = Tokenize { end_token: Some("<fin>".into()), ..asked() };
    assert!(refused(end).contains("end-token is \"<fin>\", but tokenizer "));
    let missing = Tokenize { texts: vec![place.at("no.txt")], ..asked() };
    assert!(refused(missing).starts_with("DIR/no.txt: cannot be read: No such file"));
    let folder = Tokenize { texts: vec![place.dir.path().to_owned()], ..asked() };
    assert_eq!(refused(folder), "DIR: it is a directory, but must be a file");

    // A tokenizer without an end, and one whose tokens need more than two bytes.
    let mut file: Value =
        serde_json::from_slice(&fs::read(tokenizers().join("gpt2.json")).unwrap()).unwrap();
    file["model"]["vocab"]["zzz"] = json!(70_000);
    place.write("many.json", &file.to_string());
    let many = Tokenize { tokenizer: place.at("many.json"), ..out("tokens.bin") };
    assert_eq!(
        refused(many),
        "out is DIR/tokens.bin, whose tokens end at 65535, but the tokenizer's highest is 70000: use a .u32 file"
    );
    file["added_tokens"][0]["content"] = json!("<|other|>");
    place.write("tokenizer.json", &file.to_string());
    let endless = Tokenize { tokenizer: place.dir.path().to_owned(), ..asked() };
    assert_eq!(
        refused(endless.clone()),
        "tokenizer DIR/tokenizer.json does not say which of its tokens ends a text, and every document \
         needs one: name it with --end-token"
    );
    let named = Tokenize { end_token: Some("<|other|>".into()), ..endless };
    let got = place.tokens(&named, 100).unwrap();
    assert_eq!(got.last(), Some(&421), "as the library numbers it");
}
