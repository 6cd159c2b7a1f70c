"""The paper's own numbers, typed in from its tables: percent, but for the similarities.

"A LoRA is Worth a Thousand Pictures": main text Table 1 (section 4.3) and the sub-networks of
section 4.5; supplement Tables 1 to 4 (sections 4 and 5). Written as printed there, one method a
line, so that they can be checked by eye; `read` makes numbers of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from lorastyle.evaluation.scenarios import SCENARIOS

Numbers = Mapping[str, tuple[float | None, ...]]
"""A line's numbers by its name; None where the paper has a dash."""

OURS, UNCALIBRATED = "Ours", "Ours w/o cali"
FEATURE_NAMES: Mapping[str, str] = {
    "aladin": "ALADIN-ViT",
    "clip": "CLIP",
    "dino": "DINO",
    "abc_clip": "AbC CLIP",
    "abc_dino": "AbC DINO",
    "csd": "CSD",
}
"""What the paper calls the image features that have these names here."""

CLUSTERING_COLUMNS = ("ari/train", "ari/test", "nmi/train", "nmi/test")
CLUSTERING = """
    ALADIN-ViT     79.2 3.0  77.5 3.5  93.9 0.8  96.5 0.5
    CLIP           84.8 4.2  82.2 5.3  96.0 1.0  97.3 0.9
    DINO           75.9 3.3  73.2 3.5  92.7 0.9  95.3 0.6
    AbC CLIP       79.1 3.3  74.4 4.2  94.5 0.7  95.9 0.6
    AbC DINO       85.1 2.6  84.7 3.7  96.0 0.7  97.8 0.6
    CSD            84.1 3.0  82.0 3.7  96.0 0.7  97.5 0.6
    Ours w/o cali     -   -  16.7 8.9     -   -  82.0 4.5
    Ours           96.0 2.1  95.6 2.5  99.2 0.4  99.5 0.3
"""
"""Main text, Table 1: mean and standard deviation of each of `CLUSTERING_COLUMNS`."""

ALL_CLUSTERING_COLUMNS = ("ari/train", "ari/val", "ari/test", "nmi/train", "nmi/val", "nmi/test")
ALL_CLUSTERING = """
    ALADIN-ViT     79.2 3.0  76.2 3.9  77.5 3.5  93.9 0.7  96.0 0.6  96.5 0.5
    CLIP           84.8 4.2  81.6 6.4  82.2 5.3  96.0 1.0  97.3 1.0  97.3 0.9
    DINO           75.9 3.3  71.3 4.5  73.2 3.5  92.7 0.9  95.1 1.0  95.3 0.6
    AbC CLIP       79.1 3.3  74.1 4.1  74.4 4.2  94.5 0.7  96.1 0.6  95.9 0.6
    AbC DINO       85.1 2.6  83.2 3.8  84.7 3.7  96.0 0.7  97.4 0.7  97.7 0.6
    CSD            84.1 3.0  82.2 3.4  82.0 3.7  96.0 0.7  97.4 0.6  97.5 0.6
    Ours w/o cali     -   -  16.9 9.6  16.7 8.9     -   -  81.9 4.8  82.0 4.5
    Ours           96.0 2.1  95.3 2.9  95.6 2.5  99.2 0.4  99.4 0.4  99.5 0.3
"""
"""Supplement, Table 2: the same for `ALL_CLUSTERING_COLUMNS`."""

RETRIEVAL_COLUMNS = tuple(
    f"{score}/{scenario}" for score in ("map", "recall_at_k") for scenario in SCENARIOS
)
RETRIEVAL_VAL = """
    ALADIN-ViT     72.6 55.0 61.4 59.4  59.6 44.2 46.7 45.6
    CLIP           83.3 73.9 76.3 73.4  70.1 60.6 61.7 58.9
    DINO           70.5 66.5 63.6 63.6  53.4 49.8 46.9 47.0
    AbC CLIP       81.3 72.0 73.6 70.9  66.8 59.0 58.2 56.5
    AbC DINO       79.8 69.4 71.7 69.4  64.3 54.2 55.7 52.7
    CSD            86.7 68.6 78.4 75.7  75.8 58.8 66.1 63.7
    Ours w/o cali  32.3 32.3 32.3 32.3  20.4 20.4 20.4 20.4
    Ours           83.9 83.9 83.9 83.9  71.4 71.4 71.4 71.4
"""
"""Supplement, Table 4a: validation queries, the full network; `RETRIEVAL_COLUMNS`."""
RETRIEVAL_TEST = """
    ALADIN-ViT     71.9 51.8 57.1 56.8  55.7 39.9 42.5 42.2
    CLIP           80.0 69.7 71.3 70.5  66.2 56.6 58.6 56.2
    DINO           67.2 61.4 61.7 60.5  51.6 48.0 45.9 45.3
    AbC CLIP       78.1 69.8 70.5 68.4  65.0 56.9 56.3 54.1
    AbC DINO       74.1 66.1 65.9 65.0  58.0 49.8 50.2 48.8
    CSD            86.2 67.4 75.5 77.2  74.9 57.9 63.0 63.3
    Ours w/o cali  31.4 31.4 31.4 31.4  19.5 19.5 19.5 19.5
    Ours           83.4 83.4 83.4 83.4  69.4 69.4 69.4 69.4
"""
"""Supplement, Table 4b: test queries, the full network; `RETRIEVAL_COLUMNS`."""
FEED_FORWARD_TEST = """
    Ours w/o cali  31.8 31.8 31.8 31.8  19.5 19.5 19.5 19.5
    Ours           88.3 88.3 88.3 88.3  79.8 79.8 79.8 79.8
"""
"""Supplement, Table 1: test queries, the feed-forward sub-network. It prints one number for all
scenarios; the image features in it are those of Table 4b."""

TOP_K = 24
"""Of its recall."""

SIMILARITY_COLUMNS = ("ALADIN-ViT", "CLIP", "DINO", "AbC CLIP", "AbC DINO", "CSD")
SIMILARITY = """
      2  0.93 0.94 0.95 0.95 0.95 0.94
      3  0.88 0.94 0.80 0.94 0.92 0.91
      4  0.81 0.85 0.74 0.89 0.85 0.87
      5  0.79 0.82 0.72 0.86 0.79 0.77
      6  0.76 0.80 0.68 0.81 0.75 0.74
      7  0.73 0.79 0.65 0.80 0.74 0.73
      8  0.72 0.77 0.64 0.77 0.72 0.72
      9  0.70 0.75 0.62 0.75 0.69 0.70
     10  0.68 0.73 0.61 0.73 0.68 0.67
     20  0.56 0.59 0.52 0.60 0.58 0.56
     30  0.50 0.53 0.46 0.54 0.51 0.50
     40  0.45 0.48 0.42 0.49 0.47 0.45
     50  0.41 0.44 0.39 0.45 0.43 0.42
     60  0.38 0.40 0.36 0.41 0.40 0.38
     70  0.36 0.38 0.33 0.39 0.37 0.36
     80  0.35 0.37 0.32 0.38 0.36 0.35
     90  0.34 0.35 0.31 0.36 0.35 0.34
    100  0.33 0.35 0.30 0.36 0.34 0.33
"""
"""Supplement, Table 3: mean cosine by number of components, a column for each of
`SIMILARITY_COLUMNS`."""

SUB_NETWORK_COLUMNS = ("share", "ari/train")
SUB_NETWORKS = """
    full             100  96.0
    feed_forward      47  97.5
    self_attention    27  94.4
    cross_attention   27  85.6
"""
"""Main text, section 4.5: numbers in a sub-network, and ARI of the train adapters."""

N_COMPONENTS: Mapping[str, int] = {
    "clustering/full": 67,
    "retrieval/full": 69,
    "retrieval/feed_forward": 62,
}
"""Chosen on validation: main text, section 4.5, and supplement, section 4."""


def read(text: str) -> Numbers:
    """Each line's numbers by the words before them.

    >>> read("  Ours w/o cali  - 16.7 ")
    {'Ours w/o cali': (None, 16.7)}
    """
    found: dict[str, tuple[float | None, ...]] = {}
    for line in filter(str.strip, text.splitlines()):
        words = line.split()
        n_words = next(
            place for place in range(1, len(words)) if all(map(_is_number, words[place:]))
        )
        numbers = [None if word == "-" else float(word) for word in words[n_words:]]
        found[" ".join(words[:n_words])] = tuple(numbers)
    return found


def _is_number(word: str) -> bool:
    return word == "-" or word.replace(".", "", 1).isdigit()
