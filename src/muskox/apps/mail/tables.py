"""The tables of the mail application, and how moments are kept in them.

SQLAlchemy Core, and nothing that only one database understands. What may be
written to them is decided in `store.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

__all__ = [
    "Moment",
    "attempts",
    "blobs",
    "domains",
    "events",
    "evidence",
    "figures",
    "inbox",
    "messages",
    "metadata",
    "transports",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """An aware moment, kept as microseconds since 1970: exact and sortable in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = MetaData()

messages = Table(
    "mail_messages",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("stream", String(16), nullable=False),
    Column("user_id", String(36), index=True),
    Column("campaign_id", String(36)),
    Column("list_id", String(64)),
    Column("to_address", String(254), nullable=False),
    Column("to_display", String(300), nullable=False, default=""),
    Column("address_key", String(254), nullable=False, index=True),
    Column("to_domain", String(253), nullable=False),
    Column("from_address", String(254), nullable=False),
    Column("from_display", String(300), nullable=False, default=""),
    Column("envelope_from", String(254), nullable=False),
    Column("subject", Text, nullable=False),
    Column("template", String(128), nullable=False),
    Column("template_hash", String(64), nullable=False),
    # JSON text; what must not lie in a database is left out and added while rendering (see sending.py).
    Column("context", Text, nullable=False),
    Column("headers", Text, nullable=False, default="[]"),
    # JSON: name, type, Content-ID and the hash under which `blobs` has the bytes.
    Column("attachments", Text, nullable=False, default="[]"),
    Column("message_id_header", String(320), nullable=False, unique=True),
    Column("scope", String(64), nullable=False, default=""),
    Column("idempotency_key", String(255)),
    Column("queue", String(128), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("reason_detail", Text, nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    Column("max_attempts", Integer, nullable=False),
    Column("next_attempt_at", Moment),
    Column("expires_at", Moment, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("date_header", Moment),
    Column("content_sha256", String(64)),
    Column("size_bytes", Integer),
    Column("first_sent_at", Moment),
    Column("terminal_at", Moment),
    Column("transport", String(64)),
    Column("smtp_code", Integer),
    Column("enhanced_code", String(16)),
    Column("mta_response", Text),
    Column("remote_mta", String(255)),
    # What the envelope sender says of this message, so that a bounce finds it; none without a bounce domain.
    Column("bounce_token", String(32), unique=True),
    Column("job_id", String(255), nullable=False, index=True),
    Column("version", Integer, nullable=False, default=1),
    Column("last_seq", Integer, nullable=False, default=1),
    UniqueConstraint("campaign_id", "address_key"),
    UniqueConstraint("scope", "idempotency_key"),
    Index("ix_mail_messages_open", "state", "created_at"),
)

events = Table(
    "mail_events",
    metadata,
    Column("message_id", ForeignKey(messages.c.id, ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("type", String(32), nullable=False),
    Column("at", Moment, nullable=False),
    Column("recorded_at", Moment, nullable=False),
    Column("source", String(16), nullable=False),
    Column("attempt", Integer),
    Column("phase", String(16)),
    Column("smtp_code", Integer),
    Column("enhanced_code", String(16)),
    Column("response", Text),
    Column("dedupe_key", String(255)),
    Column("detail", Text, nullable=False, default="{}"),
    UniqueConstraint("source", "dedupe_key"),
)

attempts = Table(
    "mail_attempts",
    metadata,
    Column("message_id", ForeignKey(messages.c.id, ondelete="CASCADE"), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("job_id", String(255), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("worker", String(128), nullable=False, default=""),
    Column("transport", String(64), nullable=False),
    Column("connection_id", String(64)),
    Column("started_at", Moment, nullable=False),
    Column("phase", String(16), nullable=False),
    Column("ended_at", Moment),
    Column("outcome", String(16)),
)

# Facts about messages that came before they can be true, and reports about nobody we know.
evidence = Table(
    "mail_evidence",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("message_id", String(36), index=True),
    Column("type", String(32), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("at", Moment, nullable=False),
    Column("recorded_at", Moment, nullable=False),
    Column("source", String(16), nullable=False),
    Column("dedupe_key", String(255), nullable=False),
    Column("detail", Text, nullable=False, default="{}"),
    UniqueConstraint("source", "dedupe_key"),
)

# The bytes of attachments, each once, however many messages carry them.
blobs = Table(
    "mail_blobs",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("created_at", Moment, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

# Whether mail can be handed over at all, for all workers.
transports = Table(
    "mail_transports",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("breaker", String(16), nullable=False),
    Column("reason", String(32), nullable=False, default=""),
    Column("detail", Text, nullable=False, default=""),
    Column("opened_at", Moment),
    Column("next_probe_at", Moment),
    Column("probes", Integer, nullable=False, default=0),
    # The next moment at which the rate of the transport lets a mail start.
    Column("free_at", Moment),
)

# What was learned of recipient domains, per queue: a rate in place of the one that was said, and a pause.
domains = Table(
    "mail_domains",
    metadata,
    Column("domain", String(253), primary_key=True),
    Column("queue", String(128), primary_key=True),
    Column("per_minute", Integer),
    # The rate before anything was learned; none: there was no limit.
    Column("ceiling", Integer),
    Column("paused_until", Moment),
    Column("changed_at", Moment, nullable=False),
)

inbox = Table(
    "mail_inbox",
    metadata,
    Column("id", String(36), primary_key=True),
    # Unique, so that a mail that is handed over twice lies there once.
    Column("message_id", String(36), nullable=False, unique=True),
    Column("received_at", Moment, nullable=False, index=True),
    Column("sender", String(254), nullable=False),
    Column("recipient", String(254), nullable=False),
    Column("address_key", String(254), nullable=False, index=True),
    Column("subject", Text, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("raw", LargeBinary, nullable=False),
)

# How many messages came into a state, per minute and queue: what `health` reads instead of counting messages.
figures = Table(
    "mail_figures",
    metadata,
    Column("minute", Integer, primary_key=True),
    Column("queue", String(128), primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("n", Integer, nullable=False),
)
