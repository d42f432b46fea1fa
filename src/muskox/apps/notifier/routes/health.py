"""The health of the queues, for monitors: 200 while mail flows, 503 when it does not."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from muskox.apps.notifier.health import examine
from muskox.apps.notifier.routes.given import Given
from muskox.web.problems import described

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get("/health/queue", summary="Whether mail flows, with counts per queue", responses=described(503))
async def show_health(services: Given) -> JSONResponse:
    """Answer 200 for ok and degraded, 503 for unhealthy."""
    report = await examine(services)
    return JSONResponse(report, 503 if report["status"] == "unhealthy" else 200)
