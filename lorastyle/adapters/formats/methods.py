"""From the tensors of one module to its update, by the rules of who wrote them.

Sources: LyCORIS `lycoris/modules/{locon,loha,lokr,full}.py`, kohya sd-scripts `networks/lora.py`,
PEFT `tuners/{lora,loha,lokr}/layer.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lorastyle.adapters import factorisation
from lorastyle.adapters.factorisation import LowRank, Matrix
from lorastyle.adapters.formats.alphas import Alpha
from lorastyle.adapters.formats.budget import Budget
from lorastyle.adapters.formats.opening import Array
from lorastyle.adapters.updates import ModuleKey, ModuleUpdate
from lorastyle.errors import AdapterFileError

Parts = Mapping[str, Array]
"""Of one module: tensors by role (`keys.Key.role`), float32."""

NOT_WEIGHTS = frozenset({"alpha", "magnitude", "dora_scale"})
"""Roles that make no update by themselves."""


class Built(NamedTuple):
    """A module's update and what its file said of it."""

    update: ModuleUpdate
    algorithm: str
    """`lora`, `locon`, `loha`, `lokr` or `full`."""
    file_rank: int | None
    """The dimension the file was trained with; None of full matrices."""
    exact_dora: bool = False


class _Product(NamedTuple):
    factors: LowRank
    kernel: tuple[int, ...]
    rank: int | None
    algorithm: str
    is_stored: bool = False
    """The factors are the file's own tensors, which the caller has looked at."""


def build(
    key: ModuleKey,
    parts: Parts,
    alpha: Alpha,
    budget: Budget,
    *,
    config_rank: int | None = None,
    base_weight: Array | None = None,
) -> Built:
    """The update of one module.

    LoKr with two full matrices has no rank to divide alpha by: LyCORIS leaves it unscaled,
    PEFT takes its config's rank, which is `config_rank`.
    Raises AdapterFileError naming module and shapes.
    """
    product = _product(key, parts, budget)
    rank = product.rank or (config_rank if product.algorithm == "lokr" else None)
    scaling = 1.0 if rank is None else _scaling(alpha, rank)
    factors, method = product.factors, product.algorithm.replace("locon", "lora")
    if {"magnitude", "dora_scale"} <= parts.keys():
        raise AdapterFileError(f"module '{key}' has two DoRA magnitudes; keep one of them")
    magnitude = parts.get("magnitude", parts.get("dora_scale"))
    exact = magnitude is not None and base_weight is not None
    if magnitude is not None:
        method = "dora"
        if base_weight is not None:
            factors = _dora(key, parts, factors, scaling, base_weight, budget)
            scaling = 1.0
    _check_scaling(key, scaling)
    if not product.is_stored or factors is not product.factors:
        _check_finite(key, factors)
    update = ModuleUpdate(
        key, factors.lora_A, factors.lora_B, scaling, method, product.kernel, factors.lost_energy
    )
    return Built(update, product.algorithm, product.rank, exact)


def _scaling(alpha: Alpha, rank: int) -> float:
    return 1.0 if alpha.is_unset else alpha.scaling(rank)


def _product(key: ModuleKey, parts: Parts, budget: Budget) -> _Product:
    roles = {role for role in parts if role not in NOT_WEIGHTS}
    if roles and roles <= {"down", "up", "mid"}:
        return _lora(key, parts, budget)
    if roles and all(role.startswith("hada_") for role in roles):
        return _loha(key, parts, budget)
    if roles and all(role.startswith("lokr_") for role in roles):
        return _lokr(key, parts, budget)
    if roles == {"diff"}:
        return _full(key, parts, budget)
    if not roles:
        raise AdapterFileError(
            f"module '{key}' has {', '.join(sorted(parts))} but no factors; save the file again"
        )
    raise AdapterFileError(
        f"module '{key}' mixes {', '.join(sorted(roles))}, which make no update together; "
        "save the file again"
    )


def _needed(key: ModuleKey, parts: Parts, *roles: str) -> tuple[Array, ...]:
    """The parts that belong together. Raises AdapterFileError where one is missing."""
    missing = [role for role in roles if role not in parts]
    if missing:
        have = ", ".join(role for role in roles if role in parts) or "nothing of it"
        raise AdapterFileError(
            f"module '{key}' has {have} but no {' and no '.join(missing)}; "
            "the file is incomplete, save it again"
        )
    return tuple(parts[role] for role in roles)


def _misfit(key: ModuleKey, parts: Parts) -> AdapterFileError:
    shapes = ", ".join(
        f"{role} {tuple(array.shape)}"
        for role, array in sorted(parts.items())
        if role not in NOT_WEIGHTS
    )
    return AdapterFileError(f"module '{key}' has {shapes}, which do not fit together")


def _matrix(array: Array) -> Matrix | None:
    """(m, n) of a matrix, or of a 1 x 1 convolution; None of anything else."""
    if array.ndim < 2 or array.size == 0 or math.prod(array.shape[2:]) != 1:
        return None
    return np.asarray(array.reshape(array.shape[:2]), np.float32)


def _kernel(array: Array) -> tuple[int, ...]:
    return tuple(array.shape[2:])


def _lora(key: ModuleKey, parts: Parts, budget: Budget) -> _Product:
    down, up = _needed(key, parts, "down", "up")
    lora_B, mid = _matrix(up), parts.get("mid")
    if lora_B is None or down.ndim not in (2, 4) or down.size == 0 or len(down) != lora_B.shape[1]:
        raise _misfit(key, parts)
    rank, kernel = len(down), _kernel(down)
    lora_A: Matrix = down.reshape(rank, -1)
    if mid is not None:
        narrow = _matrix(down)
        if narrow is None or mid.ndim != 4 or mid.shape[:2] != (rank, rank) or mid.size == 0:
            raise _misfit(key, parts)
        width = math.prod(mid.shape[2:]) * narrow.shape[1]
        budget.spend(key, (rank, width), rank, 0.0)
        lora_A, kernel = factorisation.of_tucker(mid, narrow), _kernel(mid)
    algorithm = "locon" if key.network == "unet" and math.prod(kernel) > 1 else "lora"
    budget.spend_on_product(key, (len(lora_B), lora_A.shape[1]), rank)
    factors = factorisation.of_product(lora_B, lora_A, budget.max_rank)
    is_stored = mid is None and rank <= budget.max_rank
    return _Product(factors, kernel, rank, algorithm, is_stored)


def _loha(key: ModuleKey, parts: Parts, budget: Budget) -> _Product:
    arrays = _needed(key, parts, "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    if any(array.ndim != 2 or array.size == 0 for array in arrays):
        raise _misfit(key, parts)
    w1_a, w1_b, w2_a, w2_b = arrays
    kernel = _kernel_by_name(key.module)
    if "hada_t1" in parts or "hada_t2" in parts:
        t1, t2 = _needed(key, parts, "hada_t1", "hada_t2")
        kernel = _kernel(t1)
        fits = _fits_core(t1, w1_a, w1_b) and _fits_core(t2, w2_a, w2_b)
        if not fits or kernel != _kernel(t2):
            raise _misfit(key, parts)
        for core, w_b in ((t1, w1_b), (t2, w2_b)):
            budget.spend(key, (0, math.prod(kernel) * w_b.shape[1]), len(core), 0.0)
        w1_a, w1_b = w1_a.T, factorisation.of_tucker(t1, w1_b)
        w2_a, w2_b = w2_a.T, factorisation.of_tucker(t2, w2_b)
    fits = (
        w1_a.shape[1] == len(w1_b)
        and w2_a.shape[1] == len(w2_b)
        and len(w1_a) == len(w2_a)
        and w1_b.shape[1] == w2_b.shape[1]
    )
    if not fits:
        raise _misfit(key, parts)
    budget.spend_on_product(key, (len(w1_a), w1_b.shape[1]), len(w1_b) * len(w2_b))
    factors = factorisation.of_hadamard((w1_a, w1_b), (w2_a, w2_b), budget.max_rank)
    return _Product(factors, kernel, len(w1_b), "loha")


def _fits_core(core: Array, w_a: Array, w_b: Array) -> bool:
    """A Tucker core (r, s, kh, kw) with w_a (r, out) and w_b (s, in)."""
    return core.ndim == 4 and core.size > 0 and core.shape[:2] == (len(w_a), len(w_b))


def _lokr(key: ModuleKey, parts: Parts, budget: Budget) -> _Product:
    first, _, rank_1 = _kron_factor(key, parts, "lokr_w1", budget)
    second, kernel, rank_2 = _kron_factor(key, parts, "lokr_w2", budget)
    one, two = _shape_and_rank(first), _shape_and_rank(second)
    shape = (one[0] * two[0], one[1] * two[1])
    budget.spend(key, shape, min(one[2] * two[2], budget.max_rank), one[2] * two[2])
    factors = factorisation.of_kronecker(first, second, budget.max_rank)
    # Where both are factorised they share the rank; LyCORIS divides by it once.
    return _Product(factors, kernel, rank_1 or rank_2, "lokr")


def _kron_factor(
    key: ModuleKey, parts: Parts, role: str, budget: Budget
) -> tuple[tuple[Matrix, Matrix] | Matrix, tuple[int, ...], int | None]:
    """One side of the product: full, factorised, or a Tucker convolution; its kernel and rank."""
    if role in parts:
        whole = parts[role]
        others = {f"{role}_a", f"{role}_b", role.replace("w", "t")} & parts.keys()
        if whole.ndim not in (2, 4) or whole.size == 0 or others:
            raise _misfit(key, parts)
        matrix = whole.reshape(len(whole), -1)
        budget.spend_on_dense(key, matrix.shape)
        return matrix, _kernel(whole), None
    w_a, w_b = _needed(key, parts, f"{role}_a", f"{role}_b")
    kernel = _kernel(w_b)
    if w_a.ndim != 2 or w_b.ndim not in (2, 4) or 0 in (w_a.size, w_b.size):
        raise _misfit(key, parts)
    core = parts.get("lokr_t2") if role == "lokr_w2" else None
    if core is not None:
        if w_b.ndim != 2 or not _fits_core(core, w_a, w_b):
            raise _misfit(key, parts)
        budget.spend(key, (len(w_a), math.prod(core.shape[2:]) * w_b.shape[1]), len(w_a), 0.0)
        return (w_a.T, factorisation.of_tucker(core, w_b)), _kernel(core), len(w_a)
    w_b = w_b.reshape(len(w_b), -1)
    if w_a.shape[1] != len(w_b):
        raise _misfit(key, parts)
    budget.spend_on_product(key, (len(w_a), w_b.shape[1]), len(w_b))
    return (w_a, w_b), kernel or _kernel_by_name(key.module), len(w_b)


def _shape_and_rank(factor: tuple[Matrix, Matrix] | Matrix) -> tuple[int, int, int]:
    """(m, n) and the highest rank that a factor of a Kronecker product can have."""
    left, right = factor if isinstance(factor, tuple) else (factor, factor)
    rank = left.shape[1] if isinstance(factor, tuple) else min(factor.shape)
    return len(left), right.shape[1], min(rank, len(left), right.shape[1])


def _kernel_by_name(module: str) -> tuple[int, ...]:
    """LoHa and LoKr flatten a kernel away; in these networks the name tells it."""
    if re.search(r"(?:^|\.)(?:conv\d?|conv_in|conv_out)$", module):
        return (3, 3)
    return (1, 1) if module.endswith("conv_shortcut") else ()


def _full(key: ModuleKey, parts: Parts, budget: Budget) -> _Product:
    diff = parts["diff"]
    if diff.ndim not in (2, 4) or diff.size == 0:
        raise _misfit(key, parts)
    matrix = diff.reshape(len(diff), -1)
    budget.spend_on_dense(key, matrix.shape)
    factors = factorisation.of_dense(matrix, budget.max_rank)
    return _Product(factors, _kernel(diff), None, "full")


def _dora(
    key: ModuleKey,
    parts: Parts,
    factors: LowRank,
    scaling: float,
    base_weight: Array,
    budget: Budget,
) -> LowRank:
    """The exact update, with the magnitude per output, or per input as its shape says."""
    shape = (len(factors.lora_B), factors.lora_A.shape[1])
    if math.prod(base_weight.shape) != math.prod(shape) or len(base_weight) != shape[0]:
        raise AdapterFileError(
            f"module '{key}' has an update of shape {shape}, the base weight has "
            f"{tuple(base_weight.shape)}; give the base model it was trained on"
        )
    magnitude = parts.get("magnitude")
    per_input = 0
    if magnitude is None:
        magnitude = parts["dora_scale"]
        if magnitude.ndim >= 2 and magnitude.shape[0] == 1 and shape[0] != 1:
            per_input = magnitude.shape[1]
    wanted = per_input or shape[0]
    if magnitude.size != wanted or shape[1] % (per_input or 1):
        raise AdapterFileError(
            f"module '{key}' has a magnitude of shape {tuple(magnitude.shape)} for an update of "
            f"shape {shape}; save the file again"
        )
    budget.spend_on_dense(key, shape)
    return factorisation.dora_update(
        base_weight.reshape(shape),
        factors.lora_A,
        factors.lora_B,
        scaling,
        magnitude,
        budget.max_rank,
        per_input=per_input,
    )


_LARGEST_SCALING = 1e30
"""Beyond it squared norms leave float64."""


def _check_finite(key: ModuleKey, factors: LowRank) -> None:
    if not (factorisation.is_finite(factors.lora_A) and factorisation.is_finite(factors.lora_B)):
        raise _overflow(key)


def _check_scaling(key: ModuleKey, scaling: float) -> None:
    if not abs(scaling) < _LARGEST_SCALING:
        raise _overflow(key)


def _overflow(key: ModuleKey) -> AdapterFileError:
    return AdapterFileError(
        f"module '{key}' has an update that overflows float32; the training diverged"
    )
