use super::*;
use crate::{Dataset, Tokenizer, corpus};
use std::path::PathBuf;
use std::sync::Mutex;
use tempfile::TempDir;

/// A long text, alone in its directory.
struct Story {
    dir: TempDir,
    text: PathBuf,
    tokenizer: Tokenizer,
    /// What the user was told.
    said: Mutex<Vec<String>>,
}

impl Story {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join(name);
        fs::write(&text, corpus::text(LONG)).unwrap();
        Self { dir, text, tokenizer: family("gpt2"), said: Mutex::default() }
    }

    fn open(&self, cache: Option<&Path>) -> Result<Vec<i64>> {
        let say = |line: &str| self.said.lock().unwrap().push(line.to_owned());
        let cache = TokenCache { dir: cache, say: &say };
        let dataset = Dataset::open(&self.text, &self.tokenizer, cache, 512, 1000)?;
        (0..dataset.samples()).try_fold(vec![], |all, i| Ok([all, dataset.sample(i)?].concat()))
    }

    /// What is in the directory beside the text, by ending.
    fn beside(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| *path != self.text);
        let mut endings: Vec<_> =
            paths.map(|path| path.extension().unwrap_or_default().display().to_string()).collect();
        endings.sort();
        endings
    }

    fn kept(&self) -> PathBuf {
        let mut entries = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.find(|path| path.extension().is_some_and(|ending| ending == "tokens")).unwrap()
    }

    fn times_encoded(&self) -> usize {
        let said = self.said.lock().unwrap();
        said.iter().filter(|line| line.ends_with("once for all later runs")).count()
    }
}

fn family(name: &str) -> Tokenizer {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers");
    Tokenizer::from_file(&dir.join(format!("{name}.json"))).unwrap()
}

#[test]
fn a_long_text_is_encoded_once_and_then_mapped() {
    let story = Story::new("story.txt");
    let expected = {
        let ids = story.tokenizer.encode(&corpus::text(LONG)).unwrap();
        let dataset = Dataset::from_tokens(ids, 512, 1000).unwrap();
        (0..dataset.samples()).flat_map(|i| dataset.sample(i).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(story.open(None).unwrap(), expected);
    assert_eq!(story.beside(), ["tokens"]);
    assert_eq!(story.open(None).unwrap(), expected);
    assert_eq!(story.times_encoded(), 1);
    let said = story.said.lock().unwrap();
    assert!(
        said[0].starts_with("encoding /") && said[0].contains("story.txt, 1.0 MB of text"),
        "{said:?}"
    );
}

#[test]
fn another_text_or_tokenizer_has_its_own_tokens() {
    let mut story = Story::new("story.txt");
    let first = story.open(None).unwrap();
    fs::write(&story.text, corpus::held_out(LONG)).unwrap();
    assert_ne!(story.open(None).unwrap(), first);
    story.tokenizer = family("phi");
    story.open(None).unwrap();
    assert_eq!(story.beside(), ["tokens"; 3]);
    assert_eq!(story.times_encoded(), 3);
}

#[test]
fn what_a_killed_run_has_left_is_never_read() {
    let story = Story::new("story.txt");
    let expected = story.open(None).unwrap();
    let kept = story.kept();
    let whole = fs::read(&kept).unwrap();
    // The draft of a killed run: longer than the whole, and not locked.
    fs::remove_file(&kept).unwrap();
    fs::write(kept.with_extension("partial"), [&[0; HEADER][..], &whole, &whole].concat()).unwrap();
    assert_eq!(story.open(None).unwrap(), expected);
    assert_eq!((story.beside(), fs::read(&kept).unwrap()), (vec!["tokens".into()], whole.clone()));
    // A draft under the name of the whole; and files that are cut off, empty, or of other tokens.
    let unnamed = [&[0; HEADER][..], &whole[HEADER..]].concat();
    let mut other = whole.clone();
    other[MAGIC.len()] ^= 1;
    for spoilt in [unnamed, other, whole[..whole.len() - 1].to_vec(), vec![]] {
        fs::write(&kept, spoilt).unwrap();
        assert_eq!(story.open(None).unwrap(), expected);
        assert_eq!(fs::read(&kept).unwrap(), whole);
    }
}

#[test]
fn a_text_whose_tokens_are_kept_is_not_read_again_nor_encoded_for_being_touched() {
    let story = Story::new("story.txt");
    let expected = story.open(None).unwrap();
    let later = |seconds| {
        let text = File::options().append(true).open(&story.text).unwrap();
        let then = text.metadata().unwrap().modified().unwrap();
        text.set_modified(then + Duration::from_secs(seconds)).unwrap();
    };
    // Of the same length, seen from afar the same, and of the same time: who would change a text
    // so? Whoever reads all of it finds out.
    let mut other = fs::read(&story.text).unwrap();
    let then = fs::metadata(&story.text).unwrap().modified().unwrap();
    let between = GLANCE.1 + 100;
    other[between] = 0xff;
    fs::write(&story.text, &other).unwrap();
    File::options().append(true).open(&story.text).unwrap().set_modified(then).unwrap();
    assert_eq!(story.open(None).unwrap(), expected, "only pieces of it are looked at");
    later(1);
    let error = format!("{:#}", story.open(None).unwrap_err());
    assert!(
        error.contains(&format!("it is not UTF-8 text: byte 0xff at position {between}")),
        "{error}"
    );

    fs::write(&story.text, corpus::text(LONG)).unwrap();
    later(2);
    assert_eq!(story.open(None).unwrap(), expected);
    assert_eq!(story.open(None).unwrap(), expected);
    assert_eq!((story.beside(), story.times_encoded()), (vec!["tokens".into()], 1));
}

#[test]
fn of_many_processes_one_encodes() {
    let story = Story::new("story.txt");
    // Each opens files of its own, as a process does, and locks are those of open files.
    let opened: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| story.open(None).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(opened.iter().all(|tokens| *tokens == opened[0]));
    assert_eq!(story.times_encoded(), 1, "{:?}", story.said.lock().unwrap());
    assert_eq!(story.beside(), ["tokens"]);
}

#[test]
fn where_nothing_can_be_written_the_tokens_stay_in_memory_or_go_where_the_user_says() {
    // A name that leaves no room for a longer one beside it.
    let story = Story::new(&format!("{}.txt", "x".repeat(245)));
    let tokens = story.open(None).unwrap();
    assert!(story.beside().is_empty());
    let said = story.said.lock().unwrap().remove(0);
    assert!(
        said.contains("stay in memory") && said.contains("--data-cache names another"),
        "{said}"
    );

    let story = Story::new("story.txt");
    let cache = story.dir.path().join("new/cache");
    assert_eq!(story.open(Some(&cache)).unwrap(), tokens);
    assert_eq!((story.beside(), fs::read_dir(&cache).unwrap().count()), (vec!["".into()], 1));
    let none = story.text.join("cache"); // the text is no directory
    let error = format!("{:#}", story.open(Some(&none)).unwrap_err());
    let reason =
        format!("its tokens cannot be kept in data-cache {}: Not a directory", none.display());
    assert!(error.contains(&reason), "{error}");
}

#[test]
fn a_short_text_leaves_nothing_beside_it() {
    let story = Story::new("story.txt");
    fs::write(&story.text, corpus::text(9_000)).unwrap();
    story.open(None).unwrap();
    assert!(story.beside().is_empty() && story.said.lock().unwrap().is_empty());
}

#[test]
fn a_token_outside_the_vocabulary_is_found_among_kept_tokens_too() {
    let story = Story::new("story.txt");
    fs::write(&story.text, corpus::text(LONG) + "<|endoftext|>").unwrap();
    let at = story.tokenizer.encode(&corpus::text(LONG)).unwrap().len();
    for _ in 0..2 {
        let cache = TokenCache { dir: None, say: &|_| {} };
        let opened = Dataset::open(&story.text, &story.tokenizer, cache, 420, 1000);
        let error = format!("{:#}", opened.unwrap_err());
        let sentence = format!("token 420 at position {at} is outside the vocabulary of 420");
        assert!(error.ends_with(&sentence), "{error}");
    }
}

#[test]
fn the_encoder_is_the_one_that_is_built() {
    let lock =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
    let (name, version) = ENCODER.split_once(' ').unwrap();
    assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")));
}
