"""Whose fault a failed call is, and how much of each kind a fleet puts up with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lorastyle.distributed.watch import Loss
from lorastyle.errors import FencedError, LorastyleError, StoreError, TrainingError

MACHINE_ERRORS = (StoreError, OSError, MemoryError)
"""Raised by a batch's work, but no fault of the batch: a full disk, a bucket that is away."""
LONGEST_PAUSE_S = 60.0
SAME_EVENT_S = 2.0
"""Losses closer together are one event: a node takes all its actors along."""


@dataclass(frozen=True)
class Fault:
    """A failed call, understood."""

    loss: Loss
    reason: str
    """One line."""
    cause: BaseException
    """The error itself, out of Ray's wrapping."""

    @property
    def ends_the_run(self) -> bool:
        """True where going on would do harm: another attempt owns the run now."""
        return isinstance(self.cause, FencedError)

    @property
    def spoils_the_actor(self) -> bool:
        """True unless the actor can go on: it raised, and nothing of the device's.

        PyTorch reports a device that is in a bad state by some RuntimeError.
        """
        return self.loss is not Loss.APPLICATION or isinstance(self.cause, RuntimeError)


def fault_of(error: BaseException) -> Fault:
    """Sort an error that `ray.get` raised.

    What actors raise comes as RayTaskError with its cause; everything else that
    Ray raises (a dead actor, a lost node, no memory left) is the machine's fault.
    """
    import ray

    cause = getattr(error, "cause", None) or error
    raised = isinstance(error, ray.exceptions.RayTaskError)
    theirs = not raised or isinstance(cause, MACHINE_ERRORS)
    loss = Loss.INFRASTRUCTURE if theirs else Loss.APPLICATION
    return Fault(loss, reason_of(error), cause)


def reason_of(error: BaseException) -> str:
    """One line: the cause's type and message, without Ray's traceback.

    >>> reason_of(ValueError("too   bad"))
    'ValueError: too bad'
    """
    cause = getattr(error, "cause", None) or error
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text}"[:500]


class Patience:
    """Failures without any success between them, by kind, and the pause before hiring again.

    Errors of the work: `errors` in a row, and the fault is not an item's. Losses of
    machines: `losses` events in a row, each followed by a longer pause.
    """

    def __init__(self, clock: Callable[[], float], *, errors: int = 12, losses: int = 30) -> None:
        self._clock, self._limits = clock, {Loss.APPLICATION: errors, Loss.INFRASTRUCTURE: losses}
        self.succeeded()

    def succeeded(self) -> None:
        """A batch was done: all is forgiven."""
        self._counts = dict.fromkeys(self._limits, 0)
        self._last_loss = float("-inf")
        self.hire_after = float("-inf")

    def failed(self, fault: Fault) -> None:
        """Count it. Raises where patience ends: an error of ours as it is, or TrainingError."""
        now = self._clock()
        kind = Loss.APPLICATION if fault.loss is Loss.APPLICATION else Loss.INFRASTRUCTURE
        if kind is Loss.INFRASTRUCTURE:
            if now - self._last_loss < SAME_EVENT_S:
                return
            self._last_loss = now
        self._counts[kind] += 1
        n = self._counts[kind]
        if kind is Loss.INFRASTRUCTURE:
            self.hire_after = now + min(LONGEST_PAUSE_S, 0.25 * 2.0**n)
        if n >= self._limits[kind]:
            self._end(n, fault)

    def _end(self, n: int, fault: Fault) -> None:
        if isinstance(fault.cause, LorastyleError):
            raise fault.cause
        raise TrainingError(
            f"{n} attempts failed one after another, the last with: {fault.reason}; "
            "mend the cause and run the same command again"
        ) from fault.cause
