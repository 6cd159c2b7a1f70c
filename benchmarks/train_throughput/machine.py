"""What was measured on and what was trained: part of every result.

Unlike other benchmarks' it asks for no package that a bare GPU machine may lack.
"""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.train_throughput.workbench import Workbench

REPOSITORY = Path(__file__).resolve().parents[2]


def describe(bench: Workbench) -> dict[str, Any]:
    """The machine, the device, the U-Net and what a sample costs; plain JSON."""
    import diffusers
    import numpy
    import peft
    import torch

    from lorastyle.training.cost import sample_cost

    unet, device = bench.unet, bench.device
    cost = sample_cost(
        dict(unet.config), bench.settings(1), n_tokens=bench.n_tokens, dtype=unet.dtype
    )
    is_cuda = device.type == "cuda"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "platform": platform.platform(),
        "device": {
            "type": device.type,
            "name": torch.cuda.get_device_name(device) if is_cuda else _processor(),
            "memory_gb": torch.cuda.get_device_properties(device).total_memory / 1e9
            if is_cuda
            else None,
            "cores": n_cores(),
            "load_average": os.getloadavg()[0],
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "diffusers": diffusers.__version__,
            "peft": peft.__version__,
            "numpy": numpy.__version__,
        },
        "unet": {
            "dtype": str(unet.dtype).removeprefix("torch."),
            "rank": bench.rank,
            "parameters_an_adapter": bench.layout.size,
            "forward_flops_a_sample": cost.forward_flops,
            "training_flops_a_sample": cost.training_flops,
        },
    }


def n_cores() -> int:
    """Of those on this machine, the ones that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def _commit() -> str:
    """The commit, marked where files differ from it; empty outside a checkout."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
