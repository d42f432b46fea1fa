"""Puts jobs of which some have a dedup key into the form in which they travel, and reads the answer.

It has no connection: the store has, and `within` that of a caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from muskox.core.dedup import Dedup
from muskox.core.errors import Duplicate
from muskox.core.job import Job, NewJob, Options
from muskox.core.twins import fold, gone
from muskox.store.postgres import rows
from muskox.store.postgres.adding import Lane
from muskox.store.protocol import Added

__all__ = ["Adding", "expires", "rule"]

_KINDS = {"started": 0, "ended": 1}
_WINDOW = 2

_encode = msgspec.json.Encoder().encode

Stored = Mapping[tuple[str, str], Job]


def rule(of: Dedup | None) -> dict[str, Any]:
    """A rule as the functions of the database read it; of none its key is null."""
    if of is None:
        return {"dedup": None}
    kind = _KINDS[of.until] if of.window is None else _WINDOW
    return {"dedup": of.key, "kind": kind, "window": of.window_us or 0, "next_to": of.then}


def expires(options: Options) -> int | None:
    """In how many microseconds a job has to be begun."""
    return None if options.expires_in is None else int(options.expires_in * 1_000_000)


class Adding:
    """New jobs as `add_once` takes them, and what its answer means."""

    def __init__(self, jobs: Sequence[NewJob]) -> None:
        rows.texts([job.data for job in jobs])  # what cannot be text is found here
        self._jobs, self._places = fold(jobs)
        self._at = 0
        self._states: Sequence[int | None] | None = None
        self._there: dict[int, str] = {}

    def items(self, lanes: Mapping[tuple[str, str], Lane]) -> str:
        """The jobs; every lane must be known."""
        return _encode([self._item(place, job, lanes) for place, job in enumerate(self._jobs, 1)]).decode()

    def _item(self, place: int, job: NewJob, lanes: Mapping[tuple[str, str], Lane]) -> dict[str, Any]:
        queue, lane = lanes[job.queue, job.name]
        return {
            "place": place, "queue": queue, "lane": lane, "id": job.id, "rank": -job.priority,
            "delay": int(job.delay * 1_000_000), "attempts": job.options.attempts, "stalls": job.options.max_stalls,
            "options": rows.options_text(job.options), "data": job.data, "key": job.key, **rule(job.options.dedup),
            "expires": expires(job.options),
        }  # fmt: skip

    def understand(self, row: tuple[Any, ...]) -> list[tuple[str, str]]:
        """Take the answer; gives queues and ids of the jobs to be read. Raises `Duplicate` when one was refused."""
        self._at, refused, places, ids, self._states, _ = row
        if refused is not None:
            job = self._jobs[refused - 1]
            assert job.options.dedup is not None, "it has a key"
            raise Duplicate(job.queue, job.options.dedup.key, ids[0])
        self._there = {place: id or self._jobs[place - 1].id for place, id in zip(places, ids, strict=True)}
        return [(self._jobs[place - 1].queue, id) for place, id in self._there.items()]

    def answers(self, stored: Stored) -> list[Added] | None:
        """What became of the jobs, from those that were to be read; None when one of them is being removed."""
        states = self._states
        found = rows.added(self._jobs, self._at) if states is None else rows.added_as(self._jobs, self._at, states)
        for place, id in self._there.items():
            job = self._jobs[place - 1]
            there = stored.get((job.queue, id))
            if there is None and id == job.id:
                return None
            if there is None or (id != job.id and not _has_key_of(there, job)):
                there = gone(job, id)
            found[place - 1] = Added(there, False)
        seen: set[int] = set()
        answers = []
        for place in self._places:
            answers.append(found[place] if place not in seen else Added(found[place].job, False))
            seen.add(place)
        return answers


def _has_key_of(there: Job, job: NewJob) -> bool:
    """Whether a job is the one that has a new one's key, and not a later one with the same id."""
    theirs, ours = there.options.dedup, job.options.dedup
    return theirs is not None and ours is not None and theirs.key == ours.key
