"""`--dry-run`: what an experiment would train and what that would take.

Nothing is left behind, and no weights are read. Images are, where they are on this machine; where
they are not, the experiment says how many adapters there will be.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lorastyle.cli.answer import Answer, say
from lorastyle.cli.plan_document import (
    Adapters,
    Unit,
    expected_adapters,
    plan_document,
    planned_adapters,
)
from lorastyle.cli.plan_text import plan_text
from lorastyle.errors import ConfigError

if TYPE_CHECKING:
    from lorastyle.config import Experiment


def preview(experiment: Experiment, place: Path | str, samples_per_s: float | None) -> Answer:
    """The resolved experiment and a description of its plan; nothing is left behind.

    `samples_per_s` is of one GPU, or of one core. Raises ConfigError for an experiment that
    trains nothing or does not say what, BaseModelError where there is no such base model, and as
    the stage `plan` does for images that cannot be used.
    """
    if experiment.corpus.source == "adapters":
        raise ConfigError(
            "there is nothing to train: with corpus.source 'adapters' all 0 planned adapters come "
            "from elsewhere; `lorastyle ingest RUN FILES` takes them in"
        )
    adapters = _adapters(experiment, place)
    unit = unit_of(experiment)
    described = plan_document(experiment, adapters, unit, samples_per_s)
    document = {
        "run": str(place),
        "experiment": experiment.model_dump(mode="json"),
        "config_hash": experiment.hash(),
        "plan": described,
    }
    text = plan_text(described, experiment, place)
    return Answer(document, f"{experiment.to_yaml()}\n{text}")


def unit_of(experiment: Experiment) -> Unit:
    """The layout and what a sample costs, from the U-Net's description alone.

    Raises BaseModelError where there is no such base model.
    """
    import torch

    from lorastyle.adapters.layout import AdapterLayout
    from lorastyle.base.unet_config import unet_config
    from lorastyle.ingest.family import modules_of_folder
    from lorastyle.training.cost import sample_cost

    training, base = experiment.training, experiment.base
    modules = [
        module
        for module in modules_of_folder(base)
        if training.sub_network in ("full", module.sub_network)
    ]
    # Where it will be trained is not known; the miniature is for processors.
    automatic = "float32" if base == "miniature" else "bfloat16"
    precision = automatic if training.precision == "auto" else training.precision
    config = unet_config(base).values
    cost = sample_cost(config, training, dtype=getattr(torch, precision))
    # A description holds what differs from diffusers' defaults, of which one is 4 channels.
    numbers = int(config.get("in_channels", 4)) * int(config["sample_size"]) ** 2
    return Unit(
        layout=AdapterLayout.of_modules(training.rank, modules),
        cost=cost,
        precision=precision,
        latent_numbers=numbers,
    )


def _adapters(experiment: Experiment, place: Path | str) -> Adapters:
    """Of the run's own plan where it is of this experiment; planned aside; or as expected."""
    from lorastyle.base.unet_config import image_size_of
    from lorastyle.corpus.stage import plan, read_catalogue, read_plan
    from lorastyle.places.place import place_of
    from lorastyle.runs import Run

    if place_of(place).exists("config.yaml"):
        run = Run.open(place)
        if run.experiment.hash() == experiment.hash() and run.manifest("plan") is not None:
            return planned_adapters(read_catalogue(run), read_plan(run))
    folder = experiment.corpus.path
    if experiment.corpus.source == "folder" and folder is not None and not folder.is_dir():
        reason = f"there is no folder {folder}"
        return expected_adapters(experiment, _n_artists(experiment, reason), reason)
    say("planning aside; nothing is written to the run")
    with TemporaryDirectory(prefix="lorastyle-") as aside:
        run = Run.create(Path(aside) / "run", _without_captioner(experiment))
        plan(run, image_size=image_size_of(experiment.base))
        return planned_adapters(read_catalogue(run), read_plan(run))


def _n_artists(experiment: Experiment, reason: str) -> int:
    """As the experiment says. Raises ConfigError where it does not."""
    corpus = experiment.corpus
    named = len(set(corpus.artists)) if corpus.artists is not None else None
    said = [n for n in (corpus.n_artists, named) if n is not None]
    if not said:
        raise ConfigError(
            f"{reason}, and the experiment does not say how many artists to expect there; set "
            "corpus.n_artists, or corpus.path to a folder PATH/ARTIST/IMAGE"
        )
    return min(said)


def _without_captioner(experiment: Experiment) -> Experiment:
    """Captions change no number here, and describing each image takes a model and hours."""
    corpus = experiment.corpus.model_copy(update={"captioner": None})
    return experiment.model_copy(update={"corpus": corpus})
