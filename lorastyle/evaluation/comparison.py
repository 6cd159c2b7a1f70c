"""Is a method better than another? Their scores of the same queries, one subtracted from the other.

Intervals of two methods say little of it: both find the easy artists easy, so their scores go up
and down together. The differences of single queries do not, and their mean has an interval of its
own, over artists as elsewhere (`intervals.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from lorastyle.evaluation.intervals import bootstrap_means
from lorastyle.evaluation.retrieval import SCORES

SCENARIO = "orig_orig"
"""Of an image feature, where none is named."""
THEIRS = "_theirs"


def paired_differences(queries: pd.DataFrame, key: str, role: str) -> list[dict[str, Any]]:
    """A setting's mean scores less those of every other method, on the queries of a role.

    `queries` has the columns of `queries.parquet`, `key` is `REPRESENTATION/SUBNETWORK`. A line
    has method, scenario (of image features), n_queries, the three differences and `ci`; one
    is the setting itself without calibration. Queries that either cannot answer are left
    out; so are methods that share those of fewer than two artists.
    """
    methods = dict(_methods(queries[queries["role"] == role], key))
    if (key, "") not in methods:
        return []
    ours, found = methods.pop((key, "")), []
    for (method, scenario), theirs in methods.items():
        both = ours.join(theirs.add_suffix(THEIRS), how="inner").dropna()
        artists = both["artist"].to_numpy().astype(np.str_)
        if len(np.unique(artists)) < 2:
            continue
        names = list(SCORES.values())
        left, right = both[names].to_numpy(), both[[f"{one}{THEIRS}" for one in names]].to_numpy()
        ends = bootstrap_means(left - right, artists).tolist()
        means = (left - right).mean(axis=0).tolist()
        found.append(
            {
                "method": method,
                **({"scenario": scenario} if scenario else {}),
                "n_queries": len(both),
                **dict(zip(SCORES, means, strict=True)),
                "ci": dict(zip(SCORES, ends, strict=True)),
            }
        )
    return found


def _methods(queries: pd.DataFrame, key: str) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Each method's queries by adapter, under (name, scenario)."""
    names = ["representation", "sub_network", "feature", "scenario"]
    named = queries.reindex(columns=names).astype(object).fillna("")
    lines = queries.set_index("adapter_id")[["artist", *SCORES.values()]]
    groups = [named[name].to_numpy(object) for name in names] + [queries["calibrated"].to_numpy()]
    for values, rows in lines.groupby(groups, sort=False):
        representation, sub_network, feature, scenario, calibrated = map(str, values)
        setting = f"{representation}/{sub_network}"
        if feature:
            yield (feature, scenario or SCENARIO), rows
        elif calibrated == "True":
            yield (setting, ""), rows
        elif setting == key:
            yield (f"{setting}, uncalibrated", ""), rows
