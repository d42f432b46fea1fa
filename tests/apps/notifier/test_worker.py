"""Workers of the notifier as processes of their own: they share the work, and may be killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import func, select

from muskox.apps.mail import store, tables
from muskox.apps.mail.states import MessageState
from tests.apps.conftest import post
from tests.apps.notifier.conftest import program
from tests.apps.sink import sink
from tests.processes import forked

pytestmark = pytest.mark.slow


@asynccontextmanager
async def worker(folder, **environment):
    process = await forked(
        "muskox.apps.notifier.worker",
        folder=folder,
        variables={**os.environ, "SECRET": "a secret for workers", **environment},
        loaded=["muskox.apps.notifier.services"],
    )
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


async def working(process) -> None:
    """Wait until a worker says that it takes jobs."""
    async with asyncio.timeout(60):
        while line := await process.stderr.readline():
            if b"takes jobs" in line:
                return
    raise AssertionError("the worker ended before it began")


async def test_a_worker_in_another_process_delivers_and_the_page_hears_of_it(tmp_path):
    import httpx

    secret = {"SECRET": "a secret for workers"}
    async with program(tmp_path, WORKER="0", **secret) as service, worker(tmp_path) as process:
        await working(process)
        async with httpx.AsyncClient(base_url=service.base, timeout=60) as http:
            user = {"email": "ada@example.org", "name": "Ada", "password": "correct horse"}
            id = (await http.post("/users", json=user)).json()["welcome_message_id"]
            heard = ""
            async with http.stream("GET", f"/messages/{id}/events", headers={"accept": "text/event-stream"}) as stream:
                async for line in stream.aiter_lines():
                    heard += line
            assert "delivered" in heard
            assert "event: end" in heard
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0


async def test_case_e14_killed_workers_lose_no_mail_and_repeat_only_what_is_told_as_ambiguous(tmp_path):
    count = 60

    async def all_ended(engine) -> bool:
        with engine.connect() as connection:
            table = tables.messages.c
            query = select(func.count()).where(table.state == MessageState.SENT)
            return connection.execute(query).scalar_one() == count

    async with sink() as server, post(tmp_path, worker=False, port=server.port) as built:
        ids = [await built.asend(to=f"user{number}@example.org") for number in range(count)]
        relay = {
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(server.port),
            "SMTP_TLS": "none",
            "SMTP_FROM": "a@example.org",
            "LEASE": "2",
        }
        for accepted in (3, 12, 20, 35):
            async with worker(tmp_path, **relay) as process:
                await server.until(lambda accepted=accepted: len(server.mails) >= accepted, seconds=60)
                process.kill()
        async with worker(tmp_path, **relay):
            async with asyncio.timeout(100):
                async for _ in built.ox.events(after=0, kinds=("completed",)):
                    if await all_ended(built.engine):
                        break

        with built.engine.connect() as connection:
            found = [event.type for id in ids for event in store.events_after(connection, id, 0)]
        copies = Counter(mail.split(b"Message-ID: ")[1].split(b"\r\n")[0] for mail in server.mails)
        assert len(copies) == count
        assert sum(copies.values()) - count <= found.count("ambiguous")
        assert found.count("sent") == count
