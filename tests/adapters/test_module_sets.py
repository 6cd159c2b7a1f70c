"""What expressions of sub-networks mean in Stable Diffusion, counted by hand."""

import fnmatch
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorastyle.adapters.family import family_modules
from lorastyle.adapters.layout import TargetModule
from lorastyle.adapters.module_sets import atoms, expand, modules_of, share
from lorastyle.adapters.targets import layout_of
from lorastyle.base.loading import load_base
from lorastyle.records import SUB_NETWORKS
from lorastyle.sub_networks import FAMILIES
from lorastyle.sub_networks import NAMES as NAMES_OF_ALL

SD1 = family_modules("sd1")
SDXL = family_modules("sdxl")
BLOCK = "mid_block.attentions.0.transformer_blocks.0"

# 16 transformer blocks of 10 modules: 2 each in down.0-2, 3 each in up.1-3, 1 in the middle.
IN_SD1 = {
    "full": 160,
    "self_attention": 64,
    "cross_attention": 64,
    "attention": 128,
    "feed_forward": 32,
    "down": 60,
    "mid": 10,
    "up": 90,
    "down.0": 20,
    "down.2": 20,
    "down.3": 0,
    "up.0": 0,
    "up.1": 30,
    "up.3": 30,
    "res1": 50,
    "res2": 50,
    "res4": 50,
    "res8": 10,
    "res16": 0,
    "to_q": 32,
    "to_k": 32,
    "to_v": 32,
    "to_out": 32,
    "ff_in": 16,
    "ff_out": 16,
    "full-cross_attention": 96,
    "full-up+mid": 70,
    "mid+full-up": 70,
    "full-mid+mid": 160,
    "up&to_v": 18,
    "up&to_v&self_attention+mid": 19,
    "full-up&to_v": 142,
    f"{BLOCK}.ff.net.2": 1,
    f"{BLOCK}.ff.net.3": 0,
    f"{BLOCK}.*": 10,
    "*.attn1.*&down_blocks.*.to_q": 6,
    "up-full": 0,
}
# Of 70 blocks: 2 x 2 in down.1, 2 x 10 in down.2, 10 in the middle, 3 x 10 in up.0, 3 x 2 in up.1.
IN_SDXL = {
    "full": 700,
    "down.0": 0,
    "down.1": 40,
    "down.2": 200,
    "mid": 100,
    "up.0": 300,
    "up.1": 60,
    "up.2": 0,
    "res1": 0,
    "res2": 100,
    "res4": 600,
    "res8": 0,
    "to_q": 140,
    "ff_in": 70,
}


@pytest.mark.parametrize(("expression", "n_modules"), IN_SD1.items())
def test_counts_in_stable_diffusion_1(expression, n_modules):
    assert len(modules_of(expression, SD1)) == n_modules


@pytest.mark.parametrize(("expression", "n_modules"), IN_SDXL.items())
def test_counts_in_sdxl(expression, n_modules):
    assert len(modules_of(expression, SDXL)) == n_modules


def test_resolutions_are_of_blocks_that_face_each_other():
    assert set(modules_of("res1", SD1)) == set(modules_of("down.0+up.3", SD1))
    assert set(modules_of("res4", SD1)) == set(modules_of("down.2+up.1", SD1))
    assert modules_of("res8", SD1) == modules_of("mid", SD1)
    assert set(modules_of("res4", SDXL)) == set(modules_of("down.2+mid+up.0", SDXL))


@pytest.mark.parametrize(
    "part", ["feed_forward", "cross_attention&to_k", "ff_in", "self_attention"]
)
def test_an_adapter_of_some_modules_has_the_same_resolutions(part):
    names = set(modules_of(part, SD1))
    targets = [target for target in SD1 if target.name in names]
    for level in ("res1", "res2", "res4", "res8"):
        assert set(modules_of(level, targets)) == set(modules_of(level, SD1)) & names


def test_the_miniature_is_shared_out_by_every_family():
    # 48 channels wide, and 96 in the middle; only the outer blocks have attention.
    targets = layout_of(load_base("miniature").unet, 4).targets
    assert set(modules_of("res1", targets)) == set(modules_of("down.0+up.1", targets))
    assert modules_of("res2", targets) == modules_of("mid", targets) != ()
    for family in FAMILIES:
        parts = [modules_of(name, targets) for name in expand([family], targets)]
        assert sorted(sum(parts, ())) == sorted(target.name for target in targets)


@pytest.mark.parametrize("targets", [SD1, SDXL])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_members_of_a_family_share_out_all_modules(family, targets):
    parts = [modules_of(name, targets) for name in expand([family], targets)]
    assert all(parts)
    assert sorted(sum(parts, ())) == sorted(target.name for target in targets)


def test_families_have_the_members_that_the_layout_has():
    assert expand(["by-sub-network"], SD1) == SUB_NETWORKS
    assert expand(["by-block", "up", " full - up "], SD1) == ("down", "mid", "up", "full-up")
    assert expand(["by-level"], SD1) == (
        "down.0",
        "down.1",
        "down.2",
        "mid",
        "up.1",
        "up.2",
        "up.3",
    )
    assert expand(["by-level"], SDXL) == ("down.1", "down.2", "mid", "up.0", "up.1")
    assert expand(["by-resolution"], SDXL) == ("res2", "res4")
    assert expand(["by-projection"], SD1[:1]) == ("to_q",)
    assert expand(["by-module"], SD1) == tuple(target.name for target in SD1)
    # What somebody wrote stays, and means nothing here.
    assert expand(["res1", "mid"], SDXL) == ("res1", "mid")


def test_names_without_blocks_have_no_level():
    targets = [TargetModule("block0.attn1.to_q", "self_attention", 9, 11)]
    assert modules_of("down+mid+up+res1", targets) == ()
    assert modules_of("to_q", targets) == ("block0.attn1.to_q",)
    assert expand(["by-level", "by-resolution", "by-block"], targets) == ()


def test_modules_come_in_the_order_of_the_layout():
    backwards = SD1[::-1]
    assert modules_of("mid+down", backwards) == modules_of("down+mid", SD1)[::-1]


@given(
    st.text("ab.*", min_size=1, max_size=8).filter(lambda text: "*" in text),
    st.text("ab.", max_size=10),
)
def test_patterns_are_those_of_fnmatch(pattern, name):
    targets = [TargetModule(name, "feed_forward", 1, 1)]
    assert bool(modules_of(pattern, targets)) == fnmatch.fnmatchcase(name, pattern)


def test_many_stars_take_no_time():
    targets = [TargetModule("a" * 500, "feed_forward", 1, 1)]
    assert modules_of("*a" * 99 + "*b", targets) == ()


def test_shares_are_of_parameters():
    # A block of width w reads texts of 768: self-attention 8 w, cross-attention 6 w + 2 * 768,
    # the feed-forward 9 w + 5 w. Widths: 5 blocks each of 320, 640, 1280, and one of 1280.
    widths = 5 * (320 + 640 + 1280) + 1280
    total = 28 * widths + 16 * 2 * 768
    assert share("full", SD1) == 1
    assert share("self_attention", SD1) == pytest.approx(8 * widths / total)
    assert share("feed_forward", SD1) == pytest.approx(14 * widths / total)
    assert share("mid", SD1) == pytest.approx((28 * 1280 + 2 * 768) / total)
    assert share("res16", SD1) == 0
    assert share("full", []) == 0


NAMES = st.sampled_from(
    ["full", *SUB_NETWORKS, "up", "mid", "down.1", "res2", "to_q", "to_v", "ff_in", "*.attn1.*"]
)


@st.composite
def expressions(draw) -> str:
    terms = draw(st.lists(st.lists(NAMES, min_size=1, max_size=2), min_size=1, max_size=3))
    signs = draw(st.lists(st.sampled_from("+-"), min_size=len(terms) - 1, max_size=len(terms) - 1))
    words = ["&".join(term) for term in terms]
    return words[0] + "".join(sign + word for sign, word in zip(signs, words[1:], strict=True))


@given(st.lists(expressions(), max_size=4))
def test_atoms_are_the_coarsest_partition_of_which_all_expressions_are_unions(wanted):
    found = atoms(wanted, SD1)
    assert sorted(sum(found, ())) == sorted(target.name for target in SD1)
    place = {target.name: number for number, target in enumerate(SD1)}
    assert [list(atom) for atom in found] == [sorted(atom, key=place.get) for atom in found]
    unions = [set(modules_of(expression, SD1)) for expression in (*wanted, *SUB_NETWORKS)]
    for union in unions:
        assert all(union >= set(atom) or not union & set(atom) for atom in found)
    # Coarsest: some expression or sub-network tells any two atoms apart.
    kinds = [tuple(atom[0] in union for union in unions) for atom in found]
    assert len(set(kinds)) == len(kinds)


def test_atoms_of_nothing_are_the_sub_networks():
    assert [len(atom) for atom in atoms([], SD1)] == [64, 64, 32]
    assert len(atoms(expand(["by-module"], SDXL), SDXL)) == 700


def test_the_tables_of_the_documentation_are_right():
    text = (Path(__file__).parents[2] / "docs" / "sub-networks.md").read_text()
    lines = re.findall(r"^\| `(\S+)` \| .* \| (\d+) \| ([\d,]+) \| ([\d.]+) \|$", text, re.M)
    sizes = {target.name: 16 * (target.in_features + target.out_features) for target in SD1}
    said = {
        name: (int(n), int(size.replace(",", "")), float(part)) for name, n, size, part in lines
    }
    assert set(NAMES_OF_ALL) <= said.keys() and len(said) > 30
    for name, (n_modules, n_parameters, part) in said.items():
        modules = modules_of(name, SD1)
        assert len(modules) == n_modules
        assert sum(sizes[module] for module in modules) == n_parameters
        assert share(name, SD1) == pytest.approx(part, abs=5e-4)
    wanted = {
        "the four of the paper": ("full", *SUB_NETWORKS),
        "`by-block`": ["by-block"],
        "`by-projection`": ["by-projection"],
        "`by-level`": ["by-level"],
        "all families but `by-module`": FAMILIES[:-1],
        "`by-module`": ["by-module"],
    }
    for name, entries in wanted.items():
        found = re.search(rf"^\| {name} \|[^|]*\| (\d+) \| (\d+) \|$", text, re.M)
        assert found is not None
        counts = tuple(len(atoms(expand(entries, model), model)) for model in (SD1, SDXL))
        assert tuple(map(int, found.groups())) == counts
