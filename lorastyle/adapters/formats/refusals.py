"""The sentences for files that hold no LoRA we can represent."""

from __future__ import annotations

from collections.abc import Sequence

from lorastyle.adapters.formats.keys import what_it_is
from lorastyle.adapters.formats.opening import Opened
from lorastyle.errors import AdapterFileError


def leftovers(opened: Opened, unknown: Sequence[str]) -> AdapterFileError:
    """Tensors beside a LoRA that nobody knows."""
    known = what_it_is(unknown)
    seen = f" (this is {known})" if known else ""
    return AdapterFileError(
        f"{opened.name} has {len(unknown)} tensors that are no known part of a LoRA, the first "
        f"{_shown(unknown[0])} of shape {tuple(opened.tensors[unknown[0]].shape)}{seen}; "
        "reading the rest would misjudge it"
    )


def nothing(opened: Opened, embeddings: Sequence[str], unknown: Sequence[str]) -> AdapterFileError:
    """Why a file has no update at all."""
    if embeddings and not unknown:
        shape = tuple(opened.tensors[embeddings[0]].shape)
        return AdapterFileError(
            f"{opened.name} holds textual-inversion embeddings only ({len(embeddings)}, the first "
            f"of shape {shape}), which change no weights; give a LoRA"
        )
    if not opened.tensors:
        return AdapterFileError(f"{opened.name} holds 0 tensors; save the adapter again")
    if not unknown:
        return AdapterFileError(
            f"{opened.name} holds biases or normalisations only, and no update of a matrix"
        )
    known, first = what_it_is(unknown), unknown[0]
    if known:
        return AdapterFileError(
            f"{opened.name} looks like {known}, which cannot be represented as updates of "
            f"Stable Diffusion's modules (first key {_shown(first)})"
        )
    return AdapterFileError(
        f"{opened.name} has {len(opened.tensors)} tensors and none is a LoRA's of a Stable "
        f"Diffusion U-Net or text encoder, the first {_shown(first)}; give a LoRA of one"
    )


def _shown(key: str) -> str:
    return repr(key if len(key) <= 100 else f"{key[:97]}...")


_BASE_CHANGING = ("pissa", "olora", "loftq", "corda", "eva_pissa", "lora_ga")


def check_config(opened: Opened) -> None:
    """Raises AdapterFileError for PEFT methods that are no addition to the published weights."""
    config = opened.config or {}
    kind = str(config.get("peft_type", "LORA")).upper()
    if kind not in ("LORA", "LOHA", "LOKR"):
        raise AdapterFileError(
            f"{opened.name} is a PEFT adapter of type {kind[:40]}; LORA, LOHA and LOKR can be read"
        )
    start = str(config.get("init_lora_weights", "")).lower()
    if start.startswith(_BASE_CHANGING):
        raise AdapterFileError(
            f"{opened.name} was initialised with {start[:40]!r}, which changes the base weights; "
            "convert it with PEFT's path_initial_model_for_weight_conversion first"
        )
