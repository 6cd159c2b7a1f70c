from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lorastyle.embedding import blocks as cutting
from lorastyle.embedding.blocks import blocks, chunks_per_segment, cut_segments, origin_rows

ranges = st.builds(
    lambda start, width: slice(start, start + width),
    st.integers(0, 90_000),
    st.integers(1, 120_000),
)


@given(ranges, st.integers(1, 40_000), st.integers(1, 60_000))
def test_blocks_cover_every_column_once_and_keep_their_bounds(columns, chunk, width):
    at = columns.start
    for panels in blocks(columns, chunk, width):
        assert panels[-1].stop - panels[0].start <= width
        assert panels[0].start // chunk == (panels[-1].stop - 1) // chunk
        for panel in panels:
            assert panel.start == at < panel.stop
            at = panel.stop
    assert at == columns.stop


@given(ranges, st.integers(16_384, 40_000), st.integers(16_384, 60_000))
def test_what_is_multiplied_together_does_not_depend_on_memory(columns, chunk, width):
    def panels(at_once: int) -> list[slice]:
        return [panel for block in blocks(columns, chunk, at_once) for panel in block]

    assert panels(width) == panels(chunk)


@given(ranges, st.integers(1, 40_000), st.integers(1, 9))
def test_segments_cover_every_column_once_and_end_with_a_chunk(columns, chunk, n_chunks):
    parts = cut_segments(columns, chunk, n_chunks)
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert (parts[0].start, parts[-1].stop) == (columns.start, columns.stop)
    assert all(part.stop % (chunk * n_chunks) == 0 for part in parts[:-1])
    assert all(part.stop > part.start for part in parts)


@given(st.integers(1, 10**8), st.integers(1, 32_768))
def test_a_pass_has_a_bounded_number_of_segments(n_columns, chunk):
    n_chunks = chunks_per_segment(n_columns, chunk)
    assert -(-n_columns // (chunk * n_chunks)) <= cutting.MAX_SEGMENTS


@given(st.integers(1, 50))
def test_the_origin_is_a_few_rows_from_first_to_last(n):
    rows = np.arange(n) * 3 + 1
    chosen = origin_rows(rows)
    assert len(np.unique(chosen)) == len(chosen) == min(n, 3)
    assert set(chosen) <= set(rows)
    assert (chosen[0], chosen[-1]) == (rows[0], rows[-1] if n > 1 else rows[0])
