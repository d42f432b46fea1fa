"""Campaigns: one mail to everybody on a list. Made, looked at, paused, resumed, cancelled.

The rows and what may become of them; the jobs that walk through the list are in
`spreading.py`. That each person has one message is kept by the database.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from muskox.apps.mail.counters import CampaignState, open_states
from muskox.apps.mail.errors import MailError
from muskox.apps.mail.list_tables import campaigns
from muskox.apps.mail.states import MessageState

__all__ = ["Campaign", "CampaignMoved", "NewCampaign", "add_campaign", "find_campaigns", "get_campaign", "set_state"]


class CampaignMoved(MailError):
    """The campaign is in a state in which this cannot be asked of it."""


@dataclass(frozen=True, slots=True)
class NewCampaign:
    """What a campaign says, and to whom. `occurrence` is unique: the same one gives the same campaign."""

    id: str
    occurrence: str
    list_id: str
    template: str
    subject: str
    context: Mapping[str, Any]
    scheduled_for: datetime | None = None


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as it was when it was read; `counts` add up to `planned`."""

    id: str
    occurrence: str
    list_id: str
    template: str
    subject: str
    context: dict[str, Any]
    state: CampaignState
    state_reason: str
    scheduled_for: datetime | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    last_id: str
    snapshot_id: str
    snapshot_at: datetime | None
    rounds: int
    planned: int
    unsubscribed: int
    ambiguous: int
    counts: dict[MessageState, int] = field(default_factory=dict)

    @property
    def open(self) -> int:
        """How many people nothing final can be said of yet."""
        return sum(self.counts[state] for state in open_states)


_MOVES = {
    CampaignState.PLANNING: (CampaignState.PAUSED,),
    CampaignState.PAUSED: (CampaignState.PLANNING, CampaignState.SENDING, CampaignState.SCHEDULED),
    CampaignState.CANCELLED: (
        CampaignState.SCHEDULED,
        CampaignState.PLANNING,
        CampaignState.SENDING,
        CampaignState.PAUSED,
    ),
}


def add_campaign(connection: Connection, new: NewCampaign, now: datetime) -> bool:
    """Store a campaign; returns whether there was none for its occurrence."""
    try:
        with connection.begin_nested():
            connection.execute(
                insert(campaigns).values(
                    id=new.id,
                    occurrence_key=new.occurrence,
                    list_id=new.list_id,
                    template=new.template,
                    subject=new.subject,
                    context=json.dumps(dict(new.context), ensure_ascii=False),
                    state=CampaignState.SCHEDULED,
                    scheduled_for=new.scheduled_for,
                    created_at=now,
                )
            )
    except IntegrityError:
        return False
    return True


def get_campaign(connection: Connection, id: str) -> Campaign | None:
    """Give a campaign by its id."""
    row = connection.execute(select(campaigns).where(campaigns.c.id == id)).mappings().one_or_none()
    return None if row is None else _campaign(row)


def find_campaigns(
    connection: Connection, *, after: tuple[datetime, str] | None = None, limit: int = 50
) -> list[Campaign]:
    """Give campaigns, latest first; `after` is (created_at, id) of the last one seen."""
    table = campaigns.c
    place = (table.created_at, table.id)
    query = select(campaigns).order_by(*(column.desc() for column in place)).limit(limit)
    if after is not None:
        query = query.where(tuple_(*place) < tuple_(*after, types=[column.type for column in place]))
    return [_campaign(row) for row in connection.execute(query).mappings()]


def set_state(connection: Connection, id: str, target: CampaignState, now: datetime, reason: str = "") -> Campaign:
    """Move a campaign by hand: to paused, cancelled, or from paused to planning, where it goes on.

    Raises `CampaignMoved` when its state does not allow that.
    """
    found = get_campaign(connection, id)
    assert found is not None
    if found.state not in _MOVES[target]:
        raise CampaignMoved(f"a campaign that is {found.state} cannot become {target}")
    values: dict[str, Any] = {"state": target, "state_reason": reason}
    if target is CampaignState.CANCELLED:
        values["ended_at"] = now
    connection.execute(update(campaigns).where(campaigns.c.id == id).values(values))
    again = get_campaign(connection, id)
    assert again is not None
    return again


def _campaign(row: RowMapping) -> Campaign:
    return Campaign(
        id=row["id"],
        occurrence=row["occurrence_key"],
        list_id=row["list_id"],
        template=row["template"],
        subject=row["subject"],
        context=json.loads(row["context"]),
        state=CampaignState(row["state"]),
        state_reason=row["state_reason"],
        scheduled_for=row["scheduled_for"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        last_id=row["last_id"],
        snapshot_id=row["snapshot_id"],
        snapshot_at=row["snapshot_at"],
        rounds=row["rounds"],
        planned=row["planned"],
        unsubscribed=row["unsubscribed"],
        ambiguous=row["ambiguous"],
        counts={state: row[f"n_{state}"] for state in MessageState},
    )
