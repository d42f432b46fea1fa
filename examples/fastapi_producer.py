"""A web service that answers at once and leaves the work to a worker.

    pip install muskox fastapi uvicorn
    uvicorn fastapi_producer:app
    muskox worker fastapi_producer:ox

Run all of it in this folder. `POST /reports?month=11` adds a job, `GET /reports/{id}` tells how it stands.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException

from muskox import ActiveJob, Muskox

ox = Muskox()
reports = ox.queue("reports")


@reports.processor(attempts=3, timeout=60)
async def monthly(job: ActiveJob, month: int) -> dict[str, Any]:
    await job.progress(50)
    return {"month": month, "pages": 12}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with ox:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/reports", status_code=202)
async def order(month: int) -> dict[str, str]:
    job = await monthly.add(month=month)
    return {"id": job.id}


@app.get("/reports/{id}")
async def look(id: str) -> dict[str, Any]:
    job = await reports.get(id)
    if job is None:
        raise HTTPException(404, f"there is no report {id}")
    return {"state": job.state, "progress": job.progress, "report": job.result}
