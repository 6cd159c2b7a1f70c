"""The fleet's numbers as Prometheus metrics, on the metrics ports of the Ray cluster.

Ray puts `ray_` before each name and exports every ten seconds, on the node of the driver.
"""

from __future__ import annotations

from typing import Any

from lorastyle.distributed.tally import Tally

GAUGES = {
    "lorastyle_adapters_total": "Adapters that were missing when this attempt began.",
    "lorastyle_adapters_done": "Adapters done by this attempt, unusable ones among them.",
    "lorastyle_adapters_unusable": "Adapters that failed, are zero or not finite.",
    "lorastyle_adapters_repeated": "Adapters whose training was begun again, or twice.",
    "lorastyle_adapters_per_hour": "Pace since the first actor was ready.",
    "lorastyle_seconds_left": "Time that the rest will take at this pace.",
    "lorastyle_actors_live": "Training actors that are ready.",
    "lorastyle_actors_pending": "Training actors that wait for a place.",
    "lorastyle_gpus_live": "GPUs that ready actors hold.",
    "lorastyle_machines_lost": "Actors that died or did not come back in time.",
    "lorastyle_cost": "Cost of the actors' time, where a price was given.",
}


class FleetMetrics:
    """Gauges tagged with the run. Ray must be initialised when one is made."""

    def __init__(self, run: str) -> None:
        from ray.util.metrics import Gauge

        self._gauges: dict[str, Any] = {
            name: Gauge(name, description=text, tag_keys=("run",)) for name, text in GAUGES.items()
        }
        for gauge in self._gauges.values():
            gauge.set_default_tags({"run": run})

    def update(self, tally: Tally, gpus_per_actor: float, cost: float | None) -> None:
        """Export the present numbers; what is not known yet is left as it was."""
        values = {
            "lorastyle_adapters_total": tally.total,
            "lorastyle_adapters_done": tally.n_done,
            "lorastyle_adapters_unusable": tally.n_unusable,
            "lorastyle_adapters_repeated": tally.n_repeated,
            "lorastyle_adapters_per_hour": tally.per_hour(),
            "lorastyle_seconds_left": tally.left_s(),
            "lorastyle_actors_live": len(tally.live),
            "lorastyle_actors_pending": len(tally.pending),
            "lorastyle_gpus_live": gpus_per_actor * len(tally.live),
            "lorastyle_machines_lost": tally.n_machines_lost,
            "lorastyle_cost": cost,
        }
        for name, value in values.items():
            if value is not None:
                self._gauges[name].set(float(value))
