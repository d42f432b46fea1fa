"""Puts new jobs into the arrays in which they travel to the function `add`, and reads its answer.

It sends nothing: the store does, and `within` on the connection of a caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from muskox.core.events import pack
from muskox.core.job import Job, NewJob
from muskox.store.postgres import rows
from muskox.store.protocol import Added

__all__ = ["Lane", "answers", "data_of", "lanes_of", "values"]

Lane = tuple[int, int]
"""The numbers of a queue and of its lane for a job name."""

Lanes = Mapping[tuple[str, str], Lane]


def lanes_of(jobs: Sequence[NewJob]) -> set[tuple[str, str]]:
    """The queues and names that jobs are added to."""
    return {(job.queue, job.name) for job in jobs}


def data_of(jobs: Sequence[NewJob]) -> str:
    """The data of jobs as an array: what cannot be text is found here, before anything is made for them."""
    return rows.texts([job.data for job in jobs])


def values(
    jobs: Sequence[NewJob], data: str, lanes: Lanes, *, now: int | None, level: str, within: str | None = None
) -> tuple[Any, ...]:
    """The arguments of `add`; every lane must be known, and `data` comes from `data_of`.

    `within` is the channel on which a commit of the caller's is told; None outside of a caller's transaction.
    """
    found = [lanes[job.queue, job.name] for job in jobs]
    delays = [int(job.delay * 1_000_000) for job in jobs]
    runs = _runs(jobs, found, delays)
    return (
        now,
        level,
        within is not None,
        rows.ints([queue for queue, _ in found]),
        rows.ints([lane for _, lane in found]),
        rows.texts([job.id for job in jobs]),
        rows.ints([-job.priority for job in jobs]),
        rows.ints(delays),
        rows.ints([job.options.attempts for job in jobs]),
        rows.ints([job.options.max_stalls for job in jobs]),
        rows.texts(_options(jobs)),
        data,
        rows.ints([queue for queue, _, _, _ in runs]),
        rows.ints([lane for _, lane, _, _ in runs]),
        rows.ints([state for _, _, state, _ in runs]),
        rows.ints([len(facts) for _, _, _, facts in runs]),
        rows.texts([pack(facts) for _, _, _, facts in runs]),
        within,
    )


def answers(
    jobs: Sequence[NewJob], at: int, known: Sequence[int], stored: Mapping[tuple[str, str], Job]
) -> list[Added]:
    """What `add` did: all jobs are new but those at the places `known`, which are answered with what is there."""
    found = rows.added(jobs, at)
    for place in known:
        job = jobs[place - 1]
        found[place - 1] = Added(stored[job.queue, job.id], False)
    return found


def _options(jobs: Sequence[NewJob]) -> list[str | None]:
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


def _runs(jobs: Sequence[NewJob], lanes: Sequence[Lane], delays: Sequence[int]) -> list[_Run]:
    """Neighbours that are told of together: queue, lane, state and facts."""
    runs: list[_Run] = []
    before: tuple[Lane, bool] | None = None
    for job, lane, delay in zip(jobs, lanes, delays, strict=True):
        if (lane, delay > 0) != before:
            before = lane, delay > 0
            runs.append((*lane, int(delay > 0), []))
        runs[-1][3].append((job.id, job.name))
    return runs
