"""A stack is trained exactly as PEFT and torch.optim would train each adapter alone.

Compared in float64: Adam divides by the gradient's own size, so that in float32
the rounding of a gradient near zero decides the sign of a whole first step.
"""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig

from lorastyle.adapters.initial import initial_factors
from lorastyle.adapters.targets import layout_of
from lorastyle.errors import BaseModelError, TrainingError
from lorastyle.training.batches import EncodedImages, TrainingItem
from lorastyle.training.noise import Stream, draw, image_order
from lorastyle.training.trainer import train_stack

EXACT = {"rtol": 0, "atol": 1e-7}
PEFT_TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]


def train_with_peft(unet, scheduler, item, settings, prior=None):
    """One adapter, step by step, with nothing of ours but the keyed noise."""
    layout = layout_of(unet, settings.rank, settings.sub_network)
    unet = deepcopy(unet).eval().requires_grad_(False)
    unet.add_adapter(
        LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=PEFT_TARGETS)
    )
    initial = initial_factors(layout, item.spec.init_seed)
    modules = dict(unet.named_modules())
    factors = {
        (name, factor): getattr(modules[name], f"lora_{factor}")["default"].weight
        for name, factor in initial
    }
    assert {weight.dtype for weight in factors.values()} == {unet.dtype}
    assert sum(p.requires_grad for p in unet.parameters()) == len(factors)
    for key, weight in factors.items():
        weight.data.copy_(torch.from_numpy(initial[key]))
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    parameters = list(factors.values())
    optimizer = kind(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    noisy_loss = {
        "paired": paired_loss,
        "interleaved": interleaved_loss,
        None: lambda *given: sample_losses(*given, Stream.INSTANCE, own_images(*given)).mean(),
    }[settings.prior_batch if prior is not None else None]
    for step in range(settings.n_steps):
        loss = noisy_loss(unet, scheduler, item, settings, step, *([prior] if prior else []))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
    return layout.flatten({key: weight.detach().numpy() for key, weight in factors.items()})


def own_images(unet, scheduler, item, settings, step):
    return window(image_order_of(item, Stream.INSTANCE_ORDER, len(item.text), settings), step)


def image_order_of(item, stream, n_images, settings):
    n_samples = settings.n_steps * settings.batch_size
    return image_order(item.spec.noise_seed, stream, n_images, n_samples).reshape(
        settings.n_steps, settings.batch_size
    )


def window(order, step):
    return [("own", image) for image in order[step]]


def paired_loss(unet, scheduler, item, settings, step, prior):
    """diffusers: a step shows as many regularisation images as own ones."""
    given = (unet, scheduler, item, settings, step)
    order = image_order_of(item, Stream.PRIOR_ORDER, len(prior.text), settings)
    others = [("prior", image) for image in order[step]]
    own = sample_losses(*given, Stream.INSTANCE, own_images(*given)).mean()
    return own + settings.prior_weight * sample_losses(*given, Stream.PRIOR, others, prior).mean()


def interleaved_loss(unet, scheduler, item, settings, step, prior):
    """kohya: one shuffled set of own images and as many of regularisation, sample by sample."""
    m, n_samples = len(item.text), settings.n_steps * settings.batch_size
    kinds = image_order_of(item, Stream.MIXING, 2 * m, settings).ravel() >= m
    queues = {
        "own": iter(image_order(item.spec.noise_seed, Stream.INSTANCE_ORDER, m, n_samples)),
        "prior": iter(
            image_order(item.spec.noise_seed, Stream.PRIOR_ORDER, len(prior.text), n_samples)
        ),
    }
    shown = [(kind, next(queues[kind])) for kind in np.where(kinds, "prior", "own").tolist()]
    size = settings.batch_size
    chosen = shown[step * size : (step + 1) * size]
    losses = sample_losses(unet, scheduler, item, settings, step, Stream.INSTANCE, chosen, prior)
    weights = [{"own": 1.0, "prior": settings.prior_weight}[kind] for kind, _ in chosen]
    return (losses * torch.tensor(weights)).mean()


def sample_losses(unet, scheduler, item, settings, step, stream, chosen, prior=None):
    """Mean squared error of each of a step's samples, (b,)."""
    sources = {"own": item, "prior": prior}
    drawn = draw(
        item.spec.noise_seed, stream, step, (len(chosen), *item.latents_mean.shape[1:]), 1000
    )
    mean, std, text = (
        torch.from_numpy(np.stack([getattr(sources[kind], name)[i] for kind, i in chosen])).to(
            unet.dtype
        )
        for name in ("latents_mean", "latents_std", "text")
    )
    posterior, noise = (
        torch.from_numpy(array).to(unet.dtype) for array in (drawn.posterior, drawn.noise)
    )
    latents = mean + std * posterior
    timesteps = torch.from_numpy(drawn.timesteps)
    kept = scheduler.alphas_cumprod.to(unet.dtype)[timesteps][:, None, None, None]
    signal = kept.sqrt()
    sigma = (1 - kept).sqrt()
    target = {"epsilon": noise, "v_prediction": signal * noise - sigma * latents}
    prediction = unet(signal * latents + sigma * noise, timesteps, text).sample
    error = prediction - target[scheduler.config.prediction_type]
    return error.square().flatten(1).mean(dim=1)


def vectors_of(unet, scheduler, items, settings, **keywords):
    return np.stack([t.vector for t in train_stack(unet, scheduler, items, settings, **keywords)])


@pytest.mark.parametrize(
    ("n_adapters", "n_steps", "rank"), [(1, 10, 4), (3, 4, 1), (8, 2, 6)], ids=str
)
def test_a_stack_equals_peft_adapter_by_adapter(
    precise_unet, scheduler, make_item, settings, n_adapters, n_steps, rank
):
    settings = settings.model_copy(update={"n_steps": n_steps, "rank": rank})
    items = [make_item(index, n_images=2 + index % 3) for index in range(n_adapters)]
    stacked = vectors_of(precise_unet, scheduler, items, settings)
    alone = [train_with_peft(precise_unet, scheduler, item, settings) for item in items]
    np.testing.assert_allclose(stacked, alone, **EXACT)


def test_in_float32_a_stack_equals_peft_to_rounding(unet, scheduler, items, settings):
    layout = layout_of(unet, settings.rank)
    (stacked,) = vectors_of(unet, scheduler, items[:1], settings)
    alone = train_with_peft(unet, scheduler, items[0], settings)
    moved = np.linalg.norm(alone - layout.flatten(initial_factors(layout, 3)))
    assert np.linalg.norm(stacked - alone) < 1e-4 * moved


def test_training_moves_both_factors(unet, scheduler, items, settings):
    layout = layout_of(unet, settings.rank)
    (trained,) = train_stack(unet, scheduler, items[:1], settings)
    initial = layout.flatten(initial_factors(layout, items[0].spec.init_seed))
    moved = layout.unflatten(np.abs(trained.vector - initial))
    assert all(factor.max() > 1e-4 for factor in moved.values())


@pytest.mark.parametrize("meaning", ["paired", "interleaved"])
@pytest.mark.parametrize("n_adapters", [1, 3, 8])
def test_prior_preservation_equals_peft_in_both_batch_meanings(
    precise_unet, epsilon_scheduler, make_item, settings, prior, n_adapters, meaning
):
    changes = {"prior_weight": 0.7, "prior_batch": meaning, "batch_size": 2, "n_steps": 3}
    settings = settings.model_copy(update=changes)
    items = [make_item(index, n_images=2 + index % 3) for index in range(n_adapters)]
    stacked = vectors_of(precise_unet, epsilon_scheduler, items, settings, prior=prior)
    alone = [
        train_with_peft(precise_unet, epsilon_scheduler, item, settings, prior) for item in items
    ]
    np.testing.assert_allclose(stacked, alone, **EXACT)


def test_prior_preservation_of_velocities_equals_peft(
    precise_unet, scheduler, items, settings, prior
):
    settings = settings.model_copy(update={"prior_weight": 0.7, "batch_size": 1, "n_steps": 8})
    (stacked,) = vectors_of(precise_unet, scheduler, items[:1], settings, prior=prior)
    alone = train_with_peft(precise_unet, scheduler, items[0], settings, prior)
    np.testing.assert_allclose(stacked, alone, **EXACT)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_weight_decay_equals_torch(precise_unet, epsilon_scheduler, items, settings, optimizer):
    settings = settings.model_copy(update={"optimizer": optimizer, "weight_decay": 0.1})
    (stacked,) = vectors_of(precise_unet, epsilon_scheduler, items[:1], settings)
    alone = train_with_peft(precise_unet, epsilon_scheduler, items[0], settings)
    np.testing.assert_allclose(stacked, alone, **EXACT)


def test_neither_the_number_of_adapters_nor_the_slot_matters(
    precise_unet, epsilon_scheduler, items, settings
):
    together = vectors_of(precise_unet, epsilon_scheduler, items, settings)
    turned = vectors_of(precise_unet, epsilon_scheduler, items[::-1], settings)[::-1]
    alone = np.concatenate(
        [vectors_of(precise_unet, epsilon_scheduler, [i], settings) for i in items]
    )
    np.testing.assert_allclose(turned, together, **EXACT)
    np.testing.assert_allclose(alone, together, **EXACT)


def test_the_same_call_gives_the_same_bits(unet, epsilon_scheduler, items, settings):
    first, second = (vectors_of(unet, epsilon_scheduler, items, settings) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_one_adapters_huge_loss_does_not_move_the_others(
    precise_unet, epsilon_scheduler, items, settings
):
    wild = replace(items[1], latents_mean=1e4 * items[1].latents_mean)
    calm = vectors_of(precise_unet, epsilon_scheduler, items, settings)
    disturbed = vectors_of(precise_unet, epsilon_scheduler, [items[0], wild, *items[2:]], settings)
    np.testing.assert_allclose(disturbed[[0, 2, 3]], calm[[0, 2, 3]], **EXACT)
    assert np.abs(disturbed[1] - calm[1]).max() > 1e-3


def test_a_diverged_adapter_is_told_of_and_spoils_nobody(
    precise_unet, epsilon_scheduler, items, settings
):
    broken = replace(items[1], latents_mean=np.full_like(items[1].latents_mean, np.nan))
    calm = vectors_of(precise_unet, epsilon_scheduler, items, settings)
    trained = train_stack(precise_unet, epsilon_scheduler, [items[0], broken, *items[2:]], settings)
    assert [t.receipt["finite"] for t in trained] == [True, False, True, True]
    assert trained[1].receipt["loss_last"] is None
    assert trained[1].receipt["norm"] is None
    for k in (0, 2, 3):
        np.testing.assert_allclose(trained[k].vector, calm[k], **EXACT)


def test_the_receipt_says_what_happened(unet, epsilon_scheduler, items, settings):
    settings = settings.model_copy(update={"n_steps": 40, "max_grad_norm": 1.0})
    trained = train_stack(unet, epsilon_scheduler, items[:2], settings)
    for item, adapter in zip(items, trained, strict=False):
        receipt = adapter.receipt
        assert adapter.spec is item.spec
        assert (receipt["n_steps"], receipt["stack"], receipt["finite"]) == (40, 2, True)
        assert receipt["loss_last"] < receipt["loss_first"]
        assert receipt["norm"] == pytest.approx(float(np.linalg.norm(adapter.vector)), rel=1e-5)
        assert 0 < receipt["update_norm"] < receipt["norm"]


@pytest.mark.parametrize("sub_network", ["self_attention", "cross_attention", "feed_forward"])
def test_one_sub_network_alone_can_be_trained(
    unet, epsilon_scheduler, items, settings, sub_network
):
    settings = settings.model_copy(update={"sub_network": sub_network, "n_steps": 2})
    (vector,) = vectors_of(unet, epsilon_scheduler, items[:1], settings)
    assert len(vector) == layout_of(unet, settings.rank).sub_network_size(sub_network)


def test_the_base_model_is_left_as_it_was(unet, epsilon_scheduler, items, settings):
    unet.train()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    train_stack(unet, epsilon_scheduler, items, settings.model_copy(update={"n_steps": 1}))
    after = unet.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert unet.training and all(p.requires_grad for p in unet.parameters())
    assert all(p.grad is None for p in unet.parameters())


def test_items_of_different_shapes_are_refused(unet, epsilon_scheduler, items, settings):
    longer = replace(items[1], text=np.zeros((4, 9, 16), np.float32))
    with pytest.raises(TrainingError, match=r"'artist-1'.*\(9, 16\).*'artist-0'.*\(5, 16\)"):
        train_stack(unet, epsilon_scheduler, [items[0], longer], settings)


def test_counts_that_differ_are_refused(unet, epsilon_scheduler, items, settings):
    short = replace(items[0], text=items[0].text[:1])
    with pytest.raises(TrainingError, match="3 latents, 3 deviations and 1 texts"):
        train_stack(unet, epsilon_scheduler, [short], settings)


def test_no_items_are_refused(unet, epsilon_scheduler, settings):
    with pytest.raises(TrainingError, match="0 adapters"):
        train_stack(unet, epsilon_scheduler, [], settings)


def test_a_prior_weight_without_prior_images_is_refused(unet, epsilon_scheduler, items, settings):
    settings = settings.model_copy(update={"prior_weight": 1.0})
    with pytest.raises(TrainingError, match="regularisation images"):
        train_stack(unet, epsilon_scheduler, items, settings)


def test_a_prior_is_not_looked_at_when_its_weight_is_zero(
    unet, epsilon_scheduler, items, settings, prior
):
    settings = settings.model_copy(update={"n_steps": 2})
    without = vectors_of(unet, epsilon_scheduler, items, settings)
    beside = vectors_of(unet, epsilon_scheduler, items, settings, prior=prior)
    np.testing.assert_array_equal(beside, without)


def test_an_unknown_prediction_type_is_refused(unet, epsilon_scheduler, items, settings):
    epsilon_scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(BaseModelError, match="'sample'"):
        train_stack(unet, epsilon_scheduler, items, settings)


def test_encoders_without_a_posterior_are_welcome(precise_unet, epsilon_scheduler, items, settings):
    zero = np.zeros_like(items[0].latents_std)
    images = EncodedImages(items[0].latents_mean, zero, items[0].text)
    item = TrainingItem(items[0].spec, images.latents_mean, images.latents_std, images.text)
    settings = settings.model_copy(update={"n_steps": 2})
    (stacked,) = vectors_of(precise_unet, epsilon_scheduler, [item], settings)
    alone = train_with_peft(precise_unet, epsilon_scheduler, item, settings)
    np.testing.assert_allclose(stacked, alone, **EXACT)
