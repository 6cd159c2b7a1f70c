import numpy as np
import pandas as pd
import pytest

from lorastyle.evaluation.comparison import paired_differences
from lorastyle.evaluation.intervals import bootstrap_means
from lorastyle.evaluation.retrieval import SCORES

ARTISTS = np.repeat([f"artist{i}" for i in range(12)], 4)


def lines(values, role="query_test", calibrated=True, order=None, **names):
    """Queries of one method, by default in the order of the artists."""
    order = np.arange(len(values)) if order is None else order
    return pd.DataFrame(
        {
            "adapter_id": [f"query{i}" for i in order],
            "artist": ARTISTS[order],
            "role": role,
            "calibrated": calibrated,
            **names,
            **{
                name: np.asarray(values)[order] * factor
                for name, factor in zip(SCORES.values(), (1, 2, 3), strict=True)
            },
        }
    )


OURS = {"representation": "factors", "sub_network": "full"}


def test_differences_are_query_by_query_whatever_the_order():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((2, 48)) / 3
    table = pd.concat(
        [
            lines(ours, **OURS),
            lines(theirs, feature="clip", scenario="orig_orig", order=rng.permutation(48)),
            lines(theirs + 0.5, feature="clip", scenario="gen_gen"),
            lines(ours, **OURS, role="query_val"),
        ],
        ignore_index=True,
    )
    alike, generated = paired_differences(table, "factors/full", "query_test")
    assert (alike["method"], alike["scenario"], alike["n_queries"]) == ("clip", "orig_orig", 48)
    assert alike["map"] == pytest.approx((ours - theirs).mean())
    assert alike["recall_at_k"] == pytest.approx(3 * (ours - theirs).mean())
    expected = bootstrap_means((ours - theirs)[:, None], ARTISTS)[0]
    np.testing.assert_allclose(alike["ci"]["map"], expected)
    assert generated["scenario"] == "gen_gen"
    assert generated["map"] == pytest.approx((ours - theirs).mean() - 0.5)


def test_a_small_steady_difference_is_seen_through_artists_that_differ_much():
    rng = np.random.default_rng(1)
    easy = np.repeat(rng.random(12), 4)
    other = {"representation": "delta", "sub_network": "full"}
    both = easy + 0.02, easy + 0.01 * rng.normal(size=48)
    table = pd.concat([lines(both[0], **OURS), lines(both[1], **other)], ignore_index=True)
    (found,) = paired_differences(table, "factors/full", "query_test")
    low, high = found["ci"]["map"]
    assert 0 < low < 0.02 < high + 0.01
    alone = [bootstrap_means(each[:, None], ARTISTS)[0] for each in both]
    assert alone[0][0] < alone[1][1]
    assert "scenario" not in found


def test_of_what_is_uncalibrated_there_is_the_setting_itself():
    values = np.linspace(0, 1, 48)
    other = {"representation": "delta", "sub_network": "full"}
    table = pd.concat(
        [
            lines(values, **OURS),
            lines(values / 2, **OURS, calibrated=False),
            lines(values, **other),
            lines(values / 2, **other, calibrated=False),
        ],
        ignore_index=True,
    )
    found = paired_differences(table, "factors/full", "query_test")
    assert [one["method"] for one in found] == ["factors/full, uncalibrated", "delta/full"]


def test_queries_that_cannot_be_answered_are_left_out():
    values = np.where(np.arange(48) < 4, np.nan, 0.5)
    table = pd.concat([lines(values, **OURS), lines(values, feature="clip")], ignore_index=True)
    (found,) = paired_differences(table, "factors/full", "query_test")
    assert found["n_queries"] == 44
    one_artist = table[table["artist"] == "artist1"]
    assert paired_differences(one_artist, "factors/full", "query_test") == []
    assert paired_differences(table, "delta/full", "query_test") == []
