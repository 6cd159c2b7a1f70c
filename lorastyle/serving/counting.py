"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SHARED_COUNTS = "PROMETHEUS_MULTIPROC_DIR"
"""Of a server of several processes, the folder with the counts of all. The library looks for it
when it is imported: it is set before a process begins."""


class Counts:
    """Of one app: requests by route and status, how long they took, what is under way."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lorastyle_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "lorastyle_request_seconds",
            "From a request's first byte to its answer's last.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.uploaded = Counter(
            "lorastyle_uploaded_bytes", "Bytes of uploads received.", registry=self.registry
        )
        self.at_once = Gauge(
            "lorastyle_uploads_at_once",
            "Uploads that are received, waiting or worked on.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.adapters = Gauge(
            "lorastyle_gallery_adapters",
            "Adapters that the gallery of an unnamed space holds.",
            registry=self.registry,
            multiprocess_mode="livemax",
        )

    def text(self) -> bytes:
        """Of all processes of the server."""
        if SHARED_COUNTS not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def forget_process(pid: int) -> None:
    """Nothing is under way any more in a process that died; what it answered still counts."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]
