"""Every tensor of a file gets its place: a module and a role, beside the LoRA, or a refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from lorastyle.adapters.formats import cloneofsimo, refusals
from lorastyle.adapters.formats.keys import Key, parse_key
from lorastyle.adapters.formats.opening import Array, Opened
from lorastyle.adapters.updates import ModuleKey
from lorastyle.errors import AdapterFileError


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


def parse(opened: Opened) -> Parsed:
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
        raise refusals.leftovers(opened, parsed.unknown)
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
        n_parameters += array.size * (key.role != "alpha")
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
        if not parts:
            del parsed.modules[key]
    if with_bias:
        parsed.notes.append(
            f"Biases or normalisations of {len(with_bias)} modules were left out, the first that "
            f"of '{min(with_bias)}'."
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
