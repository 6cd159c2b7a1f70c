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
from zarr.storage import MemoryStore

from lorastyle.adapters.layout import AdapterLayout
from lorastyle.errors import StoreError
from lorastyle.places.place import Place
from lorastyle.places.tag import Tag
from lorastyle.store.commits import checksum_of

Vector = npt.NDArray[np.float32]

SCHEMA_VERSION = 1
METADATA = "zarr.json"
WEIGHTS_METADATA = "weights/zarr.json"
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
    """The group's attributes, as they read back from JSON.

    Raises StoreError where the initial vector is not of the layout's size.
    """
    start = dict(init)
    if initial is not None:
        if initial.shape != (layout.size,):
            raise StoreError(
                f"the initial vector has shape {initial.shape}, the layout needs "
                f"({layout.size},); make it with the same layout"
            )
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


def make_group(
    place: Place, size: int, n_rows: int, attributes: dict[str, Any], initial: Vector | None
) -> bool:
    """Make an empty store for `n_rows` vectors of length `size`.

    False where a store is there already, perhaps since a moment: compare it with
    `refuse_other`. The group's own metadata comes last, and only if there is
    none: until then nobody takes the place for a store, and of several makers
    one wins.
    """
    if place.exists(METADATA):
        return False
    files = _group_files(size, n_rows, attributes, initial)
    group = files.pop(METADATA)
    for key, content in files.items():
        place.create(key, content)
    if not place.create(METADATA, group):
        return False
    for key, content in files.items():
        # What stood there was left by a maker of another store that did not finish.
        if not _stands(key, place.read(key), content):
            place.write(key, [content])
    return True


def _group_files(
    size: int, n_rows: int, attributes: dict[str, Any], initial: Vector | None
) -> dict[str, bytes]:
    """Contents of an empty store, by key, as zarr-python writes them."""
    files: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(files), attributes=attributes)
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
        array = group.create_array(
            "initial",
            shape=(size,),
            dtype="<f4",
            compressors=None,
            # A chunk left out for its zeros would not replace one that somebody left behind.
            config={"write_empty_chunks": True},
        )
        array[:] = np.asarray(initial, dtype="<f4")
    return {key: buffer.to_bytes() for key, buffer in files.items()}


def _stands(key: str, there: bytes | None, content: bytes) -> bool:
    """True if a file is as it should be; the weights may have grown meanwhile."""
    if there == content or there is None or key != WEIGHTS_METADATA:
        return there == content
    try:
        one, other = json.loads(there), json.loads(content)
        return bool(one | {"shape": one["shape"][1:]} == other | {"shape": other["shape"][1:]})
    except (ValueError, TypeError, KeyError):
        return False


def read_initial(place: Place, attributes: Mapping[str, Any]) -> Vector | None:
    """The vector (d,) that all adapters start from, or None where they share none.

    Raises StoreError where it is not the one the store was made with.
    """
    expected = attributes["init"].get("initial_hash")
    if expected is None:
        return None
    try:
        array = zarr.open_array(place.zarr_store(), path="initial", mode="r")
        initial = np.asarray(array[:], np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(_not_the_initial(place)) from error
    if checksum_of(initial) != expected:
        raise StoreError(_not_the_initial(place))
    return initial


def _not_the_initial(place: Place) -> str:
    return (
        f"{place.where('initial')} is not the initial vector that the store was made with; "
        "the store is damaged: make it again"
    )


def read_weights_metadata(place: Place) -> dict[str, Any]:
    """The Zarr metadata of the weights. Raises StoreError where there is none."""
    return _weights_metadata(place)[0]


def _weights_metadata(place: Place) -> tuple[dict[str, Any], Tag]:
    try:
        content, tag = place.read_tagged(WEIGHTS_METADATA) or (b"", Tag(""))
        return dict(json.loads(content)), tag
    except ValueError as error:
        raise StoreError(
            f"{place.where(WEIGHTS_METADATA)} is missing or damaged; the store has to be made again"
        ) from error


def make_room(place: Place, n_rows: int) -> None:
    """Have room for at least this many rows; who reads meanwhile sees the old number or the new.

    Of several processes that do so at once the largest number stands.
    """
    while True:
        values, tag = _weights_metadata(place)
        if values["shape"][0] >= n_rows:
            return
        values["shape"][0] = n_rows
        content = json.dumps(values, indent=2).encode()
        if place.replace(WEIGHTS_METADATA, [content], tag) is not None:
            return


def read_attributes(place: Place) -> dict[str, Any]:
    """The attributes of the store at `place`.

    Raises StoreError if there is none, or one of another version.
    """
    try:
        attributes = json.loads(place.read(METADATA) or b"")["attributes"]
        version = attributes["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{_root(place)} is not an adapter store; make one with `lorastyle train RUN`"
        ) from error
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{_root(place)} has schema version {version!r}, this release reads "
            f"{SCHEMA_VERSION}; open it with the release it was written with"
        )
    return dict(attributes)


def _root(place: Place) -> str:
    return place.where("").rstrip("/")


def refuse_other(path: Path | str, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise StoreError where the store at `path` holds adapters of another kind."""
    for key, what in IDENTITY.items():
        if _compared(there, key) != _compared(here, key):
            raise StoreError(
                f"{path} holds adapters of another {what} ({there[key]!r} there, {here[key]!r} "
                "here); choose another run, or delete the store to train them again"
            )


def _compared(attributes: Mapping[str, Any], key: str) -> Any:
    """What of an attribute must agree: of a base model that is hashed, not how it was named."""
    value = attributes[key]
    return identifying(value) if key == "base" else value


def identifying(base: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a base model from others: not how it was named, where it is hashed."""
    names = ("name", "revision") if "sha256" in base else ()
    return {key: value for key, value in base.items() if key not in names}
