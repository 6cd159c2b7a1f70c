"""Adapters from elsewhere in the bucket of their run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.stage import embed
from lorastyle.errors import StoreError
from lorastyle.ingest.finding import find_candidates
from lorastyle.ingest.labels import Label
from lorastyle.ingest.new_run import experiment_for_adapters
from lorastyle.ingest.stage import ingest
from lorastyle.places.place import place_of
from lorastyle.runs import Run
from lorastyle.search.search import search
from lorastyle.store.adapter_store import digest_of_contents
from lorastyle.store.ingested import BUSY_FILE, IngestedStore

URL = "s3://team/wild"


@pytest.fixture(scope="module")
def run(machines: Callable[[str], Path], wild: Path) -> Run:
    """What `wild_run` is, in a bucket: ingested on one machine, embedded on another."""
    machines("first")
    chosen = ["embedding.representations=[delta]", "embedding.sub_networks=[full]"]
    run = Run.create(URL, experiment_for_adapters("wild", "miniature", chosen))
    candidates = find_candidates([wild])
    ingest(run, candidates, {one.name: Label(one.name.partition("-")[0]) for one in candidates})
    machines("second")
    embed(Run.open(URL))
    return run


def test_rows_and_matrices_are_those_of_a_run_in_a_directory(run: Run, wild_run: Run) -> None:
    stores = [IngestedStore.open(each.ingested_path) for each in (run, wild_run)]
    assert digest_of_contents(stores[0]) == digest_of_contents(stores[1])
    assert stores[0].table().equals(stores[1].table())
    run.pull("embed")
    grams = [GramSet.load(each.embedding_path) for each in (run, wild_run)]
    for name in ("feed_forward", "self_attention", "cross_attention"):
        assert (grams[0].sums["delta"][name] == grams[1].sums["delta"][name]).all()


def test_a_machine_that_has_only_the_url_searches_it(
    run: Run, wild_run: Run, wild: Path, machines: Callable[[str], Path]
) -> None:
    machines("third")
    query = min(path for path in wild.rglob("*.safetensors"))
    found = [
        search(each, query, representation="delta", sub_network="full").to_dict()
        for each in (Run.open(URL), wild_run)
    ]
    assert found[0]["neighbours"] and found[0] == found[1]


def test_files_there_already_are_not_taken_again(
    run: Run, wild: Path, machines: Callable[[str], Path]
) -> None:
    machines("third")
    candidates = find_candidates([wild])
    again = ingest(Run.open(URL), candidates)
    assert not again.added and len(again.already) == len(candidates)


def test_one_process_ingests_at_a_time(run: Run) -> None:
    store = IngestedStore.open(run.ingested_path)
    place = place_of(run.ingested_path)
    with store.writing():
        said = json.loads(place.read(BUSY_FILE) or b"")
        refusal = rf"process {said['pid']} of .* is ingesting there; .* delete {URL}/ingested/"
        with pytest.raises(StoreError, match=refusal), store.writing():
            pass
    assert not place.exists(BUSY_FILE)


def test_what_a_killed_process_left_is_named_even_if_damaged(run: Run) -> None:
    place = place_of(run.ingested_path)
    place.write(BUSY_FILE, [b"{"])
    try:
        with (
            pytest.raises(StoreError, match="another process is ingesting there"),
            IngestedStore.open(run.ingested_path).writing(),
        ):
            pass
    finally:
        place.delete(BUSY_FILE)
