"""How a process hears of what others commit to the same file: by notices of writes, and without them by looking."""

from __future__ import annotations

import asyncio
import sys

import pytest

from muskox.core.job import NewJob
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.sqlite import hub, notices
from tests.runtime.helpers import until

LIMIT = 60

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has inotify")


@pytest.fixture
async def stores_that(tmp_path, monkeypatch):
    """Make two stores on one file with other rests; they know of each other as two processes do, by the file alone."""
    made = []

    async def make(**rests):
        for name, value in rests.items():
            monkeypatch.setattr(hub, name, value)
        for _ in range(2):
            made.append(open_store(f"sqlite:///{tmp_path}/jobs.db", RealWorld()))
            await made[-1].open()
        return made

    yield make
    for store in made:
        await store.close()


async def heard(waiting, adding, id, *, calm=False):
    """Let one wait (`calm`: until it looks for nothing any more) and the other add; returns when it was woken."""
    ringing = asyncio.create_task(waiting.wait(["files"], seconds=3600))
    await until(lambda: waiting._hub._bells and not (calm and waiting._hub._left), LIMIT)
    await adding.add([NewJob(id, "files", "resize")])
    async with asyncio.timeout(LIMIT):
        await ringing


async def test_a_write_is_heard_without_looking_now_and_then(stores_that):
    waiting, adding = await stores_that(LONGEST=3600, FOLLOWED=30)

    for number in range(3):
        await heard(waiting, adding, str(number), calm=True)

    assert waiting._hub._trusted


async def test_where_notices_are_not_given_it_looks_as_often_as_without(stores_that, monkeypatch):
    monkeypatch.setattr(notices, "_IN_MODIFY", 0x400)  # asks for the end of the file alone
    waiting, adding = await stores_that(FOLLOWED=3)

    await heard(waiting, adding, "late", calm=True)
    await heard(waiting, adding, "soon")

    assert waiting._hub._notices.follows
    assert not waiting._hub._trusted
    assert waiting._hub._rest(trusted=False) == hub.BEAT


async def test_where_there_is_no_inotify_it_looks(stores_that, monkeypatch):
    monkeypatch.setattr(sys, "platform", "sunos5")

    waiting, adding = await stores_that()
    for number in range(3):
        await heard(waiting, adding, str(number))

    assert not waiting._hub._notices.follows


async def test_a_store_that_waits_can_be_closed_at_once(stores_that):
    waiting, _ = await stores_that(LONGEST=3600, BEAT=3600)

    ringing = asyncio.create_task(waiting.wait(["files"], seconds=3600))
    await until(lambda: waiting._hub._notices is not None and waiting._hub._notices.follows, LIMIT)

    async with asyncio.timeout(LIMIT):
        await waiting.close()
    ringing.cancel()
