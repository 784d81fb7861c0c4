"""Korean Wikipedia as a text to pretrain on, and a vocabulary made from it: python kowiki.py

    download   the newest complete dump -> kowiki/kowiki-DATE-pages-articles.xml.bz2, 1.4 GB
    extract    the text of its articles -> kowiki/kowiki.txt: title first, then a paragraph, heading or list
                                           item a line; a blank line between articles
    vocab      SentencePiece BPE        -> ../vocab/kowiki.model and .vocab, unless they are there, and
                                           tokenizer*.json, the same for Hugging Face's transformers
Each stage can be run alone, and killed: the same command goes on from there, to the same result. FILE.json
beside each output says how it was made.
"""

import bz2
import collections
import concurrent.futures
import contextlib
import fcntl
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

import common
import vocabulary
import wikitext
from common import UserError, disk_faults, file_sha1, manifest, read_json, write_json
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
DUMPS = "https://dumps.wikimedia.org/kowiki/"
DUMP_NAME = "kowiki-{}-pages-articles.xml.bz2"
Dump = tuple[str, str | None, int | None, str | None]  # its address, date, bytes and SHA-1


# ---- Download ----------------------------------------------------------------------------------------------
def download_stage(args: Namespace) -> dict:
    """Leaves a dump in the output folder, verified; returns what FILE.json says of it."""
    url, date, size, sha1 = direct_dump(args.url) if re.search(r"\.(bz2|xml)$", args.url) else find_dump(args)
    path = args.output_dir / url.rpartition("/")[2]
    known = read_json(manifest(path))
    found = file_sha1(path) if path.exists() and not args.overwrite else None
    as_before = (found, url) == (known.get("sha1", found), known.get("url", url))
    if found and (found == sha1 or (not sha1 and as_before)):
        print(f"download: {path} is there already")
    elif found and not known:
        raise UserError(f"{path}: not fetched by this program, so not replaced without --overwrite")
    else:
        begin = time.monotonic()
        found = common.download(url, path, size, sha1)
        known = {"seconds": round(time.monotonic() - begin, 1)}
    about = {"file": path.name, "url": url, "date": date, "bytes": path.stat().st_size, "sha1": found,
             "sha1_was_published": bool(sha1)} | known
    write_json(manifest(path), about)  # also if a run was killed before it could
    return about


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
    """(url, date, bytes, SHA-1 or None) of the dump of --date, or else of the newest that is complete."""
    base = args.url.rstrip("/") + "/"
    reasons = []
    for date in [args.date] if args.date else dump_dates(base):
        name = DUMP_NAME.format(date)
        try:
            file = finished_file(f"{base}{date}/dumpstatus.json", name)
        except common.Missing as error:  # no other fault: it could hide the newest dump
            reasons.append(str(error))
            continue
        sha1 = file.get("sha1") or listed_sha1(f"{base}{date}/", date, name)
        return f"{base}{date}/{name}", date, file.get("size"), sha1
    raise UserError(f"{base}: no complete dump: {'; '.join(reasons)}")


def dump_dates(base: str) -> list[str]:
    """The dates that an index page links to, newest first."""
    import bs4

    links = bs4.BeautifulSoup(common.fetch(base), "html.parser").find_all("a", href=True)
    found = {match[1] for link in links if (match := re.search(r"(?:^|/)(\d{8})/?$", str(link["href"])))}
    if not found:
        raise UserError(f"{base}: no list of dumps by date; name one by --date, or a file by --url")
    return sorted(found, reverse=True)


def finished_file(url: str, name: str) -> dict:
    """What dumpstatus.json says of a file that is complete. Missing if it is not."""
    try:
        jobs = json.loads(common.fetch(url))["jobs"].values()
        files = {job["status"]: job["files"][name] for job in jobs if name in job.get("files", ())}
        if "done" in files:
            file = files["done"]
            return {"size": int(file["size"]) if file.get("size") else None, "sha1": file.get("sha1")}
        others = {job["status"] for job in jobs if job["status"] != "done"}
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{url}: not in the known form") from None
    raise common.Missing(f"{url}: {name} is not complete ({', '.join(sorted(others)) or 'not made'})")


# ---- Reading a dump ----------------------------------------------------------------------------------------
MAX_TEXT = 2 << 20  # characters; MediaWiki itself allows 2 MiB
MAX_MARKUP, MAX_DEPTH = 1 << 20, 20  # bytes of a tag or comment, elements in one another: no dump has more
NOTHING: dict = {"id": "", "revision": "", "text": ""}  # is known of a page as it begins
WANTED = {("page", "title"): "title", ("page", "ns"): "namespace", ("page", "id"): "id",  # parent, element
          ("revision", "id"): "revision", ("revision", "timestamp"): "date", ("revision", "model"): "model",
          ("revision", "text"): "text", ("revision", "sha1"): "sha1"}
REDIRECT = re.compile(r"\s*#\s*(넘겨주기|redirect)\s*:?\s*\[\[", re.IGNORECASE)


class PageParser:
    """Collects in `pages` what is wanted of each <page>, by local names: the namespace bears a version."""

    def __init__(self) -> None:
        self.pages: list[dict] = []
        self.path: list[str] = []
        self.wanted: str | None = None
        self.pieces: list[str] = []
        self.length, self.fed = 0, 0
        self.page, self.parser = NOTHING.copy(), expat.ParserCreate()
        parser = self.parser
        parser.buffer_text, parser.buffer_size = True, 1 << 16
        parser.StartElementHandler, parser.EndElementHandler = self.start, self.end
        parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = self.characters, self.refuse

    def parse(self, block: bytes) -> None:
        """Takes the next bytes of the dump, b"" at its end. UserError or ExpatError at the first damage."""
        self.parser.Parse(block, not block)
        self.fed += len(block)
        if self.fed - self.parser.CurrentByteIndex > MAX_MARKUP:  # expat keeps it until it ends
            raise UserError(f"a tag or comment of more than {MAX_MARKUP:,} bytes")

    def refuse(self, *_: object) -> NoReturn:
        raise UserError("it declares a document type, whose entities could fill the memory; no dump does")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if len(self.path) == MAX_DEPTH:
            raise UserError(f"more than {MAX_DEPTH} elements in one another")
        if not self.path and name != "mediawiki":
            raise UserError(f"the first element is <{name}>, that of a MediaWiki export is <mediawiki>")
        self.wanted = WANTED.get((self.path[-1], name)) if self.path else None
        self.path.append(name)
        self.pieces, self.length = [], 0
        if name == "page":
            self.page = NOTHING.copy()
        elif name == "redirect":
            self.page["redirect"] = True
        elif self.wanted == "text":
            self.page |= {"hidden": "deleted" in attributes, "text_sha1": attributes.get("sha1")}

    def characters(self, text: str) -> None:
        if self.wanted and self.length <= MAX_TEXT:  # one piece beyond shows that it is too long
            self.pieces.append(text)
        self.length += len(text)

    def end(self, name: str) -> None:
        if self.wanted:
            self.page[self.wanted] = "".join(self.pieces)
            self.wanted = None
        if self.path.pop() == "page":
            self.pages.append(self.page)
            self.page = NOTHING.copy()  # what stands between two pages belongs to neither

    def take(self) -> list[dict]:
        pages, self.pages = self.pages, []
        return pages


def read_pages(path: Path) -> Iterator[dict]:
    """Yields all pages of a dump, bz2 or plain, as dicts; `at` is the place in the file, in bytes.

    Raises UserError at the first damage, when all whole pages before it are out.
    """
    parser, count, title, fault = PageParser(), 0, None, None
    with open(path, "rb") as raw:
        file = bz2.BZ2File(raw) if raw.peek(3)[:3] == b"BZh" else raw
        with tqdm(desc="extract", total=path.stat().st_size, unit="B", unit_scale=True, disable=None) as bar:
            block = b"-"
            while block and not fault:
                try:
                    block = file.read1(1 << 18)  # read() would lose what comes before the damage
                    parser.parse(block)
                except (EOFError, OSError, expat.ExpatError, UserError) as error:
                    fault = error
                for page in parser.take():
                    count, title = count + 1, page.get("title")
                    yield page
                bar.update(raw.tell() - bar.n)
    if fault or not count:
        where = f"after {count:,} pages, the last of them {title!r}" if count else "before the first page"
        raise UserError(f"{path}: damaged or no dump, {where}: {fault or 'there are none'}")


def why_not(page: dict) -> str | None:
    """Why a page is no article that could be converted; None if it is one."""
    text = page["text"]
    for reason, applies in (
        ("other namespace", page.get("namespace") != "0"),
        ("redirect", "redirect" in page or REDIRECT.match(text)),
        ("not wikitext", page.get("model", "wikitext") != "wikitext"),
        ("hidden text", page.get("hidden")),
        ("empty", not text.strip()),
        ("too long", len(text) > MAX_TEXT),
        ("incomplete", not page.get("title", "").strip()),
        ("incomplete", not (page["id"].isdecimal() and page["revision"].isdecimal())),
    ):
        if applies:
            return reason
    return None


# ---- Extract: one process reads, all others convert --------------------------------------------------------
class OutOfTime(BaseException):
    """Not an Exception, so that no parser keeps it to itself."""


def out_of_time(*_: object) -> NoReturn:
    raise OutOfTime


def start_worker() -> None:
    """Has a worker leave Ctrl-C to the main process, and end with it even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, out_of_time)
    parent = multiprocessing.parent_process()
    assert parent  # only the main process has none

    def follow() -> NoReturn:
        parent.join()
        os._exit(1)
    threading.Thread(target=follow, daemon=True).start()


def base36(number: int) -> str:
    """31 digits, as dumps write a SHA-1."""
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits.rjust(31, "0")


def convert(texts: list[str], seconds: float) -> list[tuple[list[str], str | None, str]]:
    """(lines, reason for which there are none or None, SHA-1 in base 36) of each wikitext.

    A page may take so many seconds of CPU time; those of the clock would depend on what else is running.
    """
    results = []
    for text in texts:
        lines, reason = [], None
        try:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                lines = [" ".join(line.split()) for line in wikitext.to_text(text) if line.strip()]
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        except OutOfTime:
            reason = "out of time"
        except Exception as error:  # whatever a parser may do to one page of a million
            reason = f"failed: {type(error).__name__}"
        results.append((lines, reason, base36(int(hashlib.sha1(text.encode()).hexdigest(), 16))))
    return results


def batches(pages: Iterable[dict], size: int = 64, characters: int = 1 << 18) -> Iterator[list[dict]]:
    """Lists of up to 64 pages and about 256 Ki characters, the rest before a fault of the dump among them."""
    batch: list[dict] = []
    length, fault = 0, None
    try:
        for page in pages:
            page["reason"] = why_not(page)
            page["text"] = "" if page["reason"] else page["text"]
            batch, length = [*batch, page], length + len(page["text"])
            if len(batch) == size or length > characters:
                yield batch
                batch, length = [], 0
    except UserError as error:
        fault = error
    if batch:
        yield batch
    if fault:
        raise fault


def from_dump(args: Namespace, done: int) -> Iterator[list[dict]]:
    """Yields batches of pages, in order and with their `lines`, after the first `done`.

    At most four batches a process are on their way, so that memory does not grow with the dump.
    """
    def finish(batch: list[dict], future: concurrent.futures.Future) -> list[dict]:
        results = iter(future.result())
        for page in batch:
            if not page["reason"]:
                page["lines"], page["reason"], sha1 = next(results)
                page["sha1_differs"] = (page.get("text_sha1") or page.get("sha1") or sha1) != sha1
        return batch

    waiting: collections.deque[tuple[list[dict], concurrent.futures.Future]] = collections.deque()
    fault = None
    context = multiprocessing.get_context("spawn")  # the same on all systems
    try:
        with concurrent.futures.ProcessPoolExecutor(args.processes, context, start_worker) as pool:
            try:
                for batch in batches(itertools.islice(read_pages(args.dump), done, None)):
                    texts = [page["text"] for page in batch if not page["reason"]]
                    waiting.append((batch, pool.submit(convert, texts, args.page_seconds)))
                    if len(waiting) > 4 * args.processes:
                        yield finish(*waiting.popleft())
            except UserError as error:
                fault = error
            while waiting:
                yield finish(*waiting.popleft())
    except concurrent.futures.BrokenExecutor:
        raise UserError("a worker process was killed; if memory ran out, see --processes") from None
    if fault:
        raise fault


def from_store(args: Namespace, done: int) -> Iterator[list[dict]]:
    """Yields batches like from_dump, of the articles in the database."""
    documents = itertools.islice(common.Store(args.from_store, "articles").read(), done, None)
    while batch := list(itertools.islice(documents, 1000)):
        yield [{"title": document["title"], "lines": document["text"].split("\n"), "reason": None}
               for document in batch]


class TextFile:
    """kowiki.txt in the making: the text in FILE.tmp; in FILE.state how far it goes and where from."""

    def __init__(self, path: Path, origin: dict):
        self.path, self.part, self.state_file = path, Path(f"{path}.tmp"), Path(f"{path}.state")
        self.file = open(self.part, "ab")  # noqa: SIM115  open as long as the object
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{self.part}: another run is writing there") from None
        self.state, there = read_json(self.state_file), self.part.stat().st_size
        if self.state.get("origin") != origin or self.state["bytes"] > there:
            self.state = {"origin": origin, "pages": 0, "articles": 0, "dropped": {}, "sha1_differs": 0,
                          "characters": 0, "bytes": 0, "stored": 0, "seconds": 0}
        else:
            print(f"extract: goes on after {self.state['pages']:,} pages")
        self.begin, self.saved = time.monotonic() - self.state["seconds"], self.state["pages"]
        if there > self.state["bytes"]:
            self.file.truncate(self.state["bytes"])

    def __enter__(self) -> "TextFile":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # the disk is still full, which has been told
            self.file.close()

    def add(self, batch: list[dict]) -> None:
        """Appends the articles of a batch, counts the other pages, and every 1,000 pages saves the state."""
        state = self.state
        state["pages"] += len(batch)
        for page in batch:
            state["sha1_differs"] += page.get("sha1_differs", False)
            if page["reason"]:
                state["dropped"][page["reason"]] = state["dropped"].get(page["reason"], 0) + 1
                continue
            text = "\n".join([" ".join(page["title"].split()), *page["lines"], ""])
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
        self.state["seconds"], self.saved = round(time.monotonic() - self.begin, 1), self.state["pages"]
        write_json(self.state_file, self.state)

    def finish(self) -> None:
        """Gives the file its name."""
        if not self.state["articles"]:
            raise UserError(f"no article in {self.state['pages']:,} pages ({self.state['dropped']})")
        self.save()
        self.file.close()
        os.replace(self.part, self.path)


def describe(path: Path, state: dict) -> dict:
    """Writes FILE.json for a text that has just got its name, in place of FILE.state; returns its content."""
    about = state | {"sha1": file_sha1(path)}
    write_json(manifest(path), about)
    Path(f"{path}.state").unlink()
    return about


def extract_stage(args: Namespace) -> dict:
    """kowiki.txt from a dump, or from the database; returns what FILE.json says of it."""
    path = args.output_dir / "kowiki.txt"
    origin = origin_of(args)
    if known := finished_text(path, origin, args.overwrite):
        return known
    store = common.Store(args.store, "articles") if args.store else None
    with TextFile(path, origin) as text, disk_faults(text.part):
        try:
            for batch in (from_store if args.from_store else from_dump)(args, text.state["pages"]):
                for page in batch:
                    if not page["reason"] and sum(map(len, page["lines"])) < args.min_chars:
                        page["reason"] = "short"
                if store:
                    text.state["stored"] += store_articles(store, batch, args.overwrite)
                text.add(batch)
            text.finish()
        except UserError as error:
            text.save()
            raise UserError(
                f"{error}; {text.state['articles']:,} articles so far are in {text.part}") from None
        return describe(path, text.state)


def finished_text(path: Path, origin: dict, overwrite: bool) -> dict:
    """What FILE.json says of the text, if that is what would come out again; {} if it is to be made.

    UserError if there is another that was not made here, and that would be overwritten.
    """
    if not path.exists() or overwrite:
        return {}
    known, state, size = read_json(manifest(path)), read_json(f"{path}.state"), path.stat().st_size
    if size == state.get("bytes") and not Path(f"{path}.tmp").exists():  # killed before it was described
        known = describe(path, state)
    if size != known.get("bytes"):
        raise UserError(f"{path}: not made by this program, so not replaced without --overwrite")
    if origin not in (known.get("origin"), known.get("origin", {}) | {"store": None}):
        return {}
    print(f"extract: {path} is there already")
    return known


def origin_of(args: Namespace) -> dict:
    """All that decides what the text will be; a killed run goes on only where this is the same."""
    origin = {"min_chars": args.min_chars, "page_seconds": args.page_seconds,
              "store": args.store and args.store.rpartition("@")[2],  # without the password
              "wikitext.py": file_sha1(wikitext.__file__)}
    if args.from_store:  # may change at any time, so that each export is a new one
        return origin | {"from_store": args.from_store.rpartition("@")[2], "time": time.time()}
    named = f"*{args.date}-pages-articles*" if args.date else "*pages-articles*"
    dumps = sorted(path for path in args.output_dir.glob(named) if path.name.endswith((".xml.bz2", ".xml")))
    args.dump = args.dump or (dumps[-1] if dumps else None)
    if not args.dump:
        raise UserError(f"no dump {named} in {args.output_dir}; see --stage download and --dump")
    about = read_json(manifest(args.dump))
    return origin | {"dump": args.dump.name, "dump_sha1": file_sha1(args.dump), "url": about.get("url"),
                     "date": about.get("date")}


def store_articles(store: common.Store, batch: list[dict], all_of_them: bool) -> int:
    """Brings the articles of a batch into the database if their revision is not there; returns how many."""
    documents = [{"_id": int(page["id"]), "revision": int(page["revision"]), "title": page["title"],
                  "date": page.get("date"), "text": "\n".join(page["lines"])}
                 for page in batch if not page["reason"]]
    store.drop([int(page["id"]) for page in batch if page["reason"] and page["id"].isdecimal()])
    return store.update(documents, ["revision", "text"] if all_of_them else ["revision"]) if documents else 0


# ---- Command line ------------------------------------------------------------------------------------------
STAGES = {"download": download_stage, "extract": extract_stage, "vocab": vocabulary.vocab_stage}


def parse_options() -> Namespace:
    parser = common.make_parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add("--stage", choices=(*STAGES, "all"), default="all", help="What to do.")
    add("--date", help="The dump to take, YYYYMMDD; the newest complete one if not given.")
    add("--url", default=DUMPS, help="Folder of the dumps, here or on a mirror; or a file, .bz2 or .xml.")
    add("--dump", type=Path, help="A dump that is there already, bz2 or plain XML; nothing is downloaded.")
    add("--from_store", metavar="URI", help="Takes the articles from MongoDB; nothing is downloaded.")
    add("--output_dir", type=Path, default=HERE / "kowiki", help="For the dump and the text.")
    add("--vocab_dir", type=Path, default=HERE.parent / "vocab", help="For the vocabulary.")
    add("--min_chars", type=int, default=50, help="Articles with less text are dropped.")
    add("--page_seconds", type=float, default=20, help="CPU time that a page may take.")
    add("--processes", type=int, default=os.cpu_count(), help="How many convert pages.")
    add("--vocab_text", type=Path, nargs="+", metavar="FILE",
        help="Texts to make the vocabulary from; else kowiki.txt and, if it is there, nsmc/reviews.txt.")
    add("--vocab_size", type=int, default=8007, help="Pieces, with the seven special ones.")
    add("--sample_sentences", type=int, default=0, help="Lines to make the vocabulary from; 0: all.")
    add("--seed", type=int, default=42, help="Decides that sample.")
    args = parser.parse_args()
    for name, low in dict(min_chars=0, page_seconds=0.01, processes=1, vocab_size=8, sample_sentences=0,
                          seed=0).items():
        if not low <= getattr(args, name) <= 1e9:
            raise UserError(f"--{name} {getattr(args, name)}: not between {low} and 1,000,000,000")
    if args.date and not re.fullmatch(r"\d{8}", args.date):
        raise UserError(f"--date {args.date}: must be YYYYMMDD")
    if args.store and args.from_store:
        raise UserError("--store and --from_store: only one of them at a time")
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
    stages, results = [args.stage], {}
    if args.stage == "all":
        stages = list(STAGES)[bool(args.dump or args.from_store) :]
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
