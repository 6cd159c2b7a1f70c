"""The frozen network may compute in bfloat16; adapters are float32 all the same."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from lorastyle.adapters.initial import initial_vector
from lorastyle.adapters.targets import layout_of
from lorastyle.training.precision import compute_dtype
from lorastyle.training.trainer import train_stack


def test_adapters_of_a_bfloat16_network_are_those_of_a_float32_one_to_its_rounding(
    unet, epsilon_scheduler, items, settings
):
    settings = settings.model_copy(update={"n_steps": 12, "max_grad_norm": 1.0})
    start = initial_vector(layout_of(unet, settings.rank), items[0].spec.init_seed)
    moved = {
        dtype: train_stack(deepcopy(unet).to(dtype), epsilon_scheduler, items[:2], settings)[
            0
        ].vector
        - start
        for dtype in (torch.float32, torch.bfloat16)
    }
    fine, coarse = moved[torch.float32], moved[torch.bfloat16]
    cosine = fine @ coarse / (np.linalg.norm(fine) * np.linalg.norm(coarse))
    assert cosine > 0.95


def test_steps_smaller_than_a_bfloat16_are_not_lost(unet, epsilon_scheduler, items, settings):
    """In bfloat16, 0.1 + 1e-5 is 0.1."""
    settings = settings.model_copy(update={"n_steps": 3, "learning_rate": 1e-5})
    start = initial_vector(layout_of(unet, settings.rank), items[0].spec.init_seed)
    (trained,) = train_stack(unet.bfloat16(), epsilon_scheduler, items[:1], settings)
    step = np.abs(trained.vector - start)
    assert np.median(step) == pytest.approx(2e-5, rel=0.7)
    assert (trained.vector != torch.from_numpy(trained.vector).bfloat16().float().numpy()).any()


def test_auto_is_float32_where_there_is_no_gpu():
    cpu = torch.device("cpu")
    assert compute_dtype("auto", cpu) == torch.float32
    assert compute_dtype("bfloat16", cpu) == torch.bfloat16
    assert compute_dtype("float32", torch.device("cuda")) == torch.float32
