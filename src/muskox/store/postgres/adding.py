"""Puts new jobs into the arrays in which they travel to the function `add`, and reads its answer.

It has no connection: the store has, and `within` that of a caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.errors import UniqueViolation

from muskox.core.events import pack
from muskox.core.job import Job, NewJob
from muskox.store.postgres import rows
from muskox.store.postgres.connections import Connection, ask
from muskox.store.protocol import Added

__all__ = [
    "Lane",
    "alike",
    "answers",
    "are_alike",
    "columns",
    "data_of",
    "lanes_of",
    "read",
    "say_alike",
    "step",
    "values",
]

Lane = tuple[int, int]
"""The numbers of a queue and of its lane for a job name."""

Lanes = Mapping[tuple[str, str], Lane]


def lanes_of(jobs: Sequence[NewJob]) -> set[tuple[str, str]]:
    """The queues and names that jobs are added to."""
    return {(job.queue, job.name) for job in jobs}


def data_of(jobs: Sequence[NewJob]) -> str:
    """The data of jobs as an array: what cannot be text is found here, before anything is made for them."""
    return rows.texts([job.data for job in jobs])


def step(
    jobs: Sequence[NewJob], data: str, lanes: Lanes, *, now: int | None, level: str, within: str | None = None
) -> tuple[str, tuple[Any, ...]]:
    """Which statement stores the jobs, and its arguments; they are as for `values`."""
    if all(job.key is None for job in jobs):
        return "add", values(jobs, data, lanes, now=now, level=level, within=within)
    found = [lanes[job.queue, job.name] for job in jobs]
    return "add_tied", (
        now, level, within is not None, *columns(jobs, found), data, rows.texts([job.key for job in jobs]), within,
    )  # fmt: skip


def read(jobs: Sequence[NewJob], answer: Sequence[tuple[Any, ...]]) -> tuple[list[Added], Sequence[int]]:
    """The answer of that statement: the jobs as if all were new, and the places of those that were known."""
    [(at, known, *states, _)] = answer
    return (rows.added_as(jobs, at, states[0]) if states else rows.added(jobs, at)), known or ()


def values(
    jobs: Sequence[NewJob], data: str, lanes: Lanes, *, now: int | None, level: str, within: str | None = None
) -> tuple[Any, ...]:
    """The arguments of `add`; every lane must be known, and `data` comes from `data_of`.

    `within` is the channel on which a commit of the caller's is told; None outside of a caller's transaction.
    """
    found = [lanes[job.queue, job.name] for job in jobs]
    runs = _runs(jobs, found)
    return (
        now,
        level,
        within is not None,
        *columns(jobs, found),
        data,
        rows.ints([queue for queue, _, _, _ in runs]),
        rows.ints([lane for _, lane, _, _ in runs]),
        rows.ints([state for _, _, state, _ in runs]),
        rows.ints([len(facts) for _, _, _, facts in runs]),
        rows.texts([pack(facts) for _, _, _, facts in runs]),
        within,
    )


def are_alike(jobs: Sequence[NewJob]) -> bool:
    """Whether the jobs differ in their ids and data only, and nobody is tied to them."""
    first = jobs[0]
    if first.key is not None:
        return False
    traits = first.queue, first.name, first.priority, first.delay, None
    return len(jobs) == 1 or all(
        job.options is first.options and (job.queue, job.name, job.priority, job.delay, job.key) == traits
        for job in jobs
    )


def alike(jobs: Sequence[NewJob], lane: Lane, *, now: int | None, level: str) -> list[bytes | None]:
    """The arguments of `add_alike`, written out; the lane is that of all of the jobs."""
    first = jobs[0]
    options = rows.options_text(first.options)
    return [
        None if now is None else b"%d" % now,
        level.encode(),
        b"%d" % lane[0],
        b"%d" % lane[1],
        b"%d" % -first.priority,
        b"%d" % int(first.delay * 1_000_000),
        None if first.options.attempts is None else b"%d" % first.options.attempts,
        None if first.options.max_stalls is None else b"%d" % first.options.max_stalls,
        None if options is None else options.encode(),
        rows.texts([job.id for job in jobs]).encode(),
        data_of(jobs).encode(),
        pack([(job.id, job.name) for job in jobs]).encode(),
    ]


async def say_alike(said: str, values: Sequence[bytes | None], db: Connection) -> bytes | None:
    """Say `add_alike`, a step of the store; None: one is known, twice among them, or added in this very moment."""
    try:
        return await ask(db, said.encode(), values)
    except UniqueViolation:
        return None


def answers(
    jobs: Sequence[NewJob], fresh: Sequence[Added], known: Sequence[int], stored: Mapping[tuple[str, str], Job]
) -> list[Added]:
    """What `add` did: all jobs are new but those at the places `known`, which are answered with what is there."""
    found = list(fresh)
    for place in known:
        job = jobs[place - 1]
        found[place - 1] = Added(stored[job.queue, job.id], False)
    return found


def columns(jobs: Sequence[NewJob], found: Sequence[Lane]) -> tuple[str, ...]:
    """What all ways of adding are given of each job, but for its data."""
    return (
        rows.ints([queue for queue, _ in found]),
        rows.ints([lane for _, lane in found]),
        rows.texts([job.id for job in jobs]),
        rows.ints([-job.priority for job in jobs]),
        rows.ints([int(job.delay * 1_000_000) for job in jobs]),
        rows.ints([job.options.attempts for job in jobs]),
        rows.ints([job.options.max_stalls for job in jobs]),
        rows.texts(_options(jobs)),
    )


def _options(jobs: Sequence[NewJob]) -> list[str | None]:
    if not jobs:
        return []
    # Jobs that are added together mostly share one object.
    last = jobs[0].options
    text = rows.options_text(last)
    found = []
    for job in jobs:
        if job.options is not last:
            last, text = job.options, rows.options_text(job.options)
        found.append(text)
    return found


_Run = tuple[int, int, int, list[tuple[str, str]]]


def _runs(jobs: Sequence[NewJob], lanes: Sequence[Lane]) -> list[_Run]:
    """Neighbours that are told of together: queue, lane, state and facts."""
    runs: list[_Run] = []
    before: tuple[Lane, bool] | None = None
    for job, lane in zip(jobs, lanes, strict=True):
        delayed = int(job.delay * 1_000_000) > 0
        if (lane, delayed) != before:
            before = lane, delayed
            runs.append((*lane, int(delayed), []))
        runs[-1][3].append((job.id, job.name))
    return runs
