"""Rules for every file, whatever reads it: no secrets, pinned images, nothing left to fill in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cluster._finding import Finding, Path, leaves, shown

PLACEHOLDER = re.compile(r"FILL-IN(?:-[A-Z0-9]+)*")
_SECRET_NAME = re.compile(
    r"token|secret|passw|credential|api[-_]?key|access[-_]?key|private[-_]?key", re.I
)
_HARMLESS_NAME = re.compile(
    r"name|path|file|mode|ssh|ref$|^HttpTokens$|mount|service_account", re.I
)
_SECRET_VALUE = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\b(?:hf_|ghp_|github_pat_|glpat-|xox[bp]-|ya29\.|AIza)[\w-]{16,}"
    r"|(?<!sha256:)\b[0-9a-f]{48,}\b"  # what `ray get-auth-token` makes, and our own tokens
)
_ASSIGNMENT = re.compile(r"\b(\w*(?:TOKEN|SECRET|PASSWORD|ACCESS_KEY|API_KEY)\w*)=(\S+)")
_FLOATING_TAGS = {"latest", "nightly", "dev", "main", "master", "edge"}


def secrets(file: str, document: Any) -> Iterator[Finding]:
    """Values that only their owner should see. The value itself is never repeated."""
    for path, value in leaves(document):
        if isinstance(value, str) and (reason := _secret(path, value)):
            yield Finding(
                file, path, f"holds {reason}; take it out, and change it if the file was shared"
            )
    yield from _environment_secrets(file, document)


def _secret(path: Path, value: str) -> str | None:
    if PLACEHOLDER.search(value):
        return None
    if _SECRET_VALUE.search(value):
        return "what looks like a key or a token"
    for name, assigned in _ASSIGNMENT.findall(value):
        if not name.endswith("_PATH") and not assigned.startswith(("$", '"$', "'$")):
            return f"a value for {name}"
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    if _SECRET_NAME.search(name) and not _HARMLESS_NAME.search(name) and not _is_path(value):
        return f"a secret in plain text under {name!r}"
    return None


def _is_path(text: str) -> bool:
    return text.startswith(("~/", "/", "./"))


def _environment_secrets(file: str, document: Any, path: Path = ()) -> Iterator[Finding]:
    """Pairs of `name` and `value`, as in a container's `env`."""
    if isinstance(document, Mapping):
        name, value = document.get("name"), document.get("value")
        secret = isinstance(name, str) and _SECRET_NAME.search(name)
        if secret and isinstance(value, str) and not _HARMLESS_NAME.search(str(name)):
            yield Finding(
                file,
                (*path, "value"),
                f"gives {name} in plain text; name a Secret with valueFrom.secretKeyRef",
            )
        for key, inner in document.items():
            yield from _environment_secrets(file, inner, (*path, key))
    elif isinstance(document, list):
        for index, inner in enumerate(document):
            yield from _environment_secrets(file, inner, (*path, index))


def image(file: str, path: Path, value: Any) -> Iterator[Finding]:
    """An image that may be another one tomorrow: machines would differ within a cluster."""
    if not isinstance(value, str) or not value:
        yield Finding(
            file, path, f"is {shown(value)}; name the image built from cluster/Dockerfile"
        )
        return
    if "@sha256:" in value:
        return
    tag = value.rpartition("/")[2].partition(":")[2]
    if not tag or tag in _FLOATING_TAGS:
        yield Finding(
            file, path, f"is {value!r}, which changes under the same name; give it a tag of its own"
        )


def placeholders(file: str, document: Any) -> Iterator[Finding]:
    """What the shipped files leave to whoever uses them: each once, at its first place."""
    places: dict[str, list[Path]] = {}
    for path, value in leaves(document):
        for found in PLACEHOLDER.findall(value) if isinstance(value, str) else ():
            places.setdefault(found, []).append(path)
    for placeholder, paths in places.items():
        others = f", here and in {len(paths) - 1} other places" if len(paths) > 1 else ""
        yield Finding(file, paths[0], f"still says {placeholder}{others}; put in yours")
