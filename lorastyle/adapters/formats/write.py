"""Writing an `Adapter` in the formats others read, so that each reader gets the same update.

- `kohya`: `.alpha` is the commonest scaling x rank of all modules, which every reader divides by
  each module's rank; what another module lacks or exceeds is folded into its lora_up. (diffusers
  0.42 ignores, with a warning, attention alphas that differ from the commonest.)
- `diffusers`: the scaling is folded into lora_B. Readers differ in whether they know of the
  alpha in `lora_adapter_metadata` (diffusers does since 0.35, ComfyUI does not); with nothing
  to be read, all take alpha = rank.
- `peft`: a folder; alphas and ranks are in adapter_config.json, which PEFT always reads.

The keys are simple enough to be written here; diffusers' and PEFT's own loaders are what
tests read them with.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.formats.opening import CONFIG_FILE, WEIGHT_FILES
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.errors import AdapterFileError
from lorastyle.runs import write_atomically, write_json

FileFormat = Literal["kohya", "diffusers", "peft"]
StoredType = Literal["float32", "float16", "bfloat16"]


class _Stored(NamedTuple):
    """A tensor as safetensors takes it."""

    shape: tuple[int, ...]
    data: bytes


def write_adapter(
    adapter: Adapter,
    path: Path,
    file_format: FileFormat,
    *,
    dtype: StoredType = "float32",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write an adapter to `path`: a safetensors file, or for `peft` a folder.

    Ranks may differ from module to module. `metadata` goes into the safetensors header.
    Files appear whole or not at all; a folder's config is written last.
    Raises AdapterFileError where a value does not fit `dtype`, or where a PEFT folder would
    need two networks.
    """
    if not adapter.updates:
        raise AdapterFileError(f"{adapter.name!r} has 0 updates; there is nothing to write")
    updates = list(adapter.updates.values())
    writers = {"kohya": _kohya, "diffusers": _diffusers, "peft": _peft}
    if file_format not in writers:
        raise AdapterFileError(
            f"there is no format {file_format!r} to write; choose one of: {', '.join(writers)}"
        )
    tensors = {
        key: _stored(key, array, dtype) for key, array in writers[file_format](updates).items()
    }
    content = _serialised(tensors, dtype, {"format": "pt", **(metadata or {})})
    if file_format == "peft":
        write_atomically(path / WEIGHT_FILES[0], content)
        write_json(path / CONFIG_FILE, _peft_config(updates))
    else:
        write_atomically(path, content)


Tensors = dict[str, npt.NDArray[np.float32]]


def _kohya(updates: list[ModuleUpdate]) -> Tensors:
    """With diffusers' block names, also for SDXL (kohya itself writes the original ones)."""
    second = any(update.key.network == "text_encoder_2" for update in updates)
    prefixes = {
        "unet": "lora_unet",
        "text_encoder": "lora_te1" if second else "lora_te",
        "text_encoder_2": "lora_te2",
    }
    alphas = [float(np.float32(update.scaling * update.rank)) for update in updates]
    # An alpha of 0 is read as "none given" by kohya, LyCORIS and us.
    common = _commonest(alpha for alpha in alphas if alpha) if any(alphas) else 1.0
    tensors: Tensors = {}
    for update, alpha in zip(updates, alphas, strict=True):
        name = f"{prefixes[update.key.network]}_{update.key.module.replace('.', '_')}"
        folded = update.lora_B if alpha == common else update.lora_B * np.float32(alpha / common)
        tensors[f"{name}.lora_down.weight"] = _down(update)
        tensors[f"{name}.lora_up.weight"] = _up(update, folded)
        tensors[f"{name}.alpha"] = np.asarray(common, np.float32)
    return tensors


def _diffusers(updates: list[ModuleUpdate]) -> Tensors:
    tensors: Tensors = {}
    for update in updates:
        folded = update.lora_B * np.float32(update.scaling)
        tensors[f"{update.key}.lora_A.weight"] = _down(update)
        tensors[f"{update.key}.lora_B.weight"] = _up(update, folded)
    return tensors


def _peft(updates: list[ModuleUpdate]) -> Tensors:
    networks = sorted({update.key.network for update in updates})
    if len(networks) > 1:
        raise AdapterFileError(
            f"a PEFT folder holds the adapter of one network, this one has {len(networks)} "
            f"({', '.join(networks)}); write a folder for each, or another format"
        )
    tensors: Tensors = {}
    for update in updates:
        name = f"base_model.model.{update.key.module}"
        tensors[f"{name}.lora_A.weight"] = _down(update)
        tensors[f"{name}.lora_B.weight"] = _up(update, update.lora_B)
    return tensors


def _peft_config(updates: list[ModuleUpdate]) -> dict[str, Any]:
    """What `peft.LoraConfig` reads back; the commonest rank and alpha stand for all others."""
    ranks = {update.key: update.rank for update in updates}
    alphas = {update.key: _tidy(update.scaling * update.rank) for update in updates}
    rank, alpha = _commonest(ranks.values()), _commonest(alphas.values())
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "bias": "none",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": _others(ranks, rank),
        "alpha_pattern": _others(alphas, alpha),
        "target_modules": sorted(key.module for key in ranks),
    }


def _tidy(alpha: float) -> float:
    """PEFT expects whole alphas to be int."""
    return int(alpha) if alpha == int(alpha) else alpha


def _commonest(values: Iterable[float]) -> float:
    return Counter(values).most_common(1)[0][0]


def _others(values: Mapping[ModuleKey, float], common: float) -> dict[str, float]:
    return {key.module: value for key, value in values.items() if value != common}


def _down(update: ModuleUpdate) -> npt.NDArray[np.float32]:
    """lora_A, with the kernel of a convolution."""
    if not update.kernel:
        return update.lora_A
    return update.lora_A.reshape(update.rank, -1, *update.kernel)


def _up(update: ModuleUpdate, lora_B: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return lora_B.reshape(*lora_B.shape, *(1 for _ in update.kernel))


def _stored(key: str, array: npt.NDArray[np.float32], dtype: StoredType) -> _Stored:
    if dtype == "bfloat16":
        data = _bfloat16(array)
    else:
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(array, "<f2" if dtype == "float16" else "<f4")
        if not np.isfinite(converted).all():
            raise AdapterFileError(
                f"tensor {key!r} has values up to {float(np.abs(array).max()):g}, more than "
                f"{dtype} holds; write bfloat16 or float32"
            )
        data = converted.tobytes()
    return _Stored(array.shape, data)


def _bfloat16(array: npt.NDArray[np.float32]) -> bytes:
    """The upper half of each float32, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype("<u2").tobytes()


def _serialised(
    tensors: Mapping[str, _Stored], dtype: StoredType, metadata: Mapping[str, str]
) -> bytes:
    """A safetensors file; the library's own writer takes bfloat16 by raw pointers only."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for key in sorted(tensors):
        shape, data = tensors[key]
        end = offset + len(data)
        header[key] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return b"".join(
        (len(text).to_bytes(8, "little"), text, *(tensors[key].data for key in sorted(tensors)))
    )


_NAMES: Mapping[StoredType, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
