from __future__ import annotations

import pytest

from lorastyle.config import ComputeConfig
from lorastyle.distributed.sizing import CrewSize, Offer, crew_size
from lorastyle.errors import TrainingError


@pytest.mark.parametrize(
    ("compute", "present", "possible", "expected"),
    [
        ({}, {"CPU": 2.0}, {}, (2, 0.0)),
        ({}, {"CPU": 16.0, "GPU": 4.0}, {}, (4, 1.0)),
        ({"n_actors": 3}, {"CPU": 16.0}, {}, (3, 0.0)),
        ({"gpus_per_actor": 0}, {"CPU": 2.0, "GPU": 4.0}, {}, (2, 0.0)),
        ({"gpus_per_actor": 0.25}, {"CPU": 8.0, "GPU": 1.0}, {}, (4, 0.25)),
        # A cluster that is scaled down to its head: what its autoscaler may add counts,
        # as far as there are stacks to train.
        ({}, {}, {"CPU": 640.0, "GPU": 80.0}, (10, 1.0)),
        ({}, {}, {"CPU": 12.0, "GPU": 3.0}, (3, 1.0)),
        ({"gpus_per_actor": 0.1}, {}, {"CPU": 12.0, "GPU": 0.3}, (3, 0.1)),
        # What is there already is used, with smaller stacks.
        ({}, {"CPU": 64.0, "GPU": 16.0}, {"CPU": 640.0, "GPU": 80.0}, (16, 1.0)),
        ({"n_actors": 3}, {}, {}, (3, 0.0)),
    ],
)
def test_a_fleet_fills_the_cluster_it_is_given(
    compute: dict[str, float],
    present: dict[str, float],
    possible: dict[str, float],
    expected: tuple[int, float],
) -> None:
    settings = ComputeConfig.model_validate(compute)
    assert crew_size(settings, Offer(present, possible), n_stacks=10) == CrewSize(*expected)


def test_a_cluster_that_offers_nothing_is_an_error_that_says_what_to_set() -> None:
    with pytest.raises(TrainingError, match=r"no place for an actor of a core.*set n_actors"):
        crew_size(ComputeConfig(), Offer({}, {}), n_stacks=10)
