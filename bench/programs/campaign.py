"""A list of many people, and the planning of a campaign to it: how long it takes and by how much it has grown us."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import insert

from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.campaigns import get_campaign
from muskox.apps.mail.compose import Sender
from muskox.apps.mail.list_tables import subscriptions
from muskox.apps.mail.spreading import QUEUE
from muskox.apps.mail.subscriptions import Status
from muskox.apps.mail.worlds import moment_now
from muskox.apps.notifier.lists import NEWSLETTER
from muskox.apps.notifier.services import Services, build_services
from muskox.apps.notifier.settings import Settings

__all__ = ["fill", "plan"]

PIECE = 5_000
ISSUE = {"headline_text": "What is new", "paragraphs": ["Much is new.", "More next week."]}


async def fill(url: str, people: int) -> int:
    """Put people on the list, as if they had confirmed yesterday."""
    with _services(url) as services:
        async with services.ox:
            services.create_tables()
        world, then = services.ox.world, moment_now(services.ox.world) - timedelta(days=1)
        for first in range(0, people, PIECE):
            rows = [_person(world.new_id(), n, then) for n in range(first, min(first + PIECE, people))]
            with services.engine.begin() as connection:
                connection.execute(insert(subscriptions), rows)
    return people


async def plan(url: str) -> dict[str, float]:
    """Start a campaign and let a worker plan it, and only that; seconds, MB grown, chunks and people."""
    with _services(url) as services:
        async with services.ox:
            with services.engine.begin() as connection:
                started, _ = services.campaigns.start(connection, NEWSLETTER, "newsletter", ISSUE)
            services.ox.queue(QUEUE)
            before, begun = _memory(), time.perf_counter()
            answer = await services.campaigns.plan(_Run(), started.id, 0)  # type: ignore[arg-type]
            took, grown = time.perf_counter() - begun, _memory() - before
        with services.engine.connect().execution_options(reading=True) as connection:
            found = get_campaign(connection, started.id)
        if not answer["planned"] or found is None or sum(found.counts.values()) != found.planned:
            raise RuntimeError(f"the campaign was not planned as it must be: {found}")
    return {"took": took, "grown": grown, "planned": found.planned}


class _Run:
    """What the planning asks of the run of its job."""

    async def progress(self, value: Any) -> None:
        """Tell nobody."""


@contextmanager
def _services(url: str) -> Iterator[Services]:
    services = build_services(
        Settings(
            url=url,
            public_url="http://127.0.0.1:8000",
            sender=Sender(parse_address("news@example.org")),
            secret="a secret of the benchmark",
        )
    )
    try:
        yield services
    finally:
        services.mail.close()
        services.passwords.shutdown()
        services.engine.dispose()


def _person(id: str, n: int, then: Any) -> dict[str, Any]:
    address = f"person-{n}@example.org"
    return {
        "id": id,
        "list_id": NEWSLETTER,
        "address": address,
        "address_key": address,
        "name": f"Person {n}",
        "status": Status.SUBSCRIBED,
        "asked_at": then,
        "confirmed_at": then,
        "changed_at": then,
    }


def _memory() -> float:
    """The most that this process has ever taken, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
