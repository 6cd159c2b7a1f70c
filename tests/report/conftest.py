"""A run as the earlier stages leave it: invented scores with a plausible shape."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from lorastyle.config import parse_experiment
from lorastyle.evaluation.swept import current_inputs
from lorastyle.records import Role
from lorastyle.runs import Run, write_json

COUNTS = {role.value: 8 if role is Role.TRAIN else 2 for role in Role}
SUB_NETWORKS = {"full": 0.86, "feed_forward": 0.88, "self_attention": 0.75, "cross_attention": 0.66}
REPRESENTATIONS = {"factors": 0.0, "delta": 0.05}
N_COMPONENTS = 10
N_CALIBRATION = 2


def artists_of(n_artists: int, n_genres: int) -> dict[str, str]:
    genres = ["expressive", "plein_air", "pointillist", "tonalist", "woodblock"][:n_genres]
    first = ["lalaro", "binobe", "fadigi", "gitemi", "jazoza", "kojepe", "merati", "nofoho"]
    last = ["lesege", "fejihi", "gezoso", "kevana", "dadefi", "nitoba", "pisave", "ripepi"]
    names = [f"{first[i % 8]}_{last[(3 * i + i // 8) % 8]}" for i in range(n_artists)]
    return {name: genres[i % n_genres] for i, name in enumerate(names)}


def scores_table(genre_of: dict[str, str], seed: int = 0) -> pd.DataFrame:
    """Adapters around artists around genres; held-out ones shrunk before calibration."""
    rng = np.random.default_rng(seed)
    spectrum = 1.0 / np.arange(1, N_COMPONENTS + 1) ** 0.5
    shrink = np.linspace(0.85, 0.25, N_COMPONENTS)
    rows = []
    for representation in REPRESENTATIONS:
        for sub_network in SUB_NETWORKS:
            centres = {
                genre: rng.normal(size=N_COMPONENTS) for genre in sorted(set(genre_of.values()))
            }
            for artist, genre in sorted(genre_of.items()):
                own = centres[genre] + 0.75 * rng.normal(size=N_COMPONENTS)
                for role in ("train", "val", "test"):
                    count = COUNTS[role]
                    noise = 0.12 if role == "train" else 0.22
                    for index in range(count):
                        score = spectrum * (own + noise * rng.normal(size=N_COMPONENTS))
                        fit = role == "train" and index < COUNTS["train"] - N_CALIBRATION
                        for calibrated in (True,) if fit else (True, False):
                            placed = score if calibrated else score * shrink + 0.04
                            rows.append(
                                {
                                    "adapter_id": f"{artist}-{role}-{index:02d}",
                                    "artist": artist,
                                    "genre": genre,
                                    "role": role,
                                    "representation": representation,
                                    "sub_network": sub_network,
                                    "calibrated": calibrated,
                                    "fit": fit,
                                    **{f"component_{k + 1}": v for k, v in enumerate(placed)},
                                }
                            )
    return pd.DataFrame(rows)


def curves_table(seed: int = 0) -> pd.DataFrame:
    """Rise, peak near the number of artists, decline."""
    rng = np.random.default_rng(seed)
    rows = []
    for representation, lift in REPRESENTATIONS.items():
        for sub_network, peak in SUB_NETWORKS.items():
            for k in range(1, 41):
                shape = (1 - np.exp(-k / 3.5)) * np.exp(-max(k - 12, 0) / 60)
                ari = (peak + lift - 0.2) * shape + 0.012 * rng.normal()
                rows.append(
                    {
                        "representation": representation,
                        "sub_network": sub_network,
                        "n_components": k,
                        "ari_mean": ari,
                        "ari_std": 0.025,
                        "nmi_mean": min(ari + 0.15, 1.0),
                        "nmi_std": 0.01,
                        "map_at_k": (peak - 0.1) * shape,
                        "map": (peak - 0.3) * shape + 0.008 * rng.normal(),
                        "recall_at_k": (peak - 0.38) * shape,
                    }
                )
    return pd.DataFrame(rows)


SHARES = {"full": 1.0, "feed_forward": 0.46, "self_attention": 0.27, "cross_attention": 0.27}
TASK_SCORES = {"clustering": ("ari", "ari_mean", "ari_se"), "retrieval": ("map", "map", "map_se")}


def sweep_tables(
    peaks: dict[str, float] | None = None,
    variants: tuple[tuple[int, str, str], ...] = ((4, "trained", "delta"),),
    forms: tuple[str, ...] = ("full",),
    n_counts: int = 12,
    own_rank: int = 4,
) -> tuple[pd.DataFrame, dict]:
    """What a sweep leaves: results, and the choice by the rule of one standard error.

    Each curve is a flat hill about its own count, as high as its sub-network's peak, less 0.02
    for each rank below 16, for each form after the first and in retrieval.
    """
    rows = []
    for rank, method, representation in variants:
        for place, (name, peak) in enumerate((peaks or SUB_NETWORKS).items()):
            for later, form in enumerate(forms):
                for count in range(1, n_counts + 1):
                    top = peak - 0.001 * (16 - rank) - 0.02 * later
                    score = top - 0.004 * abs(count - 6 - place % 3)
                    rows.append(
                        {
                            "rank": rank,
                            "rank_method": method,
                            "representation": representation,
                            "sub_network": name,
                            "share": SHARES.get(name, 0.1),
                            "calibration": form,
                            "n_components": count,
                            "ari_mean": score,
                            "ari_std": 0.025,
                            "ari_se": 0.009,
                            "nmi_mean": score + 0.05,
                            "nmi_std": 0.01,
                            "nmi_se": 0.003,
                            "train_ari_mean": score + 0.07,
                            "train_ari_std": 0.02,
                            "map": score - 0.2,
                            "map_se": 0.001,
                            "map_at_k": score - 0.1,
                            "map_at_k_se": 0.001,
                            "recall_at_k": score - 0.3,
                            "recall_at_k_se": 0.001,
                        }
                    )
    results = pd.DataFrame(rows)
    settings: dict[str, dict] = {}
    by = ["rank", "rank_method", "representation", "sub_network"]
    for (rank, method, representation, name), lines in results.groupby(by, sort=False):
        mark = "truncated" if method == "truncated" else "rank"
        own = method == "trained" and rank == own_rank
        key = f"{representation}/{name}" + ("" if own else f"@{mark}{rank}")
        settings[key] = {
            task: {
                **dict(zip(by, (int(rank), method, representation, name), strict=True)),
                "share": float(lines["share"].iloc[0]),
                **chosen_point(lines, *scores),
            }
            for task, scores in TASK_SCORES.items()
        }
    best = {
        task: max((one[task] for one in settings.values()), key=lambda p: p["argmax"][column])
        for task, (_, column, _) in TASK_SCORES.items()
    }
    return results, {"rule": "one_standard_error", "best": best, "settings": settings}


def chosen_point(lines: pd.DataFrame, objective: str, column: str, error: str) -> dict:
    """The smallest count within a standard error of the largest score, of the best form."""
    top = lines.loc[lines[column].idxmax()]
    near = lines[(lines["calibration"] == top["calibration"])]
    first = near[near[column] >= top[column] - top[error]].iloc[0]
    return {
        "objective": objective,
        "calibration": str(top["calibration"]),
        "n_components": int(first["n_components"]),
        "validation": {column: float(first[column])},
        "argmax": {"n_components": int(top["n_components"]), column: float(top[column])},
    }


def write_sweep(run: Run, results: pd.DataFrame, best: dict) -> None:
    """Finish the stage `sweep` of a run, on its present embedding."""
    run.sweep_path.mkdir(exist_ok=True)
    results.astype({"rank": "Int64"}).to_parquet(run.sweep_path / "results.parquet")
    (run.sweep_path / "best.yaml").write_text(yaml.safe_dump(best, sort_keys=False))
    run.finish("sweep", current_inputs(run), {"best": best["best"]}, 31.0)


def metrics_document(n_artists: int) -> dict:
    def seeds(mean: float, std: float) -> dict:
        return {"mean": round(mean, 4), "std": std}

    def agreement(ari: float) -> dict:
        return {"ari": seeds(ari, 0.024), "nmi": seeds(min(ari + 0.11, 0.99), 0.008)}

    def found(precision: float, n: int = 24) -> dict:
        return {
            "map": precision,
            "map_at_k": precision + 0.12,
            "recall_at_k": precision - 0.09,
            "n_queries": n,
        }

    clustering, retrieval = {}, {}
    for representation, lift in REPRESENTATIONS.items():
        for sub_network, peak in SUB_NETWORKS.items():
            key, top = f"{representation}/{sub_network}", peak + lift
            clustering[key] = {
                "n_components": 12,
                "train": agreement(top),
                "val": agreement(top - 0.25),
                "test": agreement(top - 0.27),
                "uncalibrated": {"val": agreement(top - 0.46), "test": agreement(top - 0.49)},
            }
            retrieval[key] = {
                "n_components": 14,
                "val": found(top - 0.33),
                "test": found(top - 0.36),
                "uncalibrated": {"val": found(top - 0.39), "test": found(top - 0.42)},
            }
    features = {
        name: {
            "clustering": {
                split: agreement(ari - lower)
                for split, lower in (("train", 0.0), ("val", 0.14), ("test", 0.16))
            },
            "retrieval": {
                "orig_orig": {"val": found(ari - 0.1), "test": found(ari - 0.13)},
                "absent": {"gen_gen": "no images were generated"},
            },
        }
        for name, ari in (
            ("pixel_mean", 0.55),
            ("colour_histogram", 0.53),
            ("gram_random_net", 0.45),
        )
    }
    return {
        "clustering": clustering,
        "retrieval": retrieval,
        "features": features,
        "protocol": {
            "n_artists": n_artists,
            "adapters_per_role": {role: n_artists * count for role, count in COUNTS.items()},
            "k": 8,
            "seeds": list(range(10)),
            "config_hash": "0" * 64,
        },
    }


def make_run(
    directory: Path, n_artists: int = 12, n_genres: int = 4, corpus: Path | None = None
) -> Run:
    """Write a run that is evaluated. `corpus` is a folder of artists' images to use instead."""
    experiment = parse_experiment(
        {
            "name": "demo",
            "training": {"rank": 4, "alpha": 2, "n_steps": 60, "batch_size": 4},
            "protocol": {"train": 8, "calibration": 2},
        }
    )
    run = Run.create(directory, experiment)
    genre_of = artists_of(n_artists, n_genres)
    if corpus is not None:
        found = pd.read_csv(corpus / "index.csv").drop_duplicates("artist")
        genre_of = dict(zip(found["artist"], found["genre"], strict=True))
    write_catalogue(run, genre_of, corpus)
    run.evaluation_path.mkdir(parents=True)
    scores_table(genre_of).to_parquet(run.evaluation_path / "scores.parquet")
    curves_table().to_parquet(run.evaluation_path / "curves.parquet")
    queries_table(genre_of).to_parquet(run.evaluation_path / "queries.parquet")
    write_json(run.metrics_path, metrics_document(len(genre_of)))
    run.finish("plan", {}, {"n_artists": len(genre_of)}, 14.2)
    run.finish("train", {}, {"n_adapters": 216, "d": 46080, "by_status": {"ok": 216}}, 251.7)
    run.finish("embed", {}, {"n_adapters": 216, "d": 46080}, 6.3)
    run.finish("sweep", {}, {}, 31.0)
    run.finish("evaluate", {}, {"metrics": "1"}, 12.9)
    return run


def write_catalogue(run: Run, genre_of: dict[str, str], corpus: Path | None) -> None:
    rows = []
    rng = np.random.default_rng(3)
    for artist, genre in genre_of.items():
        for number in range(4):
            path = f"{artist}/{number:03d}.png"
            target = run.corpus_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if corpus is not None:
                target.write_bytes((corpus / path).read_bytes())
            else:
                Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(target)
            rows.append({"image_id": path, "path": path, "artist": artist, "genre": genre})
    pd.DataFrame(rows).to_parquet(run.catalogue_path)


def queries_table(genre_of: dict[str, str]) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "adapter_id": f"{artist}-query_{split}-{index:02d}",
            "artist": artist,
            "role": f"query_{split}",
            "representation": representation,
            "sub_network": sub_network,
            "feature": None,
            "calibrated": calibrated,
            "average_precision": float(rng.uniform(0.3, 0.95)),
            "recall_at_k": float(rng.uniform(0.2, 0.9)),
        }
        for artist in genre_of
        for split in ("val", "test")
        for calibrated in (True, False)
        for index in range(2)
        for representation in REPRESENTATIONS
        for sub_network in SUB_NETWORKS
    )


@pytest.fixture(scope="session", autouse=True)
def coarse_pictures():
    """Fewer pixels: drawing them is half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lorastyle.report.canvas.PNG_DPI", 50)
        yield


@pytest.fixture(scope="session")
def make_evaluated_run():
    """`make_run(directory, ...)`, for tests that change what the run holds."""
    return make_run


@pytest.fixture(scope="session")
def evaluated_run(tmp_path_factory):
    """One evaluated run for all tests that only read it."""
    return make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="session")
def tables():
    """The makers of the invented tables."""
    return SimpleNamespace(
        scores=scores_table, curves=curves_table, metrics=metrics_document, sweep=sweep_tables
    )


@pytest.fixture(scope="session")
def finish_sweep():
    """`write_sweep(run, results, best)`."""
    return write_sweep
