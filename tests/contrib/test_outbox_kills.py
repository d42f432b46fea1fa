"""The relay is killed with -9 at each of its points: nothing is lost and nothing doubled, not even what is not kept."""

from __future__ import annotations

import asyncio
import random

import pytest

from muskox.contrib import _relay
from tests import engines, processes
from tests.contrib.conftest import rows
from tests.contrib.relaying import POINTS

pytestmark = pytest.mark.slow
LIMIT = 60


def relaying(outbox, database, point):
    url = engines.engine(database.url).url.render_as_string(hide_password=False)
    return processes.started("tests.contrib.relaying", url, database.table, outbox.ox.url, point)


async def relay_all(outbox, engine):
    while rows(engine, outbox.tables.jobs.name):
        await outbox.relay()
    await outbox.relay()


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_point_of_its_turn(outbox, ox, engine, database, herd, point):
    emails = ox.queue("email")
    with engine.begin() as tx:
        ids = [new.id for new in outbox.sync.add_many(tx, [emails.new("welcome") for _ in range(10)])]

    async with asyncio.timeout(LIMIT), relaying(outbox, database, point) as process:
        await process.wait()
        assert process.returncode == -9
    await herd.run()  # what is there has run and is gone before the next relay comes
    assert sum(herd.ran.values()) == (0 if point == "before the add" else 4)
    await relay_all(outbox, engine)

    assert await herd.run() == dict.fromkeys(ids, 1)
    assert (await ox.queue(_relay.QUEUE).counts()).total == 0


async def test_killed_again_and_again_while_jobs_are_added_and_run(outbox, ox, engine, database, herd):
    emails, dice, ids = ox.queue("email"), random.Random(7), []
    async with asyncio.timeout(LIMIT):
        for _ in range(6):
            async with relaying(outbox, database, "") as process:
                await processes.until(process, "ready")
                for _ in range(dice.randrange(1, 12)):
                    with engine.begin() as tx:
                        new = outbox.sync.add_many(tx, [emails.new("welcome") for _ in range(dice.randrange(1, 9))])
                    ids += [one.id for one in new]
                    await process.stdout.readline()
                    await herd.run()
                process.kill()
                await process.wait()
        await relay_all(outbox, engine)

    assert await herd.run() == dict.fromkeys(ids, 1)
    assert (await ox.queue(_relay.QUEUE).counts()).total == 0
