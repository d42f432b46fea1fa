"""Streams: events with filters, taken up again where they were, and figures for all who watch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from muskox import Muskox
from muskox.testing import FlakyStore, run_jobs
from muskox.web import create_app
from muskox.web.hub import Told, Watch
from tests.web.conftest import Dashboard, client, program_at, served

Message = tuple[str, str, Any]


@pytest.fixture
async def base(anywhere: Dashboard) -> AsyncIterator[str]:
    async with served(anywhere.app) as base:
        yield base


async def messages(base: str, path: str, number: int, headers: dict[str, str] | None = None, ready: Any = None):
    """The first messages of a stream: (event, id, data); `ready` is done once the stream is open."""
    found: list[Message] = []
    async with (
        asyncio.timeout(20),
        httpx.AsyncClient(timeout=None) as http,
        http.stream("GET", base + path, headers=headers or {}) as answer,
    ):
        assert answer.status_code == 200
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if line.startswith(": following") and ready is not None:
                await ready()
            name, _, value = line.partition(": ")
            fields[name] = value
            if not line and "data" in fields:
                found.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
                fields = {}
                if len(found) == number:
                    return found
    raise AssertionError(found)


async def test_mission_e1_events_are_told_as_they_happen_through_filters(anywhere: Dashboard, base: str):
    async def work() -> None:
        await anywhere.ox.queue("files").add("resize")
        await anywhere.ox.queue("email").add("welcome", {"fail": True}, id="j1")
        await run_jobs(anywhere.ox)

    found = await messages(base, "/api/events?queue=email&kind=active&kind=failed", 2, ready=work)

    assert [(kind, data["job"]) for kind, _, data in found] == [("active", "j1"), ("failed", "j1")]
    assert found[1][2]["text"] == "RuntimeError"
    assert [int(id) for _, id, _ in found] == sorted({int(id) for _, id, _ in found})


async def test_fault_e2_a_client_that_comes_back_is_given_exactly_what_it_missed(anywhere: Dashboard, base: str):
    queue = anywhere.ox.queue("email")
    [first] = await messages(base, "/api/events", 1, ready=lambda: queue.add("welcome", {}, id="a"))
    await queue.add_many([queue.new("welcome", {}, id=id) for id in "bcd"])

    found = await messages(base, "/api/events", 3, {"Last-Event-ID": first[1]})

    assert [data["job"] for _, _, data in found] == ["b", "c", "d"]


async def test_who_comes_fresh_is_told_nothing_of_the_past(program: Muskox):
    queue = program.queue("email")
    await queue.add_many([("welcome", {})] * 50)
    async with served(create_app(program)) as base:  # mounted, it follows only once somebody watches
        [(_, _, data)] = await messages(base, "/api/events", 1, ready=lambda: queue.add("welcome", {}, id="new"))

    assert data["job"] == "new"


@pytest.mark.parametrize("last", ["garbage", "-1", "99999999999", "٣"])
async def test_fault_e2_a_client_whose_place_is_not_known_is_told_to_begin_anew(program: Muskox, last: str):
    async with served(create_app(program)) as base:
        queue = program.queue("email")
        await queue.add("welcome")
        found = await messages(
            base, "/api/events", 2, {"Last-Event-ID": last.encode()}, ready=lambda: queue.add("welcome", id="new")
        )

    assert [(kind, data["job"]) for kind, _, data in found] == [("reset", ""), ("waiting", "new")]


async def test_fault_e1_a_client_that_does_not_read_costs_a_bounded_buffer_and_is_told_of_the_gap():
    watch = Watch(lambda told: told.kind == "waiting", after=0)
    for offset in range(1, 2752):
        watch.put(Told("waiting", offset))
        watch.put(Told("active", offset))
    watch.end()

    found = [told async for told in watch.stream()]

    assert found[0].kind == "gap"
    assert found[0].text.startswith("2500 events")
    assert [told.offset for told in found[1:]] == list(range(2501, 2752))


async def test_the_store_is_asked_once_however_many_watch_the_figures(tmp_path):
    ox = program_at(f"sqlite:///{tmp_path / 'jobs.db'}")
    app = create_app(ox)
    asked = 0
    look = app.state.desk.ticker._look

    async def counted() -> str:
        nonlocal asked
        asked += 1
        return await look()

    app.state.desk.ticker._look = counted
    async with served(app) as base:
        found = await asyncio.gather(*(messages(base, "/api/live", 2) for _ in range(10)))

    assert {kind for one in found for kind, _, _ in one} == {"overview"}
    assert asked < 20  # for each message of each of them it would be asked as often as that


async def test_figures_begin_with_what_the_store_remembers(board: Dashboard):
    await board.ox.queue("email").add_many([("welcome", {})] * 7)
    await run_jobs(board.ox)
    async with asyncio.timeout(20):
        while board.app.state.desk.hub.offset < 21:  # each of the seven waited, ran and ended
            await asyncio.to_thread(lambda: None)

    chart = (await board.http.get("/api/chart?span=1h")).json()
    assert len(chart["series"]["completed"]) == 60
    assert sum(chart["series"]["completed"]) == 7


async def test_fault_e3_a_store_that_is_away_is_said_at_once():
    ox = program_at("sqlite://:memory:")
    async with ox, client(create_app(ox)) as http:
        ox.wrap_store(FlakyStore).down = True
        answer = await http.get("/api/overview")
        ready, live = await http.get("/health/ready"), await http.get("/health/live")

    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "store_unavailable", "2")
    assert (ready.status_code, live.status_code) == (503, 200)
