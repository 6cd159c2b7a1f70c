"""The ablation: every setting of a sweep at the PC counts that were chosen for it.

The paper's ablation (section 4.5) compares the full network with three sub-networks by the ARI
of the training set; its numbers stand beside ours where a setting is one of the four.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import pandas as pd

from lorastyle.evaluation import paper_numbers
from lorastyle.evaluation.swept import TRAINED, TRUNCATED
from lorastyle.evaluation.tables import markdown
from lorastyle.report.scores import TASKS
from lorastyle.report.sweep_results import (
    TASK_OF,
    Choice,
    Setting,
    SweepResults,
    leading,
)
from lorastyle.report.sweep_words import (
    CALIBRATION_NAMES,
    count_text,
    rank_text,
    score_name,
    score_text,
    setting_name,
    share_text,
)
from lorastyle.report.words import SUB_NETWORK_NAMES, percent, representation_name

PAPER_TRAIN_ARI: Mapping[str, float] = {
    name: round(ari / 100, 3)
    for name, (_, ari) in paper_numbers.read(paper_numbers.SUB_NETWORKS).items()
    if ari is not None
}
PAPER_NOTE = (
    "The paper's base model and data are others than ours: its column says what order to expect, "
    "not which numbers."
)
MAX_LINES = 24
"""A longer table is cut to the best `N_BEST`, and the paper's four beside the best of all."""
N_BEST = 20
SCORES = ("ari", "nmi", "train_ari", "map", "recall_at_k")
RULES = {
    "one_standard_error": "the smallest PC count within one standard error of the best",
    "best": "the smallest of the best PC counts",
}


def ablation_markdown(
    results: pd.DataFrame, best: Mapping[str, Any], top_k: int | None = None
) -> str:
    """The table and what must be said of it, for a file or a terminal."""
    swept = SweepResults(results, best)
    shown = shown_settings(swept)
    rows = [_headings(swept, top_k), *(_row(swept, setting) for setting in shown)]
    notes = [*sentences(swept), *legend(swept)]
    if (n_more := len(swept.settings) - len(shown)) > 0:
        notes.append(f"{n_more} more settings are in results.parquet.")
    return "\n\n".join([markdown(_without_constants(rows)), *map(_inert, notes)]) + "\n"


def ablation_csv(results: pd.DataFrame, best: Mapping[str, Any], top_k: int) -> str:
    """Every setting, in full precision: fractions of one."""
    swept = SweepResults(results, best)
    records = [_record(swept, setting, top_k) for setting in swept.settings]
    text = StringIO()
    writer = csv.DictWriter(text, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def shown_settings(swept: SweepResults) -> list[Setting]:
    """The lines of the table in the order of the sweep: all, or the best and the paper's four."""
    if len(swept.settings) <= MAX_LINES:
        return list(swept.settings)
    winners = [winner for task in TASKS if (winner := swept.winner(task)) is not None]
    four = {Setting(*one.variant, name) for one in winners for name in SUB_NETWORK_NAMES}
    chosen = {*leading(swept, swept.settings)[:N_BEST], *winners, *four}
    return [setting for setting in swept.settings if setting in chosen]


def sentences(swept: SweepResults) -> list[str]:
    """What was tried, and what the rule chose; without markup."""
    rule = str(swept.best.get("rule"))
    found = [_tried(swept), f"Chosen on validation: {RULES.get(rule, rule)}."]
    for task in TASKS:
        winner = swept.winner(task)
        choice = None if winner is None else swept.choice(winner, task)
        if winner is not None and choice is not None:
            found.append(_chosen(swept, task, winner, choice))
    return found


def legend(swept: SweepResults) -> list[str]:
    """How the table is to be read."""
    bracket = " In brackets: the count of the largest score, where it is another."
    moved = any(one.argmax != one.n_components for one in swept.choices)
    found = [
        "Validation scores in percent, ± standard deviation over k-means seeds. d: the numbers in "
        "an adapter of the full network. PCs: the count chosen for clustering, then for "
        f"retrieval.{bracket if moved else ''}"
    ]
    return [*found, PAPER_NOTE] if has_paper(swept) else found


def has_paper(swept: SweepResults) -> bool:
    """Whether a line has a number in the paper."""
    return any(paper_score(setting) is not None for setting in swept.settings)


def paper_score(setting: Setting) -> float | None:
    """The paper's train ARI of a sub-network: of trained adapters, not of updates that were cut."""
    return None if setting.rank_method == TRUNCATED else PAPER_TRAIN_ARI.get(setting.sub_network)


def _tried(swept: SweepResults) -> str:
    trained, cut = swept.ranks(TRAINED), swept.ranks(TRUNCATED)
    compared = dict.fromkeys(one.representation for one in swept.variants)
    parts = [
        f"{len(swept.settings)} settings of {_listed([representation_name(c) for c in compared])}"
    ]
    if trained:
        parts.append(f"trained at {_ranks(trained)}")
    if cut:
        own = f" from rank {swept.own_rank}" if swept.own_rank else ""
        parts.append(f"cut by SVD{own} to {_ranks(cut)}")
    return f"{'; '.join(parts)}."


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {_listed(ranks)}"


def _listed(items: Sequence[int | str]) -> str:
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last


def _chosen(swept: SweepResults, task: str, winner: Setting, choice: Choice) -> str:
    score = swept.objective(task)
    form = CALIBRATION_NAMES.get(choice.calibration, choice.calibration)
    parts = [setting_name(swept, winner), *([form] if len(swept.calibrations) > 1 else [])]
    counted = f"{choice.n_components} component{'s' if choice.n_components > 1 else ''}"
    name = ", ".join([*parts, counted])
    text = f"Best for {task}: {name} ({score_name(score, None)} {score_text(choice, score)} %)"
    largest = choice.largest(score)
    if choice.argmax == choice.n_components or largest is None:
        return f"{text}, which is also the largest score."
    return (
        f"{text}; the largest score alone, {percent(largest)} %, would have taken {choice.argmax}."
    )


def _headings(swept: SweepResults, top_k: int | None) -> list[str]:
    scores = [score_name(score, top_k) for score in ("ari", "nmi", "map", "recall_at_k")]
    ari, nmi, precision, recall = scores
    calibration = "Calibration"
    first = ["Sub-network", "Representation", "Rank", "Share"]
    ours = [calibration, "PCs", ari, nmi, "train ARI"]
    paper = ["paper's"] if has_paper(swept) else []
    return [*first, *ours, *paper, calibration, "PCs", precision, recall]


def _row(swept: SweepResults, setting: Setting) -> list[str]:
    clustering, retrieval = (swept.choice(setting, task) for task in TASKS)
    paper = paper_score(setting)
    cells = {
        "clustering": [count_text(clustering), *(score_text(clustering, s) for s in SCORES[:3])],
        "retrieval": [count_text(retrieval), *(score_text(retrieval, s) for s in SCORES[3:])],
    }
    for task, its in cells.items():
        if swept.winner(task) == setting:
            its[:] = [f"**{cell}**" for cell in its]
    return [
        _as_written(setting.sub_network),
        representation_name(setting.representation),
        rank_text(setting),
        share_text(swept.shares[setting]),
        clustering.calibration if clustering else "–",
        *cells["clustering"],
        *(["" if paper is None else percent(paper)] if has_paper(swept) else []),
        retrieval.calibration if retrieval else "–",
        *cells["retrieval"],
    ]


def _as_written(expression: str) -> str:
    """Words for the paper's four; any other as it is typed, and in Markdown as code."""
    if expression in SUB_NETWORK_NAMES:
        return SUB_NETWORK_NAMES[expression]
    return f"`{_printable(expression).replace('`', '')}`"


def _inert(text: str) -> str:
    """Text that Markdown and a terminal take for text: a pattern's stars are no emphasis."""
    return _printable(text).replace("*", "\\*").replace("<", "&lt;")


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())


def _without_constants(rows: list[list[str]]) -> list[list[str]]:
    """Rows without the columns that say the same of each, if what is compared is not in them."""
    optional = {"Representation", "Rank", "Calibration"}
    keep = [
        place
        for place, heading in enumerate(rows[0])
        if heading not in optional or len({row[place] for row in rows[1:]}) > 1
    ]
    return [[row[place] for place in keep] for row in rows]


def _record(swept: SweepResults, setting: Setting, top_k: int) -> dict[str, Any]:
    record: dict[str, Any] = {**setting._asdict(), "share": swept.shares[setting]}
    for task in TASKS:
        choice = swept.choice(setting, task)
        record[f"{task}_calibration"] = choice.calibration if choice else None
        record[f"{task}_n_components"] = choice.n_components if choice else None
        record[f"{task}_argmax"] = choice.argmax if choice else None
        for score in (score for score in SCORES if TASK_OF[score] == task):
            record[score] = choice.score(score) if choice else None
            spread = "std" if task == "clustering" else "se"
            value = choice and (choice.spread(score) if spread == "std" else choice.error(score))
            record[f"{score}_{spread}"] = value
        record[f"best_for_{task}"] = swept.winner(task) == setting
    return {**record, "k": top_k, "paper_train_ari": paper_score(setting)}
