"""Campaigns whose workers are killed, again and again: nobody is left out, nobody is written to twice."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from pathlib import Path

import pytest
from sqlalchemy import func, select

from muskox.apps.mail import tables
from muskox.apps.mail.smtp import SmtpServer, Tls
from tests.apps.notifier.conftest import Notifier, notifier_at, sqlite_in, url_of
from tests.apps.notifier.people import put_on_list
from tests.apps.sink import sink
from tests.processes import Process, environment, forked

pytestmark = pytest.mark.slow

ISSUE = {"list": "newsletter", "context": {"headline_text": "News", "paragraphs": ["Much is new."]}}
PEOPLE = 120
KILLS = 4
SECRET = "a secret of the tests"
CONCURRENCY = 4


@asynccontextmanager
async def worker(folder: Path, url: str, port: int) -> AsyncIterator[Process]:
    """A worker that sends to the sink; it shares nothing with the service but the database."""
    variables = {
        **environment(),
        "MUSKOX_URL": url,
        "DATABASE_URL": sqlite_in(folder) if url.startswith("redis") else "",
        "SECRET": SECRET,
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(port),
        "SMTP_TLS": "none",
        "SMTP_FROM": "a@example.org",
        "LEASE": "1",
        "CONCURRENCY": str(CONCURRENCY),
    }
    said = os.open(folder / "workers.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        process = await forked(
            "muskox.apps.notifier.worker",
            output=said,
            folder=folder,
            variables=variables,
            loaded=["muskox.apps.notifier.services"],
        )
    finally:
        os.close(said)
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def look(here: Notifier, id: str) -> dict:
    """Read a campaign as its page does, and check the sum rule while at it."""
    found = (await here.http.get(f"/campaigns/{id}")).json()
    assert sum(found["counts"].values()) == found["planned"]
    assert min(found["counts"].values()) >= 0
    return found


async def ended(here: Notifier, id: str) -> dict:
    with here.services.bell.listen("any") as ear:
        async with asyncio.timeout(60):
            while (found := await look(here, id))["state"] != "finished":
                await ear.wait(0.1)
    return found


def states_of(here: Notifier, id: str) -> tuple[Counter[str], int]:
    """Count the messages of a campaign by their states, and what was told as ambiguous, from the rows themselves."""
    messages, events = tables.messages.c, tables.events.c
    of = select(messages.id).where(messages.campaign_id == id)
    with here.services.engine.connect().execution_options(reading=True) as connection:
        rows = connection.execute(
            select(messages.state, func.count()).where(messages.campaign_id == id).group_by(messages.state)
        )
        ambiguous = select(func.count()).where(events.type == "ambiguous", events.message_id.in_(of))
        return Counter(dict(rows.all())), connection.execute(ambiguous).scalar_one()


@pytest.mark.parametrize("store", ["sqlite", "postgres", "redis"])
async def test_case_e14_fault_k9_killed_workers_leave_nobody_out_and_write_to_nobody_twice(store, tmp_path):
    """120 people and 4 × `kill -9`, at moments that the mails decide; fewer than the 2 000 and 30 of the case.

    Nobody may get two copies, ever. Who gets none must be told as ambiguous, and of those there are at most as many
    as a killed worker had connections.
    """
    with url_of(store, tmp_path) as url:
        async with (
            sink() as server,
            notifier_at(
                tmp_path,
                url=url,
                database=sqlite_in(tmp_path) if store == "redis" else "",
                secret=SECRET,
                worker=False,
                smtp=SmtpServer("127.0.0.1", server.port, tls=Tls.NONE),
            ) as here,
        ):
            await asyncio.to_thread(put_on_list, here.services, PEOPLE)
            started = await here.http.post("/campaigns", json=ISSUE)
            assert started.status_code == 201, started.text
            id = started.json()["id"]

            for kill in range(KILLS):
                async with worker(tmp_path, url, server.port):
                    enough = kill * PEOPLE // (2 * KILLS) + 1
                    await server.until(lambda enough=enough: len(server.mails) >= enough, seconds=60)
                    await look(here, id)
                await look(here, id)
            async with worker(tmp_path, url, server.port):
                found = await ended(here, id)
            states, ambiguous = await asyncio.to_thread(states_of, here, id)

    copies = Counter(message_from_bytes(mail)["To"] for mail in server.mails)
    assert found["planned"] == PEOPLE
    assert states == {"sent": PEOPLE}
    assert found["counts"]["sent"] == PEOPLE
    assert max(copies.values()) == 1
    assert PEOPLE - len(copies) <= ambiguous <= KILLS * CONCURRENCY
    assert found["ambiguous"] == ambiguous
