"""Sketches of one update that could have been: their mean squared errors at equal size.

    python -m benchmarks.kernel.projections

In units of 1 / size, of cosines 0, 0.5 and 0.95, from exact norms and from the sketches'
own. `dense` forms every update and counts its entries: what no sketch of fixed size that
knows nothing of the adapters betters by much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from lorastyle.adapters.count_sketch import SketchedModule
from lorastyle.adapters.sketch import SketchPlan
from lorastyle.adapters.updates import ModuleKey

Array = npt.NDArray[np.float64]
Sketch = Callable[[Array, Array], Array]
"""lora_A (n, r, in) and lora_B (n, out, r) to (n, size)."""

N_OUT, N_IN, SIZE = 96, 80, 256
COSINES = (0.0, 0.5, 0.95)
N_PAIRS, N_SEEDS = 8, 60
KEY = ModuleKey("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")


def bilinear(draw: Callable[[np.random.Generator, int, int], Array]) -> Callable[[int], Sketch]:
    """`S_out dW S_in'` with two (side, width) projections, side^2 = size."""

    def made(seed: int) -> Sketch:
        rng, side = np.random.default_rng(seed), round(SIZE**0.5)
        left, right = draw(rng, side, N_OUT), draw(rng, side, N_IN)
        return lambda A, B: ((left @ B) @ (A @ right.T)).reshape(len(A), -1)

    return made


def gaussian(rng: np.random.Generator, side: int, width: int) -> Array:
    return rng.standard_normal((side, width)) / side**0.5


def signs(rng: np.random.Generator, side: int, width: int) -> Array:
    return rng.choice([-1.0, 1.0], (side, width)) / side**0.5


def orthogonal(rng: np.random.Generator, side: int, width: int) -> Array:
    basis = np.linalg.qr(rng.standard_normal((width, side)))[0]
    return np.asarray(basis.T * (width / side) ** 0.5)


def rank_one(seed: int) -> Sketch:
    """`g_t' dW h_t` for as many pairs of sign vectors as there are numbers."""
    rng = np.random.default_rng(seed)
    left = rng.choice([-1.0, 1.0], (SIZE, N_OUT))
    right = rng.choice([-1.0, 1.0], (SIZE, N_IN)) / SIZE**0.5
    return lambda A, B: ((left @ B) * (A @ right.T).transpose(0, 2, 1)).sum(axis=2)


def ours(seed: int) -> Sketch:
    plan = SketchPlan((SketchedModule(KEY, (N_OUT, N_IN), SIZE),), seed)
    return lambda A, B: plan.sketch_stack(A.astype(np.float32), B.astype(np.float32), KEY).astype(
        np.float64
    )


def dense(seed: int) -> Sketch:
    rng = np.random.default_rng(seed)
    buckets = rng.integers(0, SIZE, N_OUT * N_IN)
    flips = rng.choice([-1.0, 1.0], N_OUT * N_IN)
    return lambda A, B: np.stack(
        [np.bincount(buckets, flips * one.reshape(-1), SIZE) for one in B @ A]
    )


CONTESTANTS: dict[str, Callable[[int], Sketch]] = {
    "bilinear, Gaussian": bilinear(gaussian),
    "bilinear, signs": bilinear(signs),
    "bilinear, orthogonal": bilinear(orthogonal),
    "rank-one, signs": rank_one,
    "TensorSketch (ours)": ours,
    "dense": dense,
}


def pairs(rank: int, decay: float, cosine: float, *, shared: bool) -> tuple[Array, ...]:
    """Two updates each, at about this cosine: A, B of the one and of the other."""
    rng = np.random.default_rng([rank, int(10 * decay), int(100 * cosine), shared])
    strengths = np.arange(1.0, rank + 1) ** -decay
    A = rng.standard_normal((N_PAIRS, rank, N_IN))
    other_A = A if shared else rng.standard_normal((N_PAIRS, rank, N_IN))
    B, other_B = (rng.standard_normal((N_PAIRS, N_OUT, rank)) * strengths for _ in range(2))
    mixed_B = np.concatenate([cosine * B, (1 - cosine**2) ** 0.5 * other_B], axis=2)
    return A, B, np.concatenate([A, other_A], axis=1), mixed_B


def errors(make: Callable[[int], Sketch], pair: tuple[Array, ...]) -> tuple[float, float]:
    """Mean squared errors of cosines, times the size: from exact norms, and from estimated."""
    A, B, other_A, other_B = pair
    delta, other = B @ A, other_B @ other_A
    norms = np.linalg.norm(delta, axis=(1, 2)) * np.linalg.norm(other, axis=(1, 2))
    cosines = (delta * other).sum(axis=(1, 2)) / norms
    found: list[tuple[Array, Array]] = []
    for seed in range(N_SEEDS):
        sketch = make(seed)
        x, y = sketch(A, B), sketch(other_A, other_B)
        inner = (x * y).sum(axis=1)
        own = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        found.append((inner / norms - cosines, inner / own - cosines))
    exact, estimated = np.square(found).mean(axis=(0, 2)) * SIZE
    return float(exact), float(estimated)


def lines() -> Iterator[str]:
    """Markdown."""
    yield "| rank, lora_A, spectrum | norms | " + " | ".join(CONTESTANTS) + " |"
    yield "| --- | --- " + "| ---: " * len(CONTESTANTS) + "|"
    for rank, shared, decay in [(1, True, 0.0), (4, True, 1.0), (16, True, 0.0), (16, False, 1.0)]:
        kind = f"{rank}, {'shared' if shared else 'own'}, {'uneven' if decay else 'even'}"
        found = {
            name: [errors(make, pairs(rank, decay, c, shared=shared)) for c in COSINES]
            for name, make in CONTESTANTS.items()
        }
        for which, norms in enumerate(("exact", "estimated")):
            cells = [
                ", ".join(f"{one[which]:.2f}" for one in of_name) for of_name in found.values()
            ]
            yield f"| {kind} | {norms} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print("\n".join(lines()))
