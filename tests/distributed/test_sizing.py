from __future__ import annotations

import pytest

from lorastyle.config import ComputeConfig
from lorastyle.distributed.sizing import CrewSize, crew_size
from lorastyle.errors import TrainingError


@pytest.mark.parametrize(
    ("compute", "resources", "expected"),
    [
        ({}, {"CPU": 2.0}, (2, 0.0)),
        ({}, {"CPU": 16.0, "GPU": 4.0}, (4, 1.0)),
        ({"n_actors": 3}, {"CPU": 16.0}, (3, 0.0)),
        ({"gpus_per_actor": 0}, {"CPU": 2.0, "GPU": 4.0}, (2, 0.0)),
        ({"gpus_per_actor": 0.25}, {"CPU": 8.0, "GPU": 1.0}, (4, 0.25)),
        ({"gpus_per_actor": 0.1}, {"CPU": 8.0, "GPU": 0.3}, (3, 0.1)),
        # Scaled down to its head: asked for what was said.
        ({"n_actors": 8, "gpus_per_actor": 1}, {}, (8, 1.0)),
    ],
)
def test_a_fleet_fills_the_cluster_it_is_given(
    compute: dict[str, float], resources: dict[str, float], expected: tuple[int, float]
) -> None:
    assert crew_size(ComputeConfig.model_validate(compute), resources) == CrewSize(*expected)


@pytest.mark.parametrize(
    ("compute", "what"), [({}, "a core"), ({"gpus_per_actor": 0.5}, r"0\.5 GPU")]
)
def test_an_empty_cluster_is_an_error_that_says_what_to_set(
    compute: dict[str, float], what: str
) -> None:
    with pytest.raises(TrainingError, match=rf"no place now for an actor of {what}.*n_actors=8"):
        crew_size(ComputeConfig.model_validate(compute), {})
