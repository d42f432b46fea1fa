"""Keeps the figures of a campaign true: each move of a message moves one from state to state, in its transaction.

So the states always add up to what was planned. It also sees when a campaign has
ended, and when so many mails come back that it must not go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping, case, literal, update

from muskox.apps.mail.list_tables import campaigns
from muskox.apps.mail.states import MessageState, Reason
from muskox.apps.mail.tables import Moment

__all__ = ["Brake", "CampaignState", "follow", "open_states", "put_under_way"]


class CampaignState(StrEnum):
    """Where a campaign is in its life."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    PLANNING = "planning"
    SENDING = "sending"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Brake:
    """From which shares of its outcomes on a campaign stops itself, once there are `outcomes` of them."""

    outcomes: int = 200
    hard_bounces: float = 0.05
    complaints: float = 0.003
    refusals: float = 0.10


open_states = (MessageState.QUEUED, MessageState.SENDING, MessageState.DEFERRED, MessageState.UNKNOWN)
_RUNNING = (CampaignState.PLANNING, CampaignState.SENDING)
_HARD = frozenset({Reason.UNKNOWN_MAILBOX, Reason.INVALID_ADDRESS, Reason.MAILBOX_DISABLED})
_REFUSED = frozenset({Reason.POLICY, Reason.SPAM})
_OUTCOMES = (
    MessageState.SENT,
    MessageState.DELIVERED,
    MessageState.BOUNCED,
    MessageState.COMPLAINED,
    MessageState.FAILED,
)
_JUDGED = [
    campaigns.c[name]
    for name in ("state", "hard_bounces", "refusals", "looked_at_outcomes", *(f"n_{state}" for state in _OUTCOMES))
]
_BRAKE = Brake()


def column(state: MessageState) -> Any:
    """The column that counts a state."""
    return campaigns.c[f"n_{state}"]


def follow(
    connection: Connection, campaign_id: str, source: MessageState, target: MessageState, reason: Reason, at: datetime
) -> None:
    """Take note that one message of a campaign moved."""
    table = campaigns.c
    # Also what is open after this move, so that the last one to end ends the campaign, with no look beside.
    still_open = sum((column(state) for state in open_states), start=literal(0))
    still_open += (target in open_states) - (source in open_states)
    over = (table.state == CampaignState.SENDING) & (still_open <= 0)
    values: dict[str, Any] = {
        f"n_{source}": column(source) - 1,
        f"n_{target}": column(target) + 1,
    }
    if target not in open_states:
        values["state"] = case((over, CampaignState.FINISHED), else_=table.state)
        values["ended_at"] = case((over, literal(at, Moment())), else_=table.ended_at)
    if target is MessageState.UNKNOWN:
        values["ambiguous"] = table.ambiguous + 1
    if target is MessageState.BOUNCED and reason in _HARD:
        values["hard_bounces"] = table.hard_bounces + 1
    if target in {MessageState.BOUNCED, MessageState.FAILED} and reason in _REFUSED:
        values["refusals"] = table.refusals + 1
    # Also at each success: what comes back may all have come before there were enough outcomes to judge by.
    row = connection.execute(
        update(campaigns).where(table.id == campaign_id).values(values).returning(*_JUDGED)
    ).mappings().one_or_none()  # fmt: skip
    if row is not None and target in _OUTCOMES:
        _judge(connection, campaign_id, row, _BRAKE)


def put_under_way(connection: Connection, campaign_id: str, at: datetime) -> None:
    """Say that all of a campaign is planned; one with nobody left to write to has ended."""
    table = campaigns.c
    over = sum((column(state) for state in open_states), start=literal(0)) <= 0
    connection.execute(
        update(campaigns)
        .where(table.id == campaign_id, table.state == CampaignState.PLANNING)
        .values(
            state=case((over, CampaignState.FINISHED), else_=CampaignState.SENDING),
            ended_at=case((over, literal(at, Moment())), else_=table.ended_at),
        )
    )


def _judge(connection: Connection, campaign_id: str, row: RowMapping, brake: Brake) -> None:
    """Pause a campaign of which too much comes back. What an operator has resumed is judged by what came since."""
    outcomes = sum(row[f"n_{state}"] for state in _OUTCOMES)
    if row["state"] not in _RUNNING or outcomes - row["looked_at_outcomes"] < brake.outcomes:
        return
    shares = {
        "hard bounces": (row["hard_bounces"] / outcomes, brake.hard_bounces),
        "complaints": (row[f"n_{MessageState.COMPLAINED}"] / outcomes, brake.complaints),
        "refusals": (row["refusals"] / outcomes, brake.refusals),
    }
    too_much = [f"{share:.1%} {what}" for what, (share, most) in shares.items() if share > most]
    if too_much:
        connection.execute(
            update(campaigns)
            .where(campaigns.c.id == campaign_id)
            .values(state=CampaignState.PAUSED, state_reason=f"paused by itself: {', '.join(too_much)}")
        )
