"""The initial factors of an adapter: `lora_A` Kaiming uniform, `lora_B` zero.

With independent initial factors, flattened adapters cluster by seed and not by
style; so the seed is part of a spec, and all adapters of a run normally share it.
"""

from __future__ import annotations

import hashlib

import numpy as np

from lorastyle.adapters.layout import AdapterLayout, FactorKey, LayoutEntry, Vector


def initial_factors(layout: AdapterLayout, init_seed: int) -> dict[FactorKey, Vector]:
    """Factors before the first step, by (module, factor).

    Each entry of `lora_A` is uniform in +-1/sqrt(in), as in PEFT and kohya
    (Kaiming uniform with a = sqrt 5). Every module has its own stream, keyed by
    its name: an adapter of one sub-network starts where the full one does.
    """
    return {
        entry.key: _uniform(entry, init_seed)
        if entry.factor == "A"
        else np.zeros(entry.shape, np.float32)
        for entry in layout.entries
    }


def initial_vector(layout: AdapterLayout, init_seed: int) -> Vector:
    """`initial_factors` as one vector (d,)."""
    return layout.flatten(initial_factors(layout, init_seed), name="the initial adapter")


def _uniform(entry: LayoutEntry, init_seed: int) -> Vector:
    key = hashlib.sha256(f"{init_seed}:{entry.module}".encode()).digest()[:16]
    rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    bound = np.float32(1 / np.sqrt(entry.shape[1]))
    return (2 * rng.random(entry.shape, dtype=np.float32) - 1) * bound
