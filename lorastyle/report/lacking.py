"""Which of the paper's figures a report has no data for, and what would make them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from lorastyle.report.markup import Markup, tag
from lorastyle.report.scores import feature_entries
from lorastyle.report.source import ReportSource
from lorastyle.report.written_files import SHEETS

ANEW = "lorastyle run CONFIG --run ANOTHER"
EVALUATE = "lorastyle evaluate RUN --force"
OF_IMAGES = ("scenarios", "retrieval_examples", SHEETS)
"""None of these is of adapters that came without images."""


@dataclass(frozen=True)
class Lack:
    """A figure that was not made, and the command that would give a run what it needs."""

    name: str
    title: str
    command: str


FIGURES = (
    Lack("style_map", "the style map (Figures 1 and 4)", f"{ANEW} protocol.train=12"),
    Lack(
        "calibration",
        "drift before and after calibration (Figures 5 and 8)",
        f"{ANEW} protocol.calibration=3 protocol.test=3 embedding.calibration_form=full",
    ),
    Lack(
        "calibration_curves",
        "scale and shift of the calibration by component (section 4.5)",
        f"{ANEW} protocol.calibration=3 embedding.calibration_form=full",
    ),
    Lack(
        "component_pairs",
        "pairs of later components (Figure 6)",
        f"{ANEW} embedding.max_components=100",
    ),
    Lack(
        "methods",
        "methods side by side (Table 1)",
        f"{ANEW} protocol.test=3 protocol.query_test=3",
    ),
    Lack(
        "scenarios",
        "retrieval by scenario (Figure 7), and generated images in the sheets",
        f"{EVALUATE} evaluation.generated=true",
    ),
    Lack(
        "retrieval_examples",
        "what queries find, in pictures (supplementary figure 2), of test queries whose embedding "
        "and images are at hand",
        f"{ANEW} protocol.query_test=3",
    ),
    Lack(
        SHEETS,
        "sheets of training images (supplementary figure 1), where adapters and images are at hand",
        "lorastyle report RUN --force",
    ),
    Lack(
        "components",
        "scores against the number of components (supplementary figures 3 and 4)",
        f"{ANEW} protocol.val=3 protocol.query_val=3",
    ),
)
FEATURES = Lack(
    "features",
    "image features beside the weights (Table 1, Figure 6)",
    f"{EVALUATE} evaluation.features=[pixel_mean]",
)


def lacking(source: ReportSource, made: Collection[str]) -> list[Lack]:
    """The figures of the paper that are not among those made, by their names."""
    there = {*made} | ({"components"} if "sweep_curves" in made else set())
    known = FIGURES if source.run.is_planned else [one for one in FIGURES if not _of_images(one)]
    return [lack for lack in known if lack.name not in there]


def lacking_part(source: ReportSource, made: Collection[str]) -> Markup | None:
    """A list of them for the page; None where nothing lacks."""
    items = [_item(lack) for lack in lacking(source, made)]
    if not source.run.is_planned:
        items.append(
            tag("li", "all that shows images: the adapters of this run came without theirs")
        )
    elif not feature_entries(source.metrics, "clustering"):
        items.append(_item(FEATURES))
    if not items:
        return None
    return tag(
        "div",
        tag("h3", "What this report lacks"),
        tag(
            "p",
            "Figures of the paper that this run has no data for, each with a command that makes "
            "some. CONFIG is the experiment. After an evaluation: ",
            tag("code", "lorastyle report RUN"),
            ".",
        ),
        tag("ul", items, class_="notes"),
        id="lacks",
    )


def _of_images(lack: Lack) -> bool:
    return lack.name in OF_IMAGES


def _item(lack: Lack) -> Markup:
    return tag("li", f"{lack.title}: ", tag("code", lack.command))
