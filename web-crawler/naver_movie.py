"""NSMC, 200,000 film reviews with their sentiment, and its crawl: python naver_movie.py

Leaves in nsmc/:
- ratings_train.txt and ratings_test.txt, where `convbert.py --task finetune` looks for them;
- reviews.txt, the reviews of the crawl without ratings and without the test set, to pretrain on;
- nsmc.json, which says what they are, and the archive that all of it came from.
Takes an archive at hand by --archive, files of your own by --train_file and --test_file.

Source: github.com/e9t/nsmc (CC0), at the commit below.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import struct
import sys
import zipfile
import zlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import common
import numpy as np
import pandas
import tokenizer_json
from common import UserError, read_json, replacing, write_json
from sentencepiece import SentencePieceProcessor

HERE = Path(__file__).resolve().parent
COMMIT = "cc0670e872d4ac27bfe36c87456783004b39ef6c"
NSMC = f"https://codeload.github.com/e9t/nsmc/zip/{COMMIT}"
# What git calls the content. GitHub does not promise that an archive's own bytes stay the same.
OFFICIAL = {"ratings.txt": "9cd603e0d9a3685955fd8994052be3ae143dafdb",
            "ratings_train.txt": "ac0dba272895dc1d0b3dd5f11afbeaeb7abe7876",
            "ratings_test.txt": "b6cfcd8cd1557bcd9bf06617b0e429ed73e9a367",
            "raw": "64d6947d33552b330d9d2ca1300eece444782e56"}  # a tree of 14,730 blobs
SPLITS = ("train", "test")
TRIES = 3  # archives that end too early, although the server says that they are whole

# ---- The archive: read in place, never extracted -------------------------------------------------
MEMBER = re.compile(r"[^/\\]+/(raw/[0-9A-Za-z_-]+\.json|ratings(?:_train|_test)?\.txt)")
# Bounds in bytes, well above the official archive. What exceeds one was made to fill the memory.
LIST_MOST = 4 << 20  # the list of members, official 2 MB
RAW_MOST = 1 << 20  # a file of raw/, official 39,179
TEXT_MOST = 24 << 20  # a .txt, official 19.5 MB
TOTAL_MOST = 256 << 20  # all that is read, official 207 MB
# And bounds in number: short rows take far more memory than bytes.
FILES_MOST = 20_000  # official 14,733
REVIEWS_MOST = 1_000_000  # lines of a table, reviews of the crawl; official 200,001 and 712,404
# What zipfile and the disk raise for an archive that is broken. UserError is none of them.
FAULTS = (OSError, EOFError, RuntimeError, ValueError, struct.error, zlib.error, zipfile.BadZipFile)


class Archive:
    """The files of NSMC that count, in a zip archive or in a folder of the same layout.

    sizes holds their bytes by their name in the repository, such as raw/10001.json. Other members
    are never touched. All that is amiss is a UserError: broken, foreign, made to fill the memory.
    """

    def __init__(self, path: Path):
        self.path = path
        self.zip: zipfile.ZipFile | None = None
        self.members: dict[str, zipfile.ZipInfo] = {}
        with self.faults():
            if path.is_dir():
                self.sizes = folder_sizes(path)
            else:
                check_list(path)
                self.zip = zipfile.ZipFile(path)
        try:
            if self.zip:
                self.members = self.choose(self.zip.infolist())
                self.sizes = {name: info.file_size for name, info in self.members.items()}
            self.check_sizes()
        except UserError:
            self.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.zip:
            self.zip.close()

    @contextlib.contextmanager
    def faults(self, name: str = "") -> Iterator[None]:
        """Makes UserErrors of the faults of an archive, or of one member."""
        try:
            yield
        except FAULTS as error:
            why = getattr(error, "strerror", None) or str(error) or "ends too early"
            raise UserError(f"{self.path}: {name and name + ': '}{why}") from None

    def choose(self, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        """The members that count. Their full name tells, as it stands in the archive."""
        chosen: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            found = MEMBER.fullmatch(info.orig_filename)
            if not found:
                continue
            name = found[1]
            if name in chosen:
                raise UserError(f"{self.path}: {name}: is in it twice")
            # zipfile unpacks other methods without a bound on the memory
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(f"{self.path}: {name}: packed by method {info.compress_type}, "
                                "which no archive of GitHub uses")
            chosen[name] = info
        return chosen

    def check_sizes(self) -> None:
        """UserError for a file that is missing, and for sizes beyond the bounds."""
        for name in ("ratings_train.txt", "ratings_test.txt"):
            if name not in self.sizes:
                raise UserError(f"{self.path}: not an archive of NSMC: lacks {name}")
        if not self.raw():
            raise UserError(f"{self.path}: not an archive of NSMC: lacks raw/*.json")
        for name, size in self.sizes.items():
            most = RAW_MOST if name.startswith("raw/") else TEXT_MOST
            if size > most:
                raise UserError(f"{self.path}: {name}: {size:,} bytes, too large (over {most:,})")
        total = sum(self.sizes.values())
        if len(self.sizes) > FILES_MOST or total > TOTAL_MOST:
            raise UserError(f"{self.path}: {len(self.sizes):,} files of {total:,} bytes, too large "
                            f"(over {FILES_MOST:,} files, or {TOTAL_MOST:,} bytes)")

    def raw(self) -> list[str]:
        """Names of the files of the crawl, in byte order."""
        return sorted(name for name in self.sizes if name.startswith("raw/"))

    def open(self, name: str) -> BinaryIO:
        if self.zip:
            return self.zip.open(self.members[name])  # type: ignore[return-value]
        return open(self.path / name, "rb")

    def read(self, name: str) -> bytes:
        """The content of a file. UserError unless it has just as many bytes as the list says."""
        size = self.sizes[name]
        with self.faults(name):
            with self.open(name) as file:
                data = file.read(size + 1)
            if len(data) != size:
                raise ValueError(f"has not the {size:,} bytes that the list says")
        return data

    def table(self, name: str) -> bytes:
        """The content of a .txt. UserError if it has too many lines."""
        data = self.read(name)
        if data.count(b"\n") > REVIEWS_MOST:
            raise UserError(f"{self.path}: {name}: too many lines (over {REVIEWS_MOST:,})")
        return data

    def git_names(self) -> dict[str, str]:
        """What git calls the content, hexadecimal: of each .txt the blob, of raw/ the tree.

        Source: the formats of git's objects, gitformat-pack and "Git Internals" in Pro Git.
        """
        names = {name: git_sha1(self.read(name)) for name in OFFICIAL if name in self.sizes}
        tree = b"".join(
            b"100644 %s\0" % name.removeprefix("raw/").encode()
            + bytes.fromhex(git_sha1(self.read(name))) for name in self.raw())
        names["raw"] = hashlib.sha1(b"tree %d\0" % len(tree) + tree).hexdigest()
        return names

    def reviews(self) -> Iterator[dict]:
        """Yields the reviews of the crawl, files in byte order of their names. UserError."""
        count = 0
        for name in self.raw():
            try:
                found = json.loads(self.read(name).decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{self.path}: {name}: not JSON ({error})") from None
            if not isinstance(found, list) or not all(is_review(item) for item in found):
                raise UserError(f"{self.path}: {name}: not a list of reviews")
            count += len(found)
            if count > REVIEWS_MOST:
                raise UserError(f"{self.path}: {name}: too many reviews (over {REVIEWS_MOST:,})")
            yield from found


def check_list(path: Path) -> None:
    """UserError where the list of members would fill the memory: zipfile reads it at once.

    Its length stands in the record that ends a zip archive; a Zip64 record would overrule that.
    Source: APPNOTE.TXT of PKWARE, 4.3.15 and 4.3.16.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 0xFFFF - 22 - 20))  # a comment, this record, one of Zip64
        end = file.read()
    at = end.rfind(b"PK\5\6")
    if at < 0 or len(end) < at + 22:
        raise UserError(f"{path}: not a zip archive, or its end is missing")
    length = int.from_bytes(end[at + 12 : at + 16], "little")
    if length > LIST_MOST or end[max(0, at - 20) :].startswith(b"PK\6\7"):
        raise UserError(f"{path}: its list of members is too long for an archive of NSMC")


def folder_sizes(folder: Path) -> dict[str, int]:
    """Bytes of the files that count in a folder, by name."""
    paths = [folder / name for name in OFFICIAL if name != "raw"] + [*folder.glob("raw/*.json")]
    named = {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}
    return {name: path.stat().st_size for name, path in named.items()
            if MEMBER.fullmatch(f"folder/{name}")}


def git_sha1(data: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_review(item: object) -> bool:
    """Whether this is an object of the crawl."""
    return isinstance(item, dict) and isinstance(item.get("review"), str)


def differences(names: dict[str, str]) -> str:
    """What is not as in the official archive; empty if all is."""
    return ", ".join(f"{name} is {names.get(name, 'missing')}"
                     for name, official in OFFICIAL.items() if names.get(name) != official)


def fetch_archive(args: Namespace) -> Path:
    """The official archive in the output folder, fetched unless it is there.

    It gets its name when its content is proved. UserError if what comes is something else.
    """
    path = args.output_dir / f"nsmc-{COMMIT[:7]}.zip"
    if path.exists() and not args.overwrite:
        return path
    fetched = Path(f"{path}.new")
    why = ""
    for _ in range(TRIES):
        common.wget_file(args.url, fetched)
        try:
            with Archive(fetched) as archive:
                found = differences(archive.git_names())
        except UserError as error:  # the server tells no length, so a lost connection shows here
            fetched.unlink()
            why = str(error).replace(str(fetched), args.url)
            print(f"{why}; thrown away", file=sys.stderr)
            continue
        if found:
            fetched.unlink()
            raise UserError(f"{args.url}: NOT the official archive: {found}; thrown away")
        os.replace(fetched, path)
        return path
    raise UserError(f"{why}; thrown away, {TRIES} times: run again, or see --archive")


def prove(archive: Archive, args: Namespace) -> bool:
    """Says, and returns, whether an archive is the official one. UserError if it has to be."""
    found = differences(archive.git_names())
    if found and not args.archive:
        raise UserError(f"{archive.path}: NOT the official archive: {found}; "
                        "see --overwrite, or --archive")
    print(f"{archive.path}: " + ("the official archive" if not found else
                                 f"NOT the official archive: {found}"))
    return not found


# ---- What is left in the output folder -----------------------------------------------------------
def split_path(split: str, args: Namespace) -> Path:
    return args.output_dir / f"ratings_{split}.txt"


def new_content(split: str, archive: Archive | None, args: Namespace) -> tuple[bytes, str] | None:
    """(content, where it is from) of a file: the one given, or the archive's. None: it stays."""
    path, given = split_path(split, args), getattr(args, f"{split}_file")
    if given:
        return given.read_bytes(), str(given)
    if archive and (args.archive or args.overwrite or not path.exists()):
        return archive.table(path.name), f"{archive.path}: {path.name}"
    return None


def leave_file(path: Path, data: bytes, source: str, args: Namespace,
               names: contextlib.ExitStack) -> Path:
    """Checks a file and returns where it lies: it gets its name, `path`, when `names` ends.

    So no file gets its name where another is faulty.
    """
    temporary = names.enter_context(replacing(path))
    temporary.write_bytes(data)
    common.sync(temporary)
    try:
        read_silently(temporary)
    except UserError as error:
        raise UserError(str(error).replace(str(temporary), source)) from None
    if path.exists() and path.read_bytes() != data and not args.overwrite:
        raise UserError(f"{path}: there already, and not the same as {source}; see --overwrite")
    return temporary


def write_reviews(archive: Archive, path: Path, test: pandas.DataFrame) -> tuple[int, int]:
    """Writes the crawl's reviews, a blank line after each; returns how many, and of how many.

    Two that differ in blanks only are one review. Those of the test set are left out, by their id
    and by their text. Every run of white space becomes one blank, so each is a line.
    """
    written = crawled = 0
    ids = set(test["id"])
    seen = {"".join(text.split()) for text in [*test["document"], ""]}
    with open(path, "w", encoding="utf-8", errors="replace", newline="\n") as file:
        for review in archive.reviews():  # errors: JSON can spell half a surrogate pair
            crawled += 1
            words = review["review"].split()
            key = "".join(words)
            if key in seen or str(review.get("review_id")) in ids:
                continue
            seen.add(key)
            file.write(" ".join(words) + "\n\n")
            written += 1
    return written, crawled


def leave_reviews(archive: Archive, official: bool, args: Namespace, known: dict,
                  test_file: Path, names: contextlib.ExitStack) -> dict:
    """Makes reviews.txt, which gets its name when `names` ends; returns what is to be known of it.

    `known` is that of the last run. UserError if the place is taken by a file that this program did
    not make.
    """
    path = args.output_dir / "reviews.txt"
    temporary = names.enter_context(replacing(path))
    written, crawled = write_reviews(archive, temporary, read_silently(test_file))
    common.sync(temporary)
    name = git_sha1(temporary.read_bytes())
    ours = not path.exists() or git_sha1(path.read_bytes()) in (name, known.get("git_sha1"))
    if not ours and not args.overwrite:
        raise UserError(f"{path}: there already, and not what {archive.path} gives; "
                        "see --overwrite")
    print(f"{path}: {written:,} different reviews of the {crawled:,} in the crawl, "
          "none of the test set's")
    return {"git_sha1": name, "official archive": official, "reviews": written,
            "reviews in the crawl": crawled,
            "git_sha1 of ratings_test.txt": name_of_test(test_file)}


def name_of_test(path: Path) -> str:
    """What git calls the test set; empty if there is none yet."""
    return git_sha1(path.read_bytes()) if path.exists() else ""


def reviews_stand(args: Namespace, known: dict) -> bool:
    """Whether reviews.txt is there, as made by the last run, for the test set that is there."""
    path = args.output_dir / "reviews.txt"
    return (path.exists() and git_sha1(path.read_bytes()) == known.get("git_sha1")
            and known.get("git_sha1 of ratings_test.txt") == name_of_test(split_path("test", args)))


def find_archive(args: Namespace, known: dict) -> Path | None:
    """Where the archive is; None where nothing of it is asked for. Fetches it if need be."""
    if args.archive:
        return args.archive
    given = [getattr(args, f"{split}_file") for split in SPLITS]
    if all(given):
        return None
    there = all(file or split_path(split, args).exists() for split, file in zip(SPLITS, given))
    if there and reviews_stand(args, known) and not args.overwrite:
        return None
    return fetch_archive(args)


# ---- What is to be known of it -------------------------------------------------------------------
def read_reviews(path: Path) -> pandas.DataFrame:
    """DataFrame with the columns id, document, label, read by what finetune reads by. UserError."""
    sys.path.insert(0, str(HERE.parent))
    import convbert

    try:
        with open(path, encoding=convbert.text_encoding(path)) as file:
            header = file.readline().rstrip("\n").split("\t")
            ids = [line.partition("\t")[0] for line in file if line.strip()]
        if header != ["id", "document", "label"]:
            raise UserError(f"{path}, line 1: must be id, document, label, with tabs between them")
        documents, labels = convbert.read_reviews(path)
    except convbert.UserError as error:
        raise UserError(str(error)) from None
    return pandas.DataFrame({"id": ids, "document": documents, "label": labels})


def read_silently(path: Path) -> pandas.DataFrame:
    """read_reviews() of a file that may have no name yet: main() warns of it once it has one."""
    with contextlib.redirect_stderr(io.StringIO()):
        return read_reviews(path)


def tokens_of(documents: pandas.Series,
              processor: SentencePieceProcessor) -> tuple[np.ndarray, float, float]:
    """The number of tokens of each document, and two shares of all tokens: unknown ones, bytes.

    A vocabulary with byte fallback spells in bytes what is no piece of it, one without calls it
    unknown.
    """
    pieces = list(range(len(processor)))
    is_byte = np.array(processor.is_byte(pieces))
    counts = np.zeros(len(pieces), dtype=np.int64)  # of each piece
    lengths: list[int] = []
    for start in range(0, len(documents), 10_000):  # all at once takes 50 MB more
        ids = processor.encode(list(documents[start : start + 10_000]), return_type="numpy")
        counts += np.bincount(np.concatenate(ids), minlength=len(pieces))
        lengths += [len(tokens) for tokens in ids]
    total = max(1, counts.sum())
    return np.array(lengths), counts[processor.unk_id()] / total, counts[is_byte].sum() / total


def describe(reviews: pandas.DataFrame, processor: SentencePieceProcessor) -> dict[str, float]:
    """What is to be known of a split: counts, quantiles, shares."""
    documents = reviews["document"]
    lengths, unknown, in_bytes = tokens_of(documents, processor)
    about = {"reviews": len(reviews), "positive": int(reviews["label"].sum()),
             "empty documents": int((documents.str.strip() == "").sum()),
             "repeated ids": int(reviews["id"].duplicated().sum()),
             "repeated documents": int(documents.duplicated().sum()),
             "unknown tokens, share": round(float(unknown), 6),
             "byte tokens, share": round(float(in_bytes), 6)}
    for name, values in (("characters", documents.str.len()), ("tokens", lengths)):
        for quantile in (0.5, 0.95, 1):
            found = np.quantile(values, quantile, method="lower")
            about[f"{name}, {quantile:.0%} quantile"] = int(found)
    return about


def describe_splits(tables: dict[str, pandas.DataFrame], processor: SentencePieceProcessor,
                    args: Namespace) -> dict:
    """Prints, and returns for nsmc.json, what is to be known of both files."""
    about: dict = {}
    for split, table in tables.items():
        path = split_path(split, args)
        found = git_sha1(path.read_bytes())
        official = found == OFFICIAL[path.name]
        about[split] = {"git_sha1": found, "official": official} | describe(table, processor)
        print(f"{path}: " + ("the official file" if official else
                             f"NOT the official file, but git blob {found}; "
                             "to be said beside any result"))
    print(pandas.DataFrame(about).iloc[2:].to_string())
    for column in ("id", "document"):
        shared = int(tables["test"][column].isin(set(tables["train"][column]) - {""}).sum())
        about[f"test reviews with the {column} of one of train"] = shared
        print(f"test reviews with the {column} of one of train: {shared:,}")
    return about


def store_reviews(tables: dict[str, pandas.DataFrame], args: Namespace) -> None:
    """Has the database hold the reviews of both files, and no others.

    UserError if it holds others, unless --overwrite lets them go.
    """
    todo = []
    for split, table in tables.items():
        store = common.Store(args.store, f"nsmc_{split}")
        rows = {row["_id"]: row for row in table.rename(columns={"id": "_id"}).to_dict("records")}
        others = [row["_id"] for row in store.read()
                  if not isinstance(row["_id"], str) or rows.get(row["_id"]) != row]
        if others and not args.overwrite:
            raise UserError(f"--store {store.shown}: nsmc_{split} has {len(others):,} reviews that "
                            f"are not in {split_path(split, args)}; see --overwrite")
        todo.append((split, store, rows, others))
    for split, store, rows, others in todo:
        store.drop(others)
        written = store.update([*rows.values()])
        print(f"nsmc_{split}: {written:,} reviews were new or changed, {len(others):,} others "
              "were removed")
        if repeated := len(tables[split]) - len(rows):
            print(f"nsmc_{split}: {repeated:,} rows have the id of a later one, and are not stored")


# ---- Command line --------------------------------------------------------------------------------
def parse_options() -> Namespace:
    parser = common.make_parser((__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--archive", type=Path, help="Archive of NSMC's repository that is at hand, or a folder.")
    add("--train_file", type=Path, help="A file of your own to train on, in NSMC's format.")
    add("--test_file", type=Path, help="A file of your own to test on.")
    add("--url", default=NSMC, help="Address of the official archive.")
    add("--output_dir", type=Path, default=HERE / "nsmc", help="For the files.")
    add("--vocab_file", type=Path, default=HERE.parent / "vocab/kowiki.model",
        help="To count tokens by.")
    return parser.parse_args()


def make_files(args: Namespace, known: dict) -> dict:
    """Leaves all files; returns what is to be known of reviews.txt."""
    found = find_archive(args, known)
    with Archive(found) if found else contextlib.nullcontext() as archive:
        official = prove(archive, args) if archive else False
        found_new = {split: new_content(split, archive, args) for split in SPLITS}
        with contextlib.ExitStack() as names:
            files = {split: split_path(split, args) for split in SPLITS}
            for split, new in found_new.items():
                if new:
                    files[split] = leave_file(files[split], *new, args, names)
            if archive:
                known = leave_reviews(archive, official, args, known, files["test"], names)
            for split, new in found_new.items():
                path = split_path(split, args)
                if new and path.exists() and path.read_bytes() != new[0]:
                    path.unlink()  # killed from here on, a run leaves no old file beside a new one
    path = args.output_dir / "reviews.txt"
    if not archive and path.exists() and not reviews_stand(args, known):
        print(f"warning: {path}: NOT known to be made for this test set, whose reviews may be in "
              "it; remove it, or make it by --archive", file=sys.stderr)
    return known


def main() -> None:
    args = parse_options()
    # before anything is written: it may be no vocabulary
    processor = tokenizer_json.load(args.vocab_file.read_bytes(), args.vocab_file)
    common.set_user_agent(args.contact)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    record = args.output_dir / "nsmc.json"
    described = read_json(record)
    if described and not {"train", "reviews.txt"} & {*described} and not args.overwrite:
        raise UserError(f"{record}: not made by this program, so not replaced without --overwrite")
    known = described.get("reviews.txt")
    with common.locked(args.output_dir):
        made = make_files(args, known if isinstance(known, dict) else {})
        tables = {split: read_reviews(split_path(split, args)) for split in SPLITS}
        about = describe_splits(tables, processor, args)
        if made:
            about["reviews.txt"] = made
        write_json(record, about)
    if args.store:
        store_reviews(tables, args)


if __name__ == "__main__":
    common.run(main)
