"""Directories and buckets: a file is replaced only if it still is the version that was seen."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import pytest

from lorastyle.errors import StoreError
from lorastyle.places.place import Place, place_of

N_WRITERS, N_EACH = 6, 10


@pytest.fixture(params=["directory", "no locks", "no locks, no links", "bucket", "no conditions"])
def place(request, tmp_path, monkeypatch) -> Place:
    kind = request.param
    if kind in ("bucket", "no conditions"):
        url = request.getfixturevalue("url")
        if kind == "no conditions":
            monkeypatch.setattr(obstore, "put", _put_without_conditions)
        return place_of(url).child("below")
    if kind != "directory":
        monkeypatch.setattr(fcntl, "flock", _refused)
    if kind == "no locks, no links":
        monkeypatch.setattr(os, "link", _refused)
    return place_of(tmp_path / "place").child("below")


def _refused(*arguments: Any) -> None:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


def _put_without_conditions(
    *arguments: Any, put: Any = obstore.put, mode: Any = "overwrite", **options: Any
) -> Any:
    if mode != "overwrite":
        raise obstore.exceptions.NotSupportedError("not implemented")
    return put(*arguments, mode=mode, **options)


def test_a_file_is_replaced_only_if_it_is_the_version_expected(place):
    assert place.tag("a/b") is None and place.read_tagged("a/b") is None
    first = place.replace("a/b", [b"on", b"e"], None)
    assert first is not None
    assert place.read_tagged("a/b") == (b"one", first)
    assert place.replace("a/b", [b"none"], None) is None
    second = place.replace("a/b", [b"two"], first)
    assert second not in (None, first)
    for stale in (first, None):
        assert place.replace("a/b", [b"three"], stale) is None
    assert place.read_tagged("a/b") == (b"two", second)
    place.delete("a/b")
    assert place.replace("a/b", [b"four"], second) is None
    assert place.read("a/b") is None
    assert place.create("a/b", b"five") and not place.create("a/b", b"six")
    assert place.read("a/b") == b"five"
    assert place.names() == [] and place.child("a").names() == ["b"]
    assert place.sweep(0.0) == 0


def _count_up(path: Path | str) -> None:
    place = place_of(path)
    for _ in range(N_EACH):
        while True:
            content, tag = place.read_tagged("count") or (b"0", None)
            if place.replace("count", [str(int(content) + 1).encode()], tag) is not None:
                break


def test_of_processes_that_count_at_once_none_is_lost(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lorastyle.places.place"])
    workers = [context.Process(target=_count_up, args=(tmp_path,)) for _ in range(N_WRITERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * N_WRITERS
    assert place_of(tmp_path).read("count") == str(N_WRITERS * N_EACH).encode()


def test_of_threads_that_count_at_once_none_is_lost(tmp_path, url):
    for path in (tmp_path, url):
        with ThreadPoolExecutor(N_WRITERS) as pool:
            list(pool.map(lambda _, path=path: _count_up(path), range(N_WRITERS)))
        assert place_of(path).read("count") == str(N_WRITERS * N_EACH).encode()


def test_the_same_bytes_again_are_another_version_in_a_directory(tmp_path):
    """However fast, and whatever inode the system gives out again."""
    place, seen = place_of(tmp_path), []
    for _ in range(50):
        place.write("a", [b"same"])
        seen.append(place.tag("a"))
    assert len(set(seen)) == len(seen)


def test_a_lock_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(StoreError, match=r"a cannot be written: Is a directory"):
        place_of(tmp_path).replace("a", [b"1"], None)
    assert place_of(tmp_path).names() == []
