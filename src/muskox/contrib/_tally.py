"""Totals and durations out of events, in a bounded number of series. It reads no store and knows no format."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Hashable
from itertools import accumulate

from muskox import Event, JobEvent, events

__all__ = ["BUCKETS", "KINDS", "OTHER", "Bounded", "Tally", "Times"]

OTHER = "other"
"""What all are called that came when there were enough of them."""

KINDS = {
    "waiting": ("muskox_jobs_waiting", "Times that a job came to wait: added, due, or tried again."),
    "completed": ("muskox_jobs_completed", "Jobs that were completed."),
    "retrying": ("muskox_jobs_retried", "Attempts that failed and are followed by another."),
    "failed": ("muskox_jobs_failed", "Jobs that failed for good."),
    "stalled": ("muskox_jobs_stalled", "Runs whose lease ran out."),
}
"""Kinds of events that are counted, and the names of their totals, to which Prometheus adds `_total`."""

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
"""Upper bounds of durations in seconds; one more bucket takes all above."""

_MOST_OPEN = 20_000
"""So many of the latest jobs that wait, or run, are remembered until that is over."""


class Bounded:
    """Gives the first `most` values as they are, and all others as "other"."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[Hashable] = set()

    def __call__(self, value: str, whose: str = "") -> str:
        """The value, or "other"; the same value of another owner is another one."""
        key = (whose, value)
        if key in self._known:
            return value
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(key)
        return value


class Times:
    """How many durations fell into each bucket."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def upto(self) -> list[int]:
        """How many were not longer than each bound; in the end, how many there were."""
        return list(accumulate(self._counts))


class Tally:
    """What events added up to."""

    def __init__(self, queues: Bounded, names: Bounded) -> None:
        self._queues = queues
        self._names = names
        self._waiting: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._active: OrderedDict[tuple[str, str], int] = OrderedDict()
        self.totals: dict[tuple[str, str, str], int] = {}
        """How often, by kind, queue and job name."""
        self.waits: dict[tuple[str, str], Times] = {}
        """From waiting to active, by queue and job name."""
        self.runs: dict[tuple[str, str], Times] = {}
        """From active to the end of the run, by queue and job name."""
        self.missed = 0
        """Events that were not read."""

    def take(self, event: Event) -> None:
        """Count an event."""
        if not isinstance(event, JobEvent):
            return
        queue = self._queues(event.queue)
        whose = queue, self._names(event.name, queue)
        if event.kind in KINDS:
            key = (event.kind, *whose)
            self.totals[key] = self.totals.get(key, 0) + 1
        job = (event.queue, event.job_id)
        match event:
            case events.Waiting():
                _put(self._waiting, job, event.at_us)
            case events.Active():
                _measure(self.waits, whose, self._waiting.pop(job, None), event.at_us)
                _put(self._active, job, event.at_us)
            case events.Completed() | events.Failed() | events.Retrying():
                _measure(self.runs, whose, self._active.pop(job, None), event.at_us)
            case events.Stalled() | events.Released() | events.Cancelled() | events.Removed():
                self._waiting.pop(job, None)
                self._active.pop(job, None)
            case _:
                pass

    def miss(self, number: int) -> None:
        """Count events that were not read."""
        self.missed += number


def _measure(where: dict[tuple[str, str], Times], whose: tuple[str, str], since: int | None, at_us: int) -> None:
    if since is not None:
        where.setdefault(whose, Times()).add(max(0, at_us - since) / 1e6)


def _put(where: OrderedDict[tuple[str, str], int], job: tuple[str, str], at_us: int) -> None:
    where[job] = at_us
    if len(where) > _MOST_OPEN:
        where.popitem(last=False)
