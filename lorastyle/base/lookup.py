"""The identity of whatever a base model's name means: cheap where its files are here."""

from __future__ import annotations

from lorastyle.base.identity import BaseIdentity, identity_of
from lorastyle.base.source import find_source


def base_identity(name: str) -> BaseIdentity:
    """Equal to `load_base(name).identity`, at the price of hashing the weights.

    What is not on this machine yet is downloaded. Raises BaseModelError for a model that is
    neither here nor to be had, or that lacks a part.
    """
    return identity_of(name, find_source(name))
