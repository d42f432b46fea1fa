"""The page itself, and whether the service lives and can do its work."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, JSONResponse

from muskox import MuskoxError
from muskox.web.desk import Given
from muskox.web.gate import Anybody

__all__ = ["STATIC", "router"]

STATIC = Path(__file__).parents[1] / "static"

router = APIRouter()


@router.get("/", include_in_schema=False)
async def page(_: Anybody) -> Response:
    """The dashboard, which signs in by itself where that is needed."""
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")


@router.get("/health/live", tags=["health"], summary="Whether this process lives")
async def live(_: Anybody) -> dict[str, str]:
    """Answer, without asking the store."""
    return {"state": "live"}


@router.get(
    "/health/ready",
    tags=["health"],
    summary="Whether the store answers",
    responses={503: {"description": "no"}},
)
async def ready(desk: Given, _: Anybody) -> Response:
    """Ask the store something cheap; 503 with the reason's kind when it does not answer."""
    try:
        await desk.ox.workers()
    except MuskoxError as error:
        return JSONResponse({"state": "not ready", "reason": type(error).__name__}, 503)
    return JSONResponse({"state": "ready"})
