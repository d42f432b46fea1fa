"""Whoever can write into Redis can make jobs fail, and make nothing run that no processor is registered for."""

from __future__ import annotations

import pickle
import subprocess

import pytest

from muskox import JobState, Muskox
from muskox.store.redis.ids import short
from tests.runtime.helpers import until
from tests.servers.valkey import fresh_prefix, shared_server


class Bomb:
    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return subprocess.call, (["touch", self.trace],)


@pytest.mark.parametrize("form", [pickle.dumps, lambda bomb: pickle.dumps(bomb, 0)], ids=["binary", "text"])
async def test_fault_s01_pickled_data_is_never_loaded_and_holds_up_no_other_job(form, tmp_path):
    server, prefix, ran = shared_server(), fresh_prefix(), []
    async with Muskox(f"{server.url}?prefix={prefix}") as ox:
        queue = ox.queue("herd")

        @queue.processor("tread")
        async def tread(index: int) -> None:
            ran.append(index)

        bad = await queue.add("tread", {"index": 1})
        await queue.add("tread", {"index": 2})
        with server.client() as client:
            record = client.hget(f"{{{prefix}}}:jobs:herd", short(bad.id))
            beginning = record[: -len('{"index":1}')]
            client.hset(f"{{{prefix}}}:jobs:herd", short(bad.id), beginning + form(Bomb(tmp_path / "trace")))
        findings = await ox.audit()
        async with ox.worker():
            await until(lambda: ran == [2])
            async for event in queue.events(after=0):
                if event.kind == "failed":
                    break

        assert not (tmp_path / "trace").exists()
        assert (await queue.counts()).states[JobState.FAILED] == 1
        assert [finding.job_id for finding in findings] == ([bad.id] if form is pickle.dumps else [])


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "a..b", "__import__('os').abort()"])
async def test_fault_s02_a_name_is_looked_for_among_processors_and_nowhere_else(name, tmp_path):
    async with Muskox(f"{shared_server().url}?prefix={fresh_prefix()}") as ox:
        queue, ran = ox.queue("herd"), []

        @queue.processor("tread")
        async def tread() -> None:
            ran.append(1)

        await queue.add(name, {"command": f"touch {tmp_path / 'trace'}"})
        await queue.add("tread")
        async with ox.worker():
            await until(lambda: ran == [1])

        assert not (tmp_path / "trace").exists()
        assert (await queue.counts()).states[JobState.WAITING] == 1
