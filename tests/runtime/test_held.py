"""Jobs that no live worker can run wait, and are told of: by event, log and figures."""

from __future__ import annotations

from typing import Any

import pytest

from muskox import ActiveJob, JobState, Muskox
from tests.runtime.helpers import until


async def test_fault_d05_mission_a05_a_job_nobody_can_run_is_held_and_reported(
    filed: Muskox, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("muskox.runtime.presence.BEAT", 0.05)
    queue = filed.queue("email")
    heard: list[Any] = []
    filed.on("held")(heard.append)

    @queue.processor("known")
    async def known() -> str:
        return "done"

    async with filed.worker(), Muskox(url) as other:
        held = await queue.add("unknown", {"n": 1})
        # Nor does it hold up those that can be run.
        assert await queue.result((await queue.add("known")).id, timeout=10) == "done"
        await until(lambda: heard)
        counts = await other.queue("email").counts()
        async for event in other.queue("email").events(after=0, kinds=("held",)):
            told = event
            break

    found = await queue.get(held.id)
    assert found is not None
    assert (found.state, found.attempt) == (JobState.WAITING, 0)
    assert counts.held == 1
    assert len(heard) == 1
    assert told.name == "unknown"  # type: ignore[attr-defined]
    assert "no live worker has a processor" in caplog.text


async def test_a_held_job_runs_once_a_worker_that_knows_it_comes(filed: Muskox, url: str) -> None:
    queue = filed.queue("email")

    @queue.processor("known")
    async def known() -> None:
        return None

    other = Muskox(url)

    @other.queue("email").processor("unknown")
    async def unknown() -> str:
        return "by the other"

    async with filed.worker():
        job = await queue.add("unknown")
        async with other, other.worker():
            result = await queue.result(job.id, timeout=10)

    assert result == "by the other"


async def test_mission_a05_a_default_processor_takes_all_other_names(
    ox: Muskox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muskox.runtime.presence.BEAT", 0.02)
    queue = ox.queue("email")
    heard: list[Any] = []
    ox.on("held")(heard.append)

    @queue.processor("known")
    async def known() -> str:
        return "known"

    @queue.default_processor()
    async def rest(job: ActiveJob) -> str:
        return f"default {job.name}"

    async with ox.worker():
        first = await queue.result((await queue.add("known")).id, timeout=10)
        second = await queue.result((await queue.add("whatever")).id, timeout=10)
        beats = 0
        store = await ox.store()
        while beats < 3:
            await store.workers()
            beats += 1

    assert (first, second) == ("known", "default whatever")
    assert heard == []


async def test_a_worker_is_seen_while_it_lives(filed: Muskox, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muskox.runtime.presence.BEAT", 0.05)
    queue = filed.queue("email")

    @queue.processor("known")
    async def known() -> None:
        return None

    async with Muskox(url) as other:
        async with filed.worker(concurrency=3) as worker:
            await until(lambda: worker._presence is not None)
            records: list[Any] = []
            while not records:
                records = await other.workers()
        after = await other.workers()

    [record] = records
    assert (record.id, record.slots) == (worker.id, 3)
    assert after == []
