"""Components of a style space on disk: who has them places adapters without the store.

They are k vectors as long as an adapter's, made in a second pass over the fit
adapters, column block by column block; every block's task writes its own chunk.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec

from lorastyle.embedding.calibration import Calibration
from lorastyle.embedding.products import (
    MAX_WORKERS,
    Gram,
    add_up,
    as_dask,
    column_blocks,
    compute,
    fits,
    one_block,
    sum_of,
)
from lorastyle.embedding.style_space import Scores, StyleSpace
from lorastyle.errors import StageError
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.vectors import AdapterVectors, UnionVectors

Matrix = npt.NDArray[np.float32]
Scheduler = Callable[..., Any]

FORMAT, VERSION = "lorastyle components", 1
UNIT = 1e-3
"""How far from 1 the first component's squared length may be."""


def write_components(
    store: AdapterStore,
    space: StyleSpace,
    path: Path,
    *,
    memory_gib: float = 1.0,
    scheduler: Scheduler | None = None,
) -> None:
    """Write the components (k, p) float32 of a `factors` space as a Zarr group at `path`.

    Beside `components` it has their products with the fit mean, `offset` (k,), and the
    calibration, `scale` and `shift` (k,). A second pass over the fit adapters with
    `memory_gib` of working memory, through Dask's threads or the given scheduler. The
    group appears, or replaces an older one, when it is whole. Raises StageError for
    another representation, or a store whose adapters are not those of the space.
    """
    if space.representation != "factors":
        raise StageError(
            f"a space of {space.representation!r} has no components, only one of 'factors' has; "
            "place adapters by their inner products"
        )
    if path.exists():
        _open(path)
    vectors = UnionVectors.of(store, space.fit_rows, space.sub_network)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        _write(vectors, space, aside, memory_gib, scheduler)
        if path.exists():
            shutil.rmtree(path)
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def project_with_components(
    path: Path,
    vectors: Any,
    *,
    calibrated: bool = True,
    memory_gib: float = 1.0,
    scheduler: Scheduler | None = None,
) -> Scores:
    """Scores (m, k) of adapters (m, p): NumPy, Dask or AdapterVectors of the sub-network.

    The same as from their inner products with the fit adapters. Raises StageError where
    there are no components at `path`, or vectors of another length.
    """
    group = _open(path)
    k, p = group["components"].shape
    if vectors.ndim != 2 or vectors.shape[1] != p:
        raise StageError(
            f"the vectors have shape {tuple(vectors.shape)}, the components at {path} are of "
            f"{group.attrs['sub_network']} and have length {p}; give vectors (m, {p})"
        )
    width = group["components"].chunks[1]
    # A block of the vectors, and it and the components' in float64.
    n_rows = int(memory_gib * 2**30) // MAX_WORKERS // (12 * width) - k
    parts = [
        _project_rows(path, vectors, rows, width, scheduler)
        for rows in column_blocks(len(vectors), max(1, n_rows))
    ]
    scores = np.concatenate([np.zeros((0, k)), *parts]) - group["offset"][:]
    calibration = Calibration(group["scale"][:], group["shift"][:])
    return calibration.apply(scores) if calibrated else scores


def _write(
    vectors: UnionVectors,
    space: StyleSpace,
    path: Path,
    memory_gib: float,
    scheduler: Scheduler | None,
) -> None:
    k, p = space.n_components, vectors.shape[1]
    width = min(p, _width(len(vectors), k, vectors.store.block, memory_gib))
    names = ("task", "representation", "sub_network")
    facts = {name: getattr(space, name) for name in names}
    path.parent.mkdir(parents=True, exist_ok=True)
    group = zarr.create_group(path, attributes={"format": FORMAT, "version": VERSION, **facts})
    group.create_array(
        "components",
        shape=(k, p),
        chunks=(k, width),
        dtype="<f4",
        compressors=[Crc32cCodec()],
        dimension_names=("component", "parameter"),
    )
    write = dask.delayed(partial(_write_block, vectors, str(path / "components")), pure=False)
    weights = dask.delayed(space.pca.weights_.T.astype(np.float32))
    written = compute([write(weights, columns) for columns in column_blocks(p, width)], scheduler)
    for failure in written:
        if isinstance(failure, Exception):
            raise failure
    offset, squares = sum_of(written)
    _refuse_other_adapters(vectors, float(squares[0]))
    calibration = space.calibration
    small = {"offset": offset, "scale": calibration.scale, "shift": calibration.shift}
    for name, values in small.items():
        group.create_array(name, data=np.asarray(values, "<f8"), compressors=[Crc32cCodec()])


def _write_block(
    vectors: UnionVectors, path: str, weights: Matrix, columns: slice
) -> Gram | Exception:
    """What `_write_chunk` returns, or why it failed.

    A failure that is raised would end the computation while other tasks still write, behind
    the back of whoever clears away what they wrote.
    """
    try:
        return _write_chunk(vectors, path, weights, columns)
    except Exception as error:
        return error


def _write_chunk(vectors: UnionVectors, path: str, weights: Matrix, columns: slice) -> Gram:
    """Write one chunk; returns its share of the offsets and of the squared lengths: (2, k)."""
    block = vectors.read(columns)
    mean = block.mean(axis=0, dtype=np.float64)
    block -= mean.astype(np.float32)
    part = weights @ block
    zarr.open_array(path, mode="r+")[:, columns] = part
    # From what was written, so that rounding it costs the scores nothing.
    offset = np.einsum("kj,j->k", part, mean)
    return np.stack([offset, np.einsum("kj,kj->k", part, part, dtype=np.float64)])


def _refuse_other_adapters(vectors: UnionVectors, square: float) -> None:
    # A component has unit length if it is made from the vectors it was found in.
    if not abs(square - 1) < UNIT:
        raise StageError(
            f"the {len(vectors)} fit adapters in {vectors.store.path} are not those that the space "
            f"was fitted on: its first component would have length {square**0.5:.3g}, not 1; "
            "embed again"
        )


def _width(n_fit: int, k: int, block: int, memory_gib: float) -> int:
    """Columns of a chunk: whole inner chunks of the store where the memory allows."""
    share = int(memory_gib * 2**30) // MAX_WORKERS
    # A block of the fit adapters, its components, and these once more while they are written.
    width = max(1, share // (4 * (n_fit + 2 * k)))
    return width // block * block if width >= block else max(1, block // -(-block // width))


def _project_rows(
    path: Path, vectors: Any, rows: slice, width: int, scheduler: Scheduler | None
) -> Scores:
    stored = isinstance(vectors, AdapterVectors)
    lazy = as_dask(vectors.take(np.arange(len(vectors))[rows]) if stored else vectors[rows], width)
    task = dask.delayed(partial(_project_block, str(path / "components")), pure=False)
    blocks = column_blocks(vectors.shape[1], width)
    parts = [task(one_block(lazy, columns), columns) for columns in blocks]
    return add_up(parts, fits([lazy], width), scheduler)


def _project_block(path: str, block: npt.NDArray[np.floating[Any]], columns: slice) -> Scores:
    components = zarr.open_array(path, mode="r")[:, columns]
    # In float64: what the mean adds to a product is taken off at the end, and may be large.
    return np.asarray(block.astype(np.float64) @ components.T.astype(np.float64))


def _open(path: Path) -> Any:
    try:
        group = zarr.open_group(path, mode="r")
        found = group.attrs["format"], group.attrs["version"]
    except (OSError, ValueError, KeyError) as error:
        raise StageError(
            f"{path} has no components of a style space; write them there with `write_components`"
        ) from error
    if found != (FORMAT, VERSION):
        raise StageError(
            f"{path} is {found[0]!r} version {found[1]!r}, this release reads {FORMAT!r} version "
            f"{VERSION}; choose another path"
        )
    return group
