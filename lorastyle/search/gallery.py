"""The gallery: where every adapter of a run lies in a style space, trained or ingested.

search/REPRESENTATION.SUBNETWORK.npz          made when first searched, kept while nothing changes
search/REPRESENTATION.SUBNETWORK.FORM.npz     the same, calibrated as the sweep chose
search/spaces/REPRESENTATION.SUBNETWORK/      a space that the embedding left out
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.adapters.module_sets import modules_of
from lorastyle.config import CalibrationForm
from lorastyle.embedding.coverage import Energies
from lorastyle.embedding.energies import energies_of
from lorastyle.embedding.placing import Others, place_updates
from lorastyle.embedding.space_file import (
    Arrays,
    read_kept,
    table_from_facts,
    table_to_facts,
    write_archive,
)
from lorastyle.embedding.stage import open_source
from lorastyle.embedding.style_space import StyleSpace
from lorastyle.records import INGESTED, Role, digest
from lorastyle.runs import Run
from lorastyle.search.spaces import embedding_identity, open_space
from lorastyle.store.adapter_store import TABLE_COLUMNS, digest_of_contents
from lorastyle.store.cohorts import Source, bytes_of, cohorts_of
from lorastyle.store.ingested import IngestedStore
from lorastyle.sub_networks import file_name

Matrix = npt.NDArray[np.float64]

EXACT_BYTES = 2**31
"""Fit adapters of more weights than this are compared by their sketches."""
GALLERY_ROLES = (Role.TRAIN.value, INGESTED)
"""Adapters that a search ranks; the others are there to measure the run."""


@dataclass(frozen=True)
class Gallery:
    """Every adapter of a run in one style space.

    `table` has columns row, adapter_id, artist, genre, role, index; `scores` (n, k) are in
    its order, calibrated as for retrieval.
    """

    space: StyleSpace
    table: pd.DataFrame
    scores: Matrix
    fit_energies: Energies | None
    """Of the fit adapters' modules; None where nothing is compared with their updates."""

    @property
    def is_ranked(self) -> npt.NDArray[np.bool_]:
        """(n,): those that a search ranks."""
        return self.table["role"].isin(GALLERY_ROLES).to_numpy()


def open_gallery(
    run: Run,
    representation: str,
    sub_network: str,
    calibration: CalibrationForm | None = None,
) -> Gallery:
    """The gallery in this space, from what an earlier search kept where that is still true.

    Otherwise ingested adapters that the space was not fitted on are placed, by a pass over
    those it was. `calibration` is the form of it, by default the space's own. Raises
    StageError where there is neither such a space nor the Gram matrix to make it from.
    """
    space = open_space(run, representation, sub_network)
    name = f"{representation}.{file_name(sub_network)}"
    if calibration is not None:
        space = space.calibrated_as(calibration)
        name += f".{calibration}"
    ingested = IngestedStore.find(run.ingested_path) if representation != "factors" else None
    identity = _identity(run, ingested)
    path = run.search_path / f"{name}.npz"
    kept = read_kept(path, identity, partial(_parse, space))
    if kept is not None:
        return kept
    gallery = _make(run, space, ingested)
    _save(path, gallery, identity)
    return gallery


def _identity(run: Run, ingested: IngestedStore | None) -> str:
    contents = digest_of_contents(ingested) if ingested is not None else None
    return digest([embedding_identity(run), contents])


def _make(run: Run, space: StyleSpace, ingested: IngestedStore | None) -> Gallery:
    source = open_source(run)
    table = space.table[list(TABLE_COLUMNS)].reset_index(drop=True)
    scores = space.scores(table["row"].to_numpy(np.int64))
    theirs = None if ingested is None else _unplaced(space, source, ingested)
    if space.representation == "factors" or (theirs is None and by_sketch(source, space)):
        # Nobody needs the norms of the fit adapters, which reading all of them would cost.
        return Gallery(space, table, scores, None)
    energies = energies_of(source, space.fit_rows)
    if ingested is not None and theirs is not None:
        memory_gib = run.experiment.compute.memory_gib
        others = Others(cohorts_of(ingested, theirs["row"]), energies_of(ingested, theirs["row"]))
        placed = place_updates(source, space, energies, others, memory_gib=memory_gib)
        table = pd.concat([table, theirs], ignore_index=True)
        scores = np.concatenate([scores, placed.scores])
    return Gallery(space, table, scores, energies)


def by_sketch(source: Source, space: StyleSpace) -> bool:
    """Whether a query is compared with the fit adapters by sketches: they are too large to read.

    Only plain cosines have sketches.
    """
    return space.representation == "delta" and is_large(source, space.fit_rows)


def is_large(source: Source, rows: npt.ArrayLike) -> bool:
    """Whether these adapters have too many weights to be read for a query."""
    return bytes_of(source, rows) > EXACT_BYTES


def _unplaced(space: StyleSpace, source: Source, ingested: IngestedStore) -> pd.DataFrame | None:
    """Ingested adapters that the space was not fitted on, or None where there are none.

    What changes nothing in the space's sub-network has no place in it.
    """
    modules = modules_of(space.sub_network, source.layout.targets)
    table = ingested.table()
    table = table[~table["row"].isin(space.table["row"])]
    energies = energies_of(ingested, table["row"]).within(modules)
    table = table.iloc[np.flatnonzero(energies.any(axis=1))].reset_index(drop=True)
    return None if table.empty else table


def _save(path: Path, gallery: Gallery, identity: str) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {"scores": gallery.scores}
    facts: dict[str, Any] = {"identity": identity, "table": table_to_facts(gallery.table)}
    if gallery.fit_energies is not None:
        arrays["energies"] = gallery.fit_energies.values
        facts["modules"] = list(gallery.fit_energies.modules)
    write_archive(path, arrays, facts)


def _parse(space: StyleSpace, arrays: Arrays, facts: Mapping[str, Any]) -> Gallery:
    return Gallery(
        space, table_from_facts(facts["table"]), arrays["scores"], _energies(arrays, facts)
    )


def _energies(arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> Energies | None:
    if "modules" not in facts:
        return None
    return Energies(tuple(facts["modules"]), arrays["energies"])
