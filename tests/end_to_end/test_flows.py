"""Flows and batches whose workers are killed: everything is run, and what follows is added exactly once."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muskox import Flow, FlowState, JobState
from muskox.runtime.world import RealWorld
from tests.end_to_end.conftest import MAIN, Yard, fenced

CHILDREN = 2000
LEASE = 1.0


@pytest.fixture(params=MAIN)
async def each(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Yard]:
    async with MAIN[request.param](tmp_path, RealWorld()) as (url, _), fenced(Yard(tmp_path, url)) as made:
        yield made


async def ended(yard: Yard, id: str) -> None:
    """Wait until a flow has ended."""
    async with asyncio.timeout(90):
        while (await yard.ox.flows.get(id)).ended_us is None:  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.05)


@pytest.mark.timeout(240)
async def test_fault_q07_what_follows_a_batch_is_added_once_though_workers_are_killed(each):
    yard = each
    new = yard.queue.new
    async with yard.ox.batch("batch", completed=new("quick", id="done"), settled=new("quick", id="over")) as batch:
        await batch.add_many(new("quick", id=f"job-{number}", max_stalls=50) for number in range(CHILDREN))
    for kill in (1, 2):
        worker = await yard.start(lease=LEASE, concurrency=20)
        await yard.until(lambda limit=kill * 300: len(yard.facts("end")) > limit)
        worker.send(signal.SIGKILL)
        await worker.gone()
    await yard.start(lease=LEASE, concurrency=20)

    await ended(yard, "batch")

    found = await yard.ox.flows.get("batch")
    assert (found.total, found.completed) == (CHILDREN, CHILDREN)
    assert (found.completed_added, found.settled_added) == (True, True)
    for id in ("done", "over"):
        assert (await yard.ended(id)).state is JobState.COMPLETED
    endings = Counter(id for _, id in await yard.all_endings())
    assert len(endings) == CHILDREN + 2
    assert set(endings.values()) == {1}


@pytest.mark.parametrize("gate", ["settle:1:before", "settle:1:after", "settle:2:after", "claim:2:after"])
async def test_fault_q07_a_child_is_neither_stuck_nor_released_twice_by_a_kill(yard, gate):
    new = yard.queue.new
    flow = Flow("flow")
    top = flow.add(new("quick", id="top", max_stalls=50))
    middle = [flow.add(new("quick", id=f"middle-{number}", max_stalls=50), after=top) for number in range(20)]
    flow.add(new("quick", id="end", max_stalls=50), after=middle)
    await yard.ox.flows.add(flow)
    killed = await yard.start_only(lease=LEASE, shutdown_timeout=20, concurrency=5, gate=gate)
    await killed.gone()
    await yard.start(lease=LEASE, concurrency=5)

    await ended(yard, "flow")

    found = await yard.ox.flows.get("flow")
    assert (found.state, found.completed) == (FlowState.COMPLETED, 22)
    endings = Counter(id for _, id in await yard.all_endings())
    assert len(endings) == 22
    assert set(endings.values()) == {1}
    started = [line[1] for line in yard.facts("start")]
    assert started[0] == "top"
    assert set(started[started.index("end") :]) == {"end"}
