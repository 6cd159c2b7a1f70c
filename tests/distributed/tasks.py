"""Tasks as the fleet knows them, without a corpus."""

from __future__ import annotations

from lorastyle.distributed.work import Task
from lorastyle.records import AdapterSpec, Role


def make_tasks(n: int, images: str = "a") -> list[Task]:
    """`n` adapters of one artist, on the same images."""
    return [
        Task(
            AdapterSpec(
                row=row, adapter_id=f"one-{row}", artist="one", genre="", role=Role.TRAIN,
                index=row, image_ids=(images,), token="", noise_seed=row, init_seed=0,
            ),
            digest=f"{images}{row}",
        )
        for row in range(n)
    ]  # fmt: skip
