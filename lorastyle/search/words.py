"""What verdicts and families of base models are called."""

from __future__ import annotations

from collections.abc import Mapping

VERDICT_WORDS: Mapping[str, str] = {
    "identical_bytes": "the same file",
    "same_weights": "the same weights",
    "same_run": "two checkpoints of one training",
    "similar_style": "a similar style",
    "unrelated": "unrelated",
    "not_comparable": "not comparable",
    "empty": "nothing to compare",
}
FAMILY_NAMES: Mapping[str, str] = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
    "other": "another base model",
}
