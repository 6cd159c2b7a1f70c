from __future__ import annotations

import numpy as np
import pytest

from lorastyle.adapters.count_sketch import SketchedModule
from lorastyle.adapters.products import cross_products
from lorastyle.adapters.sketch import SketchPlan
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.errors import LayoutMismatchError
from tests.adapters.forms import folded, halved, padded, turned

QUERY = ModuleKey("unet", "mid_block.a.attn1.to_q")
SHAPES = {
    QUERY: (60, 50),
    ModuleKey("unet", "mid_block.a.attn2.to_k"): (60, 33),
    ModuleKey("unet", "mid_block.a.ff.net.2"): (60, 120),
    ModuleKey("text_encoder", "text_model.layers.0.q_proj"): (40, 40),
}
KEYS = tuple(SHAPES)
EVEN = dict.fromkeys(SHAPES, 1.0)


def factors(rng, key, rank):
    n_out, n_in = SHAPES[key]
    return rng.standard_normal((rank, n_in), np.float32), rng.standard_normal(
        (n_out, rank), np.float32
    )


def related(rng, one: ModuleUpdate, cosine: float) -> ModuleUpdate:
    """`cosine * dW` and as much of something else as makes up the norm: of twice the rank."""
    lora_A, lora_B = factors(rng, one.key, one.rank)
    return ModuleUpdate(
        one.key,
        np.concatenate([one.lora_A, lora_A]),
        np.concatenate([cosine * one.lora_B, (1 - cosine**2) ** 0.5 * lora_B], axis=1),
        one.scaling,
    )


def adapter(seed, keys=KEYS, rank=4) -> Adapter:
    rng = np.random.default_rng(seed)
    return Adapter.of(
        f"adapter-{seed}",
        [ModuleUpdate(key, *factors(rng, key, rank), float(rng.uniform(0.5, 2))) for key in keys],
    )


def family(seed, cosines) -> list[Adapter]:
    """An adapter, and others that have about these cosines with it."""
    rng, first = np.random.default_rng(seed), adapter(seed)
    return [first] + [
        Adapter.of(f"at {c}", [related(rng, one, c) for one in first.updates.values()])
        for c in cosines
    ]


@pytest.mark.parametrize("size", [24, 45])
def test_an_entry_of_the_update_goes_to_the_sum_of_its_buckets(size):
    """The update formed and counted entry by entry, without a Fourier transform."""
    update = adapter(1, [QUERY]).updates[QUERY]
    plan = SketchPlan((SketchedModule(QUERY, SHAPES[QUERY], size),), seed=3)
    expected = counted(plan, update)
    sketch = plan.sketch(Adapter.of("one", [update]))
    np.testing.assert_allclose(sketch, expected, atol=1e-5 * np.linalg.norm(update.delta()))


def counted(plan: SketchPlan, update: ModuleUpdate) -> np.ndarray:
    """A plan of one module."""
    (module,) = plan.modules
    buckets, size, delta = plan._sketches, module.size, update.delta()
    columns, rows = buckets.of_columns.tocoo(), buckets.of_rows.tocoo()
    expected = np.zeros(size)
    for h, i, sign_i in zip(columns.row, columns.col, columns.data, strict=True):
        for g, j, sign_j in zip(rows.row, rows.col, rows.data, strict=True):
            expected[(h + g) % size] += sign_i * sign_j * delta[i, j]
    return expected


@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("cosine", [0.0, 0.6, 1.0])
def test_inner_products_are_unbiased_with_the_stated_variance(rank, cosine):
    rng = np.random.default_rng(rank)
    one = ModuleUpdate(QUERY, *factors(rng, QUERY, rank))
    other = related(rng, one, cosine)
    x, y = one.delta(), other.delta()
    pair = [Adapter.of("x", [one]), Adapter.of("y", [other])]
    size, n_seeds = 40, 1_000
    estimates = np.empty(n_seeds)
    for seed in range(n_seeds):
        plan = SketchPlan((SketchedModule(QUERY, SHAPES[QUERY], size),), seed)
        left, right = (plan.sketch(each).astype(np.float64) for each in pair)
        estimates[seed] = left @ right
    exact = (x * y).sum()
    assert abs(estimates.mean() - exact) < 4 * estimates.std() / n_seeds**0.5
    across = x @ y.T
    stated = (
        (x**2).sum() * (y**2).sum()
        + exact**2
        + ((x.T @ y) ** 2).sum()
        + (across**2).sum()
        + 2 * np.trace(across @ across)
    ) / size
    assert estimates.var() == pytest.approx(stated, rel=0.25)


def test_cosines_err_as_much_as_is_stated():
    """Over pairs of all strengths and many seeds: errors in units of (1 - c^2) / sqrt(size)."""
    adapters = family(5, [0.3, 0.5, 0.8])
    exact = cross_products(adapters).cosine()
    above = np.triu_indices(len(adapters), 1)
    errors = []
    for seed in range(40):
        plan = SketchPlan.of_shares(SHAPES, EVEN, 2_000, seed)
        sketches = plan.sketch_all(adapters)
        size = np.sqrt(np.outer(sketches.effective_size(), sketches.effective_size()))
        stated = ((1 - exact**2) / np.sqrt(size))[above]
        errors.append((sketches.cosine() - exact)[above] / stated)
    rms = np.sqrt(np.mean(np.square(errors), axis=0))
    # Rank 4 and 8: the terms of the variance that vanish with the rank are still a third.
    assert rms.min() > 0.8
    assert rms.max() < 1.6


@pytest.mark.parametrize(
    ("change", "tolerance"), [(turned, 2e-6), (padded, 1e-6), (folded, 1e-6), (halved, 1e-3)]
)
def test_how_a_file_writes_an_update_does_not_matter(change, tolerance):
    one = adapter(1)
    plan = SketchPlan.of_shares(SHAPES, EVEN, 600)
    other = Adapter.of(
        "other", [ModuleUpdate(key, *change(update)) for key, update in one.updates.items()]
    )
    sketch = plan.sketch(one)
    distance = np.linalg.norm(plan.sketch(other) - sketch) / np.linalg.norm(sketch)
    assert distance < tolerance


def test_a_stack_is_sketched_as_its_adapters_are():
    rng = np.random.default_rng(2)
    pairs = [factors(rng, QUERY, 3) for _ in range(5)]
    scalings = rng.uniform(0.2, 3, 5)
    plan = SketchPlan.of_shares(SHAPES, EVEN, 600)
    stacked = plan.sketch_stack(
        np.stack([pair[0] for pair in pairs]),
        np.stack([pair[1] for pair in pairs]),
        QUERY,
        scalings,
    )
    for row, (pair, scaling) in enumerate(zip(pairs, scalings, strict=True)):
        one = Adapter.of("one", [ModuleUpdate(QUERY, *pair, float(scaling))])
        np.testing.assert_allclose(
            stacked[row], plan.sketch(one)[plan.columns[QUERY]], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize(
    "ranks", [{}, {0: 2}, {0: 2, 1: 7, 2: 3}, {0: None}, {0: None, 3: None}, {1: None, 2: 9}]
)
def test_modules_are_sketched_together_as_each_by_itself(ranks):
    """Of one rank, of several, and without some of the plan's modules (None)."""
    chosen = {key: ranks.get(number, 4) for number, key in enumerate(KEYS)}
    whole = [
        adapter(number, [key], rank) for number, (key, rank) in enumerate(chosen.items()) if rank
    ]
    updates = [update for one in whole for update in one.updates.values()]
    plan = SketchPlan.of_shares(SHAPES, EVEN, 600, seed=5)
    found = plan.sketch(Adapter.of("one", updates))
    for module in plan.modules:
        part = found[plan.columns[module.key]]
        alone = [update for update in updates if update.key == module.key]
        if not alone:
            assert not part.any()
            continue
        expected = counted(SketchPlan((module,), seed=5), alone[0])
        np.testing.assert_allclose(part, expected, atol=1e-5 * np.linalg.norm(alone[0].delta()))


def test_a_sketch_is_the_same_wherever_it_is_made():
    """Known numbers: hash functions that changed would make stored sketches worthless."""
    n_out, n_in = SHAPES[QUERY]
    ones = ModuleUpdate(QUERY, np.ones((1, n_in), np.float32), np.ones((n_out, 1), np.float32))
    plan = SketchPlan((SketchedModule(QUERY, SHAPES[QUERY], 8),), seed=11)
    np.testing.assert_allclose(
        plan.sketch(Adapter.of("ones", [ones])), [-2, 16, 13, -1, 24, -5, -13, 16], atol=1e-4
    )


def test_sizes_follow_the_energy_and_leave_no_module_out():
    strong, weak = KEYS[2], KEYS[1]
    loud = Adapter.of(
        "loud",
        [
            ModuleUpdate(key, one.lora_A, one.lora_B, 30.0 if key == strong else 0.1)
            for key, one in adapter(1).updates.items()
        ],
    )
    plan = SketchPlan.fitted([loud], 4_000)
    sizes = {module.key: module.size for module in plan.modules}
    assert sizes[strong] == max(sizes.values()) > 2_000
    assert min(sizes.values()) > 400  # every part of the network gets its eighth
    assert sizes[weak] < sizes[strong]
    assert plan.n_numbers == pytest.approx(4_000, rel=0.05)
    assert plan.n_bytes == 4 * plan.sketch(loud).size
    effective = plan.sketch_all([loud]).effective_size()
    assert 0.9 * sizes[strong] < effective[0] <= 1.1 * sizes[strong]


def test_a_sample_of_zero_adapters_gives_every_module_the_same():
    still = Adapter.of(
        "still",
        [ModuleUpdate(key, one.lora_A, 0 * one.lora_B) for key, one in adapter(1).updates.items()],
    )
    plan = SketchPlan.fitted([still], 900)
    assert min(module.size for module in plan.modules) >= 150
    assert plan.sketch_all([still, adapter(1)]).cosine()[0, 1] == 0


def test_adapters_are_compared_on_the_modules_both_have():
    whole = family(3, [0.7])
    partial = whole[1].only(["self_attention", "cross_attention"])
    plan = SketchPlan.of_shares(SHAPES, EVEN, 20_000)
    sketches = plan.sketch_all([whole[0], partial, adapter(8, KEYS[3:])])
    exact = cross_products([whole[0], partial, adapter(8, KEYS[3:])])
    np.testing.assert_allclose(sketches.cosine(), exact.cosine(), atol=0.05)
    np.testing.assert_array_equal(sketches.coverage(), exact.coverage())
    assert sketches.cosine()[1, 2] == 0
    of_part = sketches.cosine(wanted=lambda key: key == QUERY)
    np.testing.assert_allclose(of_part, exact.cosine(["self_attention"]), atol=0.05)
    some = sketches.rows([0]).cosine(sketches.rows([1, 2]))
    np.testing.assert_allclose(some, sketches.cosine()[:1, 1:], atol=1e-6)


def test_factors_of_another_base_model_are_refused():
    plan = SketchPlan.of_shares(SHAPES, EVEN, 600)
    rng = np.random.default_rng(0)
    lora_A, lora_B = factors(rng, QUERY, 2)
    wide = ModuleUpdate(QUERY, np.ones((2, 51), np.float32), lora_B)
    with pytest.raises(LayoutMismatchError, match=r"attn1.to_q.*\(60, 50\)"):
        plan.sketch(Adapter.of("wide", [wide]))
    elsewhere = ModuleUpdate(ModuleKey("unet", "elsewhere"), lora_A, lora_B)
    with pytest.raises(LayoutMismatchError, match="none of the 1 modules of 'other'"):
        plan.sketch(Adapter.of("other", [elsewhere]))
    with pytest.raises(LayoutMismatchError, match="not in the sketch's plan"):
        plan.sketch_stack(lora_A[None], lora_B[None], elsewhere.key)
    for down, up in [(lora_A, lora_B), (lora_A[None], lora_B[None, :, :1]), (lora_A[:0], lora_B)]:
        with pytest.raises(LayoutMismatchError, match="not of module"):
            plan.sketch_stack(down, up, QUERY)


def test_plans_that_cannot_be_are_refused():
    with pytest.raises(LayoutMismatchError, match="0 modules"):
        SketchPlan(())
    with pytest.raises(LayoutMismatchError, match="2 modules with 1 names"):
        SketchPlan((SketchedModule(QUERY, (2, 2), 4),) * 2)
    with pytest.raises(LayoutMismatchError, match="has no size"):
        SketchPlan((SketchedModule(QUERY, (2, 2), 0),))


def test_sketches_of_different_plans_do_not_mix():
    one = [adapter(1)]
    first = SketchPlan.of_shares(SHAPES, EVEN, 600, seed=0).sketch_all(one)
    second = SketchPlan.of_shares(SHAPES, EVEN, 600, seed=1).sketch_all(one)
    with pytest.raises(LayoutMismatchError, match="different plans"):
        first.cosine(second)
