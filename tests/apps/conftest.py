"""A mail application on a file of its own, with a worker, for the tests of this room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from muskox import Job, Muskox, World
from muskox.apps.mail import store
from muskox.apps.mail.abandoned import Abandoned
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.bell import Bell
from muskox.apps.mail.breaker import BreakerRules
from muskox.apps.mail.catalogue import shipped_templates
from muskox.apps.mail.compose import Sender
from muskox.apps.mail.delivery import Delivery
from muskox.apps.mail.inbox import Inbox
from muskox.apps.mail.pool import Smtp
from muskox.apps.mail.sending import Mail
from muskox.apps.mail.smtp import SmtpServer, Timeouts, Tls
from muskox.apps.mail.states import FINAL
from muskox.apps.notifier.engine import create_tables, open_engine

SITE = {"product": "Muskox", "home_url": "https://app.example.org/"}
WELCOME = {"name": "Ada", "email": "ada@example.org"}
QUICK = Timeouts(connect=5, greeting=5, command=5, block=5, commit=5)


@dataclass
class Post:
    """Everything a test of mail needs, wired together."""

    ox: Muskox
    engine: Engine
    mail: Mail
    delivery: Delivery
    abandoned: Abandoned

    def message(self, id: str) -> store.Message:
        with self.engine.connect() as connection:
            message = store.get(connection, id)
        assert message is not None
        return message

    def events(self, id: str) -> list[store.Event]:
        with self.engine.connect() as connection:
            return store.events_after(connection, id, 0)

    def send(self, template: str = "welcome", **options: Any) -> str:
        given = {"to": "ada@example.org", "kind": "welcome", "context": WELCOME, **options}
        return self.mail.send(template, **given).id

    async def asend(self, *args: Any, **options: Any) -> str:
        return await asyncio.to_thread(self.send, *args, **options)

    async def until(self, id: str, condition: Callable[[store.Message], bool], seconds: float = 20.0) -> store.Message:
        """Wait until a message is as it should be."""
        with self.mail.bell.listen(id) as ear:
            async with asyncio.timeout(seconds):
                while not condition(message := await asyncio.to_thread(self.message, id)):
                    await ear.wait(0.2)
        return message

    async def until_job(self, id: str, state: str, seconds: float = 20.0) -> Job:
        """Wait until the first job of a message is in a state."""
        queue = self.ox.queue((await asyncio.to_thread(self.message, id)).queue)
        async with asyncio.timeout(seconds):
            async for _ in queue.events(after=0):
                job = await queue.get(id)
                if job is not None and job.state == state:
                    return job
        raise AssertionError("the events ended")

    async def ended(self, id: str) -> store.Message:
        return await self.until(id, lambda message: message.state in FINAL)


@asynccontextmanager
async def post(
    folder: Path, *, port: int | None = None, worker: bool = True, world: World | None = None, **options: Any
) -> AsyncIterator[Post]:
    """Run mail on a file in `folder`: to the SMTP server on `port`, else into the inbox."""
    ox = Muskox(f"sqlite:///{folder / 'muskox.db'}", world=world)
    engine = open_engine(ox.url)
    create_tables(engine)
    bell = Bell()
    server = {"tls": Tls.NONE, "timeouts": QUICK, **options.pop("server", {})}
    smtp = Smtp(SmtpServer("127.0.0.1", port or 0, **server), ox.world, **options.pop("pool", {}))
    mail = Mail(
        ox,
        engine,
        transport=Inbox(engine, ox.world, bell) if port is None else smtp,
        templates=options.pop("templates", shipped_templates()),
        sender=Sender(parse_address("no-reply@example.org"), "Muskox"),
        secret=b"a secret of thirty-two bytes, yes",
        site=SITE,
        bell=bell,
        **options.pop("mail", {}),
    )
    rules = options.pop("breaker", BreakerRules(faults=1_000, first_probe=0.05))
    delivery = Delivery(mail, breaker=rules, **options.pop("delivery", {}))
    built = Post(ox, engine, mail, delivery, Abandoned(mail))
    try:
        async with ox:
            if worker:
                async with ox.worker(concurrency=4, **options):
                    yield built
            else:
                yield built
    finally:
        await mail.transport.close()
        mail.close()
        engine.dispose()
        await asyncio.to_thread(ox.sync.close)


@pytest.fixture
async def with_inbox(tmp_path: Path) -> AsyncIterator[Post]:
    async with post(tmp_path) as built:
        yield built
