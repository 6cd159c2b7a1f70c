"""A captioner on many machines: images are sent to it, for no other machine need have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorastyle.corpus.captioner import BATCH_SIZE, Captioner
from lorastyle.corpus.captioner_files import CaptionerIdentity
from lorastyle.corpus.descriptions import DescribeAll, Keep
from lorastyle.corpus.works import Work
from lorastyle.distributed.crews import Job, carry_out_on_actors
from lorastyle.distributed.session import Session
from lorastyle.distributed.sizing import keep_to_one_core
from lorastyle.pictures import read_picture
from lorastyle.runs import Run


def describe_on_actors(run: Run, session: Session) -> DescribeAll:
    """Has works described by as many actors as the run may use."""

    def describe_all(
        identity: CaptionerIdentity, root: Path, works: Sequence[Work], keep: Keep
    ) -> None:
        session.start()
        job = Job("captions", "images", CaptioningActor, (Captioner(identity),), BATCH_SIZE)
        files = [ImageFile(work, root / work.path) for work in works]
        carry_out_on_actors(
            run, job, files, lambda batch, texts: keep([file.work for file in batch], texts)
        )

    return describe_all


@dataclass(frozen=True)
class ImageFile:
    """An image that is read when it is sent: a batch is in memory, not the corpus."""

    work: Work
    path: Path
    content: bytes | None = None

    def __reduce__(self) -> tuple[Callable[..., ImageFile], tuple[Work, Path, bytes]]:
        content = self.path.read_bytes() if self.content is None else self.content
        return ImageFile, (self.work, self.path, content)


class CaptioningActor:
    """One process with the captioner."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner

    def ready(self) -> dict[str, Any]:
        """Load it: the same model as the driver's, or none."""
        keep_to_one_core()
        self._captioner.load()
        return {}

    def work(self, files: Sequence[ImageFile]) -> list[str]:
        """A text for each image."""
        return self._captioner.describe([read_picture(file.path, file.content) for file in files])
