"""Live figures out of events: how many jobs ended per second and minute, and how long they waited and ran.

In memory only, for the process that shows them; bounded whatever happens.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from muskox import Event, events

__all__ = ["Pulse"]

SECONDS = 300
MINUTES = 24 * 60
_MOST_OPEN = 20_000
_MOST_TIMES = 1000
_KINDS = ("completed", "failed", "retrying", "waiting")


class Pulse:
    """What happened lately, in all and by queue."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seconds: OrderedDict[int, dict[tuple[str, str], int]] = OrderedDict()
        self._minutes: OrderedDict[int, dict[tuple[str, str], int]] = OrderedDict()
        self._waiting: OrderedDict[str, int] = OrderedDict()
        self._active: OrderedDict[str, int] = OrderedDict()
        self._waits: deque[float] = deque(maxlen=_MOST_TIMES)
        self._runs: deque[float] = deque(maxlen=_MOST_TIMES)
        self._lately: deque[str] = deque(maxlen=_MOST_TIMES)
        self.estimated = False
        """Whether some figures are estimates, since there were more events than could be read."""

    def take(self, event: Event) -> None:
        """Count an event."""
        self._lately.append(event.kind if event.kind in _KINDS else "")
        if event.kind in _KINDS:
            self._count(event.at_us, event.queue, event.kind, 1)
        match event:
            case events.Waiting(job_id=id):
                _put(self._waiting, id, event.at_us)
            case events.Active(job_id=id):
                since = self._waiting.pop(id, None)
                if since is not None:
                    self._waits.append((event.at_us - since) / 1e6)
                _put(self._active, id, event.at_us)
            case events.Completed(job_id=id) | events.Failed(job_id=id) | events.Retrying(job_id=id):
                since = self._active.pop(id, None)
                if since is not None:
                    self._runs.append((event.at_us - since) / 1e6)
            case _:
                pass

    def skip(self, number: int) -> None:
        """Count events that were not read as if they were like the latest that were, evenly up to now."""
        self.estimated = True
        now, last = int(self._now()), next(reversed(self._seconds), int(self._now()))
        span = range(max(last, now - SECONDS), now + 1) or range(now, now + 1)
        for kind in _KINDS:
            share = sum(one == kind for one in self._lately) / max(1, len(self._lately))
            each, rest = divmod(round(number * share), len(span))
            for at in span:
                self._count(at * 1_000_000, "", kind, each + (at - span.start < rest))

    def rates(self) -> dict[str, float]:
        """Jobs per second over the last ten whole seconds, by kind, and by `queue/kind`."""
        now = int(self._now())
        found: dict[str, float] = {}
        for second, counts in self._seconds.items():
            if now - 10 <= second < now:
                for (queue, kind), number in counts.items():
                    found[kind] = found.get(kind, 0.0) + number / 10
                    if queue:
                        found[f"{queue}/{kind}"] = found.get(f"{queue}/{kind}", 0.0) + number / 10
        return {name: round(rate, 2) for name, rate in found.items()}

    def chart(self, span: str, queue: str | None = None) -> dict[str, Any]:
        """The figures for a chart: `5m` by the second (in steps of two), `1h` by the minute, `24h` by ten minutes."""
        step, most, source = {
            "5m": (2, SECONDS, self._seconds),
            "1h": (60, 3600, self._minutes),
            "24h": (600, 86_400, self._minutes),
        }[span]
        end = (int(self._now()) // step + 1) * step
        begin = end - most // step * step
        series = {kind: [0] * (most // step) for kind in ("completed", "failed", "waiting")}
        for at, counts in source.items():
            if begin <= at < end:
                for (owner, kind), number in counts.items():
                    if kind in series and queue in (None, owner):
                        series[kind][(at - begin) // step] += number
        return {"begin": begin, "step": step, "series": series, "estimated": self.estimated}

    def times(self) -> dict[str, float | None]:
        """Seconds that the latest jobs waited and ran: the middle one, and the one that 95 % are not slower than."""
        found: dict[str, float | None] = {}
        for name, times in (("wait", self._waits), ("run", self._runs)):
            ordered = sorted(times)
            for label, share in (("p50", 0.5), ("p95", 0.95)):
                found[f"{name}_{label}"] = (
                    ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None
                )
        return found

    def _count(self, at_us: int, queue: str, kind: str, number: int) -> None:
        second = at_us // 1_000_000
        _add(self._seconds, second, (queue, kind), number, keep=SECONDS + 60)
        _add(self._minutes, second // 60 * 60, (queue, kind), number, keep=MINUTES + 10)


def _add(
    where: OrderedDict[int, dict[tuple[str, str], int]], at: int, key: tuple[str, str], number: int, *, keep: int
) -> None:
    counts = where.setdefault(at, {})
    counts[key] = counts.get(key, 0) + number
    _shrink(where, keep)


def _put(where: OrderedDict[str, int], id: str, at_us: int) -> None:
    where[id] = at_us
    _shrink(where, _MOST_OPEN)


def _shrink(where: OrderedDict[Any, Any], most: int) -> None:
    while len(where) > most:
        where.popitem(last=False)
