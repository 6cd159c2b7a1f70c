"""One optimiser over all rows does to each what its own would."""

import pytest
import torch

from lorastyle.training.optimizer import clip_each, make_optimizer


@pytest.mark.parametrize("kind", ["adam", "adamw"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_rows_move_as_under_an_optimizer_of_their_own(settings, kind, weight_decay):
    settings = settings.model_copy(update={"optimizer": kind, "weight_decay": weight_decay})
    torch.manual_seed(0)
    start, gradients = torch.randn(3, 50), torch.randn(20, 3, 50)
    stacked = torch.nn.Parameter(start.clone())
    stacked.grad = torch.zeros_like(start)
    optimizer = make_optimizer(stacked, settings)
    for gradient in gradients:
        stacked.grad.copy_(gradient)
        clip_each(stacked.grad, 2.0)
        optimizer.step()
    for k in range(3):
        alone = torch.nn.Parameter(start[k].clone())
        own = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind](
            [alone], lr=settings.learning_rate, weight_decay=weight_decay
        )
        for gradient in gradients:
            alone.grad = gradient[k].clone()
            torch.nn.utils.clip_grad_norm_([alone], 2.0)
            own.step()
        torch.testing.assert_close(stacked[k], alone, rtol=1e-5, atol=1e-6)


def test_clipping_looks_at_one_row_at_a_time():
    gradients = torch.tensor([[3.0, 4.0], [0.3, 0.4], [3e8, 4e8], [torch.nan, 1.0]])
    clip_each(gradients, 1.0)
    torch.testing.assert_close(
        gradients[:3], torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.6, 0.8]]), rtol=1e-5, atol=0
    )
    assert gradients[3].isnan().all()
