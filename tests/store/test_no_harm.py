"""What goes wrong is said in a sentence, and what is stored stays as it was."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.errors import StoreError
from lorastyle.places.place import place_of
from lorastyle.store.adapter_store import AdapterStore


def temporary_files(path: Path) -> list[str]:
    return [file.name for file in path.rglob(".*.tmp")]


OTHERS = {
    "layout": {
        "layout": AdapterLayout.of_modules(2, [TargetModule("a", "feed_forward", 3, 3)]),
        "initial": None,
    },
    "base model": {"base": {"name": "other"}},
    "initialisation": {"initial": np.ones(111, np.float32)},
}


@pytest.mark.parametrize("what", OTHERS)
def test_making_another_store_in_its_place_changes_nothing(make_store, spec, what):
    start = np.zeros(111, np.float32)
    store = make_store(initial=start)
    store.commit(2, start + 1, spec, {})
    before = {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file()}
    with pytest.raises(StoreError, match=f"another {what} .* choose another run"):
        make_store(**({"initial": start, "n_rows": 50} | OTHERS[what]))
    after = {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file()}
    assert after == before


@pytest.mark.parametrize("version", [0, 99, "1"])
def test_a_store_of_another_version_is_left_alone(store, make_store, version):
    metadata = store.path / "zarr.json"
    text = metadata.read_text().replace(
        '"schema_version": 1', f'"schema_version": {json.dumps(version)}'
    )
    metadata.write_text(text)
    for attempt in (lambda: AdapterStore.open(store.path), make_store):
        with pytest.raises(StoreError, match=f"schema version {version!r}, this release reads 1"):
            attempt()
    assert metadata.read_text() == text


def test_another_initial_vector_than_the_recorded_one_is_noticed(make_store):
    store = make_store(initial=np.arange(111, dtype=np.float32))
    chunk = store.path / "initial" / "c" / "0"
    chunk.write_bytes(bytes(4) + chunk.read_bytes()[:-4])
    with pytest.raises(StoreError, match="is not the initial vector that the store was made with"):
        _ = AdapterStore.open(store.path).initial
    shutil.rmtree(store.path / "initial")
    with pytest.raises(StoreError, match="is not the initial vector"):
        _ = AdapterStore.open(store.path).initial


def test_a_partial_row_is_named_the_others_are_read_and_it_can_be_mended(store, vector, spec):
    for row in (1, 2, 3):
        store.commit(row, row * vector, spec, {})
    shard = store.path / "weights" / "c" / "2" / "0"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(StoreError, match=rf"row 2 at {shard} are damaged; `lorastyle store scrub"):
        store.read_rows([1, 2, 3])
    assert [store.verify(row) for row in (1, 2, 3)] == [True, False, True]
    np.testing.assert_array_equal(store.read_rows([1, 3]), [vector, 3 * vector])
    store.commit(2, 2 * vector, spec, {})
    np.testing.assert_array_equal(store.read_rows([2])[0], 2 * vector)


def test_weights_without_metadata_are_said(store, vector, spec):
    (store.path / "weights" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"weights/zarr\.json is missing or damaged"):
        store.commit(2, vector, spec, {})


def _commit_with_little_room(path: Path, spec: Any, row: int, room: int) -> list[str]:
    """In a process that may write no file over `room` bytes: what it is told."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    store = AdapterStore.open(path)
    kept = store.record(1)
    assert kept is not None
    # What is there already needs no room.
    assert store.commit(1, store.read_rows([1])[0], kept.spec, {}) == kept
    try:
        store.commit(row, np.arange(store.size, dtype=np.float32), spec, {})
    except StoreError as error:
        return [str(error)]
    return []


@pytest.mark.parametrize(
    ("room", "file"),
    [
        (100, "commits/0000000{row}.json"),
        (400, "weights/c/{row}/0"),
        (2000, "commits/0000000{row}.json"),
    ],
)
@pytest.mark.parametrize("row", [2, 3])
def test_no_room_for_a_mark_a_row_or_its_record_leaves_it_as_it_was_or_absent(
    store, vector, room, file, row
):
    """Row 2 is new, row 3 replaces one of another spec."""
    store.commit(1, vector, {"one": 1}, {})
    store.commit(3, vector, {"old": 1}, {})
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lorastyle.store.adapter_store"])
    spec = {"words": "x" * 5000}
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        told = pool.submit(_commit_with_little_room, store.path, spec, row, room).result(60)
    assert len(told) == 1
    where = f"row {row} was not stored: {store.path}/{file.format(row=row)} cannot be written"
    assert told[0].startswith(f"{where}: File too large, ")
    assert told[0].endswith(" GiB free there; make room and run the same command again")
    assert temporary_files(store.path) == []
    assert store.rows() == ([1, 3] if row == 2 or room == 100 else [1])
    assert all(store.verify(row) for row in store.rows())
    store.commit(row, 2 * vector, spec, {})
    assert store.verify(row)


FULL_DISK = """
import subprocess, sys
from pathlib import Path
import numpy as np
from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.errors import StoreError
from lorastyle.store.adapter_store import AdapterStore

path = Path(sys.argv[1]) / "adapters.zarr"
layout = AdapterLayout.of_modules(2, [TargetModule("a", "feed_forward", 3, 3000)])
store = AdapterStore.create(path, layout, base={}, alpha=1.0, n_rows=50, init={})
vectors = np.random.default_rng(0).standard_normal((50, store.size)).astype(np.float32)
for row in range(50):
    try:
        store.commit(row, vectors[row], {"row": row}, {})
    except StoreError as error:
        print(error)
        break
assert store.rows() == list(range(row)) and row > 3
assert all(store.verify(there) for there in store.rows())
assert not list(path.rglob(".*.tmp"))
subprocess.run(["mount", "-o", "remount,size=8m", sys.argv[1]], check=True)
for row in store.missing({row: "new" for row in range(row, 50)}):
    store.commit(row, vectors[row], {"row": row}, {})
np.testing.assert_array_equal(store.read_rows(range(50)), vectors)
"""


def test_a_full_disk_leaves_whole_rows_and_goes_on_when_there_is_room(tmp_path):
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    script = 'mount -t tmpfs -o size=400k lorastyle "$0" && exec "$@"'
    if shutil.which("unshare") is None or _fails([*mount, script, tmp_path, "true"]):
        pytest.skip("this system does not let a process mount a small disk of its own")
    run = subprocess.run(
        [*mount, script, tmp_path, sys.executable, "-c", FULL_DISK, tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert "No space left on device, 0.00 GiB free there; make room" in run.stdout


def _fails(command: list[Any]) -> bool:
    return subprocess.run(command, capture_output=True).returncode != 0


def test_what_killed_writers_left_is_swept_and_what_writers_at_work_need_is_not(
    store, vector, spec
):
    store.commit(2, vector, spec, {})
    left = [store.path / "weights/c/2/.0.ab.tmp", store.path / "commits/.00000002.json.cd.tmp"]
    at_work = store.path / "commits/.00000003.json.ef.tmp"
    for file in (*left, at_work):
        file.write_text("{")
    for file in left:
        os.utime(file, (time.time() - 90_000, time.time() - 90_000))
    assert list(store.committed()) == [2]
    assert store.sweep() == 2
    assert temporary_files(store.path) == [at_work.name]
    assert store.sweep(older_than_s=0) == 1
    assert store.verify(2)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_directory_that_may_not_be_written_is_said(store, vector, spec):
    store.path.joinpath("weights").chmod(0o500)
    with pytest.raises(StoreError, match=r"Permission denied, .*check its permissions"):
        store.commit(2, vector, spec, {})
    store.path.joinpath("weights").chmod(0o700)


def test_urls_are_told_from_paths(tmp_path):
    assert place_of(f"file://{tmp_path}/a%20b").where("x") == f"{tmp_path}/a b/x"
    assert place_of("s3://bucket/prefix/").where("x") == "s3://bucket/prefix/x"
    with pytest.raises(StoreError, match="ftp://host/a is neither a path nor one of s3://"):
        place_of("ftp://host/a")
    with pytest.raises(StoreError, match="s3:/bucket was a URL; pass s3:"):
        place_of(Path("s3://bucket"))


def test_a_store_in_memory_lasts_as_long_as_the_process(layout, vector, spec):
    values: dict[str, Any] = {"base": {}, "alpha": 1.0, "n_rows": 3, "init": {}}
    AdapterStore.create("memory:///a", layout, **values).commit(2, vector, spec, {})
    assert AdapterStore.open("memory:///a").verify(2)
    assert AdapterStore.create("memory:///b", layout, **values).committed() == {}
