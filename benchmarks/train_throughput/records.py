"""What the session and its processes exchange; plain values, so that only they import PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

N_STEPS = 1_760
"""Of an adapter, in the paper, at a batch of one image."""


@dataclass(frozen=True)
class Subject:
    """What is trained and on what."""

    unet: str
    """`miniature`, with its weights; or `sd15`: Stable Diffusion 1.5's shapes, random weights."""
    rank: int
    device: str
    """`cpu` or `cuda`."""
    precision: str = "auto"
    """As training takes it; or `float64`, to compare in."""


@dataclass(frozen=True)
class Contestant:
    """One way to train adapters."""

    who: Literal["peft", "ours"]
    batch: int
    """Samples of one adapter in a step."""
    stack: int = 1
    """Adapters trained together; PEFT trains one after the other."""
    compiled: bool = False
    graphs: bool = False
    """Compiled with CUDA graphs."""
    autocast: bool = False
    """PEFT in bfloat16: by autocast, or else each layer in the type of its weights."""

    @property
    def samples_a_step(self) -> int:
        return self.stack * self.batch

    @property
    def name(self) -> str:
        """As tables and progress call it."""
        words = ["PEFT" if self.who == "peft" else f"ours, K = {self.stack}", f"batch {self.batch}"]
        if self.compiled:
            words.append("compiled, CUDA graphs" if self.graphs else "compiled")
        return ", ".join(words)

    def outgrows(self, other: Contestant) -> bool:
        """Whether it certainly needs more memory than `other`."""
        same = (self.who, self.compiled) == (other.who, other.compiled)
        return same and self.stack >= other.stack and self.batch >= other.batch and self != other


@dataclass(frozen=True)
class Arrangement:
    """Processes at work at the same time, and threads of each."""

    n_processes: int
    n_threads: int

    @property
    def name(self) -> str:
        return f"{self.n_processes} x {self.n_threads}"


@dataclass(frozen=True)
class Timing:
    """Steps that do not count, and how long the others are watched."""

    seconds: float
    warm_up: int = 3
    """Compiling, choosing kernels and filling the allocator's pools are done by then."""


@dataclass(frozen=True)
class Measured:
    """One window of steady training, in one process."""

    samples_per_s: float
    n_steps: int
    wall_s: float
    cpu_s: float
    """Of all threads of the process, in the window."""
    prepare_s: float
    """Before the window: setting up, compiling, warming up."""
    peak_bytes: int | None
    """CUDA: allocated at most, frozen weights among it. CPU: resident at most, the whole process;
    None where the system does not tell."""


Entry = tuple[Contestant, Arrangement]
"""What is measured: a contestant, on some processes."""
