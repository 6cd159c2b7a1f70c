"""Names of strangers become names of files in one folder, each its own."""

from pathlib import PurePosixPath, PureWindowsPath

from hypothesis import given
from hypothesis import strategies as st

from lorastyle.runs.file_names import safe_name


@given(st.text(max_size=300))
def test_a_name_is_one_part_of_a_path_and_short(name):
    safe = safe_name(name)
    for kind in (PurePosixPath, PureWindowsPath):
        assert kind("folder", safe).parts == ("folder", safe)
    assert safe not in (".", "..") and not safe.startswith(".")
    assert len(f"{safe}.safetensors".encode()) <= 255


@given(st.sets(st.text(max_size=12), min_size=2))
def test_different_names_stay_different(names):
    assert len({safe_name(name) for name in names}) == len(names)


@given(st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,60}", fullmatch=True))
def test_a_harmless_name_stays(name):
    assert safe_name(name) == name
