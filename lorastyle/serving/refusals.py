"""What a request can be refused for, and the status that says so."""

from __future__ import annotations

from typing import Any

from lorastyle.errors import (
    AdapterFileError,
    ConfigError,
    LayoutMismatchError,
    LorastyleError,
    StageError,
)


class RefusedError(LorastyleError):
    """A request that is not carried out, with its HTTP status."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def too_large(limit: int) -> RefusedError:
    """413."""
    return RefusedError(
        413, f"the upload has more than {limit:,} bytes, the limit; send the LoRA alone"
    )


def too_slow(seconds: float) -> RefusedError:
    """408."""
    return RefusedError(408, f"the upload was not there after {seconds:g} s; send it again")


def busy(n: int) -> RefusedError:
    """429."""
    return RefusedError(
        429, f"{n} uploads are being worked on, the limit; come again", {"Retry-After": "1"}
    )


def took_too_long(seconds: float) -> RefusedError:
    """504."""
    return RefusedError(504, f"the file was not worked out in {seconds:g} s, the limit")


def malformed(what: str) -> RefusedError:
    """400."""
    return RefusedError(400, what)


def status_of(error: LorastyleError) -> int:
    """Whose fault it is: 422 for what the request asks or holds, 500 for the run."""
    if isinstance(error, RefusedError):
        return error.status
    asked = (AdapterFileError, LayoutMismatchError, StageError, ConfigError)
    return 422 if isinstance(error, asked) else 500


def document(kind: str, message: str) -> dict[str, Any]:
    """As `lorastyle VERB --json` has it."""
    return {"error": {"kind": kind, "message": message}}
