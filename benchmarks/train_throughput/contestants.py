"""Who is measured: ways to train, and on how many processes and threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.train_throughput.records import Arrangement, Contestant

FULL = 64
"""Samples of a step above which more are not expected to help."""


def arrangements(n_processes: Sequence[int], n_cores: int) -> list[Arrangement]:
    """Each number of processes, sharing all cores."""
    return [Arrangement(n, max(1, n_cores // n)) for n in n_processes]


def eager_contestants(
    batches: Sequence[int], stacks: Sequence[int], *, autocast: bool
) -> list[Contestant]:
    """PEFT at each batch; ours in all stacks at the first batch, in two at the others."""
    peers = [Contestant("peft", batch, autocast=autocast) for batch in batches]
    ours = [Contestant("ours", batches[0], stack) for stack in stacks]
    for batch in batches[1:]:
        fitting = [stack for stack in stacks if stack * batch <= FULL] or [min(stacks)]
        ours += [Contestant("ours", batch, stack) for stack in sorted({fitting[0], fitting[-1]})]
    return peers + ours


def compiled_contestants(
    batch: int, stacks: Sequence[int], *, autocast: bool, graphs: bool
) -> list[Contestant]:
    """Compiled ones, which take a minute each: what says most comes first.

    The largest stack of up to `FULL` samples, the peer, then smaller stacks. `graphs` adds the
    peer with CUDA graphs, which PyTorch has no use for on a CPU.
    """
    stacks = [stack for stack in stacks if stack * batch <= FULL] or [min(stacks)]
    ours = [
        Contestant("ours", batch, stack, compiled=True) for stack in sorted(stacks, reverse=True)
    ]
    peer = Contestant("peft", batch, compiled=True, autocast=autocast)
    return [ours[0], peer, *ours[1:], *([replace(peer, graphs=True)] if graphs else [])]
