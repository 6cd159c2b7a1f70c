"""No image in two splits, no two sets too alike, no draw that depends on another."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorastyle.config import ProtocolConfig
from lorastyle.corpus.sampling import (
    draw_sets,
    least_shared,
    max_shared,
    sample_sets,
    split_images,
    spread_sets,
    stable_seed,
)
from lorastyle.errors import ConfigError
from lorastyle.records import Role, Split

SMALL = ProtocolConfig(
    train=4,
    calibration=1,
    val=2,
    test=2,
    query_calibration=2,
    query_val=3,
    query_test=3,
    images_per_adapter=4,
    images_per_query=2,
    reserved_val=6,
    reserved_test=6,
    max_overlap=0.5,
)
ART = ProtocolConfig(
    train=12,
    calibration=3,
    query_val=3,
    query_test=3,
    images_per_adapter=8,
    reserved_val=12,
    reserved_test=12,
)

seeds = st.integers(0, 2**32 - 1)


def works(n_works):
    return [f"monet/{number:03d}.png" for number in range(n_works)]


def overlaps(sets):
    return [len(set(one) & set(other)) for one, other in combinations(sets, 2)]


@given(st.integers(24, 80), seeds)
def test_no_image_is_shared_between_splits_and_none_is_lost(n_works, seed):
    splits = split_images("monet", works(n_works), SMALL, seed)
    assert sorted(image for images in splits.values() for image in images) == works(n_works)
    assert (len(splits[Split.VAL]), len(splits[Split.TEST])) == (6, 6)


@given(st.integers(24, 80), seeds)
def test_adapters_see_only_images_of_their_roles_split(n_works, seed):
    splits = split_images("monet", works(n_works), SMALL, seed)
    for role, sets in sample_sets("monet", splits, SMALL, seed).items():
        assert len(sets) == SMALL.count(role)
        for images in sets:
            assert len(set(images)) == SMALL.n_images(role)
            assert set(images) <= set(splits[role.image_split])


@given(st.integers(24, 80), seeds, st.sampled_from([0.5, 0.75, 1.0]))
def test_gallery_sets_share_at_most_what_is_allowed_and_none_are_equal(n_works, seed, max_overlap):
    protocol = SMALL.model_copy(update={"max_overlap": max_overlap})
    splits = split_images("monet", works(n_works), protocol, seed)
    sets = sample_sets("monet", splits, protocol, seed)
    assert max(overlaps(sets[Role.TRAIN])) <= min(max_overlap * 4, 3)
    assert all(len(set(of_role)) == len(of_role) for of_role in sets.values())


@given(st.permutations(works(30)), seeds)
def test_the_order_in_which_images_are_found_changes_nothing(shuffled, seed):
    assert split_images("monet", shuffled, SMALL, seed) == split_images(
        "monet", works(30), SMALL, seed
    )


def test_another_seed_or_artist_draws_other_images():
    draws = {
        split_images(artist, works(40), SMALL, seed)[Split.TRAIN]
        for artist, seed in product(("monet", "degas"), (0, 1))
    }
    assert len(draws) == 4


def test_more_queries_leave_the_gallery_as_it_was():
    more = SMALL.model_copy(update={"query_val": 5, "val": 3})
    splits = split_images("monet", works(40), SMALL, 0)
    before, after = sample_sets("monet", splits, SMALL, 0), sample_sets("monet", splits, more, 0)
    assert before[Role.TRAIN] == after[Role.TRAIN]
    assert before[Role.QUERY_TEST] == after[Role.QUERY_TEST]


@pytest.mark.parametrize("seed", range(5))
def test_the_papers_protocol_spreads_queries_over_all_reserved_images(seed):
    paper = ProtocolConfig()
    splits = split_images("monet", works(100), paper, seed)
    sets = sample_sets("monet", splits, paper, seed)
    assert max(overlaps(sets[Role.TRAIN])) <= 5
    assert overlaps(sets[Role.VAL]) == [5, 5, 5], "ten of fifteen cannot share less"
    assert set(overlaps(sets[Role.QUERY_VAL])) == {0}
    assert len({image for images in sets[Role.QUERY_TEST] for image in images}) == 15


@pytest.mark.parametrize("seed", range(10))
def test_twelve_sets_of_eight_are_found_among_nineteen_images(seed):
    """The scarcest artist of the real paintings: 43 works, 24 of them reserved."""
    splits = split_images("seurat", works(43), ART, seed)
    sets = sample_sets("seurat", splits, ART, seed)
    assert max(overlaps(sets[Role.TRAIN])) <= 4


def test_the_fano_plane_is_found():
    """Seven triples of seven points, each two with one point in common: exact and tight."""
    sets = draw_sets(7, 3, 7, 1, np.random.default_rng(0))
    assert sets is not None
    np.testing.assert_array_equal(sets @ sets.T, np.ones((7, 7)) + 2 * np.eye(7))


def test_where_the_bound_hardly_matters_sets_are_plain_random_ones():
    """Hypergeometric: two sets of 5 of 40 images share 5 * 5 / 40 on average."""
    rng = np.random.default_rng(0)
    drawn = [draw_sets(40, 5, 6, 4, rng) for _ in range(300)]
    shared = [(sets @ sets.T)[np.triu_indices(6, 1)].mean() for sets in drawn if sets is not None]
    assert np.mean(shared) == pytest.approx(5 * 5 / 40, abs=0.03)
    uses = np.sum([sets.sum(axis=0) for sets in drawn if sets is not None], axis=0)
    assert uses.min() > 0.8 * uses.mean()


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 6), seeds)
def test_no_sets_beat_the_lower_bound(n_images, size, count, seed):
    size = min(size, n_images)
    bound = least_shared(n_images, size, count)
    sets = spread_sets(n_images, size, count, np.random.default_rng(seed))
    if sets is None:
        assert bound >= size, "only where there are too few different sets"
    elif count > 1:
        shared = (sets @ sets.T)[np.triu_indices(count, 1)]
        assert bound <= shared.max() < size


@given(st.integers(3, 6), st.integers(1, 3), st.integers(2, 4))
def test_the_lower_bound_holds_for_every_choice_of_sets(n_images, size, count):
    every_set = [set(choice) for choice in combinations(range(n_images), size)]
    smallest = min(
        (max(overlaps(choice)) for choice in combinations(every_set, count)), default=size
    )
    assert least_shared(n_images, size, count) <= smallest


@pytest.mark.parametrize(
    ("size", "max_overlap", "expected"), [(10, 0.5, 5), (3, 0.5, 1), (10, 0.7, 7), (4, 1.0, 3)]
)
def test_a_share_of_a_set_is_rounded_down_and_never_the_whole(size, max_overlap, expected):
    assert max_shared(size, max_overlap) == expected


def test_too_few_works_are_refused_with_the_numbers():
    with pytest.raises(ConfigError, match=r"monet has 15 works and the protocol needs 16"):
        split_images("monet", works(15), SMALL, 0)


def test_an_impossible_overlap_is_refused_with_the_numbers_and_ways_out():
    protocol = SMALL.model_copy(update={"train": 12, "calibration": 1})
    splits = split_images("monet", works(18), protocol, 0)
    with pytest.raises(ConfigError) as refused:
        sample_sets("monet", splits, protocol, 0)
    assert str(refused.value) == (
        "monet has 6 train images, of which 12 sets of 4 sharing at most 2 cannot exist (some two "
        "share at least 3); lower protocol.train or protocol.images_per_adapter, raise "
        "protocol.max_overlap, or raise corpus.min_works"
    )


def test_sets_that_would_have_to_be_equal_are_refused():
    protocol = SMALL.model_copy(update={"reserved_val": 4})
    splits = split_images("monet", works(40), protocol, 0)
    with pytest.raises(ConfigError, match=r"4 val images, of which 2 sets of 4 .*reserved_val"):
        sample_sets("monet", splits, protocol, 0)


def test_sets_that_no_bound_forbids_but_are_not_found_say_so():
    """Eight points hold eight triples that meet in one point at most, by no simple count."""
    assert draw_sets(8, 3, 8, 1, np.random.default_rng(0)) is not None
    assert least_shared(8, 3, 9) == 1
    protocol = SMALL.model_copy(
        update={"train": 9, "images_per_adapter": 3, "max_overlap": 0.34, "images_per_query": 2}
    )
    splits = split_images("monet", works(20), protocol, 0)
    with pytest.raises(ConfigError, match="sharing at most 1 were not found in 40 attempts"):
        sample_sets("monet", splits, protocol, 0)


def test_a_role_without_adapters_has_no_sets():
    protocol = SMALL.model_copy(update={"query_val": 0})
    splits = split_images("monet", works(30), protocol, 0)
    assert sample_sets("monet", splits, protocol, 0)[Role.QUERY_VAL] == []


def test_stable_seeds_are_the_same_in_every_version():
    assert stable_seed(0, "monet-train-00") == 1320460880563163248
    assert all(0 <= stable_seed(number) < 2**63 for number in range(200))
    assert stable_seed("a", "b") != stable_seed("ab")
