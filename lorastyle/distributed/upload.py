"""What a submitted job takes along: the checkout, packed as Ray packs it, and weighed first.

Ray leaves out what `.gitignore` and `.rayignore` name. Above its limit it answers with a bare
"413" after the upload; we say which files are too large before it.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from lorastyle.errors import ClusterError, ConfigError

LIMIT_MIB = 100.0
"""What Ray's dashboard accepts."""

_NAMED = 3


@dataclass(frozen=True)
class Package:
    """A packed working directory: the file, and the names of what is in it."""

    path: Path
    names: frozenset[str]

    @property
    def size_mib(self) -> float:
        return self.path.stat().st_size / 2**20


def pack(directory: Path, target: Path, limit_mib: float = LIMIT_MIB) -> Package:
    """Pack a checkout into the new file `target`, which must end in `.zip`.

    Raises ConfigError if `directory` has no `jobs`, ClusterError above `limit_mib`.
    """
    if not (directory / "jobs").is_dir():
        raise ConfigError(
            f"{directory} has no folder 'jobs'; submit from the root of a checkout of lorastyle"
        )
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    excludes = get_runtime_env_default_excludes()
    create_package(
        str(directory), target, include_gitignore=True, excludes=excludes, logger=_quiet()
    )
    with zipfile.ZipFile(target) as packed:
        sizes = {entry.filename: entry.compress_size for entry in packed.infolist()}
    package = Package(target, frozenset(sizes))
    if package.size_mib > limit_mib:
        raise ClusterError(_too_large(package.size_mib, limit_mib, sizes))
    return package


def inside(config: Path, directory: Path) -> str:
    """The config's path as the job will see it: from the root of the checkout.

    Raises ConfigError if it lies elsewhere.
    """
    try:
        return config.resolve().relative_to(directory.resolve()).as_posix()
    except ValueError:
        raise ConfigError(
            f"{config} lies outside {directory}, which is all that a job takes along; "
            "copy it into configs/"
        ) from None


def _too_large(size_mib: float, limit_mib: float, sizes: dict[str, int]) -> str:
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_NAMED]
    named = ", ".join(f"{name} ({sizes[name] / 2**20:.0f} MiB)" for name in largest)
    return (
        f"the checkout packs to {size_mib:.0f} MiB and Ray takes {limit_mib:.0f}; "
        f"name what a job does not need in .rayignore; the largest are {named}"
    )


def _quiet() -> object:
    """A logger for Ray's packing, which tells of every ignore file that it reads."""
    import logging

    logger = logging.getLogger("lorastyle.upload")
    logger.setLevel(logging.ERROR)
    return logger
