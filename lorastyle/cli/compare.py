"""`lorastyle compare`: what two adapters are to each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lorastyle.cli.answer import Answer, answer_options, respond
from lorastyle.search.words import VERDICT_WORDS


@click.command(name="compare")
@click.argument("first", type=click.Path(path_type=Path), metavar="FILE")
@click.argument("second", type=click.Path(path_type=Path), metavar="FILE")
@answer_options
def command(first: Path, second: Path, as_json: bool, debug: bool) -> None:
    """Say what two LoRA files are to each other, by their weights.

    The same bytes, the same weights in another format, two checkpoints of one training,
    a similar style, or nothing of this; with the scores it rests on.
    """

    def body() -> Answer:
        from lorastyle.adapters.formats.read import read_adapter
        from lorastyle.search.verdicts import EXACT_RANK, compare_adapters

        a, b = (read_adapter(path, max_rank=EXACT_RANK) for path in (first, second))
        found = compare_adapters(a, b)
        document = {"first": str(first), "second": str(second), **found.to_dict()}
        return Answer(document, _text(document))

    respond(body, as_json=as_json, debug=debug)


def _text(document: Mapping[str, Any]) -> str:
    words = click.style(VERDICT_WORDS[document["verdict"]], bold=True)
    lines = [f"{document['verdict']}: {words}", *(f"  {line}" for line in document["evidence"])]
    scores = document["scores"]
    if "cosine" not in scores:
        return "\n".join(lines)
    shared = scores["coverage"]
    lines += [
        "",
        f"  cosine of the updates   {scores['cosine']:.4f} on {shared['shared_modules']} modules "
        f"(+{shared['only_first']} only in the first, +{shared['only_second']} in the second)",
        *(
            f"    {part.replace('_', '-'):<21} {value:.4f}"
            for part, value in scores["parts"].items()
        ),
        f"  of what is possible     {scores['aligned_cosine']:.4f}, given the row spaces",
        f"  overlap of row spaces   {scores['row_overlap']:.4f}",
    ]
    if scores["factor_cosine"] is not None:
        lines.append(f"  cosine of lora_A        {scores['factor_cosine']:.4f}")
    return "\n".join(lines)
