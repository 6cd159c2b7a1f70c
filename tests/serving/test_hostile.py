"""Files and names from strangers: what comes back is one sentence, and inert."""

import hashlib
import json
import pickle
from itertools import pairwise

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lorastyle.adapters.formats.opening import FileInMemory
from lorastyle.serving.uploads import Upload, _Form, shown_name
from tests.serving.conftest import bytes_of, form

SCRIPT = "<script>alert(1)</script>"


class _Runs:
    """A pickle that would make a file."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_files_that_are_no_lora_are_refused_in_one_sentence(client, stranger, tmp_path):
    good = stranger.read_bytes()
    made = tmp_path / "made"
    for content in (
        b"",
        b"<html>",
        good[:-7],
        good[:2000],
        b"\xff" * 8 + good[8:],
        pickle.dumps(_Runs(made)),
        b"\0" * 4096,
    ):
        for path in ("/search", "/inspect"):
            answer = client.post(path, files={"file": ("bad.safetensors", content)})
            assert answer.status_code == 422
            error = answer.json()["error"]
            assert error["kind"] == "AdapterFileError"
            assert "bad.safetensors" in error["message"] and "/tmp" not in error["message"]
    assert not made.exists()


def test_a_header_that_promises_terabytes_costs_nothing(client):
    header = {"lora_unet_x.lora_down.weight": {"dtype": "F32", "shape": [1 << 40, 4]}}
    header["lora_unet_x.lora_down.weight"]["data_offsets"] = [0, 1 << 44]
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text
    answer = client.post("/inspect", files={"file": ("big", content)})
    assert answer.status_code == 422 and "truncated" in answer.json()["error"]["message"]


def test_metadata_and_names_come_back_as_json_that_browsers_take_for_nothing_else(client, stranger):
    save_file(
        load_file(stranger),
        stranger,
        {"ss_output_name": SCRIPT, "ss_sd_model_name": SCRIPT, "modelspec.title": SCRIPT},
    )
    for path in ("/search", "/inspect"):
        answer = client.post(path, files=form(stranger, f"{SCRIPT}.safetensors"))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
    refused = client.post("/inspect", files={"file": (SCRIPT, b"x")})
    assert refused.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "name", ["../../../../tmp/evil", "/etc/passwd", "a/../b", "..", "con\0.pt"]
)
def test_a_files_name_leads_nowhere(client, stranger, name, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    answer = client.post("/inspect", files=form(stranger, name))
    assert answer.status_code == 200
    assert "/" not in answer.json()["path"] and "\0" not in answer.json()["path"]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/..%2f..%2fetc/passwd", "/adapters/..%2f1/image"]
)
def test_no_path_leads_out_of_the_page(client, path):
    assert client.get(path).status_code in (404, 422)


@given(
    content=st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 700), max_size=6),
    memory=st.sampled_from([0, 40, 1000]),
    expected=st.sampled_from([0, 10, 500, 5000]),
)
def test_an_upload_is_what_was_sent_however_it_is_cut(content, cuts, memory, expected):
    """The form is made by another library; pieces may end within the boundary. What its sender
    says of its length may be anything.
    """
    content += b"\r\n--"
    request = httpx2.Request("POST", "http://x/", files={"file": ("name.pt", content)})
    body, kind = request.read(), request.headers["content-type"]
    boundary = kind.partition("boundary=")[2].encode()
    ends = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    upload = Upload(memory, expected)
    try:
        taken = _Form(upload, boundary, ("file",))
        for start, end in pairwise(ends):
            taken.feed(body[start:end])
        taken.finish()
        taken.close()
        assert upload.files["file"].name == "name.pt"
        file = upload.files["file"]
        assert file.sha256() == hashlib.sha256(content).hexdigest()
        assert bytes_of(file) == content
        assert isinstance(file.file, FileInMemory) == (len(content) <= memory)
    finally:
        upload.close()


@given(st.text())
def test_any_name_can_be_shown(name):
    shown = shown_name(name)
    assert shown and shown.isprintable() and "/" not in shown and len(shown) <= 120
