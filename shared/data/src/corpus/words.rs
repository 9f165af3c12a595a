//! The words that the tales are made of. They are few, so that a small model soon spells them all.

/// Those whom the tales call by the same pronoun.
pub(super) struct Kin {
    pub he: &'static str,
    pub names: [&'static str; 8],
    pub kinds: [&'static str; 10],
}

pub(super) const KIN: [Kin; 2] = [
    Kin {
        he: "he",
        names: ["Tom", "Ben", "Sam", "Will", "Jack", "Hugh", "Dan", "Fred"],
        kinds: ["fox", "bear", "frog", "goat", "dog", "crow", "boy", "king", "baker", "miller"],
    },
    Kin {
        he: "she",
        names: ["Ann", "May", "Rose", "Nell", "Jane", "Kate", "Lily", "Sue"],
        kinds: ["hen", "mouse", "owl", "duck", "cat", "hare", "girl", "queen", "weaver", "aunt"],
    },
];

pub(super) const NATURES: [&str; 10] =
    ["little", "old", "young", "kind", "brave", "shy", "clever", "quiet", "merry", "poor"];

/// Where somebody lives.
pub(super) const PLACES: [&str; 10] = [
    "in a small house by the river",
    "at the edge of the wood",
    "under a tall tree",
    "on a green hill",
    "near the old mill",
    "in a town by the sea",
    "behind the garden wall",
    "at the end of a long road",
    "in a warm barn",
    "beside a deep lake",
];

/// What somebody does every day.
pub(super) const HABITS: [&str; 8] = [
    "sang a song to the sun",
    "walked in the wood",
    "swept the floor",
    "fed the birds",
    "sat by the fire",
    "looked at the sky",
    "brought water from the well",
    "told a story to the moon",
];

/// What is wanted, what stands in the way, and what two can do about it.
pub(super) struct Quest {
    pub want: &'static str,
    pub obstacle: &'static str,
    pub deed: &'static str,
}

const fn quest(want: &'static str, obstacle: &'static str, deed: &'static str) -> Quest {
    Quest { want, obstacle, deed }
}

pub(super) const QUESTS: [Quest; 18] = [
    quest("cross the river", "the water was deep", "built a boat of wood"),
    quest("cross the river", "the bridge was broken", "laid a long log over the water"),
    quest("pick a red apple", "the tree was too tall", "made a ladder"),
    quest("see the sea", "the road was long", "walked side by side and sang all the way"),
    quest("bake a cake", "there was no flour in the house", "went to the mill for a bag of flour"),
    quest("go home", "the night was dark", "lit a lamp and found the path"),
    quest("ring the old bell", "the rope was too short", "tied a new rope to the old one"),
    quest("catch a fish", "the net had a hole", "mended the net with strong thread"),
    quest("climb the hill", "the snow was high", "dug a path in the snow"),
    quest("open the green gate", "the key was lost", "looked in the grass and found the key"),
    quest("plant a garden", "the ground was hard", "carried water until the ground was soft"),
    quest("sing at the fair", "the song was hard to learn", "learned the song line by line"),
    quest("sleep all night", "the wind was loud", "closed the window and sat by the fire"),
    quest("bring the sheep home", "the fog was thick", "rang a bell and the sheep came"),
    quest("move a big stone", "the stone was heavy", "pushed it with a long pole"),
    quest("eat warm bread", "the oven was cold", "found dry wood and made a fire"),
    quest("fly a kite", "there was no wind in the wood", "climbed the hill where the wind was"),
    quest(
        "send a letter to the king",
        "the castle was far away",
        "gave the letter to a fast horse",
    ),
];

/// Before the help comes.
pub(super) const TRIES: [&str; 4] = [
    "tried once, and tried again, and could not do it",
    "sat down and began to cry",
    "thought about it all day long",
    "asked the wind, but the wind did not answer",
];

/// What those say who do not help.
pub(super) const EXCUSES: [&str; 4] =
    ["I have no time", "I am too tired", "I must go to the market", "That is not my work"];

/// What those say who do.
pub(super) const OFFERS: [&str; 4] = [
    "Do not be sad",
    "I will help you",
    "Two can do more than one",
    "Come with me, and we will find a way",
];

pub(super) const MORALS: [&str; 8] = [
    "A good friend makes hard work light.",
    "It is wise to ask for help.",
    "Two can do what one cannot.",
    "Those who are kind are never alone.",
    "Small steps make a long road short.",
    "A kind word opens every door.",
    "Who gives a little gets a lot.",
    "The best way is the way we go together.",
];
