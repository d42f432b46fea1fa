"""Puts settlements and notes into the form in which they travel to their steps. It sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from muskox.core import life
from muskox.core.failure import Failure, FailureKind
from muskox.core.job import Lease
from muskox.core.life import Complete, Hold, Settlement
from muskox.store.protocol import Note
from muskox.store.redis.dedup import ended
from muskox.store.redis.ids import Seen, packable, shorts
from muskox.store.redis.records import failure_text

__all__ = ["Settling", "fences", "leases_by_queue", "notes"]

_json = msgspec.json.Encoder()


class Settling:
    """Settlements as `settle.lua` takes them, and which lease has which number in its answer."""

    def __init__(self, settlements: Sequence[Settlement], seen: Seen) -> None:
        plain = [one for one in settlements if type(one) is Complete and one.keep is None and one.unkept is None]
        others: list[Settlement] = []
        if len(plain) < len(settlements) or len({one.lease.token for one in plain}) < len(plain):
            plain, others = _apart(settlements)
        its = _by_queue(plain)
        self.asked = [
            [_together(queue, done, seen) for queue, done in its],
            [_alone(one) for one in others],
            ended(settlements),
        ]
        done = [one.lease for _, its_done in its for one in its_done]
        self.fences = fences(done)
        """The fences of the plain ones, which the packing of ours and theirs has no common form for."""
        self.step = "settle+" if any(map(_is_tied, settlements)) else "settle"
        self._leases = done + [one.lease for one in others]

    def lost(self, numbers: Sequence[int]) -> list[Lease]:
        """The leases that the step called lost."""
        return [self._leases[number - 1] for number in numbers]


def _is_tied(one: Settlement) -> bool:
    return one.lease.tied or (type(one) is life.Release and one.hold is not Hold.JOB)


def _apart(settlements: Sequence[Settlement]) -> tuple[list[Complete], list[Settlement]]:
    """The plain completions, one of each job, and all else, among it what is said twice."""
    plain: dict[tuple[str, str], Complete] = {}
    others: list[Settlement] = []
    for one in settlements:
        key = one.lease.queue, one.lease.job_id
        if type(one) is Complete and one.keep is None and one.unkept is None and key not in plain:
            plain[key] = one
        else:
            others.append(one)
    return list(plain.values()), others


def _by_queue(plain: list[Complete]) -> list[tuple[str, list[Complete]]]:
    queues = {one.lease.queue for one in plain}
    if len(queues) == 1:
        return [(queues.pop(), plain)]
    return [(queue, [one for one in plain if one.lease.queue == queue]) for queue in sorted(queues)]


def _together(queue: str, done: list[Complete], seen: Seen) -> tuple[Any, ...]:
    results = [one.result or "" for one in done]
    return (
        queue,
        shorts(seen.short(one.lease.job_id for one in done)),
        results if any(results) else False,
    )


def _alone(one: Settlement) -> tuple[Any, ...]:
    """queue, kind, id, fence, µs to keep or wait, failure, result, what the fact says more, whether it is a stall, and
    what is held.
    """
    lease = one.lease
    about = lease.queue, type(one).__name__.lower(), packable(lease.job_id), lease.token
    match one:
        case life.Complete(_, result, unkept, keep):
            return (*about, _keep(keep), failure_text(unkept), result or "", "", 0, "")
        case life.Fail(_, failure, keep):
            text = failure_text(failure)
            return (*about, _keep(keep), text, "", text, int(failure.kind is FailureKind.STALLED), "")
        case life.Retry(_, delay, failure):
            return (*about, _wait(delay), failure_text(failure), "", _retrying(failure, delay), 0, "")
        case life.Stall(_, delay, failure):
            return (*about, _wait(delay), failure_text(failure), "", "", 1, "")
        case life.Release(_, delay, hold):
            return (*about, _wait(delay), "", "", "", 0, "" if hold is Hold.JOB else hold.value)


def fences(leases: Sequence[Lease]) -> bytes:
    """The stamps of fences, one after the other."""
    return b"".join([lease.token.to_bytes(7, "big") for lease in leases])


def _keep(seconds: float | None) -> int:
    return -1 if seconds is None else int(seconds * 1_000_000)


def _wait(seconds: float) -> int:
    return max(1, int(seconds * 1_000_000)) if seconds > 0 else 0


def _retrying(failure: Failure, delay: float) -> str:
    return f"{failure_text(failure)},{_json.encode(delay).decode()}"


def leases_by_queue(leases: Sequence[Lease]) -> tuple[list[Any], list[Lease]]:
    """Leases as `renew.lua` takes them, and in the order in which it counts them."""
    queues = dict.fromkeys(lease.queue for lease in leases)
    its = {queue: [lease for lease in leases if lease.queue == queue] for queue in queues}
    groups = [(queue, [packable(lease.job_id) for lease in some]) for queue, some in its.items()]
    return groups, [lease for some in its.values() for lease in some]


def notes(told: Sequence[Note], *, longest: int) -> list[Any]:
    """Notes as `annotate.lua` takes them; lines are cut to `longest` characters."""
    return [
        (
            note.lease.queue, packable(note.lease.job_id), note.lease.token, note.progress or "", note.data or "",
            note.steps or "", [line[:longest] for line in note.lines],
        )
        for note in told
    ]  # fmt: skip
