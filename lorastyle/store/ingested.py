"""`IngestedStore`: adapters that were not trained here, of any rank, in a run.

    ingested/index.json          the modules that are kept, and the base model's family
    ingested/rank-016.zarr       an `AdapterStore` of the adapters of rank 9 to 16
    ingested/refused.csv         files that were not taken, and why

An adapter lies in the store of the next power of two, padded with zeros, its alpha folded into
`lora_B`: neither changes an inner product of updates. So everything that holds of a
store of trained adapters (one file a row, a commit record last, checksums) holds here too.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorastyle.adapters.layout import AdapterLayout, FactorKey, TargetModule
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.errors import LayoutMismatchError, StoreError
from lorastyle.places.place import Place, place_of
from lorastyle.records import digest
from lorastyle.runs.location import beside
from lorastyle.store.adapter_store import TABLE_COLUMNS, AdapterStore
from lorastyle.store.commits import CommitRecord

Rows = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float64]

DIRECTORY = "ingested"
INDEX_FILE = "index.json"
INDEX_VERSION = 1
BUSY_FILE = "ingesting.json"
"""In a bucket: who is adding adapters at the moment."""
MAX_RANK = 128
"""Adapters of a higher rank must be cut to this one first."""
RANK_CLASSES = tuple(1 << power for power in range(MAX_RANK.bit_length()))
_CLASS_SHIFT = 32
"""A row's number is its rank class and its row there: `class << 32 | row`. Rows of trained
adapters are below `1 << 32`, so a number is unique in a run."""


class Located(NamedTuple):
    """Where an adapter's row lies."""

    rank: int
    """The rank class: a power of two."""
    row: int
    """Its row in the store of that class."""


@dataclass(frozen=True)
class IngestedStore:
    """The adapters in the wild of one run; they all belong to one base model's family."""

    directory: Path | str
    """Or a URL."""
    modules: tuple[TargetModule, ...]
    """Those that rows have room for; others of a file are not kept."""
    base: Mapping[str, Any]
    """Family or identity of the base model, plain JSON."""

    @classmethod
    def create(
        cls, directory: Path | str, modules: Sequence[TargetModule], base: Mapping[str, Any]
    ) -> Self:
        """Make an empty one, or open what is there if it is for the same modules."""
        # A layout puts them in canonical order and refuses what is none of ours.
        layout = AdapterLayout.of_modules(1, modules)
        index = {"version": INDEX_VERSION, "layout": layout.to_dict(), "base": dict(base)}
        content = (json.dumps(index, indent=2, allow_nan=False) + "\n").encode()
        if not place_of(directory).create(INDEX_FILE, content):
            there = cls.open(directory)
            if there._layout(1).hash() != layout.hash():
                raise StoreError(
                    f"{directory} holds adapters of {_family(there.base)} "
                    f"({len(there.modules)} modules), these have {len(layout.modules)}; "
                    "ingest them into another run"
                )
            return there
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path | str) -> Self:
        """Open what `create` made. Raises StoreError where there is none."""
        place = place_of(directory)
        content = place.read(INDEX_FILE)
        if content is None:
            raise StoreError(
                f"{directory} holds no ingested adapters; add some with `lorastyle ingest`"
            )
        try:
            index = json.loads(content)
            if index["version"] != INDEX_VERSION:
                raise ValueError(f"version {index['version']}, this release reads {INDEX_VERSION}")
            layout = AdapterLayout.from_dict(index["layout"])
            return cls(directory, layout.targets, dict(index["base"]))
        except (ValueError, KeyError, TypeError, AttributeError, LayoutMismatchError) as error:
            raise StoreError(
                f"{place.where(INDEX_FILE)} cannot be read ({error}); ingest again"
            ) from error

    @classmethod
    def find(cls, directory: Path | str) -> Self | None:
        """The store in this directory, or None where nothing was ingested."""
        return cls.open(directory) if place_of(directory).exists(INDEX_FILE) else None

    @property
    def layout(self) -> AdapterLayout:
        """The layout of the highest rank there is: what the widest rows look like."""
        return self._layout(max(self.stores, default=1))

    @property
    def stores(self) -> dict[int, AdapterStore]:
        """The stores there are, by rank class, ascending."""
        place = place_of(self.directory)
        # Asked for one by one: a bucket has no folders to list.
        there = place.each(lambda rank: place.child(_name(rank)).exists("zarr.json"), RANK_CLASSES)
        return {
            rank: self._open(rank)
            for rank, is_there in zip(RANK_CLASSES, there, strict=True)
            if is_there
        }

    @property
    def meaning(self) -> str:
        """Digest of what rows mean, whatever their rank."""
        return digest([self._layout(1).hash(), dict(self.base)])

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """A writer for new rows; one at a time, for two that choose a free row would lose one."""
        place = place_of(self.directory)
        held = _busy(place) if isinstance(self.directory, str) else _locked(self.directory)
        with held:
            yield Writer(self)

    def kept(self, adapter: Adapter) -> dict[str, ModuleUpdate]:
        """The updates that rows have room for, by module.

        Raises LayoutMismatchError for an adapter that has none of the modules, or
        modules of another shape.
        """
        shapes = {module.name: (module.out_features, module.in_features) for module in self.modules}
        kept = {
            key.module: update
            for key, update in adapter.updates.items()
            if key.network == "unet" and key.module in shapes
        }
        if not kept:
            networks = sorted({key.network for key in adapter.updates})
            raise LayoutMismatchError(
                f"{adapter.name!r} changes {len(adapter)} modules ({', '.join(networks)}), none of "
                f"the {len(shapes)} attention and feed-forward layers of {_family(self.base)}"
            )
        for name, update in kept.items():
            if update.shape != shapes[name]:
                raise LayoutMismatchError(
                    f"module {name!r} of {adapter.name!r} is {update.shape}, in "
                    f"{_family(self.base)} it is {shapes[name]}; it was trained on another base "
                    f"model ({adapter.facts.get('family', 'unknown')})"
                )
        return kept

    def committed(self) -> dict[int, CommitRecord]:
        """Every row's record, by its number, ascending."""
        return {
            number(Located(rank, row)): replace(record, row=number(Located(rank, row)))
            for rank, store in self.stores.items()
            for row, record in store.committed().items()
        }

    def table(self, status: str = "ok") -> pd.DataFrame:
        """Who the rows are: columns row, adapter_id, artist, genre, role, index."""
        rows = [
            {"row": row, **{key: record.spec.get(key) for key in TABLE_COLUMNS[1:]}}
            for row, record in self.committed().items()
            if record.status == status
        ]
        return pd.DataFrame(rows, columns=list(TABLE_COLUMNS))

    def energies(self, rows: npt.ArrayLike) -> Matrix:
        """Squared norms of the updates (n, n_modules), in the modules' canonical order.

        Zero where an adapter leaves a module alone.
        """
        records = self.committed()
        wanted = np.asarray(rows, np.int64).reshape(-1)
        found = [records[int(row)].receipt["energies"] for row in wanted]
        return np.array(found, np.float64).reshape(len(wanted), len(self.modules))

    def adapter(self, row: int) -> Adapter:
        """One adapter as it was ingested, alpha folded into `lora_B`."""
        rank, local = locate(row)
        return stored_adapter(self._open(rank), local)

    def make_class(self, rank: int) -> AdapterStore:
        """The store of a rank class, made where there is none yet."""
        return AdapterStore.create(
            self._path(rank),
            self._layout(rank),
            base=self.base,
            alpha=float(rank),
            n_rows=1,
            init={"initialisation": "unknown"},
        )

    def _open(self, rank: int) -> AdapterStore:
        return AdapterStore.open(self._path(rank))

    def _path(self, rank: int) -> Path | str:
        return beside(self.directory, _name(rank))

    def _layout(self, rank: int) -> AdapterLayout:
        return AdapterLayout.of_modules(rank, self.modules)

    @cached_property
    def module_names(self) -> tuple[str, ...]:
        """In canonical order."""
        return self._layout(1).modules


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """A lock of the operating system, which a killed process gives back."""
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(
                f"another process is ingesting into {directory}; wait until it is done"
            ) from error
        yield


@contextmanager
def _busy(place: Place) -> Iterator[None]:
    """A file that says who is at work: a bucket has no locks. A killed process leaves it."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    who = {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "mark": uuid4().hex}
    ours = json.dumps(who).encode()
    # A request whose answer was lost is sent again, and then refused because of itself.
    if not place.create(BUSY_FILE, ours) and (standing := place.read(BUSY_FILE)) != ours:
        raise StoreError(
            f"{_who(standing)} is ingesting there; wait until it is done, or if it was killed "
            f"delete {place.where(BUSY_FILE)}"
        )
    try:
        yield
    finally:
        place.delete(BUSY_FILE)


def _who(content: bytes | None) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        said = json.loads(content or b"")
        return f"process {said['pid']} of {said['host']} (since {said['since']})"
    return "another process"


class Writer:
    """Adds rows to an `IngestedStore`; made by its `writing`."""

    def __init__(self, store: IngestedStore) -> None:
        self._store = store
        self._classes: dict[int, tuple[AdapterStore, int]] = {}

    def add(
        self, adapter: Adapter, spec: Mapping[str, Any], receipt: Mapping[str, Any]
    ) -> CommitRecord:
        """Write an adapter into a free row; returns its record, with its number in the run.

        Raises LayoutMismatchError as `IngestedStore.kept` does, and for a rank above
        `MAX_RANK`.
        """
        kept, rank = self._fitted(adapter)
        store, row = self._free_row(rank)
        layout = store.layout
        energies = [kept[name].energy() if name in kept else 0.0 for name in layout.modules]
        record = store.commit(
            row,
            layout.flatten(_padded(layout, kept), adapter.name),
            spec,
            {**receipt, "energies": energies},
        )
        self._classes[rank] = (store, row + 1)
        return replace(record, row=number(Located(rank, row)))

    def describe(self, row: int, spec: Mapping[str, Any]) -> CommitRecord:
        """Say of a row, by its number, who it is; its weights stay."""
        place = locate(row)
        record = self._store.stores[place.rank].describe(place.row, spec)
        return replace(record, row=row)

    def check(self, adapter: Adapter) -> None:
        """Raise what `add` would."""
        self._fitted(adapter)

    def _fitted(self, adapter: Adapter) -> tuple[dict[str, ModuleUpdate], int]:
        kept = self._store.kept(adapter)
        return kept, rank_class(max(update.rank for update in kept.values()))

    def _free_row(self, rank: int) -> tuple[AdapterStore, int]:
        if rank not in self._classes:
            store = self._store.make_class(rank)
            self._classes[rank] = (store, max(store.committed(), default=-1) + 1)
        store, row = self._classes[rank]
        store.grow(row + 1)
        return store, row


def rank_class(rank: int) -> int:
    """The next power of two. Raises LayoutMismatchError above `MAX_RANK`.

    >>> rank_class(9), rank_class(16)
    (16, 16)
    """
    if rank > MAX_RANK:
        raise LayoutMismatchError(
            f"rank {rank} is above {MAX_RANK}; cut the adapter to a lower rank first"
        )
    return 1 << (rank - 1).bit_length()


def _name(rank: int) -> str:
    return f"rank-{rank:03d}.zarr"


def number(place: Located) -> int:
    """A row's number in the run."""
    return place.rank << _CLASS_SHIFT | place.row


def locate(row: int) -> Located:
    """The inverse of `number`; class 0 is the store of trained adapters.

    >>> locate(number(Located(16, 3)))
    Located(rank=16, row=3)
    """
    return Located(int(row) >> _CLASS_SHIFT, int(row) & ((1 << _CLASS_SHIFT) - 1))


def stored_adapter(store: AdapterStore, row: int) -> Adapter:
    """An adapter as a store holds it; rank that is only padding is taken off."""
    (vector,) = store.read_rows([row])
    record = store.record(row)
    spec = {} if record is None else record.spec
    factors = store.layout.unflatten(vector)
    updates = []
    for module in store.layout.modules:
        A, B = factors[module, "A"], factors[module, "B"]
        used = A.any(axis=1) & B.any(axis=0)
        if used.any():
            updates.append(
                ModuleUpdate(ModuleKey("unet", module), A[used], B[:, used], store.scaling)
            )
    facts = {} if record is None else dict(record.receipt.get("facts", {}))
    return Adapter.of(str(spec.get("adapter_id", row)), updates, facts)


def _padded(
    layout: AdapterLayout, updates: Mapping[str, ModuleUpdate]
) -> dict[FactorKey, npt.NDArray[np.float32]]:
    factors: dict[FactorKey, npt.NDArray[np.float32]] = {
        entry.key: np.zeros(entry.shape, np.float32) for entry in layout.entries
    }
    for name, update in updates.items():
        factors[name, "A"][: update.rank] = update.lora_A
        # The store's alpha is its rank, so its scaling is 1 and this is the whole update.
        factors[name, "B"][:, : update.rank] = update.lora_B * np.float32(update.scaling)
    return factors


def _family(base: Mapping[str, Any]) -> str:
    return str(base.get("family") or base.get("name") or "its base model")
