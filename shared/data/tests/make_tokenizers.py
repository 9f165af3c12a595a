#!/usr/bin/env python3
"""Writes the small tokenizers that the tests read, and what the Python package makes of some texts with them.

    python3 shared/data/tests/make_tokenizers.py     (needs tokenizers, sentencepiece, protobuf; no network)

tokenizers/NAME.json is the pipeline of a family of models as it was published: normalizer, pre-tokenizer with its very
pattern, model, post-processor, added tokens. The vocabulary is small, and trained on a few lines.
tokenizers/expected.json holds the texts, each family's tokens of each, and hostile pipelines: a pre-tokenizer or a
normalizer in place of gpt2's. The trainers break ties by chance: another run writes other vocabularies, and the tokens
that go with them.
"""

import io
import json
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).resolve().parent / "tokenizers"

LINES = """Once upon a time a little fox lived in the old wood, and the king's daughter didn't know it.
They said: "We'll go there, and you're welcome!" - but she'd gone in 1999, 2024 or 20241127.
def main(args):\n    for i in range(10):\n        print(i, args[i])  # comment\n\treturn None\n
The naïve café owner's façade cost €12,345.67; größer, Straße, ŒUVRE, señor Ñandú.
Привет, мир! Это маленькая сказка о лисе. 你好，世界。我们去学校吧。 こんにちは世界、カタカナ 안녕하세요 세계
नमस्ते दुनिया, مرحبا بالعالم, שלום עולם, ελληνικά γράμματα.
😀 👍🏽 👩‍👩‍👧 🇩🇪 emoji, x² + y³ ≠ ½, ﬁne ｆｕｌｌ width, Ⅳ ① ٣٤٥.""".split("\n") + [
    "the cat sat on the mat and the cat ran after the rat", "wood would when what which there then them"]

TEXTS = [
    "", " ", "\n", "a", "Once upon a time there was a little fox.", "  two  spaces   and three    ", "a  \nb  \nc",
    "line\r\nline\r\n\r\nend\r", "\t\ttabs\tand \t mixed \n \n\n x", "year 20241127 20241127", "1234567 1234567 12 3",
    "don't DON'T we'll I'VE you're it's 's 'S x'd", "naïve café Straße größer ŒUVRE", "nai\u0308ve cafe\u0301 e\u0301\u0301 a\u0301",
    "\u0301 starts with a mark, ends with one e\u0301", "Привет, мир! Сказка о лисе", "你好，世界。\n我们去学校吧。1234", "こんにちは世界、カタカナ\nがか\u3099",
    "안녕하세요 세계 \u1112\u1161\u11ab", "नमस्ते दुनिया 123", "مرحبا بالعالم ٣٤٥٦", "שלום עולם", "😀👍🏽👩‍👩‍👧🇩🇪 text 😀", "x² + y³ ≠ ½ ﬁne ｆｕｌｌ Ⅳ ①",
    "nbsp\u00a0and\u2003em\u3000wide\u200bzero\u2028line\u0085nel\ufeffbom", "control\u0000\u0001\u001f\u007f char", "\u180evowel separator \u1680ogham",
    "<s>special</s> inside <|endoftext|> the <|endoftext|><pad> text", "no<|endoftext|>space <mask> lstrip  <mask>  wordy wordywordy wordy",
    "https://example.org/a_b-c?d=e&f#g snake_case CamelCaseWord HTMLParser ALLCAPS iPhone", "if (x!=y) { return *p++; } // ... --- ===\n\n\n",
    "a" * 300, " " * 70, "ab" * 40 + "!" * 40, "9" * 40, "\n" * 40, "¡™£¢∞§¶•ªº–≠ œ∑´®†¥", "İstanbul ıI ſ ß ẞ ǅ ŉ", "ends with space ", "ends\n",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈𐌰 \U0001f9d1\u200d\U0001f680 \U000e0041", "--- ``code`` 'quotes' \"double\" ''s ' s", "A.B.C. e.g. 3.14 1,000 10:30 -5 +7 1e-9",
]

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDING}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDING}|"
         rf"\p{{N}}{{1,3}}|{REST}")
TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}|{REST}")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
            r"\s*[\r\n]+|\s+(?!\S)|\s+")
# As tiktoken writes it today.
CL100K_TODAY = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"
                r"\s+(?!\S)|\s")

SPLIT, SEQUENCE, BYTES = pre_tokenizers.Split, pre_tokenizers.Sequence, pre_tokenizers.ByteLevel


def by_bytes(*stages):
    """Splits, then bytes as visible characters."""
    splits = [SPLIT(Regex(s), "isolated") if isinstance(s, str) else s for s in stages]
    return SEQUENCE([*splits, BYTES(add_prefix_space=False, use_regex=False)])


def byte_level(pre, normalizer=None, size=420, added=("<|endoftext|>",), **options):
    tokenizer = Tokenizer(models.BPE(**options))
    # The merges know no words: they would cross every place where a pattern has to split, and show one that is missed.
    tokenizer.pre_tokenizer = by_bytes()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=BYTES.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(LINES + [text for text in TEXTS if "<" not in text], trainer)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.add_special_tokens([AddedToken(a, special=True, normalized=False) if isinstance(a, str) else a for a in added])
    return tokenizer


def sentencepiece_bpe(normalizer, pre, size=700, **options):
    """Merges of words after `▁`, other characters as bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    # Of other alphabets few characters: the rest become bytes.
    trainer = trainers.BpeTrainer(vocab_size=size - 259, limit_alphabet=120, show_progress=False)
    tokenizer.train_from_iterator(LINES * 2, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + ["▁▁", "▁▁▁▁", "\n\n"]
    merges = [("▁", "▁"), ("▁▁", "▁▁")] + [tuple(m) for m in model["merges"]]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, *model["vocab"]]))}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True, **options))
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre:
        tokenizer.pre_tokenizer = pre
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ["<unk>", "<s>", "</s>"]])
    tokenizer.post_processor = begins_with(tokenizer, "<s>")
    return tokenizer


def begins_with(tokenizer, token):
    ids = [(token, tokenizer.token_to_id(token))]
    return processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=ids)


def unigram(pre, rules=True):
    """T5 and its kin: SentencePiece's own normalization, here of a few rules, as a compiled table."""
    rules_file, model = HERE / "rules.tsv", io.BytesIO()
    rules_file.write_text("FB01\t66 69\nFF46\t66\nA0\t20\n3000\t20\nBD\t31 2F 32\nD\t20\nA\t20\n9\t20\n65 301\tE9\n")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 3), model_writer=model, vocab_size=260, hard_vocab_limit=False, model_type="unigram",
        normalization_rule_tsv=str(rules_file), character_coverage=1.0, minloglevel=2)
    rules_file.unlink()
    from sentencepiece import sentencepiece_model_pb2 as pb2
    proto = pb2.ModelProto.FromString(model.getvalue())
    tokenizer = Tokenizer(models.Unigram([(p.piece, p.score) for p in proto.pieces], proto.trainer_spec.unk_id, False))
    tokenizer.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken("<pad>", special=True, normalized=False),
                                  AddedToken("<mask>", special=True, normalized=False, lstrip=True)])
    ids = [("</s>", tokenizer.token_to_id("</s>"))]
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=ids)
    return tokenizer


def bert():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(LINES * 2, trainers.WordPieceTrainer(
        vocab_size=400, special_tokens=special, show_progress=False))
    ids = [(t, tokenizer.token_to_id(t)) for t in ["[CLS]", "[SEP]"]]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return tokenizer


def across_spaces():
    """No pre-tokenizer, and merges that cross words: the whole text is one piece."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(LINES * 3, trainer)
    return tokenizer


def families():
    llama3 = byte_level(by_bytes(CL100K), ignore_merges=True, added=["<|begin_of_text|>", "<|endoftext|>"])
    llama3.post_processor = processors.Sequence([BYTES_POST, begins_with(llama3, "<|begin_of_text|>")])
    spaces = [AddedToken(" " * n, normalized=True, special=False) for n in range(12, 1, -1)]
    neox = byte_level(BYTES(add_prefix_space=False), normalizers.NFC(), added=["<|endoftext|>", "<|padding|>", *spaces])
    strict = [AddedToken("wordy", single_word=True), AddedToken("<mask>", lstrip=True, special=True, normalized=False)]
    roberta = byte_level(BYTES(add_prefix_space=True), added=["<s>", "</s>", "<pad>", *strict])
    roberta.post_processor = processors.RobertaProcessing(
        ("</s>", roberta.token_to_id("</s>")), ("<s>", roberta.token_to_id("<s>")))
    gemma_space = SPLIT(" ", "merged_with_previous")
    to_metaspace = normalizers.Replace(" ", "▁")
    llama2 = normalizers.Sequence([normalizers.Prepend("▁"), to_metaspace])
    return {
        "gpt2": byte_level(BYTES(add_prefix_space=False)),
        "llama2": sentencepiece_bpe(llama2, None),
        "llama3": llama3,
        "mistral": sentencepiece_bpe(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
        "tekken": byte_level(by_bytes(TEKKEN), ignore_merges=True),
        "qwen2": byte_level(by_bytes(CL100K.replace("{1,3}", "")), normalizers.NFC()),
        "smollm": byte_level(SEQUENCE([pre_tokenizers.Digits(individual_digits=True), BYTES(add_prefix_space=False)])),
        "deepseek-v3": byte_level(by_bytes(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK), normalizers.Sequence([])),
        "gemma": sentencepiece_bpe(to_metaspace, gemma_space),
        "gpt-neox": neox,
        "phi": byte_level(BYTES(add_prefix_space=False), added=["<|endoftext|>", *spaces, AddedToken("\t\t", normalized=False)]),
        "gpt-4o": byte_level(by_bytes(O200K)),
        "gpt-4": byte_level(SEQUENCE([SPLIT(Regex(CL100K_TODAY), "removed", invert=True), BYTES(False, use_regex=False)])),
        "falcon": byte_level(SEQUENCE([pre_tokenizers.Punctuation("contiguous"), BYTES(add_prefix_space=False),
                                       pre_tokenizers.Digits(), SPLIT(Regex("[0-9][0-9][0-9]"), "isolated")])),
        "roberta": roberta,
        "t5": unigram(SEQUENCE([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])),
        "xlm-roberta": unigram(pre_tokenizers.Metaspace()),
        "unigram-whole": unigram(pre_tokenizers.Metaspace(split=False)),
        "bert": bert(),
        "across-spaces": across_spaces(),
    }


BYTES_POST = processors.ByteLevel(trim_offsets=False)

# Patterns on which engines differ: anchors at the ends of lines, possessive and nested repeats, what looks around.
PATTERNS = [
    r"\s+$", r"\p{N}{1,3}+| ?\p{L}+|\s+", CL100K_TODAY, r"\R", r"\X", r"\w+\Z", r"^\s*\w+", r"\A\w|\w+", r"\h+", r"(?<=\s)\w+",
    r"(?<!\w)\d+", r"(?>\s+)\S", r"\bt\w*", r"(\w)\1", r"[[:alpha:]]+", r"[a-z&&[^aeiou]]+", r".+", r"(?m:.+)", r"\w+(?=[^z]*z)",
    r"(?i:straße)|\s", r"[^\S\n]+|\n", r"\p{Han}+", r"\p{^L}+", r"$", r"\G\w", r"x*", r"\s{2,}(?=\S)|\s+",
]
NORMALIZERS = [
    normalizers.Replace(Regex(r"[ \t]+$"), ""), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Replace(Regex("^"), ">"),
    normalizers.NFD(), normalizers.NFKC(), normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()]),
    normalizers.Lowercase(), normalizers.Strip(), normalizers.Nmt(),
]


def ids_or_none(tokenizer, text):
    """None where the package panics."""
    try:
        return tokenizer.encode(text, add_special_tokens=False).ids
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":
            raise
        return None


def main():
    HERE.mkdir(exist_ok=True)
    of = families()
    expected = {"tokenizers": tokenizers.__version__, "texts": TEXTS, "families": {}, "hostile": []}
    for name, tokenizer in of.items():
        (HERE / f"{name}.json").write_text(tokenizer.to_str())
        expected["families"][name] = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    base = json.loads(of["gpt2"].to_str())
    variants = [("pre_tokenizer", by_bytes(pattern)) for pattern in PATTERNS]
    variants += [("pre_tokenizer", by_bytes(SPLIT(Regex(r"\s+$|\d+"), how)))
                 for how in ["merged_with_previous", "merged_with_next", "contiguous", "removed"]]
    variants += [("normalizer", normalizer) for normalizer in NORMALIZERS]
    for part, what in variants:
        described = json.loads(what.__getstate__())
        tokenizer = Tokenizer.from_str(json.dumps({**base, part: described}))
        ids = [ids_or_none(tokenizer, text) for text in TEXTS]
        expected["hostile"].append({"part": part, "what": described, "ids": ids})
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
