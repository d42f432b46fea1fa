"""Figures of the past over HTTP: from the store, so that they are there after everything was restarted."""

from __future__ import annotations

from pathlib import Path

from muskox import Muskox
from muskox.core.history import Sample, Sums
from muskox.testing import FakeWorld
from tests.web.conftest import Dashboard, dashboard_on

RAN = {"completed": 7, "failed": 1, "w150": 8, "r160": 8}


async def recorded(ox: Muskox, *samples: Sample) -> None:
    store = await ox.store()
    await store.record([Sums("email", "", RAN), Sums("email", "welcome", RAN)], samples)


async def test_charts_survive_a_restart_of_everything(tmp_path: Path):
    world = FakeWorld(seed=1)
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    async with Muskox(url, world=world) as ox:
        await recorded(ox, Sample("email", 4, 0, 0, 1, 12, oldest=30.0))
    world.advance(600)

    async with Muskox(url, world=world) as ox, dashboard_on(ox) as board:
        past = (await board.http.get("/api/metrics/history?span=1h")).json()

    assert len(past["series"]["completed"]) == 60
    assert sum(past["series"]["completed"]) == 7
    assert past["series"]["completed"].index(7) == 49
    assert [value for value in past["series"]["waiting"] if value is not None] == [4]
    [total] = past["totals"]
    assert (total["queue"], total["added"], total["failed"], total["oldest"]) == ("email", 12, 1, 30.0)
    assert total["times"]["run_p50"] > total["times"]["wait_p50"] > 0


async def test_the_names_of_one_queue_are_told(board: Dashboard):
    await recorded(board.ox)

    past = (await board.http.get("/api/metrics/history?span=7d&queue=email")).json()

    assert [(one["queue"], one["name"], one["completed"]) for one in past["totals"]] == [("email", "welcome", 7)]
    assert sum(past["series"]["completed"]) == 7
    other = (await board.http.get("/api/metrics/history?queue=files")).json()
    assert (other["totals"], set(other["series"]["completed"])) == ([], {0})


async def test_another_span_is_refused(board: Dashboard):
    answer = await board.http.get("/api/metrics/history?span=1y")

    assert answer.status_code == 422
