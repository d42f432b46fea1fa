"""The tables of those who are written to, or not: suppressions.

What may be written to them is decided in `suppressions.py`.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, String, Table, Text

from muskox.apps.mail.tables import Moment, metadata

__all__ = ["suppressions"]

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
