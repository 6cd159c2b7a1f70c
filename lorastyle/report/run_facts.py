"""How the run was made: its size, its settings, its time."""

from __future__ import annotations

from lorastyle import __version__
from lorastyle.records import Role
from lorastyle.report.markup import Markup, tag
from lorastyle.report.source import ReportSource
from lorastyle.report.words import KIND_NAMES, duration, size


def n_adapters(source: ReportSource) -> int:
    """All adapters of the run, gallery and queries."""
    return sum(adapters_by_role(source).values())


def adapters_by_role(source: ReportSource) -> dict[Role, int]:
    """How many adapters of each role were evaluated, in the roles' order."""
    recorded = source.metrics.get("protocol", {}).get("adapters_per_role", {})
    return {role: int(recorded[role.value]) for role in Role if recorded.get(role.value)}


def adapter_size(source: ReportSource) -> int | None:
    """d, the numbers in one adapter, where a stage recorded it."""
    d = source.manifests.get("train", {}).get("outputs", {}).get("d")
    return int(d) if isinstance(d, int) else None


def total_wall_s(source: ReportSource) -> float:
    """Time of all finished stages, the report itself not counted."""
    return sum(
        float(one.get("wall_s", 0.0)) for name, one in source.manifests.items() if name != "report"
    )


def facts(source: ReportSource) -> Markup:
    """Counts, settings and times, and the whole configuration to unfold."""
    experiment = source.run.experiment
    training = experiment.training
    counts = [
        ("Artists, genres", f"{source.n_artists}, {source.n_genres}"),
        ("Images", f"{len(source.catalogue)}"),
        *(
            (f"Adapters, {KIND_NAMES[role]}", f"{n}")
            for role, n in adapters_by_role(source).items()
        ),
    ]
    d = adapter_size(source)
    if d is not None:
        counts.append(("Numbers in an adapter, d", f"{d:,}"))
        counts.append(("All adapters", size(4 * d * n_adapters(source))))
    settings = [
        ("Base model", experiment.base),
        ("Rank, alpha", f"{training.rank}, {training.alpha:g}"),
        ("Steps × batch", f"{training.n_steps} × {training.batch_size}"),
        ("Learning rate", f"{training.learning_rate:g}"),
        ("Initial lora_A", training.initialisation),
        ("Calibration", experiment.embedding.calibration_form),
        ("Configuration", experiment.hash()[:12]),
        ("lorastyle", __version__),
    ]
    times = [
        (f"Stage {name}", duration(float(one["wall_s"])))
        for name, one in source.manifests.items()
        if name != "report"
    ]
    if times:
        times.append(("Together", duration(total_wall_s(source))))
    lists = [_list(pairs) for pairs in (counts, settings, times) if pairs]
    whole = tag("pre", source.run.experiment.to_yaml())
    unfold = tag("details", tag("summary", "The whole configuration (config.yaml)"), whole)
    return tag("div", tag("div", lists, class_="facts"), _left_out(source), unfold)


def _list(pairs: list[tuple[str, str]]) -> Markup:
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs]
    return tag("dl", rows)


def _left_out(source: ReportSource) -> Markup | None:
    """Adapters kept out of every fit, by the reasons that `embed` recorded."""
    outputs = source.manifests.get("embed", {}).get("outputs", {})
    reasons, named = outputs.get("left_out") or {}, outputs.get("left_out_adapters") or {}
    if not reasons:
        return None
    n = sum(reasons.values())
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    items = [tag("li", f"{adapter}: {reason}") for adapter, reason in named.items()]
    summary = tag("summary", f"{n} adapters were left out of every fit: {why}")
    return tag("details", summary, tag("ul", items, class_="notes"))
