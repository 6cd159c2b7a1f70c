from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import pytest

from lorastyle.adapters.kernel import FactorStack, stack_products
from lorastyle.adapters.pairs import compare_pair
from lorastyle.adapters.products import cross_products
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.errors import LayoutMismatchError
from tests.adapters.forms import folded, halved, padded, turned

SHAPES = {
    ModuleKey("unet", "mid_block.a.attn1.to_q"): (24, 24),
    ModuleKey("unet", "mid_block.a.attn2.to_k"): (24, 17),
    ModuleKey("unet", "mid_block.a.ff.net.0.proj"): (40, 24),
    ModuleKey("unet", "mid_block.resnets.0.conv1"): (12, 27),
    ModuleKey("text_encoder", "text_model.layers.0.q_proj"): (9, 9),
}
KEYS = tuple(SHAPES)


def update(rng, key, rank, scaling=1.0) -> ModuleUpdate:
    n_out, n_in = SHAPES[key]
    lora_A = rng.standard_normal((rank, n_in), np.float32)
    return ModuleUpdate(key, lora_A, rng.standard_normal((n_out, rank), np.float32), scaling)


def adapter(seed, keys=KEYS, ranks=(4,)) -> Adapter:
    rng = np.random.default_rng(seed)
    return Adapter.of(
        f"adapter-{seed}",
        [update(rng, key, int(rng.choice(ranks)), float(rng.uniform(0.3, 2))) for key in keys],
    )


def mixed(n, seed=0) -> list[Adapter]:
    """Adapters of ranks 1 to 9, each with some of the modules."""
    rng = np.random.default_rng(seed)
    kept = [[key for key in KEYS if rng.random() < 0.7] for _ in range(n)]
    return [adapter(100 + i, keys, range(1, 10)) for i, keys in enumerate(kept)]


def explicit(a, b, keys) -> tuple[float, float, float]:
    """<a, b>, |a|^2 and |b|^2 on these modules, of updates formed in float64."""
    pairs = [(a.updates[key].delta(), b.updates[key].delta()) for key in keys]
    return tuple(
        float(sum((x * y).sum() for x, y in chosen))
        for chosen in (pairs, [(x, x) for x, _ in pairs], [(y, y) for _, y in pairs])
    )


def shared(a, b, wanted=lambda key: True):
    return [key for key in KEYS if key in a.updates and key in b.updates and wanted(key)]


def with_factors(a, change) -> Adapter:
    """`a` with every update's lora_A, lora_B and scaling replaced."""
    return Adapter.of(a.name, [ModuleUpdate(key, *change(one)) for key, one in a.updates.items()])


# ---------------------------------------------------------------- a pair


def test_a_pair_equals_explicit_updates_module_by_module():
    a, b = adapter(1, ranks=(1, 3, 8)), adapter(2, ranks=(2, 5))
    pair = compare_pair(a, b)
    assert set(pair.modules) == set(KEYS)
    for key, products in pair.modules.items():
        inner, energy_a, energy_b = explicit(a, b, [key])
        scale = np.sqrt(energy_a * energy_b)
        assert products.inner == pytest.approx(inner, rel=0, abs=1e-12 * scale)
        assert products.norm_a**2 == pytest.approx(energy_a, rel=1e-12)
        assert products.cosine == pytest.approx(inner / scale, abs=1e-12)
    inner, energy_a, energy_b = explicit(a, b, KEYS)
    assert pair.whole.inner == pytest.approx(inner, rel=1e-12)
    assert pair.whole.cosine == pytest.approx(inner / np.sqrt(energy_a * energy_b), rel=1e-12)
    assert pair.whole.n_modules == len(KEYS)
    assert set(pair.parts) == {
        "self_attention", "cross_attention", "feed_forward", "convolution", "text_encoder",
    }  # fmt: skip


def test_a_pair_is_compared_on_what_it_shares_and_says_how_much_that_is():
    a, b = adapter(1, KEYS[:3]), adapter(2, KEYS[2:])
    pair = compare_pair(a, b)
    assert (set(pair.modules), set(pair.only_a), set(pair.only_b)) == (
        {KEYS[2]},
        set(KEYS[:2]),
        set(KEYS[3:]),
    )
    inner, energy_a, energy_b = explicit(a, b, [KEYS[2]])
    assert pair.whole.cosine == pytest.approx(inner / np.sqrt(energy_a * energy_b))
    of_all = sum(one.energy() for one in a.updates.values())
    assert pair.energy_share_a == pytest.approx(energy_a / of_all)


def test_nothing_shared_is_no_cosine_and_no_share():
    pair = compare_pair(adapter(1, KEYS[:2]), adapter(2, KEYS[2:]))
    assert (pair.whole.cosine, pair.whole.n_modules, pair.parts) == (0.0, 0, {})
    assert (pair.energy_share_a, pair.energy_share_b) == (0.0, 0.0)


def test_a_zero_adapter_has_no_direction():
    zero = with_factors(adapter(1), lambda one: (one.lora_A, 0 * one.lora_B))
    pair = compare_pair(zero, adapter(2))
    assert (pair.whole.cosine, pair.whole.norm_a, pair.energy_share_a) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "tolerance"), [(turned, 1e-6), (padded, 1e-12), (folded, 1e-6), (halved, 3e-3)]
)
def test_how_a_file_writes_an_update_does_not_matter(change, tolerance):
    a, b = adapter(1), adapter(2)
    other = with_factors(a, change)
    assert compare_pair(a, other).whole.cosine == pytest.approx(1, abs=tolerance)
    before, after = compare_pair(a, b), compare_pair(other, b)
    scale = before.whole.norm_a * before.whole.norm_b
    assert after.whole.inner == pytest.approx(before.whole.inner, abs=tolerance * scale)
    for key in KEYS:
        overlap = before.modules[key].row_overlap
        assert after.modules[key].row_overlap == pytest.approx(overlap, abs=tolerance)


def test_row_overlap_is_that_of_orthonormal_bases():
    a, b = adapter(1, ranks=(3,)), adapter(2, ranks=(5,))
    for key, products in compare_pair(a, b).modules.items():
        q1, q2 = (np.linalg.qr(one.updates[key].lora_A.T.astype(np.float64))[0] for one in (a, b))
        expected = np.linalg.norm(q1.T @ q2) ** 2 / np.sqrt(15)
        assert products.row_overlap == pytest.approx(expected, rel=1e-9)


def test_dependent_rows_span_no_more():
    """A third row that is the sum of the others: the row space is still a plane."""
    key = KEYS[0]
    rng = np.random.default_rng(3)
    one = update(rng, key, 2)
    lora_A = np.concatenate([one.lora_A, one.lora_A.sum(axis=0, keepdims=True)])
    more = ModuleUpdate(key, lora_A, rng.standard_normal((24, 3), np.float32))
    pair = compare_pair(Adapter.of("a", [one]), Adapter.of("b", [more]))
    assert pair.modules[key].row_overlap == pytest.approx(1, abs=1e-6)


def test_a_shared_seed_shows_in_lora_a_and_not_in_the_update():
    rng = np.random.default_rng(3)
    a, b = adapter(1), adapter(2)
    seeded = Adapter.of(
        "b",
        [
            ModuleUpdate(key, one.lora_A + np.float32(0.01) * rng.standard_normal(
                one.lora_A.shape, np.float32), b.updates[key].lora_B)
            for key, one in a.updates.items()
        ],
    )  # fmt: skip
    pair = compare_pair(a, seeded)
    assert all(products.factor_cosine > 0.99 for products in pair.modules.values())
    assert abs(pair.whole.cosine) < 0.2
    assert all(abs(one.factor_cosine) < 0.5 for one in compare_pair(a, b).modules.values())
    other_rank = compare_pair(a, adapter(2, ranks=(3,)))
    assert all(one.factor_cosine is None for one in other_rank.modules.values())


def test_one_name_with_two_shapes_is_another_base_model():
    key = KEYS[0]
    rng = np.random.default_rng(0)
    wide = ModuleUpdate(
        key, rng.standard_normal((2, 30), np.float32), rng.standard_normal((24, 2), np.float32)
    )
    other = Adapter.of("sdxl", [wide])
    with pytest.raises(LayoutMismatchError, match=r"attn1.to_q.*\(24, 24\).*\(24, 30\)"):
        compare_pair(adapter(1), other)
    with pytest.raises(LayoutMismatchError, match=r"attn1.to_q.*\(24, 24\).*\(24, 30\)"):
        cross_products([adapter(1)], [other])


# ---------------------------------------------------------------- databases


@pytest.mark.parametrize("memory_bytes", [1, 60_000, 2**30])
@pytest.mark.parametrize("device", ["cpu", "cpu:0"], ids=["numpy", "torch"])
def test_mixed_adapters_equal_explicit_updates(memory_bytes, device):
    """`cpu:0` is torch's CPU: the same code as on a GPU."""
    left, right = mixed(9), mixed(6, seed=1)
    crossed = cross_products(left, right, memory_bytes=memory_bytes, device=device)
    among = cross_products(left, memory_bytes=memory_bytes, device=device)
    _check(crossed, left, right)
    _check(among, left, left)
    np.testing.assert_array_equal(among.inner(), among.inner().T)


def _check(crossed, left, right):
    for group in (None, "self_attention", "text_encoder", "feed_forward"):
        chosen = None if group is None else [group]
        inner, cosine = crossed.inner(chosen), crossed.cosine(chosen)
        coverage, shares = crossed.coverage(chosen), crossed.energy_share(chosen)
        for i, a in enumerate(left):
            for j, b in enumerate(right):
                keys = shared(a, b, lambda key: group in (None, a.updates[key].part))  # noqa: B023
                expected, energy_a, energy_b = explicit(a, b, keys)
                scale = np.sqrt(energy_a * energy_b)
                assert inner[i, j] == pytest.approx(expected, rel=0, abs=1e-6 * scale)
                assert cosine[i, j] == pytest.approx(expected / scale if keys else 0, abs=1e-6)
                assert coverage[i, j] == len(keys)
                of_a = sum(one.energy() for one in a.updates.values() if group in (None, one.part))
                assert shares[0][i, j] == pytest.approx(energy_a / of_a if of_a else 0, rel=1e-5)


def test_modules_without_a_group_are_left_out():
    left = mixed(4)
    crossed = cross_products(left, group=lambda key: "unet" if key.network == "unet" else None)
    assert set(crossed.sums) == {"unet"}
    assert all(key.network == "unet" for key in crossed.modules)
    only_unet = [Adapter.of(one.name, [u for u in one.updates.values() if u.key.network == "unet"])
                 for one in left]  # fmt: skip
    np.testing.assert_allclose(crossed.cosine(), cross_products(only_unet).cosine(), atol=1e-6)


def test_a_matrix_for_each_module_adds_up_to_the_whole():
    left = mixed(5)
    each = cross_products(left, group=str)
    assert set(each.sums) == {str(key) for key in KEYS}
    np.testing.assert_allclose(each.inner(), cross_products(left).inner(), rtol=1e-6, atol=1e-4)


def test_a_zero_adapter_among_others_is_zero_and_not_nan():
    zero = with_factors(adapter(1), lambda one: (one.lora_A, 0 * one.lora_B))
    cosine = cross_products([adapter(2), zero, adapter(3)]).cosine()
    np.testing.assert_array_equal(cosine[1], 0)
    np.testing.assert_array_equal(np.diagonal(cosine), [1, 0, 1])


def test_no_adapters_are_no_products():
    crossed = cross_products([], [adapter(1)])
    assert crossed.inner().shape == crossed.cosine().shape == (0, 1)


class Shelf(Sequence):
    """Loads an adapter when it is asked for, and knows how many are held at a time."""

    def __init__(self, n) -> None:
        self.n, self.loads, self.most = n, 0, 0
        self._held: list = []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index):
        if index >= self.n:
            raise IndexError(index)
        loaded = adapter(index)
        self._held = [ref for ref in self._held if ref() is not None] + [weakref.ref(loaded)]
        self.loads, self.most = self.loads + 1, max(self.most, len(self._held))
        return loaded


def test_a_database_out_of_core_is_held_two_blocks_at_a_time():
    shelf = Shelf(12)
    block = 3
    n_bytes = 2 * block * 4 * adapter(0).n_parameters
    crossed = cross_products(shelf, memory_bytes=n_bytes)
    assert shelf.most <= 2 * block
    assert shelf.loads == 12 + 9 + 6 + 3
    expected = cross_products([adapter(i) for i in range(12)])
    np.testing.assert_allclose(crossed.cosine(), expected.cosine(), atol=1e-6)


def test_stacks_of_any_ranks_are_cut_between_adapters():
    ranks = np.array([3, 1, 7, 2, 2, 9])
    stack = FactorStack(np.zeros((24, 5)), np.zeros((24, 4)), ranks)
    assert list(stack.parts(8)) == [slice(0, 2), slice(2, 3), slice(3, 5), slice(5, 6)]
    assert list(stack.parts(1)) == [slice(i, i + 1) for i in range(6)]
    assert stack_products(stack).shape == (6, 6)
