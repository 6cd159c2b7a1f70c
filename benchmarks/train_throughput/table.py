"""The document as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEADING = (
    "trained by",
    "processes x threads",
    "samples/s",
    "spread",
    "a CPU s",
    "/ PEFT",
    "/ best PEFT",
    "adapters/h",
    "paired",
    "s an adapter",
    "peak GB",
    "of matmul",
)


def render(document: dict[str, Any]) -> str:
    """The machine, whether both sides agree, the table, and what is not in it."""
    parts = [_machine(document), "\n".join(map(_agreement, document["agreement"]))]
    parts.append("\n".join(_table([HEADING, *map(_line, document["rows"])])))
    parts.append(_note(document))
    if document["not_measured"]:
        parts.append("\n".join(_missing(each) for each in document["not_measured"]))
    return "\n\n".join(parts)


def _machine(document: dict[str, Any]) -> str:
    device, unet, settings = document["device"], document["unet"], document["settings"]
    memory = "" if device["memory_gb"] is None else f", {device['memory_gb']:.0f} GB"
    versions = [f"{name} {found}" for name, found in document["versions"].items() if found]
    return "\n".join(
        [
            f"{document['date']}, commit {document['commit'] or 'unknown'}, "
            f"{device['name']}{memory}, {device['cores']} cores, "
            f"load {device['load_average']:.1f}",
            ", ".join(versions),
            f"{unet['name']} in {unet['dtype']}, rank {unet['rank']}: "
            f"{unet['parameters_an_adapter']:,} parameters an adapter, "
            f"{unet['training_flops_a_sample'] / 1e9:,.2f} GFLOP a sample",
            f"matrix products {document['matmul']['tflop_per_s']:,.2f} TFLOP/s; "
            f"windows of {settings['seconds']:g} s, medians of {settings['rounds']} rounds",
        ]
    )


def _agreement(each: dict[str, Any]) -> str:
    where = f"The miniature in float64 on {each['device']}"
    if each["agree"] is None:
        return f"{where}: PEFT and ours were not compared: {each['why']}."
    verdict = "agree" if each["agree"] else "DISAGREE"
    return (
        f"{where}, {each['adapters']} adapters after {each['steps']} steps on the same noise: "
        f"PEFT and ours {verdict}, differing by {each['worst_difference']:.1g} at most where "
        f"{each['moved']:.1g} was moved."
    )


def _line(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        f"{row['processes']} x {row['threads']}",
        _number(row["samples_per_s"]),
        f"{row['spread']:.0%}",
        _number(row["samples_per_cpu_s"]),
        _times(row["lead"]),
        _times(row["lead_over_best"]),
        _number(row["adapters_per_h"]["interleaved"]),
        _number(row["adapters_per_h"]["paired"]),
        _number(row["s_an_adapter"]["interleaved"]),
        "" if row["peak_gb"] is None else f"{row['peak_gb']:.2f}",
        f"{row['share_of_matmul']:.1%}",
    ]


def _note(document: dict[str, Any]) -> str:
    samples = document["samples_an_adapter"]
    note = (
        "Spread is from the slowest round to the fastest; the processes of a row ran together. "
        "Samples a CPU second: other programs matter less to them. "
        f"An adapter is {samples['interleaved']:,} samples, or {samples['paired']:,} in paired "
        "batches, whatever the batch. / PEFT: over its plain loop at the first batch; / best "
        "PEFT: over the best of its rows."
    )
    if document["peer_modes"]:
        tried = ", ".join(f"{name} {rate:,.1f}" for name, rate in document["peer_modes"].items())
        note += f" PEFT in bfloat16, samples/s: {tried}; the faster way is in the table."
    return note


def _missing(each: dict[str, Any]) -> str:
    done = f" after {each['rounds']} rounds" if each["rounds"] else ""
    arrangement = f"{each['processes']} x {each['threads']}"
    return f"Not measured{done}: {each['name']}, {arrangement}: {each['why']}."


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


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
