from __future__ import annotations

from lorastyle.distributed.pace import Pace


def paced(*seconds: float, **settings: float) -> Pace:
    pace = Pace(**settings)  # type: ignore[arg-type]
    for one in seconds:
        pace.record(4, one)
    return pace


def test_nothing_is_late_until_enough_is_known() -> None:
    pace = paced(10.0, 10.0)
    assert pace.expected_s(4) is None
    assert not pace.straggles(4, 1e9) and not pace.is_overdue(4, 1e9)


def test_one_slow_batch_does_not_move_what_is_expected() -> None:
    pace = paced(10.0, 11.0, 9.0, 500.0)
    assert pace.expected_s(4) == 10.5
    assert pace.straggles(4, 22.0) and not pace.straggles(4, 20.0)
    assert not pace.is_overdue(4, 110.0)  # nothing is ended within two minutes
    assert pace.is_overdue(4, 121.0)


def test_larger_batches_may_take_longer_in_proportion() -> None:
    pace = paced(10.0, 10.0, 10.0)
    assert not pace.straggles(8, 39.0) and pace.straggles(8, 41.0)


def test_a_fixed_deadline_holds_from_the_first_batch() -> None:
    pace = paced(deadline_s=7.0)
    assert pace.is_overdue(4, 7.1) and not pace.is_overdue(4, 6.9)
