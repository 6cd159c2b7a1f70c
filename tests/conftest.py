"""For all tests: one thread, set before torch or a BLAS is imported."""

import os

# The number of threads shows in the last bits of sums, and some tests compare bits of what this
# process computes with what a training actor does, which has one. Fewer is also faster on 2 cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.blip import tiny_blip  # noqa: F401
from tests.tiny import (  # noqa: F401  (fixtures)
    planned_run,
    tiny_base,
    tiny_experiment,
    trained,
    trained_run,
)

if TYPE_CHECKING:
    from lorastyle.runs import Run
    from tests.wild import Painter

# A busy machine is no bug: examples may take as long as they do. CI tries the same ones each time.
settings.register_profile("unhurried", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("unhurried")


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """`machines("a")`: from now on this process is on machine `a`, which has a disk of its own.

    All of them have the bucket `s3://team` of a server on loopback.
    """
    from lorastyle.places import bucket
    from tests.s3 import S3Server

    disks = tmp_path_factory.mktemp("machines")
    with S3Server() as server, pytest.MonkeyPatch.context() as patch:
        for key, value in server.environment.items():
            patch.setenv(key, value)
        # The client of another server is not reused.
        bucket._client.cache_clear()
        server.make_bucket("team")

        def move_to(name: str) -> Path:
            patch.setenv("LORASTYLE_CACHE", str(disks / name))
            return disks / name

        yield move_to
        bucket._client.cache_clear()


@pytest.fixture(scope="session")
def painter() -> "Painter":
    """Makes adapters with planted styles."""
    from tests.wild import Painter

    return Painter()


@pytest.fixture(scope="session")
def wild(tmp_path_factory: pytest.TempPathFactory, painter: "Painter") -> Path:
    """A folder of 18 adapters in three formats and ranks, six of each artist."""
    from tests.wild import write_wild

    folder = tmp_path_factory.mktemp("wild")
    write_wild(painter, folder)
    return folder


@pytest.fixture(scope="session")
def wild_run(tmp_path_factory: pytest.TempPathFactory, wild: Path) -> "Run":
    """The same as an embedded run; read it, do not change it."""
    from lorastyle.embedding.stage import embed
    from lorastyle.ingest.finding import find_candidates
    from lorastyle.ingest.labels import Label
    from lorastyle.ingest.new_run import experiment_for_adapters
    from lorastyle.ingest.stage import ingest
    from lorastyle.runs import Run

    directory = tmp_path_factory.mktemp("runs") / "wild"
    run = Run.create(directory, experiment_for_adapters("wild", "miniature"))
    candidates = find_candidates([wild])
    ingest(run, candidates, {one.name: Label(one.name.partition("-")[0]) for one in candidates})
    embed(run)
    return run
