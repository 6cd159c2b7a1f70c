"""After a scrub the same command trains exactly the rows that were bad."""

from __future__ import annotations

import numpy as np
import pytest

from lorastyle.distributed.fleet import train
from lorastyle.places.place import place_of
from lorastyle.store.adapter_store import AdapterStore, digest_of_contents
from lorastyle.store.upkeep import scrub_run, standing

pytestmark = pytest.mark.ray


def test_exactly_the_bad_rows_are_trained_again_to_the_same_bytes(trained_run, local_ray):
    run = trained_run
    store = AdapterStore.open(run.store_path)
    place = place_of(run.store_path)
    wanted, rows, output = digest_of_contents(store), store.rows(), run.upstream_hash("train")
    vectors = store.read_rows(rows)
    truncated, flipped, zeroed, recordless = rows[0], rows[5], rows[9], rows[-1]
    for row, change in {
        truncated: lambda content: content[:-20],
        flipped: lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:],
        zeroed: lambda content: bytes(len(content)),
    }.items():
        key = f"weights/c/{row}/0"
        place.write(key, [change(place.read(key) or b"")])
    place.write(f"commits/{recordless:08d}.json", [b"{"])
    bad = [truncated, flipped, zeroed, recordless]
    others = set(rows) - set(bad)
    before = {row: place.tag(f"weights/c/{row}/0") for row in others}

    (scrubbed,) = scrub_run(run)
    assert scrubbed.requeued == sorted(bad)
    assert not train(run, session=local_ray).skipped
    assert digest_of_contents(store) == wanted
    np.testing.assert_array_equal(store.read_rows(rows), vectors)
    assert {row: place.tag(f"weights/c/{row}/0") for row in others} == before
    assert run.upstream_hash("train") == output
    assert train(run, session=local_ray).skipped
    assert standing(run).stores["adapters.zarr"].missing == []
    assert scrub_run(run)[0].found.bad == []
