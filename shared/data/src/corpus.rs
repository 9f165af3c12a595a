//! The built-in tales: somebody wants something, something is in the way, somebody helps. Endless,
//! the same on every machine, in plain words that a small model learns in a minute.

mod words;

use crate::random::Random;
use words::{EXCUSES, HABITS, KIN, Kin, MORALS, NATURES, OFFERS, PLACES, QUESTS, Quest, TRIES};

/// Bytes of the built-in corpus: far more than a short run reads.
pub const SIZE: usize = 1 << 20;

/// The seed of the built-in corpus.
const SEED: u64 = 0;

/// Tales without end, each of a few hundred bytes of ASCII in one paragraph, without a line break.
pub fn tales(seed: u64) -> impl Iterator<Item = String> {
    (0..).map(move |number| tale(&mut Random::new(seed, number)))
}

/// The first `bytes` bytes of the built-in corpus: tales with an empty line between them.
pub fn text(bytes: usize) -> String {
    join(tales(SEED), bytes)
}

/// As [`text`], but with tales that the corpus does not contain.
pub fn held_out(bytes: usize) -> String {
    join(tales(SEED + 1), bytes)
}

fn join(mut tales: impl Iterator<Item = String>, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 1024);
    while text.len() < bytes {
        text.extend(tales.next());
        text.push_str("\n\n");
    }
    text.truncate(bytes); // ASCII can be cut anywhere
    text
}

/// Somebody in a tale.
struct Figure {
    nature: &'static str,
    kind: &'static str,
    kin: &'static Kin,
}

impl Figure {
    /// Somebody of a different kind than all of `others`.
    fn new(random: &mut Random, others: &[&Figure]) -> Self {
        loop {
            let kin = random.pick(&KIN);
            let (nature, kind) = (*random.pick(&NATURES), *random.pick(&kin.kinds));
            // No "young aunt" beside an "old aunt": a tale calls its figures by their kind.
            if others.iter().all(|other| other.kind != kind) {
                return Self { nature, kind, kin };
            }
        }
    }

    /// "a little fox", "an old king".
    fn introduced(&self) -> String {
        let vowel = self.nature.starts_with(['a', 'e', 'i', 'o', 'u']);
        format!("{} {} {}", if vowel { "an" } else { "a" }, self.nature, self.kind)
    }
}

fn tale(random: &mut Random) -> String {
    let hero = Figure::new(random, &[]);
    let helper = Figure::new(random, &[&hero]);
    let name = *random.pick(&hero.kin.names);
    let he = hero.kin.he;
    let quest = random.pick(&QUESTS);

    let mut tale = vec![beginning(random, &hero, name)];
    if random.below(2) == 0 {
        tale.push(format!("Every day {he} {}.", random.pick(&HABITS)));
    }
    tale.push(trouble(random, name, quest));
    if random.below(3) == 0 {
        let passer = Figure::new(random, &[&hero, &helper]);
        let excuse = random.pick(&EXCUSES);
        tale.push(format!(
            "First {} came by. \"{excuse},\" said the {}, and went away.",
            passer.introduced(),
            passer.kind
        ));
    }
    tale.push(help(random, name, &helper, quest));
    tale.push(ending(random, name, he, &helper, quest));
    tale.push(random.pick(&MORALS).to_string());
    tale.join(" ")
}

fn beginning(random: &mut Random, hero: &Figure, name: &str) -> String {
    let (who, he, place) = (hero.introduced(), capital(hero.kin.he), random.pick(&PLACES));
    match random.below(3) {
        0 => format!("Once there was {who} named {name}. {he} lived {place}."),
        1 => format!("Once upon a time {who} named {name} lived {place}."),
        _ => format!("Once {who} lived {place}. {he} was called {name}."),
    }
}

fn trouble(random: &mut Random, name: &str, quest: &Quest) -> String {
    let Quest { want, obstacle, .. } = quest;
    let time = random.pick(&["day", "morning", "evening"]);
    let attempt = random.pick(&TRIES);
    match random.below(2) {
        0 => format!("One {time} {name} wanted to {want}, but {obstacle}. {name} {attempt}."),
        _ => format!(
            "One {time} {name} said, \"I want to {want}.\" But {obstacle}. {name} {attempt}."
        ),
    }
}

fn help(random: &mut Random, name: &str, helper: &Figure, quest: &Quest) -> String {
    let Quest { want, obstacle, deed } = quest;
    let (who, kind, offer) = (helper.introduced(), helper.kind, random.pick(&OFFERS));
    let talk = match random.below(3) {
        0 => String::new(),
        1 => format!("\"Why are you sad?\" asked the {kind}. "),
        _ => format!(
            "\"Why are you sad?\" asked the {kind}. \"I want to {want}, but {},\" said {name}. ",
            // In speech the obstacle is there now.
            obstacle.replace(" was ", " is ").replace(" had ", " has ")
        ),
    };
    format!("Then {who} came by. {talk}\"{offer},\" said the {kind}. So they {deed}.")
}

fn ending(random: &mut Random, name: &str, he: &str, helper: &Figure, quest: &Quest) -> String {
    let (want, kind, he) = (quest.want, helper.kind, capital(he));
    match random.below(3) {
        0 => {
            format!("At last {name} could {want}. {he} thanked the {kind} with all {}.", heart(&he))
        }
        1 => format!("Now {name} could {want}, and the {kind} was happy too."),
        _ => format!(
            "And so {name} could {want}. {he} and the {kind} were friends from that day on."
        ),
    }
}

fn heart(he: &str) -> &'static str {
    if he == "He" { "his heart" } else { "her heart" }
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_same_seed_tells_the_same_tales() {
        let first: Vec<_> = tales(3).take(5).collect();
        assert_eq!(first, tales(3).take(5).collect::<Vec<_>>());
        assert_ne!(first, tales(4).take(5).collect::<Vec<_>>());
        // Pinned: published losses depend on every byte.
        assert_eq!(fnv(text(SIZE).as_bytes()), 0xa64729eadb685c11);
    }

    /// The FNV-1a hash.
    fn fnv(bytes: &[u8]) -> u64 {
        bytes
            .iter()
            .fold(0xcbf29ce484222325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100000001b3))
    }

    #[test]
    fn a_longer_text_begins_with_the_shorter() {
        let long = text(5000);
        assert_eq!((long.len(), text(1234).len(), text(0).len()), (5000, 1234, 0));
        assert!(long.starts_with(&text(1234)));
    }

    #[test]
    fn tales_differ() {
        let tales: BTreeSet<_> = tales(0).take(2000).collect();
        assert_eq!(tales.len(), 2000);
    }

    #[test]
    fn spelling_and_punctuation_are_proper() {
        for tale in tales(1).take(3000) {
            assert!(tale.is_ascii() && (250..900).contains(&tale.len()), "{tale}");
            assert!(tale.starts_with("Once ") && tale.ends_with('.'), "{tale}");
            assert!(!tale.contains("  ") && !tale.contains(" ,") && !tale.contains(".."), "{tale}");
            assert_eq!(tale.matches('"').count() % 2, 0, "{tale}");
            let words: Vec<&str> = tale.split(' ').collect();
            for pair in words.windows(2) {
                let [word, next] = pair else { unreachable!() };
                let vowel = next.starts_with(['a', 'e', 'i', 'o', 'u']);
                let fits = if vowel { *word != "a" } else { *word != "an" };
                assert!(fits, "{word} {next} in: {tale}");
                let ends = word.trim_end_matches('"').ends_with(['.', '?']);
                // A question inside quotes may go on in small letters: "…?" asked the fox.
                if ends && !word.ends_with("?\"") {
                    let start = next.trim_start_matches('"').chars().next().unwrap();
                    assert!(start.is_uppercase(), "{word} {next} in: {tale}");
                }
                assert_ne!(word, next, "{tale}");
            }
        }
    }

    #[test]
    fn the_words_are_few_enough_for_a_small_model() {
        let letters = |c: char| !c.is_ascii_alphabetic();
        let words: BTreeSet<String> =
            text(SIZE).split(letters).map(str::to_lowercase).filter(|w| !w.is_empty()).collect();
        assert!((150..350).contains(&words.len()), "{}", words.len());
    }
}
