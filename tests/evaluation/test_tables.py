from lorastyle.evaluation.tables import markdown, metrics_table


def agreement(ari):
    return {"ari": {"mean": ari, "std": 0.02}, "nmi": {"mean": ari + 0.01, "std": 0.01}}


def found(precision):
    return {"map": precision, "recall_at_k": precision / 2, "n_queries": 4}


METRICS = {
    "clustering": {
        "factors/full": {
            "n_components": 12,
            "train": agreement(0.96),
            "val": agreement(0.9),
            "test": agreement(0.91),
            "uncalibrated": {"val": agreement(0.16), "test": agreement(0.17)},
        },
        "delta/full": {"n_components": 9, "train": agreement(0.8), "val_reason": "none"},
    },
    "retrieval": {
        "factors/full": {
            "n_components": 14,
            "val": found(0.8),
            "test": found(0.7),
            "uncalibrated": {"test": found(0.3)},
        }
    },
    "features": {
        "pixel_mean": {
            "clustering": {"train": agreement(0.5), "val": agreement(0.4)},
            "retrieval": {"orig_orig": {"test": found(0.4)}},
        }
    },
    "protocol": {"k": 8},
}


def test_the_summary_has_a_row_for_every_method_and_one_without_calibration():
    rows = metrics_table(METRICS)
    assert rows == [
        [
            *("Method", "PCs clustering", "PCs retrieval"),
            *("ARI train", "ARI val", "ARI test", "mAP test", "Recall@8 test"),
        ],
        ["pixel_mean", "", "", "50.0 ± 2.0", "40.0 ± 2.0", "-", "40.0", "20.0"],
        ["factors/full", "12", "14", "96.0 ± 2.0", "90.0 ± 2.0", "91.0 ± 2.0", "70.0", "35.0"],
        ["factors/full, uncalibrated", "", "", "-", "16.0 ± 2.0", "17.0 ± 2.0", "30.0", "15.0"],
        ["delta/full", "9", "", "80.0 ± 2.0", "-", "-", "-", "-"],
    ]


def test_nothing_evaluated_is_a_heading_alone():
    assert len(metrics_table({})) == 1


def test_markdown_is_aligned_and_safe():
    lines = markdown([["Method", "mAP"], ["a|b\nc", "100.0 ± 2.0"]]).splitlines()
    assert len({len(line) for line in lines}) <= 2
    assert lines[1].endswith(":|") or lines[1].endswith(": |")
    assert r"a\|b c" in lines[2]
