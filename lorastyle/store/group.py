"""The Zarr group of an adapter store: its attributes say whose adapters it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec

from lorastyle.adapters.layout import AdapterLayout
from lorastyle.errors import StoreError
from lorastyle.store.commits import checksum_of

Vector = npt.NDArray[np.float32]

SCHEMA_VERSION = 1
MAX_BLOCK = 32_768
"""Columns of an inner chunk, at most. At the paper's size a block of every row then fits
the quarter GiB that a task of the Gram pass has, so no chunk is read twice."""

IDENTITY = {
    "layout_hash": "layout",
    "base": "base model",
    "alpha": "alpha",
    "init": "initialisation",
}
"""Attributes in which two stores must agree to be one, and what to call them."""


def identity(
    layout: AdapterLayout,
    base: Mapping[str, Any],
    alpha: float,
    init: Mapping[str, Any],
    initial: Vector | None,
) -> dict[str, Any]:
    """The group's attributes, as they read back from JSON."""
    start = dict(init)
    if initial is not None:
        start["initial_hash"] = checksum_of(initial)
    values = {
        "schema_version": SCHEMA_VERSION,
        "layout": layout.to_dict(),
        "layout_hash": layout.hash(),
        "rank": layout.rank,
        "alpha": float(alpha),
        "base": dict(base),
        "init": start,
    }
    return dict(json.loads(json.dumps(values, allow_nan=False)))


def write_group(
    path: Path, size: int, n_rows: int, attributes: dict[str, Any], initial: Vector | None
) -> None:
    """Make an empty store for `n_rows` vectors of length `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    group = zarr.create_group(path, attributes=attributes)
    n_blocks = -(-size // MAX_BLOCK)
    block = -(-size // n_blocks)
    group.create_array(
        "weights",
        shape=(n_rows, size),
        shards=(1, n_blocks * block),
        chunks=(1, block),
        dtype="<f4",
        compressors=[Crc32cCodec()],
        dimension_names=("adapter", "parameter"),
    )
    if initial is not None:
        array = group.create_array("initial", shape=(size,), dtype="<f4", compressors=None)
        array[:] = np.asarray(initial, dtype="<f4")


def read_attributes(path: Path) -> dict[str, Any]:
    """The attributes of the store at `path`.

    Raises StoreError if there is none, or one of another version.
    """
    try:
        attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        version = attributes["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is not an adapter store; make one with `lorastyle train RUN`"
        ) from error
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version!r}, this release reads {SCHEMA_VERSION}; "
            "open it with the release it was written with"
        )
    return dict(attributes)


def refuse_other(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise StoreError where the store at `path` holds adapters of another kind."""
    for key, what in IDENTITY.items():
        if there[key] != here[key]:
            raise StoreError(
                f"{path} holds adapters of another {what} ({there[key]!r} there, {here[key]!r} "
                "here); choose another run, or delete the store to train them again"
            )
