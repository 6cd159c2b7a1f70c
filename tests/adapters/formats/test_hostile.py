"""Whatever the bytes are: an adapter, or AdapterFileError. No code runs, nothing hangs."""

import gzip
import hashlib
import json
import os
import pickle
import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from lorastyle.adapters.formats.opening import FileInMemory, Limits, open_adapter_file, sha256_of
from lorastyle.adapters.formats.read import read_adapter
from lorastyle.adapters.updates import Adapter
from lorastyle.errors import AdapterFileError

pytestmark = pytest.mark.timeout(60)
NAME = "lora_unet_mid_block_attentions_0_proj_in"
GOOD = {
    f"{NAME}.lora_up.weight": np.ones((6, 2), np.float32),
    f"{NAME}.lora_down.weight": np.ones((2, 4), np.float16),
    f"{NAME}.alpha": np.ones((), np.float32),
}
SAFE = save(GOOD, metadata={"ss_seed": "1"})


def torch_of(arrays):
    return {key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}


def pickled(legacy, content):
    stream = BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


CONTAINERS = {
    "safetensors": SAFE,
    "zip": pickled(False, torch_of(GOOD)),
    "legacy": pickled(True, torch_of(GOOD)),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile") / "file"


def verdict(place, content):
    """The adapter, or the sentence, the same from disk and from memory; anything else is the
    test's failure.
    """
    place.write_bytes(content)
    found, other = (said(one) for one in (place, FileInMemory(place.name, memoryview(content))))
    if isinstance(found, str):
        assert found == other
    else:
        assert found.facts == other.facts
        for ours, theirs in zip(found.updates.values(), other.updates.values(), strict=True):
            np.testing.assert_array_equal(ours.lora_A, theirs.lora_A)
            np.testing.assert_array_equal(ours.lora_B, theirs.lora_B)
    return found


def said(file):
    try:
        return read_adapter(file)
    except AdapterFileError as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) < 600
        return text


def refused(place, content, because, **options):
    place.write_bytes(content)
    with pytest.raises(AdapterFileError, match=because):
        read_adapter(place, **options)


@pytest.mark.parametrize("content", CONTAINERS.values(), ids=CONTAINERS)
def test_the_file_that_is_damaged_below_is_sound(place, content):
    assert len(verdict(place, content)) == 1


def test_a_safetensors_file_cut_anywhere_is_refused(place):
    for length in range(len(SAFE)):
        assert isinstance(verdict(place, SAFE[:length]), str), length


@pytest.mark.parametrize("container", ["zip", "legacy"])
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60)
def test_a_pickle_cut_anywhere_is_refused(place, container, share):
    content = CONTAINERS[container]
    assert isinstance(verdict(place, content[: int(share * len(content))]), str)


@pytest.mark.parametrize("container", CONTAINERS)
@given(data=st.data())
@settings(max_examples=150)
def test_flipped_bytes_give_an_adapter_or_a_sentence(place, container, data):
    content = bytearray(CONTAINERS[container])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(verdict(place, bytes(content)), str | Adapter)


@given(content=st.binary(max_size=300))
@example(content=b"")
@example(content=b"PK\x03\x04" + bytes(40))
@example(content=b"\x80\x02.")
@example(content=b"\x80\x02ctorch\\z\nx\n.")  # Python's parser of pickles warns of the escape
def test_arbitrary_bytes_are_refused(place, content):
    assert isinstance(verdict(place, content), str)


ROLES = [
    *("lora_up.weight", "lora_down.weight", "lora_mid.weight", "lora_A.weight", "lora_B.weight"),
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "diff", "diff_b"),
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    *("alpha", "dora_scale", "lora_magnitude_vector", "lora_B.bias"),
]
PREFIXES = ["lora_unet_mid_block_attentions_0_proj_in", "unet.conv_in", "mid_block.resnets.0.conv1"]
SHAPES = st.one_of(
    st.sampled_from([(2, 2), (2, 2, 1, 1), (2, 2, 3, 3), (), (1,)]),
    st.lists(st.integers(0, 4), max_size=5).map(tuple),
)
ARRAYS = st.builds(
    lambda shape, fill, dtype: np.full(shape, fill, dtype),
    SHAPES,
    st.sampled_from([0.0, 1.0, -0.5, 6e4, np.nan]),
    st.sampled_from([np.float16, np.float32, np.float64]),
)


@given(
    st.dictionaries(
        st.builds("{}.{}".format, st.sampled_from(PREFIXES), st.sampled_from(ROLES)),
        ARRAYS,
        min_size=1,
        max_size=7,
    )
)
@settings(max_examples=150)
def test_known_keys_with_any_shapes_give_an_adapter_or_a_sentence(place, tensors):
    assert isinstance(verdict(place, save(tensors)), str | Adapter)


@given(
    st.sampled_from([ROLES[:3], ROLES[5:11], ROLES[13:20]]).flatmap(
        lambda roles: st.fixed_dictionaries(
            {f"{NAME}.{roles[0]}": ARRAYS},
            optional={f"{NAME}.{role}": ARRAYS for role in [*roles[1:], "alpha", "dora_scale"]},
        )
    )
)
@settings(max_examples=150)
def test_each_method_with_any_shapes_gives_an_adapter_or_a_sentence(place, tensors):
    found = verdict(place, save(tensors))
    assert isinstance(found, str) or all(np.isfinite(u.energy()) for u in found.updates.values())


def with_header(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (with_header({}, length=1 << 39), "header of .*limit"),
        (with_header({"a": entry([1], 0, 4)}, bytes(2)), "truncated"),
        (with_header({"a": entry([1], 0, 4)}, bytes(9)), "belong to no tensor"),
        (with_header({"a": entry([1], 4, 8)}, bytes(8)), "at byte 4 instead of 0"),
        (
            with_header({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, bytes(8)),
            "at byte 4 instead of 8",
        ),
        (with_header({"a": entry([1], 8, 4)}, bytes(8)), "-4 bytes"),
        (with_header({"a": entry([3], 0, 4)}, bytes(4)), r"its shape \(3,\) needs 12"),
        (with_header({"a": entry([1 << 40, 1 << 40], 0, 4)}, bytes(4)), "needs"),
        (with_header({"a": entry([10**3000], 0, 4)}, bytes(4)), "whole number"),
        (with_header({"a": entry([-1], 0, 4)}, bytes(4)), "whole number"),
        (with_header({"a": entry([True], 0, 4)}, bytes(4)), "whole number"),
        (with_header({"a": entry([1.0], 0, 4)}, bytes(4)), "whole number"),
        (with_header({"a": entry([float("nan")], 0, 4)}, bytes(4)), "whole number"),
        (with_header({"a": entry("11", 0, 4)}, bytes(4)), "whole number"),
        (with_header({"a": entry([1] * 99, 0, 4)}, bytes(4)), "99 dimensions"),
        (with_header({"a": entry([1], 0, 4, "F8_E4M3")}, bytes(4)), "F8_E4M3"),
        (with_header({"a": entry([1], 0, 4, ["F32"])}, bytes(4)), "F32"),
        (with_header({"a": {"dtype": "F32"}}), "incompletely"),
        (with_header({"a": 7}), "incompletely"),
        (with_header(b"[1, 2]"), "neither safetensors"),
        (with_header(b'{"a": ' + b"[" * 100_000), "no valid JSON"),
        (with_header(b'{"a": 1' + b"0" * 5000 + b"}"), "no valid JSON|incompletely"),
        (with_header(b'{"a": {}, "a": {}}'), "no valid JSON"),
        (with_header(b"{\xff\xff}"), "no valid JSON"),
        (with_header({"__metadata__": [1]}), "metadata"),
        (with_header({}), "0 tensors"),
    ],
)
def test_a_header_that_lies_is_refused(place, content, because):
    refused(place, content, because)


def test_a_million_declared_tensors_are_refused(place):
    line = json.dumps(entry([0], 0, 0)).encode()
    for n, because in ((30_000, "30,000 tensors"), (1_000_000, "header of .* than the limit")):
        lines = (b'"%d":%s' % (i, line) for i in range(n))
        refused(place, with_header(b"{" + b",".join(lines) + b"}"), because)


def test_limits_are_the_callers(place):
    refused(place, SAFE, "limit of 10", limits=Limits(file_bytes=10))
    half = save({"a": np.zeros(10_000, np.float16)})
    refused(place, half, "40,000 bytes as float32", limits=Limits(file_bytes=30_000))
    refused(place, SAFE, "limit of 2;", limits=Limits(n_tensors=2))
    refused(place, CONTAINERS["zip"], "limit of 2;", limits=Limits(n_tensors=2))
    refused(place, CONTAINERS["legacy"], "limit of 2;", limits=Limits(n_tensors=2))


class Exploit:
    """Pickled, it asks whoever loads it to make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_not_run(tmp_path, legacy):
    trap = str(tmp_path / "trap")
    place = tmp_path / "file"
    refused(place, pickled(legacy, {"a": torch.ones(1), "b": Exploit(trap)}), "run code")
    refused(place, pickle.dumps(Exploit(trap)), "cannot be read")
    refused(place, pickle.dumps(Exploit(trap), protocol=0), "text|neither")
    assert not (tmp_path / "trap").exists()


def test_endless_pickles_are_not_executed(place):
    endless = b"\x80\x02" + b"N0" * 3_000_000
    refused(place, endless, "2,000,000 instructions")
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("archive/data.pkl", bytes((16 << 20) + 1))
    refused(place, place.read_bytes(), "pickle of 16,777,217 bytes")


def test_a_zip_bomb_is_not_unpacked(place):
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 24))
    refused(place, place.read_bytes(), "compressed zip")
    refused(place, place.read_bytes(), "unpacks to", limits=Limits(file_bytes=1 << 20))


def test_a_zip_of_anything_else_is_refused(place):
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(place, place.read_bytes(), "without PyTorch weights")


def test_an_expanded_tensor_is_not_spread_out(place):
    wide = torch.zeros(1).expand(1 << 20, 1 << 20)
    refused(place, pickled(False, {f"{NAME}.lora_up.weight": wide}), "limit")


@pytest.mark.parametrize(
    ("content", "because"),
    [
        ({"a": 1, "b": "x"}, "no tensors"),
        ({"state_dict": {}}, "no tensors"),
        ({"a": {"b": torch.ones(1)}, "c": torch.ones(1)}, "nested under 'a'"),
        (torch.ones(3), "Tensor, not a table"),
        ({**torch_of(GOOD), f"{NAME}.alpha": 10**400}, "no finite number"),
        ([torch.ones(2, 2)], "list of 1"),
        ([torch.ones(2, 2), 5], "but not both|do not fit"),
        ({"string_to_param": {"*": torch.ones(1, 768)}}, "textual-inversion"),
        ({f"{NAME}.lora_up.weight": torch.ones(2, 2).to_sparse()}, "sparse"),
        ({f"{NAME}.lora_up.weight": torch.ones(2, 2, dtype=torch.complex64)}, "complex"),
    ],
)
def test_pickles_of_other_things_are_refused(place, content, because):
    refused(place, pickled(False, content), because)


def test_a_nested_state_dict_is_found(place):
    content = {"state_dict": torch_of(GOOD), "step": 3}
    assert len(verdict(place, pickled(False, content))) == 1


def lora(up=(6, 2), down=(2, 4), fill=1.0, dtype=np.float32, **more):
    tensors = {"lora_up.weight": np.full(up, fill, dtype), "lora_down.weight": np.ones(down, dtype)}
    tensors |= {key.replace("__", "."): value for key, value in more.items()}
    return {f"{NAME}.{role}": value for role, value in tensors.items() if value is not None}


MODULE = "unet.mid_block.attentions.0.proj_in"


@pytest.mark.parametrize(
    ("tensors", "because"),
    [
        (lora(fill=np.nan), f"'{MODULE}' has 12 values of 12"),
        (lora(fill=np.inf), "not finite"),
        (lora(fill=1e300, dtype=np.float64), "not finite"),
        (lora(alpha=np.full((), np.nan, np.float32)), "alpha"),
        (lora(alpha=np.ones(3, np.float32)), r"alpha of shape \(3,\)"),
        (lora(lora_down__weight=None), f"'{MODULE}' has up but no down"),
        (lora(lora_up__weight=None), "has down but no up"),
        (lora(up=(6, 3)), r"down \(2, 4\), up \(6, 3\)"),
        (lora(up=(6,)), "do not fit"),
        (lora(up=(6, 0), down=(0, 4)), "do not fit"),
        (lora(down=(2, 4, 3)), "do not fit"),
        (lora(up=(6, 2, 3, 3)), "do not fit"),
        (lora(dtype=np.int8), "quantised"),
        (lora(dora_scale=np.ones(6), lora_magnitude_vector=np.ones(6)), "two DoRA"),
        (lora(scalar=np.ones(1)), "no known part"),
        ({f"{NAME}.lokr_{w}": np.ones((2, 2)) for w in ("w1", "w2", "t2")}, "do not fit"),
        (lora(diff=np.ones((6, 4), np.float32)), "mixes diff, down, up"),
        ({f"{NAME}.alpha": np.ones((), np.float32)}, "no factors"),
        ({f"{NAME}.hada_w1_a": np.ones((6, 2), np.float32)}, "has hada_w1_a but no hada_w1_b"),
        ({f"{NAME}.lokr_w1": np.ones((6, 2), np.float32)}, "no lokr_w2_a"),
        ({f"{NAME}.diff": np.ones(6, np.float32)}, r"diff \(6,\)"),
        ({f"{NAME}.diff_b": np.ones(6, np.float32)}, "biases"),
        ({"unet:0:up": np.ones((4, 1), np.float32)}, "not both"),
        ({"unet:7:up": np.ones((4, 1), np.float32)}, "some are missing"),
        ({"x" * 10_000: np.ones((4, 1), np.float32)}, "none is a LoRA's"),
    ],
)
def test_tensors_that_make_no_update_are_refused_by_module_and_number(place, tensors, because):
    content = save({key: np.ascontiguousarray(value) for key, value in tensors.items()})
    refused(place, content, because)
    assert len(verdict(place, content)) < 400


def test_products_that_overflow_are_refused(place):
    large = {f"{NAME}.hada_w{i}_{s}": np.full((2, 2), 1e30, np.float32) for i in "12" for s in "ab"}
    refused(place, save(large), "overflows")


def test_a_scaling_beyond_all_measure_is_refused(place):
    refused(place, save(lora(alpha=np.full((), 1e300))), "overflow|not finite")
    refused(place, save(lora(alpha=np.full((), 1e35, np.float32))), "overflow")


def test_a_few_kilobytes_do_not_become_gigabytes(place):
    tall, flat = np.ones((50_000, 1), np.float32), np.ones((1, 8), np.float32)
    refused(place, save({f"{NAME}.lokr_w1": tall, f"{NAME}.lokr_w2": tall}), "numbers, the limit")
    rank = {
        f"{NAME}.hada_w{i}_{s}": np.ones((8, 9000) if s == "a" else (9000, 8), np.float32)
        for i in "12"
        for s in "ab"
    }
    refused(place, save(rank), "the limit")
    core = {
        f"{NAME}.lora_up.weight": np.ones((2, 1, 1, 1), np.float32),
        f"{NAME}.lora_mid.weight": np.ones((1, 1, 1, 100_000), np.float32),
        f"{NAME}.lora_down.weight": np.ones((1, 100_000, 1, 1), np.float32),
    }
    refused(place, save(core), "the limit")
    refused(
        place,
        save({f"{NAME}.diff": np.ones((40, 40), np.float32), "unused": flat}),
        "operations|no known part",
        limits=Limits(operations=1e3),
    )


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"Entry not found", "is text"),
        (gzip.compress(SAFE), "gzip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG"),
        (b"GGUF" + bytes(50), "GGUF"),
        (b"", "empty"),
        (bytes(100), "neither safetensors nor PyTorch"),
    ],
)
def test_other_files_are_named_for_what_they_are(place, content, because):
    refused(place, content, because)


def test_a_header_as_long_as_another_formats_magic_is_still_safetensors(place):
    for magic in (b"\x1f\x8b", b"PK", b"\x80\x02"):
        text = json.dumps({"a": entry([1], 0, 4)}).encode()
        text = text.ljust(int.from_bytes(magic, "little"))
        refused(place, with_header(text, bytes(4)), "none is a LoRA's")


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "trap").mkdir()
    os.mkfifo(tmp_path / "trap" / "adapter_model.safetensors")
    for name, because in (
        ("pipe", "no regular file"),
        ("loop", "cannot be read"),
        ("dangling", "cannot be read"),
        ("absent", "cannot be read: No such file"),
        ("folder", "without adapter weights"),
        ("trap", "no regular file"),
        ("a\0b", "null byte"),
    ):
        with pytest.raises(AdapterFileError, match=because):
            read_adapter(tmp_path / name)


def test_a_link_to_a_file_is_the_file_as_in_the_hubs_cache(tmp_path):
    (tmp_path / "blob").write_bytes(SAFE)
    (tmp_path / "link").symlink_to("blob")
    assert len(read_adapter(tmp_path / "link")) == 1


CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 2}


@pytest.mark.parametrize(
    ("config", "because"),
    [
        (b"{", "not JSON"),
        (b"[1]", "no JSON object"),
        (b"[" * 100_000, "not JSON"),
        ({**CONFIG, "lora_alpha": "two"}, "'two' as a rank or alpha"),
        ({**CONFIG, "lora_alpha": float("nan")}, "'nan' as a rank or alpha"),
        ({**CONFIG, "lora_alpha": 10**400}, "as a rank or alpha"),
        ({**CONFIG, "alpha_pattern": {".{0,99999999999}": 1}}, "too involved"),
        ({**CONFIG, "alpha_pattern": {f"a{i}.*": 1 for i in range(200)}}, "more than 100"),
        ({**CONFIG, "alpha_pattern": [1]}, "no table"),
        ({**CONFIG, "alpha_pattern": {"proj_in": None}}, "'None' as a rank or alpha"),
        ({**CONFIG, "alpha_pattern": {"(a+)+$": 1}}, "too involved"),
        ({**CONFIG, "alpha_pattern": {"(.*a){30}": 1}}, "too involved"),
        ({**CONFIG, "alpha_pattern": {"[": 1}}, "too involved"),
        ({**CONFIG, "peft_type": ["x" * 500]}, "type"),
    ],
)
def test_a_hostile_config_is_refused(tmp_path, config, because):
    tensors = {
        "base_model.model.mid_block.attentions.0.proj_in.lora_A.weight": np.ones(
            (2, 4), np.float32
        ),
        "base_model.model.mid_block.attentions.0.proj_in.lora_B.weight": np.ones(
            (6, 2), np.float32
        ),
    }
    (tmp_path / "adapter_model.safetensors").write_bytes(save(tensors))
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    (tmp_path / "adapter_config.json").write_bytes(text)
    for folder in (tmp_path, FileInMemory("it", save(tensors), text)):
        with pytest.raises(AdapterFileError, match=because):
            read_adapter(folder)


def test_a_negative_rank_of_a_config_is_no_rank(tmp_path):
    tensors = {f"base_model.model.conv_in.lokr_w{i}": np.ones((2, 2), np.float32) for i in "12"}
    (tmp_path / "adapter_model.safetensors").write_bytes(save(tensors))
    config = {"peft_type": "LOKR", "r": -4, "alpha": 2, "use_rslora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (update,) = read_adapter(tmp_path).updates.values()
    assert update.scaling == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"unet.lora_alpha": "x"}', "[" * 100_000])
def test_hostile_alpha_metadata_is_refused(place, text):
    tensors = {key: value for key, value in GOOD.items() if "alpha" not in key}
    refused(place, save(tensors, metadata={"lora_adapter_metadata": text}), "metadata|alpha")


def test_metadata_that_cannot_be_printed_is_made_printable(place):
    header = {
        "__metadata__": {"ss_output_name": "\ud800\ud800", "ss_seed": "9" * 5000},
        f"{NAME}.diff": entry([1, 1], 0, 4),
    }
    place.write_bytes(with_header(header, np.ones(1, np.float32).tobytes()))
    facts = read_adapter(place).facts
    assert facts["seed"] is None
    facts["metadata"]["ss_output_name"].encode()


def test_a_file_in_memory_has_the_same_limits_and_is_hashed_when_asked():
    file = FileInMemory("it", SAFE)
    with pytest.raises(AdapterFileError, match=r"it has .* more than the limit of 10"):
        read_adapter(file, limits=Limits(file_bytes=10))
    assert read_adapter(file).facts["sha256"] == hashlib.sha256(SAFE).hexdigest() == sha256_of(file)
    assert read_adapter(file, hashed=False).facts["sha256"] is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_one_number_that_is_not_finite_is_found_among_tensors_of_one_dtype(place, bad, dtype):
    tensors = {key: value.astype(dtype) for key, value in GOOD.items()}
    assert len(verdict(place, save(tensors))) == 1
    tensors[f"{NAME}.lora_down.weight"][1, 2] = bad
    refused(place, save(tensors), "1 values of 8 in its down that are not finite")


def test_large_numbers_are_finite(place):
    """The sum of their squares is not."""
    tensors = {key: value.astype(np.float32) for key, value in GOOD.items()}
    tensors[f"{NAME}.lora_down.weight"] *= np.float32(1e25)
    assert len(verdict(place, save(tensors))) == 1


def test_opening_gives_what_lies_in_the_file(place):
    place.write_bytes(SAFE)
    opened = open_adapter_file(place)
    assert opened.metadata == {"ss_seed": "1"}
    assert opened.dtypes[f"{NAME}.lora_down.weight"] == "float16"
    assert {key: value.shape for key, value in opened.tensors.items()} == {
        key: value.shape for key, value in GOOD.items()
    }
