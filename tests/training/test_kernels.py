"""What is set for a stack's steps is put back."""

import pytest
import torch

from lorastyle.training.kernels import GRAPHS, tuned_for_fixed_shapes


@pytest.mark.parametrize(("device", "inside"), [("cuda", True), ("cpu", False)])
def test_convolutions_are_tried_on_gpus_and_the_setting_put_back(device, inside):
    assert not torch.backends.cudnn.benchmark
    with (
        pytest.raises(KeyError),
        tuned_for_fixed_shapes(torch.device(device), compiled=False),
    ):
        assert torch.backends.cudnn.benchmark is inside
        raise KeyError
    assert not torch.backends.cudnn.benchmark


def test_more_sizes_of_stacks_are_compiled_than_pytorch_would():
    import torch._dynamo.config as dynamo

    with (
        dynamo.patch(recompile_limit=8),
        tuned_for_fixed_shapes(torch.device("cpu"), compiled=True),
    ):
        assert dynamo.recompile_limit == GRAPHS
