"""The result document as text for people."""

from __future__ import annotations

from typing import Any


def render(document: dict[str, Any]) -> str:
    """The machine, both contestants, k-means alone and the differences."""
    settings, machine = document["settings"], document["machine"]
    plain, ours = document["plain"], document["ours"]
    stage_s = document["stage"]["wall_s"]
    n_sub_networks = len(settings["sub_networks"])
    part = ", ".join(f"{seconds:.1f} s in {way}" for way, seconds in plain["part_s"].items())
    best = "; ".join(
        f"{name} {scores['ari_mean']:.2f}, {scores['train_ari_mean']:.2f}, {scores['map']:.2f}"
        for name, scores in document["best"].items()
    )
    lines = [
        f"{n_sub_networks} sub-networks of {settings['adapters']:,} adapters, "
        f"{settings['artists']} artists, {settings['components']} PC counts, "
        f"{settings['seeds']} seeds",
        f"{machine['date']}, commit {machine['commit']}, {machine['cores']} cores, "
        f"{machine['processor']}, {machine['memory_gb']:.0f} GB, "
        f"load {machine['load_average']:.1f}",
        ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
        "",
        "| on two cores | wall s | / ours | spaces | clustering | retrieval |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        _contestant(f"plain scikit-learn, {plain['way']}", plain, document["ratio"]),
        _contestant("ours, two processes of one thread", ours, 1.0),
        f"| the stage `sweep`, with Ray | {stage_s:.1f} | {stage_s / ours['wall_s']:.1f} | | | |",
        "",
        f"Steps are seconds of all {n_sub_networks} sub-networks together, one after the other. "
        f"The plain loop on a part: {part}.",
        "",
        "| k-means of all seeds, one thread | scikit-learn ms | ours ms | ratio |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in document["k_means"]:
        theirs, mine = row["scikit_learn_ms"], row["ours_ms"]
        name = f"{row['n_components']} components"
        lines.append(f"| {name} | {theirs:.0f} | {mine:.0f} | {theirs / mine:.1f} |")
    differences = document["differences"]
    worst = ", ".join(f"{name} {value:.0e}" for name, value in differences.items())
    return "\n".join(
        [
            *lines,
            "",
            f"Largest difference of a score: {max(differences.values()):.0e} ({worst}).",
            f"Best validation ARI, train ARI and mAP: {best}.",
        ]
    )


def _contestant(name: str, result: dict[str, Any], ratio: float) -> str:
    steps = (f"{result['steps_s'][step]:.1f}" for step in ("spaces", "clustering", "retrieval"))
    return f"| {name} | {result['wall_s']:.1f} | {ratio:.1f} | {' | '.join(steps)} |"
