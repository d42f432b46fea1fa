"""Compares all that is kept up with a full scan, part by part. Slow on purpose; it mends nothing."""

from __future__ import annotations

from muskox.store.protocol import Finding
from muskox.store.sqlite import dedup, expiry, flows, limiting, looks, schedules
from muskox.store.sqlite.tx import Tx

__all__ = ["audit"]


def audit(tx: Tx) -> list[Finding]:
    """What does not fit."""
    return [finding for part in (looks, schedules, dedup, expiry, flows, limiting) for finding in part.audit(tx)]
