"""From a feature's name and files to its encoder. Imports torch; `learned` does not."""

from __future__ import annotations

from collections.abc import Mapping

from lorastyle.features.aladin import aladin_encoder
from lorastyle.features.attribution import mapped_encoder
from lorastyle.features.clip import clip_encoder
from lorastyle.features.csd import csd_encoder
from lorastyle.features.dino import dino_encoder
from lorastyle.features.encoder import Encoder
from lorastyle.features.weights import Weights

_ENCODERS = {
    "clip": clip_encoder,
    "dino": dino_encoder,
    "csd": csd_encoder,
    "aladin": aladin_encoder,
}


def load_encoder(name: str, weights: Mapping[str, Weights], *, generated: bool) -> Encoder:
    """Read the files and build the network, on the CPU. Raises FeatureError."""
    if name in _ENCODERS:
        return _ENCODERS[name](weights[name])
    backbone = _ENCODERS[name.removeprefix("abc_")](weights[f"{name}_backbone"])
    return mapped_encoder(backbone, weights[f"{name}_mapper"], generated=generated)
