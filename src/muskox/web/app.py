"""Makes the dashboard as an ASGI application: alone through uvicorn, or mounted in another application.

It only puts the parts together. Mounted, its parts begin with the first
request; alone, with the application.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from muskox import Muskox
from muskox.web import problems
from muskox.web.access import Access
from muskox.web.desk import Desk
from muskox.web.gate import check_gates
from muskox.web.guard import Guard
from muskox.web.hub import Hub
from muskox.web.masking import Masks
from muskox.web.metrics import metrics_of
from muskox.web.operations import Operations
from muskox.web.routes import bulk, events, flows, jobs, limits, metrics, pages, queues, schedules, session
from muskox.web.routes.pages import STATIC
from muskox.web.sessions import Brake, Sessions
from muskox.web.ticker import Ticker
from muskox.web.trail import Trail

__all__ = ["create_app"]

ROUTERS = (
    session.router,
    queues.router,
    queues.workers_router,
    limits.router,
    bulk.router,
    jobs.router,
    flows.router,
    schedules.router,
    events.router,
    metrics.router,
    pages.router,
)

_ROOM = 65_536
"""Bytes that a request may have beyond the data of a job."""

_ABOUT = """
Look at queues, jobs, flows, workers and schedules, and manage them.

Every error is `application/problem+json` with a `code` for programs. Lists are paged by cursors. Requests are
authorised by `Authorization: Bearer …`, or by the session of a browser, whose changes need the header
`Muskox-Request: 1`. Fields that look like secrets, and those annotated `Secret[…]`, are shown masked.
"""


def create_app(
    ox: Muskox,
    *,
    access: Access | None = None,
    read_only: bool = False,
    hosts: Iterable[str] | None = None,
    audit: Path | None = None,
    mask: Iterable[str] = (),
    secret: bytes | None = None,
    title: str = "Muskox",
) -> FastAPI:
    """Make the dashboard and its HTTP interface for a program.

    Without `access` it answers this machine alone, and nobody behind a proxy. `hosts` are the names under which it
    may be reached (None: any), `audit` is a file to which changes are appended, `mask` names further fields to hide,
    `secret` signs sessions and must be the same in all processes of one dashboard.
    """
    world = ox.world
    access, counted = access or Access(), metrics_of(ox)
    desk = Desk(
        ox=ox,
        access=access,
        masks=Masks(ox, mask),
        trail=Trail(audit),
        hub=Hub(ox, None if counted is None else counted.tally),
        metrics=counted,
        sessions=Sessions(access, secret or world.secret(32), world.now),
        brake=Brake(world.now),
        operations=Operations(world),
        read_only=read_only,
        title=title,
    )

    async def look() -> str:
        return (await queues.glance(desk)).model_dump_json()

    desk.ticker = Ticker(world, look)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with ox:
            desk.hub.start()
            try:
                yield
            finally:
                await desk.stop()

    # The usual pages of documentation load scripts from elsewhere; the dashboard has one of its own.
    app = FastAPI(
        title=f"{title} dashboard", description=_ABOUT, version="1", lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/api/openapi.json", redirect_slashes=False, responses=problems.described(400, 413, 421),
    )  # fmt: skip
    app.state.desk = desk
    check_gates(ROUTERS)
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    problems.install(app)
    app.add_middleware(Guard, hosts=None if hosts is None else list(hosts), largest=ox.data_limit + _ROOM)
    return app
