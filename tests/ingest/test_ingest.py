"""Files of strangers become rows; bad ones are named and harm nothing."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.formats.write import write_adapter
from lorastyle.embedding.stage import embed
from lorastyle.errors import AdapterFileError, ConfigError, StageError
from lorastyle.ingest.finding import find_candidates
from lorastyle.ingest.labels import Label, label_of, plain, read_labels
from lorastyle.ingest.new_run import experiment_for_adapters
from lorastyle.ingest.stage import ingest
from lorastyle.records import Role
from lorastyle.runs import Run
from lorastyle.store.ingested import IngestedStore
from lorastyle.store.members import read_member, rows_by_name

LORAS = Path(__file__).parents[3] / "shared" / "data" / "loras"


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "run", experiment_for_adapters("run", "miniature"))


@pytest.fixture
def folder(tmp_path, painter) -> Path:
    """Two good files, one in a folder below, and much else."""
    folder = tmp_path / "folder"
    write_adapter(painter.adapter("anna", 1, name="one"), folder / "one.safetensors", "kohya")
    write_adapter(painter.adapter("bela", 2, name="two"), folder / "deep/er/two", "peft")
    return folder


def test_rows_hold_the_updates_of_the_files(run, folder):
    found = ingest(run, find_candidates([folder]))
    assert [taken.adapter_id for taken in found.added] == ["deep/er/two", "one"]
    assert not found.refused
    for taken in found.added:
        given = read_adapter(folder / taken.file)
        kept = read_member(run, taken.row)
        assert kept.updates.keys() == given.updates.keys()
        for key, update in given.updates.items():
            np.testing.assert_allclose(kept.updates[key].delta(), update.delta(), atol=1e-5)


def test_the_same_bytes_are_taken_once_and_the_same_name_twice(run, folder, painter):
    first = ingest(run, find_candidates([folder]))
    shutil.copy(folder / "one.safetensors", folder / "copy.safetensors")
    write_adapter(painter.adapter("chen", 3), folder / "one.pt.safetensors", "kohya")
    (folder / "one.pt.safetensors").rename(folder / "one.pt")
    again = ingest(Run.open(run.directory), find_candidates([folder]))
    assert {taken.file for taken in again.already} == {
        "one.safetensors",
        "copy.safetensors",
        "deep/er/two",
    }
    # A safetensors file called .pt: recognised by what it holds.
    assert [(taken.file, taken.adapter_id) for taken in again.added] == [("one.pt", "one-2")]
    assert len(rows_by_name(run)) == len(first.added) + 1


def bad_files(folder: Path) -> dict[str, str]:
    """Name of each, and what its refusal must say."""
    whole = (folder / "one.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "page.bin").write_text("<!DOCTYPE html><title>404</title>")
    (folder / "pointer.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "a" + "\nsize 12\n"
    )
    tensors = load(whole)
    name = next(key for key in tensors if key.endswith("lora_down.weight"))
    tensors[name][0, 0] = np.nan
    (folder / "nan.safetensors").write_bytes(save(tensors))
    return {
        "cut.safetensors": "",
        "empty.safetensors": "",
        "page.bin": "web page",
        "pointer.safetensors": "LFS",
        "nan.safetensors": "",
    }


def test_bad_files_are_named_and_the_others_go_on(run, folder):
    bad = bad_files(folder)
    found = ingest(run, find_candidates([folder]))
    assert {taken.adapter_id for taken in found.added} == {"one", "deep/er/two"}
    assert {refused.file for refused in found.refused} == set(bad)
    for refused in found.refused:
        assert bad[refused.file] in refused.reason
    with (run.ingested_path / "refused.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert {line["file"] for line in table} == set(bad)
    assert len(IngestedStore.open(run.ingested_path).table()) == 2


def test_dora_is_exact_where_the_run_has_its_base_model(run, tmp_path):
    """Against the weights that PEFT merges."""
    import torch
    from peft import LoraConfig, get_peft_model

    from lorastyle.base.loading import load_base

    unet = load_base("miniature").unet.float()
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], use_dora=True)
    model = get_peft_model(unet, config)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
        if "magnitude" in name:
            with torch.no_grad():
                parameter.mul_(1.2)
    model.save_pretrained(tmp_path / "in" / "dora")
    (taken,) = ingest(run, find_candidates([tmp_path / "in"])).added
    assert not taken.notes
    merged = model.merge_and_unload().state_dict()
    kept = read_member(run, taken.row)
    assert len(kept) == 16
    for key, update in kept.updates.items():
        expected = (merged[f"{key.module}.weight"] - before[f"{key.module}.weight"]).numpy()
        np.testing.assert_allclose(update.delta(), expected, atol=1e-5)


def test_an_adapter_that_changes_nothing_is_kept_out_of_fits(run, folder, painter):
    empty = painter.adapter(None, 5, noise=0.0, name="empty")
    write_adapter(empty, folder / "empty.safetensors", "kohya")
    found = ingest(run, find_candidates([folder]))
    assert {taken.adapter_id: taken.status for taken in found.added}["empty"] == "zero"
    outcome = embed(run)
    assert outcome.outputs["n_adapters"] == 2
    assert outcome.outputs["left_out_adapters"] == {"empty": "zero"}


def test_embedding_waits_for_new_adapters_to_be_asked_for(run, folder, painter):
    with pytest.raises(StageError, match="no finished 'ingest'"):
        embed(run)
    ingest(run, find_candidates([folder]))
    embed(run)
    assert embed(run).skipped
    write_adapter(painter.adapter("chen", 3), folder / "three.safetensors", "kohya")
    ingest(run, find_candidates([folder]))
    with pytest.raises(StageError, match="ingest"):
        embed(run)
    assert embed(run, force=True).outputs["n_adapters"] == 3


def test_labels_say_artist_genre_and_role(run, folder, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "file,artist,genre,role\none.safetensors,Anna,still life,test\ndeep/er/two,Bela,,\n"
        "gone.pt,Chen,,\n"
    )
    found = ingest(run, find_candidates([folder]), read_labels(labels))
    assert found.unused_labels == ["gone.pt"]
    table = IngestedStore.open(run.ingested_path).table().set_index("adapter_id")
    assert table.loc["one", ["artist", "genre", "role"]].tolist() == ["Anna", "still life", "test"]
    assert table.loc["deep/er/two", ["artist", "role"]].tolist() == ["Bela", "train"]


def test_labels_that_come_later_are_taken_without_the_weights_again(run, folder):
    ingest(run, find_candidates([folder]))
    embed(run)
    label = Label("Anna", "still life", Role.VAL)
    found = ingest(run, find_candidates([folder]), {"one.safetensors": label})
    assert found.relabelled == ["one"] and not found.added
    table = IngestedStore.open(run.ingested_path).table().set_index("adapter_id")
    assert table.loc["one", ["artist", "genre", "role"]].tolist() == ["Anna", "still life", "val"]
    assert table.loc["deep/er/two", "artist"] == ""
    outcome = embed(run, force=True)
    assert outcome.outputs["n_adapters"] == 2
    record = json.loads((run.embedding_path / "pass.json").read_text())
    assert record["n_new"] == 0  # no product is made again
    again = ingest(run, find_candidates([folder]), {"one.safetensors": label})
    assert not again.relabelled and embed(run).skipped
    # A file without a label changes nothing that was said before.
    assert not ingest(run, find_candidates([folder])).relabelled


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,artist\nx,y\n", "no column 'file'"),
        ("file,artist\nx,a\nx,b\n", "line 3: 'x' is there twice"),
        ("file,role\nx,winner\n", "no role 'winner'"),
        ("", "no column 'file'"),
    ],
)
def test_labels_that_make_no_sense(tmp_path, text, words):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_labels(path)


def test_labels_of_strangers_are_plain_text(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text('file,artist\nx,"a\x1b[2J\nb' + 300 * "!" + '"\n')
    label = read_labels(path)["x"]
    assert label.artist.isprintable() and len(label.artist) <= 200
    assert plain("\u202eevil") == "evil"
    assert label_of({"x": label}, "deep/x") == label
    assert Label().role is Role.TRAIN


def test_what_a_folder_holds(tmp_path, folder):
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(b"x")
    (folder / "link.safetensors").symlink_to(outside)
    (folder / ".hidden.safetensors").write_bytes(b"x")
    (folder / "readme.md").write_text("x")
    (folder / "loop").symlink_to(folder)
    assert [one.name for one in find_candidates([folder])] == ["deep/er/two", "one.safetensors"]
    assert [one.name for one in find_candidates([outside, outside])] == ["outside.safetensors"]
    assert [one.name for one in find_candidates([folder / "deep/er/two"])] == ["two"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(AdapterFileError, match="holds 0 files"):
        find_candidates([empty])
    with pytest.raises(AdapterFileError, match="there is no"):
        find_candidates([tmp_path / "nowhere"])


@pytest.mark.skipif(not LORAS.is_dir(), reason="the real LoRA files are not here")
def test_real_files_of_one_family_are_taken_and_the_others_named(tmp_path):
    run = Run.create(tmp_path / "run", experiment_for_adapters("run", "sd2"))
    files = [
        LORAS / f"cloneofsimo__lora_{name}"
        for name in (
            "pop.pt",
            "kiriko.pt",
            "disney.safetensors",
            "kiriko.text_encoder.pt",
            "kiriko2.ti.pt",
        )
    ]
    found = ingest(run, find_candidates(files))
    assert [taken.file for taken in found.added] == [files[0].name, files[1].name]
    reasons = {refused.file: refused.reason for refused in found.refused}
    assert "(320, 768), in sd2 it is (320, 1024)" in reasons[files[2].name]
    assert "text_encoder" in reasons[files[3].name]
    assert "textual-inversion" in reasons[files[4].name]
    given, kept = read_adapter(files[0]), read_member(run, found.added[0].row)
    for key, update in given.updates.items():
        # A module that was never trained is zero in the file, and not in the row at all.
        there = kept.updates[key].delta() if key in kept.updates else 0
        np.testing.assert_allclose(there, update.delta(), atol=1e-6)
