"""Metrics for Prometheus, to those who may look. What they are is in `muskox.contrib.prometheus`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from muskox.web.desk import Given
from muskox.web.gate import Viewer
from muskox.web.metrics import CONTENT_TYPE
from muskox.web.problems import Problem, described

__all__ = ["router"]

router = APIRouter(tags=["metrics"], responses=described(401, 403, 404, 503))


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "its text format"}},
)
async def metrics(desk: Given, by: Viewer) -> Response:
    """Give figures by queue and state, totals and durations since this process began, workers and slots.

    404 where `muskox[prometheus]` is not installed.
    """
    if desk.metrics is None:
        raise Problem(404, "not_installed", "metrics need prometheus-client: pip install 'muskox[prometheus]'")
    desk.hub.touch()
    return Response(await desk.metrics.text(), media_type=CONTENT_TYPE)
