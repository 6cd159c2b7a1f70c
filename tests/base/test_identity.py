"""Which base model it is, told from its files."""

import hashlib

import pytest

from lorastyle.base.loading import load_base
from lorastyle.base.lookup import base_identity
from lorastyle.base.source import MINIATURE
from lorastyle.errors import BaseModelError


@pytest.fixture(scope="module")
def base():
    return load_base("miniature")


def test_the_identity_read_from_files_is_what_the_loaded_parts_say(base):
    identity = base_identity("miniature")
    assert identity == base.identity
    assert identity.prediction_type == base.scheduler.config.prediction_type
    assert identity.latent_channels == base.unet.config.in_channels
    assert identity.cross_attention_dim == base.text_encoder.config.hidden_size
    assert identity.image_size == base.unet.config.sample_size * 8


def test_the_hash_is_of_names_and_bytes_of_all_weights():
    files = sorted(MINIATURE.rglob("*.safetensors"))
    assert len(files) == 3
    content = b"".join(
        str(file.relative_to(MINIATURE)).encode() + file.read_bytes() for file in files
    )
    assert base_identity("miniature").sha256 == hashlib.sha256(content).hexdigest()


def test_no_model_says_so(tmp_path):
    with pytest.raises(BaseModelError):
        base_identity(str(tmp_path))
