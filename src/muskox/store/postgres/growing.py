"""Puts jobs of flows into the arrays in which they travel to `grow` and `branch`, and reads their answers.

It has no connection: the store has, and `within` that of a caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import psycopg

from muskox.core.errors import FlowClosed, MuskoxError, OptionError
from muskox.core.flows import FlowJob, FlowKind, NewFlow, OnFailure, Parent
from muskox.core.job import Job, JobState, Lease, NewJob
from muskox.core.twins import are_timed
from muskox.store.postgres import adding, rows
from muskox.store.postgres.adding import Lane
from muskox.store.postgres.dedup import rule
from muskox.store.protocol import Added

__all__ = ["Growing", "parent"]

_MEANINGS = (OnFailure.FAIL, OnFailure.CONTINUE, OnFailure.IGNORE)
"""What the failure of a parent means, by its number in the tables."""

_encode = msgspec.json.Encoder().encode

Lanes = Mapping[tuple[str, str], Lane]
Row = tuple[Any, ...]


class Growing:
    """Jobs to be added to a flow, or by a run (`flow` None), and what the answer means."""

    def __init__(self, flow: NewFlow | None, jobs: Sequence[FlowJob]) -> None:
        if flow is not None and flow.kind is FlowKind.BATCH and any(one.waits for one in jobs):
            raise OptionError(f"jobs of a batch wait for nothing, as one of {flow.id!r} would; use a flow")
        self._flow = flow
        self._jobs = jobs
        self._new = [one.job for one in jobs]
        self._data = adding.data_of(self._new)
        self._edges = [(place, wait) for place, one in enumerate(jobs, 1) for wait in one.waits]

    @property
    def lanes(self) -> set[tuple[str, str]]:
        """The queues and names that must be known: also those of the jobs that follow the flow."""
        following = [] if self._flow is None else [self._flow.completed, self._flow.settled]
        return adding.lanes_of([*self._new, *(job for job in following if job is not None)])

    def values(self, lanes: Lanes, *, now: int | None, level: str, within: str | None = None) -> Row:
        """The arguments of `grow`; `within` is as for `adding.values`."""
        flow = self._flow
        assert flow is not None, "jobs of a run are added by branch"
        return (
            now, level, within is not None, within, flow.id, flow.kind is FlowKind.FLOW, flow.open,
            _follower(flow.completed, lanes), _follower(flow.settled, lanes), *self._columns(lanes),
        )  # fmt: skip

    @property
    def is_short(self) -> bool:
        """Whether `fill_alike` may add them."""
        return (
            self._flow is not None
            and self._flow.kind is FlowKind.BATCH
            and bool(self._new)
            and adding.are_alike(self._new)
            and not are_timed(self._new)
        )

    def alike(self, lanes: Lanes, *, now: int | None, level: str) -> list[bytes | None]:
        """The arguments of `fill_alike`, written out."""
        flow = self._flow
        assert flow is not None, "is_short says so"
        first = self._new[0]
        moment, durability, *rest = adding.alike(self._new, lanes[first.queue, first.name], now=now, level=level)
        followers = [_follower(job, lanes) for job in (flow.completed, flow.settled)]
        return [
            moment, durability, flow.id.encode(), b"true" if flow.open else b"false",
            *(None if job is None else job.encode() for job in followers), *rest,
        ]  # fmt: skip

    def filled(self, answer: bytes) -> tuple[list[Added], list[str] | None]:
        """What `fill_alike` answered: the jobs and the bells."""
        assert self._flow is not None, "is_short says so"
        at, bells = msgspec.json.decode(answer)
        return rows.added(self._new, at, self._flow.id), bells

    def values_below(self, lease: Lease, lane: Lane, lanes: Lanes, *, now: int | None, level: str) -> Row:
        """The arguments of `branch`."""
        return now, level, lane[0], lease.job_id, lease.token, *self._columns(lanes)

    def _columns(self, lanes: Lanes) -> Row:
        found = [lanes[job.queue, job.name] for job in self._new]
        return (
            *adding.columns(self._new, found),
            self._data,
            rows.texts([job.key for job in self._new]),
            "{" + ",".join(["true" if one.waits else "NULL" for one in self._jobs]) + "}",
            rows.ints([place for place, _ in self._edges]),
            rows.texts([wait.queue for _, wait in self._edges]),
            rows.texts([wait.id for _, wait in self._edges]),
            rows.texts([wait.name for _, wait in self._edges]),
            rows.ints([_MEANINGS.index(wait.on_failure) for _, wait in self._edges]),
        )

    # --- the answer --------------------------------------------------------------

    def known(self, row: Row) -> list[NewJob]:
        """The jobs that were there already, by a row of the answer."""
        return [self._new[place - 1] for place in row[1] or ()]

    def answers(self, row: Row, stored: Mapping[tuple[str, str], Job], *, flow: str | None = None) -> list[Added]:
        """What became of the jobs; all that were known must be in `stored`."""
        at, known, states, failures, *_ = row
        name = flow if self._flow is None else self._flow.id
        there = set(known or ())
        found = []
        for place, added in enumerate(rows.added(self._new, at, name), 1):
            job = added.job
            if place in there:
                found.append(Added(stored[job.queue, job.id], False))
            elif states is None:
                found.append(added)
            else:
                found.append(Added(_as_it_is(job, rows.STATE[states[place - 1]], failures[place - 1], at), True))
        return found

    def refused(self, error: psycopg.Error) -> MuskoxError | None:
        """What is to be raised when nothing was added, by the states in migrations/0014.sql."""
        flow = self._flow
        said = error.diag.message_primary or ""
        match error.sqlstate:
            case "MX001" if flow is not None:
                return FlowClosed(
                    f"{flow.kind} {flow.id!r} is closed: no job can be added to it; add it alone, or to another"
                )
            case "MX002" if flow is not None:
                [other] = set(FlowKind) - {flow.kind}
                return OptionError(f"{flow.id!r} is a {other} and no {flow.kind}; use another id")
            case "MX003":
                place, wait = self._edges[int(said) - 1]
                return OptionError(
                    f"job {self._new[place - 1].id!r} waits for {wait.id!r} in queue {wait.queue!r}, which is not in "
                    f"{'its flow' if flow is None else f'flow {flow.id!r}'} before it; add that first"
                )
            case "MX004":
                return OptionError(f"job {said} is in no flow, so what it adds can wait for nothing; leave after out")
            case _:
                return None


def parent(row: Row) -> Parent:
    """The parent in a row of `parents`."""
    name, queue, id, meaning, state, result, failure = row
    return Parent(
        name, queue, id, _MEANINGS[meaning], rows.STATE[state], result,
        None if failure is None else rows.read_failure(failure),
    )  # fmt: skip


def _as_it_is(job: Job, state: JobState, failure: str | None, at: int) -> Job:
    """A job as it was stored."""
    return msgspec.structs.replace(
        job,
        state=state,
        due_us=job.due_us if state is JobState.DELAYED else None,
        ended_us=at if state is JobState.FAILED else None,
        failure=None if failure is None else rows.read_failure(failure),
    )


def _follower(job: NewJob | None, lanes: Lanes) -> str | None:
    """A job that follows a flow, as it is kept until then: an item as for `add_once`, its key and where it goes."""
    if job is None:
        return None
    queue, lane = lanes[job.queue, job.name]
    return _encode(
        {
            "place": 1, "queue": queue, "lane": lane, "id": job.id, "rank": -job.priority,
            "delay": int(job.delay * 1_000_000), "attempts": job.options.attempts, "stalls": job.options.max_stalls,
            "options": rows.options_text(job.options), "data": job.data, "key": job.key, "to": job.queue,
            **rule(job.options.dedup),
        }
    ).decode()  # fmt: skip
