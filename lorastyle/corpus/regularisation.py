"""Regularisation images of the user's: pictures of the class, not of any artist.

What DreamBooth calls class images and kohya's sd-scripts a `reg` folder. They are read with the
same distrust as the corpus, and none may be a picture of the corpus: an adapter of another artist
would be trained to keep it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from lorastyle.corpus.captions import name_pattern, scrub
from lorastyle.corpus.folder import count_images, folder_digest, read_pictures
from lorastyle.corpus.planned import copy_images, read_table
from lorastyle.corpus.works import LeftOut, Work
from lorastyle.errors import CorpusError
from lorastyle.progress import progress
from lorastyle.records import digest
from lorastyle.runs import Run, write_parquet

COLUMNS = ("image_id", "path", "caption", "content_hash")


def regularisation_folder(run: Run) -> Path | None:
    """The user's folder of regularisation images, where the experiment uses one."""
    training = run.experiment.training
    return training.prior_images if training.prior_weight > 0 else None


def regularisation_inputs(run: Run) -> dict[str, Any]:
    """What the plan depends on of them: nothing where there are none."""
    folder = regularisation_folder(run)
    if folder is None:
        return {}
    recorded = (run.manifest("plan") or {}).get("inputs", {}).get("regularisation")
    if run.url is not None and not folder.is_dir() and recorded is not None:
        # Planned on a machine that has the folder; the run has the images since.
        return {"regularisation": recorded}
    _check_folder(folder)
    caption = run.experiment.training.prior_caption
    return {"regularisation": {"folder": folder_digest(folder), "caption": caption}}


def plan_regularisation(
    run: Run, catalogue: pd.DataFrame, min_side: int
) -> tuple[dict[str, Any], list[LeftOut]]:
    """Write `regularisation.parquet`; what to record of it, and the images left out.

    `catalogue` holds the corpus's images. A run in a bucket gets copies of them. Raises
    CorpusError where there is no folder or no usable image in it.
    """
    folder = regularisation_folder(run)
    if folder is None:
        run.regularisation_table_path.unlink(missing_ok=True)
        return {}, []
    _check_folder(folder)
    with progress("regularisation", count_images(folder), "images") as shown:
        works, left_out = read_pictures(folder, min_side=min_side, shown=shown)
    works, of_the_corpus = _without_the_corpus(works, catalogue)
    left_out = [*left_out, *of_the_corpus]
    if not works:
        example = f"; first: {left_out[0].file}: {left_out[0].reason}" if left_out else ""
        raise CorpusError(
            f"training.prior_images {folder} has no usable image among {len(left_out)}{example}"
        )
    table = _table(works, catalogue, run)
    if run.url is not None:
        copy_images(folder, run.regularisation_path, table["path"])
    write_parquet(run.regularisation_table_path, table)
    named = [LeftOut(f"regularisation/{item.file}", item.reason) for item in left_out]
    record = {
        "n_regularisation_images": len(table),
        "regularisation": digest(table.to_dict("records")),
    }
    return record, named


def read_regularisation(run: Run) -> pd.DataFrame | None:
    """The run's regularisation images, by COLUMNS; None where it has none of the user's.

    Raises StageError where the run is not planned.
    """
    if regularisation_folder(run) is None:
        return None
    return read_table(run, run.regularisation_table_path)


def regularisation_root(run: Run) -> Path:
    """The folder, absolute, that the paths of `read_regularisation` are relative to."""
    folder = regularisation_folder(run)
    ours = run.url is not None or folder is None
    return (run.regularisation_path if ours or folder is None else folder).absolute()


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise CorpusError(
            f"there is no folder {folder}; set training.prior_images to a folder of images, or "
            "leave it out to have the base model paint them"
        )


def _without_the_corpus(
    works: Iterable[Work], catalogue: pd.DataFrame
) -> tuple[list[Work], list[LeftOut]]:
    known = dict(zip(catalogue["content_hash"], catalogue["path"], strict=True))
    kept, left_out = [], []
    for work in works:
        if work.content_hash in known:
            reason = f"the same picture as {known[work.content_hash]} of the corpus"
            left_out.append(LeftOut(work.path, reason))
        else:
            kept.append(work)
    return kept, left_out


def _table(works: Iterable[Work], catalogue: pd.DataFrame, run: Run) -> pd.DataFrame:
    """One row an image; a caption of its own is scrubbed like those of the corpus."""
    experiment = run.experiment
    names = name_pattern(set(catalogue["artist"]), experiment.corpus.scrub_words)
    captions = (scrub(work.caption, names) or experiment.training.prior_caption for work in works)
    rows = [replace(work, caption=text) for work, text in zip(works, captions, strict=True)]
    return pd.DataFrame(
        [[getattr(work, column) for column in COLUMNS] for work in rows], columns=list(COLUMNS)
    )
