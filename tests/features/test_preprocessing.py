"""At the true sizes, bytes and numbers as the reference implementations make them."""

import numpy as np
import pytest

from lorastyle.features.clip import clip_preprocessing
from lorastyle.features.dino import imagenet_preprocessing
from lorastyle.features.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing
from tests.features.conftest import pictures
from tests.features.test_learned import clip_pixels, dino_pixels

TRUE_SIZES = ((512, 512), (300, 448), (640, 512), (64, 64), (224, 224))


@pytest.mark.parametrize(
    ("preprocessing", "reference"),
    [(clip_preprocessing(224), clip_pixels), (imagenet_preprocessing(224), dino_pixels)],
    ids=["clip", "imagenet"],
)
def test_pixels_are_those_of_transformers_processor(preprocessing, reference):
    seen = pictures(*TRUE_SIZES)
    prepared = np.stack([preprocessing.prepare(picture) for picture in seen])
    found = preprocessing.normalise(prepared, "cpu").numpy()
    np.testing.assert_allclose(found, reference(seen, 224).numpy(), atol=2e-6)


@pytest.mark.parametrize(("extra", "first"), [(0, 0), (1, 0), (2, 1), (3, 2), (5, 2), (7, 4)])
def test_odd_margins_are_cut_as_torchvision_cuts_them(extra, first):
    """`int(round(margin / 2))`, and Python rounds halves to the even number."""
    columns = np.arange(32 + extra, dtype=np.uint8)
    picture = np.broadcast_to(columns[None, :, None], (32, 32 + extra, 3)).copy()
    preprocessing = Preprocessing(32, 32, CLIP_MEAN, CLIP_STD)
    assert (preprocessing.prepare(picture)[0, :, 0] == columns[first : first + 32]).all()
    turned = preprocessing.prepare(picture.transpose(1, 0, 2).copy())
    assert (turned[:, 0, 0] == columns[first : first + 32]).all()
