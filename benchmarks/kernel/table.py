"""The document as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def render(document: dict[str, Any]) -> str:
    """The machine, then a table for each part that was measured."""
    parts = [_heading(document), _exact(document["exact"])]
    parts += [_sketch(name, records) for name, records in document["sketch"].items()]
    parts += [_search(document["search"]), _whole_search(document["whole_search"])]
    return "\n\n".join(part for part in parts if part)


def _heading(document: dict[str, Any]) -> str:
    machine = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return "\n".join(
        [
            f"{machine['date']}, commit {machine['commit']}, {machine['cores']} cores, "
            f"{machine['processor']}, {machine['memory_gb']:.0f} GB, "
            f"load {machine['load_average']:.1f}",
            versions,
        ]
    )


def _exact(found: dict[str, Any]) -> str:
    heading = ["exact kernel", "pairs/s", "GFLOP/s", "of GEMM", "in CPU time", "working GB"]
    heading += ["error", f"n = {found['database']:,}"]
    line = [
        f"{found['adapters']} x {found['adapters']}, rank {found['rank']}, "
        f"{found['modules']} modules",
        f"{found['pairs_per_s']:,.0f}",
        f"{found['gflop_per_s']:.0f}",
        f"{found['share_of_gemm']:.0%}",
        f"{found['cpu_share_of_gemm']:.0%}",
        f"{found['working_gb']:.2f}",
        f"{found['error']:.0e}",
        f"{found['database_s'] / 60:.0f} min",
    ]
    note = (
        f"{found['workers']} workers with one BLAS thread each; GEMM "
        f"{found['gemm_gflop_per_s']:.0f} GFLOP/s with the same. Operations of n (n + 1) / 2 "
        f"pairs; working memory beyond {found['adapters_gb']:.2f} GB of adapters; error in units "
        "of both norms. "
        "In CPU time both rates are a CPU second's: other programs matter less."
    )
    return "\n".join([*_table([heading, line]), "", note])


def _sketch(name: str, records: Sequence[dict[str, Any]]) -> str:
    lines = [
        [
            f"sketch, {name}",
            "KiB",
            "ms an adapter",
            "cosines",
            "pairs",
            "rms error",
            "p95",
            "rms at 0.3 to 0.4",
            "p95",
            "pairs/s",
            "speed-up",
        ]
    ]
    for record in records:
        for which, errors in record["errors"].items():
            speed_up = record["speed_up"]
            lines.append(
                [
                    f"{record['numbers']:,} numbers, rank {record['rank']}",
                    f"{record['bytes'] / 1024:.0f}",
                    f"{record['ms_an_adapter']:.1f}",
                    which,
                    f"{errors['pairs']:,}",
                    *map(_percent, (errors["rms"], errors["p95"])),
                    *map(_percent, (errors["weak_rms"], errors["weak_p95"])),
                    f"{record['pairs_per_s']:,.0f}",
                    "" if speed_up is None else f"{speed_up:,.0f}",
                ]
            )
    return "\n".join(_table(lines))


def _search(records: Sequence[dict[str, Any]]) -> str:
    heading = ["search", "entries", "start-up s", "median ms", "p95 ms", "recall", "bytes an entry"]
    lines = [heading]
    lines += [
        [
            f"{record['name']}, {record['components']} components, top {record['top_k']}",
            f"{record['entries']:,}",
            f"{record['start_up_s']:.2f}",
            f"{record['median_ms']:.1f}",
            f"{record['p95_ms']:.1f}",
            f"{record['recall']:.4f}",
            f"{record['bytes_an_entry']:,}",
        ]
        for record in records
    ]
    return "\n".join(_table(lines)) if records else ""


def _whole_search(records: Sequence[dict[str, Any]]) -> str:
    heading = ["whole search", "entries", "start-up s", "placing ms", "median ms", "p95 ms"]
    lines = [
        [
            f"factors of rank {record['rank']} to neighbours",
            f"{record['entries']:,}",
            f"{record['start_up_s']:.2f}",
            f"{record['placing_median_ms']:.1f}",
            f"{record['median_ms']:.1f}",
            f"{record['p95_ms']:.1f}",
        ]
        for record in records
    ]
    return "\n".join(_table([heading, *lines]))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    """Markdown with columns of equal width: the first to the left, figures to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [
        "| "
        + " | ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in [lines[0], rule, *lines[1:]]
    ]
