"""Lists for the public: asking to be on one, confirming it, leaving by one click, choosing.

Who is on a list is kept by the mail application; here is what people do about it.
Whether an address is known is found out in a job, never while somebody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, update

from muskox import ActiveJob, Exponential, Muskox
from muskox.apps.mail import subscriptions
from muskox.apps.mail.addresses import Address, parse_address
from muskox.apps.mail.headers import check_text
from muskox.apps.mail.kinds import NORMAL
from muskox.apps.mail.list_links import LEAVE
from muskox.apps.mail.list_tables import campaigns
from muskox.apps.mail.sending import Mail
from muskox.apps.mail.subscriptions import MailingList, Status, Subscription, Tokens
from muskox.apps.mail.worlds import moment_now

__all__ = ["NEWSLETTER", "Choice", "Lists"]

NEWSLETTER = "newsletter"
"""The list that is there from the start."""

CONFIRM = "confirm"
JOB_NAME = "ask-to-subscribe"


@dataclass(frozen=True, slots=True)
class Choice:
    """Whom a link to leave belongs to, and how they stand with each list."""

    subscription: Subscription
    campaign_id: str | None
    of: MailingList
    others: list[tuple[MailingList, bool]]


class Lists:
    """Takes what people ask about lists; made once, before the worker starts."""

    def __init__(self, mail: Mail, tokens: Tokens, public_url: str) -> None:
        self._mail = mail
        self._engine = mail.engine
        self._world = mail.ox.world
        self._tokens = tokens
        self._public_url = public_url
        mail.unseal("confirm-subscription", self._unseal)
        _declare(mail.ox, self)

    def create_first(self) -> None:
        """Make the list that each notifier has. Blocks."""
        with self._engine.begin() as connection:
            subscriptions.add_list(connection, NEWSLETTER, "Newsletter", moment_now(self._world), "What is new.")

    def exists(self, list_id: str) -> bool:
        with self._engine.connect().execution_options(reading=True) as connection:
            return subscriptions.find_list(connection, list_id) is not None

    async def request(self, list_id: str, address: Address, name: str) -> None:
        """Add the job that looks the address up and writes to it: the same work for every address."""
        check_text("the name", name, longest=200)
        data = {"list_id": list_id, "email": str(address), "name": name}
        await self._mail.ox.queue(NORMAL).add(JOB_NAME, data, priority=5)

    def ask(self, key: str, list_id: str, address: Address, name: str) -> bool:
        """Note the wish and send the link to confirm it; returns whether a mail was accepted. Blocks.

        `key` names the request: repeated, it does nothing more.
        """
        with self._engine.begin() as connection:
            found = subscriptions.find_list(connection, list_id)
            now = moment_now(self._world)
            if found is None:
                return False
            asked = subscriptions.ask(connection, self._world.new_id(), list_id, address, now, name=name, source="form")
            if asked is None:
                return False
            self._mail.send(
                "confirm-subscription",
                to=address,
                display=name,
                context={"list_name": found.name, "asked_for": asked.id},
                key=f"confirm/{key}",
                scope="notifier",
                within=connection,
            )
            return True

    def confirm(self, token: str) -> MailingList | None:
        """Put the person on the list whose link this is; None for a link that is unknown or too old. Blocks."""
        ids = self._tokens.read(CONFIRM, token)
        if ids is None:
            return None
        with self._engine.begin() as connection:
            found = subscriptions.confirm(connection, ids[0], moment_now(self._world))
            return None if found is None else subscriptions.find_list(connection, found.list_id)

    def choice(self, token: str) -> Choice | None:
        """Give what a link to leave is about, and change nothing. Blocks."""
        ids = self._tokens.read(LEAVE, token)
        if ids is None:
            return None
        with self._engine.connect().execution_options(reading=True) as connection:
            found = subscriptions.find_subscription(connection, ids[0])
            of = None if found is None else subscriptions.find_list(connection, found.list_id)
            if found is None or of is None:
                return None
            known = {one.list_id: one for one in subscriptions.of_address(connection, found.address_key)}
            others = [
                (one, known[one.id].status is Status.SUBSCRIBED)
                for one, _ in subscriptions.find_lists(connection)
                if one.id in known
            ]
            return Choice(found, ids[1], of, others)

    def leave(self, token: str) -> Choice | None:
        """Take the person off the list whose link this is; again does no harm. Blocks."""
        found = self.choice(token)
        if found is None:
            return None
        with self._engine.begin() as connection:
            left = subscriptions.leave(connection, found.subscription.id, moment_now(self._world))
            if left and found.campaign_id is not None:
                table = campaigns.c
                connection.execute(
                    update(campaigns).where(table.id == found.campaign_id).values(unsubscribed=table.unsubscribed + 1)
                )
        return self.choice(token)

    def keep(self, token: str, list_ids: Collection[str]) -> Choice | None:
        """Leave every list of the person's that is not among those to keep. Blocks."""
        found = self.choice(token)
        if found is None:
            return None
        with self._engine.begin() as connection:
            for one in subscriptions.of_address(connection, found.subscription.address_key):
                if one.list_id not in list_ids:
                    subscriptions.leave(connection, one.id, moment_now(self._world))
        return self.choice(token)

    def _unseal(self, connection: Connection, context: Mapping[str, Any]) -> dict[str, str] | None:
        """Derive the link of a mail that is being rendered; None when there is nothing left to confirm."""
        found = subscriptions.find_subscription(connection, str(context["asked_for"]))
        if found is None or found.status is not Status.PENDING:
            return None
        return {"link": f"{self._public_url}/lists/confirm?token={self._tokens.make(CONFIRM, found.id)}"}


def _declare(ox: Muskox, lists: Lists) -> None:
    @ox.queue(NORMAL).processor(JOB_NAME, attempts=5, backoff=Exponential(2.0), max_stalls=5)
    async def ask_to_subscribe(job: ActiveJob, list_id: str, email: str, name: str) -> None:
        await asyncio.to_thread(lists.ask, job.id, list_id, parse_address(email), name)
