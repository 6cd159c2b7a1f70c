"""An exported adapter is, in diffusers and PEFT, the adapter that was trained here.

From a row of a store, through a file, into the others' own loaders: the U-Net says the same of
any input as it does in our training, and the images are the same.
"""

import copy

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from peft import PeftModel

from lorastyle.adapters.formats.write import write_adapter
from lorastyle.adapters.stacked import StackedAdapters
from lorastyle.adapters.targets import layout_of
from lorastyle.base.loading import load_base
from lorastyle.base.sampling import initial_noise
from lorastyle.base.sampling_settings import Sampling
from lorastyle.generation.generator import Generator
from lorastyle.generation.wanted import WantedImage
from lorastyle.store.adapter_store import AdapterStore
from lorastyle.store.ingested import stored_adapter

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

RANK, ALPHA, N_ADAPTERS = 4, 6, 3
PROMPTS = ["a painting", "painting a a painting"]
SAMPLING = Sampling(seed=11, n_steps=4, guidance_scale=4.0)


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base)


@pytest.fixture(scope="module")
def store(base, tmp_path_factory):
    """Rows as training leaves them, of updates that are large."""
    layout = layout_of(base.unet, RANK)
    store = AdapterStore.create(
        tmp_path_factory.mktemp("store") / "adapters.zarr", layout, n_rows=N_ADAPTERS,
        base=base.identity.to_dict(), alpha=ALPHA, init={"initialisation": "independent"},
    )  # fmt: skip
    for row in range(N_ADAPTERS):
        vector = np.random.default_rng(row).standard_normal(layout.size) * 0.2
        store.commit(row, vector.astype(np.float32), {"adapter_id": f"a{row}"}, {})
    return store


@pytest.fixture(scope="module")
def others(base, store, tmp_path_factory):
    """`others(file_format, row)`: diffusers' pipeline with the exported adapter in it."""
    folder = tmp_path_factory.mktemp("exported")

    def load(file_format, row):
        unet, path = copy.deepcopy(base.unet), folder / f"{row}.{file_format}.safetensors"
        write_adapter(stored_adapter(store, row), path, file_format)
        if file_format == "peft":
            unet = PeftModel.from_pretrained(unet, str(path)).base_model.model
        pipeline = StableDiffusionPipeline(
            vae=base.vae, text_encoder=base.text_encoder, tokenizer=base.tokenizer, unet=unet,
            scheduler=DDIMScheduler.from_config(
                base.scheduler.config, clip_sample=False, timestep_spacing="trailing"
            ),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        pipeline.set_progress_bar_config(disable=True)
        if file_format != "peft":
            pipeline.load_lora_weights(str(folder), weight_name=path.name)
        return pipeline

    return load


@pytest.fixture(scope="module")
def ours(base, store):
    """The images of all rows, made together."""
    wanted = [WantedImage(i, prompt) for i, prompt in enumerate(PROMPTS)]
    adapters = [stored_adapter(store, row) for row in range(N_ADAPTERS)]
    return Generator(base, SAMPLING).generate(adapters, [wanted] * N_ADAPTERS)


@pytest.mark.parametrize(("file_format", "row"), [("kohya", 0), ("diffusers", 1), ("peft", 2)])
@torch.no_grad()
def test_it_says_and_paints_the_same(base, store, others, ours, file_format, row):
    pipeline = others(file_format, row)
    width = base.unet.config.cross_attention_dim
    generator = torch.Generator().manual_seed(5)
    noisy = torch.randn(2, *initial_noise(base, 0, [0]).shape[1:], generator=generator)
    timesteps, text = torch.tensor([3, 800]), torch.randn(2, 12, width, generator=generator)

    theirs = pipeline.unet(noisy, timesteps, text).sample
    unchanged = base.unet(noisy, timesteps, text).sample
    with StackedAdapters(base.unet, store.layout, N_ADAPTERS, scaling=store.scaling) as stack:
        for k, vector in enumerate(store.read_rows(range(N_ADAPTERS))):
            stack.load(k, vector)
        trained = base.unet(
            *(each.repeat(N_ADAPTERS, *[1] * (each.ndim - 1)) for each in (noisy, timesteps, text))
        ).sample.unflatten(0, (N_ADAPTERS, 2))[row]
    assert (theirs - unchanged).abs().max() > 0.1
    torch.testing.assert_close(trained, theirs, rtol=1e-4, atol=1e-4)

    images = pipeline(
        PROMPTS, latents=initial_noise(base, SAMPLING.seed, range(2)), output_type="np",
        num_inference_steps=SAMPLING.n_steps, guidance_scale=SAMPLING.guidance_scale,
    ).images  # fmt: skip
    others_rows = [ours[k].astype(int) for k in range(N_ADAPTERS) if k != row]
    assert min(np.abs(images * 255 - each).max() for each in others_rows) > 20
    assert np.abs(images * 255 - ours[row]).max() <= 1
