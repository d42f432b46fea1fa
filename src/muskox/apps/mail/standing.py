"""Asks, in the transaction that would open an attempt, whether a message shall still be sent.

What has ended the wish for it may have come since it was accepted. It moves the
message, and knows nothing of servers.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, select, update

from muskox.apps.mail import store, tables
from muskox.apps.mail.counters import CampaignState
from muskox.apps.mail.list_tables import campaigns
from muskox.apps.mail.states import MessageState, Reason
from muskox.apps.mail.store import Message
from muskox.apps.mail.subscriptions import Status, on_list
from muskox.apps.mail.suppressions import suppression_of

__all__ = ["withhold"]

_LEFT = {
    Status.PENDING: Reason.UNSUBSCRIBED,
    Status.UNSUBSCRIBED: Reason.UNSUBSCRIBED,
    Status.BOUNCED: Reason.PRIOR_BOUNCE,
    Status.COMPLAINED: Reason.COMPLAINT,
}
_WAITS = frozenset({MessageState.QUEUED, MessageState.DEFERRED})


def withhold(connection: Connection, message: Message, now: datetime) -> Message:
    """End a message that is not to be sent any more; any other is returned as it is.

    One of a paused campaign comes back without a job: it is held until the campaign goes on.
    """
    if message.state not in _WAITS:
        return message
    match _campaign_state(connection, message):
        case CampaignState.CANCELLED:
            return store.move(connection, message, MessageState.CANCELLED, now, reason=Reason.MANUAL)
        case CampaignState.PAUSED:
            return _hold(connection, message)
        case _:
            reason = _reason_against(connection, message, now)
    if reason is not None:
        return store.move(connection, message, MessageState.SUPPRESSED, now, reason=reason)
    return message


def _campaign_state(connection: Connection, message: Message) -> str | None:
    if message.campaign_id is None:
        return None
    query = select(campaigns.c.state).where(campaigns.c.id == message.campaign_id)
    return connection.execute(query).scalar_one_or_none()


def _hold(connection: Connection, message: Message) -> Message:
    table = tables.messages
    connection.execute(update(table).where(table.c.id == message.id).values(job_id=""))
    return replace(message, job_id="")


def _reason_against(connection: Connection, message: Message, now: datetime) -> Reason | None:
    found = suppression_of(connection, message.address_key, message.stream, now, list_id=message.list_id)
    if found is not None:
        return found.reason.reason
    if message.list_id is None:
        return None
    member = on_list(connection, message.list_id, message.address_key)
    return _LEFT.get(member.status) if member else Reason.UNSUBSCRIBED
