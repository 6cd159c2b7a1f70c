import numpy as np
import pytest

from lorastyle.evaluation.drift import (
    calibration_summary,
    calibration_table,
    drift,
    drifts,
    expected_drift,
)
from lorastyle.evaluation.labelled import LabelledVectors
from lorastyle.evaluation.protocol import fit_setting


def labelled(rows):
    return LabelledVectors(
        np.array([row[1:] for row in rows], float), np.array([row[0] for row in rows])
    )


def test_two_artists_worked_by_hand():
    # Within: a has deviations -1, 1 and b -2, 2 on the first component, 1 degree of freedom each:
    # (2 + 8) / 2 = 5. On the second none but b's -1, 1: 2 / 2 = 1.
    fit = labelled([("a", 0, 4), ("a", 2, 4), ("b", 6, 0), ("b", 10, 2)])
    # Means move by 3 and -1 on the first, by 0 and 2 on the second: squares (9 + 1) / 2 and 2.
    held_out = labelled([("a", 4, 4), ("b", 6, 3), ("b", 8, 3), ("stranger", 99, 99)])
    found = drift(fit, held_out)
    np.testing.assert_allclose(found.by_component, [np.sqrt(5 / 5), np.sqrt(2 / 1)])
    np.testing.assert_allclose(found.together, [1, np.sqrt(7 / 6)])
    assert found.expected == pytest.approx(np.sqrt((1 / 2 + 1 / 1 + 1 / 2 + 1 / 2) / 2))


def test_without_drift_it_is_what_chance_gives():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 8)) * 5

    def part(n):
        artist = np.repeat(np.arange(60), n)
        return LabelledVectors(centres[artist] + rng.normal(size=(60 * n, 8)), artist.astype(str))

    found = drift(part(20), part(3))
    assert found.together[-1] == pytest.approx(found.expected, rel=0.06)
    assert found.expected == pytest.approx(expected_drift(np.array([20]), np.array([3])))


def test_one_artist_or_one_adapter_each_has_no_drift():
    one = labelled([("a", 0), ("a", 1)])
    assert drift(one, one) is None
    single = labelled([("a", 0), ("b", 1)])
    assert drift(single, single) is None


def test_a_component_on_which_artists_are_points_is_not_a_warning():
    fit = labelled([("a", 0, 0), ("a", 0, 1), ("b", 1, 0), ("b", 1, 1)])
    found = drift(fit, labelled([("a", 1, 0.5), ("b", 1, 0.5)]))
    assert found.by_component[0] == np.inf
    assert found.by_component[1] == 0


def test_the_table_has_the_calibration_and_the_drift_of_every_set(grams, experiment):
    setting = fit_setting(grams, None, "factors", "full", experiment)
    table = calibration_table(setting)
    clustering = table[table["task"] == "clustering"]
    space = setting.spaces["clustering"]
    np.testing.assert_array_equal(clustering["scale"], space.calibration.scale)
    scores = space.scores(space.fit_rows)
    width = scores.max(axis=0) - scores.min(axis=0)
    np.testing.assert_allclose(clustering["shift_of_range"], space.calibration.shift / width)
    assert set(table["task"]) == {"clustering", "retrieval"}
    assert clustering["component"].tolist() == list(range(1, 9))
    test = drifts(space)["test"]
    np.testing.assert_array_equal(clustering["test_before"], test[0].by_component)
    np.testing.assert_array_equal(clustering["test_after"], test[1].by_component)


def test_calibration_takes_the_drift_of_its_own_adapters_away(new_grams, experiment):
    setting = fit_setting(new_grams(noise=0.3, width=400), None, "factors", "full", experiment)
    for space in setting.spaces.values():
        before, after = drifts(space)["calibration"]
        # Least squares in each component: no component can be farther off than before.
        assert (after.by_component <= before.by_component + 1e-12).all()
        found = calibration_summary(space, 3)
        assert found["drift"]["calibration"]["after"] < found["drift"]["calibration"]["before"]
        assert found["scale"]["first"] == space.calibration.scale[0]
        assert found["scale"]["largest"] == space.calibration.scale[:3].max()


def test_without_calibration_nothing_changes(grams, experiment):
    setting = fit_setting(grams, None, "factors", "full", experiment)
    for space in setting.calibrated_as(dict.fromkeys(setting.spaces, "none")).spaces.values():
        for before, after in drifts(space).values():
            np.testing.assert_array_equal(before.by_component, after.by_component)
