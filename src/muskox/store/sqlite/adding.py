"""The steps that store new jobs, and the one that tells of those that were only stored.

A lone job is only stored, which writes half of the pages. The figures and events of all such jobs follow in the next
transaction that does more than that, whoever begins it: nobody sees a job in a state of which was not told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import msgspec

from muskox.core.job import JobState, NewJob
from muskox.store.protocol import Added
from muskox.store.sqlite import expiry, keys, rows
from muskox.store.sqlite.moves import find_lane, get, text
from muskox.store.sqlite.tx import STATE, Tx

__all__ = ["Flow", "add", "announce", "store"]

_TOGETHER = 500
"""Jobs in one text, which SQLite takes up to a length of 1 GB."""
_AT_ONCE = 5000
_SAME_MOMENT = 10_000
"""Microseconds: jobs that came within so short a time are told of in one record, which has one moment."""

Flow = tuple[int, str]
"""The number and id of the flow that jobs join."""
_NO_FLOW = (None, None)
_Made = Callable[[list[NewJob]], list[Added]]

_Row = tuple[int, int, int, str, int, str, int]
"""Of a job: its own number, those of its queue and lane, name, state, id, and when it was added."""

_read_rows = msgspec.json.Decoder(list[_Row]).decode


def add(tx: Tx, jobs: Sequence[NewJob], *, flow: Flow | None = None) -> list[Added]:
    """Store new jobs and tell of them; those with known ids are answered with what is there."""
    answers = store(tx, jobs, flow=flow)
    if tx.told:
        announce(tx)
    return answers


def store(tx: Tx, jobs: Sequence[NewJob], *, flow: Flow | None = None, held: bool = False) -> list[Added]:
    """`add`, but for figures and events. `held`: they are blocked by parents."""
    if not held and any(job.key is not None for job in jobs):
        return _store_with_keys(tx, jobs, flow or _NO_FLOW)
    return _store(tx, jobs, flow or _NO_FLOW, held)


def _store(tx: Tx, jobs: Sequence[NewJob], flow: Flow | tuple[None, None], held: bool) -> list[Added]:
    if len(jobs) == 1:
        return _store_alike(tx, list(jobs), flow, held)
    answers: list[Added] = []
    for _, run in groupby(jobs, key=_kind):
        alike = list(run)
        for first in range(0, len(alike), _TOGETHER):
            answers += _store_alike(tx, alike[first : first + _TOGETHER], flow, held)
    return answers


def _kind(job: NewJob) -> tuple[Any, ...]:
    return job.queue, job.name, job.priority, job.delay, job.options, job.key is None


def _store_with_keys(tx: Tx, jobs: Sequence[NewJob], flow: Flow | tuple[None, None]) -> list[Added]:
    """Store jobs, and let those with keys that are not delayed join the lines of these."""
    [latest] = tx.one("latest_job") or [None]
    answers = _store(tx, jobs, flow, held=False)
    waiting = keys.join_new(tx, latest or 0)
    return [_opened(answer) if _is_in(tx, answer, waiting) else answer for answer in answers]


def _is_in(tx: Tx, answer: Added, waiting: set[tuple[int, str]]) -> bool:
    """Whether a job was added as blocked by its key, and has come to the line of its queue."""
    job = answer.job
    return job.state is JobState.BLOCKED and (find_lane(tx, job.queue, job.name)[0], job.id) in waiting


def _opened(answer: Added) -> Added:
    return msgspec.structs.replace(answer, job=msgspec.structs.replace(answer.job, state=JobState.WAITING))


def _store_alike(tx: Tx, jobs: list[NewJob], flow: Flow | tuple[None, None], held: bool) -> list[Added]:
    first = jobs[0]
    queue, lane = find_lane(tx, first.queue, first.name)
    values = {**rows.columns(first, tx.now, flow=flow[0], held=held), "queue": queue, "lane": lane}
    made = partial(rows.added, now=tx.now, flow=flow[1], held=held)
    answers = _store_new(tx, jobs, values, made) or [_store_one(tx, job, values, made) for job in jobs]
    if first.options.expires_in is not None:
        expiry.note(tx, queue, [job.id for job in jobs], first.options, tx.now)
    if any(answer.created for answer in answers):
        tx.told = True
        if first.delay <= 0 and not held:
            tx.woken.add(first.queue)
    return answers


def _store_new(tx: Tx, jobs: list[NewJob], values: dict[str, Any], made: _Made) -> list[Added] | None:
    """Store them in one statement; None, and nothing stored, when an id is known or there twice."""
    data_by_id = {job.id: job.data for job in jobs}
    if not 1 < len(jobs) == len(data_by_id):
        return None
    tx.db.execute("SAVEPOINT adding")
    if jobs[0].key is None:
        done = tx.execute("add_jobs", {**values, "data_by_id": text(data_by_id)})
    else:
        its = text([(job.id, job.data, job.key) for job in jobs])
        done = tx.execute("add_jobs_with_keys", {**values, "jobs": its})
    if done.rowcount != len(jobs):
        tx.db.execute("ROLLBACK TO adding")
    tx.db.execute("RELEASE adding")
    return made(jobs) if done.rowcount == len(jobs) else None


def _store_one(tx: Tx, job: NewJob, values: dict[str, Any], made: _Made) -> Added:
    if tx.execute("add_job", {**values, "id": job.id, "data": job.data, "key": job.key}).rowcount == 1:
        return made([job])[0]
    [known] = get(tx, job.queue, [job.id])
    assert known is not None, "the id was refused because it is there"
    return Added(known, False)


def announce(tx: Tx) -> None:
    """Tell of the jobs that were only stored, in their order, and count them."""
    while True:
        [said] = tx.one("untold", {"told": tx.told_to, "limit": _AT_ONCE}) or ["[]"]
        found = _read_rows(said)
        for (queue, lane, state), run in _runs(found):
            tx.count(lane, None, state, len(run))
            tx.tell(queue, STATE[state], [(id, name) for _, _, _, name, _, id, _ in run], at=run[0][6])
        if found:
            tx.told_to = found[-1][0]
        if len(found) < _AT_ONCE:
            return


def _runs(found: list[_Row]) -> Iterator[tuple[tuple[int, int, int], list[_Row]]]:
    """The jobs that one record tells of: one after another of one lane and state, added in about the same moment."""
    for key, its in groupby(found, key=lambda row: (row[1], row[2], row[4])):
        run: list[_Row] = []
        for row in its:
            if run and row[6] - run[0][6] > _SAME_MOMENT:
                yield key, run
                run = []
            run.append(row)
        yield key, run
