"""Frozen records that stages exchange.

They hold plain values only, so that they pass through Parquet, JSON and a
process boundary without loss.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

SUB_NETWORKS: tuple[str, ...] = ("self_attention", "cross_attention", "feed_forward")
"""The paper's three groups of target modules; ``full`` is their union."""
UNLABELLED = ""
"""The artist of an adapter of which nobody said whose style it has."""
INGESTED = "ingested"
"""Stands for a role where an adapter from elsewhere joins adapters that were trained here: it is
placed and searched, and no part of the protocol."""


class Split(StrEnum):
    """Which images of an artist an adapter may be trained on."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class Role(StrEnum):
    """What an adapter is for. Section 4.1 of the paper.

    ``TRAIN``, ``VAL`` and ``TEST`` share one training setup ("same");
    the query roles are trained on fewer images ("diff").
    """

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    QUERY_CALIBRATION = "query_calibration"
    QUERY_VAL = "query_val"
    QUERY_TEST = "query_test"

    @property
    def image_split(self) -> Split:
        """The images it is trained on: queries never see the gallery's images.

        Calibration queries are the exception by design: the paper makes them
        from training images, so that no held-out image informs the fit.
        """
        return {
            Role.TRAIN: Split.TRAIN,
            Role.VAL: Split.VAL,
            Role.TEST: Split.TEST,
            Role.QUERY_CALIBRATION: Split.TRAIN,
            Role.QUERY_VAL: Split.VAL,
            Role.QUERY_TEST: Split.TEST,
        }[self]

    @property
    def is_query(self) -> bool:
        """True for adapters trained on the small image sets of queries."""
        return self.value.startswith("query")


@dataclass(frozen=True)
class AdapterSpec:
    """One adapter to be trained: its row in the plan and in the store.

    ``image_ids`` name rows of the catalogue; ``index`` counts within artist and
    role. ``noise_seed`` keys everything random that the adapter alone sees.
    ``init_seed`` draws the initial ``lora_A``: all adapters of a run share it
    unless the initialisation is ``independent``.
    """

    row: int
    adapter_id: str
    artist: str
    genre: str
    role: Role
    index: int
    image_ids: tuple[str, ...]
    token: str
    noise_seed: int
    init_seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for Parquet and JSON."""
        return {**asdict(self), "role": self.role.value, "image_ids": list(self.image_ids)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AdapterSpec:
        """The inverse of `to_dict`; NumPy scalars and arrays are welcome."""
        return cls(
            row=int(values["row"]),
            adapter_id=str(values["adapter_id"]),
            artist=str(values["artist"]),
            genre=str(values["genre"]),
            role=Role(values["role"]),
            index=int(values["index"]),
            image_ids=tuple(str(image_id) for image_id in values["image_ids"]),
            token=str(values["token"]),
            noise_seed=int(values["noise_seed"]),
            init_seed=int(values["init_seed"]),
        )


def digest(value: object) -> str:
    """SHA-256 of a JSON-able value in canonical form: sorted keys, no spaces.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
