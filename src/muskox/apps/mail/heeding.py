"""Heeds what an answer or a report says of a mailbox: one that is gone is written to no more.

Asked in the transaction that writes the outcome down. A refusal for policy says
something of us and not of the mailbox: it suppresses nobody.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from muskox.apps.mail import tables
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.replies import Verdict
from muskox.apps.mail.states import MessageState, Reason
from muskox.apps.mail.store import Message
from muskox.apps.mail.suppressions import BULK, Suppressed, suppress

__all__ = ["heed", "heed_complaint"]

_FULL_TIMES = 3
_FULL_WITHIN = timedelta(days=14)
_FULL_PAUSE = timedelta(days=30)


def heed(connection: Connection, message: Message, verdict: Verdict, now: datetime) -> None:
    """Suppress the address of a message whose mailbox is gone, or was full too often."""
    if verdict.suppress:
        suppress(
            connection, parse_address(message.to_address), Suppressed.HARD_BOUNCE, now, source=f"message {message.id}"
        )
    elif verdict.state is MessageState.BOUNCED and verdict.reason is Reason.MAILBOX_FULL:
        _count_full(connection, message, now)


def heed_complaint(connection: Connection, message: Message, now: datetime) -> None:
    """Write no more bulk mail to who complained of it."""
    address = parse_address(message.to_address)
    suppress(connection, address, Suppressed.COMPLAINT, now, scope=BULK, source=f"message {message.id}")


def _count_full(connection: Connection, message: Message, now: datetime) -> None:
    """The third time in two weeks that a mailbox was full, leave it alone for a month."""
    table = tables.messages.c
    times = connection.execute(
        select(func.count()).where(
            table.address_key == message.address_key,
            table.state == MessageState.BOUNCED,
            table.reason == Reason.MAILBOX_FULL,
            table.terminal_at > now - _FULL_WITHIN,
        )
    ).scalar_one()
    if times >= _FULL_TIMES:
        suppress(
            connection,
            parse_address(message.to_address),
            Suppressed.SOFT_BOUNCE_LIMIT,
            now,
            expires_at=now + _FULL_PAUSE,
            source=f"message {message.id}",
        )
