"""Puts settlements and notes into the values in which they travel to the functions of the database.

What is decided here is only what a settlement means in the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from muskox.core import life
from muskox.core.events import pack
from muskox.core.failure import FailureKind
from muskox.core.job import JobState, Lease
from muskox.core.life import Complete, Settlement
from muskox.store.postgres import rows
from muskox.store.postgres.adding import Lane
from muskox.store.postgres.rows import NUMBER
from muskox.store.protocol import Note

__all__ = ["FULL", "MOST_LINES", "completions", "items", "notes", "plain"]

MOST_LINES = 1000
FULL = f"(more than {MOST_LINES} lines: the rest was dropped)"

_MOST_LINE = 4000
_W, _D = NUMBER[JobState.WAITING], NUMBER[JobState.DELAYED]
_B = NUMBER[JobState.BLOCKED]
_C, _F = NUMBER[JobState.COMPLETED], NUMBER[JobState.FAILED]

_HOLDS = {life.Hold.JOB: 0, life.Hold.KEY: 1, life.Hold.QUEUE: 2}

_encode = msgspec.json.Encoder().encode

Lanes = Mapping[tuple[str, str], Lane]


def plain(one: Settlement) -> bool:
    """Whether it is a completion that leaves nothing but its result, as most are."""
    return type(one) is Complete and one.keep is None and one.unkept is None


def completions(done: Sequence[Complete], lanes: Lanes) -> tuple[list[Complete], tuple[Any, ...]]:
    """Plain completions lane by lane, and the arguments of `complete` that tell of them in that order."""
    by_lane: dict[tuple[str, str], list[Complete]] = {}
    for one in done:
        by_lane.setdefault((one.lease.queue, one.lease.name), []).append(one)
    ordered = [one for its in by_lane.values() for one in its] if len(by_lane) > 1 else list(done)
    found = [lanes[lane] for lane in by_lane]
    leases = [one.lease for one in ordered]
    bare = all(one.result is None for one in ordered)
    return ordered, (
        rows.places(leases),
        rows.ints([lease.token for lease in leases]),
        None if bare else rows.texts([one.result for one in ordered]),
        rows.ints([queue for queue, _ in found]),
        rows.ints([lane for _, lane in found]),
        rows.ints([len(its) for its in by_lane.values()]),
        rows.texts(
            [pack([(one.lease.job_id, one.lease.name, one.lease.attempt) for one in its]) for its in by_lane.values()]
        ),
    )


def items(settlements: Sequence[Settlement], lanes: Lanes) -> str:
    """The argument of `settle`: any settlements, as JSON."""
    return _text([_item(place, one, lanes) for place, one in enumerate(settlements)])


def notes(given: Sequence[Note], lanes: Lanes) -> str:
    """The argument of `annotate`, as JSON."""
    return _text([_note(place, note, lanes) for place, note in enumerate(given)])


def _text(value: Any) -> str:
    return _encode(value).decode()


def _item(place: int, one: Settlement, lanes: Lanes) -> dict[str, Any]:
    lease = one.lease
    return {
        **_known(place, lease, lanes), "name": _text(lease.name), "attempt": lease.attempt,
        "refund": 0, "stalls": 0, "releases": 0, "delay": None, "ended": False, "keep": None, "gone": False,
        "result": None, "failure": None, "more": "", "repeats": [_W, _D, _B], "hold": 0,
        "over": lease.tied and isinstance(one, Complete | life.Fail), **_meaning(one),
    }  # fmt: skip


def _known(place: int, lease: Lease, lanes: Lanes) -> dict[str, Any]:
    queue, lane = lanes[lease.queue, lease.name]
    return {"place": place, "queue": queue, "lane": lane, "id": lease.job_id, "token": lease.token}


def _meaning(one: Settlement) -> dict[str, Any]:
    match one:
        case life.Complete(_, result, unkept, keep):
            failure = rows.failure_text(unkept)
            return {"kind": "completed", "state": _C, "result": result, "failure": failure, **_ended(_C, keep)}
        case life.Fail(_, failure, keep):
            stalled = int(failure.kind is FailureKind.STALLED)
            text = rows.failure_text(failure)
            return {
                "kind": "failed", "state": _F, "failure": text, "more": f",{text}", "refund": stalled,
                "stalls": stalled, **_ended(_F, keep),
            }  # fmt: skip
        case life.Retry(_, delay, failure):
            text = rows.failure_text(failure)
            return {"kind": "retrying", "failure": text, "more": f",{text},{_text(delay)}", **_back(delay)}
        case life.Stall(_, delay, failure):
            text = rows.failure_text(failure)
            return {"kind": "stalled", "failure": text, "refund": 1, "stalls": 1, **_back(delay)}
        case life.Release(_, delay, hold):
            held = _HOLDS[hold] if delay > 0 else 0
            return {"kind": "released", "refund": 1, "releases": 1, "hold": held, **_back(delay)}


def _ended(state: int, keep: float | None) -> dict[str, Any]:
    microseconds = None if keep is None else int(keep * 1_000_000)
    return {"ended": True, "keep": microseconds, "gone": keep == 0, "repeats": [state]}


def _back(delay: float) -> dict[str, Any]:
    return {"state": _D if delay > 0 else _W, "delay": int(delay * 1_000_000)}


def _note(place: int, note: Note, lanes: Lanes) -> dict[str, Any]:
    lease = note.lease
    fact = (lease.job_id, lease.name, lease.attempt)
    return {
        **_known(place, lease, lanes),
        "progress": note.progress,
        "data": note.data,
        "steps": note.steps,
        "fact": None if note.progress is None else _text((*fact, msgspec.Raw(note.progress.encode()))),
        "changed": None if note.data is None else _text(fact),
        "lines": [rows.pure(line[:_MOST_LINE]) for line in note.lines] or None,
    }
