"""A writer that slept, at any step, and wakes after a later attempt made its row: no harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.errors import StoreError
from lorastyle.places import locking
from lorastyle.places.place import place_of
from lorastyle.store.adapter_store import AdapterStore
from tests.store import zombies

N_ROWS = 2000
"""More than there are steps."""
LINES, CALLS = (int(n) for n in os.environ.get("LORASTYLE_TEST_STRIDES", "17,5").split(","))
"""Every how many steps a writer is stopped. All of them take minutes: `1,1`."""


def endings(path: Path | str, event: str, stride: int) -> dict[str, int]:
    layout = AdapterLayout.of_modules(2, [TargetModule("a", "feed_forward", 5, 6)])
    AdapterStore.create(path, layout, base={}, alpha=1.0, n_rows=N_ROWS, init={})
    command = [sys.executable, zombies.__file__, str(path), event, str(stride)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    found: dict[str, int] = json.loads(run.stdout)
    return found


def check(found: dict[str, int], n_steps: int) -> None:
    """A sleeper is refused, or had finished before the other began; nobody failed."""
    assert sum(found.values()) >= n_steps
    assert set(found) <= {
        "done, then fenced",
        "done, then done",
        "locked, then fenced",
        "locked, then done",
    }
    assert found["done, then fenced"] > 0.8 * sum(found.values())


def test_a_writer_stopped_at_any_line_of_its_code_changes_nothing(tmp_path):
    check(endings(tmp_path / "adapters.zarr", "line", LINES), 300 // LINES)


def test_a_writer_stopped_before_any_call_of_a_bucket_changes_nothing(url):
    check(endings(url, "call", CALLS), 50 // CALLS)


def test_who_waits_for_a_lock_says_so_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "LIMIT_S", 0.05)
    place = place_of(tmp_path)
    with locking.locked(tmp_path), pytest.raises(StoreError, match="find a writer that is stopped"):
        place.replace("a", [b"1"], None)
    assert place.names() == []
    assert place.replace("a", [b"1"], None) is not None
