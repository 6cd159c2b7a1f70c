"""What a file says of itself and what was seen in it, as plain JSON values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lorastyle.adapters.family import family_of
from lorastyle.adapters.formats.alphas import METADATA_KEY, Alpha
from lorastyle.adapters.formats.methods import Built
from lorastyle.adapters.formats.opening import Opened
from lorastyle.adapters.updates import ModuleKey

METADATA_KEYS: tuple[str, ...] = (
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_network_args",
    "ss_seed",
    "ss_sd_model_name",
    "ss_sd_model_hash",
    "ss_new_sd_model_hash",
    "ss_base_model_version",
    "ss_v2",
    "ss_output_name",
    "ss_steps",
    "ss_max_train_steps",
    "ss_epoch",
    "ss_num_epochs",
    "ss_num_train_images",
    "ss_learning_rate",
    "ss_unet_lr",
    "ss_text_encoder_lr",
    "ss_optimizer",
    "ss_resolution",
    "ss_session_id",
    "ss_training_started_at",
    "ss_training_finished_at",
    "ss_sd_scripts_commit_hash",
    "sshs_model_hash",
    "sshs_legacy_hash",
    "modelspec.sai_model_spec",
    "modelspec.architecture",
    "modelspec.implementation",
    "modelspec.title",
    "modelspec.date",
    "modelspec.resolution",
    "modelspec.prediction_type",
)
"""What is kept. Captions, tags, trigger words and folders of the training set are not."""
LONGEST_VALUE = 200


def of(
    opened: Opened,
    style: str,
    n_parameters: int,
    built: Sequence[Built],
    alphas: Mapping[ModuleKey, Alpha],
    notes: Iterable[str],
) -> dict[str, Any]:
    """The facts of a file; `read.read_adapter` documents them."""
    updates = [one.update for one in built]
    family = family_of(updates, opened.metadata)
    file_format = _format(style, {one.algorithm for one in built}, opened.metadata)
    sources = Counter(alpha.source for alpha in alphas.values())
    return {
        "format": file_format,
        "container": opened.container.removesuffix("-list"),
        "family": family.name,
        "family_evidence": family.evidence,
        "dtypes": dict(sorted(Counter(opened.dtypes.values()).items())),
        "ranks": _counted("full" if one.file_rank is None else one.file_rank for one in built),
        "alpha": _alphas(alphas.values()),
        "alpha_source": max(sources, key=lambda source: sources[source]),
        "methods": _counted(update.method for update in updates),
        "networks": _counted(update.key.network for update in updates),
        "n_tensors": len(opened.tensors),
        "n_parameters": n_parameters,
        "bytes": opened.n_bytes,
        "sha256": opened.sha256,
        "metadata": _metadata(opened.metadata),
        "trainer": _trainer(file_format, opened.metadata),
        "seed": _seed(opened.metadata),
        "notes": [*notes, *_about_alpha(alphas.values()), *_about_truncation(built)],
        "empty": all(update.energy() == 0 for update in updates),
    }


def _counted(values: Iterable[object]) -> dict[str, int]:
    """JSON has no other keys than strings."""
    return {str(value): count for value, count in Counter(values).most_common()}


def _alphas(alphas: Iterable[Alpha]) -> dict[str, int] | None:
    known = [f"{alpha.value:g}" for alpha in alphas if alpha.value is not None]
    return _counted(known) if known else None


def _format(style: str, algorithms: set[str], metadata: Mapping[str, str]) -> str:
    """Of kohya's keys, which of LyCORIS's parametrisations stand behind them."""
    if style != "kohya":
        return style
    for algorithm in ("lokr", "loha", "full"):
        if algorithm in algorithms:
            return f"lycoris-{algorithm}"
    by_kohya = metadata.get("ss_network_module", "").startswith("networks.")
    return "lycoris-locon" if "locon" in algorithms and not by_kohya else "kohya"


def _metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    return {
        # Lone surrogates, which JSON may hold, can be printed nowhere.
        key: metadata[key][:LONGEST_VALUE].encode("utf-8", "replace").decode()
        for key in METADATA_KEYS
        if key in metadata
    }


def _trainer(file_format: str, metadata: Mapping[str, str]) -> str | None:
    module = metadata.get("ss_network_module", "")
    if file_format == "onetrainer" or any(key.startswith("ot_") for key in metadata):
        return "OneTrainer"
    if "lycoris" in module:
        return "LyCORIS on kohya sd-scripts"
    if module or "ss_sd_scripts_commit_hash" in metadata:
        return "kohya sd-scripts"
    if file_format.startswith("cloneofsimo"):
        return "cloneofsimo/lora"
    if METADATA_KEY in metadata or file_format.startswith("diffusers"):
        return "diffusers"
    return None


def _seed(metadata: Mapping[str, str]) -> int | None:
    text = metadata.get("ss_seed", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None


def _about_alpha(alphas: Iterable[Alpha]) -> list[str]:
    n_zero = sum(alpha.is_unset for alpha in alphas)
    if not n_zero:
        return []
    return [f"{n_zero} modules have an alpha of 0, read as the rank, as kohya and LyCORIS do."]


def _about_truncation(built: Sequence[Built]) -> list[str]:
    lost = {one.update.key: one.update.lost_energy for one in built if one.update.lost_energy > 0}
    if not lost:
        return []
    worst = max(lost, key=lambda key: lost[key])
    share = max(lost[worst], math.ulp(0))
    return [
        f"{len(lost)} modules were truncated to a lower rank; the most was lost in '{worst}', "
        f"{share:.2g} of its squared norm."
    ]
