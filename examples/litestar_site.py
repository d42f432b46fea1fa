"""A Litestar service with the dashboard mounted and a worker inside.

    pip install 'muskox[web]' litestar
    uvicorn litestar_site:app

`POST /reports?month=11` adds a job; http://127.0.0.1:8000/jobs/ is the dashboard, for this machine alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar, asgi, post
from litestar.params import FromQuery
from litestar.types import Receive, Scope, Send

from muskox import ActiveJob, Muskox
from muskox.web import create_app

ox = Muskox()


@ox.queue("reports").processor(attempts=3, timeout=60)
async def monthly(job: ActiveJob, month: int) -> dict[str, int]:
    await job.progress(50)
    return {"month": month, "pages": 12}


dashboard = create_app(ox, title="Reports")


@asgi("/jobs", is_mount=True, copy_scope=True)
async def jobs(scope: Scope, receive: Receive, send: Send) -> None:
    """The dashboard, which is told where it is mounted, without the slash that Litestar adds to each path."""
    path = f"/jobs{scope['path'].rstrip('/') or '/'}"
    await dashboard({**scope, "root_path": "/jobs", "path": path}, receive, send)  # type: ignore[arg-type]


@post("/reports", status_code=202)
async def order(month: FromQuery[int]) -> dict[str, str]:
    job = await monthly.add(month=month)
    return {"id": job.id}


@asynccontextmanager
async def lifespan(_: Litestar) -> AsyncIterator[None]:
    async with dashboard.router.lifespan_context(dashboard), ox.worker():
        yield


app = Litestar([order, jobs], lifespan=[lifespan])
