"""`lorastyle generate`, as a user types it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from lorastyle.adapters.formats.write import write_adapter
from lorastyle.adapters.updates import Adapter, ModuleKey, ModuleUpdate
from lorastyle.base.loading import load_base
from lorastyle.cli.main import main
from lorastyle.corpus.stage import read_catalogue, read_plan
from lorastyle.ingest.finding import find_candidates
from lorastyle.ingest.stage import ingest
from lorastyle.runs import Run

Generate = Callable[..., dict[str, Any]]

FAST = ("--steps", "2", "--guidance-scale", "1")


@pytest.fixture(scope="module")
def run(trained: Path) -> Run:
    """Generating changes nothing in it."""
    return Run.open(trained)


@pytest.fixture
def generate(run: Run, tmp_path: Path) -> Generate:
    """`generate(...)` into `out`; the document, or the error's sentence."""

    def ask(
        *arguments: Any, status: int = 0, run: Run = run, settings: tuple[str, ...] = FAST
    ) -> Any:
        given = map(str, ("generate", run.directory, *arguments, "--out", tmp_path / "out"))
        result = CliRunner().invoke(main, [next(given), *settings, *given, "--json"])
        assert result.exit_code == status, result.stderr
        return json.loads(result.stdout) if status == 0 else result.stderr

    return ask


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def prompts_in(folder: Path) -> list[str]:
    """What the images say of themselves, and what lies beside them: the same."""
    document = json.loads((folder / "prompts.json").read_text())
    listed = {image["file"]: image["prompt"] for image in document["images"]}
    assert sorted(listed) == sorted(path.name for path in folder.glob("*.png"))
    said = {}
    for name in sorted(listed):
        with Image.open(folder / name) as image:
            assert image.size == (32, 32)
            said[name] = image.info["prompt"]
    assert said == listed
    return list(said.values())


def test_captions_are_prompts_and_what_is_there_stays(
    run: Run, generate: Generate, tmp_path: Path
) -> None:
    specs = read_plan(run)[:2]
    names = [spec.adapter_id for spec in specs]
    document = generate(*names)
    captions = read_catalogue(run).set_index("image_id")["caption"]
    for spec in specs:
        wanted = [f"{spec.token} {captions[image]}" for image in spec.image_ids]
        assert prompts_in(tmp_path / "out" / spec.adapter_id) == wanted
    assert [one["n_made"] for one in document["generated"]] == [4, 4]

    files = sorted((tmp_path / "out" / names[0]).glob("*.png"))
    before = np.stack([pixels_of(path) for path in files])
    files[1].unlink()
    files[2].write_bytes(files[2].read_bytes()[:1000])
    assert [one["n_made"] for one in generate(*names)["generated"]] == [2, 0]
    again = np.stack([pixels_of(path) for path in files])
    assert np.abs(again - before.astype(int)).max() <= 1

    assert [one["n_made"] for one in generate(names[0], "--n-images", 6)["generated"]] == [2]
    prompts = prompts_in(tmp_path / "out" / names[0])
    assert prompts[4:] == prompts[:2]
    one, other = [pixels_of(files[0].with_name(f"0{i}.png")) for i in (0, 4)]
    assert not np.array_equal(one, other), "the same prompt from other noise"
    assert generate(names[0], "--seed", 1)["generated"][0]["n_made"] == 4


def test_the_identifier_goes_into_a_prompt(run: Run, generate: Generate, tmp_path: Path) -> None:
    spec = read_plan(run)[0]
    generate(spec.adapter_id, "--prompt", "a boat", "--prompt", "pond by [V] at [V]")
    assert prompts_in(tmp_path / "out" / spec.adapter_id) == [
        f"{spec.token} a boat",
        f"pond by {spec.token} at {spec.token}",
    ]


def test_a_sheet_shows_training_images_above_their_own(
    run: Run, generate: Generate, tmp_path: Path
) -> None:
    spec = read_plan(run)[0]
    (found,) = generate(spec.adapter_id, "--sheet")["generated"]
    assert Path(found["sheet"]) == tmp_path / "out" / f"{spec.adapter_id}.png"
    sheet = pixels_of(Path(found["sheet"]))
    paths = read_catalogue(run).set_index("image_id")["path"]
    for i, image_id in enumerate(spec.image_ids):
        original = pixels_of(run.corpus_path / paths[image_id])
        made = pixels_of(Path(found["folder"]) / f"0{i}.png")
        place, below = find(sheet, original), find(sheet, made)
        assert place[1] == below[1]
        assert place[0] < below[0]


def find(sheet: np.ndarray, image: np.ndarray) -> tuple[int, int]:
    """Where the sheet shows an image of 32 pixels, five times as large."""
    tile = image.repeat(5, axis=0).repeat(5, axis=1)
    corners = np.argwhere((sheet[:-159, :-159] == tile[0, 0]).all(axis=-1))
    hits = [(y, x) for y, x in corners if np.array_equal(sheet[y : y + 160, x : x + 160], tile)]
    assert len(hits) == 1
    return hits[0]


def test_without_the_images_themselves(trained_run: Run, generate: Generate) -> None:
    shutil.rmtree(trained_run.corpus_path)
    spec = read_plan(trained_run)[0]
    (found,) = generate(spec.adapter_id, "--sheet", run=trained_run)["generated"]
    assert found["n_made"] == 4
    assert len(pixels_of(Path(found["sheet"]))) < 400, "one row of images"


def test_adapters_from_elsewhere_of_other_ranks_and_with_names_that_lead_nowhere(
    trained_run: Run,
    generate: Generate,
    make_adapter: Callable[..., Adapter],
    tmp_path: Path,
) -> None:
    base, name = load_base(trained_run.experiment.base), "a..%2f..;evil"
    known = make_adapter(base.unet, 3, 9, "cross_attention")
    conv = ModuleUpdate(
        ModuleKey("unet", "conv_in"), np.ones((1, 36), "f4"), np.ones((16, 1), "f4"), kernel=(3, 3)
    )
    adapter = Adapter.of(name, [*known.updates.values(), conv])
    write_adapter(adapter, tmp_path / "in" / f"{name}.safetensors", "kohya")
    found = ingest(trained_run, find_candidates([tmp_path / "in"]))
    assert not found.refused
    sentence = generate(name, run=trained_run, status=1)
    assert "has 0 captions" in sentence and "give --prompt" in sentence

    both = (name, read_plan(trained_run)[0].adapter_id)
    document = generate(*both, "--prompt", "a pond of [V]", run=trained_run)
    folder = tmp_path / "out" / f"a.._2f.._evil-{sha256(name.encode()).hexdigest()[:8]}"
    assert prompts_in(folder) == ["a pond of"]
    assert [one["n_modules_left_out"] for one in document["generated"]] == [1, 0]


def test_what_is_not_said_is_as_the_experiment_has_it(
    trained_run: Run, generate: Generate, tmp_path: Path
) -> None:
    config = trained_run.config_path
    text = config.read_text()
    for before, after in (("sampling_seed: 0", "sampling_seed: 7"), ("scale: 7.5", "scale: 1.0")):
        assert text.count(before) == 1
        text = text.replace(before, after)
    config.write_text(text)
    name = read_plan(trained_run)[0].adapter_id
    generate(name, "--steps", 2, "--n-images", 1, run=trained_run, settings=())
    document = json.loads((tmp_path / "out" / name / "prompts.json").read_text())
    assert document["sampling"] == {
        "seed": 7, "n_steps": 2, "guidance_scale": 1.0, "negative_prompt": ""
    }  # fmt: skip


def test_wrong_use(trained_run: Run, generate: Generate) -> None:
    assert "name adapters, or give --all" in generate(status=2)
    assert "none named 'nobody'" in generate("nobody", status=1)
    name = read_plan(trained_run)[0].adapter_id
    assert "1001 sampling steps are more" in generate(name, "--steps", 1001, status=2)


def test_another_base_model_of_that_name_is_refused(
    trained_run: Run, generate: Generate, tmp_path: Path
) -> None:
    moved = tmp_path / "base"
    shutil.copytree(trained_run.experiment.base, moved)
    with (moved / "unet" / "diffusion_pytorch_model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    config = trained_run.config_path
    config.write_text(config.read_text().replace(str(trained_run.experiment.base), str(moved)))
    name = read_plan(trained_run)[0].adapter_id
    sentence = generate(name, run=trained_run, status=1)
    assert "were trained on a base model of sha256" in sentence
