"""Descriptions are kept as they are made, and none is made twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorastyle.corpus import descriptions
from lorastyle.corpus.captioner import Captioner, load_captioner
from lorastyle.corpus.descriptions import Describer
from lorastyle.corpus.folder import read_folder
from lorastyle.corpus.works import Work
from lorastyle.errors import CorpusError


@dataclass
class Seen:
    """How many pictures the captioner was shown, and after how many calls it gives up."""

    calls: list[int] = field(default_factory=list)
    last: int | None = None


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    told, describe = Seen(), Captioner.describe

    def counting(self: Captioner, images: list[Image.Image], *rest: int) -> list[str]:
        if told.last is not None and len(told.calls) >= told.last:
            raise KeyboardInterrupt
        told.calls.append(len(images))
        return describe(self, images, *rest)

    monkeypatch.setattr(Captioner, "describe", counting)
    monkeypatch.setattr(descriptions, "BATCH_SIZE", 4)
    return told


@pytest.fixture
def works(make_folder: Callable[..., Path]) -> list[Work]:
    return read_folder(make_folder({"a": 6, "b": 4}))[0]


@pytest.fixture
def describer(tiny_blip: Path, tmp_path: Path, works: list[Work]) -> Describer:
    return Describer(str(tiny_blip), tmp_path / "art", tmp_path / "descriptions.jsonl")


def expected_of(tiny_blip: Path, root: Path, works: list[Work]) -> list[str]:
    images = [np.asarray(Image.open(root / work.path)) for work in works]
    return load_captioner(str(tiny_blip)).describe(images)


def test_each_work_gets_what_the_captioner_says_of_it_once(
    tiny_blip: Path, describer: Describer, works: list[Work], seen: Seen
) -> None:
    texts = describer(works)
    assert seen.calls == [4, 4, 2]
    assert texts == expected_of(tiny_blip, describer.root, works)
    seen.calls.clear()
    assert describer(works[::-1]) == texts[::-1]
    assert seen.calls == []


def test_an_interrupted_description_goes_on_where_it_was(
    describer: Describer, works: list[Work], seen: Seen
) -> None:
    seen.last = 2
    with pytest.raises(KeyboardInterrupt):
        describer(works)
    seen.last = None
    describer(works)
    assert seen.calls == [4, 4, 2]


@pytest.mark.parametrize("cut", [1, 30])
def test_half_a_line_costs_one_description(
    describer: Describer, works: list[Work], seen: Seen, cut: int
) -> None:
    texts = describer(works)
    content = describer.kept.read_bytes()
    describer.kept.write_bytes(content[:-cut])
    seen.calls.clear()
    assert describer(works) == texts
    # Without its newline the last record is whole all the same.
    assert seen.calls == ([] if cut == 1 else [1])
    seen.calls.clear()
    assert describer(works) == texts
    assert seen.calls == []


def test_lines_that_are_no_records_are_passed_over(
    describer: Describer, works: list[Work], seen: Seen
) -> None:
    describer.kept.write_bytes(b'\xff\n[]\n{"captioner": 1}\n\n"text"\n7\n')
    describer(works)
    seen.calls.clear()
    describer(works)
    assert seen.calls == []


def test_another_captioner_describes_anew_and_a_moved_one_does_not(
    describer: Describer, works: list[Work], seen: Seen, tmp_path: Path
) -> None:
    texts = describer(works)
    moved = shutil.copytree(describer.captioner, tmp_path / "moved")
    seen.calls.clear()
    assert Describer(str(moved), describer.root, describer.kept)(works) == texts
    assert seen.calls == []
    vocabulary = json.loads((moved / "tokenizer.json").read_text())
    words = vocabulary["model"]["vocab"]
    words["pier"] = words.pop("pond")
    (moved / "tokenizer.json").write_text(json.dumps(vocabulary))
    (moved / "vocab.txt").write_text((moved / "vocab.txt").read_text().replace("pond", "pier"))
    other = Describer(str(moved), describer.root, describer.kept)
    assert other(works) == [text.replace("pond", "pier") for text in texts]
    assert sum(seen.calls) == len(works)


def test_an_image_that_is_gone_is_named_and_the_rest_is_kept(
    describer: Describer, works: list[Work], seen: Seen
) -> None:
    (describer.root / works[5].path).unlink()
    with pytest.raises(CorpusError, match=rf"cannot read image .*{works[5].path}"):
        describer(works)
    assert len(describer.kept.read_text().splitlines()) == 4
