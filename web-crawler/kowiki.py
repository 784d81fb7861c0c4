"""Korean Wikipedia as a text to pretrain on, and a vocabulary made from it: python kowiki.py

    download  the newest complete dump -> kowiki/kowiki-DATE-pages-articles.xml.bz2, 1.4 GB
    extract   the text of its articles -> kowiki/kowiki.txt: title first, then a paragraph, heading
                                          or list item a line; a blank line between articles
              some articles, held out  -> kowiki/valid.txt, in the same form
    vocab     SentencePiece BPE        -> ../vocab/kowiki.model and .vocab, unless they are there,
                                          and tokenizer*.json, the same for Hugging Face
Each stage can be run alone, and killed: the same command goes on from there, to the same result.
FILE.json beside an output says how it was made.
"""

import bisect
import collections
import concurrent.futures
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import common
import dump
import formulas
import holes
import mwparserfromhell
import vocabulary
import wikinames
import wikitext
from common import UserError, disk_faults, file_sha1, give_name, manifest, read_json, write_json
from dump import Page

HERE = Path(__file__).resolve().parent
DUMPS = "https://dumps.wikimedia.org/kowiki/"
DUMP_NAME = "kowiki-{}-pages-articles.xml.bz2"
Dump = tuple[str, str | None, int | None, str | None]  # its address, date, bytes and SHA-1


# ---- Download ------------------------------------------------------------------------------------
def download_stage(args: Namespace) -> dict:
    """Leaves a dump in the output folder, verified; returns what FILE.json says of it."""
    url, date, size, sha1 = direct_dump(args.url) if is_file(args.url) else find_dump(args)
    path = args.output_dir / file_name(url)
    known = read_json(manifest(path))
    found = file_sha1(path) if path.exists() and not args.overwrite else None
    as_before = (found, url) == (known.get("sha1", found), known.get("url", url))
    if found and (found == sha1 or (not sha1 and as_before)):
        print(f"download: {path} is there already")
    elif found and not known:
        raise UserError(f"{path}: not fetched by this program, so not replaced without --overwrite")
    else:
        print(f"download: {url}")
        begin = time.monotonic()
        found = common.download(url, path, size, sha1)
        known = {"seconds": round(time.monotonic() - begin, 1)}
    if not sha1:
        print(f"download: no SHA-1 of {path.name} is published, so nothing proves that it is whole")
    about = {"file": path.name, "url": url, "date": date, "bytes": path.stat().st_size,
             "sha1": found, "sha1_was_published": bool(sha1)} | known
    write_json(manifest(path), about)  # also if a run was killed before it could
    return about


def is_file(url: str) -> bool:
    """Whether an address is that of a dump, not of a folder of dumps."""
    return url.endswith((".bz2", ".xml"))


def file_name(url: str) -> str:
    """The last part of an address, without signs that Windows has in no file name."""
    return re.sub(r'[\\:*?"<>|]', "_", url.rpartition("/")[2])


def direct_dump(url: str) -> Dump:
    """(url, date or None, None, SHA-1 or None) of a file: the SHA-1 by the list beside it."""
    folder, _, name = url.rpartition("/")
    date = next(iter(re.findall(r"-(\d{8})-", name)), None)
    return url, date, None, listed_sha1(f"{folder}/", date, name) if date else None


def listed_sha1(folder: str, date: str, name: str) -> str | None:
    """SHA-1 of a file by kowiki-DATE-sha1sums.txt, None if there is no such list."""
    try:
        sums = common.fetch(f"{folder}kowiki-{date}-sha1sums.txt").decode(errors="replace")
    except common.Missing:
        return None
    return next((line.split()[0] for line in sums.splitlines() if line.split()[1:] == [name]), None)


def find_dump(args: Namespace) -> Dump:
    """(url, date, bytes, SHA-1 or None) of the dump of --date, or else of the newest."""
    base = args.url.rstrip("/") + "/"
    reasons = []
    for date in [args.date] if args.date else dump_dates(base):
        folder, name = f"{base}{date}/", DUMP_NAME.format(date)
        try:
            size, sha1 = finished_file(f"{folder}dumpstatus.json", name)
        except common.Missing as error:  # no other fault: it could hide the newest dump
            reasons.append(str(error))
            continue
        for reason in reasons:
            print(f"download: passed over: {reason}")
        return folder + name, date, size, sha1 or listed_sha1(folder, date, name)
    raise UserError(f"{base}: no complete dump: {'; '.join(reasons)}")


def dump_dates(base: str) -> list[str]:
    """The dates that an index page links to, newest first."""
    import bs4

    links = bs4.BeautifulSoup(common.fetch(base), "html.parser").find_all("a", href=True)
    matches = [re.search(r"(?:^|/)(\d{8})/?$", str(link["href"])) for link in links]
    found = {match[1] for match in matches if match}
    if not found:
        raise UserError(
            f"{base}: no list of dumps by date; name one by --date, or a file by --url")
    return sorted(found, reverse=True)


def finished_file(url: str, name: str) -> tuple[int | None, str | None]:
    """(bytes, SHA-1) of a file by dumpstatus.json. Missing if it is not complete."""
    try:
        jobs = json.loads(common.fetch(url))["jobs"].values()
        files = {job["status"]: job["files"][name] for job in jobs if name in job.get("files", ())}
        if "done" in files:
            file = files["done"]
            return int(file["size"]) if file.get("size") else None, file.get("sha1")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{url}: not in the known form") from None
    raise common.Missing(f"{url}: {name} is not complete ({', '.join(files) or 'not made'})")


# ---- Extract: one process reads, all others convert ----------------------------------------------
def start_worker() -> None:
    """Has a worker leave Ctrl-C to the main process, and end with it even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent  # only the main process has none

    def follow() -> NoReturn:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def convert(texts: list[str]) -> list[tuple[list[str], str | None]]:
    """(lines, reason for which there are none or None) of each wikitext.

    A page of dump.MAX_TEXT characters takes seconds at most, whatever it holds: each step of
    wikitext.py is linear in its length.
    """
    results = []
    for text in texts:
        lines, reason = [], None
        try:
            lines = wikitext.to_text(text)
        except Exception as error:  # whatever a parser may do to one page of a million
            reason = f"failed: {type(error).__name__}"
        results.append((lines, reason))
    return results


def batches(pages: Iterable[Page], size: int = 64,
            characters: int = 1 << 18) -> Iterator[list[Page]]:
    """Lists of up to 64 pages and about 256 Ki characters; what is no article loses its text."""
    batch: list[Page] = []
    length = 0
    for page in pages:
        page.dropped = dump.why_not(page)
        if page.dropped:
            page.text = ""
        batch.append(page)
        length += len(page.text)
        if len(batch) == size or length > characters:
            yield batch
            batch = []
            length = 0
    if batch:
        yield batch


def from_dump(args: Namespace, done: int) -> Iterator[list[Page]]:
    """Yields batches of pages, in order and with their `lines`, after the first `done`.

    At most four batches a process are on their way, so that memory does not grow with the dump.
    """
    Waiting = tuple[list[Page], concurrent.futures.Future]
    waiting: collections.deque[Waiting] = collections.deque()
    pages = itertools.islice(dump.read_pages(args.dump), done, None)
    context = multiprocessing.get_context("spawn")  # the same on all systems
    try:
        with concurrent.futures.ProcessPoolExecutor(args.processes, context, start_worker) as pool:
            for batch in batches(pages):
                texts = [page.text for page in batch if not page.dropped]
                waiting.append((batch, pool.submit(convert, texts)))
                if len(waiting) > 4 * args.processes:
                    yield converted(*waiting.popleft())
            while waiting:
                yield converted(*waiting.popleft())
    except concurrent.futures.BrokenExecutor:
        raise UserError(
            "a worker process was killed; if memory ran out, see --processes") from None


def converted(batch: list[Page], future: concurrent.futures.Future) -> list[Page]:
    """The batch, with what the workers have made of its articles."""
    articles = [page for page in batch if not page.dropped]
    for page, (lines, reason) in zip(articles, future.result()):
        page.lines = lines
        page.dropped = reason
    return batch


def from_store(args: Namespace, done: int) -> Iterator[list[Page]]:
    """Yields batches like from_dump, of the articles in the database."""
    store = common.Store(args.from_store, "articles")
    if not store.note().get("complete", True):
        raise UserError(f"--from_store {store.shown}: half filled by a run that did not end; "
                        "finish that run first, the same command with --store")
    documents = itertools.islice(store.read(), done, None)
    while batch := list(itertools.islice(documents, 1000)):
        try:
            yield [Page(title=document["title"],
                        lines=[line for line in document["text"].split("\n") if line])
                   for document in batch]
        except (KeyError, AttributeError) as error:
            raise UserError(f"--from_store: not a document of kowiki.py ({error})") from None


class Articles:
    """All articles, as they come: the text in FILE.tmp; how far it goes in FILE.state."""

    def __init__(self, path: Path, origin: dict):
        self.part = Path(f"{path}.tmp")
        self.state_file = Path(f"{path}.state")
        self.state = read_json(self.state_file)
        self.file = open(self.part, "ab")  # noqa: SIM115  open as long as the object
        there = self.part.stat().st_size
        if self.state.get("origin") != origin or self.state["bytes"] > there:
            self.state = {"origin": origin, "pages": 0, "articles": 0, "dropped": {},
                          "characters": 0, "bytes": 0, "stored": 0, "seconds": 0,
                          "complete": False}
        else:
            print(f"extract: goes on after {self.state['pages']:,} pages")
        self.begin = time.monotonic() - self.state["seconds"]
        self.saved = self.state["pages"]
        if there > self.state["bytes"]:
            self.file.truncate(self.state["bytes"])

    def add(self, batch: list[Page]) -> None:
        """Appends the articles of a batch and counts the other pages; at times saves the state."""
        state = self.state
        state["pages"] += len(batch)
        for page in batch:
            if page.dropped:
                state["dropped"][page.dropped] = state["dropped"].get(page.dropped, 0) + 1
                continue
            text = "\n".join([" ".join(page.title.split()), *page.lines, ""])
            data = (("\n" if state["articles"] else "") + text).encode()
            self.file.write(data)
            state["articles"] += 1
            state["characters"] += len(text)
            state["bytes"] += len(data)
        if state["pages"] >= self.saved + 1000:
            self.save()

    def save(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.state["seconds"] = round(time.monotonic() - self.begin, 1)
        self.saved = self.state["pages"]
        write_json(self.state_file, self.state)

    def complete(self) -> None:
        """Has the state say that nothing is missing."""
        if not self.state["articles"]:
            pages, dropped = self.state["pages"], self.state["dropped"]
            raise UserError(f"no article in {pages:,} pages ({dropped}); see --min_chars")
        self.state["complete"] = True
        self.save()


def extract_stage(args: Namespace) -> dict:
    """kowiki.txt and valid.txt from a dump, or the database; returns what kowiki.txt.json says."""
    path = args.output_dir / "kowiki.txt"
    origin = origin_of(args)
    store = common.Store(args.store, "articles") if args.store else None
    content = hashlib.sha1(json.dumps(origin, sort_keys=True).encode()).hexdigest()
    note = store.note() if store else {}
    if store and not note and not store.is_empty():  # --from_store would take all that is in it
        raise UserError(f"--store {store.shown}: has a collection 'articles' that this program did "
                        "not fill; name another database")
    known = finished_text(path, origin, args.overwrite)
    if known and (not store or note == {"origin": content, "complete": True}):
        print(f"extract: {path} is there already")
        forget_state(path)
        return known
    if store and note.get("origin") != content:
        forget_state(path)  # what an earlier run wrote is not in this database
        store.take_note(content, False)
        if known:
            print(f"extract: {path} is there already, but its articles are not in "
                  f"--store {store.shown}, so it is made again", file=sys.stderr)
    print(f"extract: from {args.dump or 'the database'}")
    articles = Articles(path, origin)
    with disk_faults(articles.part), articles.file:
        if not articles.state["complete"]:
            source = from_store if args.from_store else from_dump
            for batch in source(args, articles.state["pages"]):
                for page in batch:
                    if not page.dropped and sum(map(len, page.lines)) < args.min_chars:
                        page.dropped = "short"
                if store:
                    articles.state["stored"] += store_articles(store, batch)
                articles.add(batch)
            articles.complete()
        if store:
            store.take_note(content, True)
    about = part_text(path, articles.state, args.valid_share)
    forget_state(path)
    return about


def forget_state(path: Path) -> None:
    """Removes what only a run that is not finished needs."""
    for ending in (".state", ".tmp"):  # the text without the state says nothing, so it goes last
        file = Path(f"{path}{ending}")
        if file.exists():  # where nothing may be written, not even what is not there is removed
            file.unlink()


def finished_text(path: Path, origin: dict, overwrite: bool) -> dict:
    """What FILE.json says of the text if the same would come out again; {} if it is to be made.

    UserError if a file that was not made here would be overwritten.
    """
    if overwrite:
        return {}
    known = read_json(manifest(path))
    begun = read_json(f"{path}.state").get("result", {})  # of a run killed as it gave names
    valid = path.with_name("valid.txt")
    for file, size in ((path, "bytes"), (valid, "valid_bytes")):
        if file.exists() and file.stat().st_size not in (known.get(size), begun.get(size)):
            raise UserError(
                f"{file}: not made by this program, so not replaced without --overwrite")
    as_described = path.exists() and valid.exists() == bool(known.get("valid_bytes"))
    made_from = known.get("origin", {})
    same = as_described and origin in (made_from, made_from | {"store": None})
    return known if same else {}


def origin_of(args: Namespace) -> dict:
    """All that decides what the text will be; a killed run goes on only where this is the same."""
    origin = {
        "min_chars": args.min_chars,
        "valid_share": args.valid_share,
        "store": args.store and args.store.rpartition("@")[2],  # without the password
        **{module.__name__ + ".py": file_sha1(str(module.__file__))
           for module in (dump, wikitext, wikinames, formulas, holes)},
        "mwparserfromhell": mwparserfromhell.__version__,
    }
    if args.from_store:  # may change at any time, so that each export is a new one
        return origin | {"from_store": args.from_store.rpartition("@")[2], "time": time.time()}
    args.dump = args.dump or newest_dump(args)
    about = read_json(manifest(args.dump))
    return origin | {"dump": args.dump.name, "dump_sha1": file_sha1(args.dump),
                     "url": about.get("url"), "date": about.get("date")}


def newest_dump(args: Namespace) -> Path:
    """The last dump, by name, in the output folder, or that of --date; a part only if alone."""
    named = f"*{args.date}-pages-articles*" if args.date else "*pages-articles*"
    paths = sorted(args.output_dir.glob(named))
    if whole := [path for path in paths if re.search(r"\.xml(\.bz2)?$", path.name)]:
        return whole[-1]
    parts = [path for path in paths if re.search(r"\.xml-p\d+p\d+(\.bz2)?$", path.name)]
    if len(parts) > 1:
        raise UserError(f"{args.output_dir}: {len(parts)} parts of dumps, as {parts[0].name}, and "
                        "no whole one; name a file by --dump")
    if parts:
        return parts[0]
    raise UserError(f"no dump {named} in {args.output_dir}; see --stage download and --dump")


def store_articles(store: common.Store, batch: list[Page]) -> int:
    """Brings articles into the database; returns how many were new or changed."""
    documents = [{"_id": int(page.id), "revision": int(page.revision), "title": page.title,
                  "date": page.date or None, "text": "\n".join(page.lines)}
                 for page in batch if not page.dropped]
    store.drop([int(page.id) for page in batch if page.dropped and page.id.isdecimal()])
    return store.update(documents)


# ---- Held-out articles ---------------------------------------------------------------------------
LEAST = 100  # articles that are held out of a small dump, but no more than one of twenty


def part_text(path: Path, state: dict, share: float) -> dict:
    """Makes kowiki.txt and valid.txt of FILE.tmp; returns what FILE.json says of both.

    Killed at any moment, it can be called again: FILE.tmp stays as it is.
    """
    whole = Path(f"{path}.tmp")
    valid = path.with_name("valid.txt")
    rest = path.with_name("kowiki.rest.tmp")
    held = Path(f"{valid}.tmp")
    begin = time.monotonic()
    with disk_faults(rest):
        below = bound([draw(article) for article in read_articles(whole)], share)
        articles, characters = write_parts(whole, rest, held, below)
        about = {name: value for name, value in state.items() if name not in ("complete", "result")}
        about |= {
            "articles": state["articles"] - articles,
            "characters": state["characters"] - characters,
            "bytes": rest.stat().st_size,
            "sha1": file_sha1(rest),
            "valid_articles": articles,
            "valid_characters": characters,
            "valid_bytes": held.stat().st_size,
            "valid_sha1": file_sha1(held) if articles else None,
            "seconds": round(state["seconds"] + time.monotonic() - begin, 1),
        }
        write_json(Path(f"{path}.state"), state | {"result": about})
        if articles:
            give_name(held, valid)
        else:
            held.unlink()
            valid.unlink(missing_ok=True)
        give_name(rest, path)
        write_json(manifest(path), about)
    return about


def read_articles(path: Path) -> Iterator[bytes]:
    """Yields the articles of a text, each without the blank line behind it."""
    lines: list[bytes] = []
    with open(path, "rb") as file:
        for line in file:
            if line != b"\n":
                lines.append(line)
                continue
            yield b"".join(lines)
            lines = []
    yield b"".join(lines)


def draw(article: bytes) -> int:
    """A number below 2^64 that is drawn for an article, always the same for the same title."""
    title = article.partition(b"\n")[0]
    return int.from_bytes(hashlib.sha1(b"held out\n" + title).digest()[:8], "big")


def bound(draws: list[int], share: float) -> int:
    """Articles whose draw is below this number are held out.

    They are a share of all, but at least one of twenty up to LEAST, and at most half of all.
    """
    if not share:
        return 0
    draws = sorted(draws)
    count = bisect.bisect_left(draws, int(share * 2**64))
    least = min(LEAST, max(1, len(draws) // 20))
    return draws[min(max(count, least), len(draws) // 2)]


def write_parts(whole: Path, rest: Path, held: Path, below: int) -> tuple[int, int]:
    """Writes each article to `rest` or `held`; returns articles and characters of `held`."""
    count = characters = 0
    with open(rest, "wb") as for_training, open(held, "wb") as for_validation:
        for article in read_articles(whole):
            file = for_training
            if draw(article) < below:
                file = for_validation
                count += 1
                characters += len(article.decode())
            file.write((b"\n" if file.tell() else b"") + article)
    return count, characters


# ---- Command line --------------------------------------------------------------------------------
STAGES = {"download": download_stage, "extract": extract_stage, "vocab": vocabulary.vocab_stage}


MOST_PROCESSES = 61 if os.name == "nt" else 10**9  # Windows waits for no more


def check_range(args: Namespace, low: float, high: float, *names: str) -> None:
    """UserError if one of these options is not between low and high."""
    for name in names:
        if not low <= getattr(args, name) <= high:
            raise UserError(f"--{name} {getattr(args, name)}: not between {low} and {high:,}")


def parse_options() -> Namespace:
    parser = common.make_parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add("--stage", choices=(*STAGES, "all"), default="all", help="What to do.")
    add("--date", help="The dump to take, YYYYMMDD; the newest complete one if not given.")
    add("--url", default=DUMPS,
        help="Folder of the dumps, here or on a mirror; or a file, .bz2 or .xml.")
    add("--dump", type=Path,
        help="A dump that is there already, bz2 or plain XML; nothing is downloaded.")
    add("--from_store", metavar="URI",
        help="Takes the articles from MongoDB; nothing is downloaded.")
    add("--output_dir", type=Path, default=HERE / "kowiki", help="For the dump and the text.")
    add("--vocab_dir", type=Path, default=HERE.parent / "vocab", help="For the vocabulary.")
    add("--min_chars", type=int, default=50, help="Articles with less text are dropped.")
    add("--valid_share", type=float, default=0.001,
        help="Share of the articles that valid.txt gets; of a small dump, it gets more. 0: none.")
    add("--processes", type=int, default=min(os.cpu_count() or 1, MOST_PROCESSES),
        help="How many convert pages.")
    add("--vocab_text", type=Path, nargs="+", metavar="FILE",
        help="Texts to make the vocabulary from; else kowiki.txt and, if it is there, "
             "nsmc/reviews.txt.")
    add("--vocab_size", type=int, default=8007, help="Pieces, with the seven special ones.")
    add("--sample_sentences", type=int, default=0,
        help="Lines to make the vocabulary from; 0: all.")
    add("--seed", type=int, default=42, help="Decides that sample.")
    args = parser.parse_args()
    check_range(args, 0, 10**9, "min_chars", "sample_sentences", "seed")
    check_range(args, 0, 0.5, "valid_share")
    check_range(args, 1, MOST_PROCESSES, "processes")
    check_range(args, 8, 10**9, "vocab_size")
    if args.date and not re.fullmatch(r"\d{8}", args.date):
        raise UserError(f"--date {args.date}: must be YYYYMMDD")
    if args.from_store and (args.store or args.dump):
        raise UserError("--from_store: goes with neither --store nor --dump")
    if args.stage in ("download", "vocab") and (args.dump or args.from_store or args.store):
        raise UserError(f"--stage {args.stage}: goes with neither --dump, --from_store nor --store")
    downloads = args.stage in ("download", "all") and not (args.dump or args.from_store)
    if args.date and (args.dump or args.from_store or (downloads and is_file(args.url))):
        raise UserError(f"--date {args.date}: goes with no --dump, no --from_store and no --url of "
                        "a file, which say already what to take")
    if args.dump and not args.dump.is_file():
        raise UserError(f"--dump {args.dump}: no such file")
    return args


def summary(stage: str, about: dict) -> None:
    """What a stage came to, a line a number."""
    print(f"\n{stage}")
    for name, value in about.items():
        if name == "dropped":
            value = ", ".join(f"{reason} {number:,}" for reason, number in value.items()) or "none"
        if name != "origin":
            print(f"  {name:20} {value:,}" if type(value) is int else f"  {name:20} {value}")


def main() -> None:
    args = parse_options()
    common.set_user_agent(args.contact)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    stages = [args.stage]
    if args.stage == "all":
        stages = list(STAGES)[bool(args.dump or args.from_store) :]
    results = {}
    with common.locked(args.output_dir):
        if "vocab" in stages:
            vocabulary.check_place(args)
        for stage in stages:
            results[stage] = STAGES[stage](args)
            if stage == "download":
                args.dump = args.output_dir / results[stage]["file"]
    for stage, about in results.items():
        summary(stage, about)
    if "vocab" in stages:
        vocabulary.show_examples(args.vocab_dir / "kowiki.model")


if __name__ == "__main__":
    common.run(main)
