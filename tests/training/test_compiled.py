"""The U-Net with its stack goes through `torch.compile` whole, and once for each K.

Not by Inductor, which takes minutes: Dynamo and AOT Autograd, whose graph then runs as it is.
"""

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention import SDPBackend

from lorastyle.training import trainer
from lorastyle.training.attention import AttentionKernel, fastest_attention
from lorastyle.training.trainer import train_stack


@pytest.fixture
def graphs(monkeypatch):
    """Counts compiled graphs; a break would make several of one U-Net."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda module, **kw: compile_(module, backend=counter, **kw)
    )
    yield counter
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_stacks_of_one_size_share_one_graph_and_end_where_eager_ones_do(
    unet, epsilon_scheduler, items, settings, graphs, monkeypatch
):
    eager = [t.vector for t in train_stack(unet, epsilon_scheduler, items[:2], settings)]
    kernel = AttentionKernel(SDPBackend.MATH, 8)
    monkeypatch.setattr(
        trainer._StackRun,
        "fastest_attention",
        lambda run: fastest_attention(
            run._unet, lambda: run._predict(run._unet, run._batches.draw(0)), kernels=[kernel]
        ),
    )
    for _ in range(2):
        compiled = train_stack(unet, epsilon_scheduler, items[:2], settings, compiled=True)
    assert graphs.frame_count == 1
    moved = np.linalg.norm(eager[0] - eager[1])
    for one, other in zip(eager, compiled, strict=True):
        assert np.linalg.norm(one - other.vector) < 1e-3 * moved
