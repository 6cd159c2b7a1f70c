"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


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
        )
        self.adapters = Gauge(
            "lorastyle_gallery_adapters",
            "Adapters that the gallery of an unnamed space holds.",
            registry=self.registry,
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
