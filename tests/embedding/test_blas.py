from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from lorastyle.embedding.blas import one_blas_thread
from lorastyle.embedding.products import block_products, combine_block, products


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_the_limit_ends_with_the_last_who_is_inside():
    """The first comes and goes while the second is inside: each by itself would restore badly."""
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))
    seen = {}

    def second() -> None:
        first_is_in.wait(10)
        with one_blas_thread():
            second_is_in.set()
            first_is_out.wait(10)
            seen["while the second is inside"] = blas_threads()

    with threadpool_limits(2, user_api="blas"):
        other = threading.Thread(target=second)
        other.start()
        with one_blas_thread():
            first_is_in.set()
            second_is_in.wait(10)
        first_is_out.set()
        other.join()
        assert blas_threads() == {2}
    assert seen == {"while the second is inside": {1}}


def test_the_limit_ends_with_an_error():
    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(ZeroDivisionError), one_blas_thread():
            raise ZeroDivisionError
        assert blas_threads() == {2}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [40, 100])
def test_products_are_the_same_bits_with_any_number_of_threads(n, dtype):
    """With AVX-512, OpenBLAS by itself gives other bits with two threads than with one."""
    rng = np.random.default_rng(0)
    rows, others = rng.standard_normal((n, 3000)), rng.standard_normal((9, 3000))
    rows, others = rows.astype(dtype), others.astype(dtype)
    found = []
    for n_threads in (1, 2, 5):
        with threadpool_limits(n_threads, user_api="blas"):
            found.append(
                [
                    products(rows, block_columns=700),
                    block_products(rows, others, centre=False),
                    combine_block(rows, others[:, :n], centre=True),
                ]
            )
    for again in found[1:]:
        for one, other in zip(found[0], again, strict=True):
            np.testing.assert_array_equal(one, other)


def test_who_has_set_another_limit_does_not_hinder_other_threads():
    """threadpoolctl gives the first thread that sets a limit the say, and ignores all others."""
    seen = []

    def worker() -> None:
        with one_blas_thread():
            seen.append(blas_threads())

    with threadpool_limits(2, user_api="blas"):
        thread = threading.Thread(target=worker)
        thread.start()
        thread.join()
        assert seen == [{1}]
        assert blas_threads() == {2}
