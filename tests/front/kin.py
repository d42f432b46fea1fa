"""Processors that look at their parents and add children, for a thread or a child process."""

from __future__ import annotations

from typing import Any

from muskox import ActiveJob, Muskox, SyncActiveJob

emails = Muskox("sqlite://:memory:").queue("email")


def split(job: SyncActiveJob) -> list[Any]:
    named = job.add_child(emails.new("work", "a"), id="named")
    more = job.add_children([emails.new("work", number) for number in range(2)])
    return [job.parents().results, named.id, len(more)]


async def async_split(job: ActiveJob) -> list[Any]:
    named = await job.add_child(emails.new("work", "a"), id="named")
    more = await job.add_children([emails.new("work", number) for number in range(2)])
    return [(await job.parents()).results, named.id, len(more)]
