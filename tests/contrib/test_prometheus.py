"""Metrics for Prometheus: figures of the store, totals and durations out of events, in a bounded number of series."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from muskox import Fixed, Muskox, events
from muskox.contrib._tally import Bounded, Tally
from muskox.contrib.prometheus import Metrics
from muskox.testing import run_jobs
from tests.apps.notifier.conftest import url_of
from tests.runtime.helpers import until

Found = dict[tuple[str, ...], float]


def read(text: bytes, sample: str) -> Found:
    """The values of one kind of sample, by its labels' values in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(text.decode())
        for one in family.samples
        if one.name == sample
    }


@pytest.fixture(params=["sqlite", "postgres", "redis"])
async def ox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Muskox]:
    with url_of(request.param, tmp_path) as url:
        async with Muskox(url) as ox:
            yield ox


async def test_totals_durations_and_figures_are_those_of_the_jobs(ox: Muskox):
    @ox.queue("email").processor("welcome", attempts=2, backoff=Fixed(0.001))
    async def welcome(fail: bool = False) -> None:
        if fail:
            raise RuntimeError("no answer")

    await welcome.add()
    await run_jobs(ox)  # before anybody counts

    async with Metrics(ox) as metrics:
        await welcome.add()
        await welcome.add(fail=True)
        async with ox.worker(poll=0.05):
            await until(lambda: metrics.tally.totals.get(("failed", "email", "welcome")))
            await until(lambda: metrics.tally.totals.get(("completed", "email", "welcome")))
        await ox.queue("email").add("welcome", {}, delay=60)
        text = await metrics.text()

    assert read(text, "muskox_jobs_completed_total") == {("welcome", "email"): 1}
    assert read(text, "muskox_jobs_retried_total") == {("welcome", "email"): 1}
    assert read(text, "muskox_jobs_failed_total") == {("welcome", "email"): 1}
    assert read(text, "muskox_run_seconds_count") == {("welcome", "email"): 3}
    assert read(text, "muskox_start_seconds_count")["welcome", "email"] >= 2
    assert read(text, "muskox_store_seconds_count") == {("counts",): 1, ("workers",): 1, ("schedules",): 1}
    assert read(text, "muskox_schedule_lag_seconds") == {(): 0}
    states = read(text, "muskox_jobs")
    assert (states["email", "completed"], states["email", "failed"], states["email", "delayed"]) == (2, 1, 1)
    assert read(text, "muskox_oldest_waiting_seconds") == {("email",): 0}
    assert read(text, "muskox_missed_events_total") == {(): 0}


async def test_workers_and_their_slots_are_counted(ox: Muskox):
    @ox.queue("email").processor("welcome")
    async def welcome() -> None: ...

    metrics = Metrics(ox)
    async with ox.worker(concurrency=7), asyncio.timeout(20):
        while not await ox.workers():  # noqa: ASYNC110 - its first beat sets no event
            await asyncio.sleep(0.002)
        text = await metrics.text()

    assert read(text, "muskox_workers") == {(): 1}
    assert read(text, "muskox_worker_slots") == {(): 7}
    assert read(text, "muskox_busy_slots") == {(): 0}


def test_a_registry_of_the_program_takes_them_in(tmp_path: Path):
    ox = Muskox(f"sqlite:///{tmp_path / 'jobs.db'}")
    ox.queue("email").sync.add("welcome")
    registry = CollectorRegistry()
    registry.register(Metrics(ox))

    text = generate_latest(registry)

    assert read(text, "muskox_jobs")["email", "waiting"] == 1
    ox.sync.close()


async def test_security_s48_a_hundred_thousand_names_make_no_more_series_than_the_cap():
    tally = Tally(Bounded(100), Bounded(300))

    for number in range(100_000):
        tally.take(events.Waiting(f"queue {number % 1000}", number, 0, f"j{number}", f"name {number}"))
        tally.take(events.Active(f"queue {number % 1000}", number, 1, f"j{number}", f"name {number}"))

    assert sum(tally.totals.values()) == 100_000
    assert len(tally.totals) <= 300 + 101
    assert len(tally.waits) <= 300 + 101
    assert tally.totals["waiting", "other", "other"] > 80_000


async def test_security_s48_names_are_bounded_and_inert(tmp_path: Path):
    strange = 'a"} 1\nmuskox_workers 99 \\'
    async with Muskox(f"sqlite:///{tmp_path / 'jobs.db'}") as ox:
        metrics = Metrics(ox, most_queues=5)
        metrics.tally.take(events.Waiting("queue-000", 1, 0, "j1", strange))
        for number in range(20):
            await ox.queue(f"queue-{number:03}").add("job")

        text = await metrics.text()

    waiting = {queue: value for (queue, state), value in read(text, "muskox_jobs").items() if state == "waiting"}
    assert len(waiting) == 6
    assert (waiting["queue-000"], waiting["other"], sum(waiting.values())) == (1, 15, 20)
    assert read(text, "muskox_jobs_waiting_total") == {(strange, "queue-000"): 1}
    assert read(text, "muskox_workers") == {(): 0}


async def test_what_was_not_read_is_said(tmp_path: Path):
    tally = Tally(Bounded(1), Bounded(1))
    tally.miss(7)

    assert tally.missed == 7


async def test_the_dashboard_for_grafana_shows_what_there_is(ox: Muskox):
    @ox.queue("email").processor("welcome")
    async def welcome() -> None: ...

    async with Metrics(ox) as metrics:
        await welcome.add()
        await run_jobs(ox)
        await until(lambda: metrics.tally.totals.get(("completed", "email", "welcome")))
        families = [*text_string_to_metric_families((await metrics.text()).decode())]
    # A total that nothing was counted in yet has no sample, but its family is there.
    exported = {one.name for family in families for one in family.samples}
    exported |= {f"{family.name}_total" for family in families if family.type == "counter"}
    dashboard = json.loads((Path(__file__).parents[2] / "docs" / "grafana.json").read_text())

    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

    used = {name for expression in asked for name in re.findall(r"muskox_\w+", expression)}
    assert len(used) >= 15
    assert used <= exported
