"""What can go wrong, one class for each thing a caller may want to catch."""

from __future__ import annotations


class LorastyleError(Exception):
    """Root of every error this package raises on purpose.

    The message is one sentence a user can act on: what is wrong, the number,
    the next step. The command line prints it without a traceback.
    """


class ConfigError(LorastyleError):
    """An experiment description that cannot be carried out."""


class CorpusError(LorastyleError):
    """Images or labels that cannot be used as they are."""


class BaseModelError(LorastyleError):
    """A base model that cannot be loaded, or is not the one a run was made with."""


class HubError(LorastyleError):
    """A model of the hub that is not in the local cache and cannot be fetched."""


class AdapterFileError(LorastyleError):
    """A LoRA file that cannot be read, or that no update can be told from."""


class LayoutMismatchError(LorastyleError):
    """Adapter factors that do not fit the layout they are read with."""


class StoreError(LorastyleError):
    """An adapter store that is missing, foreign, or damaged."""


class DamagedRowError(StoreError):
    """A row whose weights are gone, or not what was written."""


class FencedError(StoreError):
    """A write by an attempt that a later one has taken over from."""


class TooFewAdaptersError(LorastyleError, ValueError):
    """Fewer adapters than the computation needs; to scikit-learn, an unfit value."""


class FeatureError(LorastyleError):
    """An image feature whose weights cannot be used."""


class StageError(LorastyleError):
    """A stage that cannot run on what the run holds."""


class TrainingError(LorastyleError):
    """Training that failed for some adapters."""


class ClusterError(LorastyleError):
    """A Ray cluster that does not answer, refuses, or has lost what it ran."""
