"""The stage `plan`: images in, catalogue and adapter specs out."""

from __future__ import annotations

import csv
import io
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from lorastyle.corpus.caption_sources import CaptionSource, UsedCaption, finish_captions
from lorastyle.corpus.descriptions import (
    DescribeAll,
    Describer,
    describe_here,
    descriptions_path,
)
from lorastyle.corpus.folder import count_images, folder_digest, read_folder
from lorastyle.corpus.planned import copy_images, read_table
from lorastyle.corpus.planning import choose_artists, make_catalogue, make_specs
from lorastyle.corpus.procedural import write_corpus
from lorastyle.corpus.regularisation import plan_regularisation, regularisation_inputs
from lorastyle.corpus.works import LeftOut, Work
from lorastyle.progress import progress
from lorastyle.records import AdapterSpec, Role, digest
from lorastyle.runs import Run, StageOutcome, carry_out, write_atomically, write_parquet

CAPTION_COLUMNS = ("image_id", "source", "found", "used", "touched")
"""Of `captions.csv`, a line for each image of the catalogue."""
DEFAULT_ARTISTS = 12
"""Procedural artists painted where the experiment does not say how many."""


def plan(
    run: Run,
    *,
    image_size: int,
    force: bool = False,
    descriptions: Path | None = None,
    describe_all: DescribeAll = describe_here,
) -> StageOutcome:
    """Write `catalogue.parquet`, `plan.parquet`, `left_out.csv` and `captions.csv`.

    And `regularisation.parquet`, where training uses a folder of regularisation images.
    `image_size` is the side in pixels at which the base model sees images:
    procedural ones are painted so large, and smaller ones in a folder are left
    out. What a captioner says is kept in `descriptions`, by default in the run;
    `describe_all` has it describe images, by default in this process.
    Raises CorpusError for unusable images or captioners, ConfigError for a
    protocol that the artists' works cannot fill, StageError where the inputs changed.
    """
    kept = descriptions_path(run) if descriptions is None else descriptions

    def describer(captioner: str) -> Describer:
        return Describer(captioner, _source(run), kept, describe_all)

    return carry_out(
        run,
        "plan",
        _inputs(run, image_size),
        lambda: _plan(run, image_size, describer),
        force=force,
    )


def corpus_root(run: Run) -> Path:
    """The folder, absolute, that the catalogue's paths are relative to.

    A run in a bucket has images of its own, so that every machine can have them.
    """
    return (_source(run) if run.url is None else run.corpus_path).absolute()


def _source(run: Run) -> Path:
    """The folder that the plan is made from."""
    corpus = run.experiment.corpus
    given = None if corpus.source == "procedural" else corpus.path
    return run.corpus_path if given is None else given


def read_catalogue(run: Run) -> pd.DataFrame:
    """The images of a planned run. Raises StageError where it is not planned."""
    return read_table(run, run.catalogue_path)


def read_plan(run: Run) -> list[AdapterSpec]:
    """The adapters of a planned run, by row. Raises StageError where it is not planned."""
    rows = read_table(run, run.plan_path).to_dict("records")
    return [AdapterSpec.from_dict({str(key): row[key] for key in row}) for row in rows]


def _inputs(run: Run, image_size: int) -> dict[str, Any]:
    """Everything the plan depends on, and nothing else."""
    experiment = run.experiment
    training = experiment.training.model_dump(
        mode="json", include={"seed", "init_seed", "initialisation", "identifier"}
    )
    # Where the folder lies is not what it holds: a moved copy is the same corpus.
    apart = {"path", "metadata"}
    if experiment.corpus.captioner is None:
        # It came later, and what was planned before is not stale.
        apart.add("captioner")
    inputs: dict[str, Any] = {
        "corpus": experiment.corpus.model_dump(mode="json", exclude=apart),
        "protocol": experiment.protocol.model_dump(mode="json"),
        "training": training,
        "image_size": image_size,
    }
    if experiment.corpus.source == "folder":
        inputs["folder"] = _folder_digest(run)
    return inputs | regularisation_inputs(run)


def _folder_digest(run: Run) -> str:
    source = _source(run)
    recorded = run.manifest("plan") if run.url is not None and not source.is_dir() else None
    if recorded is not None and "folder" in recorded["inputs"]:
        # Planned on a machine that has the folder; the run has the images since.
        return str(recorded["inputs"]["folder"])
    return folder_digest(source, run.experiment.corpus.metadata)


def _plan(run: Run, image_size: int, describer: Callable[[str], Describer]) -> dict[str, Any]:
    experiment = run.experiment
    corpus = experiment.corpus
    if corpus.source == "procedural":
        _paint(run, image_size)
    metadata = corpus.metadata if corpus.source == "folder" else None
    works, left_out = _read_images(_source(run), metadata, image_size)
    works, artists_left_out = choose_artists(
        works, min_works=corpus.min_works, artists=corpus.artists, n_artists=corpus.n_artists
    )
    left_out = left_out + artists_left_out
    catalogue = make_catalogue(works, experiment)
    specs = make_specs(catalogue, experiment)
    regularisation, pictures_left_out = plan_regularisation(run, catalogue, image_size)
    left_out = left_out + pictures_left_out
    # Last: whatever else cannot be used is refused before hours of describing.
    works, captions, captioned = _caption(run, works, describer)
    catalogue = make_catalogue(works, experiment)
    rows = [{**spec.to_dict(), "split": spec.role.image_split.value} for spec in specs]
    _write_table(run.directory / "left_out.csv", map(asdict, left_out), ("file", "reason"))
    _write_table(run.captions_path, map(_caption_row, captions), CAPTION_COLUMNS)
    if run.url is not None and corpus.source == "folder":
        copy_images(_source(run), run.corpus_path, catalogue["path"])
    write_parquet(run.catalogue_path, catalogue)
    write_parquet(run.plan_path, pd.DataFrame(rows))
    return {
        "n_images": len(catalogue),
        "n_artists": int(catalogue["artist"].nunique()),
        "n_adapters": len(specs),
        "adapters_by_role": {role.value: sum(spec.role is role for spec in specs) for role in Role},
        "n_left_out": len(left_out),
        "n_scrubbed": sum(bool(caption.touched) for caption in captions),
        "catalogue": digest(catalogue.to_dict("records")),
        "plan": digest(rows),
        **captioned,
        **regularisation,
    }


def _caption(
    run: Run, works: Sequence[Work], describer: Callable[[str], Describer]
) -> tuple[list[Work], list[UsedCaption], dict[str, Any]]:
    """The works with their captions, where each comes from, and what to record of a captioner."""
    corpus = run.experiment.corpus
    describe = None if corpus.captioner is None else describer(corpus.captioner)
    works, captions = finish_captions(works, corpus.caption_template, corpus.scrub_words, describe)
    if describe is None:
        return works, captions, {}
    sources = Counter(caption.source for caption in captions)
    record = {
        "captions_by_source": {source.value: sources[source] for source in CaptionSource},
        "captioner": None if describe.identity is None else asdict(describe.identity),
    }
    return works, captions, record


def _caption_row(caption: UsedCaption) -> dict[str, str]:
    return {**asdict(caption), "touched": "; ".join(caption.touched)}


def _paint(run: Run, image_size: int) -> None:
    corpus = run.experiment.corpus
    # The directory is the run's own; what an earlier experiment painted would be misread.
    shutil.rmtree(run.corpus_path, ignore_errors=True)
    write_corpus(
        run.corpus_path,
        corpus.n_artists or DEFAULT_ARTISTS,
        corpus.works_per_artist,
        image_size,
        corpus.seed,
    )


def _read_images(
    root: Path, metadata: Path | None, min_side: int
) -> tuple[list[Work], list[LeftOut]]:
    with progress("plan", count_images(root), "images") as shown:
        return read_folder(root, metadata, min_side=min_side, shown=shown)


def _write_table(path: Path, rows: Iterable[Mapping[str, str]], columns: Sequence[str]) -> None:
    """A CSV for people to read: what became of files and captions."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue())
