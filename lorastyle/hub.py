"""Models on the hub: their local cache first, then a download of the files that are needed.

A snapshot that is whole in the cache is used without asking the hub whether there is a newer one,
so that all actors of a run, and its next run, have the same weights. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from lorastyle.errors import HubError, LorastyleError

TIMEOUT_S = 15.0
"""For the hub to answer; a download may take longer."""


def split_revision(name: str) -> tuple[str, str | None]:
    """`owner/name@revision` in its two parts; without `@`, no revision.

    >>> split_revision("owner/name@v1"), split_revision("owner/name")
    (('owner/name', 'v1'), ('owner/name', None))
    """
    repository, _, revision = name.partition("@")
    return repository, revision or None


def looks_like_hub_id(name: str) -> bool:
    """Whether this could be `owner/name`, with or without a revision."""
    owner, slash, rest = split_revision(name)[0].partition("/")
    return bool(owner and slash and rest) and "/" not in rest and not name.startswith((".", "~"))


def cached_snapshot(name: str, file: str) -> Path | None:
    """Folder of the hub's local cache that has this file of a model, perhaps not all of them.

    Raises HubError for what is no name.
    """
    from huggingface_hub import try_to_load_from_cache

    repository, revision = split_revision(name)
    try:
        found = try_to_load_from_cache(repository, file, revision=revision)
    except ValueError as error:
        raise HubError(f"'{name}' is no name of a model on the hub: {error}") from error
    # The file as the snapshot names it: it may be a link into the cache's store of contents.
    return Path(found.removesuffix(file)) if isinstance(found, str) else None


def fetch_snapshot(name: str, wanted: Callable[[Collection[str]], Iterable[str]]) -> Path:
    """Download those of a model's files that `wanted` picks, and give the snapshot's folder.

    Raises HubError where the hub cannot be reached, or does not have the model; what `wanted`
    raises of ours goes through.
    """
    from huggingface_hub import HfApi, snapshot_download

    repository, revision = split_revision(name)
    try:
        # Asked by itself: the client's listing of files repeats a failed request for 23 seconds.
        answer = HfApi().model_info(repository, revision=revision, timeout=TIMEOUT_S)
        files = [file.rfilename for file in answer.siblings or ()]
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=sorted(wanted(files))
        )
    except LorastyleError:
        raise
    except Exception as error:
        # The client lets the errors of whatever HTTP library it is built on through.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise HubError(
            f"the hub model '{name}' is not whole in the local cache and cannot be fetched "
            f"({reason}); fetch it where there is a network, or name a local folder"
        ) from error
    return Path(folder)


def revision_of(snapshot: Path) -> str:
    """The commit that a folder of the cache is: its name."""
    return snapshot.name
