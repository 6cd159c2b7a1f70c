"""Ray's fake node provider, with a directory for each node.

In one directory, nodes that start together unpack the same job into the same folder, and the first
to go removes it from under the others. Loaded by Ray's autoscaler, by the name `OwnDirectories`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorastyle.distributed.processes import MARK


def __getattr__(name: str) -> Any:
    """Make the class when it is asked for: to import this module must not import ray."""
    if name == "OwnDirectories":
        return _own_directories()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _own_directories() -> type:
    from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider

    class OwnDirectories(FakeMultiNodeProvider):  # type: ignore[misc]
        """A node is a raylet of this machine, in `n1`, `n2`, ... of the cluster's directory."""

        def _create_node_with_resources_and_labels(self, *arguments: Any) -> None:
            with self.lock:
                place = Path(os.environ[MARK]) / f"n{self._next_node_id + 1}"
                with _nodes_in(place):
                    super()._create_node_with_resources_and_labels(*arguments)

    return OwnDirectories


@contextmanager
def _nodes_in(place: Path) -> Iterator[None]:
    """The provider's own parameters have no place for a directory: give them one in passing."""
    from ray._private import parameter

    before = parameter.RayParams
    parameter.RayParams = functools.partial(before, temp_dir=str(place))
    try:
        yield
    finally:
        parameter.RayParams = before
