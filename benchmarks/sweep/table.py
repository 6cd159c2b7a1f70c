"""The result document as text for people."""

from __future__ import annotations

from typing import Any


def render(document: dict[str, Any]) -> str:
    """The machine, both contestants, k-means alone and the differences."""
    settings, machine = document["settings"], document["machine"]
    plain, ours = document["plain"], document["ours"]
    n_sub_networks = len(settings["sub_networks"])
    steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in plain["steps_s"].items())
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
        "| on two cores | wall s | ratio |",
        "| --- | ---: | ---: |",
        f"| plain scikit-learn, {plain['way']} | {plain['wall_s']:.1f} | {document['ratio']:.1f} |",
        f"| ours, two processes of one thread | {ours['wall_s']:.1f} | 1.0 |",
        "",
        f"Plain, all sub-networks' seconds: {steps}. On a part: {part}.",
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
