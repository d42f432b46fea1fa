"""Figures for programs: metrics for Prometheus, and the past from the store, to those who may look.

What the metrics are is in `muskox.contrib.prometheus`.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from muskox.web.desk import Given
from muskox.web.gate import Viewer
from muskox.web.metrics import CONTENT_TYPE
from muskox.web.past import SPANS, Span, panorama
from muskox.web.problems import Problem, described
from muskox.web.scaling import Advice, advise
from muskox.web.shapes import PastShape

__all__ = ["router"]

router = APIRouter(tags=["metrics"], responses=described(401, 403, 404, 422, 503))


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


@router.get("/api/metrics/history", summary="Figures of the past")
async def history(
    desk: Given,
    by: Viewer,
    span: Span = "1h",
    queue: Annotated[str | None, Query(description="of this queue only", max_length=128)] = None,
) -> PastShape:
    """Give what was counted in each minute of an hour, ten minutes of a day, or hour of a week or month.

    From the store, where workers keep it: it outlives them, and this process. Totals are by queue, of one queue by
    job name.
    """
    seconds, step = SPANS[span]
    found = await desk.ox.history(seconds, step=step, queue=queue)
    names = await desk.ox.history(seconds, step=step, queue=queue, names=True) if queue else None
    return panorama(found, span, names)


@router.get("/autoscale", summary="How many workers are needed")
async def autoscale(
    desk: Given,
    by: Viewer,
    queue: Annotated[str | None, Query(description="for this queue only", max_length=128)] = None,
    slots: Annotated[int, Query(ge=1, le=100_000, description="slots of one worker")] = 10,
    utilisation: Annotated[float, Query(gt=0, le=1, description="the share of time that a slot may be busy")] = 0.8,
    within: Annotated[float, Query(ge=1, le=86_400, description="seconds in which the backlog shall end")] = 300.0,
    window: Annotated[int, Query(ge=1, le=60, description="minutes of the past that are looked at")] = 10,
    least: Annotated[int, Query(ge=0, le=10_000)] = 0,
    most: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> Advice:
    """Recommend a number of workers, from what arrived, how long runs took, and what waits now."""
    found = await desk.ox.history(window * 60, step=60, queue=queue)
    counts = await desk.ox.counts()
    now = found.now_us / 1e6
    # The minute that goes on counts for as long as it has gone on.
    begin = now // 60 * 60 - window * 60 + 60
    return advise(
        queue or "",
        [cell for cell in found.cells if cell.begin_us >= begin * 1e6],
        sum(one.waiting for one in counts if queue in (None, one.queue)),
        window=now - begin, slots=slots, utilisation=utilisation, within=within, least=least, most=max(least, most),
    )  # fmt: skip
