"""`read_adapter`: any LoRA file or folder, whatever its format, as one `Adapter`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lorastyle.adapters import factorisation
from lorastyle.adapters.formats import facts, methods, refusals
from lorastyle.adapters.formats.alphas import Alpha, AlphaTable
from lorastyle.adapters.formats.budget import Budget
from lorastyle.adapters.formats.opening import (
    Array,
    FileInMemory,
    Limits,
    Opened,
    open_adapter_file,
)
from lorastyle.adapters.formats.parsing import parse
from lorastyle.adapters.updates import Adapter, ModuleKey
from lorastyle.errors import AdapterFileError

MAX_RANK = 128
"""Updates of higher rank are truncated to it: LoHa, LoKr and full differences need it."""


def read_adapter(
    path: Path | FileInMemory,
    *,
    limits: Limits | None = None,
    max_rank: int = MAX_RANK,
    base_weights: Mapping[str, Array] | None = None,
    hashed: bool = True,
) -> Adapter:
    """Read a LoRA file, or a PEFT or diffusers folder, into its updates.

    The format is told by the keys, never by the file's name; every key must be understood.
    Updates of rank above `max_rank` are truncated, and say how much that cost
    (`ModuleUpdate.lost_energy`). DoRA is exact where `base_weights` gives the weights of
    its modules as `NETWORK.MODULE.weight`, else its direction is read without the magnitude.

    `Adapter.facts`, plain JSON:

    - `format`: `kohya`, `kohya-malformed`, `diffusers`, `diffusers-attn-procs`, `peft`,
      `comfy`, `cloneofsimo`, `cloneofsimo-list`, `lycoris-locon`, `lycoris-loha`,
      `lycoris-lokr`, `lycoris-full` or `onetrainer`; `container`: `safetensors` or `torch`
    - `family`: `sd1`, `sd2`, `sdxl` or `other`; `family_evidence`: a sentence
    - `dtypes`: tensors by dtype; `ranks`: modules by the file's own rank ("full" where it
      has none); `alpha`: modules by alpha, or null; `alpha_source`: `tensor`, `metadata`,
      `config` or `absent` (then alpha = rank); `methods`: modules by method
    - `networks`: modules by network; `n_tensors`; `n_parameters`: numbers in the file's
      weight tensors; `bytes`; `sha256` of the weight file, null unless `hashed`
    - `metadata`: short values about training, never training text; `trainer`, `seed`: null
      where unknown
    - `notes`: sentences about what was left out or assumed; `empty`: every update is zero

    Raises AdapterFileError, in one sentence, for what cannot be read or represented.
    """
    limits = limits or Limits()
    opened = open_adapter_file(path, limits, hashed=hashed)
    parsed = parse(opened)
    if not parsed.modules:
        raise refusals.nothing(opened, parsed.embeddings, parsed.unknown)
    refusals.check_config(opened)
    reader = _Reader(opened, Budget(limits, max_rank), base_weights or {})
    built = [reader.build(key, parts) for key, parts in parsed.modules.items()]
    notes = [*parsed.notes, *reader.notes()]
    found = facts.of(opened, parsed.style, parsed.n_parameters, built, reader.alphas, notes)
    return Adapter.of(opened.name, (one.update for one in built), found)


class _Reader:
    """Builds updates, and remembers what has to be said of them together."""

    def __init__(self, opened: Opened, budget: Budget, base_weights: Mapping[str, Array]) -> None:
        self._opened, self._budget, self._base = opened, budget, base_weights
        self._table = AlphaTable(opened.name, opened.config, opened.metadata)
        self.alphas: dict[ModuleKey, Alpha] = {}
        self._without_magnitude: list[ModuleKey] = []

    def build(self, key: ModuleKey, parts: Mapping[str, Array]) -> methods.Built:
        try:
            alpha = self._alpha(key, parts)
            self.alphas[key] = alpha
            weight = self._base.get(f"{key}.weight")
            floats = {
                role: array if role == "alpha" else self._float(key, role, array)
                for role, array in parts.items()
            }
            built = methods.build(
                key,
                floats,
                alpha,
                self._budget,
                config_rank=self._table.rank_of(key),
                base_weight=weight,
            )
        except AdapterFileError as error:
            raise AdapterFileError(f"{self._opened.name}: {error}") from error
        if built.update.method == "dora" and not built.exact_dora:
            self._without_magnitude.append(key)
        return built

    def _alpha(self, key: ModuleKey, parts: Mapping[str, Array]) -> Alpha:
        if "alpha" not in parts:
            return self._table.of(key)
        values = np.asarray(parts["alpha"], np.float64)
        if values.size != 1 or not np.isfinite(values).all():
            raise AdapterFileError(
                f"module '{key}' has an alpha of shape {tuple(values.shape)} that is no finite "
                "number; save the file again"
            )
        return Alpha(float(values.reshape(-1)[0]), "tensor")

    def _float(self, key: ModuleKey, role: str, array: Array) -> Array:
        if array.dtype.kind != "f":
            raise AdapterFileError(
                f"module '{key}' stores its {role} as {array.dtype}, which is quantised; "
                "convert it to float16 first"
            )
        values = factorisation.single(array)
        if not (self._opened.is_finite or factorisation.is_finite(values)):
            n_bad = values.size - int(np.isfinite(values).sum())
            raise AdapterFileError(
                f"module '{key}' has {n_bad} values of {values.size} in its {role} that are not "
                "finite; the training diverged or the file is damaged"
            )
        return values

    def notes(self) -> list[str]:
        lost = self._without_magnitude
        if not lost:
            return []
        return [
            f"The DoRA magnitudes of {len(lost)} modules were left out because they need the base "
            "weights: their updates are those of the direction alone."
        ]
