"""A procedural world of painters: deterministic paintings by artists who never lived.

A *scene* says what is painted (and is all that a caption tells); an *artist* says how. Light and
subject move colour strongly within one artist; artists of one school share most of their hand. So
averages of pixels, colour histograms and statistics of texture find artists only in part, as they
do for real painters.

Everything is NumPy; Pillow only writes the files. A painting of 64 x 64 takes a few milliseconds.
"""

from lorastyle.corpus.procedural.artists import (
    BASE_SEED,
    GENRES,
    Artist,
    make_artists,
    make_schools,
)
from lorastyle.corpus.procedural.handling import paint
from lorastyle.corpus.procedural.scenes import (
    COLOURS,
    LIGHTS,
    PLACES,
    Scene,
    caption_words,
    sample_scene,
)
from lorastyle.corpus.procedural.writing import write_corpus

__all__ = [
    "BASE_SEED",
    "COLOURS",
    "GENRES",
    "LIGHTS",
    "PLACES",
    "Artist",
    "Scene",
    "caption_words",
    "make_artists",
    "make_schools",
    "paint",
    "sample_scene",
    "write_corpus",
]
