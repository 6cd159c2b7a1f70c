"""Configs and digests of files that others wrote."""

import hashlib
import json
import os

import pytest

from lorastyle.errors import BaseModelError
from lorastyle.file_contents import CONFIG_LIMIT, read_config, sha256_of, sha256_of_all


def refused(reason):
    return BaseModelError(f"refused: {reason}")


@pytest.mark.parametrize("spare", [0, 1])
def test_a_config_is_read_up_to_one_mebibyte_and_refused_above(tmp_path, spare):
    path, values = tmp_path / "config.json", {"side": 64}
    path.write_text(json.dumps(values).ljust(CONFIG_LIMIT + spare))
    if spare:
        with pytest.raises(BaseModelError, match=r"^refused: it is larger than 1 MiB$"):
            read_config(path, refused)
    else:
        assert read_config(path, refused) == values


@pytest.mark.parametrize(
    "content", [b"{", b"[1, 2]", b"3", b"\xff\xfe", b"[" * 200_000], ids=lambda c: str(c[:8])
)
def test_what_is_no_json_object_is_refused_in_the_words_of_whoever_asked(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(BaseModelError, match=r"^refused: ") as told:
        read_config(path, refused)
    assert isinstance(told.value.__cause__, (ValueError, TypeError, RecursionError))


def test_a_config_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BaseModelError, match=r"^refused: .*No such file"):
        read_config(tmp_path / "config.json", refused)


def test_digests_are_those_of_the_bytes(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"a" * (2**20 + 1))
    other.write_bytes(b"b")
    assert sha256_of(one) == hashlib.sha256(one.read_bytes()).hexdigest()
    content = b"unet/" + one.read_bytes() + b"vae/b"
    told = sha256_of_all([("unet/", one), ("vae/", other)])
    assert told == hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once_until_its_size_or_time_changes(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first, changed = sha256_of(path), path.stat().st_mtime_ns
    # Not seen: neither size nor time says so. This is what tells that it was not read again.
    path.write_bytes(b"two")
    os.utime(path, ns=(changed, changed))
    assert sha256_of(path) == first
    os.utime(path, ns=(changed, changed + 1))
    assert sha256_of(path) == hashlib.sha256(b"two").hexdigest()
    path.write_bytes(b"three")
    assert sha256_of(path) == hashlib.sha256(b"three").hexdigest()
