"""What can be ablated: seven factors, what each needs, and how its values are typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lorastyle.errors import ConfigError
from lorastyle.sub_networks import check_entry

Kind = Literal["number", "expression", "word"]


@dataclass(frozen=True)
class Factor:
    """One thing that is varied while all else stays."""

    name: str
    heading: str
    """Of the column of its values."""
    kind: Kind
    """What its values are. Those of numbers have a figure."""
    words: tuple[str, ...] = ()
    """The values there are, of words."""
    needs_training: bool = False
    """Whether other values are of other adapters, in runs of their own."""

    @property
    def is_ordered(self) -> bool:
        return self.kind == "number"

    def read_values(self, text: str) -> tuple[str, ...]:
        """The values of `a,b,c`, each once, as they are named in results.

        Raises ConfigError for what is no value of this factor.

        >>> FACTORS["rank"].read_values("8, 04,8")
        ('8', '4')
        """
        parts = [part.strip() for part in text.split(",")]
        values = tuple(dict.fromkeys(self._read(part) for part in parts if part))
        if not values:
            raise ConfigError(f"--values names no value of {self.name}; write {self._example}")
        return values

    def _read(self, part: str) -> str:
        if self.kind == "expression":
            return check_entry(part)
        if self.kind == "word":
            if part not in self.words:
                raise ConfigError(self._refusal(part, f"one of {', '.join(self.words)}"))
            return part
        # Ten digits are more than there is of anything here.
        if not (part.isascii() and part.isdecimal() and len(part) <= 10 and int(part) > 0):
            raise ConfigError(self._refusal(part, "a whole number from 1"))
        return str(int(part))

    def _refusal(self, part: str, meant: str) -> str:
        shown = "".join(character for character in part[:40] if character.isprintable())
        return f"{shown!r} is no value of {self.name}, which is {meant}; write {self._example}"

    @property
    def _example(self) -> str:
        examples = {"number": "--values 1,2,4", "expression": "--values full,by-block"}
        return examples.get(self.kind, f"--values {','.join(self.words[:2])}")


FACTORS: Mapping[str, Factor] = {
    factor.name: factor
    for factor in (
        Factor("components", "PCs", "number"),
        Factor("sub-networks", "Sub-network", "expression"),
        Factor("calibration", "Calibration", "word", ("full", "simple", "none")),
        Factor("gallery-size", "Adapters an artist", "number"),
        Factor("rank", "Rank", "number", needs_training=True),
        Factor(
            *("initialisation", "Initial lora_A", "word", ("shared", "independent")),
            needs_training=True,
        ),
        Factor("images", "Images an adapter", "number", needs_training=True),
    )
}
