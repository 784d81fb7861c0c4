"""A vocabulary for Hugging Face's `transformers`: python tokenizer_json.py ../vocab/kowiki.model

Writes tokenizer.json and tokenizer_config.json beside a SentencePiece model made by kowiki.py.
A model folder that holds copies of both opens by AutoTokenizer, which gives SentencePiece's ids.
tokenizer_config.json keeps the SHA-256 of the model, so that the files can be told from others'.

The ids may differ only in two kinds of text, and there the text of the pieces is equivalent:
    marks out of canonical order, or behind a character that NFKC takes apart, as ㎏: SentencePiece
        composes what stands in its table, `tokenizers` sorts the marks first
    compatibility characters newer than Unicode 12, which `tokenizers` does not know
"""

import collections
import hashlib
import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import common
from common import UserError, replacing

if TYPE_CHECKING:  # loaded only where it is needed
    from sentencepiece import SentencePieceProcessor

SPECIAL = [f"[{role.upper()}]" for role in ("pad", "unk", "bos", "eos", "sep", "cls", "mask")]
SYMBOLS = ["[SEP]", "[CLS]", "[MASK]"]  # the special ones that SentencePiece finds in a text
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]  # spell what is no piece
ORDINARY = len(SPECIAL) + len(BYTES)  # the first id that is neither
ANY_SYMBOL = "|".join(map(re.escape, SYMBOLS))
SPACE = "▁"  # how a piece spells it
HALF_WIDTH_JAMO = r"[\x{FFA0}-\x{FFDC}]"


# ---- Reading a model -----------------------------------------------------------------------------
def load(model: bytes, path: Path) -> "SentencePieceProcessor":
    """A processor by the bytes of the SentencePiece model `path`. UserError if it is none."""
    import sentencepiece

    try:
        if model:  # of no bytes at all it would make an empty processor
            return sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError:  # its text names a line of SentencePiece's source, which helps nobody
        pass
    raise UserError(f"{path}: not a SentencePiece model")


def read_pieces(processor: "SentencePieceProcessor", path: Path) -> list[str]:
    """The pieces by id. Raises UserError if the model is not of the kind that kowiki.py makes."""
    ids = range(len(processor))
    pieces = processor.id_to_piece(list(ids))
    byte_ids = [i for i in ids if processor.is_byte(i)]
    scores = [processor.get_score(i) for i in ids[ORDINARY:]]
    normal = processor.normalize("  Ⓐ\x01　 ㅋㅠ ～ ﾡￂ ")
    for wrong, why in (
        (pieces[: len(SPECIAL)] != SPECIAL, f"its pieces do not begin with {' '.join(SPECIAL)}"),
        (byte_ids != list(ids[len(SPECIAL) : ORDINARY]), "no 256 bytes follow on these"),
        (pieces[len(SPECIAL) : ORDINARY] != BYTES, "the bytes are out of order"),
        (scores != [-float(i) for i in range(len(scores))], "its type is not BPE"),
        (any(SPACE in piece[1:] for piece in pieces), "pieces hold spaces"),
        (normal != "▁A▁ㅋㅠ▁～▁\u1100\u1161", "its normalisation is another"),
        (encode(processor, "".join(SYMBOLS)) != [SPACE, *SYMBOLS], f"{SYMBOLS} are not found"),
    ):
        if wrong:
            raise UserError(f"{path}: not made by kowiki.py: {why}")
    return pieces


def encode(processor: "SentencePieceProcessor", text: str) -> list[str]:
    return processor.encode(text, out_type=str)


# ---- The parts of tokenizer.json -----------------------------------------------------------------
def merges(pieces: list[str]) -> list[str]:
    """The pairs that join to a piece, those of the best piece first. SentencePiece joins any two
    ordinary pieces that do, and no bytes."""
    ordinary = pieces[ORDINARY:]
    known = set(ordinary)
    halves = ((piece[:at], piece[at:]) for piece in ordinary for at in range(1, len(piece)))
    return [f"{left} {right}" for left, right in halves if left in known and right in known]


def replace(pattern: str, content: str, kind: str = "Regex") -> dict:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def any_of(characters: list[str]) -> str:
    """A pattern for one character of these."""
    return "[" + "".join(f"\\x{{{ord(c):X}}}" for c in characters) + "]"


def nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def normalizer(processor: "SentencePieceProcessor") -> dict:
    """NFKC, with what the model does otherwise: it drops some characters, takes some for spaces and
    keeps some, compatibility jamo among them. All of these are asked of the model.

    No character can stand in for one that is kept, since a text may hold any. But the characters
    that are dropped can be made one, `block`, and then a second one, `mark`, is free. A mark goes
    before each character that is kept, and a block behind it. So NFKC joins it to nothing, and what
    NFKC makes of it can be told from the same in the text, and put right.
    """
    characters = [chr(i) for i in range(1, 0xFFFF) if not 0xD800 <= i < 0xE000]
    seen = dict(zip(characters, processor.normalize([f"a{c}b" for c in characters])))
    dropped = [c for c in characters if seen[c] == "▁ab"]
    spaces = [c for c in characters if seen[c] == "▁a▁b"]
    kept = [c for c in characters if seen[c] == f"▁a{c}b" and nfkc(c) != c]
    mark, block = dropped[:2]
    steps = [
        {"type": "Prepend", "prepend": " "},  # `tokenizers` fails to insert at the very beginning
        replace(any_of(dropped), block),
        # the model composes no half-width jamo, and no last consonant with a syllable before it
        replace(rf"(?={HALF_WIDTH_JAMO})|(?<={HALF_WIDTH_JAMO})", block),
        replace("(?<=[가-힣])(?=[\u11a8-\u11c2])", block),
        replace(f"(?={any_of(kept)})", mark),
        replace(f"(?<={any_of(kept)})", block),
        {"type": "NFKC"},
        *(replace(mark + nfkc(c), c) for c in kept),
        replace(any_of([mark, block]), ""),
        replace(any_of(spaces), " "),
        replace(r"\A +| +\z|(?<= ) +", ""),
        {"type": "Prepend", "prepend": SPACE},
    ]
    return {"type": "Sequence", "normalizers": steps}


def names_in_text(processor: "SentencePieceProcessor") -> str:
    """A pattern for the first piece of a word that spells a name which no text can ask for, as
    [PAD] or <0x41>. Such a word is a piece by its look alone, so it must not stay whole."""
    rests = collections.defaultdict(list)
    for name in [*SPECIAL, *BYTES]:
        if name not in SYMBOLS:
            piece = encode(processor, SYMBOLS[0] + name)[2]  # behind ▁ and the symbol
            first = name[0] if piece in BYTES else piece
            rests[first].append(re.escape(name[len(first) :]))
    end = rf"(?: |\z|{ANY_SYMBOL})"
    return "|".join(rf"{re.escape(first)}(?=(?:{'|'.join(rest)}){end})"
                    for first, rest in rests.items())


def pre_tokenizer(processor: "SentencePieceProcessor") -> dict:
    """Cuts the text into words, each with the ▁ before it: SentencePiece joins nothing across them.

    The symbols stand alone. Behind one, a word has no ▁, so a name is cut after its first piece.
    """
    pattern = rf"{ANY_SYMBOL}|(?<={ANY_SYMBOL})(?:{names_in_text(processor)})"
    symbols = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
               "invert": False}
    words = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never", "split": True}
    return {"type": "Sequence", "pretokenizers": [symbols, words]}


def post_processor(pieces: list[str]) -> dict:
    """[CLS] text [SEP], or [CLS] text [SEP] text [SEP] with the second text of type 1."""
    def part(kind: str, name: str, number: int) -> dict:
        return {kind: {"id": name, "type_id": number}}

    separator = part("SpecialToken", "[SEP]", 0)
    single = [part("SpecialToken", "[CLS]", 0), part("Sequence", "A", 0), separator]
    pair = [*single, part("Sequence", "B", 1), part("SpecialToken", "[SEP]", 1)]
    special = {name: {"id": name, "ids": [pieces.index(name)], "tokens": [name]}
               for name in ("[CLS]", "[SEP]")}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def decoder() -> dict:
    """Joins the pieces: bytes to characters, ▁ to spaces, and none before the first word."""
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    steps = [replace(SPACE, " ", "String"), {"type": "ByteFallback"}, {"type": "Fuse"}, strip]
    return {"type": "Sequence", "decoders": steps}


def bpe(pieces: list[str]) -> dict:
    return {"type": "BPE", "dropout": None, "unk_token": "[UNK]", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
            "ignore_merges": True,  # a word that is a piece gets its id, which [MASK] needs
            "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": merges(pieces)}


# ---- The files -----------------------------------------------------------------------------------
def tokenizer_files(model: bytes, path: Path) -> dict[str, bytes]:
    """{name: content} of both files, by the bytes of the SentencePiece model `path`. UserError.

    The special tokens are no `added_tokens`: those are cut out of a text before it is normalised,
    and what stands beside them would come out otherwise than in SentencePiece.
    """
    processor = load(model, path)
    pieces = read_pieces(processor, path)
    tokenizer: dict = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": normalizer(processor), "pre_tokenizer": pre_tokenizer(processor),
        "post_processor": post_processor(pieces), "decoder": decoder(), "model": bpe(pieces)}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # [PAD] in a text is five characters, as in SentencePiece
        **{f"{name[1:-1].lower()}_token": name for name in SPECIAL},
        "sentencepiece_sha256": hashlib.sha256(model).hexdigest()}
    return {name: (json.dumps(value, indent=0, ensure_ascii=False) + "\n").encode()
            for name, value in (("tokenizer.json", tokenizer), ("tokenizer_config.json", config))}


def main() -> None:
    if sys.argv[1:] in (["--help"], ["-h"]):
        print((__doc__ or "").strip())
        return
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise UserError("needs the name of a SentencePiece model, as ../vocab/kowiki.model")
    path = Path(sys.argv[1])
    for name, content in tokenizer_files(path.read_bytes(), path).items():
        with replacing(path.with_name(name)) as temporary:
            temporary.write_bytes(content)
        print(f"{path.with_name(name)}: {len(content):,} bytes")


if __name__ == "__main__":
    common.run(main)
