"""What a measurement was made on: part of every result."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from threadpoolctl import threadpool_info

PACKAGES = ("numpy", "scipy", "scikit-learn", "dask", "dask-ml", "zarr")


def describe(repository: Path) -> dict[str, Any]:
    """Cores, memory, versions, commit and date; plain JSON."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(repository),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": psutil.virtual_memory().total / 1e9,
        "load_average": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **_versions()},
        "blas": [f"{each['internal_api']} {each['version']}" for each in threadpool_info()],
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or sys.platform
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def _commit(repository: Path) -> str:
    """The commit, marked where files differ from it; empty outside a checkout."""
    command = ["git", "-C", str(repository), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
