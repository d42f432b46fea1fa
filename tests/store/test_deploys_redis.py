"""Deploys on Redis: releases whose steps have other texts work side by side, since steps are known by their hashes."""

from __future__ import annotations

import asyncio

import pytest

from muskox.core.errors import StoreUnsupported
from muskox.core.job import NewJob
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.redis.scripts import NAMES, script
from tests.processes import finished
from tests.servers.valkey import fresh_prefix, shared_server
from tests.store import deploys, process_texts
from tests.store.reading import figures

OTHER = "tests.store.process_texts"
LIMIT = 60


@pytest.fixture
def clock():
    """The machine's own, since the other processes have no other."""
    return RealWorld()


@pytest.fixture
def prefix():
    return fresh_prefix()


@pytest.fixture
def url(prefix):
    return f"{shared_server().url}?prefix={prefix}"


@pytest.fixture
async def store(url, clock):
    opened = open_store(url, clock)
    await opened.open()
    yield opened
    await opened.close()


def test_fault_v03_a_step_with_another_text_has_another_hash(monkeypatch):
    ours = {name: script(name, flags=True).sha for name in NAMES}
    monkeypatch.setattr("muskox.store.redis.scripts._read", process_texts.other)

    theirs = {name: script.__wrapped__(name, flags=True).sha for name in NAMES}

    assert set(ours.values()).isdisjoint(theirs.values())


async def test_fault_v03_two_releases_drain_one_queue_and_no_job_runs_twice(url, store):
    await store.add([NewJob(str(number), "files", "resize") for number in range(2000)])

    async with asyncio.timeout(LIMIT):
        lines = await asyncio.gather(
            finished("tests.store.process", "drain", url, "ours"), finished(OTHER, "drain", url, "theirs")
        )

    done = [words for process in lines for words in process]
    assert {words[0] for words in done} == {"done"}
    assert sorted(int(words[1]) for words in done) == list(range(2000))
    assert len({words[2] for words in done}) == 2000
    assert await figures(store) == {"completed": 2000}
    assert await store.audit() == []


async def test_fault_v02_fault_v03_scripts_that_are_forgotten_while_two_releases_work_are_told_again(url, store):
    async with deploys.churning(url, "ours") as ours, deploys.churning(url, "theirs", program=OTHER) as theirs:
        for _ in range(3):
            shared_server().tell("SCRIPT", "FLUSH")
            for churner in (*ours, *theirs):
                await churner.goes_on()

    await deploys.all_done_once(store, [*ours, *theirs])


async def test_fault_v01_a_layout_of_a_later_release_is_refused_and_one_without_a_number_is_the_first(
    url, store, prefix, clock
):
    await store.add([NewJob("a", "files", "resize")])
    meta = f"{{{prefix}}}:meta"
    before = shared_server().tell("HGETALL", meta)
    shared_server().tell("HSET", meta, "layout", 2)
    with pytest.raises(StoreUnsupported, match=r"layout 2 .*upgrade Muskox"):
        await open_store(url, clock).open()
    shared_server().tell("HDEL", meta, "layout")

    behind = open_store(url, clock)
    await behind.open()
    await behind.close()

    assert sorted(shared_server().tell("HGETALL", meta)) == sorted(before)
    assert await figures(store) == {"waiting": 1}
