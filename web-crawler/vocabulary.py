"""The vocabulary: a SentencePiece model made from texts, by `python kowiki.py --stage vocab`.

Its pieces are made by byte-pair encoding. Three things are not SentencePiece's defaults:
    bytes           what is no piece is spelled in bytes, so that no character is lost to [UNK]
    normalisation   compatibility jamo stay what they are, since NFKC makes ㅋㅠ a 큐
    required        these jamo and ♥ ♡ ★ ☆ are pieces, however rare they are in the texts
"""

import hashlib
import io
import os
import random
import tempfile
import time
import unicodedata
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import tokenizer_json
from common import UserError, file_sha1, manifest, read_json, replacing, write_json

REVIEWS = Path(__file__).resolve().parent / "nsmc/reviews.txt"  # a document a paragraph
EXAMPLES = ("겨울이 되어서 날씨가 무척 추워요.", "이번 성탄절은 화이트 크리스마스가 될까요?",
            "겨울에 감기 조심하시고 행복한 연말 되세요.")
KEPT_JAMO = [chr(code) for code in range(0x3131, 0x318F)]  # old ones too
REQUIRED = "".join(KEPT_JAMO[:51]) + "♥♡★☆"  # those of today
TRAINING: dict = dict(
    model_type="bpe", byte_fallback=True, required_chars=REQUIRED, minloglevel=2,
    max_sentence_length=1 << 30,  # bytes, the most it takes; it leaves longer lines out, untold
    pad_id=0, pad_piece="[PAD]", unk_id=1, unk_piece="[UNK]", bos_id=2, bos_piece="[BOS]",
    eos_id=3, eos_piece="[EOS]", user_defined_symbols=tokenizer_json.SYMBOLS)


# ---- The stage -----------------------------------------------------------------------------------
def vocab_stage(args: Namespace) -> dict:
    """Makes kowiki.model, .vocab and tokenizer*.json in args.vocab_dir, unless a model is there.

    From args.vocab_text, or else kowiki.txt and the reviews. Returns what FILE.json says of the
    model. Raises UserError.
    """
    model = args.vocab_dir / "kowiki.model"
    if model.exists() and not makes_again(args):
        print(f"vocab: {model} is there already, and kept: models trained with it need it "
              "(else --stage vocab --overwrite)")
        return read_json(manifest(model))
    texts = find_texts(args)
    print(f"vocab: made from {', '.join(map(str, texts))}")
    begin = time.monotonic()
    args.vocab_dir.mkdir(parents=True, exist_ok=True)
    made = train(texts, args.vocab_size, args.sample_sentences, args.seed)
    about = {"texts": [text.name for text in texts], "texts_sha1": [file_sha1(t) for t in texts],
             "vocab_size": args.vocab_size, "sample_sentences": args.sample_sentences,
             "seed": args.seed, "sha256": hashlib.sha256(made).hexdigest(),
             "seconds": round(time.monotonic() - begin, 1)}
    files = {"kowiki.vocab": list_pieces(made, model),
             **tokenizer_json.tokenizer_files(made, model),
             "kowiki.model": made}  # last: where it is, the others are
    model.unlink(missing_ok=True)  # killed from here on, a run leaves none beside another's files
    write_json(manifest(model), about)
    for name, content in files.items():
        with replacing(args.vocab_dir / name) as temporary:
            temporary.write_bytes(content)
    return about


def makes_again(args: Namespace) -> bool:
    """Whether a vocabulary that is there is to be replaced."""
    return args.overwrite and args.stage == "vocab"


def check_place(args: Namespace) -> None:
    """UserError if files of others stand where a vocabulary is to be made."""
    model = args.vocab_dir / "kowiki.model"
    # A manifest of ours without the model is that of a run that was killed.
    if model.exists() or makes_again(args) or "sha256" in read_json(manifest(model)):
        return
    for name in ("kowiki.vocab", "tokenizer.json", "tokenizer_config.json", "kowiki.model.json"):
        file = args.vocab_dir / name
        if file.exists():
            raise UserError(f"{file}: there already, without {model.name}, so not replaced without "
                            "--stage vocab --overwrite; see --vocab_dir")


def find_texts(args: Namespace) -> list[Path]:
    """The texts that are asked for, or kowiki.txt and, where they are there, the reviews."""
    texts = args.vocab_text or [args.output_dir / "kowiki.txt"]
    for text in texts:
        if not text.is_file():
            raise UserError(f"{text}: no text to train on; see --stage extract or --vocab_text")
    if not args.vocab_text and REVIEWS.is_file():
        texts.append(REVIEWS)
    return texts


def list_pieces(model: bytes, path: Path) -> bytes:
    """The pieces of a model by id, each with its score, one a line, in UTF-8."""
    processor = tokenizer_json.load(model, path)
    lines = (f"{processor.id_to_piece(i)}\t{processor.get_score(i):g}\n"
             for i in range(len(processor)))
    return "".join(lines).encode()


def show_examples(model: Path) -> None:
    """Prints the three example sentences as pieces and as ids. Raises UserError."""
    processor = tokenizer_json.load(model.read_bytes(), model)
    for sentence in EXAMPLES:
        print(f"\n{sentence}\n  {' '.join(processor.encode(sentence, out_type=str))}\n  "
              f"{' '.join(map(str, processor.encode(sentence)))}")


# ---- Training ------------------------------------------------------------------------------------
def train(texts: list[Path], size: int, count: int, seed: int) -> bytes:
    """The bytes of a SentencePiece model of `size` pieces, from about `count` lines of the texts,
    or all if count is 0. Raises UserError, for one if the texts hold too little for that size.

    A model keeps the names of its files. So it reads the texts from an iterator, and the rules from
    a file in the current folder, which is a temporary one meanwhile.
    """
    import sentencepiece

    made, here = io.BytesIO(), Path.cwd()
    lines = sentences([text.resolve() for text in texts], count, seed)
    with tempfile.TemporaryDirectory() as folder:
        write_rules(Path(folder, "rules.tsv"))
        os.chdir(folder)
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=lines, model_writer=made, vocab_size=size,
                normalization_rule_tsv="rules.tsv", **TRAINING)
        except RuntimeError as error:
            why = str(error).rpartition("] ")[2].partition(" Increase")[0]  # without its own code
            names = ", ".join(map(str, texts))
            raise UserError(f"{names}: no vocabulary of {size} pieces ({why})") from None
        finally:
            os.chdir(here)
    return made.getvalue()


def sentences(texts: list[Path], count: int, seed: int) -> Iterator[bytes]:
    """The lines that are not blank, or about `count` of them drawn at random; all if count is 0.

    Raises UserError or OSError at once, where there is no text or it cannot be read: what is raised
    within the iterator reaches the user as a fault of SentencePiece.
    """
    total = sum(1 for _ in full_lines(texts))
    if not total:
        raise UserError(f"{', '.join(map(str, texts))}: no text")
    share = count / total if count else 1
    draw = random.Random(seed).random
    return (line for line in full_lines(texts) if draw() < share)


def full_lines(texts: list[Path]) -> Iterator[bytes]:
    """Yields the lines that are not blank, without their ends. UserError where one is not UTF-8.

    SentencePiece keeps ▅ for itself, and leaves out a line that has one: a blank takes its place.
    """
    for text in texts:
        with open(text, "rb") as lines:
            for number, line in enumerate(lines, 1):
                line = line.rstrip(b"\r\n").replace("▅".encode(), b" ")
                try:
                    blank = not line.decode().strip()
                except UnicodeDecodeError:
                    raise UserError(f"{text}: line {number} is not UTF-8; if it is in cp949: "
                                    f"iconv -f cp949 -t utf-8 {text}") from None
                if not blank:
                    yield line


# ---- Normalisation -------------------------------------------------------------------------------
def write_rules(path: Path) -> None:
    """Writes the rules as SentencePiece reads them: code points, hexadecimal, a rule a line."""
    with open(path, "w", encoding="utf-8", newline="\n") as table:
        for form, normal in normalisation_rules().items():
            codes = [" ".join(f"{ord(char):X}" for char in text) for text in (form, normal)]
            table.write("\t".join(codes) + "\n")


def normalisation_rules() -> dict[str, str]:
    """{text: its normal form}: the rules of SentencePiece's nmt_nfkc, without those for the jamo
    that are kept. SentencePiece takes a table, not a change to its own, so that is asked for its
    answer to every spelling that it may know."""
    import sentencepiece

    normalizer = sentencepiece.SentencePieceNormalizer(
        rule_name="nmt_nfkc", escape_whitespaces=False, remove_extra_whitespaces=False,
        add_dummy_prefix=False)
    forms = sorted(spellings() - set(KEPT_JAMO))
    return {form: normal for form, normal in zip(forms, normalizer.normalize(forms))
            if form != normal}


def spellings() -> set[str]:
    """Every character of Unicode's first three planes, whole and taken apart, in full or by its
    last mark; and every compatibility character before a mark that joins its plain one, as ｶ ﾞ.

    Korean syllables in conjoining jamo are among them. Source: the Unicode Character Database, as
    Python has it.
    """
    characters = [chr(code) for code in range(1, 0x30000) if not 0xD800 <= code < 0xE000]
    found = {unicodedata.normalize("NFD", char) for char in characters} | {*characters}
    marks = defaultdict(set)  # those that join a character
    variants = defaultdict(set)  # compatibility characters by their plain ones
    alike = defaultdict(set)  # characters by what NFKC makes of them
    for char in characters:
        kind, *codes = unicodedata.decomposition(char).split() or [""]
        if kind.startswith("<"):
            variants[unicodedata.normalize("NFKC", char)].add(char)
        elif codes:
            base, mark = chr(int(kind, 16)), chr(int(codes[0], 16))
            found.add(base + mark)
            if len(unicodedata.normalize("NFC", base + mark)) == 1:
                marks[base].add(mark)
        if kind or unicodedata.combining(char):
            alike[unicodedata.normalize("NFKC", char)].add(char)
    for base in marks:
        found |= {variant + spelled for variant in variants[base]
                  for mark in marks[base] for spelled in alike[mark]}
    return found
