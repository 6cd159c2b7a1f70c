"""What an interrupted stack needs to go on as if it had not been interrupted.

Noise is keyed by step, so weights, Adam's state and the losses so far are all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lorastyle.places.place import Place

CHECKPOINT_VERSION = "1"


@dataclass(frozen=True)
class CheckpointFile:
    """Where a stack's checkpoint is kept: beside the run, so that it outlives this machine."""

    place: Place
    name: str

    def remove(self) -> None:
        """Once the result is safe."""
        self.place.delete(self.name)


@dataclass(frozen=True)
class TrainingState:
    """A stack in the course of training; the tensors are the live ones."""

    weights: Tensor
    """(K, d)."""
    exp_avg: Tensor
    """(K, d), Adam's first moment."""
    exp_avg_sq: Tensor
    """(K, d), Adam's second moment."""
    adam_step: Tensor
    """Steps that Adam has made, a scalar."""
    losses: Tensor
    """(n_steps, K); rows of steps to come are zero."""

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))


def write_checkpoint(file: CheckpointFile, state: TrainingState, identity: str) -> None:
    """Replace the checkpoint; a reader sees the old one or the new one.

    `identity` is a digest of everything that determines the result.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in state.tensors().items()}
    content = save(tensors, {"version": CHECKPOINT_VERSION, "identity": identity})
    file.place.write(file.name, [content])


def resume(file: CheckpointFile, state: TrainingState, identity: str) -> int:
    """Load the checkpoint of exactly this work into `state`; the number of steps done.

    A checkpoint only saves time: one that is missing, damaged, or of other
    adapters or settings (another `identity`) is passed over, and 0 returned.
    """
    content = file.place.read(file.name)
    if content is None or _facts(content) != {"version": CHECKPOINT_VERSION, "identity": identity}:
        return 0
    try:
        saved = load(content)
    except SafetensorError:
        return 0
    with torch.no_grad():
        for name, tensor in state.tensors().items():
            tensor.copy_(saved[name])
    return int(saved["adam_step"])


def _facts(content: bytes) -> Any:
    """What a safetensors file says of itself; None where it is none.

    It begins with the length of its JSON header, 8 bytes little-endian.
    """
    length = int.from_bytes(content[:8], "little")
    try:
        return json.loads(content[8 : 8 + length])["__metadata__"]
    except (ValueError, KeyError, TypeError):
        return None
