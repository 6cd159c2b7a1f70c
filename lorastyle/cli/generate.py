"""`lorastyle generate`: images from a run's base model with its adapters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorastyle.cli.answer import Answer, answer_options, respond
from lorastyle.cli.members import adapters_of_a_run, chosen_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorastyle.generation.folder import ImageFolder
    from lorastyle.generation.wanted import WantedImage
    from lorastyle.runs import Run

    Work = list[tuple[ImageFolder, list[WantedImage]]]
    """Of each adapter: where its images go, and which there are to be."""


@click.command(name="generate")
@adapters_of_a_run
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that the images go to, in a folder for each adapter.",
)
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    help="In place of the captions; may be repeated. The adapter's identifier takes the place of "
    "[V], or else goes before.",
)
@click.option(
    "--n-images",
    type=click.IntRange(min=1),
    help="Images an adapter; by default one a prompt or caption.",
)
@click.option("--seed", type=click.IntRange(min=0))
@click.option("--steps", "n_steps", type=click.IntRange(min=1), help="Of DDIM.")
@click.option(
    "--guidance-scale", type=click.FloatRange(min=0), help="1 is without, in half the time."
)
@click.option("--negative-prompt", help="What images are guided away from.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Images at once; halved where memory runs out.",
)
@click.option(
    "--sheet", is_flag=True, help="Also ADAPTER.png: training images above, generated ones below."
)
@answer_options
def command(
    target: Path | str,
    names: tuple[str, ...],
    everything: bool,
    out: Path,
    prompts: tuple[str, ...],
    n_images: int | None,
    batch_size: int,
    sheet: bool,
    as_json: bool,
    debug: bool,
    **sampling: Any,
) -> None:
    """Generate images with adapters of a run.

    ADAPTER is an adapter's name, as `search` prints it. Without --prompt, the captions of its
    training images are the prompts, with its identifier before each. How images are sampled is by
    default as the run's experiment says (`generation`). Images that are there already, made with
    the same settings, stay.
    """

    def body() -> Answer:
        from lorastyle.generation.folder import ImageFolder
        from lorastyle.generation.kept import GeneratedImages
        from lorastyle.generation.subjects import read_subjects
        from lorastyle.runs import Run
        from lorastyle.runs.file_names import safe_name

        run = Run.open(target)
        given = {name: value for name, value in sampling.items() if value is not None}
        settings = replace(GeneratedImages.of(run).sampling, **given)
        subjects = read_subjects(run, chosen_rows(run, names, everything).values())
        work = [
            (
                ImageFolder(out / safe_name(subject.adapter_id), subject, settings),
                subject.wanted(prompts, n_images),
            )
            for subject in subjects
        ]
        n_made = _make_missing(run, work, batch_size)
        sheets = [_write_sheet(run, *each) for each in work] if sheet else [None] * len(work)
        return _answer(run, out, work, n_made, sheets)

    respond(body, as_json=as_json, debug=debug)


def _make_missing(run: Run, work: Work, batch_size: int) -> list[int]:
    """Make what is not there; how many images that was, of each adapter."""
    missing = [(folder, folder.missing(wanted)) for folder, wanted in work]
    n_made = [len(images) for _, images in missing]
    for (folder, wanted), n in zip(work, n_made, strict=True):
        if not n:
            folder.describe(wanted, run.experiment.base)
    if not any(n_made):
        return n_made
    # Here, for they take seconds to load.
    from lorastyle.generation.generator import Generator
    from lorastyle.generation.orders import Order, carry_out, open_base
    from lorastyle.progress import progress

    places = {folder.subject.row: (folder, wanted) for folder, wanted in work}
    orders = [Order(folder.subject, tuple(images)) for folder, images in missing if images]
    generator = Generator(open_base(run), work[0][0].sampling, batch_size=batch_size)
    n_steps = sum(n_made) * generator.sampling.n_steps
    with progress("generate", n_steps, "image steps") as shown:
        for order, pixels in carry_out(run, orders, generator, on_step=shown.advance):
            folder, wanted = places[order.subject.row]
            folder.write(order.images, pixels)
            folder.describe(wanted, run.experiment.base)
    return n_made


def _write_sheet(run: Run, folder: ImageFolder, wanted: Sequence[WantedImage]) -> Path:
    """Beside the adapter's folder, so that a folder of images holds nothing else."""
    from lorastyle.generation.sheet import columns_of, contact_sheet, png
    from lorastyle.runs import write_atomically

    made, subject = folder.read(wanted), folder.subject
    originals = [_original(run, image.path, len(made[0])) for image in subject.images]
    if originals and list(wanted) == subject.wanted(n_images=len(wanted)):
        # Above each the image of its caption, also where captions are taken again.
        originals = [originals[i % len(originals)] for i in range(len(made))]
    # The identifier is in the line above.
    captions = [image.prompt.removeprefix(f"{subject.token} ") for image in wanted]
    columns = columns_of(originals, made, captions)
    path = folder.directory.with_name(f"{folder.directory.name}.png")
    write_atomically(path, png(contact_sheet(*_titles(run, folder), columns)), durable=False)
    return path


def _original(run: Run, path: Path, size: int) -> Any:
    """A training image as training saw it, or None where it is not on this machine."""
    from lorastyle.base.images import load_image
    from lorastyle.errors import CorpusError, StageError

    try:
        return load_image(run.fetch(path), size)
    except (CorpusError, StageError):
        return None


def _titles(run: Run, folder: ImageFolder) -> tuple[str, str]:
    subject, sampling = folder.subject, folder.sampling
    settings = (
        f"artist {subject.artist or 'unknown'}",
        f"identifier {subject.token}" if subject.token else "no identifier",
        f"base model {run.experiment.base}",
        f"{sampling.n_steps} steps",
        f"guidance {sampling.guidance_scale:g}",
        f"seed {sampling.seed}",
    )
    return subject.adapter_id, "  ·  ".join(settings)


def _answer(
    run: Run, out: Path, work: Work, n_made: Sequence[int], sheets: Sequence[Path | None]
) -> Answer:
    generated = [
        {
            "adapter_id": folder.subject.adapter_id,
            "folder": str(folder.directory),
            "n_images": len(wanted),
            "n_made": n,
            "sheet": None if sheet is None else str(sheet),
            "n_modules_left_out": folder.subject.n_left_out,
        }
        for (folder, wanted), n, sheet in zip(work, n_made, sheets, strict=True)
    ]
    n_images = sum(len(wanted) for _, wanted in work)
    lines = [
        f"{n_images} images of {len(work)} adapters in {out}: {sum(n_made)} made, "
        f"{n_images - sum(n_made)} there already"
    ]
    lines += [
        f"{folder.subject.adapter_id}: without {folder.subject.n_left_out} modules of its file "
        "that the run does not keep"
        for folder, _ in work
        if folder.subject.n_left_out
    ]
    return Answer({"run": str(run.location), "generated": generated}, "\n".join(lines))
