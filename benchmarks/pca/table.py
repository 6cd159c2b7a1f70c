"""The result document as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def render(document: dict[str, Any]) -> str:
    """The whole document: the machine, its limit, a line a method, our parts and sub-networks."""
    return "\n".join(
        [*_heading(document), "", *_aligned(_methods(document)), *_details(document["results"])]
    )


def _heading(document: dict[str, Any]) -> list[str]:
    settings, machine, limits = (document[key] for key in ("settings", "machine", "limits"))
    n, d = settings["rows"], settings["columns"]
    reads = ", ".join(f"{rate:,.0f} ({t})" for t, rate in limits["read_mb_per_s"].items())
    products = limits["product_gflop_per_s"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return [
        f"PCA of {n:,} x {d:,} float32 ({4e-9 * n * d:.2f} GB), {settings['artists']} artists, "
        f"{settings['components']} components",
        f"{machine['date']}, commit {machine['commit']}, {machine['cores']} cores, "
        f"{machine['processor']}, {machine['memory_gb']:.0f} GB",
        versions,
        f"raw read, cold, MB/s (threads): {reads}: {limits['read_s']:.2f} s",
        f"X @ X.T in float32, GFLOP/s of 2 n^2 d: {products['one_thread_a_core']:,.0f} with one "
        f"thread a core, {products['blas_threads']:,.0f} with BLAS's own threads: "
        f"{limits['product_s']:.2f} s",
        f"limit: {limits['limit_s']:.2f} s",
    ]


def _methods(document: dict[str, Any]) -> list[list[str]]:
    ks = document["settings"]["angles_at"]
    heading = ["method", "wall s", "/ limit", "/ ours", "peak GB", "variance error"]
    lines = [[*heading, *(f"angle, {k}" for k in ks)]]
    for result in document["results"]:
        wall = f"{result['wall_s']:.2f}" if result["status"] == "finished" else result["status"]
        line = [result["name"], wall, _ratio(result["to_limit"]), _ratio(result["to_ours"])]
        line.append("" if result["peak_gb"] is None else f"{result['peak_gb']:.2f}")
        full = result["accuracy"].get("full")
        if full is not None:
            line.append(f"{full['variance_error']:.1e}")
            line += [f"{full['angles'][str(k)]:.1e}" for k in ks]
        lines.append(line + [""] * (len(lines[0]) - len(line)))
    return lines


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _details(results: Sequence[dict[str, Any]]) -> list[str]:
    lines = [""]
    for result in results:
        if result["status"] != "finished":
            lines.append(f"{result['name']}: {result['explanation']}")
            continue
        parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in result["parts_s"].items())
        lines.append(f"{result['name']}: {parts}")
        for name, accuracy in result["accuracy"].items():
            if name != "full":
                angles = ", ".join(f"{a:.1e} at {k}" for k, a in accuracy["angles"].items())
                lines.append(
                    f"  {name}: variance error {accuracy['variance_error']:.1e}, angles {angles}"
                )
    return lines


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width: the first to the left, figures to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
