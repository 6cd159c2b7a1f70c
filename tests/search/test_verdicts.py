"""What two adapters are to each other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.updates import Adapter, ModuleUpdate
from lorastyle.search.verdicts import EXACT_RANK, VERDICTS, compare_adapters
from tests.wild import flat

LORAS = Path(__file__).parents[3] / "shared" / "data" / "loras"


def changed(adapter: Adapter, change) -> Adapter:
    return Adapter.of(adapter.name, [change(one) for one in adapter.updates.values()], {})


@pytest.fixture
def one(painter) -> Adapter:
    return painter.adapter("anna", 1, 4, "one")


def in_another_gauge(update: ModuleUpdate) -> ModuleUpdate:
    rng = np.random.default_rng(3)
    gauge = rng.standard_normal((update.rank, update.rank)) + 2 * np.eye(update.rank)
    return replace(
        update,
        lora_A=(np.linalg.inv(gauge) @ update.lora_A).astype(np.float32),
        lora_B=(update.lora_B @ gauge * update.scaling).astype(np.float32),
        scaling=1.0,
    )


def padded(update: ModuleUpdate) -> ModuleUpdate:
    return replace(
        update,
        lora_A=np.pad(update.lora_A, ((0, 5), (0, 0))),
        lora_B=np.pad(update.lora_B, ((0, 0), (0, 5))),
    )


def in_half_precision(update: ModuleUpdate) -> ModuleUpdate:
    rounded = [
        part.astype(np.float16).astype(np.float32) for part in (update.lora_A, update.lora_B)
    ]
    return replace(update, lora_A=rounded[0], lora_B=rounded[1])


@pytest.mark.parametrize("change", [in_another_gauge, padded, in_half_precision])
def test_the_same_weights_in_another_form(one, change):
    found = compare_adapters(one, changed(one, change))
    assert found.verdict == "same_weights"
    assert not found.findings["identical_bytes"]
    assert found.scores["cosine"] == pytest.approx(1, abs=1e-5)
    assert found.scores["relative_difference"] < 2e-3


def test_the_same_weights_at_another_strength_say_so(one):
    found = compare_adapters(one, changed(one, lambda u: replace(u, scaling=3 * u.scaling)))
    assert found.verdict == "same_weights"
    assert found.scores["norm_ratio"] == pytest.approx(3)
    assert "scaled by 3" in found.evidence[0]
    opposite = compare_adapters(one, changed(one, lambda u: replace(u, scaling=-u.scaling)))
    assert opposite.verdict == "unrelated"


def test_scores_are_those_of_the_updates_themselves(painter):
    a, b = painter.adapter("anna", 1, 4), painter.adapter("bela", 2, 8)
    scores = compare_adapters(a, b).scores
    x, y = flat(a), flat(b)
    assert scores["cosine"] == pytest.approx(
        x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-9
    )
    assert scores["norm_ratio"] == pytest.approx(np.linalg.norm(y) / np.linalg.norm(x))
    difference = np.linalg.norm(x - y) / max(np.linalg.norm(x), np.linalg.norm(y))
    assert scores["relative_difference"] == pytest.approx(difference, abs=1e-9)
    feed_forward = [flat(each.only(["feed_forward"])) for each in (a, b)]
    norms = np.prod([np.linalg.norm(each) for each in feed_forward])
    assert scores["parts"]["feed_forward"] == pytest.approx(
        feed_forward[0] @ feed_forward[1] / norms, abs=1e-9
    )


@pytest.fixture
def trained(one) -> Adapter:
    """Factors as training leaves them: lora_A near its start, lora_B of one size throughout."""
    rng = np.random.default_rng(4)

    def drawn(update: ModuleUpdate) -> ModuleUpdate:
        parts = (rng.standard_normal(part.shape) for part in (update.lora_A, update.lora_B))
        lora_A, lora_B = (part.astype(np.float32) for part in parts)
        return replace(update, lora_A=lora_A, lora_B=lora_B)

    return changed(one, drawn)


def later(one: Adapter, seed: int, moved: float) -> Adapter:
    """The same training some steps on: lora_A hardly moves, lora_B more."""
    rng = np.random.default_rng(seed)

    def step(update: ModuleUpdate) -> ModuleUpdate:
        def by(part: np.ndarray, share: float) -> np.ndarray:
            noise = rng.standard_normal(part.shape)
            noise *= share * np.linalg.norm(part) / np.linalg.norm(noise)
            return (part + noise).astype(np.float32)

        return replace(update, lora_A=by(update.lora_A, 0.05), lora_B=by(update.lora_B, moved))

    return changed(one, step)


def test_checkpoints_of_one_training_are_not_duplicates(trained):
    found = compare_adapters(trained, later(trained, 5, 0.5))
    assert found.verdict == "same_run"
    assert not found.findings["same_weights"]
    assert 0.6 < found.scores["cosine"] < 0.99


def test_a_shared_seed_alone_is_no_shared_training(trained):
    """Real files: unrelated adapters of one script have lora_A cosine 1.000, updates 0.017."""
    rng = np.random.default_rng(9)
    other = changed(
        trained,
        lambda u: replace(u, lora_B=rng.standard_normal(u.lora_B.shape).astype(np.float32)),
    )
    found = compare_adapters(trained, other)
    assert found.scores["factor_cosine"] == pytest.approx(1)
    assert found.verdict == "unrelated"


def test_the_training_session_in_the_metadata_is_evidence(trained):
    facts = {"metadata": {"ss_session_id": "17"}}
    moved = changed(later(trained, 1, 0.5), in_another_gauge)
    a, b = (replace(each, facts=facts) for each in (trained, moved))
    assert compare_adapters(a, b).verdict == "same_run"
    assert "ss_session_id" in " ".join(compare_adapters(a, b).evidence)
    other = replace(b, facts={"metadata": {"ss_session_id": "18"}})
    assert compare_adapters(a, other).verdict != "same_run"


def test_one_artist_is_kin_and_strangers_are_not(painter):
    a, b = painter.adapter("anna", 1), painter.adapter("anna", 2, 8)
    assert compare_adapters(a, b).verdict == "similar_style"
    assert compare_adapters(a, painter.adapter("chen", 3)).verdict == "unrelated"


def test_empty_foreign_and_disjoint_adapters(one, painter):
    empty = changed(one, lambda u: replace(u, lora_B=np.zeros_like(u.lora_B)))
    assert compare_adapters(one, empty).verdict == "empty"
    sd1, sd2 = (replace(one, facts={"family": name}) for name in ("sd1", "sd2"))
    assert compare_adapters(sd1, sd2).verdict == "not_comparable"
    parts = one.only(["feed_forward"]), one.only(["self_attention"])
    found = compare_adapters(*parts)
    assert found.verdict == "not_comparable" and "none of them in common" in found.evidence[0]
    smaller = changed(one, lambda u: replace(u, lora_A=u.lora_A[:, 1:].copy()))
    assert compare_adapters(one, smaller).verdict == "not_comparable"


def test_every_comparison_has_exactly_one_verdict_and_plain_scores(painter):
    import json

    adapters = [painter.adapter(artist, seed) for seed, artist in enumerate(("anna", "bela", None))]
    for a in adapters:
        for b in adapters:
            document = compare_adapters(a, b).to_dict()
            assert document["verdict"] in VERDICTS and set(document["findings"]) == set(VERDICTS)
            json.dumps(document, allow_nan=False)


REAL = {
    ("catundchat__sd15.bin", "catundchat__sd15.bin"): "identical_bytes",
    ("catundchat__sd15.bin", "catundchat__sd15.safetensors"): "unrelated",
    ("cloneofsimo__lora_disney.pt", "cloneofsimo__lora_pop.pt"): "unrelated",
    ("cloneofsimo__lora_disney.pt", "cloneofsimo__lora_disney.safetensors"): "not_comparable",
    ("cloneofsimo__lora_kiriko.pt", "cloneofsimo__lora_kiriko.text_encoder.pt"): "not_comparable",
    (
        "cloneofsimo__lora_disney.safetensors",
        "cloneofsimo__lora_disney_inpainting.safetensors",
    ): "unrelated",
}


@pytest.mark.skipif(not LORAS.is_dir(), reason="the real LoRA files are not here")
@pytest.mark.parametrize("pair", REAL, ids=" ".join)
def test_real_files(pair):
    a, b = (read_adapter(LORAS / name, max_rank=EXACT_RANK) for name in pair)
    assert compare_adapters(a, b).verdict == REAL[pair]
