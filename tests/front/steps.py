"""Isolated processors with steps, for a child process to import."""

from __future__ import annotations

from typing import Any

from muskox import ActiveJob, SyncActiveJob


def plain_pay(job: SyncActiveJob) -> list[Any]:
    first = job.step("charge", lambda: f"by attempt {job.attempt}")
    if job.attempt == 1:
        raise ValueError("on purpose")
    try:
        job.step("charge", lambda: 1)
    except ValueError as error:
        return [first, type(error).__name__]
    return [first, "nothing"]


async def async_pay(job: ActiveJob) -> list[Any]:
    async def charge() -> str:
        return f"by attempt {job.attempt}"

    first = await job.step("charge", charge)
    if job.attempt == 1:
        raise ValueError("on purpose")
    try:
        await job.step("charge", charge)
    except ValueError as error:
        return [first, type(error).__name__]
    return [first, "nothing"]
