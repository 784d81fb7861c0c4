"""NSMC, 200,000 film reviews with their sentiment, checked and described: python naver_movie.py

Leaves nsmc/ratings_train.txt and ratings_test.txt, where `convbert.py --task finetune` looks for them, and
nsmc/nsmc.json, which says what they are. Takes files of your own by --train_file and --test_file.
"""

import shutil
import sys
from argparse import Namespace
from pathlib import Path

import common
import numpy as np
import pandas
from common import UserError, git_sha1, replacing, write_json

HERE = Path(__file__).resolve().parent
NSMC = "https://raw.githubusercontent.com/e9t/nsmc/master/"
OFFICIAL = {"train": "ac0dba272895dc1d0b3dd5f11afbeaeb7abe7876",  # SHA-1 as git blobs, 14,628,807 bytes
            "test": "b6cfcd8cd1557bcd9bf06617b0e429ed73e9a367"}  # 4,893,335 bytes


def leave_file(split: str, args: Namespace) -> Path:
    """Puts a file where it belongs: the one given, the one that is there already, or the official one."""
    path, given = args.output_dir / f"ratings_{split}.txt", getattr(args, f"{split}_file")
    if given:
        if path.exists() and git_sha1(path) != git_sha1(given) and not args.overwrite:
            raise UserError(f"{path}: there already, and not the same as {given}; see --overwrite")
        read_reviews(given)  # a file that is none is told before it takes the place of another
        with replacing(path) as temporary:
            shutil.copyfile(given, temporary)
    elif args.overwrite or not path.exists():
        common.wget_file(f"{args.url.rstrip('/')}/{path.name}", path, OFFICIAL[split])
    return path


def read_reviews(path: Path) -> pandas.DataFrame:
    """DataFrame with the columns id, document, label, read by what finetune reads by. UserError."""
    sys.path.insert(0, str(HERE.parent))
    import convbert

    try:
        documents, labels = convbert.read_reviews(path)
        ids = pandas.read_csv(path, sep="\t", dtype=str, quoting=3, keep_default_na=False,
                              skip_blank_lines=False, index_col=False, encoding="utf-8-sig")
    except convbert.UserError as error:
        hint = f"; if it is in cp949: iconv -f cp949 -t utf-8 {path}" if "utf-8" in str(error) else ""
        raise UserError(f"{error}{hint}") from None
    if "id" not in ids:
        raise UserError(f"{path}, line 1: lacks the tab-separated column id")
    return pandas.DataFrame({"id": ids["id"], "document": documents, "label": labels})


def tokens_of(documents: pandas.Series, vocab_file: Path) -> tuple[np.ndarray, float]:
    """The number of tokens of each document, and the share of all tokens that are unknown."""
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(vocab_file))
    except (OSError, RuntimeError) as error:
        raise UserError(f"{vocab_file}: not a SentencePiece model ({str(error).splitlines()[0]})") from None
    ids = processor.encode(list(documents))
    unknown = sum(tokens.count(processor.unk_id()) for tokens in ids)
    lengths = np.array([len(tokens) for tokens in ids])
    return lengths, unknown / max(1, lengths.sum())


def describe(reviews: pandas.DataFrame, args: Namespace) -> dict[str, float]:
    """What is to be known of a split: counts, quantiles, shares."""
    documents = reviews["document"]
    lengths, unknown = tokens_of(documents, args.vocab_file)
    about = {"reviews": len(reviews), "positive": int(reviews["label"].sum()),
             "empty documents": int((documents.str.strip() == "").sum()),
             "repeated ids": int(reviews["id"].duplicated().sum()),
             "repeated documents": int(documents.duplicated().sum()),
             "unknown tokens, share": round(float(unknown), 6)}
    for name, values in (("characters", documents.str.len()), ("tokens", lengths)):
        for quantile in (0.5, 0.95, 1):
            about[f"{name}, {quantile:.0%} quantile"] = int(np.quantile(values, quantile, method="lower"))
    return about


def store_reviews(reviews: pandas.DataFrame, store: common.Store) -> int:
    """Brings the reviews into the database; returns how many were new or changed."""
    documents, size = reviews.rename(columns={"id": "_id"}).to_dict("records"), 1000
    return sum(store.update(documents[start : start + size], ["document", "label"])
               for start in range(0, len(documents), size))


def main() -> None:
    parser = common.make_parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add("--train_file", type=Path, help="A file of your own to train on, in NSMC's format.")
    add("--test_file", type=Path, help="A file of your own to test on.")
    add("--url", default=NSMC, help="Folder of the official files.")
    add("--output_dir", type=Path, default=HERE / "nsmc", help="For the files.")
    add("--vocab_file", type=Path, default=HERE.parent / "vocab/kowiki.model", help="To count tokens by.")
    args = parser.parse_args()
    common.set_user_agent(args.contact)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    tables: dict[str, pandas.DataFrame] = {}
    about: dict = {}
    for split, official in OFFICIAL.items():
        path = leave_file(split, args)
        tables[split], found = read_reviews(path), git_sha1(path)
        about[split] = {"git_sha1": found, "official": found == official} | describe(tables[split], args)
        print(f"{path}: " + ("the official file" if found == official else
                             f"NOT the official file, but git blob {found}; to be said beside any result"))
    print(pandas.DataFrame(about).iloc[2:].to_string())
    for column in ("id", "document"):
        shared = int(tables["test"][column].isin(set(tables["train"][column]) - {""}).sum())
        about[f"test reviews with the {column} of one of train"] = shared
        print(f"test reviews with the {column} of one of train: {shared:,}")
    write_json(args.output_dir / "nsmc.json", about)
    if args.store:
        for split, table in tables.items():
            written = store_reviews(table, common.Store(args.store, f"nsmc_{split}"))
            print(f"nsmc_{split}: {written:,} reviews were new or changed")


if __name__ == "__main__":
    common.run(main)
