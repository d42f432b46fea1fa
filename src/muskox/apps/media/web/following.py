"""Tells how a run goes on, event by event, until it is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from muskox import JobEvent, JobState
from muskox.apps.media.media import Media, RunLook
from muskox.apps.media.web.views import run_view

__all__ = ["follow_run"]

_LOOK_AGAIN = 1.0
_OVER = {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}


async def follow_run(media: Media, id: str, after: int | None) -> AsyncIterator[tuple[int | None, str, dict[str, Any]]]:
    """Yield offset, kind and the run as it is then; the last kind is `end`.

    `after` is the offset of the last event that was heard. Looked at now and then as well, should an event be missed.
    """
    _, look = await media.run(id)
    events = media.ox.queue(look.run.queue).events(after=after)
    world = media.ox.world
    pending = world.spawn(anext(events), name=f"muskox-follow-{id}")
    try:
        seen: Any = None
        while True:
            file, look = await media.run(id)
            if look.state in _OVER:
                yield None, "end", run_view(file, look)
                return
            now = _mark(look)
            if now != seen:
                seen = now
                yield None, "state", run_view(file, look)
            await asyncio.wait([pending], timeout=_LOOK_AGAIN)
            if pending.done():
                event = pending.result()
                pending = world.spawn(anext(events), name=f"muskox-follow-{id}")
                if isinstance(event, JobEvent) and event.job_id == id:
                    value = getattr(event, "value", None)
                    yield event.offset, event.kind, {"id": id, "value": value}
    finally:
        pending.cancel()
        await asyncio.wait([pending])
        await events.aclose()


def _mark(look: RunLook) -> Any:
    job = look.job
    return (look.state, None) if job is None else (job.state, job.progress_text, job.attempt)
