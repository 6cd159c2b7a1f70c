"""The canonical order is what makes two adapter vectors comparable."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st

from lorastyle.adapters.layout import AdapterLayout, TargetModule
from lorastyle.adapters.targets import layout_of, sub_network_of, target_modules
from lorastyle.errors import BaseModelError, LayoutMismatchError
from lorastyle.records import SUB_NETWORKS

MODULES = [
    TargetModule("up.attn2.to_k", "cross_attention", 6, 7),
    TargetModule("up.attn1.to_q", "self_attention", 6, 5),
    TargetModule("down.ff.net.2", "feed_forward", 4, 8),
    TargetModule("down.attn1.to_q", "self_attention", 4, 4),
]


@pytest.fixture(scope="module")
def layout():
    return AdapterLayout.of_modules(2, MODULES)


@pytest.fixture(scope="module")
def stable_diffusion_unet():
    with torch.device("meta"):
        return UNet2DConditionModel(
            sample_size=64,
            cross_attention_dim=768,
            attention_head_dim=8,
            block_out_channels=(320, 640, 1280, 1280),
        )


def test_stable_diffusion_15_has_the_papers_dimensions(stable_diffusion_unet):
    layout = layout_of(stable_diffusion_unet, rank=16)
    assert layout.size == 5_984_256
    assert len(layout.modules) == 160
    assert layout.sub_network_size("feed_forward") == 2_795_520
    assert layout.sub_network_size("self_attention") == 1_597_440
    assert layout.sub_network_size("cross_attention") == 1_591_296


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_a_layout_of_one_sub_network_is_the_full_layouts_range(stable_diffusion_unet, sub_network):
    full = layout_of(stable_diffusion_unet, rank=16)
    alone = layout_of(stable_diffusion_unet, rank=16, sub_network=sub_network)
    assert alone.size == full.sub_network_size(sub_network)
    (part,) = full.columns(sub_network)
    inside = [entry for entry in full.entries if part.start <= entry.offset < part.stop]
    assert [entry.key for entry in alone.entries] == [entry.key for entry in inside]
    assert alone.columns("full") == alone.columns(sub_network) == [slice(0, alone.size)]


def test_the_order_is_sub_network_then_name_then_a_before_b(layout):
    assert [entry.name for entry in layout.entries] == [
        "down.attn1.to_q.lora_A",
        "down.attn1.to_q.lora_B",
        "up.attn1.to_q.lora_A",
        "up.attn1.to_q.lora_B",
        "up.attn2.to_k.lora_A",
        "up.attn2.to_k.lora_B",
        "down.ff.net.2.lora_A",
        "down.ff.net.2.lora_B",
    ]


@given(st.permutations(MODULES))
def test_the_layout_does_not_depend_on_the_order_of_construction(modules):
    permuted, sorted_layout = (AdapterLayout.of_modules(2, m) for m in (modules, MODULES))
    assert permuted == sorted_layout
    assert permuted.hash() == sorted_layout.hash()


def test_entries_tile_the_vector_and_sub_networks_tile_the_entries(layout):
    assert layout.entries[0].offset == 0
    assert all(a.stop == b.offset for a, b in pairwise(layout.entries))
    parts = [part for name in SUB_NETWORKS for part in layout.columns(name)]
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == layout.size == sum(map(layout.sub_network_size, SUB_NETWORKS))


def test_flatten_and_unflatten_are_inverse(layout):
    vector = np.random.default_rng(0).standard_normal(layout.size).astype(np.float32)
    factors = layout.unflatten(vector)
    assert factors["down.ff.net.2", "B"].shape == (4, 2)
    np.testing.assert_array_equal(layout.flatten(factors), vector)


def test_flatten_by_hand():
    layout = AdapterLayout.of_modules(1, [TargetModule("m.attn1.to_q", "self_attention", 2, 3)])
    factors = {
        ("m.attn1.to_q", "B"): np.array([[4.0], [5.0]]),
        ("m.attn1.to_q", "A"): np.array([[1.0, 2.0, 3.0]]),
    }
    assert layout.flatten(factors).tolist() == [1, 2, 3, 4, 5]


def test_unflatten_keeps_leading_axes(layout):
    rows = np.arange(3 * layout.size, dtype=np.float32).reshape(3, -1)
    stacked = layout.unflatten(rows)
    for key, factor in layout.unflatten(rows[1]).items():
        np.testing.assert_array_equal(stacked[key][1], factor)


def test_a_layout_survives_json(layout):
    again = AdapterLayout.from_dict(json.loads(json.dumps(layout.to_dict())))
    assert again == layout
    assert again.hash() == layout.hash()


def test_rank_and_shapes_are_part_of_the_identity(layout):
    assert AdapterLayout.of_modules(3, MODULES).hash() != layout.hash()


def test_a_permuted_layout_is_refused(layout):
    values = layout.to_dict()
    values["entries"] = values["entries"][::-1]
    with pytest.raises(LayoutMismatchError, match="not a canonical layout"):
        AdapterLayout.from_dict(values)


def test_an_empty_layout_is_refused():
    with pytest.raises(LayoutMismatchError, match="0 factors"):
        AdapterLayout.of_modules(4, [])


def test_a_layout_of_another_version_is_refused(layout):
    with pytest.raises(LayoutMismatchError, match="version 99"):
        AdapterLayout.from_dict({**layout.to_dict(), "version": 99})


def test_extra_and_missing_factors_are_named_with_both_counts(layout):
    factors = layout.unflatten(np.zeros(layout.size, np.float32))
    factors["up.attn9.to_q", "A"] = factors.pop(("up.attn1.to_q", "B"))
    factors["up.attn9.to_q", "B"] = factors["up.attn9.to_q", "A"]
    with pytest.raises(LayoutMismatchError) as caught:
        layout.flatten(factors, name="adapter 'monet-017'")
    message = str(caught.value)
    assert "adapter 'monet-017' has 9 factors, the layout 8" in message
    assert "first extra: 'up.attn9.to_q.lora_A'" in message
    assert "first missing: 'up.attn1.to_q.lora_B'" in message


def test_a_factor_of_another_rank_is_named_with_both_shapes(layout):
    factors = layout.unflatten(np.zeros(layout.size, np.float32))
    factors["up.attn1.to_q", "A"] = np.zeros((3, 5), np.float32)
    with pytest.raises(LayoutMismatchError, match=r"lora_A.*\(3, 5\).*\(2, 5\)"):
        layout.flatten(factors)


def test_a_vector_of_another_length_is_refused(layout):
    with pytest.raises(LayoutMismatchError, match=f"7 parameters, the layout {layout.size}"):
        layout.unflatten(np.zeros(7, np.float32))


def test_an_unknown_sub_network_is_refused(layout, stable_diffusion_unet):
    with pytest.raises(LayoutMismatchError, match="no sub-network 'attention'"):
        layout.columns("attention")
    with pytest.raises(LayoutMismatchError, match="no sub-network 'attention'"):
        target_modules(stable_diffusion_unet, "attention")


def test_a_sub_network_the_layout_leaves_out_has_no_columns(stable_diffusion_unet):
    layout = layout_of(stable_diffusion_unet, 4, "feed_forward")
    assert layout.columns("self_attention") == []
    assert layout.sub_network_size("self_attention") == 0


def test_projections_around_the_transformer_are_no_targets():
    with pytest.raises(LayoutMismatchError, match="in no sub-network"):
        sub_network_of("down_blocks.0.attentions.0.proj_in")


def test_a_network_without_transformer_blocks_is_refused():
    with pytest.raises(BaseModelError, match="0 Linear layers"):
        layout_of(torch.nn.Sequential(torch.nn.Linear(2, 2)), rank=4)
