"""What a file may cost: bounds on what its factors grow to when they are multiplied out."""

from __future__ import annotations

import math

from lorastyle.adapters.formats.opening import Limits
from lorastyle.adapters.updates import ModuleKey
from lorastyle.errors import AdapterFileError


class Budget:
    """What a file may still cost, and the rank its updates may have.

    The size of a file bounds neither: LoHa and LoKr multiply ranks and shapes.
    """

    def __init__(self, limits: Limits, max_rank: int) -> None:
        self.max_rank = max_rank
        self._limits = limits
        self._numbers, self._operations = limits.factor_numbers, limits.operations

    def spend(self, key: ModuleKey, shape: tuple[int, int], rank: int, operations: float) -> None:
        """Before an update of this shape is made by factors of this rank.

        Raises AdapterFileError where the file's limit is reached.
        """
        self._numbers -= sum(shape) * rank
        self._operations -= operations
        if self._numbers < 0:
            raise AdapterFileError(
                f"the file's factors reach {self._limits.factor_numbers:,} numbers, the limit, at "
                f"module '{key}' of shape {shape} and rank {rank}; raise the limit if it is sound"
            )
        if self._operations < 0:
            raise AdapterFileError(
                f"factorising the file takes more than {self._limits.operations:.0e} operations, "
                f"the limit, reached at module '{key}' of shape {shape} and rank {rank}; raise "
                "the limit if it is sound"
            )

    def spend_on_product(self, key: ModuleKey, shape: tuple[int, int], rank: int) -> None:
        """Two factors, and their decomposition where the rank is too high."""
        narrow = [min(side, rank) for side in shape]
        cost = 4.0 * sum(shape) * rank**2 + 10.0 * math.prod(narrow) * min(narrow)
        self.spend(key, shape, rank, cost if rank > self.max_rank else 0.0)

    def spend_on_dense(self, key: ModuleKey, shape: tuple[int, int]) -> None:
        """A matrix and its decomposition."""
        cost = 10.0 * math.prod(shape) * min(shape)
        self.spend(key, shape, min(self.max_rank, *shape), cost)
