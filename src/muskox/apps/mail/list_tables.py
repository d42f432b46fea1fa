"""The tables of those who are written to, or not: suppressions, lists, subscriptions, campaigns.

What may be written to them is decided in the modules named like them.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from muskox.apps.mail.states import MessageState
from muskox.apps.mail.tables import Moment, messages, metadata

__all__ = ["campaigns", "chunks", "lists", "subscriptions", "suppressions"]

# One row per address, scope and reason, so that lifting a complaint leaves a hard bounce where it is.
suppressions = Table(
    "mail_suppressions",
    metadata,
    Column("address_key", String(254), primary_key=True),
    Column("scope", String(80), primary_key=True),
    Column("reason", String(24), primary_key=True),
    Column("address", String(254), nullable=False),
    Column("source", String(128), nullable=False, default=""),
    Column("note", Text, nullable=False, default=""),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Index("ix_mail_suppressions_created", "created_at", "address_key"),
)

lists = Table(
    "mail_lists",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("about", Text, nullable=False, default=""),
    Column("created_at", Moment, nullable=False),
)

# Never deleted by leaving: that somebody has left is what must be known for ever.
subscriptions = Table(
    "mail_subscriptions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("list_id", ForeignKey(lists.c.id, ondelete="CASCADE"), nullable=False),
    Column("address", String(254), nullable=False),
    Column("address_key", String(254), nullable=False, index=True),
    Column("name", String(200), nullable=False, default=""),
    Column("status", String(16), nullable=False),
    Column("asked_at", Moment, nullable=False),
    Column("confirmed_at", Moment),
    Column("changed_at", Moment, nullable=False),
    Column("source", String(64), nullable=False, default=""),
    UniqueConstraint("list_id", "address_key"),
    Index("ix_mail_subscriptions_walk", "list_id", "id"),
)

campaigns = Table(
    "mail_campaigns",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("occurrence_key", String(200), nullable=False, unique=True),
    Column("list_id", ForeignKey(lists.c.id), nullable=False),
    Column("template", String(128), nullable=False),
    Column("subject", Text, nullable=False),
    Column("context", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("state_reason", String(64), nullable=False, default=""),
    Column("scheduled_for", Moment),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("last_id", String(36), nullable=False, default=""),
    Column("snapshot_id", String(36), nullable=False, default=""),
    Column("snapshot_at", Moment),
    Column("rounds", Integer, nullable=False, default=0),
    Column("planned", Integer, nullable=False, default=0),
    Column("unsubscribed", Integer, nullable=False, default=0),
    Column("hard_bounces", Integer, nullable=False, default=0),
    Column("refusals", Integer, nullable=False, default=0),
    Column("looked_at_outcomes", Integer, nullable=False, default=0),
    Column("ambiguous", Integer, nullable=False, default=0),
    # How many messages are in each state; people of chunks that are not spread yet count as queued.
    *(Column(f"n_{state}", Integer, nullable=False, default=0) for state in MessageState),
    Index("ix_mail_campaigns_created", "created_at"),
)

chunks = Table(
    "mail_chunks",
    metadata,
    Column("campaign_id", ForeignKey(campaigns.c.id, ondelete="CASCADE"), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("lo_id", String(36), nullable=False),
    Column("hi_id", String(36), nullable=False),
    Column("people", Integer, nullable=False),
    Column("spread", Boolean, nullable=False, default=False),
)

Index("ix_mail_messages_campaign", messages.c.campaign_id, messages.c.state, messages.c.id)
