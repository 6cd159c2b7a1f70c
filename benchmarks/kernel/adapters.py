"""Adapters to measure with: random ones in Stable Diffusion 1.5's shapes, or yours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lorastyle.adapters.family import family_modules
from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.layout import TargetModule
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.errors import LorastyleError
from lorastyle.store.adapter_store import AdapterStore

SPECTRUM = -0.5
"""The k-th direction of an update has strength `k ** SPECTRUM`: real ones are uneven."""
MODULE_SPREAD = 1.0
"""Standard deviation of the logarithm of a module's strength; in real files 0.7 to 1.3."""


def modules(every: int = 1) -> list[TargetModule]:
    """The 160 Linear layers that the paper trains, or every so-manieth of them."""
    return family_modules("sd1")[::every]


def random_adapter(
    targets: Sequence[TargetModule], rank: int, seed: int, seed_of_lora_a: int | None = None
) -> Adapter:
    """Gaussian factors, uneven as trained ones are. `seed_of_lora_a`: lora_A from that seed."""
    rng = np.random.default_rng([0, seed])
    shared = np.random.default_rng([1, seed if seed_of_lora_a is None else seed_of_lora_a])
    strengths = np.arange(1, rank + 1, dtype=np.float32) ** SPECTRUM
    updates = []
    for target in targets:
        lora_A = shared.standard_normal((rank, target.in_features), np.float32)
        lora_B = rng.standard_normal((target.out_features, rank), np.float32) * strengths
        scale = float(np.exp(MODULE_SPREAD * rng.standard_normal()))
        scale /= (target.out_features * target.in_features) ** 0.5
        updates.append(ModuleUpdate(ModuleKey("unet", target.name), lora_A, lora_B, scale))
    return Adapter.of(f"random-{seed}", updates)


def mixed(a: Adapter, b: Adapter, cosine: float) -> Adapter:
    """`cosine * a` and as much of `b` as makes the norm 1, on the modules both have.

    Its cosine with `a` is about `cosine` where a and b are unrelated. Ranks add up.
    Raises ValueError where they share no module.
    """
    shared = [key for key in a.updates if key in b.updates]
    if not shared:
        raise ValueError(f"{a.name!r} and {b.name!r} share no module and cannot be mixed")
    norms = [sum(one.updates[key].energy() for key in shared) ** 0.5 for one in (a, b)]
    updates = []
    for key in shared:
        x, y = a.updates[key], b.updates[key]
        weights = x.scaling * cosine / norms[0], y.scaling * (1 - cosine**2) ** 0.5 / norms[1]
        lora_B = np.concatenate([weights[0] * x.lora_B, weights[1] * y.lora_B], axis=1)
        lora_A = np.concatenate([x.lora_A, y.lora_A])
        updates.append(ModuleUpdate(key, lora_A, lora_B.astype(np.float32)))
    return Adapter.of(f"{a.name} at {cosine}", updates)


def adapters_at(path: Path) -> list[Adapter]:
    """Those of a store, or of the files in a folder: U-Net LoRAs of its commonest family.

    Raises ValueError where there are not two of them.
    """
    if (path / "zarr.json").exists():
        return _of_store(AdapterStore.open(path))
    by_family: dict[str, list[Adapter]] = {}
    for file in sorted(path.iterdir()):
        try:
            adapter = read_adapter(file)
        except LorastyleError:
            continue
        networks = {key.network for key, one in adapter.updates.items() if one.energy() > 0}
        if "unet" in networks:
            by_family.setdefault(str(adapter.facts.get("family")), []).append(adapter)
    found = max(by_family.values(), key=len, default=[])
    if len(found) < 2:
        raise ValueError(f"{path} holds {len(found)} adapters of one family; name a folder of more")
    return found


def _of_store(store: AdapterStore) -> list[Adapter]:
    layout = store.layout
    vectors = store.read_columns(store.rows(), slice(0, layout.size))
    factors = layout.unflatten(vectors)
    return [
        Adapter.of(
            str(row),
            [
                ModuleUpdate(
                    ModuleKey("unet", name),
                    factors[name, "A"][row],
                    factors[name, "B"][row],
                    store.scaling,
                )
                for name in layout.modules
            ],
        )
        for row in range(len(vectors))
    ]
