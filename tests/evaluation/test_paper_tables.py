"""The paper's numbers as typed in, when they may stand beside ours, and the tables of a run."""

import pytest

from lorastyle.config import parse_experiment
from lorastyle.evaluation import paper_numbers as paper
from lorastyle.evaluation.paper_protocol import differences
from lorastyle.evaluation.paper_tables import paper_tables
from lorastyle.evaluation.result_table import Cell

PAPER = {
    "base": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "corpus": {"source": "folder", "path": "data/ArtBench-10", "n_artists": 63},
    "training": {"prior_weight": 1.0},
}


def agreement(ari, std=0.02):
    return {
        "ari": {"mean": ari, "std": std},
        "nmi": {"mean": ari + 0.01, "std": 0.01},
        "ci": {name: [round(ari - 0.1, 3), round(ari + 0.05, 3)] for name in ("ari", "nmi")},
    }


def found(precision, n_queries=315):
    ci = {
        name: [round(precision - 0.2, 3), precision] for name in ("map", "map_at_k", "recall_at_k")
    }
    scores = {"map": precision, "map_at_k": precision, "recall_at_k": precision / 2}
    return {**scores, "n_queries": n_queries, "ci": ci}


def metrics(n_artists=63, scenarios=("orig_orig",)):
    return {
        "clustering": {
            "factors/full": {
                "n_components": 67,
                **{split: agreement(0.9) for split in ("train", "val", "test")},
                "uncalibrated": {"val": agreement(0.16), "test": agreement(0.17)},
            },
            "delta/feed_forward": {"n_components": 9, "train": agreement(0.8), "val_reason": "no"},
        },
        "retrieval": {
            "factors/full": {
                "n_components": 69,
                "val": found(0.8),
                "test": found(0.7),
                "uncalibrated": {"test": found(0.3)},
            }
        },
        "features": {
            "clip": {
                "clustering": {"train": agreement(0.5), "test": agreement(0.4)},
                "retrieval": {name: {"test": found(0.6)} for name in scenarios},
            }
        },
        "similarity": {
            "weights": "factors/full",
            "n_adapters": 1512,
            "pairs": [
                {
                    "first": "factors/full",
                    "second": "clip",
                    "n_components": [2, 3],
                    "similarity": [0.91, 0.85],
                    "shuffled": [0.03, 0.02],
                }
            ],
        },
        "comparison": {
            "setting": "factors/full",
            "test": [
                {
                    "method": "clip",
                    "scenario": scenario,
                    "n_queries": 315,
                    "map": 0.1,
                    "map_at_k": 0.2,
                    "recall_at_k": -0.1,
                    "ci": {key: [-0.2, 0.3] for key in ("map", "map_at_k", "recall_at_k")},
                }
                for scenario in scenarios
            ],
        },
        "floor": {
            "clustering": {"train": {"ari": 0.0, "nmi": 0.3}, "test": {"ari": 0.0, "nmi": 0.7}},
            "retrieval": {"test": {"map": 0.02, "map_at_k": 0.1, "recall_at_k": 0.016}},
        },
        "protocol": {
            "n_artists": n_artists,
            "k": 24,
            "seeds": list(range(10)),
            "interval": {"level": 0.95},
        },
    }


def tables(experiment=PAPER, shares=(("factors/full", 1.0),), **options):
    made = paper_tables(metrics(**options), dict(shares), parse_experiment(experiment))
    return {table.name: table for table in made}


def test_numbers_are_those_of_the_paper():
    """Cells read again in the paper's text, some of each table."""
    assert paper.read(paper.CLUSTERING)["AbC DINO"][6:] == (97.8, 0.6)
    assert paper.read(paper.CLUSTERING)[paper.UNCALIBRATED][2:4] == (16.7, 8.9)
    whole = paper.read(paper.ALL_CLUSTERING)
    assert whole[paper.OURS][2:6] == (95.3, 2.9, 95.6, 2.5)
    assert whole["CLIP"][:4] == (84.8, 4.2, 81.6, 6.4)
    assert whole[paper.UNCALIBRATED][:2] == (None, None)
    assert paper.read(paper.RETRIEVAL_VAL)["CSD"] == (
        *(86.7, 68.6, 78.4, 75.7),
        *(75.8, 58.8, 66.1, 63.7),
    )
    test = paper.read(paper.RETRIEVAL_TEST)
    assert (test["CLIP"][0], test["CSD"][3], test[paper.OURS][4]) == (80.0, 77.2, 69.4)
    assert paper.read(paper.FEED_FORWARD_TEST)[paper.OURS][::4] == (88.3, 79.8)
    likeness = paper.read(paper.SIMILARITY)
    assert likeness["3"] == (0.88, 0.94, 0.80, 0.94, 0.92, 0.91)
    assert (likeness["60"][1], likeness["100"][5]) == (0.40, 0.33)
    assert paper.read(paper.SUB_NETWORKS)["feed_forward"] == (47, 97.5)


@pytest.mark.parametrize(
    ("text", "columns", "n_each"),
    [
        (paper.CLUSTERING, paper.CLUSTERING_COLUMNS, 2),
        (paper.ALL_CLUSTERING, paper.ALL_CLUSTERING_COLUMNS, 2),
        (paper.RETRIEVAL_VAL, paper.RETRIEVAL_COLUMNS, 1),
        (paper.RETRIEVAL_TEST, paper.RETRIEVAL_COLUMNS, 1),
        (paper.SIMILARITY, paper.SIMILARITY_COLUMNS, 1),
    ],
)
def test_every_line_has_a_number_for_every_column(text, columns, n_each):
    lines = paper.read(text)
    assert {len(line) for line in lines.values()} == {n_each * len(columns)}
    assert len(lines) in (8, 18)


def test_the_shares_of_sub_networks_are_those_of_stable_diffusion():
    sizes = {"self_attention": 1_597_440, "cross_attention": 1_591_296, "feed_forward": 2_795_520}
    for name, size in sizes.items():
        assert paper.read(paper.SUB_NETWORKS)[name][0] == round(100 * size / 5_984_256)


def test_the_paper_s_own_experiment_differs_in_nothing():
    assert differences(parse_experiment(PAPER), 63) == []


@pytest.mark.parametrize(
    ("changes", "n_artists", "words"),
    [
        ({"base": "miniature"}, 63, "base model: miniature (paper: Stable Diffusion 1.5)"),
        ({"corpus": {"source": "procedural"}}, 63, "data: procedural paintings"),
        ({"corpus": {"source": "folder", "path": "x/mine"}}, 63, "data: images of the folder mine"),
        ({}, 20, "artists: 20 (paper: 63)"),
        ({"training": {"prior_weight": 1.0, "rank": 4}}, 63, "rank: 4 (paper: 16)"),
        ({"training": {}}, 63, "prior preservation: none"),
        ({"protocol": {"val": 2}}, 63, "validation adapters an artist: 2 (paper: 3)"),
        ({"evaluation": {"top_k": 5}}, 63, "k of retrieval: 5 (paper: 24)"),
    ],
)
def test_whatever_differs_is_said(changes, n_artists, words):
    (found,) = differences(parse_experiment({**PAPER, **changes}), n_artists)
    assert found.startswith(words)


def test_adapters_from_elsewhere_are_not_judged_by_settings_that_made_none():
    experiment = parse_experiment({"corpus": {"source": "adapters"}, "base": PAPER["base"]})
    assert differences(experiment, 63) == [
        "data: adapters from elsewhere (paper: ArtBench, original size)"
    ]


def test_beside_the_paper_s_experiment_its_numbers_follow_each_row():
    shown = [(row.name, row.source) for row in tables()["clustering"].shown_rows]
    assert shown[:7] == [
        *(("CLIP", "run"), ("CLIP", "paper"), ("factors/full", "run"), ("Ours", "paper")),
        *(("factors/full, uncalibrated", "run"), ("Ours w/o cali", "paper")),
        ("delta/feed_forward", "run"),
    ]
    assert ("CSD", "paper") in shown[7:]
    similarity = tables()["similarity"].shown_rows
    assert [row.cells["CLIP"] for row in similarity[:2]] == [Cell(0.91), Cell(0.94)]


def test_apart_from_it_they_stand_alone():
    table = tables(n_artists=12)["clustering"]
    assert {row.source for row in table.shown_rows} == {"run"}
    assert table.paper.differences == ("artists: 12 (paper: 63)",)


def test_every_table_is_there_with_the_paper_s_columns():
    made = tables()
    assert list(made) == [
        *("clustering-main", "clustering", "retrieval-val", "retrieval-test"),
        *("comparison", "similarity", "sub-networks"),
    ]
    assert made.pop("comparison").paper is None
    for table in made.values():
        keys = {column.key for column in table.paper.columns}
        assert all(row.cells.keys() - {"n_components"} <= keys for row in table.paper.rows)
        assert table.paper.rows
    main = [column.key for column in made["clustering-main"].columns]
    assert main == ["n_components", "ari/train", "ari/test", "nmi/train", "nmi/test"]


def test_numbers_carry_their_deviations_and_intervals():
    made = tables()
    rows = {row.name: row.cells for row in made["clustering"].rows}
    assert rows["factors/full"]["ari/test"] == Cell(0.9, 0.02, 0.8, 0.95)
    assert "ari/val" not in rows["delta/feed_forward"]
    assert rows["random labels"]["nmi/test"] == Cell(0.7)
    queries = {row.name: row.cells for row in made["retrieval-test"].rows}
    assert queries["factors/full"]["recall_at_k/orig_orig"] == Cell(0.35, None, 0.5, 0.7)
    assert queries["random ranking"]["map/orig_orig"] == Cell(0.02)
    parts = {row.name: row.cells for row in made["sub-networks"].rows}
    assert parts["factors/full"]["share"] == Cell(1.0)
    assert parts["delta/feed_forward"].keys() == {"n_components/clustering", "ari/train"}


def test_scenarios_have_columns_where_images_were_generated_and_weights_are_alike_in_all():
    scenarios = ("orig_orig", "orig_gen", "gen_orig", "gen_gen")
    alone, every = (
        tables(scenarios=some)["retrieval-test"] for some in (("orig_orig",), scenarios)
    )
    assert [column.heading for column in alone.columns[1:]] == ["Orig+Orig"] * 3
    assert [column.heading for column in every.columns[1:5]] == [
        *("Orig+Orig", "Orig+Gen", "Gen+Orig", "Gen+Gen")
    ]
    cells = {row.name: row.cells for row in every.rows}["factors/full"]
    assert len({cells[f"map/{scenario}"] for scenario in scenarios}) == 1


def test_differences_have_a_row_for_each_method_and_scenario():
    table = tables(scenarios=("orig_orig", "gen_gen"))["comparison"]
    assert [row.name for row in table.rows] == ["CLIP", "CLIP, Gen+Gen"]
    assert table.rows[0].cells["recall_at_k"] == Cell(-0.1, None, -0.2, 0.3)
    assert table.notes[0].startswith("Scores of factors/full less those of each method")


def test_what_was_not_compared_has_its_reason():
    reasons = {"similarity": "there is no image feature", "comparison": "there is no query"}
    given = metrics() | {name: {"reason": reason} for name, reason in reasons.items()}
    made = {table.name: table for table in paper_tables(given, {}, parse_experiment(PAPER))}
    for name, reason in reasons.items():
        assert made[name].rows == ()
        assert made[name].notes == (f"Not computed: {reason}.",)
