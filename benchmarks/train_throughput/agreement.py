"""Both sides train the same thing: from one start, on the same noise, to the same numbers.

In float64, where that can be asked: Adam divides by a gradient's own size, so that in a lower
precision the rounding of one near zero decides the sign of a whole step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.train_throughput.peer import Peer
from benchmarks.train_throughput.records import Subject
from benchmarks.train_throughput.workbench import Workbench
from lorastyle.adapters.initial import initial_factors
from lorastyle.training.batches import Batches
from lorastyle.training.trainer import train_stack

N_STEPS = 3
TOLERANCE = 1e-7
"""Absolute; a step moves a number by up to the learning rate, 5e-4."""


def of_miniature(bench: Workbench, device: str) -> dict[str, Any]:
    """`agreement` on the shipped U-Net, at the rank of whatever is measured."""
    return agreement(Workbench.of(Subject("miniature", bench.rank, device, "float64")))


def agreement(bench: Workbench, n_adapters: int = 2, batch: int = 2) -> dict[str, Any]:
    """Train some adapters both ways, on a U-Net in float64; plain JSON."""
    settings = bench.settings(batch, N_STEPS)
    items = bench.items(n_adapters)
    initial = initial_factors(bench.layout, items[0].spec.init_seed)
    like = torch.empty(0, dtype=bench.unet.dtype, device=bench.device)
    n_timesteps = bench.scheduler.config["num_train_timesteps"]
    alone = []
    for item in items:
        peer = Peer(bench.unet, bench.scheduler, bench.rank)
        peer.load(initial)
        batches = Batches([item], settings, None, n_timesteps=n_timesteps, like=like)
        peer.train(batches.draw, settings)
        alone.append(peer.vector(bench.layout))
    stacked = [each.vector for each in train_stack(bench.unet, bench.scheduler, items, settings)]
    worst = np.abs(np.stack(stacked).astype(np.float64) - np.stack(alone)).max()
    moved = np.abs(np.stack(alone).astype(np.float64) - bench.layout.flatten(initial)).max()
    return {
        "device": bench.device.type,
        "adapters": n_adapters,
        "steps": N_STEPS,
        "tolerance": TOLERANCE,
        "worst_difference": float(worst),
        "moved": float(moved),
        "agree": bool(worst <= TOLERANCE),
    }
