"""One run searched again and again: the same answers as once, from memory."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.formats.write import write_adapter
from lorastyle.search import searcher as module
from lorastyle.search.search import search
from lorastyle.search.searcher import Searcher, Wishes


def test_threads_that_share_a_searcher_find_what_single_searches_find(wild_run, wild):
    paths = [wild / f"{name}.safetensors" for name in ("anna-00", "bela-01", "chen-02")]
    shared = Searcher(wild_run)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda path: shared.find(shared.read(path)).result, paths * 2))
    assert found[:3] == found[3:] == [search(wild_run, path) for path in paths]


def test_by_sketches_the_same_duplicates_are_found(wild, wild_run, tmp_path):
    again = tmp_path / "again"
    write_adapter(read_adapter(wild / "chen-02.safetensors"), again, "peft", dtype="float16")
    wishes = Wishes(representation="delta")
    for path in (again, wild / "anna-00.safetensors"):
        exact, sketched = (
            Searcher(wild_run, exact_bytes=n).find(read_adapter(path), wishes).result
            for n in (2**31, 0)
        )
        assert (exact.method, sketched.method) == ("exact", "sketch")
        assert sketched.duplicates == exact.duplicates and len(exact.duplicates) == 1


@pytest.mark.parametrize("parts", [None, ("self_attention",)])
def test_what_a_sketch_tells_apart_is_not_read(wild_run, painter, monkeypatch, parts):
    shared = Searcher(wild_run, exact_bytes=0)
    adapter = painter.adapter(None, 1000, 4, "stranger", noise=1.0)
    shared.warm()
    monkeypatch.setattr(module, "read_member", None)
    found = shared.find(adapter if parts is None else adapter.only(parts)).result
    assert found.method == "sketch" and found.duplicates == ()
