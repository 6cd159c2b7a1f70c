"""Placing adapters that a style space has not seen: by inner products, without components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lorastyle.embedding.gram_pass import cross_of
from lorastyle.embedding.style_space import Scores, StyleSpace
from lorastyle.errors import StageError
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.vectors import AdapterVectors


def project_adapters(
    store: AdapterStore,
    space: StyleSpace,
    others: AdapterVectors | npt.NDArray[np.floating[Any]],
    *,
    calibrated: bool = True,
    memory_gib: float = 1.0,
    scheduler: Callable[..., Any] | None = None,
) -> Scores:
    """Scores (m, k) of other adapters in a `factors` space: one pass over its fit adapters.

    `others` are rows of the space's store or vectors (m, p) of its sub-network. Raises
    StageError for a space of another representation, or vectors of another length.
    """
    if space.representation != "factors":
        raise StageError(
            f"vectors cannot be placed in a space of {space.representation!r}, only of 'factors'"
        )
    fit = AdapterVectors.of(store, space.fit_rows, space.sub_network)
    if others.shape[1] != fit.shape[1]:
        raise StageError(
            f"the vectors have length {others.shape[1]}, the {space.sub_network} network of the "
            f"space has {fit.shape[1]}; give that part of an adapter, in the store's layout"
        )
    cross = cross_of(fit, others, origin=space.origin, memory_gib=memory_gib, scheduler=scheduler)
    return space.project(cross, calibrated=calibrated)
