"""Moving house: reads jobs with all that is kept of them, and puts such jobs into the JSON in which they are adopted.

What is moved, and in which order of steps, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from muskox.core.job import JobState
from muskox.store.postgres import rows
from muskox.store.postgres.adding import Lane
from muskox.store.postgres.connections import Connection
from muskox.store.postgres.dedup import expires, rule
from muskox.store.postgres.rows import NUMBER
from muskox.store.postgres.schema import Schema
from muskox.store.protocol import LogLine, Packed

__all__ = ["items", "pack"]

_encode = msgspec.json.Encoder().encode


async def pack(db: Connection, schema: Schema, queue: str, state: JobState, limit: int) -> list[Packed]:
    """Read the first jobs of a queue in a state."""
    values = {"queue": queue, "state": NUMBER[state], "limit": limit}
    match state:
        case JobState.ACTIVE:
            return []
        case JobState.BLOCKED:
            name = "pack_blocked"
        case JobState.WAITING:
            name = "pack_waiting"
        case JobState.DELAYED:
            name = "pack_delayed"
        case _:
            name = "pack_ended"
    found = await (await db.execute(schema[name], values)).fetchall()
    lines: dict[int, list[LogLine]] = {}
    seqs = rows.ints(row[0] for row in found)
    for seq, *line in await (await db.execute(schema["lines_of"], (seqs,))).fetchall():
        lines.setdefault(seq, []).append(LogLine(*line))
    return [
        Packed(rows.full(tuple(job)), arrival, clear_at, tuple(lines.get(seq, ())))
        for seq, arrival, clear_at, *job in found
    ]


def items(jobs: Sequence[Packed], lanes: Mapping[tuple[str, str], Lane]) -> str:
    """The argument of `adopt`."""
    return _encode([_item(place, one, lanes) for place, one in enumerate(jobs)]).decode()


def _item(place: int, one: Packed, lanes: Mapping[tuple[str, str], Lane]) -> dict[str, Any]:
    job = one.job
    queue, lane = lanes[job.queue, job.name]
    return {
        "place": place, "queue": queue, "lane": lane, "id": job.id, "name": _encode(job.name).decode(),
        "state": NUMBER[job.state], "rank": -job.priority, "arrival": one.arrival_us, "due": job.due_us,
        "attempt": job.attempt, "attempts": job.attempts, "stalls": job.stalls, "max_stalls": job.options.max_stalls,
        "releases": job.releases, "added": job.added_us, "started": job.started_us, "ended": job.ended_us,
        "clear_at": one.clear_us, "options": rows.options_text(job.options), "data": job.data_text,
        "progress": job.progress_text, "result": job.result_text, "failure": rows.failure_text(job.failure),
        "steps": job.steps_text, "key": job.key, **rule(job.options.dedup), "expires": expires(job.options),
        "lines": [(line.number, line.at_us, rows.pure(line.text)) for line in one.lines],
    }  # fmt: skip
