"""Specs in a fixed, balanced order."""

from __future__ import annotations

import numpy as np
import pytest

from lorastyle.config import parse_experiment
from lorastyle.corpus.planning import (
    choose_artists,
    make_catalogue,
    make_specs,
    overlap_statistics,
)
from lorastyle.corpus.works import Work
from lorastyle.errors import ConfigError, CorpusError
from lorastyle.records import AdapterSpec, Role

ARTISTS = ("monet", "degas", "hokusai")
PROTOCOL = {
    "train": 4,
    "calibration": 1,
    "val": 2,
    "test": 1,
    "query_calibration": 1,
    "query_val": 2,
    "query_test": 1,
    "images_per_adapter": 4,
    "images_per_query": 2,
    "reserved_val": 6,
    "reserved_test": 6,
}


def works_of(counts):
    return [
        Work(
            f"{artist}/{n:03d}.png", f"{artist}/{n:03d}.png", artist, "g", "c", f"{artist}{n}", 8, 8
        )
        for artist, n_works in counts.items()
        for n in range(n_works)
    ]


def experiment(**sections):
    return parse_experiment({"protocol": PROTOCOL, **sections})


def planned(artists=ARTISTS, **sections):
    chosen = experiment(**sections)
    catalogue = make_catalogue(works_of(dict.fromkeys(artists, 30)), chosen)
    return chosen, catalogue, make_specs(catalogue, chosen)


def test_any_prefix_of_the_plan_is_balanced_over_artists():
    _, _, specs = planned()
    assert [spec.row for spec in specs] == list(range(3 * 11))
    for n in range(len(specs)):
        counts = [sum(spec.artist == artist for spec in specs[:n]) for artist in ARTISTS]
        assert max(counts) - min(counts) <= 1
    roles = [list(Role).index(spec.role) for spec in specs]
    assert roles == sorted(roles)
    assert specs[0].adapter_id == "degas-train-00"


def test_the_order_of_artists_changes_no_adapter():
    assert planned(ARTISTS)[2] == planned(ARTISTS[::-1])[2]


def test_another_artist_changes_no_adapter_but_its_row():
    def by_id(specs):
        return {s.adapter_id: (s.image_ids, s.noise_seed, s.token, s.init_seed) for s in specs}

    few, more = by_id(planned()[2]), by_id(planned((*ARTISTS, "aachen"))[2])
    assert few.items() <= more.items()


def test_no_image_is_shared_between_gallery_and_held_out_adapters():
    _, _, specs = planned()
    seen = {
        split: {i for spec in specs if spec.role.image_split == split for i in spec.image_ids}
        for split in ("train", "val", "test")
    }
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_the_catalogue_says_which_split_an_images_adapters_have():
    _, catalogue, specs = planned()
    split_of = dict(zip(catalogue["image_id"], catalogue["split"], strict=True))
    assert all(split_of[i] == spec.role.image_split for spec in specs for i in spec.image_ids)
    assert catalogue["image_id"].is_unique
    assert catalogue["image_id"].is_monotonic_increasing


def test_noise_seeds_and_tokens_are_each_adapters_own():
    _, _, specs = planned()
    assert len({spec.noise_seed for spec in specs}) == len(specs)
    assert len({spec.token for spec in specs}) == len(specs)
    assert all(0 <= spec.noise_seed < 2**63 for spec in specs)


def test_adapters_share_an_initialisation_unless_it_is_independent():
    assert {spec.init_seed for spec in planned(training={"init_seed": 9})[2]} == {9}
    independent = planned(training={"initialisation": "independent"})[2]
    assert len({spec.init_seed for spec in independent}) == len(independent)


def test_without_identifiers_tokens_are_empty():
    assert {spec.token for spec in planned(training={"identifier": False})[2]} == {""}


def test_a_spec_survives_plain_values():
    spec = planned()[2][5]
    assert AdapterSpec.from_dict(spec.to_dict()) == spec


def test_an_artist_of_several_genres_has_the_commonest():
    works = works_of(dict.fromkeys(ARTISTS, 30))
    genres = ["z", "z", "a"]
    works = [
        Work(**{**vars(work), "genre": genres[number % 3]}) for number, work in enumerate(works)
    ]
    chosen = experiment()
    assert {spec.genre for spec in make_specs(make_catalogue(works, chosen), chosen)} == {"z"}


def test_artists_with_too_few_works_are_left_out_and_named():
    works, left_out = choose_artists(works_of({"a": 9, "b": 12, "c": 10}), min_works=10)
    assert {work.artist for work in works} == {"b", "c"}
    assert [(item.file, item.reason) for item in left_out] == [
        ("a/", "9 usable works, fewer than min_works=10")
    ]


def test_the_artists_with_most_works_are_kept():
    counts = {"a": 10, "b": 12, "c": 11, "d": 12}
    works, left_out = choose_artists(works_of(counts), min_works=1, n_artists=3)
    assert {work.artist for work in works} == {"b", "c", "d"}
    assert "n_artists=3 are kept" in left_out[0].reason


def test_an_unknown_artist_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"'dali', of whom there is no usable image; .* a, b"):
        choose_artists(works_of({"a": 9, "b": 9}), min_works=1, artists=("a", "dali"))


def test_one_artist_is_not_enough():
    with pytest.raises(
        CorpusError, match=r"1 of 2 artists can be used, .* lower corpus\.min_works"
    ):
        choose_artists(works_of({"a": 9, "b": 19}), min_works=10)


def test_overlap_statistics_of_three_hand_made_sets():
    _, _, specs = planned()
    sets = (("1", "2", "3", "4"), ("3", "4", "5", "6"), ("4", "7", "8", "9"))
    made = [
        AdapterSpec(**{**vars(spec), "artist": "x", "role": Role.TRAIN, "image_ids": images})
        for spec, images in zip(specs, sets, strict=False)
    ]
    # Pairs share 2, 1 and 1 of 4; the nearest neighbours share 2, 2 and 1.
    assert overlap_statistics(made) == {
        "mean": pytest.approx(1 / 3, abs=1e-4),
        "max": 0.5,
        "mean_nearest": pytest.approx(5 / 12, abs=1e-4),
    }
    assert overlap_statistics(made[:1]) == {}


def test_the_papers_sets_overlap_about_as_the_paper_says():
    """Section 3: "only 39% on average and 50% at most", with 100 works or more an artist.

    Pairs of random sets of 10 of 70 images share 14%; the set most like a given
    one shares a good third. The paper's average fits the latter, which it does not say.
    """
    paper = parse_experiment({})
    catalogue = make_catalogue(works_of({"a": 100, "b": 100, "c": 100}), paper)
    statistics = overlap_statistics(make_specs(catalogue, paper))
    assert statistics["max"] <= 0.5
    assert statistics["mean"] == pytest.approx(10 / 70, abs=0.02)
    assert statistics["mean_nearest"] == pytest.approx(0.39, abs=0.06)
    assert np.isfinite(list(statistics.values())).all()
