"""What a captioner said of each picture, kept as it is said: nothing is described twice.

Describing ten thousand images takes a GPU minutes and a processor hours, and may be interrupted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorastyle.corpus.captioner import BATCH_SIZE, SEARCH, load_captioner
from lorastyle.corpus.captioner_files import CaptionerIdentity, find_captioner
from lorastyle.corpus.works import Work
from lorastyle.pictures import read_picture
from lorastyle.progress import progress
from lorastyle.records import digest
from lorastyle.runs import Run

Keep = Callable[[Sequence[Work], Sequence[str]], None]
"""Takes works and a text for each, as soon as they are described."""
DescribeAll = Callable[[CaptionerIdentity, Path, Sequence[Work], Keep], None]
"""Describes works, whose paths are relative to a folder, with a captioner."""


def describe_here(
    identity: CaptionerIdentity, root: Path, works: Sequence[Work], keep: Keep
) -> None:
    """In this process, on its GPU if it has one."""
    captioner = load_captioner(identity.name)
    with progress("captions", len(works), "images") as shown:
        for start in range(0, len(works), BATCH_SIZE):
            batch = works[start : start + BATCH_SIZE]
            keep(batch, captioner.describe([read_picture(root / work.path) for work in batch]))
            shown.advance(len(batch))


def descriptions_path(run: Run) -> Path:
    """Where descriptions are kept: on this machine, also for a run in a bucket."""
    return run.directory / "descriptions.jsonl"


@dataclass
class Describer:
    """Describes works with a captioner, which is not even looked for until there are some."""

    captioner: str
    """A folder or hub id."""
    root: Path
    """The works' paths are relative to it."""
    kept: Path
    """A file of JSON lines."""
    describe_all: DescribeAll = describe_here
    identity: CaptionerIdentity | None = None
    """Which captioner it was, once it has described."""

    def __call__(self, works: Sequence[Work]) -> list[str]:
        """A text for each work, as kept or new.

        Raises CorpusError for a captioner that cannot be loaded and an image that cannot be read.
        """
        self.identity = find_captioner(self.captioner).identity()
        key = _key(self.identity)
        said = read_descriptions(self.kept, key)

        def keep(batch: Sequence[Work], texts: Sequence[str]) -> None:
            new = {work.content_hash: text for work, text in zip(batch, texts, strict=True)}
            _append(self.kept, key, new)
            said.update(new)

        missing = [work for work in works if work.content_hash not in said]
        if missing:
            self.describe_all(self.identity, self.root, missing, keep)
        return [said[work.content_hash] for work in works]


def read_descriptions(path: Path, key: str) -> dict[str, str]:
    """What was kept under a key, by content hash.

    Lines that are no record are passed over: a process that was killed may leave half of one.
    """
    if not path.exists():
        return {}
    said: dict[str, str] = {}
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
            if record["captioner"] == key:
                said[str(record["content_hash"])] = str(record["caption"])
        except (ValueError, KeyError, TypeError):
            continue
    return said


def _append(path: Path, key: str, said: Mapping[str, str]) -> None:
    records = ({"captioner": key, "content_hash": of, "caption": said[of]} for of in said)
    lines = "".join(f"{json.dumps(record)}\n" for record in records).encode()
    with path.open("ab+") as file:
        if file.tell() and not _ends_with_a_line(file.fileno(), file.tell()):
            lines = b"\n" + lines
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def _ends_with_a_line(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"


def _key(identity: CaptionerIdentity) -> str:
    """What a text depends on besides the picture. Not the name: a folder may have moved."""
    return digest([identity.sha256, SEARCH])
