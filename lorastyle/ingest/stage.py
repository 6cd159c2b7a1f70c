"""`ingest`: adapters in the wild become rows of a run; bad files are named and passed over."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.updates import Adapter
from lorastyle.base.weights import BaseWeights
from lorastyle.corpus.stage import read_plan
from lorastyle.errors import AdapterFileError, LayoutMismatchError
from lorastyle.ingest.family import base_weights, ingested_store
from lorastyle.ingest.finding import Candidate
from lorastyle.ingest.labels import Label, label_of, plain
from lorastyle.places.place import Place, place_of
from lorastyle.progress import progress
from lorastyle.records import INGESTED, AdapterSpec
from lorastyle.runs import Run
from lorastyle.store.adapter_store import digest_of_contents
from lorastyle.store.commits import CommitRecord
from lorastyle.store.ingested import MAX_RANK, IngestedStore, Writer

REFUSED_FILE = "refused.csv"


@dataclass(frozen=True)
class Taken:
    """A file that became a row, or was one already."""

    file: str
    adapter_id: str
    row: int
    status: str
    """`ok`, or `zero`: kept, and left out of every fit."""
    format: str
    rank: int
    artist: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """A file that did not, and why."""

    file: str
    reason: str


@dataclass
class Ingestion:
    """What became of each file."""

    added: list[Taken] = field(default_factory=list)
    already: list[Taken] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    """Names of those there already of which the labels now say something else."""
    refused: list[Refused] = field(default_factory=list)
    unused_labels: list[str] = field(default_factory=list)
    """Labels that no file answers to."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def ingest(
    run: Run, candidates: Sequence[Candidate], labels: Mapping[str, Label] | None = None
) -> Ingestion:
    """Read these files into the run; each is a row of its own, committed before the next.

    A file that is there already (by its bytes) is not taken again, only labelled anew. What
    cannot be read, or belongs to another base model, is refused and named in
    `ingested/refused.csv`; the others go on. Raises StoreError where another process ingests
    into the same run.
    """
    begun = time.monotonic()
    store = ingested_store(run)
    labels = labels or {}
    found = Ingestion(unused_labels=_unused(labels, candidates))
    with store.writing() as writer, progress("ingest", len(candidates), "files") as shown:
        shelf, base = _Shelf.of(run, store), base_weights(run)
        for candidate in candidates:
            label = label_of(labels, candidate.name)
            _take(candidate, label, base, shelf, writer, found)
            shown.advance()
    _write_refused(place_of(run.ingested_path), found.refused)
    inputs = {"contents": digest_of_contents(store)}
    statuses = Counter(record.status for record in store.committed().values())
    outputs = {**inputs, "n_adapters": sum(statuses.values()), "by_status": dict(statuses)}
    run.finish("ingest", inputs, outputs, time.monotonic() - begun)
    return found


@dataclass
class _Shelf:
    """Which adapters there are: names and contents already taken, counts by artist."""

    planned: bool
    """Whether the run has a plan, in which ingested adapters have no part."""
    by_content: dict[str, CommitRecord]
    names: set[str]
    counts: Counter[tuple[str, str]]

    @classmethod
    def of(cls, run: Run, store: IngestedStore) -> _Shelf:
        records = list(store.committed().values())
        specs = [record.spec for record in records]
        names = {str(spec.get("adapter_id")) for spec in specs}
        if run.is_planned:
            # Planned adapters keep their names, trained already or not.
            names |= {spec.adapter_id for spec in _planned(run)}
        return cls(
            run.is_planned,
            {str(record.spec.get("sha256")): record for record in records},
            names,
            Counter((str(spec.get("artist")), str(spec.get("role"))) for spec in specs),
        )

    def spec(self, adapter: Adapter, candidate: Candidate, label: Label) -> dict[str, Any]:
        """Who the adapter is, as commit records say it."""
        role = INGESTED if self.planned else label.role.value
        return {
            "adapter_id": self._name(candidate.name),
            "artist": label.artist,
            "genre": label.genre,
            "role": role,
            "index": self._count(label.artist, role),
            "file": plain(candidate.name),
            "sha256": adapter.facts["sha256"],
        }

    def relabel(self, spec: Mapping[str, Any], label: Label) -> dict[str, Any]:
        """The same adapter's spec under another label."""
        role = INGESTED if self.planned else label.role.value
        said = {"artist": label.artist, "genre": label.genre, "role": role}
        if all(spec.get(name) == value for name, value in said.items()):
            return dict(spec)
        return {**spec, **said, "index": self._count(label.artist, role)}

    def _count(self, artist: str, role: str) -> int:
        """The next index among an artist's adapters of a role."""
        self.counts[artist, role] += 1
        return self.counts[artist, role] - 1

    def _name(self, file: str) -> str:
        path = PurePosixPath(file)
        stem = plain(str(path.with_suffix("")) if path.suffix else file) or "unnamed"
        name, copies = stem, 1
        while name in self.names:
            copies += 1
            name = f"{stem}-{copies}"
        self.names.add(name)
        return name


def _take(
    candidate: Candidate,
    label: Label | None,
    base: BaseWeights,
    shelf: _Shelf,
    writer: Writer,
    found: Ingestion,
) -> None:
    try:
        adapter = read_adapter(candidate.path, max_rank=MAX_RANK, base_weights=base)
        known = shelf.by_content.get(str(adapter.facts["sha256"]))
        if known is not None:
            found.already.append(_taken(candidate, _relabelled(known, label, shelf, writer, found)))
            return
        writer.check(adapter)
        spec = shelf.spec(adapter, candidate, label or Label())
        record = writer.add(adapter, spec, {"facts": dict(adapter.facts)})
    except (AdapterFileError, LayoutMismatchError) as error:
        found.refused.append(Refused(candidate.name, str(error)))
        return
    shelf.by_content[str(adapter.facts["sha256"])] = record
    found.added.append(_taken(candidate, record))


def _relabelled(
    record: CommitRecord, label: Label | None, shelf: _Shelf, writer: Writer, found: Ingestion
) -> CommitRecord:
    """The record as it stands, after the labels had their say; without one nothing changes."""
    if label is None:
        return record
    spec = shelf.relabel(record.spec, label)
    if spec == record.spec:
        return record
    found.relabelled.append(str(spec["adapter_id"]))
    changed = writer.describe(record.row, spec)
    shelf.by_content[str(spec["sha256"])] = changed
    return changed


def _planned(run: Run) -> list[AdapterSpec]:
    run.pull("plan")
    return read_plan(run) if run.plan_path.is_file() else []


def _taken(candidate: Candidate, record: CommitRecord) -> Taken:
    facts = record.receipt.get("facts", {})
    return Taken(
        candidate.name,
        str(record.spec.get("adapter_id")),
        record.row,
        record.status,
        str(facts.get("format")),
        max((int(rank) for rank in facts.get("ranks", {}) if rank.isdigit()), default=0),
        str(record.spec.get("artist")),
        tuple(facts.get("notes", ())),
    )


def _unused(labels: Mapping[str, Label], candidates: Sequence[Candidate]) -> list[str]:
    names = {candidate.name for candidate in candidates}
    names |= {PurePosixPath(name).name for name in names}
    return sorted(labels.keys() - names)


def _write_refused(place: Place, refused: Sequence[Refused]) -> None:
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(["file", "reason"])
    lines.writerows(_cells(refused))
    place.write(REFUSED_FILE, [text.getvalue().encode()])


def _cells(refused: Sequence[Refused]) -> Iterator[tuple[str, str]]:
    for each in refused:
        yield plain(each.file), each.reason
