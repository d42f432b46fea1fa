"""Puts jobs that move house into the form in which they travel, and reads them from it. It asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from muskox.core.job import JobState
from muskox.store.protocol import Added, Packed
from muskox.store.redis.dedup import rule
from muskox.store.redis.ids import long, packable
from muskox.store.redis.looks import log_lines
from muskox.store.redis.records import LETTER, Reader, failure_text, options_text

__all__ = ["adopted", "packed_jobs", "travelling"]


def packed_jobs(queue: str, found: Sequence[Any]) -> list[Packed]:
    """Jobs from the answer of `pack.lua`."""
    reader = Reader(queue)
    return [
        Packed(reader.job(long(id), record), arrival, reader.clear_at(record), tuple(log_lines(lines, 1)))
        for id, record, arrival, lines in zip(*(found[first::4] for first in range(4)), strict=True)
    ]


def travelling(one: Packed) -> tuple[Any, ...]:
    """A job as `adopt.lua` takes it; the head has the fields that `lua/base.lua` names, in their order."""
    job = one.job
    stalls = job.options.max_stalls
    head = (
        job.name, job.priority, job.added_us, job.attempts or 0, -1 if stalls is None else stalls,
        options_text(job.options), job.attempt, job.stalls, job.releases, job.started_us or 0, "", job.due_us or 0,
        job.ended_us or 0, one.clear_us or 0, 0, job.progress_text or "", failure_text(job.failure),
        job.steps_text or "", job.key or "", "",
    )  # fmt: skip
    lines = [part for line in one.lines for part in (line.at_us, line.text)]
    letter = LETTER[job.state]
    its = rule(job.options.dedup)
    return job.queue, packable(job.id), letter, head, job.result_text or "", job.data_text, one.arrival_us, lines, its


def adopted(jobs: Sequence[Packed], answer: Sequence[Any]) -> list[Added]:
    """The answers to jobs from that of `adopt.lua`."""
    blocked, waiting, told = answer
    known = dict(zip(told[::2], told[1::2], strict=True))
    states = dict.fromkeys(blocked, JobState.BLOCKED) | dict.fromkeys(waiting, JobState.WAITING)
    return [
        Added(Reader(one.job.queue).job(one.job.id, known[place]), False)
        if place in known
        else Added(msgspec.structs.replace(one.job, state=states.get(place, one.job.state)), True)
        for place, one in enumerate(jobs, 1)
    ]
