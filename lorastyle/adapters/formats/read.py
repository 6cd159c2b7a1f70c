"""`read_adapter`: any LoRA file or folder, whatever its format, as one `Adapter`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lorastyle.adapters.formats import cloneofsimo, facts, methods
from lorastyle.adapters.formats.alphas import Alpha, AlphaTable
from lorastyle.adapters.formats.keys import Key, parse_key, what_it_is
from lorastyle.adapters.formats.opening import Array, Limits, Opened, open_adapter_file
from lorastyle.adapters.updates import Adapter, ModuleKey
from lorastyle.errors import AdapterFileError

MAX_RANK = 128
"""Updates of higher rank are truncated to it: LoHa, LoKr and full differences need it."""


def read_adapter(
    path: Path,
    *,
    limits: Limits | None = None,
    max_rank: int = MAX_RANK,
    base_weights: Mapping[str, Array] | None = None,
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
      weight tensors; `bytes`; `sha256` of the weight file
    - `metadata`: short values about training, never training text; `trainer`, `seed`: null
      where unknown
    - `notes`: sentences about what was left out or assumed; `empty`: every update is zero

    Raises AdapterFileError, in one sentence, for what cannot be read or represented.
    """
    limits = limits or Limits()
    opened = open_adapter_file(path, limits)
    parsed = _parse(opened)
    if not parsed.modules:
        raise _nothing(opened, parsed)
    _refuse_config(opened)
    reader = _Reader(opened, methods.Budget(limits, max_rank), base_weights or {})
    built = [reader.build(key, parts) for key, parts in parsed.modules.items()]
    notes = [*parsed.notes, *reader.notes()]
    found = facts.of(opened, parsed.style, parsed.n_parameters, built, reader.alphas, notes)
    return Adapter.of(opened.name, (one.update for one in built), found)


@dataclass
class Parsed:
    """Tensors of a file by module and role, and what lay beside them."""

    style: str
    modules: dict[ModuleKey, dict[str, Array]]
    n_parameters: int
    """Numbers in weight tensors: neither alphas nor embeddings."""
    embeddings: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _parse(opened: Opened) -> Parsed:
    """Every tensor gets a place, or the file is refused."""
    if opened.container == "torch-list":
        named = cloneofsimo.name_list(opened.name, list(opened.tensors.values()))
        return Parsed("cloneofsimo-list", named, _n_numbers(named))
    if any(cloneofsimo.KEY.fullmatch(key) for key in opened.tensors):
        named, rest = cloneofsimo.name_tensors(opened.name, opened.tensors)
        parsed = Parsed("cloneofsimo", named, _n_numbers(named))
    else:
        parsed, rest = _by_key(opened)
    for key in rest:
        (parsed.embeddings if _is_embedding(key, opened) else parsed.unknown).append(key)
    if parsed.modules and parsed.unknown:
        raise _leftovers(opened, parsed.unknown)
    if parsed.modules and parsed.embeddings:
        parsed.notes.append(
            f"{len(parsed.embeddings)} textual-inversion embeddings beside the LoRA were left out."
        )
    return parsed


def _n_numbers(modules: Mapping[ModuleKey, Mapping[str, Array]]) -> int:
    return sum(array.size for parts in modules.values() for array in parts.values())


def _by_key(opened: Opened) -> tuple[Parsed, list[str]]:
    """By the grammar of keys; what it does not know is returned beside."""
    modules: dict[ModuleKey, dict[str, Array]] = {}
    rest: list[str] = []
    styles = Counter[str]()
    n_parameters = 0
    for name, array in opened.tensors.items():
        key = parse_key(name) if len(name) <= _LONGEST_KEY else None
        if key is None:
            rest.append(name)
            continue
        parts = modules.setdefault(key.module, {})
        if key.role in parts:
            raise AdapterFileError(
                f"{opened.name} gives the {key.role} of '{key.module}' twice, the second time as "
                f"{name!r}; keep one of the two"
            )
        parts[key.role] = array
        n_parameters += array.size * (key.role not in ("alpha", "unused"))
        styles[_style(key, name)] += 1
    parsed = Parsed(_one_style(styles, opened), modules, n_parameters)
    if styles.keys() <= {"peft", "bare"}:
        parsed.modules = _second_text_encoder(modules)
    _leave_out(parsed)
    return parsed, rest


_LONGEST_KEY = 512
_MARKS: tuple[str, ...] = (
    "onetrainer",
    "kohya-malformed",
    "comfy",
    "diffusers-attn-procs",
    "kohya",
)
"""A single key written so gives the file's style; of others the most frequent counts."""


def _style(key: Key, name: str) -> str:
    """OneTrainer's internal files have dotted names with kohya's endings."""
    if key.style in ("diffusers", "bare") and ".lora_down." in name:
        return "onetrainer"
    return "peft" if key.style == "bare" and key.role != "alpha" else key.style


def _one_style(styles: Counter[str], opened: Opened) -> str:
    if any(key.startswith("bundle_emb.") for key in opened.tensors):
        return "onetrainer"
    for mark in _MARKS:
        if mark in styles:
            return mark
    return max(styles, key=lambda style: styles[style]) if styles else ""


def _second_text_encoder(
    modules: dict[ModuleKey, dict[str, Array]],
) -> dict[ModuleKey, dict[str, Array]]:
    """PEFT's keys do not say which text encoder: 1280 wide is SDXL's second."""
    widths = {
        parts["down"].shape[-1]
        for key, parts in modules.items()
        if key.network == "text_encoder" and "down" in parts and "q_proj" in key.module
    }
    if widths != {1280}:
        return modules
    return {
        (key._replace(network="text_encoder_2") if key.network == "text_encoder" else key): parts
        for key, parts in modules.items()
    }


def _leave_out(parsed: Parsed) -> None:
    """Biases and normalisations have no matrix; a module with nothing else is none."""
    with_bias = [key for key, parts in parsed.modules.items() if "bias" in parts]
    for key in with_bias:
        parts = parsed.modules[key]
        del parts["bias"]
        if parts.keys() <= {"unused"}:
            del parsed.modules[key]
    if with_bias:
        parsed.notes.append(
            f"Biases or normalisations of {len(with_bias)} modules were left out, "
            "the first that of "
            f"'{min(with_bias)}'."
        )


def _is_embedding(key: str, opened: Opened) -> bool:
    """Textual-inversion vectors, as cloneofsimo, OneTrainer and A1111 name them."""
    named = (
        opened.metadata.get(key) == "<embed>"
        or key.startswith("bundle_emb.")
        or key in ("emb_params", "clip_l", "clip_g")
        or (len(key) <= _LONGEST_KEY and key.startswith("<") and key.endswith(">"))
    )
    return named and opened.tensors[key].ndim <= 2


def _leftovers(opened: Opened, unknown: list[str]) -> AdapterFileError:
    known = what_it_is(unknown)
    seen = f" (this is {known})" if known else ""
    return AdapterFileError(
        f"{opened.name} has {len(unknown)} tensors that are no known part of a LoRA, the first "
        f"{_shown(unknown[0])} of shape {tuple(opened.tensors[unknown[0]].shape)}{seen}; "
        "reading the rest would misjudge it"
    )


def _nothing(opened: Opened, parsed: Parsed) -> AdapterFileError:
    """Why a file has no update at all."""
    if parsed.embeddings and not parsed.unknown:
        shapes = [opened.tensors[key].shape for key in parsed.embeddings]
        return AdapterFileError(
            f"{opened.name} holds only {len(parsed.embeddings)} textual-inversion embeddings "
            f"(the first of shape {tuple(shapes[0])}), which change no weights; give a LoRA"
        )
    if not opened.tensors:
        return AdapterFileError(f"{opened.name} holds 0 tensors; save the adapter again")
    if not parsed.unknown:
        return AdapterFileError(
            f"{opened.name} holds biases or normalisations only, and no update of a matrix"
        )
    known, first = what_it_is(parsed.unknown), parsed.unknown[0]
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


def _refuse_config(opened: Opened) -> None:
    """PEFT methods that are no plain addition to the published base weights."""
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


class _Reader:
    """Builds updates, and remembers what has to be said of them together."""

    def __init__(
        self, opened: Opened, budget: methods.Budget, base_weights: Mapping[str, Array]
    ) -> None:
        self._opened, self._budget, self._base = opened, budget, base_weights
        self._table = AlphaTable(opened.name, opened.config, opened.metadata)
        self.alphas: dict[ModuleKey, Alpha] = {}
        self._without_magnitude: list[ModuleKey] = []

    def build(self, key: ModuleKey, parts: Mapping[str, Array]) -> methods.Built:
        try:
            alpha = self._alpha(key, parts)
            self.alphas[key] = alpha
            weight = self._base.get(f"{key}.weight")
            floats = {role: self._float(key, role, array) for role, array in parts.items()}
            built = methods.build(
                key,
                {role: array for role, array in floats.items() if role != "unused"},
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
        if array.dtype.kind != "f" and role != "alpha":
            raise AdapterFileError(
                f"module '{key}' stores its {role} as {array.dtype}, which is quantised; "
                "convert it to float16 first"
            )
        with np.errstate(over="ignore"):
            values = array.astype(np.float32, copy=False)
        n_bad = values.size - int(np.isfinite(values).sum())
        if n_bad:
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
