"""What an interrupted stack needs to go on as if it had not been interrupted.

Noise is keyed by step, so weights, Adam's state and the losses so far are all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lorastyle.runs import write_atomically

CHECKPOINT_VERSION = "1"


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


def write_checkpoint(path: Path, state: TrainingState, identity: str) -> None:
    """Replace the checkpoint at `path`; a reader sees the old one or the new one.

    `identity` is a digest of everything that determines the result.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in state.tensors().items()}
    write_atomically(path, save(tensors, {"version": CHECKPOINT_VERSION, "identity": identity}))


def resume(path: Path, state: TrainingState, identity: str) -> int:
    """Load the checkpoint of exactly this work into `state`; the number of steps done.

    A checkpoint only saves time: one that is missing, damaged, or of other
    adapters or settings (another `identity`) is passed over, and 0 returned.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata != {"version": CHECKPOINT_VERSION, "identity": identity}:
                return 0
            saved = {name: file.get_tensor(name) for name in state.tensors()}
    except (FileNotFoundError, SafetensorError):
        return 0
    with torch.no_grad():
        for name, tensor in state.tensors().items():
            tensor.copy_(saved[name])
    return int(saved["adam_step"])
