"""The adapters of a run as generation needs them: who they are, and what their prompts are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorastyle.base.sampling_settings import Sampling
from lorastyle.corpus.captions import with_identifier
from lorastyle.corpus.stage import corpus_root, read_catalogue
from lorastyle.corpus.training_images import (
    CataloguedImage,
    images_of,
    index_catalogue,
    texts_of,
)
from lorastyle.errors import StoreError
from lorastyle.generation.wanted import WantedImage
from lorastyle.records import AdapterSpec, digest
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.commits import CommitRecord
from lorastyle.store.ingested import IngestedStore, locate

IDENTIFIER = "[V]"
"""In a prompt: where the adapter's identifier goes. The paper's notation."""
VERSION = 1
"""Of how images are made: another one, and they are made again."""


@dataclass(frozen=True)
class Subject:
    """An adapter of which images are made."""

    row: int
    adapter_id: str
    artist: str
    token: str
    """The identifier that it was trained with; empty where it has none."""
    images: tuple[CataloguedImage, ...]
    """Those it was trained on, in its order; none of an adapter from elsewhere."""
    captions: tuple[str, ...]
    """The texts it was trained with, an image each."""
    made_from: str
    """Digest of its weights and its base model."""
    n_left_out: int = 0
    """Modules that its file changes and its row has no room for: generated without them."""

    def wanted(self, prompts: Sequence[str] = (), n_images: int | None = None) -> list[WantedImage]:
        """Images by prompt: those given, or else its captions, from the first again if need be.

        By default one a prompt. Raises StoreError where there is no prompt at all.
        """
        texts = [self.prompted(prompt) for prompt in prompts] or list(self.captions)
        if not texts:
            raise StoreError(
                f"adapter {self.adapter_id!r} comes from elsewhere and has 0 captions to take for "
                "prompts; give --prompt"
            )
        n_images = len(texts) if n_images is None else n_images
        return [WantedImage(i, texts[i % len(texts)]) for i in range(n_images)]

    def prompted(self, prompt: str) -> str:
        """A prompt with the adapter's identifier in place of `[V]`, or else before it."""
        if IDENTIFIER not in prompt:
            return with_identifier(self.token, prompt)
        return " ".join(prompt.replace(IDENTIFIER, self.token).split())

    def key(self, image: WantedImage, sampling: Sampling) -> str:
        """Digest of everything that an image is made from, but for the precision."""
        settings: list[Any] = [sampling.seed, sampling.n_steps, sampling.guidance_scale]
        if sampling.is_guided:
            settings.append(sampling.negative_prompt)
        return digest([VERSION, self.made_from, image.number, image.prompt, settings])


def read_subjects(run: Run, rows: Iterable[int]) -> list[Subject]:
    """The subjects of these rows, in order. Raises StoreError for one without usable weights."""
    rows = list(rows)
    reader = _Reader(run, any(not locate(row).rank for row in rows))
    return [reader.subject(row) for row in rows]


class _Reader:
    """Reads commit records; the catalogue only where an adapter was trained here."""

    def __init__(self, run: Run, any_trained: bool) -> None:
        self._run, self._identifier = run, run.experiment.training.identifier
        self._stores: dict[int, AdapterStore] = {}
        self._images: Mapping[str, CataloguedImage] = {}
        if any_trained:
            self._images = index_catalogue(read_catalogue(run), corpus_root(run))

    def subject(self, row: int) -> Subject:
        place = locate(row)
        store = self._store(place.rank)
        record = store.record(place.row)
        if record is None or record.status != "ok" or record.checksum is None:
            raise StoreError(
                f"{self._run.location} has no usable weights in row {row}; "
                f"see `lorastyle store status {self._run.location}`"
            )
        base = store.attributes["base"]
        made_from = digest([record.checksum, store.scaling, base.get("sha256", dict(base))])
        who = str(record.spec["adapter_id"]), str(record.spec.get("artist", ""))
        if place.rank:
            return Subject(row, *who, "", (), (), made_from, _n_left_out(record))
        spec, identifier = AdapterSpec.from_dict(record.spec), self._identifier
        images = tuple(images_of(spec, self._images))
        captions = tuple(texts_of(spec, images, identifier=identifier))
        token = spec.token if identifier else ""
        return Subject(row, *who, token, images, captions, made_from)

    def _store(self, rank: int) -> AdapterStore:
        if rank not in self._stores:
            self._stores[rank] = (
                IngestedStore.open(self._run.ingested_path).stores[rank]
                if rank
                else AdapterStore.open(self._run.store_path)
            )
        return self._stores[rank]


def _n_left_out(record: CommitRecord) -> int:
    changed: Mapping[str, Any] = record.receipt.get("facts", {}).get("networks", {})
    n_kept = sum(energy > 0 for energy in record.receipt.get("energies", ()))
    return max(0, sum(map(int, changed.values())) - int(n_kept))
