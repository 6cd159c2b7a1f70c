"""Style spaces to search in: those of the embedding, and others made from its Gram matrices.

The sweep may choose a setting that `embed` wrote no space of.

search/spaces/REPRESENTATION.SUBNETWORK/EMBEDDING.npz
"""

from __future__ import annotations

from pathlib import Path

from lorastyle.embedding.gram import GramSet
from lorastyle.embedding.spaces import load_space, space_path
from lorastyle.embedding.style_space import StyleSpace, space_of
from lorastyle.errors import StageError
from lorastyle.records import digest
from lorastyle.runs import Run
from lorastyle.sub_networks import file_name

DIRECTORY = "spaces"
_DIGITS = 16
"""Of the embedding's hash, in a file's name."""


def open_space(run: Run, representation: str, sub_network: str) -> StyleSpace:
    """The space for retrieval of an embedded run.

    Made, and kept while the embedding stands, where the embedding has no file of it. Raises
    StageError where it has no Gram matrix for it either, TooFewAdaptersError.
    """
    if space_path(run.embedding_path, "retrieval", representation, sub_network).is_file():
        return load_space(run.embedding_path, "retrieval", representation, sub_network)
    path = _kept_path(run, representation, sub_network)
    if path.is_file():
        try:
            return StyleSpace.load(path)
        except StageError:
            pass  # damaged: it can be made again
    grams = GramSet.load(run.embedding_path)
    space = space_of(run.experiment, grams, None, "retrieval", representation, sub_network)
    space.save(path)
    _forget_others(path)
    return space


def embedding_identity(run: Run) -> str:
    """What the spaces of a run follow from. Raises StageError before embedding.

    The hash of the stage's output is that of the Gram matrices: settings of PCA and calibration
    do not show in it.
    """
    before = run.upstream_hash("embed")
    inputs = (run.manifest("embed") or {}).get("inputs")
    return digest([before, inputs, run.experiment.embedding.model_dump(mode="json")])


def _forget_others(path: Path) -> None:
    """Spaces of earlier embeddings."""
    for other in path.parent.glob("*.npz"):
        if other != path:
            other.unlink(missing_ok=True)


def _kept_path(run: Run, representation: str, sub_network: str) -> Path:
    name = f"{representation}.{file_name(sub_network)}"
    return run.search_path / DIRECTORY / name / f"{embedding_identity(run)[:_DIGITS]}.npz"
