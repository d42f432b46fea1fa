"""The tables of the notifier: users and reset tokens, beside those of mail."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from muskox.apps.mail.tables import Moment, metadata

__all__ = ["idempotency", "reset_tokens", "tries", "users"]

users = Table(
    "users",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("email", String(254), nullable=False),
    Column("email_key", String(254), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    Column("locale", String(35), nullable=False, default="en"),
    Column("tz", String(64), nullable=False, default="UTC"),
    Column("password_hash", Text, nullable=False),
    Column("password_changed_at", Moment, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("verified_at", Moment),
)

# The token itself is nowhere: it is derived from this row while a mail is rendered, and compared by its hash.
reset_tokens = Table(
    "reset_tokens",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", ForeignKey(users.c.id, ondelete="CASCADE"), nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("token_hash", LargeBinary(32), nullable=False),
    Column("issued_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("used_at", Moment),
    Column("revoked_at", Moment),
    Index("ix_reset_tokens_user", "user_id", "issued_at"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("scope", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("status_code", Integer),
    Column("response", Text),
    Column("created_at", Moment, nullable=False, index=True),
)

# How often somebody asked for something in an hour; who is kept as a keyed hash.
tries = Table(
    "tries",
    metadata,
    Column("what", String(32), primary_key=True),
    Column("who", String(64), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("n", Integer, nullable=False),
)
