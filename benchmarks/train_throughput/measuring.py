"""How many samples a second a contestant trains, and in how much memory."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from benchmarks.train_throughput.peer import DeviceBatches, fastest_settings
from benchmarks.train_throughput.records import Contestant, Measured, Timing
from benchmarks.train_throughput.workbench import Workbench
from lorastyle.training.trainer import train_stack


class Enough(Exception):  # noqa: N818
    """The window is over: no error, the way out of a training that was watched long enough."""


class Stopwatch:
    """Told of each step, measures the time of those after the warm-up, and stops the training.

    The GPU is waited for when the window begins and, in it, only at every so-manieth step:
    a queue that is emptied at each would not be what training does.
    """

    def __init__(self, timing: Timing, device: torch.device, begin: Callable[[], object]) -> None:
        self._timing, self._device, self._begin = timing, device, begin
        self._every = 8 if device.type == "cuda" else 1
        self._made = time.perf_counter()
        self._start = self._cpu_start = 0.0
        self.prepare_s = self.wall_s = self.cpu_s = 0.0
        self.n_steps = 0

    def __call__(self, done: int) -> None:
        n_steps = done - self._timing.warm_up
        if n_steps < 0 or n_steps % self._every:
            return
        synchronise(self._device)
        if n_steps == 0:
            self._begin()
            self._start, self._cpu_start = time.perf_counter(), time.process_time()
            self.prepare_s = self._start - self._made
            return
        self.n_steps, self.wall_s = n_steps, time.perf_counter() - self._start
        self.cpu_s = time.process_time() - self._cpu_start
        if self.wall_s >= self._timing.seconds:
            raise Enough


def measure(bench: Workbench, contestant: Contestant, timing: Timing) -> Measured:
    """Train for one window.

    Whatever the training raises, lack of memory among it, is raised. Raises RuntimeError where
    it ends before the window began.
    """
    if contestant.compiled:
        # Each size of a stack and each peer is a graph of its own, of the same functions.
        torch._dynamo.config.recompile_limit = 64
    tidy(bench.device)

    is_peak_known = False

    def begin() -> None:
        nonlocal is_peak_known
        bench.together()
        is_peak_known = start_peak(bench.device)

    watch = Stopwatch(timing, bench.device, begin)
    train = _train_peer if contestant.who == "peft" else _train_ours
    with suppress(Enough):
        train(bench, contestant, watch)
    if not watch.n_steps:
        raise RuntimeError(f"{contestant.name} ended before anything was measured")
    return Measured(
        samples_per_s=contestant.samples_a_step * watch.n_steps / watch.wall_s,
        n_steps=watch.n_steps,
        wall_s=watch.wall_s,
        cpu_s=watch.cpu_s,
        prepare_s=watch.prepare_s,
        peak_bytes=peak_memory(bench.device) if is_peak_known else None,
    )


def _train_ours(bench: Workbench, contestant: Contestant, watch: Stopwatch) -> None:
    train_stack(
        bench.unet,
        bench.scheduler,
        bench.items(contestant.stack),
        bench.settings(contestant.batch),
        compiled=contestant.compiled,
        on_step=watch,
    )


def _train_peer(bench: Workbench, contestant: Contestant, watch: Stopwatch) -> None:
    mode = "reduce-overhead" if contestant.graphs else "default"
    with fastest_settings(bench.device):
        peer = bench.peer(
            autocast=contestant.autocast, compiled=mode if contestant.compiled else ""
        )
        settings = bench.settings(contestant.batch)
        n_timesteps = bench.scheduler.config["num_train_timesteps"]
        batches = DeviceBatches(bench.items(1)[0], settings, n_timesteps, bench.device)
        peer.train(batches, settings, watch)


def matmul_rate(bench: Workbench, size: int, seconds: float) -> float:
    """Operations a second of (size, size) products in the precision of the U-Net.

    The fastest of some batches of products: a limit, not a mean.
    """
    dtype = bench.unet.dtype
    left, right = (torch.randn(size, size, device=bench.device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    n_products, best, until = 1, 0.0, 0.0
    while not until or time.perf_counter() < until:
        taken = _multiply(left, right, out, n_products)
        best = max(best, 2 * size**3 * n_products / taken)
        if taken < 0.02:  # too short for what waiting and the clock cost
            n_products *= 2
        elif not until:
            until = time.perf_counter() + seconds
    return best


def _multiply(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor, n_products: int) -> float:
    synchronise(left.device)
    start = time.perf_counter()
    for _ in range(n_products):
        torch.matmul(left, right, out=out)
    synchronise(left.device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Wait for all that a GPU has been told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tidy(device: torch.device) -> None:
    """Give back what the last measurement left, one that failed too."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return
    with suppress(OSError, AttributeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)


def start_peak(device: torch.device) -> bool:
    """Forget how much memory was in use: trying kernels and compiling are no part of training.

    False where the system cannot: only Linux, and not everywhere, resets a process's mark.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_memory(device: torch.device) -> int:
    """Bytes at most since `start_peak`, where that could be done."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
