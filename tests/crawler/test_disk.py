"""Disks that are full, and folders in which nothing may be written."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import naver_movie
import pytest

from crawler.helpers import (
    PROSE,
    SAMPLE,
    check_error,
    check_success,
    extract,
    kowiki,
    page,
    revisions,
    run,
    write_dump,
)
from crawler.server import NAME
from crawler.test_download import fetch_dump


def vocab(folder):
    return run(kowiki, "--stage", "vocab", "--output_dir", folder, "--vocab_dir", folder,
               "--vocab_size", 2000)


def reviews(folder):
    return run(naver_movie, "--output_dir", folder, "--train_file", SAMPLE / "ratings_train.txt",
               "--test_file", SAMPLE / "ratings_test.txt")


FULL = {  # the file for which there is no room: what is run
    "kowiki.txt.tmp": lambda folder, dump, _: extract(dump, folder),
    "valid.txt.tmp": lambda folder, dump, _: extract(dump, folder, "--valid_share", 0.1),
    "kowiki.rest.tmp": lambda folder, dump, _: extract(dump, folder),
    "kowiki.txt.json.tmp": lambda folder, dump, _: extract(dump, folder),
    f"{NAME}.part": lambda folder, _, server: fetch_dump(server, folder),
    "kowiki.vocab.tmp": lambda folder, *_: vocab(folder),
    "ratings_train.txt.tmp": lambda folder, *_: reviews(folder),
}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("name", FULL)
def test_full_disk_is_told(name, server, waits, tmp_path):
    dump = write_dump(tmp_path / "a.xml", revisions(30))
    if name == "kowiki.vocab.tmp":
        shutil.copy(SAMPLE / "kowiki.txt", tmp_path)
    (tmp_path / name).symlink_to("/dev/full")
    check_error(FULL[name](tmp_path, dump, server), "No space left", tmp_path)
    assert not waits
    if "kowiki" in name and name.endswith(".tmp") and "vocab" not in name:
        (tmp_path / name).unlink(missing_ok=True)
        check_success(extract(dump, tmp_path, "--valid_share", 0.1))
        assert (tmp_path / "valid.txt").exists()


@contextlib.contextmanager
def without_rights():
    """What is done here, root does as a user who owns nothing; for all others, nothing changes."""
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def folder():
    """A folder of which anybody may read what is in it: tmp_path is closed to other users."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such permissions on this system")
def test_folder_without_permission_is_told(server, folder, tmp_path):
    check_success(fetch_dump(server, tmp_path))  # who has no rights may be unable to load modules
    closed = folder / "closed"
    closed.mkdir()
    dump = write_dump(folder / "a.xml", [page(1, PROSE.format(1))])
    shutil.copy(SAMPLE / "kowiki.txt", closed)
    closed.chmod(0o555)
    with without_rights():
        check_error(fetch_dump(server, closed), "closed", "Permission denied")
        check_error(extract(dump, closed, "--overwrite"), "closed", "Permission denied")
        check_error(vocab(closed), "closed", "Permission denied")
        check_error(reviews(closed), "closed", "Permission denied")
    dump.chmod(0)
    with without_rights():
        check_error(extract(dump, closed, "--overwrite"), "a.xml", "Permission denied")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such permissions on this system")
def test_finished_text_in_a_folder_that_is_only_to_be_read_will_do(folder):
    dump = write_dump(folder / "a.xml", revisions(30))
    check_success(extract(dump, folder / "out", "--valid_share", 0.1))
    (folder / "out").chmod(0o555)
    with without_rights():
        result = check_success(extract(dump, folder / "out", "--valid_share", 0.1))
    assert "there already" in result.out
