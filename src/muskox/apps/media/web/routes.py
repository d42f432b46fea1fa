"""The HTTP interface of one `Media`: files in, jobs to watch, outputs out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from sse_starlette import EventSourceResponse

from muskox import JobState
from muskox.apps.media.errors import BadOptions, NoSuchFile, Reason
from muskox.apps.media.media import Media, RunLook
from muskox.apps.media.records import FileRecord
from muskox.apps.media.uploads import Uploads
from muskox.apps.media.web.following import follow_run
from muskox.apps.media.web.problems import NotReady, described
from muskox.apps.media.web.receiving import receive_upload
from muskox.apps.media.web.resuming import add_uploads
from muskox.apps.media.web.serving import serve
from muskox.apps.media.web.views import file_view, percent_of, run_view

__all__ = ["PAGE_POLICY", "STREAMED", "media_router"]

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "media-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
STREAMED = ("/files", "/uploads", "/uploads/")
"""Paths whose bodies are read bit by bit, with limits of their own; nobody may gather them before.

With a stroke at the end, all that is beneath is meant.
"""

_PAGES = Path(__file__).parent / "static"
_STATIC = {"media.js": "text/javascript", "media.css": "text/css"}
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "operations": {"type": "string", "description": "JSON, as for /files/{id}/process"},
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def media_router(media: Media, uploads: Uploads | None = None) -> APIRouter:
    """Make the routes for a media application; `problems.install` belongs to them, and is for the whole program.

    `uploads` are made where none are given.
    """
    router = APIRouter()
    _add_files(router, media)
    _add_jobs(router, media)
    add_uploads(router, media, uploads or Uploads(media))
    _add_pages(router)
    return router


def _add_files(router: APIRouter, media: Media) -> None:
    @router.post(
        "/files",
        tags=["files"],
        status_code=202,
        summary="Send a picture or a clip and have something made of it",
        responses=described(400, 408, 413, 415, 422, 507),
        openapi_extra=_UPLOAD,
    )
    async def send_file(request: Request) -> Response:
        """Take a file, as a form or as the body itself, and add the job that makes smaller ones of it."""
        received, operations = await receive_upload(request, media)
        return await _accepted(media, await media.accept(received, operations))

    @router.post(
        "/files/{id}/process",
        tags=["files"],
        status_code=202,
        summary="Have something else made of a file",
        responses=described(404, 422),
    )
    async def process_file(
        id: str, operations: Annotated[Any, Body(embed=True)], priority: Annotated[int | None, Body()] = None
    ) -> Response:
        """Operations are names, or objects with `operation` and options."""
        if priority is not None and not -100 <= priority <= 100:
            raise BadOptions("priority must be between -100 and 100", "/priority")
        return await _accepted(media, await media.process(id, operations, priority=priority))

    @router.get("/files/{id}", tags=["files"], summary="What is known of a file", responses=described(404))
    async def show_file(id: str) -> dict[str, Any]:
        """The file, and everything that was asked to be made of it, newest first."""
        file = await media.file(id)
        return {**file_view(file), "jobs": [run_view(file, look) for look in await media.runs(file)]}

    @router.delete("/files/{id}", tags=["files"], status_code=204, summary="Delete a file", responses=described(404))
    async def delete_file(id: str) -> Response:
        """Its jobs are cancelled, and what was made of it goes too."""
        await media.delete(id)
        return Response(status_code=204)

    @router.get(
        "/files/{id}/outputs/{name}",
        tags=["files"],
        summary="The bytes of an output, or of the original",
        responses=described(404, 409, 416),
        response_class=Response,
    )
    async def give_output(id: str, name: str, request: Request, v: str = "") -> Response:
        """Ranges and ETags are understood. With `v`, as links have it, the answer may be kept for ever."""
        return await _output(media, await media.file(id), name, v, request)


def _add_jobs(router: APIRouter, media: Media) -> None:
    @router.get("/jobs/{id}", tags=["jobs"], summary="Where a job is", responses=described(404))
    async def show_job(id: str) -> dict[str, Any]:
        """State, progress, what went wrong, and what has come of it."""
        return run_view(*await media.run(id))

    @router.get("/jobs/{id}/events", tags=["jobs"], summary="A job, live", responses=described(404))
    async def follow_job(id: str, last_event_id: Annotated[str | None, Header()] = None) -> Response:
        """Server-sent events: `state` with the job as it is, one per event of the job, and `end`."""
        await media.run(id)
        after = int(last_event_id) if last_event_id and last_event_id.isdecimal() else None

        async def told() -> AsyncIterator[dict[str, str]]:
            async for offset, kind, data in follow_run(media, id, after):
                text = {"event": kind, "data": json.dumps(data, default=str)}
                yield text if offset is None else {**text, "id": str(offset)}

        return EventSourceResponse(told(), ping=15)

    @router.delete("/jobs/{id}", tags=["jobs"], status_code=202, summary="Cancel a job", responses=described(404, 409))
    async def cancel_job(id: str) -> dict[str, Any]:
        """Whatever works on it is ended, and leaves nothing behind."""
        await media.cancel(id)
        return run_view(*await media.run(id))


def _add_pages(router: APIRouter) -> None:
    @router.get("/media", include_in_schema=False)
    async def show_page() -> Response:
        return HTMLResponse(
            (_PAGES / "media.html").read_text("utf-8"), headers={"Content-Security-Policy": PAGE_POLICY}
        )

    @router.get("/media/static/{name}", include_in_schema=False)
    async def give_static(name: str) -> Response:
        if name not in _STATIC:
            raise NoSuchFile(Reason.SOURCE_GONE, "there is no such file")
        return FileResponse(_PAGES / name, media_type=_STATIC[name], headers={"Cache-Control": "no-cache"})


async def _accepted(media: Media, look: RunLook) -> JSONResponse:
    file = await media.file(look.run.file_id)
    job = run_view(file, look)
    content = {"file": file_view(file), "job": job, "cached": look.run.cached}
    return JSONResponse(content, 200 if look.run.cached else 202, headers={"Location": job["links"]["self"]})


async def _output(media: Media, file: FileRecord, name: str, v: str, request: Request) -> Response:
    if name == "original":
        fd = media.storage.open_blob(file.sha256)
        return await serve(
            fd,
            request.headers,
            size=file.bytes,
            sha256=file.sha256,
            media_type=file.media_type,
            name=file.name,
            forever=True,
        )
    looks = await media.runs(file)
    for look in looks:
        made = look.manifest.output(name) if look.manifest else None
        if made is not None and made.sha256.startswith(v):
            fd = media.storage.open_output(file.sha256, look.run.recipe, name)
            shown = f"{Path(file.name).stem}-{name}"
            return await serve(
                fd,
                request.headers,
                size=made.bytes,
                sha256=made.sha256,
                media_type=made.media_type,
                name=shown,
                forever=len(v) >= 16,
            )
    for look in looks:
        if look.state not in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}:
            raise NotReady(percent_of(look) or 0)
    raise NoSuchFile(Reason.SOURCE_GONE, "there is no such output")
