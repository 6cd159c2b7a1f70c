"""How many training actors a cluster takes, and what each of them holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorastyle.config import ComputeConfig
from lorastyle.errors import TrainingError


@dataclass(frozen=True)
class CrewSize:
    """Actors at the same time, at most, and the GPUs of each."""

    n_actors: int
    gpus_per_actor: float


def keep_to_one_core() -> None:
    """In an actor, before its work: two threads on two busy cores are slower than one.

    Where there is a GPU the cores are not what is short.
    """
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(1)


def crew_size(compute: ComputeConfig, resources: Mapping[str, float]) -> CrewSize:
    """One actor a GPU (or a share of one), or one a core where there are none.

    `resources` are those that the cluster has now: Ray does not tell what its
    autoscaler could add. A cluster that scales is told by `compute.n_actors` how
    many to ask for. Raises TrainingError where neither says a number.

    >>> crew_size(ComputeConfig(), {"CPU": 2.0})
    CrewSize(n_actors=2, gpus_per_actor=0.0)
    >>> crew_size(ComputeConfig(gpus_per_actor=0.5), {"CPU": 16.0, "GPU": 2.0})
    CrewSize(n_actors=4, gpus_per_actor=0.5)
    """
    n_gpus = resources.get("GPU", 0.0)
    per_actor = compute.gpus_per_actor
    if per_actor is None:
        per_actor = 1.0 if n_gpus else 0.0
    # An actor holds a core as well, but a GPU machine has more cores than GPUs. A share of
    # 0.1 must give ten actors, though ten times it is less than one to the last bit.
    slots = n_gpus / per_actor + 1e-9 if per_actor else resources.get("CPU", 0.0)
    n_actors = compute.n_actors or int(slots)
    if not n_actors:
        what = f"{per_actor:g} GPU" if per_actor else "a core"
        raise TrainingError(
            f"the cluster has no place now for an actor of {what}; if it scales, say how many "
            "actors to ask for, and of what: n_actors=8 gpus_per_actor=1"
        )
    return CrewSize(n_actors, per_actor)
