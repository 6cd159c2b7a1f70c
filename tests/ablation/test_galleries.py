"""Smaller databases: so many of each artist, and nothing else that differs."""

from __future__ import annotations

import pytest

from lorastyle.ablation.galleries import gallery_sizes, gallery_table, largest_gallery
from lorastyle.embedding.style_space import split_rows
from lorastyle.records import UNLABELLED
from tests.evaluation.conftest import make_table

N_CALIBRATION = 2
TASKS = ("clustering", "retrieval")


@pytest.mark.parametrize("task", TASKS)
def test_m_adapters_an_artist_are_fitted_on_and_the_same_ones_calibrate(task):
    table = make_table()
    _, calibration = split_rows(table, task, N_CALIBRATION)
    whole = {"clustering": 4, "retrieval": 6}[task]
    assert largest_gallery(table, task, N_CALIBRATION) == whole
    for m in range(1, whole):
        smaller = gallery_table(table, task, N_CALIBRATION, m, draw=0)
        fit, calibrates = split_rows(smaller, task, N_CALIBRATION)
        artists = table.set_index("row").loc[fit, "artist"]
        assert dict(artists.value_counts()) == dict.fromkeys(table["artist"].unique(), m)
        assert calibrates.tolist() == calibration.tolist()
        gone = table[~table["row"].isin(smaller["row"])]
        assert set(gone["role"]) == {"train"}
    assert gallery_table(table, task, N_CALIBRATION, whole, draw=0).equals(table)


def test_draws_are_seeded_different_and_nested():
    table = make_table()

    def drawn(m, draw):
        return set(gallery_table(table, "retrieval", N_CALIBRATION, m, draw)["row"])

    assert drawn(3, 0) == drawn(3, 0) != drawn(3, 1)
    for draw in range(3):
        assert drawn(1, draw) < drawn(2, draw) < drawn(5, draw)


def test_artists_with_fewer_keep_all_and_the_unlabelled_stay():
    table = make_table()
    table = table[~((table["artist"] == "artist1") & (table["index"] > 0))]
    table.loc[(table["artist"] == "artist2") & (table["role"] == "train"), "artist"] = UNLABELLED
    smaller = gallery_table(table, "retrieval", N_CALIBRATION, 3, draw=0)
    counts = smaller[smaller["role"] == "train"]["artist"].value_counts()
    assert dict(counts) == {"artist0": 3, "artist1": 1, "artist3": 3, UNLABELLED: 6}


def test_sizes_end_with_all_adapters_of_each_task():
    assert gallery_sizes({"clustering": 6, "retrieval": 9}) == (1, 2, 3, 4, 6, 9)
    assert gallery_sizes({"clustering": 0, "retrieval": 1}) == (1,)
