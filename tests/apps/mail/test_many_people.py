"""Campaigns to many people: planned exactly whatever dies, and with as much in memory as one chunk needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select

from muskox.apps.mail import tables
from muskox.apps.mail.list_tables import chunks
from muskox.apps.mail.spreading import QUEUE
from tests.apps.mail.test_campaigns import Press, press
from tests.processes import forked

LOADED = ["tests.apps.conftest"]


@dataclass
class Held:
    """How many rows are held, and the most that ever were, or were handed to one statement."""

    now: int = 0
    most: int = 0

    def add(self, n: int) -> None:
        self.now += n
        self.most = max(self.most, self.now)


@contextmanager
def rows_held(engine: Engine) -> Iterator[Held]:
    """Count the rows that came from the database and are still there, and those that are on their way to it."""
    held = Held()

    class Row(tuple[Any, ...]):
        __slots__ = ()

        def __del__(self) -> None:
            held.add(-1)

    def make(_cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Row:
        held.add(1)
        return Row(values)

    def connected(connection: Any, *_: Any) -> None:
        connection.row_factory = make

    def executes(_connection: Any, _cursor: Any, _statement: str, parameters: Any, _context: Any, many: bool) -> None:
        held.most = max(held.most, len(parameters) if many else 1)

    engine.dispose()
    event.listen(engine, "connect", connected)
    event.listen(engine, "before_cursor_execute", executes)
    try:
        yield held
    finally:
        event.remove(engine, "connect", connected)
        event.remove(engine, "before_cursor_execute", executes)


async def spread(here: Press) -> Held:
    """Plan and spread what there is, and send none of it; gives what was in memory meanwhile."""
    count = select(func.count()).select_from(tables.messages)

    def written() -> int:
        with here.post.engine.connect().execution_options(reading=True) as connection:
            return connection.execute(count).scalar_one()

    id = here.start()
    with rows_held(here.post.engine) as held:
        async with here.post.ox.worker(queues=[QUEUE], concurrency=2):
            found = await here.until(id, lambda found: found.state == "sending" and written() == found.planned)
    assert found.planned > 0
    return held


async def test_case_e28_many_people_take_no_more_memory_than_few(tmp_path):
    """2 000 people in 40 chunks beside 100 in two. A million is for `bench campaign`."""
    most = []
    for people in (100, 2_000):
        (folder := tmp_path / str(people)).mkdir()
        async with press(folder, chunk=50) as here:
            here.fill(people)
            most.append((await spread(here)).most)

    assert 50 <= most[0] <= most[1] <= 2 * 50 + 10


@pytest.mark.slow
async def test_case_e28_a_plan_that_is_killed_twice_still_has_everybody_once(tmp_path):
    """3 000 people: killed by -9 while it writes the second piece of the plan, and again in the middle of spreading."""
    async with press(tmp_path, chunk=25) as here:
        here.fill(3_000)
        id = here.start()
        for table, n in (("mail_chunks", 2), ("mail_messages", 40)):
            process = await forked("tests.apps.mail.planner", tmp_path, 25, table, n, loaded=LOADED)
            assert await process.wait() == -9, (await process.communicate())[1].decode()
            found = here.look(id)
            assert found.planned < 3_000 or table == "mail_messages"
        async with here.post.ox.worker(queues=[QUEUE], concurrency=2):
            found = await here.until(id, lambda found: found.state == "sending" and here.rows() == {"queued": 3_000})
        with here.post.engine.connect().execution_options(reading=True) as connection:
            messages = tables.messages.c
            people = connection.execute(select(func.count(messages.address_key.distinct()))).scalar_one()
            planned = connection.execute(select(func.count(), func.sum(chunks.c.people))).one()
        counts = await here.post.ox.queue("mail-bulk").counts()

    assert (found.planned, people, tuple(planned)) == (3_000, 3_000, (120, 3_000))
    assert counts.added == 3_000
