"""Metrics for Prometheus: the figures of the store when they are asked for, and totals and durations out of its events.

It needs the extra `muskox[prometheus]`. The dashboard serves the same at
`/metrics`. What they are called and how many series there may be is fixed here
and in docs/how-to/metrics.md; it opens no port.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.registry import Collector

from muskox import Event, JobState, Muskox, MuskoxError, QueueCounts, WorkerRecord, events
from muskox.contrib._tally import BUCKETS, KINDS, Bounded, Tally, Times

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

log = logging.getLogger("muskox.metrics")

_REST = 5.0
_BY_NAME = ["queue", "name"]

T = TypeVar("T")


class Metrics(Collector):
    """The metrics of a store; register it with a registry of prometheus-client, or give away its `text`.

    Totals and durations are counted while it follows the store's events, in `async with metrics:`, whichever process
    runs the jobs. At most `most_queues` queues and `most_names` job names have series of their own, those that come
    first; all others are one, "other".
    """

    def __init__(self, ox: Muskox, *, most_queues: int = 100, most_names: int = 300) -> None:
        self._ox = ox
        self._queues = Bounded(most_queues)
        self._tally = Tally(self._queues, Bounded(most_names))
        self._answers: dict[tuple[str, ...], Times] = {}
        self._following: Any = None

    @property
    def tally(self) -> Tally:
        """What events have added up to, for whoever reads them already."""
        return self._tally

    async def text(self) -> bytes:
        """All metrics in Prometheus' text format, whose media type is `CONTENT_TYPE_LATEST`."""
        registry = CollectorRegistry()
        registry.register(_Read(await self._read()))
        return generate_latest(registry)

    def collect(self) -> Iterable[Family]:
        """Read the figures for a registry, in a thread that may wait: the one of `start_http_server`, not a loop's."""
        return self._ox.sync.bridge.run(self._read())

    def describe(self) -> Iterable[Family]:
        """Nothing: a registry that takes it in need not ask the store."""
        return ()

    async def __aenter__(self) -> Self:
        """Follow the store's events from now on."""
        store = await self._ox.store()
        [latest] = await store.events(after=-1)
        self._following = self._ox.world.spawn(self._follow(latest.offset), name="muskox metrics")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        following, self._following = self._following, None
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    async def _follow(self, after: int) -> None:
        while True:
            try:
                async for event in self._ox.events(after=after):
                    self._take(event, after)
                    after = event.offset
            except MuskoxError as error:
                log.warning("events cannot be read, they will be asked for again: %s", error)
                await self._ox.world.sleep(_REST)

    def _take(self, event: Event, after: int) -> None:
        if isinstance(event, events.Trimmed):
            self.tally.miss(max(0, event.offset - after))
        else:
            self.tally.take(event)

    async def _read(self) -> list[Family]:
        counts = await self._asked("counts", self._ox.counts())
        workers = await self._asked("workers", self._ox.workers())
        store = await self._ox.store()
        due = await self._asked("schedules", store.schedules(due=True, limit=1000))
        late = [(due.now_us - kept.next_us) / 1e6 for kept in due.kept if kept.next_us is not None]
        return [
            *_of_queues(counts, self._queues),
            *_of_workers(workers),
            GaugeMetricFamily(
                "muskox_schedule_lag_seconds", "How long ago the moment was that a schedule is late for.",
                value=max(late, default=0.0),
            ),
            *_of_events(self.tally),
            _histogram("muskox_store_seconds", "How long the store took to answer.", self._answers, ["verb"]),
        ]  # fmt: skip

    async def _asked(self, verb: str, answer: Awaitable[T]) -> T:
        """Await an answer of the store and count how long it took."""
        begun = self._ox.world.monotonic()
        found = await answer
        self._answers.setdefault((verb,), Times()).add(self._ox.world.monotonic() - begun)
        return found


class _Read(Collector):
    """Families that were read already."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _of_queues(counts: Sequence[QueueCounts], known: Bounded) -> list[Family]:
    jobs: dict[tuple[str, JobState], int] = {}
    held: dict[str, int] = {}
    paused: dict[str, int] = {}
    oldest: dict[str, float] = {}
    for one in counts:
        queue = known(one.queue)
        for state, number in one.states.items():
            jobs[queue, state] = jobs.get((queue, state), 0) + number
        held[queue] = held.get(queue, 0) + one.held
        paused[queue] = paused.get(queue, 0) + one.paused
        oldest[queue] = max(oldest.get(queue, 0.0), one.oldest_waiting or 0.0)
    by_state = GaugeMetricFamily("muskox_jobs", "Jobs that the store keeps, by state.", labels=["queue", "state"])
    for (queue, state), number in jobs.items():
        by_state.add_metric([queue, state], number)
    return [
        by_state,
        _gauge("muskox_held_jobs", "Waiting jobs with a name that no live worker can run.", held),
        _gauge("muskox_paused_queues", "1 where the queue is paused.", paused),
        _gauge("muskox_oldest_waiting_seconds", "Age of the job that has waited longest, 0 when none waits.", oldest),
    ]


def _of_workers(workers: Sequence[WorkerRecord]) -> list[Family]:
    return [
        GaugeMetricFamily("muskox_workers", "Live workers.", value=len(workers)),
        GaugeMetricFamily("muskox_worker_slots", "Slots of all live workers.", value=sum(one.slots for one in workers)),
        GaugeMetricFamily("muskox_busy_slots", "Slots in which a job runs.", value=sum(one.running for one in workers)),
    ]


def _of_events(tally: Tally) -> list[Family]:
    families: list[Family] = []
    for kind, (name, text) in KINDS.items():
        counter = CounterMetricFamily(name, text, labels=["queue", "name"])
        for (its, queue, job), number in tally.totals.items():
            if its == kind:
                counter.add_metric([queue, job], number)
        families.append(counter)
    families.append(_histogram("muskox_run_seconds", "How long runs took that ended.", tally.runs, _BY_NAME))
    families.append(
        _histogram("muskox_start_seconds", "How long jobs waited until they started.", tally.waits, _BY_NAME)
    )
    families.append(
        CounterMetricFamily("muskox_missed_events", "Events that were not read and are not counted.", tally.missed)
    )
    return families


def _gauge(name: str, text: str, values: dict[str, Any]) -> Family:
    family = GaugeMetricFamily(name, text, labels=["queue"])
    for queue, value in values.items():
        family.add_metric([queue], value)
    return family


def _histogram(name: str, text: str, found: Mapping[Any, Times], labels: list[str]) -> Family:
    family = HistogramMetricFamily(name, text, labels=labels)
    bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
    for values, times in found.items():
        family.add_metric(list(values), list(zip(bounds, times.upto(), strict=True)), times.sum)
    return family
