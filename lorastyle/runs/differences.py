"""How two experiments contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorastyle.config import Experiment


def differences(recorded: Experiment, wanted: Experiment) -> list[str]:
    """The settings that differ, as `key: VALUE there, VALUE here`; names and machines may."""
    before, now = (
        _flatten(recorded.model_dump(mode="json")),
        _flatten(wanted.model_dump(mode="json")),
    )
    return [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(("name", "compute."))
    ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
