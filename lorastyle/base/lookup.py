"""The identity of whatever a base model's name means: cheap where its files are here."""

from __future__ import annotations

from lorastyle.base.identity import BaseIdentity, folder_of, read_identity


def base_identity(name: str) -> BaseIdentity:
    """Equal to `load_base(name).identity`, at the price of hashing the weights.

    A hub id that is not a folder here is loaded, and so downloaded where needed.
    Raises BaseModelError for a model that cannot be loaded.
    """
    try:
        return read_identity(name, folder_of(name))
    except (OSError, ValueError, KeyError, TypeError):
        # Not a complete folder: loading says what is wrong with it, or fetches it.
        from lorastyle.base.loading import load_base

        return load_base(name).identity
