from __future__ import annotations

from pathlib import Path

from lorastyle.distributed.stacks import STACKS_FILE, stacks_of
from lorastyle.places.local import LocalPlace
from tests.distributed.tasks import make_tasks


def sizes(place: LocalPlace, n_workers: int, size: int = 4, images: str = "a") -> list[int]:
    return [len(stack) for stack in stacks_of(place, make_tasks(18, images), size, n_workers)]


def test_another_number_of_machines_does_not_change_what_is_stacked(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path)
    first = sizes(place, n_workers=2)
    assert first == [3, 3, 3, 3, 3, 3]
    assert sizes(place, n_workers=7) == first
    together = [task for stack in stacks_of(place, make_tasks(18), 4, 7) for task in stack]
    assert together == make_tasks(18)


def test_other_adapters_or_another_stack_are_cut_anew(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path)
    sizes(place, n_workers=2)
    assert sizes(place, n_workers=1, size=9) == [9, 9]
    assert sizes(place, n_workers=1, images="b") == [4, 4, 4, 3, 3]


def test_a_torn_file_is_cut_anew(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path)
    for content in (b"", b"{", b"[]", b'{"tasks": 1}'):
        (tmp_path / STACKS_FILE).write_bytes(content)
        assert sizes(place, n_workers=2) == [3] * 6
