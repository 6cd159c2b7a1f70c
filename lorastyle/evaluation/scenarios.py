"""The paper's four retrieval scenarios (section 4.2), [gallery]+[query]: their keys and names."""

from __future__ import annotations

from collections.abc import Mapping

SCENARIOS: Mapping[str, str] = {
    "orig_orig": "Orig+Orig",
    "orig_gen": "Orig+Gen",
    "gen_orig": "Gen+Orig",
    "gen_gen": "Gen+Gen",
}
"""Features of the training images (Orig), or of images made by the adapters (Gen)."""
