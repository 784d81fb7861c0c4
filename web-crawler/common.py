"""What kowiki.py and naver_movie.py share: errors, whole files, locks, downloads, MongoDB."""

import argparse
import contextlib
import hashlib
import http.client
import io
import json
import os
import platform
import shutil
import socket
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPResponse
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.error import HTTPError, URLError

import filelock
from tqdm import tqdm

TRIES = 6  # in a row without a new byte
BACKOFF = 1.0  # seconds before the second try; doubles from try to try
PATIENCE = 600  # seconds of waiting that a server may ask for
TIMEOUT = 60  # seconds without a byte
HINTS = {  # what to do about an HTTP status
    403: "the server turns this client away; name a mail address or page of yours by --contact",
    404: "no such file there; see --date and --url",
}
T = TypeVar("T")  # what an attempt returns


class UserError(Exception):
    """Something the user can put right; printed as one line, exit status 2."""


class Missing(UserError):
    """What is not on the server, or not yet."""


# What may pass by itself. Not OSError as such: a full disk must not be tried six times.
PASSING = (URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


# ---- Command line --------------------------------------------------------------------------------
def make_parser(description: str) -> argparse.ArgumentParser:
    """ArgumentParser whose complaints are UserErrors, with the options of both commands."""
    def fail(message: str) -> NoReturn:
        raise UserError(message)

    parser = argparse.ArgumentParser(
        description=description, allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.error = fail  # type: ignore[method-assign]  # argparse means it to be replaced
    parser.add_argument("--contact", default="see the repository of ko-ConvBERT",
                        help="Mail address or page of yours, sent to the server in the User-Agent.")
    parser.add_argument("--overwrite", action="store_true",
                        help="Makes again, and replaces, what there is; a vocabulary only by "
                             "--stage vocab.")
    parser.add_argument("--store", metavar="URI",
                        help="Keeps the data in MongoDB as well, mongodb://HOST/NAME.")
    return parser


def run(main: Callable[[], None]) -> None:
    """main() as a program: status 2 and one line on stderr for all that the user can put right.

    Characters that stdout cannot take, as emoji in cp949, are written as their numbers.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook puts something else in its place
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(1)  # whoever read stdout has gone, as `head` does
    except (UserError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


# ---- Files: one gets its name only when it is whole ----------------------------------------------
@contextlib.contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Makes UserErrors of the faults of the disk, and names the file: a full disk names none."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{path}: {why}; the same command goes on from here") from None


def sync(path: Path) -> None:
    """Brings a file to the disk: some tell only here that there is no room for it."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def give_name(temporary: Path, path: Path) -> None:
    """Puts a file that is whole in the place of path. It outlives a loss of power from here on."""
    sync(temporary)
    os.replace(temporary, path)
    with contextlib.suppress(OSError):  # Windows opens no folders, and some file systems sync none
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields the name FILE.tmp; what is written there takes the place of path in the end.

    Nothing stays of what fails.
    """
    temporary = Path(f"{path}.tmp")
    with disk_faults(temporary):
        try:
            yield temporary
            give_name(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder. UserError if one is at work there.

    The system gives back the lock of a run that is killed. Where it knows no locks, as on some file
    systems of clusters, a line says so and the run goes on.
    """
    path = folder / ".lock"
    # The system's own lock: filelock's other kind is a file, which outlives a run that is killed.
    kind = filelock.WindowsFileLock if os.name == "nt" else filelock.UnixFileLock
    lock = kind(path, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"{folder}: another run is at work there; wait for its end, "
                        "or see --output_dir") from None
    except (OSError, NotImplementedError) as error:
        print(f"warning: {path}: cannot be locked ({error}); let no other run write in that folder",
              file=sys.stderr)
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # Windows: release() removes it
                path.unlink()  # while it is locked, so that it is not the lock of the next run
            lock.release()


def write_json(path: Path, value: dict) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        # The name of a file may hold bytes that are no UTF-8; JSON can write them as \udcff.
        temporary.write_bytes(text.encode(errors="backslashreplace"))


def read_json(path: Path | str) -> dict:
    """The object in a JSON file of ours; {} if there is none, or one that cannot be read."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else {}
    except (FileNotFoundError, ValueError):
        return {}


def manifest(path: Path) -> Path:
    """The JSON beside an output, which says how it was made."""
    return Path(f"{path}.json")


def file_sha1(path: Path | str) -> str:
    """SHA-1 of a file, as hexadecimal digits."""
    digest = hashlib.sha1()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# ---- Downloads -----------------------------------------------------------------------------------
def set_user_agent(contact: str) -> None:
    """Has all requests say who asks: Wikimedia answers 403 to the names of libraries.

    UserError if the contact is not plain ASCII.
    """
    opener = urllib.request.build_opener()
    agent = f"ko-ConvBERT/1.0 ({contact}) python-urllib/{platform.python_version()}"
    if not agent.isprintable() or not agent.isascii():
        raise UserError(f"--contact {contact!r}: plain ASCII, please")
    opener.addheaders = [("User-Agent", agent)]
    urllib.request.install_opener(opener)  # for wget, too
    socket.setdefaulttimeout(TIMEOUT)


def asked_to_wait(headers: Message) -> float:
    """Seconds by the header Retry-After, which holds a number or a date; 0 if there is none."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return int(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0


def retry(attempt: Callable[[], T], url: str, part: Path | None = None) -> T:
    """attempt(), again after faults that may pass, with longer and longer pauses.

    UserError if they stay, and `part` does not grow; Missing if the file is not on the server.
    """
    failures, furthest = 0, 0
    while True:
        wait = 0.0
        try:
            return attempt()
        except HTTPError as error:
            why, wait = f"HTTP status {error.code} ({error.reason})", asked_to_wait(error.headers)
            if error.code not in (408, 429) and error.code < 500:
                kind = Missing if error.code == 404 else UserError
                raise kind(f"{url}: {why}: {HINTS.get(error.code, 'see --url')}") from None
        except (ValueError, http.client.InvalidURL) as error:  # no scheme, no host, a blank...
            raise UserError(f"{url}: not an address ({error})") from None
        except PASSING as error:
            why = str(error) or type(error).__name__
            if "unknown url type" in why:
                raise UserError(f"{url}: not an address ({why})") from None
            reached = part.stat().st_size if part and part.exists() else 0
            if reached > furthest:
                failures, furthest = 0, reached
        failures += 1
        if failures == TRIES or wait > PATIENCE:
            asks = f", and asks to wait {wait:.0f} s" if wait else ""
            raise UserError(f"{url}: {why}{asks}; try the same command later") from None
        wait = max(wait, BACKOFF * 2 ** (failures - 1))
        print(f"{url}: {why}; again in {wait:.0f} s", file=sys.stderr)
        time.sleep(wait)


def fetch(url: str) -> bytes:
    """The bytes of a small page."""
    def attempt() -> bytes:
        with urllib.request.urlopen(url) as response:
            return response.read()
    return retry(attempt, url)


def fetch_rest(url: str, part: Path, size: int | None, sha1: str | None) -> None:
    """One attempt to bring `part` from what it holds to the end of the file.

    Goes on only where a SHA-1 will tell a mixture of two files; otherwise it starts anew.
    """
    done = part.stat().st_size if sha1 and part.exists() else 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers))
    except HTTPError as error:
        if error.code != 416 or not done:
            raise
        part.unlink()
        raise ConnectionError("the server has less than was fetched; from the start") from None
    with response:
        if response.status != 206:  # all of it: the server knows no ranges
            done = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            raise UserError(f"{url}: the server sent another range than asked for; see --url")
        copy_body(response, part, done, url, size)


def copy_body(response: HTTPResponse, part: Path, done: int, url: str, size: int | None) -> None:
    """Appends the body to the first `done` bytes of part.

    ConnectionError if it ends before its length or `size`; UserError if they differ.
    """
    length = response.headers.get("Content-Length")
    total = done + int(length) if length and length.isdecimal() else size
    if size is not None and total != size:
        raise UserError(f"{url}: has {total:,} bytes, but the list of the dump says {size:,}")
    name = part.name.removesuffix(".part")
    bar = tqdm(desc=name, total=total, initial=done, unit="B", unit_scale=True, disable=None)
    with open(part, "ab" if done else "wb") as file, bar:
        while True:
            try:
                block = response.read(1 << 17)
            except OSError as error:  # not all of the network's are ConnectionErrors
                raise ConnectionError(str(error)) from None
            if not block:
                break
            file.write(block)
            done += len(block)
            bar.update(len(block))
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


def download(url: str, path: Path, size: int | None = None, sha1: str | None = None) -> str:
    """Fetches a large file and returns its SHA-1; with a known SHA-1, it goes on from FILE.part.

    size (bytes) and sha1 are checked, where known, before the file gets its name. Raises UserError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(f"{path}.part")
    there = part.stat().st_size if part.exists() else 0
    missing = (size or 0) - there
    free = shutil.disk_usage(path.parent).free
    if missing > free:
        raise UserError(
            f"{path}: needs {missing:,} more bytes, the disk has {free:,}; see --output_dir")
    with disk_faults(part):  # those of the network are UserErrors by then
        # A run may have been killed when all was there, before it got its name.
        if not (sha1 and there and file_sha1(part) == sha1):
            retry(lambda: fetch_rest(url, part, size, sha1), url, part)
        found = file_sha1(part)
        length = part.stat().st_size
        if found != (sha1 or found) or length != (size or length):
            part.unlink()
            raise UserError(
                f"{url}: came with SHA-1 {found} and {length:,} bytes, not {sha1} and {size}; "
                "thrown away: run again, or see --url for another mirror")
        give_name(part, path)
    return found


def wget_file(url: str, path: Path) -> None:
    """Fetches a file by the package wget, in one piece: for servers that know no ranges.
    UserError."""
    import wget

    def attempt() -> None:
        path.unlink(missing_ok=True)  # else wget takes another name
        wget.download(url, str(path), bar=None)

    with disk_faults(path):
        try:
            retry(attempt, url)
        finally:
            for rest in path.parent.glob(f"{path.name}?*"):  # wget's, also of a killed run
                rest.unlink()


# ---- MongoDB -------------------------------------------------------------------------------------
class Store:
    """A MongoDB collection of documents with an _id. All its faults are UserErrors."""

    def __init__(self, uri: str, name: str):
        import pymongo

        self.pymongo, self.shown = pymongo, uri.rpartition("@")[2]  # without the password
        with self.faults():
            client: pymongo.MongoClient = pymongo.MongoClient(uri, socketTimeoutMS=1000 * TIMEOUT)
            database = client.get_default_database("ko_convbert")
            self.collection, self.notes = database[name], database[f"{name}_note"]
            client.admin.command("ping")

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        try:
            yield
        # ValueError: a port of 99999; OverflowError: an _id of 2^63
        except (self.pymongo.errors.PyMongoError, ValueError, OverflowError) as error:
            why = str(error).splitlines()[0].partition(", Timeout:")[0][:200]
            raise UserError(f"--store {self.shown}: {why}") from None

    def update(self, documents: list[dict]) -> int:
        """Writes documents; returns how many the server calls new or changed."""
        count = 0
        for start in range(0, len(documents), 1000):  # a command must end within TIMEOUT
            with self.faults():
                result = self.collection.bulk_write([
                    self.pymongo.ReplaceOne({"_id": document["_id"]}, document, upsert=True)
                    for document in documents[start : start + 1000]])
            count += result.upserted_count + result.modified_count
        return count

    def drop(self, ids: list) -> None:
        """Removes the documents with these _id."""
        for start in range(0, len(ids), 1000):
            with self.faults():
                self.collection.delete_many({"_id": {"$in": ids[start : start + 1000]}})

    def is_empty(self) -> bool:
        with self.faults():
            return not self.collection.find_one()

    def note(self) -> dict:
        """What the last run noted: `origin` of what it wrote, and if that is `complete`; or {}."""
        if self.is_empty():  # since then
            return {}
        with self.faults():
            return self.notes.find_one({"_id": "last run"}, {"_id": 0}) or {}

    def take_note(self, origin: str, complete: bool) -> None:
        """Notes what is being written, or that all of it is there."""
        with self.faults():
            note = {"_id": "last run", "origin": origin, "complete": complete}
            self.notes.replace_one({"_id": "last run"}, note, upsert=True)

    def read(self) -> Iterator[dict]:
        """Yields all documents in the order of their _id."""
        with self.faults():
            yield from self.collection.find().sort("_id", 1)
