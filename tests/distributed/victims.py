"""Training actors that are killed, or worse, at a moment of our choice.

`python -m tests.distributed.victims KIND RUN` trains a run with them on the cluster that
`RAY_ADDRESS` names.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorastyle.distributed import fleet
from lorastyle.distributed.fleet import TrainingActor
from lorastyle.distributed.work import Report, Task


def first_time(run_directory: Path, name: str) -> bool:
    """True once for each name, whichever process asks."""
    try:
        (run_directory / f"{name}.marker").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Victim(TrainingActor):
    """A training actor that is killed once, in a phase of its life."""

    phase = ""

    def ready(self) -> dict[str, Any]:
        if self.phase == "loading":
            self._die_once()
        return super().ready()

    def work(self, tasks: Sequence[Task]) -> Report:
        from lorastyle.store.shards import RowShards
        from lorastyle.training import trainer

        if self.phase == "training":
            self._before(trainer, "adapter_losses")
        if self.phase == "before the chunk":
            self._before(RowShards, "replace")
        if self.phase == "between chunk and manifest":
            self._after(RowShards, "replace")
        if self.phase == "after the first manifest entry":
            self._after(fleet.AdapterStore, "commit")
        return super().work(tasks)

    def _die_once(self) -> None:
        if first_time(Path(self._where[0]), self.phase):
            die()

    def _before(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def replaced(*arguments: Any, **keywords: Any) -> Any:
            self._die_once()
            return original(*arguments, **keywords)

        setattr(owner, name, replaced)

    def _after(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def replaced(*arguments: Any, **keywords: Any) -> Any:
            result = original(*arguments, **keywords)
            self._die_once()
            return result

        setattr(owner, name, replaced)


class Poisoned(TrainingActor):
    """A stack with the first adapter raises."""

    def work(self, tasks: Sequence[Task]) -> Report:
        if any(task.spec.row == 0 for task in tasks):
            raise ArithmeticError("always")
        return super().work(tasks)


class Hog(TrainingActor):
    """Takes far more memory than there is, once, and holds it until it is killed."""

    def work(self, tasks: Sequence[Task]) -> Report:
        import numpy as np

        if first_time(Path(self._where[0]), "hog"):
            held = [np.ones(2**27) for _ in range(int(os.environ["HOG_GIB"]))]
            time.sleep(120)
            assert held
        return super().work(tasks)


if __name__ == "__main__":
    from lorastyle.runs import Run

    fleet.TrainingActor = {"hog": Hog}[sys.argv[1]]  # type: ignore[misc]
    fleet.train(Run.open(Path(sys.argv[2])))
