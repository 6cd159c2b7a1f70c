"""For which base model's adapters a run has room: the modules of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorastyle.adapters.family import FAMILIES, family_modules
from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.layout import TargetModule
from lorastyle.base.source import local_path
from lorastyle.base.unet_config import unet_config
from lorastyle.base.weights import BaseWeights
from lorastyle.errors import AdapterFileError, BaseModelError, HubError
from lorastyle.ingest.finding import Candidate
from lorastyle.runs import Run
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.ingested import IngestedStore


def ingested_store(run: Run) -> IngestedStore:
    """The run's store of ingested adapters, made where there is none."""
    modules, base = modules_of_run(run)
    return IngestedStore.create(run.ingested_path, modules, base)


def modules_of_run(run: Run) -> tuple[tuple[TargetModule, ...], Mapping[str, Any]]:
    """The modules that the run's adapters have, and what they belong to."""
    if run.has_store:
        store = AdapterStore.open(run.store_path)
        return store.layout.targets, dict(store.attributes["base"])
    return modules_of_base(run.experiment.base)


def base_weights(run: Run) -> BaseWeights:
    """The base model's weights, where they are on this machine; none for a family."""
    return BaseWeights(local_path(run.experiment.base))


def modules_of_base(base: str) -> tuple[tuple[TargetModule, ...], Mapping[str, Any]]:
    """The attention and feed-forward modules of a family or of a base model's folder.

    Raises BaseModelError where the name means neither.
    """
    if base in FAMILIES:
        return tuple(family_modules(base)), {"family": base}
    return modules_of_folder(base), {"name": base}


def modules_of_folder(base: str) -> tuple[TargetModule, ...]:
    """The same of whatever a base model's name means, by its description: no weights are read.

    Raises BaseModelError where there is none.
    """
    # Only here: a family is known without loading torch.
    import torch
    from diffusers import UNet2DConditionModel

    from lorastyle.adapters.targets import layout_of

    try:
        settings = unet_config(base).values
    except (BaseModelError, HubError) as error:
        raise BaseModelError(f"{error}; for adapters alone name {', '.join(FAMILIES)}") from error
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(settings)
    return layout_of(unet, rank=1).targets


def family_of_first(candidates: Sequence[Candidate]) -> str:
    """The base model's family of the first of these files that has one.

    Raises AdapterFileError where none has.
    """
    reasons = []
    for candidate in candidates:
        try:
            family = str(read_adapter(candidate.path).facts["family"])
        except AdapterFileError as error:
            reasons.append(f"{candidate.name}: {error}")
            continue
        if family in FAMILIES:
            return family
        reasons.append(f"{candidate.name}: its layers are those of no known base model")
    raise AdapterFileError(
        f"none of {len(candidates)} files tells its base model, first {reasons[0]}; "
        "name the base model with --base"
    )
