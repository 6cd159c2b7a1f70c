"""How many training actors a cluster takes, now and once its autoscaler has added machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorastyle.config import ComputeConfig
from lorastyle.errors import TrainingError


@dataclass(frozen=True)
class Offer:
    """Resources of a cluster: those that are there, and the most its autoscaler may bring."""

    present: Mapping[str, float]
    possible: Mapping[str, float]

    @property
    def has_gpus(self) -> bool:
        return bool(self.present.get("GPU") or self.possible.get("GPU"))


@dataclass(frozen=True)
class CrewSize:
    """Actors at the same time, at most, and what each of them holds."""

    n_actors: int
    gpus_per_actor: float


def crew_size(compute: ComputeConfig, offer: Offer, n_stacks: int) -> CrewSize:
    """One actor a GPU (or a share of one), or one a core where there are none.

    Machines that are there are all used, with smaller stacks if need be. More are
    asked for only as long as each has a whole stack of the `n_stacks` to train.
    Raises TrainingError where the cluster offers nothing and does not say what it
    could.

    >>> crew_size(ComputeConfig(), Offer({"CPU": 2.0}, {}), 5)
    CrewSize(n_actors=2, gpus_per_actor=0.0)
    >>> crew_size(ComputeConfig(), Offer({}, {"CPU": 640.0, "GPU": 80.0}), 12)
    CrewSize(n_actors=12, gpus_per_actor=1.0)
    """
    per_actor = compute.gpus_per_actor
    if per_actor is None:
        per_actor = 1.0 if offer.has_gpus else 0.0
    if compute.n_actors is not None:
        return CrewSize(compute.n_actors, per_actor)
    present, possible = _slots(offer.present, per_actor), _slots(offer.possible, per_actor)
    if not present and not possible:
        what = f"{per_actor:g} GPU" if per_actor else "a core"
        raise TrainingError(
            f"the cluster offers no place for an actor of {what}, and does not say what its "
            "autoscaler could add; set n_actors (and gpus_per_actor) to ask for them anyway"
        )
    return CrewSize(max(present, min(possible, n_stacks)), per_actor)


def _slots(resources: Mapping[str, float], gpus_per_actor: float) -> int:
    # An actor holds a core as well, but a GPU machine has more cores than GPUs.
    if gpus_per_actor:
        return int(resources.get("GPU", 0.0) / gpus_per_actor + 1e-9)
    return int(resources.get("CPU", 0.0))


def offer_of_cluster() -> Offer:
    """What the Ray cluster that this process is connected to offers."""
    import ray

    return Offer(ray.cluster_resources(), _possible_resources())


def _possible_resources() -> Mapping[str, float]:
    """The most that the autoscaler's configuration allows; empty where there is none."""
    # Ray tells its own libraries; there is no public way to ask.
    from ray._private.state import state

    try:
        return state.get_max_resources_from_cluster_config() or {}
    except Exception:  # another release of Ray: the present resources are still right
        return {}
