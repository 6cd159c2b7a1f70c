"""The clients of the benchmark of serving, against a server of a small run."""

import psutil
import pytest
from starlette.testclient import TestClient

from benchmarks.serve import _body, _load
from lorastyle.serving.app import make_app
from lorastyle.serving.settings import ServingSettings
from tests.serving.conftest import listening


def test_every_request_is_counted_and_a_refusal_is_no_answer(wild_run, wild):
    content = (wild / "anna-00.safetensors").read_bytes()
    app = make_app(wild_run, ServingSettings())
    with listening(app) as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        found = _load(port, [_body(content)], 2, 4, psutil.Process())
        with pytest.raises(RuntimeError, match="422"):
            _load(port, [_body(content[:-9])], 1, 1, psutil.Process())
    assert (found["clients"], found["requests"]) == (2, 4)
    assert found["p95_ms"] >= found["median_ms"] > 0
    assert 'route="/search",status="200"} 4.0' in TestClient(app).get("/metrics").text
