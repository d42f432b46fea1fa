"""What a Redis server may lose, by a power cut or by being emptied, and whom it may cut off."""

from __future__ import annotations

import contextlib
import socket

import pytest

from muskox.core.errors import StoreUnavailable
from muskox.core.events import Trimmed
from muskox.core.job import NewJob
from muskox.core.life import Complete
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Want
from tests.servers.valkey import HOST, fresh_prefix, running
from tests.store.reading import events, figures
from tests.store.test_faults_redis import opened

FILES = [Want("files")]
EVERY_SECOND = ("--appendonly", "yes", "--appendfsync", "everysec")


def new(*ids):
    return [NewJob(id, "files", "resize", data='{"path": "a.png"}') for id in ids]


@pytest.mark.parametrize("torn", [0, 1, 40])
async def test_fault_r02_after_a_power_cut_all_is_there_that_was_confirmed_by_the_disk(torn):
    """The power cut is staged by cutting off what was written after the confirmation, also within a command.

    What cannot be staged here is a disk that says it has what it does not have.
    """
    with running(*EVERY_SECOND) as server:
        prefix = fresh_prefix()
        async with opened(server, prefix=prefix, durability="fsync") as store:
            await store.add(new(*(f"sure-{number}" for number in range(20))))
            [job] = await store.claim(FILES, limit=1, worker="w", lease=30)
            await store.settle([Complete(job.lease)])
        [file] = server.folder.glob("appendonlydir/*.incr.aof")
        confirmed = file.stat().st_size
        async with opened(server, prefix=prefix) as store:
            for number in range(20):
                await store.add(new(f"perhaps-{number}"))
        server.kill()
        with file.open("r+b") as kept:
            kept.truncate(confirmed + torn)
        server.start()

        async with opened(server, prefix=prefix) as store:
            assert await figures(store) == {"waiting": 19, "completed": 1}
            assert await store.audit() == []


async def test_fault_r02_what_a_power_cut_takes_at_level_default_is_the_end_in_one_piece():
    with running(*EVERY_SECOND) as server:
        prefix = fresh_prefix()
        async with opened(server, prefix=prefix) as store:
            for number in range(50):
                await store.add(new(f"{number:02}"))
        server.kill()
        [file] = server.folder.glob("appendonlydir/*.incr.aof")
        with file.open("r+b") as kept:
            kept.truncate(file.stat().st_size * 2 // 3)
        server.start()

        async with opened(server, prefix=prefix) as store:
            left = [job.id for job in await store.claim(FILES, limit=100, worker="w", lease=30)]
            assert 20 < len(left) < 50
            assert left == [f"{number:02}" for number in range(len(left))]
            assert await store.audit() == []


async def test_fault_r03_a_follower_of_events_hears_of_a_server_that_lost_everything():
    with running() as server:
        async with opened(server) as store:
            await store.add(new("a", "b", "c"))
            seen = (await events(store))[-1].offset
            server.kill()
            server.start()
            with contextlib.suppress(StoreUnavailable):  # where the end of the old connection was not noticed yet
                await store.counts()

            [told] = await store.events(after=seen)
            await store.add(new("d"))
            [follows] = await store.events(after=told.offset, seconds=5)

            assert (type(told), told.offset, follows.job_id) == (Trimmed, 0, "d")


async def test_fault_r13_whoever_reads_events_is_not_cut_off_for_a_long_answer():
    """Hints cannot pile up for a slow listener, since each is asked for anew; long answers could."""
    with running("--client-output-buffer-limit", "normal 300kb 0 0") as server:
        async with opened(server) as store:
            for first in range(0, 20_000, 1000):
                await store.add(new(*(f"{first + number:020}" for number in range(1000))))

            assert [event.offset for event in await events(store)] == list(range(1, 20_001))
            assert server.tell("INFO", "stats")["client_output_buffer_limit_disconnections"] == 0


async def test_fault_n06_a_name_is_looked_up_again_and_all_its_addresses_are_tried(monkeypatch):
    with running() as server:
        found = socket.getaddrinfo
        answers = [socket.gaierror("no such name"), ["127.0.0.9"], ["127.0.0.9", HOST]]

        def looked_up(host, port, *rest, **more):
            if host != "store.example":
                return found(host, port, *rest, **more)
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return [entry for address in answer for entry in found(address, port, type=socket.SOCK_STREAM)]

        monkeypatch.setattr(socket, "getaddrinfo", looked_up)
        store = open_store(f"redis://store.example:{server.port}/0?prefix={fresh_prefix()}", RealWorld())
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await store.open()
            await store.open()
            assert [added.created for added in await store.add(new("a"))] == [True]
        finally:
            await store.close()
