"""Fills lists at once, for tests that are about many people."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import insert

from muskox.apps.mail.list_tables import subscriptions
from muskox.apps.mail.subscriptions import Status
from muskox.apps.mail.worlds import moment_now
from muskox.apps.notifier.services import Services


def put_on_list(services: Services, people: int, on: str = "newsletter") -> None:
    """Put so many people on a list, as if they had confirmed yesterday."""
    world = services.ox.world
    then = moment_now(world) - timedelta(days=1)
    rows = [
        {
            "id": world.new_id(),
            "list_id": on,
            "address": f"p{n}@example.org",
            "address_key": f"p{n}@example.org",
            "name": f"Person {n}",
            "status": Status.SUBSCRIBED,
            "asked_at": then,
            "confirmed_at": then,
            "changed_at": then,
        }
        for n in range(people)
    ]
    with services.engine.begin() as connection:
        connection.execute(insert(subscriptions), rows)
