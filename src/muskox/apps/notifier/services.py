"""Builds what the routes and the worker need, from settings, and closes it again.

No globals: one `Services` per application, handed to whoever needs it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from muskox import Muskox, World
from muskox.apps.mail.abandoned import Abandoned
from muskox.apps.mail.bell import Bell
from muskox.apps.mail.catalogue import shipped_templates
from muskox.apps.mail.delivery import Delivery
from muskox.apps.mail.domains import DomainRules
from muskox.apps.mail.inbound import Inbound, read_bounces
from muskox.apps.mail.inbox import Inbox
from muskox.apps.mail.list_links import ListLinks
from muskox.apps.mail.pool import Smtp
from muskox.apps.mail.sending import Mail
from muskox.apps.mail.spreading import Campaigns
from muskox.apps.mail.subscriptions import Tokens
from muskox.apps.mail.worlds import moment_now
from muskox.apps.media.media import Media
from muskox.apps.media.uploads import Uploads
from muskox.apps.media.video.errors import VideoToolsMissing
from muskox.apps.media.video.tools import Tools, find_tools
from muskox.apps.notifier.alerts import Alert, log_alert, watch_failures
from muskox.apps.notifier.engine import create_tables, database_file, open_engine
from muskox.apps.notifier.keys import Keyring, key_in_file, key_in_text
from muskox.apps.notifier.lists import Lists
from muskox.apps.notifier.newsletter import Newsletter
from muskox.apps.notifier.outbox import OutboxJobs
from muskox.apps.notifier.resets import Resets
from muskox.apps.notifier.settings import Settings
from muskox.apps.notifier.tries import count_try, who_of
from muskox.apps.notifier.users import NewUser, add_user, hash_password

__all__ = ["Registered", "Services", "build_services", "run_services"]

P = ParamSpec("P")
R = TypeVar("R")
_HASHES = 4
log = logging.getLogger("muskox.notifier")


@dataclass(frozen=True, slots=True)
class Registered:
    """A new user, and the message that welcomes them."""

    id: str
    email: str
    welcome_message_id: str


@dataclass(frozen=True, slots=True)
class Services:
    """All that belongs to one notifier."""

    settings: Settings
    ox: Muskox
    engine: Engine
    bell: Bell
    mail: Mail
    inbox: Inbox | None
    abandoned: Abandoned
    resets: Resets
    lists: Lists
    campaigns: Campaigns
    keys: Keyring
    passwords: ThreadPoolExecutor
    outbox: OutboxJobs | None
    media: Media
    uploads: Uploads

    async def with_passwords(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run what hashes passwords, a few at a time: each takes 64 MiB, and a flood must not take the machine."""
        return await asyncio.get_running_loop().run_in_executor(self.passwords, partial(function, *args, **kwargs))

    def create_tables(self) -> None:
        """Make the tables that are not there yet. Blocks."""
        create_tables(self.engine)
        self.media.create_tables()
        if self.outbox is not None:
            self.outbox.create_tables()
        self.lists.create_first()

    def too_often(self, what: str, address: str) -> int:
        """Count that a machine asks for something; after how many seconds it may again, 0: now. Blocks."""
        with self.engine.begin() as connection:
            who, now = who_of(self.keys.current, address), self.ox.world.now()
            return count_try(connection, what, who, now, self.settings.asks_per_hour)

    def register(self, user: NewUser) -> Registered:
        """Store a user, the welcome message and its job: all three or none; raises `EmailTaken`. Blocks."""
        hashed = hash_password(user.password)
        id = self.ox.world.new_id()
        with Session(self.engine) as session, session.begin():
            add_user(session.connection(), id, user, hashed, moment_now(self.ox.world))
            sent = self.mail.send(
                "welcome",
                to=user.address,
                display=user.name,
                context={"name": user.name, "email": str(user.address)},
                kind="welcome",
                key=f"welcome/{id}",
                scope="notifier",
                user_id=id,
                within=session,
            )
        return Registered(id, str(user.address), sent.id)


def build_services(settings: Settings, *, world: World | None = None, alert: Alert = log_alert) -> Services:
    """Put everything together; opens nothing but the file with the key."""
    ox = Muskox(settings.url, world=world)
    engine = open_engine(settings.database or settings.url)
    outbox = None if settings.shared else OutboxJobs(ox, engine)
    keys = _keyring(settings, ox.world)
    bell = Bell()
    transport = Inbox(engine, ox.world, bell) if settings.smtp is None else Smtp(settings.smtp, ox.world)
    mail = Mail(
        ox,
        engine,
        transport=transport,
        templates=shipped_templates(),
        sender=settings.sender,
        secret=keys.current,
        site={"product": settings.product, "home_url": f"{settings.public_url}/"},
        jobs=outbox,
        bell=bell,
        bounce_domain=settings.bounce_domain,
        dkim=settings.dkim,
    )
    Delivery(mail, rate=settings.rate, domains=DomainRules(bulk=settings.domain_rate))
    if settings.bounce_maildir is not None:
        read_bounces(Inbound(mail), settings.bounce_maildir)
    tokens = Tokens(*keys.secrets)
    mail.links = ListLinks(tokens, settings.public_url, postal=settings.postal_address)
    campaigns = Campaigns(mail)
    Newsletter(mail, campaigns, settings.newsletter_file, cron=settings.newsletter_cron, tz=settings.newsletter_tz)
    media = Media(ox, engine, _media_folder(settings), tools=_video_tools())
    watch_failures(ox, alert)
    return Services(
        settings=settings,
        ox=ox,
        engine=engine,
        bell=bell,
        mail=mail,
        inbox=transport if isinstance(transport, Inbox) else None,
        abandoned=Abandoned(mail),
        resets=Resets(mail, keys, settings.public_url),
        lists=Lists(mail, tokens, settings.public_url),
        campaigns=campaigns,
        keys=keys,
        passwords=ThreadPoolExecutor(_HASHES, "muskox-passwords"),
        outbox=outbox,
        media=media,
        uploads=Uploads(media),
    )


@asynccontextmanager
async def run_services(services: Services) -> AsyncIterator[Callable[[], None]]:
    """Open the store, make the tables, and work, unless the settings leave that to other processes.

    Gives a function that lets the worker's stop be short: jobs that run are given back at once.
    """
    hurry: Callable[[], None] = _nothing
    async with AsyncExitStack() as stack:
        stack.callback(services.engine.dispose)
        stack.callback(services.mail.close)
        stack.callback(services.passwords.shutdown)
        stack.callback(services.media.close)
        await stack.enter_async_context(services.ox)
        stack.push_async_callback(services.mail.transport.close)
        await asyncio.to_thread(services.create_tables)
        if services.outbox is not None:
            await stack.enter_async_context(services.outbox.relaying())
        if services.settings.worker:
            given_up = await services.abandoned.reconcile()
            if given_up:
                log.warning("%d messages had lost their jobs and were ended", given_up)
            await services.media.sweep()
            await services.uploads.sweep()
            worker = services.ox.worker(concurrency=services.settings.concurrency, lease=services.settings.lease)
            await stack.enter_async_context(worker)
            hurry = partial(worker.stop, now=True)
        stack.callback(services.bell.close)
        yield hurry
    await asyncio.to_thread(services.ox.sync.close)


def _media_folder(settings: Settings) -> Path:
    """Where files are kept: where the settings say, else beside the database."""
    if settings.media_root is not None:
        return settings.media_root
    database = database_file(settings.database or settings.url)
    return (database.parent if database else Path()) / "muskox-media"


@cache
def _video_tools() -> Tools | None:
    """What makes clips, looked for once; without it only pictures are taken."""
    try:
        return find_tools()
    except VideoToolsMissing as error:
        log.warning("clips are not taken here: %s", error)
        return None


def _nothing() -> None:
    """There is no worker here to stop."""


def _keyring(settings: Settings, world: World) -> Keyring:
    if settings.secret:
        current = key_in_text("SECRET", settings.secret)
    else:
        database = database_file(settings.database or settings.url)
        current = key_in_file((database or Path("muskox.db")).with_suffix(".secret"), world)
    previous = [key_in_text("SECRET_PREVIOUS", settings.previous_secret)] if settings.previous_secret else []
    return Keyring([current, *previous])
