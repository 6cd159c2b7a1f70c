"""Sixteen files of strangers give what their index says of them, or a correct refusal."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.updates import ModuleKey
from lorastyle.errors import AdapterFileError

FOLDER = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "loras"
INDEX = FOLDER / "index.csv"
ROWS = list(csv.DictReader(INDEX.read_text().splitlines())) if INDEX.exists() else []
pytestmark = pytest.mark.skipif(not ROWS, reason="the shared LoRA files are absent")
FORMATS = {
    "lycoris-lokr": "lycoris-lokr",
    "diffusers-attn-procs(processor.*_lora)": "diffusers-attn-procs",
    "cloneofsimo-list": "cloneofsimo-list",
    "cloneofsimo-sft": "cloneofsimo",
}


def rows(of_weights=True):
    chosen = [row for row in ROWS if (row["rank"] != "0") == of_weights]
    return [pytest.param(row, id=row["file"]) for row in chosen]


@pytest.mark.parametrize("row", rows())
def test_a_real_file_is_what_its_index_says(row):
    adapter = read_adapter(FOLDER / row["file"])
    facts = adapter.facts
    assert facts["format"] == FORMATS[row["format"]]
    assert facts["family"] == f"sd{row['base'][2]}"
    assert facts["ranks"] == {row["rank"]: len(adapter)}
    assert facts["sha256"] == row["sha256"]
    assert facts["bytes"] == int(row["bytes"])
    assert row["dtype"] in facts["dtypes"]
    assert facts["empty"] is False
    text_only = "text encoder" in row["base"]
    assert ("unet" not in facts["networks"]) == text_only
    # The index counts alphas and the two embeddings of cloneofsimo's tokens as well.
    n_alphas = 0 if facts["alpha"] is None else len(adapter)
    n_embedded = 768 * sum(note.startswith("2 textual") for note in facts["notes"]) * 2
    assert facts["n_parameters"] + n_alphas + n_embedded == int(row["n_params"])
    json.dumps(facts, allow_nan=False)


@pytest.mark.parametrize("row", rows(of_weights=False))
def test_a_textual_inversion_is_refused_as_one(row):
    with pytest.raises(AdapterFileError, match="textual-inversion"):
        read_adapter(FOLDER / row["file"])


def test_a_pickle_and_a_safetensors_file_of_the_same_weights_are_the_same_adapter(tmp_path):
    file = FOLDER / "catundchat__sd15.bin"
    save_file(torch.load(file, map_location="cpu", weights_only=True), tmp_path / "it.safetensors")
    one, two = read_adapter(file), read_adapter(tmp_path / "it.safetensors")
    assert one.updates.keys() == two.updates.keys()
    for key in one.updates:
        np.testing.assert_array_equal(one.updates[key].lora_A, two.updates[key].lora_A)
        np.testing.assert_array_equal(one.updates[key].lora_B, two.updates[key].lora_B)


def test_cloneofsimos_list_alternates_up_and_down():
    file = FOLDER / "cloneofsimo__lora_disney.pt"
    raw = torch.load(file, map_location="cpu", weights_only=True)
    update = read_adapter(file).updates[
        ModuleKey("unet", "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0")
    ]
    np.testing.assert_array_equal(update.lora_B, raw[-2].detach().numpy())
    np.testing.assert_array_equal(update.lora_A, raw[-1].detach().numpy())


def test_a_lokr_file_read_at_full_rank_is_the_kronecker_product():
    file = FOLDER / "LyCORIS__smart_falcon_8_lokr.safetensors"
    adapter = read_adapter(file)
    raw = {key: value.double() for key, value in load_file(file).items()}
    module = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    parts = {
        key.rpartition(".")[2]: value
        for key, value in raw.items()
        if key.startswith(f"lora_unet_{module.replace('.', '_')}.")
    }
    wanted = (
        torch.kron(parts["lokr_w1_a"] @ parts["lokr_w1_b"], parts["lokr_w2_a"] @ parts["lokr_w2_b"])
        * parts["alpha"]
        / 8
    ).numpy()
    found = adapter.updates[ModuleKey("unet", module)].delta()
    assert np.linalg.norm(found - wanted) < 1e-6 * np.linalg.norm(wanted)


def test_a_safetensors_file_is_read_without_torch_diffusers_or_peft():
    code = (
        "import sys; from pathlib import Path;"
        "from lorastyle.adapters.formats.read import read_adapter;"
        f"read_adapter(Path({str(FOLDER / 'catundchat__sd15.safetensors')!r}));"
        "print([m for m in ('torch', 'diffusers', 'peft', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
