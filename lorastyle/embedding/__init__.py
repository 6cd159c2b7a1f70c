"""Gram matrices, PCA, calibration: from stored adapters to the style space."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorastyle.embedding.pca import GramPCA as GramPCA
    from lorastyle.embedding.spectrum import Spectrum as Spectrum
    from lorastyle.embedding.style_space import StyleSpace as StyleSpace

_ROOMS = {"GramPCA": "pca", "Spectrum": "spectrum", "StyleSpace": "style_space"}

__all__ = ["GramPCA", "Spectrum", "StyleSpace"]


def __getattr__(name: str) -> object:
    # On demand: scikit-learn takes a second to import, and most stages do without it.
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
