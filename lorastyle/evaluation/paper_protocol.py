"""Is a run the paper's experiment? Its numbers stand beside ours only where nothing differs."""

from __future__ import annotations

from collections.abc import Iterator

from lorastyle.config import EvaluationConfig, Experiment, ProtocolConfig, TrainingConfig

N_ARTISTS = 63
BASE = "stable-diffusion-v1-5"
DATA = "artbench"

PROTOCOL = {
    "train": "gallery adapters an artist",
    "calibration": "of them for calibration",
    "val": "validation adapters an artist",
    "test": "test adapters an artist",
    "query_calibration": "calibration queries an artist",
    "query_val": "validation queries an artist",
    "query_test": "test queries an artist",
    "images_per_adapter": "images an adapter",
    "images_per_query": "images a query",
    "reserved_val": "images kept for validation",
    "reserved_test": "images kept for test",
    "max_overlap": "largest overlap of two sets",
}
"""What of the protocol counts; the defaults are the paper's."""
TRAINING = {
    "rank": "rank",
    "alpha": "alpha",
    "sub_network": "trained layers",
    "n_steps": "steps",
    "learning_rate": "learning rate",
    "optimizer": "optimiser",
}
"""What of training counts; the defaults are the paper's."""


def differences(experiment: Experiment, n_artists: int) -> list[str]:
    """What differs from the paper's experiment, as `what: ours (paper: theirs)`.

    Empty where nothing does that the run knows of. `n_artists` are those embedded.
    """
    return list(_differences(experiment, n_artists))


def _differences(experiment: Experiment, n_artists: int) -> Iterator[str]:
    # A folder may hold Stable Diffusion 1.5 under another name: then it is said to differ.
    if BASE not in experiment.base.lower():
        yield f"base model: {experiment.base} (paper: Stable Diffusion 1.5)"
    if (data := _data(experiment)) is not None:
        yield f"data: {data} (paper: ArtBench, original size)"
    if n_artists != N_ARTISTS:
        yield f"artists: {n_artists} (paper: {N_ARTISTS})"
    if experiment.corpus.source == "adapters":
        return  # nothing of what follows was in our hands
    protocol, training = ProtocolConfig(), TrainingConfig()
    for name, words in PROTOCOL.items():
        if (ours := getattr(experiment.protocol, name)) != (theirs := getattr(protocol, name)):
            yield f"{words}: {ours} (paper: {theirs})"
    for name, words in TRAINING.items():
        if (ours := getattr(experiment.training, name)) != (theirs := getattr(training, name)):
            yield f"{words}: {ours} (paper: {theirs})"
    if experiment.training.prior_weight == 0:
        yield "prior preservation: none (paper: DreamBooth's)"
    seeds, usual = experiment.evaluation.n_kmeans_seeds, EvaluationConfig().n_kmeans_seeds
    if seeds != usual:
        yield f"k-means seeds: {seeds} (paper: {usual})"
    if (top_k := experiment.evaluation.top_k or experiment.protocol.train) != protocol.train:
        yield f"k of retrieval: {top_k} (paper: {protocol.train})"


def _data(experiment: Experiment) -> str | None:
    """What the images are, where they are not ArtBench's by their folder's name."""
    corpus = experiment.corpus
    if corpus.source == "adapters":
        return "adapters from elsewhere"
    if corpus.source == "procedural":
        return "procedural paintings"
    named = DATA in str(corpus.path).lower()
    return None if named else f"images of the folder {corpus.path.name if corpus.path else '?'}"
