"""Placing adapters that a style space has not seen: by inner products, without components."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lorastyle.embedding.gram_pass import cross_of
from lorastyle.embedding.products import sum_of
from lorastyle.embedding.style_space import Scores, StyleSpace
from lorastyle.errors import StageError
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.vectors import AdapterVectors, UnionVectors

Vectors = npt.NDArray[np.floating[Any]]


def project_adapters(
    store: AdapterStore,
    space: StyleSpace,
    others: AdapterVectors | UnionVectors | Vectors,
    *,
    calibrated: bool = True,
    memory_gib: float = 1.0,
    scheduler: Callable[..., Any] | None = None,
) -> Scores:
    """Scores (m, k) of other adapters in a `factors` space: one pass over its fit adapters.

    `others` are rows of the space's store or vectors (m, p) of its sub-network, whose columns
    are side by side in the order of the layout. Raises
    StageError for a space of another representation, or vectors of another length.
    """
    if space.representation != "factors":
        raise StageError(
            f"vectors cannot be placed in a space of {space.representation!r}, only of 'factors'"
        )
    fit = UnionVectors.of(store, space.fit_rows, space.sub_network)
    if others.shape[1] != fit.shape[1]:
        raise StageError(
            f"the vectors have length {others.shape[1]}, the {space.sub_network} network of the "
            f"space has {fit.shape[1]}; give that part of an adapter, in the store's layout"
        )
    # Inner products add up over the ranges of columns.
    cross = sum_of(
        [
            cross_of(part, beside, origin=space.origin, memory_gib=memory_gib, scheduler=scheduler)
            for part, beside in _side_by_side(fit, others)
        ]
    )
    return space.project(cross, calibrated=calibrated)


def _side_by_side(
    fit: UnionVectors, others: AdapterVectors | UnionVectors | Vectors
) -> Iterator[tuple[AdapterVectors, AdapterVectors | Vectors]]:
    for part, place in zip(fit.parts, fit.places, strict=True):
        if isinstance(others, np.ndarray):
            yield part, others[:, place]
        else:
            yield part, AdapterVectors(fit.store, others.rows, part.columns)
