"""The app: routes, what they take and answer, and the gate before them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from lorastyle import __version__
from lorastyle.report.pages import plain_colours
from lorastyle.runs import Run
from lorastyle.search.searcher import Searcher, Wishes
from lorastyle.serving import documents, refusals
from lorastyle.serving.counting import CONTENT_TYPE, Counts
from lorastyle.serving.desk import Desk
from lorastyle.serving.failures import add_handlers
from lorastyle.serving.gate import Gate
from lorastyle.serving.pictures import Pictures
from lorastyle.serving.settings import ServingSettings
from lorastyle.serving.uploads import CONFIGS, Upload

LARGEST_ROW = 2**62
Responses = dict[int | str, dict[str, Any]]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
REFUSALS: Responses = {
    status: {"model": documents.ErrorDocument, "description": description}
    for status, description in (
        (400, "The body is no such form."),
        (401, "The token is missing or wrong."),
        (403, "Another site's page asks, or the server has another name."),
        (408, "The upload took too long."),
        (413, "The upload is too large."),
        (422, "The file or the wish cannot be used; the message says why."),
        (429, "Too many uploads at once; `Retry-After` says when to come again."),
        (500, "The run is damaged."),
        (504, "The work took too long."),
    )
}
READING: Responses = {status: REFUSALS[status] for status in (401, 403)}


def make_app(run: Run, settings: ServingSettings) -> Gate:
    """The ASGI app that serves a run: all that it answers with is read before this returns.

    Raises StageError where the run has no style space yet.
    """
    counts = Counts()
    searcher = Searcher(run, exact_bytes=settings.exact_bytes)
    desk = Desk(searcher, Pictures(run), settings, counts)
    desk.open()
    return app_of(desk)


def open_app(target: FilePath | str, settings: ServingSettings) -> Gate:
    """The same of a run by its path or URL."""
    return make_app(Run.open(target), settings)


def app_of(desk: Desk) -> Gate:
    """The same of a desk that is open."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    # Declared where it is asked for; the gate asks, before anything is read.
    guard = [Depends(HTTPBearer(auto_error=False))] if desk.settings.token else []
    app = FastAPI(
        title="lorastyle",
        version=__version__,
        description="Whose style a LoRA file has, by its weights.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_uploads(app, desk, guard)
    _add_reading(app, desk, guard)
    _add_page(app)
    add_handlers(app)
    return Gate(app, desk.settings, desk.counts)


def _add_uploads(app: FastAPI, desk: Desk, guard: list[Any]) -> None:
    async def answered(
        request: Request, wanted: tuple[str, ...], body: Callable[[Upload], dict[str, Any]]
    ) -> JSONResponse:
        declared = request.headers.get("content-length", "")
        expected = int(declared) if declared.isdigit() else 0
        if expected > desk.settings.max_upload_bytes:
            raise refusals.too_large(desk.settings.max_upload_bytes)
        kind = request.headers.get("content-type", "")
        return JSONResponse(await desk.take(request.stream(), kind, wanted, body, expected))

    def post(path: str, model: type, *parts: str) -> Callable[[Endpoint], Endpoint]:
        return app.post(
            path,
            dependencies=guard,
            responses={**REFUSALS, 200: {"model": model}},
            openapi_extra={"requestBody": _form(*parts)},
        )

    @post("/search", documents.SearchDocument, "file")
    async def search(
        request: Request,
        top_k: Annotated[int, Query(ge=1, le=1000, description="Neighbours to find.")] = 24,
        representation: Literal["factors", "delta", "delta-aligned"] | None = None,
        sub_network: Annotated[str | None, Query(max_length=200)] = None,
        components: Annotated[int | None, Query(ge=1, le=100_000)] = None,
        details: Annotated[bool, Query(description="`inspect` and `place` as well.")] = False,
    ) -> Response:
        """The adapters of the run whose style is nearest to a LoRA file's."""
        wishes = Wishes(top_k, representation, sub_network, components)
        return await answered(
            request, ("file",), lambda upload: desk.search(upload, wishes, details=details)
        )

    @post("/compare", documents.CompareDocument, "first", "second")
    async def compare(request: Request) -> Response:
        """What two LoRA files are to each other."""
        return await answered(request, ("first", "second"), desk.compare)

    @post("/inspect", documents.InspectDocument, "file")
    async def inspect(request: Request) -> Response:
        """What a LoRA file holds."""
        return await answered(request, ("file",), desk.inspect)


def _form(*parts: str) -> dict[str, Any]:
    file = {"type": "string", "format": "binary"}
    config = {**file, "description": "The adapter_config.json beside it, in a PEFT folder."}
    properties = {part: dict(file) for part in parts}
    properties |= {CONFIGS[part]: dict(config) for part in parts}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(parts),
        "additionalProperties": False,
    }
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _add_reading(app: FastAPI, desk: Desk, guard: list[Any]) -> None:
    absent: Responses = {404: {"model": documents.ErrorDocument, "description": "There is none."}}

    @app.get(
        "/map",
        dependencies=guard,
        response_model=documents.MapDocument,
        responses={**READING, **absent, 422: REFUSALS[422]},
    )
    async def style_map(space: Annotated[str | None, Query(max_length=300)] = None) -> Response:
        """The adapters of a style space, by default the one that is searched, on a plane."""
        found = await asyncio.to_thread(desk.map, space)
        if found is None:
            raise HTTPException(404, "the run has no style space of this name")
        return JSONResponse(found)

    @app.get(
        "/adapters/{row}/image",
        dependencies=guard,
        response_class=Response,
        responses={
            **READING,
            **absent,
            422: REFUSALS[422],
            200: {"content": {"image/jpeg": {}}, "description": "A small JPEG."},
        },
    )
    async def image(row: Annotated[int, Path(ge=0, le=LARGEST_ROW)]) -> Response:
        """The first image that an adapter of the run was trained on."""
        content = await asyncio.to_thread(desk.pictures.jpeg, row)
        if content is None:
            raise HTTPException(404, f"adapter {row} has no picture")
        kept = {"Cache-Control": "private, max-age=3600"}
        return Response(content, media_type="image/jpeg", headers=kept)

    @app.get(
        "/about", dependencies=guard, response_model=documents.AboutDocument, responses={**READING}
    )
    async def about() -> Response:
        """What is served."""
        return JSONResponse(await asyncio.to_thread(desk.about))

    @app.get(
        "/metrics",
        dependencies=guard,
        response_class=Response,
        responses={**READING, 200: {"content": {"text/plain": {}}, "description": "Prometheus."}},
    )
    async def metrics() -> Response:
        """Counts and times, as Prometheus reads them."""
        return Response(desk.counts.text(), media_type=CONTENT_TYPE)

    @app.get("/healthz", response_model=documents.HealthDocument, responses={403: REFUSALS[403]})
    async def health() -> Response:
        """That the server answers."""
        return JSONResponse({"status": "ok", "version": __version__})


def _add_page(app: FastAPI) -> None:
    content = {
        "/": ("text/html; charset=utf-8", _asset("page.html")),
        "/page.css": ("text/css; charset=utf-8", plain_colours() + _asset("page.css")),
        "/page.js": ("text/javascript; charset=utf-8", _asset("page.js")),
    }
    for path, (kind, text) in content.items():
        app.add_route(path, _fixed(kind, text), include_in_schema=False)


def _fixed(kind: str, text: str) -> Any:
    async def answer(_: Request) -> Response:
        return Response(text, media_type=kind)

    return answer


def _asset(name: str) -> str:
    return resources.files("lorastyle.serving").joinpath(name).read_text(encoding="utf-8")
