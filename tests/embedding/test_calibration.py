from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorastyle.embedding.calibration import Calibration, artist_means, fit_calibration
from lorastyle.errors import TooFewAdaptersError


def scattered(seed: int, n_artists: int, k: int = 6) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    calibration_artists = np.repeat(np.arange(n_artists), 3)
    fit_artists = np.repeat(np.arange(n_artists), 5)
    centres = rng.standard_normal((n_artists, k)) + 1
    calibration = 0.4 * centres[calibration_artists] + rng.standard_normal((3 * n_artists, k))
    fit = centres[fit_artists] + 0.1 * rng.standard_normal((5 * n_artists, k))
    return calibration, calibration_artists, fit, fit_artists


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
@settings(max_examples=40, deadline=None)
def test_both_forms_are_least_squares(seed, n_artists):
    calibration, calibration_artists, fit, fit_artists = scattered(seed, n_artists)
    artists = np.arange(n_artists)
    x = artist_means(calibration, calibration_artists, artists)
    y = artist_means(fit, fit_artists, artists)
    full = fit_calibration(calibration, calibration_artists, fit, fit_artists, "full")
    simple = fit_calibration(calibration, calibration_artists, fit, fit_artists, "simple")
    for c in range(x.shape[1]):
        design = np.stack([x[:, c], np.ones(n_artists)], axis=1)
        (scale, shift), *_ = np.linalg.lstsq(design, y[:, c])
        np.testing.assert_allclose([full.scale[c], full.shift[c]], [scale, shift], rtol=1e-6)
        (only,), *_ = np.linalg.lstsq(x[:, [c]], y[:, c])
        np.testing.assert_allclose(simple.scale[c], only, rtol=1e-9)
    assert not simple.shift.any()


def test_the_paper_s_formula_as_it_must_mean():
    calibration, calibration_artists, fit, fit_artists = scattered(0, 7)
    x = artist_means(calibration, calibration_artists, np.arange(7))
    y = artist_means(fit, fit_artists, np.arange(7))
    n = 7
    s = ((x * y).sum(0) - x.sum(0) * y.sum(0) / n) / ((x**2).sum(0) - x.sum(0) ** 2 / n)
    t = (y.sum(0) - s * x.sum(0)) / n
    found = fit_calibration(calibration, calibration_artists, fit, fit_artists)
    np.testing.assert_allclose(found.scale, s, rtol=1e-9)
    np.testing.assert_allclose(found.shift, t, rtol=1e-7)


def test_calibrated_means_are_nearer_the_fit_means():
    calibration, calibration_artists, fit, fit_artists = scattered(1, 9)
    x = artist_means(calibration, calibration_artists, np.arange(9))
    y = artist_means(fit, fit_artists, np.arange(9))
    found = fit_calibration(calibration, calibration_artists, fit, fit_artists)
    before, after = ((x - y) ** 2).sum(axis=0), ((found.apply(x) - y) ** 2).sum(axis=0)
    assert (after <= before).all()


def test_three_artists_worked_by_hand():
    """x = 0, 1, 2 and y = 1, 3, 5: y = 2x + 1; without a shift 13/5."""
    artists = np.array(["a", "b", "c"])
    x, y = np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [3.0], [5.0]])
    full = fit_calibration(x, artists, y, artists)
    np.testing.assert_allclose([full.scale, full.shift], [[2], [1]])
    simple = fit_calibration(x, artists, y, artists, "simple")
    np.testing.assert_allclose([simple.scale, simple.shift], [[2.6], [0]])


def test_a_component_that_tells_no_artist_apart_is_set_to_the_mean():
    artists = np.array(["a", "b"])
    x = np.array([[0.1 + 0.2, 1.0], [0.3, 2.0]])
    y = np.array([[1.0, 1.0], [2.0, 2.0]])
    found = fit_calibration(x, artists, y, artists)
    np.testing.assert_allclose([found.scale, found.shift], [[0, 1], [1.5, 0]])
    zero = fit_calibration(np.zeros((2, 2)), artists, y, artists, "simple")
    np.testing.assert_array_equal(zero.scale, [0, 0])


def test_only_artists_on_both_sides_count():
    calibration, calibration_artists, fit, fit_artists = scattered(2, 6)
    expected = fit_calibration(
        calibration[:12], calibration_artists[:12], fit[:20], fit_artists[:20]
    )
    found = fit_calibration(calibration, calibration_artists, fit[:20], fit_artists[:20])
    np.testing.assert_allclose(found.scale, expected.scale)


def test_one_artist_cannot_give_a_slope_and_a_shift():
    scores, artists = np.ones((3, 2)), np.zeros(3)
    with pytest.raises(TooFewAdaptersError, match=r"needs 2 artists .* there are 1"):
        fit_calibration(scores, artists, scores, artists)


def test_a_calibration_applies_to_fewer_components():
    calibration = Calibration(np.array([2.0, 3.0]), np.array([1.0, 1.0]))
    np.testing.assert_array_equal(calibration.apply(np.array([[1.0]])), [[3.0]])
    scores = np.random.default_rng(0).standard_normal((4, 3))
    np.testing.assert_array_equal(Calibration.identity(3).apply(scores), scores)
