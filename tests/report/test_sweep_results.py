"""A sweep's results: each setting finds what was chosen of it."""

import pandas as pd

from lorastyle.report.sweep_results import Setting, SweepResults, leading, paper_order

VARIANTS = (
    (4, "trained", "factors"),
    (4, "trained", "delta"),
    (8, "trained", "delta"),
    (16, "trained", "delta"),
    (2, "truncated", "delta"),
    (8, "truncated", "delta-aligned"),
)


def test_every_setting_finds_its_own_line_of_the_results(tables):
    results, best = tables.sweep(variants=VARIANTS, own_rank=8, forms=("simple", "full"))
    swept = SweepResults(results, best)
    assert swept.own_rank == 8
    assert len(swept.settings) == len(VARIANTS) * 4 == len(best["settings"])
    for (key, entry), setting in zip(best["settings"].items(), swept.settings, strict=True):
        assert swept.key(setting) == key
        for task, column in (("clustering", "ari_mean"), ("retrieval", "map")):
            choice = swept.choice(setting, task)
            assert choice.n_components == entry[task]["n_components"]
            assert choice.argmax == entry[task]["argmax"]["n_components"]
            score = "ari" if task == "clustering" else "map"
            assert choice.score(score) == entry[task]["validation"][column]
            assert choice.largest(score) == entry[task]["argmax"][column]


def test_adapters_of_any_rank_have_no_rank_and_keys_without_one(tables):
    results, best = tables.sweep()
    results = results.assign(rank=pd.array([pd.NA] * len(results), "Int64"), rank_method="ingested")
    for point in best["best"].values():
        point.update(rank=None, rank_method="ingested")
    swept = SweepResults(results, best)
    assert swept.settings[0] == Setting(None, "ingested", "delta", "full")
    assert swept.own_rank is None
    assert swept.winner("clustering") == Setting(None, "ingested", "delta", "feed_forward")
    assert all(swept.choice(setting, "retrieval") for setting in swept.settings)


def test_what_has_no_scores_has_no_choice(tables):
    results, best = tables.sweep()
    del best["settings"]["delta/full"]["retrieval"], best["best"]["retrieval"]
    swept = SweepResults(results, best)
    assert swept.choice(swept.settings[0], "clustering") is not None
    assert swept.choice(swept.settings[0], "retrieval") is None
    assert swept.winner("retrieval") is None


def test_the_best_of_both_tasks_come_first_in_turn(tables):
    results, best = tables.sweep({"full": 0.9, "up": 0.8, "down": 0.7})
    # For retrieval the order is turned round.
    for key, gain in (("down", 0.5), ("up", 0.3), ("full", 0.1)):
        results.loc[results["sub_network"] == key, "map"] = gain
    swept = SweepResults(results, best)
    found = [one.sub_network for one in leading(swept, swept.settings)]
    assert found == ["full", "down", "up"]


def test_the_papers_sub_networks_come_first():
    assert paper_order(["up", "cross_attention", "full", "up", "down"]) == [
        "full",
        "cross_attention",
        "up",
        "down",
    ]
