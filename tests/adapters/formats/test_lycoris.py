"""LyCORIS itself, where it is installed (`pip install lycoris-lora`): what its modules add to a
layer's output is what the files they write are read as.
"""

import itertools

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lorastyle.adapters.formats.read import read_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
LAYERS = {
    "mid_block.attentions.0.proj_in": lambda: nn.Linear(48, 64),
    "mid_block.resnets.0.conv1": lambda: nn.Conv2d(48, 64, 3, padding=1),
}
FLAGS = {
    "LoConModule": ("use_tucker", "weight_decompose", "wd_on_out"),
    "LohaModule": ("use_tucker", "weight_decompose", "wd_on_out"),
    "LokrModule": ("use_tucker", "decompose_both", "full_matrix", "weight_decompose"),
}


@pytest.fixture(scope="module")
def lycoris():
    return pytest.importorskip("lycoris")


def settings_of(algorithm):
    for values in itertools.product((False, True), repeat=len(FLAGS[algorithm])):
        yield dict(zip(FLAGS[algorithm], values, strict=True))


@pytest.mark.parametrize("module", LAYERS)
@pytest.mark.parametrize("algorithm", FLAGS)
def test_its_modules_and_their_files_agree(lycoris, tmp_path, module, algorithm):
    for settings in settings_of(algorithm):
        torch.manual_seed(0)
        layer = LAYERS[module]()
        base = layer.weight.detach().clone()
        name = f"lora_unet_{module.replace('.', '_')}"
        made = getattr(lycoris.modules, algorithm)(
            name, layer, 1.0, lora_dim=3, alpha=1.5, **settings
        )
        with torch.no_grad():
            for key, parameter in made.named_parameters():
                if "dora" in key:
                    parameter.mul_(torch.rand_like(parameter) + 0.5)
                elif "org" not in key:
                    parameter.copy_(0.3 * torch.randn_like(parameter))
            inputs = torch.randn(5, 48) if base.ndim == 2 else torch.randn(2, 48, 6, 6)
            made.apply_to()
            wanted = made.forward(inputs) - made.org_forward(inputs)
        state = made.custom_state_dict()
        state = {f"{name}.{key}": value.detach().contiguous() for key, value in state.items()}
        save_file(state, tmp_path / "it.safetensors")
        weights = {f"unet.{module}.weight": base.numpy()}
        adapter = read_adapter(tmp_path / "it.safetensors", max_rank=4096, base_weights=weights)
        (update,) = adapter.updates.values()
        delta = torch.from_numpy(update.delta()).float().reshape(base.shape)
        apply = nn.functional.linear if base.ndim == 2 else nn.functional.conv2d
        found = apply(inputs, delta, **({} if base.ndim == 2 else {"padding": 1}))
        assert (found - wanted).norm() <= 5e-6 * wanted.norm(), settings
