"""Figures of a sweep: the right lines, marks where the choice is, nothing drawn of nothing."""

import re

import numpy as np
import pytest

from lorastyle.report import curve_figures
from lorastyle.report.canvas import css_variables, inline_svg, styled
from lorastyle.report.curve_figures import draw_curves
from lorastyle.report.palette import SUB_NETWORK_COLOURS, make_palette
from lorastyle.report.sweep_panels import MAX_LINES, curve_panels, rank_panels
from lorastyle.report.sweep_results import SweepResults
from lorastyle.report.swept import write_sweep_report

OTHERS = ("up", "down", "mid", "res1", "to_q", "to_k", "to_v", "ff_out", "full-mid", "up&to_v")


def swept_of(tables, **how):
    return SweepResults(*tables.sweep(**how))


def test_a_panel_for_each_score_of_the_best_way_to_compare(tables):
    variants = ((4, "trained", "factors"), (16, "trained", "delta"))
    panels = curve_panels(swept_of(tables, variants=variants, forms=("simple", "full")), 24)
    assert [panel.score for panel in panels] == [
        "validation ARI",
        "validation mAP",
        "validation Recall@24",
    ]
    assert {panel.note for panel in panels} == {"ΔW, rank 16, simple calibration"}
    assert [line.name for line in panels[0].lines] == [
        "full network",
        "feed-forward",
        "self-attention",
        "cross-attention",
    ]


def test_lines_are_the_results_with_one_standard_error(tables):
    results, best = tables.sweep()
    panels = curve_panels(SweepResults(results, best), 8)
    ours = results[results["sub_network"] == "feed_forward"]
    for panel, column in zip(panels, ("ari", "map", "recall_at_k"), strict=True):
        line = panel.lines[1]
        mean = "ari_mean" if column == "ari" else column
        np.testing.assert_array_equal(line.x, ours["n_components"])
        np.testing.assert_array_equal(line.y, ours[mean])
        np.testing.assert_array_equal(line.spread, ours[f"{column}_se"])


def test_marks_are_at_the_chosen_count_and_rings_where_the_largest_was(tables):
    # Hills fall 0.004 a count: 0.009 reaches two counts down, 0.001 none.
    panels = curve_panels(swept_of(tables), 8)
    assert [line.chosen for line in panels[0].lines] == [4, 5, 6, 4]
    assert [line.argmax for line in panels[0].lines] == [6, 7, 8, 6]
    for panel in panels[1:]:
        assert [line.chosen for line in panel.lines] == [6, 7, 8, 6]
        assert [line.argmax for line in panel.lines] == [None] * 4
    with styled():
        figure = curve_figures.curves(panels[:1])
    dashed = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "--"]
    assert [list(line.get_xdata()) for line in dashed] == [[4, 4], [5, 5], [6, 6], [4, 4]]


def test_recall_shares_the_choice_of_map_but_not_its_ring(tables):
    results, best = tables.sweep()
    best["settings"]["delta/full"]["retrieval"]["n_components"] = 3
    _, precision, recall = curve_panels(SweepResults(results, best), 8)
    assert (precision.lines[0].chosen, precision.lines[0].argmax) == (3, 6)
    assert (recall.lines[0].chosen, recall.lines[0].argmax) == (3, None)


def test_what_was_chosen_with_another_calibration_is_not_marked_on_this_curve(tables):
    results, best = tables.sweep(forms=("full", "simple"))
    best["settings"]["delta/full"]["clustering"]["calibration"] = "simple"
    lines = curve_panels(SweepResults(results, best), 8)[0].lines
    assert [line.chosen for line in lines] == [None, 5, 6, 4]


def test_of_many_sub_networks_the_papers_four_and_the_best_others_have_colours(tables):
    peaks = {"full": 0.3, "cross_attention": 0.2, "feed_forward": 0.4, "self_attention": 0.1}
    peaks |= {name: 0.5 + 0.01 * place for place, name in enumerate(OTHERS)}
    panel = curve_panels(swept_of(tables, peaks=peaks), 8)[0]
    assert len(panel.lines) == MAX_LINES
    assert [line.colour for line in panel.lines[:4]] == [
        SUB_NETWORK_COLOURS[name]["light"]
        for name in ("full", "feed_forward", "self_attention", "cross_attention")
    ]
    assert {line.name for line in panel.lines[4:]} == {
        "up blocks ∩ to_v",
        "full network − middle block",
        "ff_out",
        "to_v",
    }
    assert len(panel.others) == len(peaks) - MAX_LINES
    assert len({line.colour for line in panel.lines}) == MAX_LINES


def test_lines_that_share_a_colour_differ_in_their_dashes(tables):
    panel = curve_panels(swept_of(tables, peaks=dict.fromkeys(OTHERS[:8], 0.5)), 8)[0]
    looks = {(line.colour, line.broken) for line in panel.lines}
    assert len(looks) == len(panel.lines) == 8
    with styled():
        figure = curve_figures.curves([panel])
    drawn = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 2]
    assert [line.is_dashed() for line in drawn] == [False] * 4 + [True] * 4


def test_a_line_is_broken_for_its_colour_only_and_not_for_being_best_twice(tables):
    results, best = tables.sweep(
        peaks={"full": 0.5, "up": 0.7, "down": 0.6},
        variants=((4, "trained", "delta"), (2, "truncated", "delta")),
    )
    best["best"]["retrieval"] = best["settings"]["delta/up@truncated2"]["retrieval"]
    for panel in curve_panels(SweepResults(results, best), 8):
        assert [line.name for line in panel.lines] == ["full network", "up blocks", "down blocks"]
        assert not any(line.broken for line in panel.lines)


def test_one_rank_makes_no_figure_of_ranks(tables):
    assert rank_panels(swept_of(tables)) == []


def test_cut_ranks_end_in_the_runs_own_and_the_papers_four_and_the_winner_are_drawn(tables):
    variants = (
        (4, "trained", "factors"),
        *((rank, "trained", "delta") for rank in (4, 8, 16)),
        *((rank, "truncated", "delta") for rank in (1, 2)),
    )
    peaks = {"up": 0.95, "down": 0.94, "full": 0.9, "self_attention": 0.7}
    swept = swept_of(tables, variants=variants, own_rank=8, peaks=peaks)
    clustering, retrieval = rank_panels(swept)
    assert clustering.note == "ΔW"
    assert [(line.name, line.truncated) for line in clustering.lines] == [
        ("full network", False),
        ("full network", True),
        ("self-attention", False),
        ("self-attention", True),
        ("up blocks", False),
        ("up blocks", True),
    ]
    trained, cut = clustering.lines[:2]
    assert trained.ranks.tolist() == [4, 8, 16] and cut.ranks.tolist() == [1, 2, 8]
    assert cut.y[-1] == trained.y[1]
    # Chosen two counts, so 0.008, below peaks that fall 0.001 a rank.
    np.testing.assert_allclose(trained.y, [0.9 - 0.012 - 0.008, 0.9 - 0.008 - 0.008, 0.9 - 0.008])
    np.testing.assert_allclose(retrieval.lines[0].y[-1], 0.9 - 0.2)


def test_figures_in_the_page_take_all_colours_from_the_theme(tables):
    peaks = dict.fromkeys((*SUB_NETWORK_COLOURS, *OTHERS), 0.5)
    variants = ((4, "trained", "delta"), (8, "trained", "delta"), (2, "truncated", "delta"))
    swept = swept_of(tables, peaks=peaks, variants=variants)
    with styled():
        for figure in (
            curve_figures.curves(curve_panels(swept, 8)),
            curve_figures.ranks(rank_panels(swept)),
        ):
            text = inline_svg(figure, "x", "x", css_variables(make_palette({"a": "g"})))
            assert not re.search(r"#[0-9a-f]{6}\b", text)
            assert "var(--feed-forward)" in text


def test_hostile_names_are_text_in_a_figure(tables):
    hostile = '</svg><script>alert("$x$")</script>'
    panel = curve_panels(swept_of(tables, peaks={hostile: 0.5}), 8)[0]
    with styled():
        figure = curve_figures.curves([panel])
        text = inline_svg(figure, "x", hostile, {})
    assert "<script" not in text and text.count("</svg>") == 1


def test_the_files_of_a_sweep_are_written_and_a_figure_of_nothing_is_removed(tables, tmp_path):
    both = tables.sweep(variants=((4, "trained", "delta"), (8, "trained", "delta")))
    written = write_sweep_report(tmp_path, *both, 8)
    assert {path.name for path in written} == {
        "ablation.md",
        "ablation.csv",
        *(f"{name}.{suffix}" for name in ("curves", "ranks") for suffix in ("png", "svg")),
    }
    write_sweep_report(tmp_path, *tables.sweep(), 8)
    assert not list(tmp_path.glob("ranks.*"))


def test_a_sweep_without_a_task_draws_the_other(tables, tmp_path):
    results, best = tables.sweep()
    retrieval = [name for name in results if name.startswith(("map", "recall"))]
    results[retrieval] = np.nan
    del best["best"]["retrieval"]
    for entry in best["settings"].values():
        del entry["retrieval"]
    write_sweep_report(tmp_path, results, best, 8)
    assert [panel.score for panel in curve_panels(SweepResults(results, best), 8)] == [
        "validation ARI"
    ]


@pytest.mark.parametrize("n", [1, 2])
def test_few_counts_are_drawn(tables, n):
    panel = curve_panels(swept_of(tables, n_counts=n), 8)[0]
    with styled():
        figure = curve_figures.curves([panel])
        draw_curves(figure.axes[0], panel)
