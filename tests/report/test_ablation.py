"""The ablation table: the numbers of the results, marked and cut as it says."""

import csv
from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorastyle.report.ablation import N_BEST, ablation_csv, ablation_markdown

VARIANTS = (
    (4, "trained", "factors"),
    (4, "trained", "delta"),
    (8, "trained", "delta"),
    (2, "truncated", "delta"),
)


def lines_of(markdown: str) -> list[list[str]]:
    """Cells of the table's lines, the heading first."""
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return [cells[0], *cells[2:]]


def test_every_cell_is_worked_out_by_hand(tables):
    # The hill of `full` is 0.86 - 0.012 at 6 components; two counts down it is 0.008 lower.
    table = lines_of(ablation_markdown(*tables.sweep(), 8))
    assert table[0] == [
        *("Sub-network", "Share", "PCs", "ARI", "NMI", "train ARI", "paper's"),
        *("PCs", "mAP", "Recall@8"),
    ]
    assert table[1] == [
        *("full network", "d", "4 (6)", "84.0 ± 2.5", "89.0 ± 1.0", "91.0 ± 2.0", "96.0"),
        *("6", "64.8", "54.8"),
    ]
    assert table[2] == [
        *("feed-forward", "0.46 d", "**5 (7)**", "**86.0 ± 2.5**", "**91.0 ± 1.0**"),
        *("**93.0 ± 2.0**", "97.5", "**7**", "**66.8**", "**56.8**"),
    ]
    assert [row[0] for row in table[3:]] == ["self-attention", "cross-attention"]
    assert [row[6] for row in table[3:]] == ["94.4", "85.6"]


def test_it_says_what_was_tried_and_what_the_rule_passed_over(tables):
    text = ablation_markdown(*tables.sweep(variants=VARIANTS, forms=("simple", "full")))
    assert (
        "16 settings of factors and ΔW; trained at ranks 4 and 8; cut by SVD from rank 4 to rank 2."
        in text
    )
    assert "the smallest PC count within one standard error of the best." in text
    assert (
        "Best for clustering: ΔW, rank 8, feed-forward, simple calibration, 5 components "
        "(ARI 86.4 ± 2.5 %); "
        "the largest score alone, 87.2 %, would have taken 7." in text
    )
    assert (
        "Best for retrieval: ΔW, rank 8, feed-forward, simple calibration, 7 components "
        "(mAP 67.2 %), which is also the largest score." in text
    )
    assert "base model and data are others" in text


def test_columns_that_say_the_same_of_each_line_are_left_out(tables):
    table = lines_of(ablation_markdown(*tables.sweep(variants=VARIANTS[1:3])))
    assert "Rank" in table[0]
    assert "Representation" not in table[0] and "Calibration" not in table[0]
    assert [row[1] for row in table[1:]] == ["4"] * 4 + ["8"] * 4


def test_the_papers_numbers_stand_beside_its_four_and_not_beside_cut_updates(tables):
    peaks = {"full": 0.9, "up": 0.8}
    table = lines_of(ablation_markdown(*tables.sweep(peaks=peaks, variants=VARIANTS)))
    place = table[0].index("paper's")
    assert [row[place] for row in table[1:]] == ["96.0", "", "96.0", "", "96.0", "", "", ""]
    text = ablation_markdown(*tables.sweep(peaks={"up": 0.8}))
    assert "paper" not in text


def test_a_long_table_is_cut_to_the_best_and_the_papers_four(tables):
    modules = {f"up_blocks.{n}.attn1.to_q": 0.5 + n / 1000 for n in range(160)}
    four = {"full": 0.9, "feed_forward": 0.4, "self_attention": 0.3, "cross_attention": 0.2}
    results, best = tables.sweep(peaks=modules | four)
    text = ablation_markdown(results, best)
    names = [row[0] for row in lines_of(text)[1:]]
    expected = [f"`up_blocks.{n}.attn1.to_q`" for n in range(160 - N_BEST + 1, 160)]
    paper = ["full network", "feed-forward", "self-attention", "cross-attention"]
    assert names == expected + paper
    assert f"{164 - len(names)} more settings are in results.parquet." in text
    records = list(csv.DictReader(StringIO(ablation_csv(results, best, 8))))
    assert [record["sub_network"] for record in records] == [*modules, *four]


def test_the_csv_holds_full_precision(tables):
    results, best = tables.sweep(variants=VARIANTS)
    records = list(csv.DictReader(StringIO(ablation_csv(results, best, 8))))
    assert len(records) == 16
    for record, entry in zip(records, best["settings"].values(), strict=True):
        assert int(record["clustering_n_components"]) == entry["clustering"]["n_components"]
        assert float(record["ari"]) == entry["clustering"]["validation"]["ari_mean"]
        assert float(record["map"]) == entry["retrieval"]["validation"]["map"]
        assert record["rank_method"] == entry["clustering"]["rank_method"]
    assert [record["best_for_clustering"] for record in records].count("True") == 1


def test_a_task_without_scores_is_dashes(tables):
    results, best = tables.sweep()
    for entry in best["settings"].values():
        del entry["retrieval"]
    del best["best"]["retrieval"]
    table = lines_of(ablation_markdown(results, best))
    assert table[1][-3:] == ["–", "–", "–"]
    assert "retrieval:" not in ablation_markdown(results, best)


@pytest.fixture(scope="module")
def one_setting(tables):
    return tables.sweep(peaks={"NAME": 0.5}, n_counts=3)


@settings(max_examples=40, deadline=None)
@given(name=st.text("ab*_<>`|\n\r\t&+-.\\$é\x1b", min_size=1, max_size=30).filter(str.strip))
def test_no_name_leaves_its_cell(one_setting, name):
    results, best = one_setting
    text = ablation_markdown(
        results.assign(sub_network=name),
        {
            **best,
            "best": {task: {**one, "sub_network": name} for task, one in best["best"].items()},
            "settings": {f"delta/{name}": best["settings"]["delta/NAME"]},
        },
    )
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert all(row.replace("\\|", "").count("|") == rows[0].count("|") for row in rows)
    assert "\x1b" not in text and "\r" not in text
    assert text.count("Best for") == 2
