"""The style spaces of a run: fitted and calibrated as soon as the Gram matrices are there.

spaces/TASK/REPRESENTATION.SUBNETWORK.npz, the sub-network as `sub_networks.file_name` has it
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from lorastyle.config import Experiment
from lorastyle.embedding.components import write_components
from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.style_space import StyleSpace, Task, space_of
from lorastyle.embedding.wanted import embedded_products
from lorastyle.errors import StageError, TooFewAdaptersError
from lorastyle.progress import progress
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.sub_networks import file_name

DIRECTORY = "spaces"


@dataclass(frozen=True)
class Written:
    """Which spaces were written, and why others could not be."""

    n_components: Mapping[str, int]
    """Components by `TASK/REPRESENTATION/SUBNETWORK`."""
    absent: Mapping[str, str]
    """Reasons by the same names."""


def space_path(directory: Path, task: Task, representation: str, sub_network: str) -> Path:
    """Where a space lies in a run's `embedding` directory."""
    return directory / DIRECTORY / task / f"{representation}.{file_name(sub_network)}.npz"


def load_space(directory: Path, task: Task, representation: str, sub_network: str) -> StyleSpace:
    """A space of a run's `embedding` directory. Raises StageError where it is not there."""
    path = space_path(directory, task, representation, sub_network)
    if not path.is_file():
        there = sorted(
            f"{found.parent.name}/{found.stem.replace('.', '/', 1)}"
            for found in (directory / DIRECTORY).glob("*/[!.]*.npz")
        )
        raise StageError(
            f"there is no style space {task}/{representation}/{sub_network} in {directory}, "
            f"only {', '.join(there) or 'none'}; run `lorastyle embed RUN`"
        )
    return StyleSpace.load(path)


def write_spaces(grams: GramSet, directory: Path, experiment: Experiment) -> Written:
    """Fit the spaces of both tasks for every wanted representation and sub-network.

    Earlier spaces go first. A space that too few adapters allow is left out, with the reason.
    """
    shutil.rmtree(directory / DIRECTORY, ignore_errors=True)
    n_components: dict[str, int] = {}
    absent: dict[str, str] = {}
    for task, representation, sub_network in _wanted(grams, experiment):
        name = f"{task}/{representation}/{sub_network}"
        try:
            space = space_of(experiment, grams, None, task, representation, sub_network)
        except TooFewAdaptersError as error:
            absent[name] = str(error)
            continue
        space.save(space_path(directory, task, representation, sub_network))
        n_components[name] = space.n_components
    return Written(n_components, absent)


def _wanted(grams: GramSet, experiment: Experiment) -> Iterator[tuple[Task, str, str]]:
    """What `embedding` asks for; matrices that only the sweep asks for have no space."""
    products = embedded_products(experiment, grams.targets)
    for representation in products.representations:
        for sub_network in products.expressions:
            if grams.has(representation, sub_network):
                for task in get_args(Task):
                    yield task, representation, sub_network


def write_all_components(run: Run, *, scheduler: Callable[..., Any] | None = None) -> list[Path]:
    """Write the components of every factor space of an embedded run; returns where.

    A pass over the fit adapters of each. Raises StageError before embedding.
    """
    run.upstream_hash("embed")
    run.pull("embed")
    store = AdapterStore.open(run.store_path)
    paths = sorted((run.embedding_path / DIRECTORY).glob("*/factors.*.npz"))
    written = []
    with progress("components", len(paths), "spaces") as shown:
        for path in paths:
            space = StyleSpace.load(path)
            place = run.embedding_path / "components" / space.task / f"{path.stem}.zarr"
            memory_gib = run.experiment.compute.memory_gib
            write_components(store, space, place, memory_gib=memory_gib, scheduler=scheduler)
            written.append(place)
            shown.advance()
    run.publish_again("embed")
    return written
