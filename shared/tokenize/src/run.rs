//! From files of text to a file of tokens.

use crate::documents::{Kind, Reading, read};
use crate::output::Output;
use crate::workers::in_order;
use crate::{columns, text};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use data::{HuggingFace, Tokenizer};
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Bytes of text that one thread encodes at once.
const PIECE: usize = 1 << 18;

/// How often it is said how far it is.
const NEWS: Duration = Duration::from_secs(10);

/// Make one file of tokens of files of text
#[derive(Clone, Debug, Parser)]
#[command(name = "tokenize", term_width = 100)]
pub struct Tokenize {
    /// Plain text (a file is a document), .jsonl (a line is one) or .parquet (a row is one)
    #[arg(required = true, value_name = "TEXT")]
    pub texts: Vec<PathBuf>,
    /// The file of tokens: .bin holds them in two bytes each, .u32 in four
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// A Hugging Face tokenizer.json, or the directory that it is in
    #[arg(long, value_name = "FILE")]
    pub tokenizer: PathBuf,
    /// The token that stands after each document; default: the tokenizer's own, as the
    /// files beside it say
    #[arg(long, value_name = "TOKEN")]
    pub end_token: Option<String>,
    /// The field of .jsonl and the column of .parquet that hold the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub text_field: String,
    /// Threads that encode; default: one for each core
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// What cannot work, said before anything is started.
#[derive(Debug)]
pub struct Refused(pub anyhow::Error);

/// What has been written.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// Where.
    pub out: PathBuf,
    /// Whole documents, each with its end token.
    pub documents: u64,
    /// All tokens, the end tokens among them.
    pub tokens: u64,
    /// What a model's vocab_size must be at least: one more than the highest token that there is
    /// for a text, or the end token.
    pub vocab_size: u64,
    /// Bytes of the files read.
    pub bytes: u64,
    /// How long it took.
    pub time: Duration,
}

impl Tokenize {
    /// Reads, encodes and writes, and says now and then how far it is.
    ///
    /// # Errors
    /// [`Refused`] for what cannot work, and otherwise what went wrong on the way, both in a
    /// sentence. The file is not there then.
    pub fn run(&self, say: impl Fn(&str)) -> Result<Result<Done>, Refused> {
        let (tokenizer, end, output) = self.prepared().map_err(Refused)?;
        Ok(self.go(&tokenizer, end, output, PIECE, say))
    }

    /// All that may be refused.
    fn prepared(&self) -> Result<(Box<HuggingFace>, u32, Output)> {
        ensure!(self.threads != Some(0), "threads is 0, but must be at least 1");
        let path = match self.tokenizer.is_dir() {
            true => self.tokenizer.join("tokenizer.json"),
            false => self.tokenizer.clone(),
        };
        let Tokenizer::HuggingFace(tokenizer) = Tokenizer::from_file(&path)? else {
            bail!("tokenizer {} makes bytes of a text", path.display()); // none does
        };
        let end = self.end(&path, &tokenizer)?;
        for text in &self.texts {
            check(text, &self.text_field).with_context(|| format!("{}", text.display()))?;
            let same = |path: &Path| path.canonicalize().ok();
            let is_out = same(text).is_some_and(|text| Some(text) == same(&self.out));
            ensure!(!is_out, "out {} is one of the texts: name another", self.out.display());
        }
        let output =
            Output::create(&self.out, tokenizer.highest(true).max(Some(end)).unwrap_or(end))?;
        Ok((tokenizer, end, output))
    }

    /// The token that ends a document.
    fn end(&self, path: &Path, tokenizer: &HuggingFace) -> Result<u32> {
        let shown = path.display();
        if let Some(name) = &self.end_token {
            let token = tokenizer.token(name);
            return token.with_context(|| {
                format!("end-token is {name:?}, but tokenizer {shown} has no such token")
            });
        }
        // By its name: the library numbers added tokens anew where the file skips some.
        let end = checkpoint::end_token(path)?.and_then(|(name, _)| tokenizer.token(&name));
        end.with_context(|| {
            format!(
                "tokenizer {shown} does not say which of its tokens ends a text, and every document \
                 needs one: name it with --end-token"
            )
        })
    }

    fn go(
        &self,
        tokenizer: &HuggingFace,
        end: u32,
        mut output: Output,
        piece: usize,
        say: impl Fn(&str),
    ) -> Result<Done> {
        let start = Instant::now();
        let threads = self.threads.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        let size = |path: &PathBuf| fs::metadata(path).map_or(0, |about| about.len());
        let all: u64 = self.texts.iter().map(size).sum();
        let seen = AtomicU64::new(0);
        let texts = |take: &mut dyn FnMut(_) -> Result<()>| {
            for path in &self.texts {
                let mut seen = |bytes| {
                    seen.fetch_add(bytes, Relaxed);
                };
                let field = &*self.text_field;
                let mut reading = Reading { tokenizer, field, size: piece, seen: &mut seen };
                read(path, &mut reading, take).with_context(|| format!("{}", path.display()))?;
            }
            Ok(())
        };
        let (mut documents, mut tokens, mut last) = (0, 0, start);
        in_order(tokenizer, end, threads, texts, |encoded| {
            output.write(&encoded.ids)?;
            documents += encoded.documents;
            tokens += encoded.ids.len() as u64;
            if last.elapsed() >= NEWS {
                last = Instant::now();
                say(&progress(seen.load(Relaxed), all, tokens, start.elapsed()));
            }
            Ok(())
        })?;
        output.finish()?;
        let vocab_size = u64::from(tokenizer.highest(false).max(Some(end)).unwrap_or(end)) + 1;
        let (out, time) = (self.out.clone(), start.elapsed());
        Ok(Done { out, documents, tokens, vocab_size, bytes: all, time })
    }
}

/// That a text can be read, as far as its beginning shows it.
fn check(path: &Path, field: &str) -> Result<()> {
    ensure!(!path.is_dir(), "it is a directory, but must be a file");
    match Kind::of(path)? {
        Kind::Text => text::check_beginning(path),
        Kind::Lines => File::open(path).map(drop).context("cannot be read"),
        Kind::Columns => columns::open(path, field).map(drop),
    }
}

/// How far it is, in one line.
fn progress(seen: u64, all: u64, tokens: u64, time: Duration) -> String {
    let part = seen as f64 / all.max(1) as f64;
    let left = time.as_secs_f64() * (1.0 - part) / part.max(1e-9);
    let tokens = report::thousands(tokens as f64);
    format!(
        "tokenize: {:.1} of {:.1} MB ({:.0} %)  {tokens} tokens  {:.1} MB/s  {left:.0} s left",
        seen as f64 / 1e6,
        all as f64 / 1e6,
        100.0 * part,
        seen as f64 / 1e6 / time.as_secs_f64(),
    )
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [documents, tokens] =
            [self.documents, self.tokens].map(|count| report::thousands(count as f64));
        let (megabytes, seconds) = (self.bytes as f64 / 1e6, self.time.as_secs_f64());
        let plural = if self.documents == 1 { "" } else { "s" };
        write!(
            f,
            "{}: {tokens} tokens of {documents} document{plural}, for a vocab_size of at least {}  \
             {megabytes:.1} MB in {seconds:.1} s",
            self.out.display(),
            self.vocab_size
        )
    }
}

#[cfg(test)]
mod tests;
