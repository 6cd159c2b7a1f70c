"""A file in memory reads as one on disk does."""

import io

from hypothesis import given
from hypothesis import strategies as st

from lorastyle.adapters.formats.memory import MemoryFile

STEPS = st.lists(
    st.tuples(st.sampled_from(["read", "seek", "back", "end", "into"]), st.integers(0, 40)),
    max_size=12,
)


def carried_out(file, step, number):
    if step == "read":
        return file.read(number)
    if step == "into":
        room = bytearray(number)
        n = file.readinto(room)
        return n, bytes(room[:n])
    how = {"seek": io.SEEK_SET, "back": io.SEEK_CUR, "end": io.SEEK_END}[step]
    try:
        return file.seek(number if step == "seek" else -number, how), file.tell()
    except (OSError, ValueError):
        return "refused"


@given(st.binary(max_size=60), STEPS)
def test_it_reads_as_a_file_does(tmp_path_factory, content, steps):
    path = tmp_path_factory.getbasetemp() / "content"
    path.write_bytes(content)
    with path.open("rb", buffering=0) as theirs:
        ours = MemoryFile(content)
        for step in steps:
            assert carried_out(ours, *step) == carried_out(theirs, *step)
        assert ours.read() == theirs.read()


def test_the_rest_is_a_view():
    content = bytearray(b"0123456789")
    file = MemoryFile(content)
    assert file.read(4) == b"0123"
    rest = file.rest(100)
    assert rest.tobytes() == b"456789" and file.read() == b""
    content[4] = ord("x")
    assert rest[0] == ord("x")
