"""Train a stack of adapters together: specs and cached latents in, vectors out."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lorastyle.adapters.initial import initial_vector
from lorastyle.adapters.layout import AdapterLayout, Vector
from lorastyle.adapters.stacked import StackedAdapters
from lorastyle.adapters.targets import layout_of
from lorastyle.base.target import training_target
from lorastyle.errors import TrainingError
from lorastyle.records import AdapterSpec, digest
from lorastyle.training.attention import fastest_attention
from lorastyle.training.batches import Batch, Batches, EncodedImages, TrainingItem, check_items
from lorastyle.training.checkpoint import (
    CheckpointFile,
    TrainingState,
    resume,
    write_checkpoint,
)
from lorastyle.training.kernels import tuned_for_fixed_shapes
from lorastyle.training.objective import adapter_losses
from lorastyle.training.optimizer import clip_each, make_optimizer
from lorastyle.training.settings import RESULT_FIELDS, TrainingSettings

LOSS_WINDOW = 0.1
"""Share of the steps, first and last, whose mean loss the receipt reports."""

__all__ = ["EncodedImages", "TrainedAdapter", "TrainingItem", "train_stack"]


@dataclass(frozen=True)
class TrainedAdapter:
    """What became of a spec."""

    spec: AdapterSpec
    vector: Vector
    """(d,), in layout order; not finite if the training diverged."""
    receipt: dict[str, Any]
    """JSON values: n_steps, stack (K), wall_s of the whole stack, finite, and, None where not
    finite: loss_first, loss_last, norm, update_norm (distance from the initial vector)."""


def train_stack(
    unet: nn.Module,
    scheduler: Any,
    items: Sequence[TrainingItem],
    settings: TrainingSettings,
    *,
    prior: EncodedImages | None = None,
    checkpoint: CheckpointFile | None = None,
    compiled: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> list[TrainedAdapter]:
    """Train all items together, on the device the U-Net is on.

    Items may have different numbers of images; all else has one shape. `prior`
    holds regularisation images, for `settings.prior_weight` > 0, mixed in as
    `settings.prior_batch` says (`training.ordering`). With a `checkpoint` file and
    `settings.checkpoint_every` > 0, an interrupted call is continued by the next
    one and ends in the same bits (CPU); removing the file is the caller's, once
    the result is safe. `on_step` is told the number of steps done.

    The U-Net computes in the precision that it has; adapters and Adam's state are float32
    at least. On a GPU each attention layer uses the kernel that is fastest there. With
    `compiled`, the U-Net goes through `torch.compile`, once a process for each K: it takes
    a minute, and another rounding.

    An adapter that diverges spoils nobody else's. Raises TrainingError for items
    that do not fit together, LayoutMismatchError or BaseModelError for a U-Net
    that cannot be trained so.
    """
    start = time.monotonic()
    _check(items, settings, prior)
    layout = layout_of(unet, settings.rank, settings.sub_network)
    initial = [initial_vector(layout, item.spec.init_seed) for item in items]
    with StackedAdapters(unet, layout, len(items), scaling=settings.alpha / settings.rank) as stack:
        for k, vector in enumerate(initial):
            stack.load(k, vector)
        run = _StackRun(unet, scheduler, stack, items, settings, prior, compiled=compiled)
        device = next(unet.parameters()).device
        with run.fastest_attention(), tuned_for_fixed_shapes(device, compiled=compiled):
            file = checkpoint if settings.checkpoint_every else None
            identity = _identity(items, settings, prior, layout) if file else ""
            losses = run.optimise(file, identity, on_step)
        vectors = [stack.vector(k) for k in range(len(items))]
    wall_s = time.monotonic() - start
    return [
        TrainedAdapter(
            item.spec,
            vectors[k],
            {"stack": len(items), "wall_s": round(wall_s, 3)}
            | _receipt(vectors[k], initial[k], losses[:, k]),
        )
        for k, item in enumerate(items)
    ]


class _StackRun:
    """The training loop of one stack."""

    def __init__(
        self,
        unet: nn.Module,
        scheduler: Any,
        stack: StackedAdapters,
        items: Sequence[TrainingItem],
        settings: TrainingSettings,
        prior: EncodedImages | None,
        *,
        compiled: bool,
    ) -> None:
        # Channels-last is what both oneDNN and cuDNN compute in, and what the transformer
        # blocks' (batch, tokens, channels) is: no copies on the way in.
        self._unet = unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._forward = torch.compile(unet, dynamic=False) if compiled else unet
        self._scheduler, self._stack, self._settings = scheduler, stack, settings
        self._dtype = next(unet.parameters()).dtype
        self._batches = Batches(
            items,
            settings,
            prior if settings.prior_weight > 0 else None,
            n_timesteps=int(scheduler.config.num_train_timesteps),
            like=stack.weights.detach(),
        )
        self._optimizer = make_optimizer(stack.weights, settings)
        self._losses = torch.zeros(settings.n_steps, len(items), device=stack.weights.device)

    def optimise(
        self,
        file: CheckpointFile | None,
        identity: str,
        on_step: Callable[[int], None] | None,
    ) -> npt.NDArray[np.float32]:
        """Make the steps that are left; losses (n_steps, K)."""
        every, n_steps = self._settings.checkpoint_every, self._settings.n_steps
        done = resume(file, self._state(), identity) if file else 0
        self._stack.refresh()
        for step in range(done, n_steps):
            self._step(step)
            if file and (step + 1) % every == 0:
                write_checkpoint(file, self._state(), identity)
            if on_step is not None:
                on_step(step + 1)
        return self._losses.cpu().numpy()

    def fastest_attention(self) -> AbstractContextManager[object]:
        """In which each layer has the kernel fastest on this GPU; nothing on a CPU."""
        if not self._stack.weights.is_cuda:
            return nullcontext()
        return fastest_attention(
            self._unet, lambda: self._predict(self._unet, self._batches.draw(0))
        )

    def _predict(self, unet: Callable[..., Any], batch: Batch) -> Tensor:
        noisy = self._scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        predicted: Tensor = unet(
            noisy.to(self._dtype, memory_format=torch.channels_last),
            batch.timesteps,
            batch.text.to(self._dtype),
            return_dict=False,
        )[0]
        return predicted

    def _step(self, step: int) -> None:
        batch = self._batches.draw(step)
        target = training_target(self._scheduler, batch.latents, batch.noise, batch.timesteps)
        prediction = self._predict(self._forward, batch)
        losses = adapter_losses(prediction, target, batch.weights)
        self._stack.backward(losses.sum())
        clip_each(self._stack.gradients, self._settings.max_grad_norm)
        self._optimizer.step()
        self._stack.refresh()
        # Kept on the device: reading a loss here would wait for a GPU at every step.
        self._losses[step] = losses.detach()

    def _state(self) -> TrainingState:
        adam = self._optimizer.state[self._stack.weights]
        return TrainingState(
            weights=self._stack.weights,
            exp_avg=adam["exp_avg"],
            exp_avg_sq=adam["exp_avg_sq"],
            adam_step=adam["step"],
            losses=self._losses,
        )


def _check(
    items: Sequence[TrainingItem], settings: TrainingSettings, prior: EncodedImages | None
) -> None:
    if settings.prior_weight > 0 and prior is None:
        raise TrainingError(
            f"prior_weight={settings.prior_weight} needs regularisation images; "
            "give them as `prior`, or set prior_weight=0"
        )
    check_items(items, prior)


def _identity(
    items: Sequence[TrainingItem],
    settings: TrainingSettings,
    prior: EncodedImages | None,
    layout: AdapterLayout,
) -> str:
    """Digest of what determines the result: specs, settings, layout, and the images' bytes."""
    sources = [item.images for item in items] + ([] if prior is None else [prior])
    content = hashlib.sha256()
    for source in sources:
        for array in (source.latents_mean, source.latents_std, source.text):
            content.update(np.ascontiguousarray(array).tobytes())
    return digest(
        {
            "specs": [item.spec.to_dict() for item in items],
            "settings": {name: getattr(settings, name) for name in RESULT_FIELDS},
            "layout": layout.hash(),
            "images": content.hexdigest(),
        }
    )


def _receipt(vector: Vector, initial: Vector, losses: npt.NDArray[np.float32]) -> dict[str, Any]:
    """How one adapter's training went; losses (n_steps,)."""
    window = max(1, round(LOSS_WINDOW * len(losses)))
    return {
        "n_steps": len(losses),
        "finite": bool(np.isfinite(vector).all()),
        "loss_first": _number(losses[:window].mean(dtype=np.float64)),
        "loss_last": _number(losses[-window:].mean(dtype=np.float64)),
        "norm": _number(np.linalg.norm(vector.astype(np.float64))),
        "update_norm": _number(np.linalg.norm(vector.astype(np.float64) - initial)),
    }


def _number(value: np.floating[Any]) -> float | None:
    """A JSON number, or None: NaN is never written."""
    return float(value) if math.isfinite(value) else None
