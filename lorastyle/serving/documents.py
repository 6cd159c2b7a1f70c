"""The shapes of answers, for the API's description. What they mean is said where they are made."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lorastyle.search.found import Duplicate, Found, NearArtist

Verdict = Literal[
    "empty",
    "not_comparable",
    "identical_bytes",
    "same_weights",
    "same_run",
    "similar_style",
    "unrelated",
]


class Document(BaseModel):
    """Nothing but what is named."""

    model_config = ConfigDict(extra="forbid")


class Failure(Document):
    """What went wrong."""

    kind: str
    message: str


class ErrorDocument(Document):
    """Every answer that is not 200."""

    error: Failure


class Place(Document):
    """Where a query lies on the map of a space."""

    space: str
    x: float
    y: float


class InspectDocument(BaseModel):
    """What a LoRA file holds: docs/lora-files.md."""

    kind: Literal["adapter"]
    path: str
    format: str
    container: str
    family: str
    family_evidence: str
    ranks: dict[str, int]
    alpha: dict[str, int] | None
    alpha_source: str
    dtypes: dict[str, int]
    n_tensors: int
    n_parameters: int
    bytes: int
    sha256: str
    metadata: dict[str, Any]
    trainer: str | None
    seed: int | None
    notes: list[str]
    empty: bool
    d: int
    parts: dict[str, Any]
    blocks: dict[str, Any]
    lost_energy: float


class SearchDocument(Document):
    """Neighbours of a LoRA file by style."""

    run: str
    file: str
    query: str
    representation: str
    sub_network: str
    n_components: int
    why: str
    method: Literal["exact", "sketch"]
    coverage: float
    n_gallery: int
    neighbours: list[Found]
    artists: list[NearArtist]
    duplicates: list[Duplicate]
    nearest_distance: float
    usual_distance: float
    is_far: bool
    notes: list[str]
    place: Place | None = None
    inspect: InspectDocument | None = None


class CompareDocument(Document):
    """What two LoRA files are to each other: docs/verdicts.md."""

    first: str
    second: str
    verdict: Verdict
    findings: dict[str, bool]
    scores: dict[str, Any]
    evidence: list[str]


class Artist(Document):
    """An artist of the map and its colours."""

    name: str
    light: str
    dark: str


class MapDocument(Document):
    """Adapters on the first two components: `[x, y, artist or -1, adapter_id]` each."""

    space: str
    name: str
    explained: list[float]
    n_adapters: int
    artists: list[Artist]
    points: list[tuple[float, float, int, str]]


class AboutDocument(Document):
    """What is served."""

    run: str
    base: str
    n_adapters: int
    n_artists: int
    n_pictures: int
    sub_networks: list[str]
    max_upload_bytes: int
    verdicts: dict[str, str]
    """What they are called."""
    families: dict[str, str]


class HealthDocument(Document):
    """That the server answers."""

    status: Literal["ok"]
    version: str
