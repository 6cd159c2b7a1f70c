"""Who is killed when: actors, nodes and drivers, at random, by SIGKILL."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import psutil

from lorastyle.distributed.local_cluster import LocalCluster
from lorastyle.distributed.processes import kill, members, of_node
from lorastyle.errors import LorastyleError

KINDS = {"actor": 5, "node": 3, "driver": 2}
"""How often each is chosen, of ten."""
ACTOR = "ray::TrainingActor"


class Killer(threading.Thread):
    """Kills something every `every_s` seconds until it is told to stop."""

    def __init__(
        self,
        cluster: LocalCluster,
        driver: Callable[[], psutil.Process | None],
        *,
        every_s: float,
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(daemon=True)
        self.kills: Counter[str] = Counter()
        self._cluster, self._driver, self._say = cluster, driver, say
        self._every_s, self._random = every_s, random.Random(seed)
        self._stop_now = threading.Event()

    def run(self) -> None:
        """Wait, kill, and so on; what finds no victim kills the next kind."""
        while not self._stop_now.wait(self._every_s * self._random.uniform(0.5, 1.5)):
            chosen = self._random.choices(list(KINDS), list(KINDS.values()))[0]
            for kind in (chosen, *KINDS):
                if self._kill(kind):
                    self.kills[kind] += 1
                    self._say(f"killed: {kind}")
                    break

    def stop(self) -> None:
        """No more kills from now on."""
        self._stop_now.set()
        self.join()

    def _kill(self, kind: str) -> bool:
        victims = {"actor": self._actors, "node": self._nodes, "driver": self._drivers}[kind]()
        if victims:
            kill(self._random.choice(victims))
        return bool(victims)

    def _actors(self) -> list[list[psutil.Process]]:
        return [[one] for one in members(str(self._cluster.directory)) if _title(one) == ACTOR]

    def _nodes(self) -> list[list[psutil.Process]]:
        with suppress(LorastyleError):
            nodes = self._cluster.workers()
            found = (of_node(str(self._cluster.directory), one.node_id) for one in nodes)
            return [processes for processes in found if processes]
        return []

    def _drivers(self) -> list[list[psutil.Process]]:
        driver = self._driver()
        return [] if driver is None else [[driver]]


def _title(process: psutil.Process) -> str:
    """What a worker of Ray says it is: it writes that over its command line."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        command = process.cmdline()
        return command[0].split(".")[0] if command else ""
    return ""
