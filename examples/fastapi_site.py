"""A web service with a worker and the dashboard inside it: one process, one address. Starlette does it the same way.

    pip install 'muskox[web]'
    uvicorn fastapi_site:app

`POST /reports?month=11` adds a job; http://127.0.0.1:8000/jobs/ is the dashboard. For more than a small site, run
`muskox worker fastapi_site:ox` elsewhere and leave `ox.worker()` out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from muskox import ActiveJob, AppQueue, Muskox
from muskox.web import Access, Principal, Role, create_app

ox = Muskox()


@ox.queue("reports").processor(attempts=3, timeout=60)
async def monthly(job: ActiveJob, month: int) -> dict[str, int]:
    await job.progress(50)
    return {"month": month, "pages": 12}


def authorize(request: Request) -> Principal | None:
    """Your own way to know who asks, by a session or a header that your proxy sets; None refuses."""
    user = request.headers.get("x-user")
    return Principal(user, Role.OPERATE, "proxy") if user else None


dashboard = create_app(ox, access=Access(authorize=authorize), title="Reports")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with dashboard.router.lifespan_context(dashboard), ox.worker():
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/jobs", dashboard)


def reports() -> AppQueue:
    return ox.queue("reports")


@app.post("/reports", status_code=202)
async def order(month: int, queue: Annotated[AppQueue, Depends(reports)]) -> dict[str, str]:
    job = await queue.add("monthly", {"month": month})
    return {"id": job.id}
