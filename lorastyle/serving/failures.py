"""What a request is answered with that fails: the command line's words, and a status."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from lorastyle.errors import LorastyleError
from lorastyle.serving import refusals


def add_handlers(app: FastAPI) -> None:
    """Every failure is answered in the same words as the command line's."""

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, LorastyleError)
        status = refusals.status_of(error)
        headers = error.headers if isinstance(error, refusals.RefusedError) else {}
        return _failure(status, type(error).__name__, str(error), headers)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return _failure(422, "RequestError", f"{where}: {first['msg']}")

    async def plain(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        return _failure(error.status_code, "RequestError", str(error.detail), headers)

    async def unexpected(_: Request, error: Exception) -> Response:
        # No more of it: it may hold paths. The log has the traceback.
        return _failure(500, type(error).__name__, "unexpected; the server's log says more")

    app.add_exception_handler(LorastyleError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(Exception, unexpected)


def _failure(
    status: int, kind: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(refusals.document(kind, message), status, headers)
