"""A vocabulary for Hugging Face's `transformers`: python huggingface.py ../vocab/kowiki.model

Writes tokenizer.json and tokenizer_config.json beside a SentencePiece model that kowiki.py has made. A model
folder that holds copies of both opens there by AutoTokenizer, which gives the ids of SentencePiece. They may
differ only where combining marks stand out of order, or behind a character that NFKC takes apart, as ㎏; and
at compatibility characters newer than Unicode 12, which `tokenizers` does not know.
"""

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
SPACE = "▁"  # how a piece spells it


def read_pieces(processor: "SentencePieceProcessor") -> list[str]:
    """The pieces of a SentencePiece model by id. UserError if it is not of the kind that kowiki.py makes."""
    ids = range(len(processor))
    pieces = processor.id_to_piece(list(ids))
    scores = [processor.get_score(i) for i in ids[len(SPECIAL) :]]
    for wrong, why in (
        (pieces[: len(SPECIAL)] != SPECIAL, f"its pieces do not begin with {' '.join(SPECIAL)}"),
        (scores != [-float(i) for i in range(len(scores))], "its type is not BPE"),
        (any(SPACE in piece[1:] for piece in pieces), "pieces hold spaces"),
        (any(map(processor.is_byte, ids)), "pieces stand for bytes"),
        (processor.normalize("  Ⓐ\x01　 ㅋㅠ ") != "▁A▁큐", "its normalisation is another"),
        (processor.encode("".join(SYMBOLS), out_type=str) != [SPACE, *SYMBOLS], f"{SYMBOLS} are not found"),
    ):
        if wrong:
            raise UserError(f"not made by kowiki.py: {why}")
    return pieces


def merges(pieces: list[str]) -> list[str]:
    """The pairs that join to a piece, those of the best piece first: SentencePiece joins any two that do."""
    ordinary = pieces[len(SPECIAL) :]
    halves = ((piece[:at], piece[at:]) for piece in ordinary for at in range(1, len(piece)))
    known = set(ordinary)
    return [f"{left} {right}" for left, right in halves if left in known and right in known]


def replace(pattern: str, content: str, kind: str = "Regex") -> dict:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def any_of(characters: list[str]) -> str:
    return "[" + "".join(f"\\x{{{ord(c):X}}}" for c in characters) + "]"


def normalizer(processor: "SentencePieceProcessor") -> dict:
    """NFKC, with what SentencePiece does otherwise: it drops some characters, takes some for spaces and keeps
    some, all of which are asked of it; and it adds no final consonant to a syllable that is one character.
    Then spaces go from both ends and out of runs, and one comes in front."""
    characters = [chr(i) for i in range(1, 0xFFFF) if not 0xD800 <= i < 0xE000]
    seen = dict(zip(characters, processor.normalize([f"a{c}b" for c in characters])))
    dropped = [c for c in characters if seen[c] == "▁ab"]
    spaces = [c for c in characters if seen[c] == "▁a▁b"]
    kept = [c for c in characters if seen[c] == f"▁a{c}b" and unicodedata.normalize("NFKC", c) != c]
    stand_ins = [chr(0xFDD0 + i) for i in range(len(kept))]  # which are no characters
    apart = replace("(?<=[가-힣])(?=[\u11a8-\u11c2ㄳㄵㄶㄺ-ㄿ\uffa3-\uffaf])", dropped[0])
    steps = [apart, *map(replace, kept, stand_ins), {"type": "NFKC"}, *map(replace, stand_ins, kept),
             replace(any_of(dropped), ""), replace(any_of(spaces), " "), replace(r"\A +| +\z|(?<= ) +", ""),
             {"type": "Prepend", "prepend": SPACE}]
    return {"type": "Sequence", "normalizers": steps}


def pre_tokenizer() -> dict:
    """Cuts the text into words, each with the ▁ in front of it, which SentencePiece joins nothing across. The
    symbols stand alone; so does a [ behind one, lest [PAD] there be a word that is a piece."""
    names = "|".join(map(re.escape, SYMBOLS))
    others = "|".join(re.escape(name[1:]) for name in SPECIAL if name not in SYMBOLS)
    symbols = {"type": "Split", "pattern": {"Regex": rf"{names}|(?<={names})\[(?={others})"},
               "behavior": "Isolated", "invert": False}
    words = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never", "split": True}
    return {"type": "Sequence", "pretokenizers": [symbols, words]}


def post_processor(pieces: list[str]) -> dict:
    """[CLS] text [SEP], or [CLS] text [SEP] text [SEP] with the second text of type 1."""
    def part(kind: str, name: str, number: int) -> dict:
        return {kind: {"id": name, "type_id": number}}
    single = [part("SpecialToken", "[CLS]", 0), part("Sequence", "A", 0), part("SpecialToken", "[SEP]", 0)]
    pair = [*single, part("Sequence", "B", 1), part("SpecialToken", "[SEP]", 1)]
    special = {name: {"id": name, "ids": [pieces.index(name)], "tokens": [name]}
               for name in ("[CLS]", "[SEP]")}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def decoder() -> dict:
    """Joins the pieces with spaces for ▁, without that in front."""
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return {"type": "Sequence", "decoders": [replace(SPACE, " ", "String"), {"type": "Fuse"}, strip]}


def tokenizer_files(processor: "SentencePieceProcessor") -> dict[str, bytes]:
    """{name: content in bytes} of both files, by a SentencePieceProcessor. Raises UserError.

    The special tokens are no `added_tokens`: those are cut out of a text before it is normalised, and what
    stands beside them would come out otherwise than in SentencePiece."""
    pieces = read_pieces(processor)
    model = {"type": "BPE", "dropout": None, "unk_token": "[UNK]", "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": False,
             "ignore_merges": True,  # a word that is a piece gets its id, which [MASK] needs
             "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": merges(pieces)}
    tokenizer: dict = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
                       "normalizer": normalizer(processor), "pre_tokenizer": pre_tokenizer(),
                       "post_processor": post_processor(pieces), "decoder": decoder(), "model": model}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512,
              "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
              "clean_up_tokenization_spaces": False,
              "split_special_tokens": True,  # [PAD] in a text is five characters, as in SentencePiece
              **{f"{name[1:-1].lower()}_token": name for name in SPECIAL}}
    return {name: (json.dumps(value, indent=0, ensure_ascii=False) + "\n").encode()
            for name, value in (("tokenizer.json", tokenizer), ("tokenizer_config.json", config))}


def main() -> None:
    import sentencepiece

    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise UserError("needs the name of a SentencePiece model, as ../vocab/kowiki.model")
    path = Path(sys.argv[1])
    try:
        files = tokenizer_files(sentencepiece.SentencePieceProcessor(model_file=str(path)))
    except (UserError, OSError, RuntimeError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    for name, content in files.items():
        with replacing(path.with_name(name)) as temporary:
            temporary.write_bytes(content)
        print(f"{path.with_name(name)}: {len(content):,} bytes")


if __name__ == "__main__":
    common.run(main)
