"""Asks, in the transaction that would open an attempt, whether a message shall still be sent.

What has ended the wish for it may have come since it was accepted. It moves the
message, and knows nothing of servers.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from muskox.apps.mail import store
from muskox.apps.mail.states import MessageState
from muskox.apps.mail.store import Message
from muskox.apps.mail.suppressions import suppression_of

__all__ = ["withhold"]

_WAITS = frozenset({MessageState.QUEUED, MessageState.DEFERRED})


def withhold(connection: Connection, message: Message, now: datetime) -> Message:
    """End a message that is not to be sent any more; any other is returned as it is."""
    if message.state not in _WAITS:
        return message
    found = suppression_of(connection, message.address_key, message.stream, now, list_id=message.list_id)
    if found is not None:
        return store.move(connection, message, MessageState.SUPPRESSED, now, reason=found.reason.reason)
    return message
