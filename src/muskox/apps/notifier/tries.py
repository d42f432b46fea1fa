"""Counts how often one machine asks for something in an hour, over all processes, and says when it is too often.

Who asks is kept as a keyed hash, for two hours at most.
"""

from __future__ import annotations

import hmac
import ipaddress

from sqlalchemy import Connection, delete, insert, select, update

from muskox.apps.notifier import tables

__all__ = ["count_try", "who_of"]


def who_of(secret: bytes, address: str) -> str:
    """Name a machine without keeping its address; one of IPv6 counts by its network of 64 bits."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        known = address
    else:
        known = str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
    return hmac.digest(secret, b"who" + known.encode(), "sha256").hex()


def count_try(connection: Connection, what: str, who: str, now: float, most: int) -> int:
    """Count one try; returns after how many seconds another is allowed, 0 when this one is."""
    table, hour = tables.tries, int(now // 3_600)
    mine = (table.c.what == what) & (table.c.who == who) & (table.c.hour == hour)
    tried = connection.execute(select(table.c.n).where(mine)).scalar()
    if tried is not None and tried >= most:
        return int((hour + 1) * 3_600 - now) + 1
    if tried is None:
        connection.execute(delete(table).where(table.c.hour < hour - 1))
        connection.execute(insert(table).values(what=what, who=who, hour=hour, n=1))
    else:
        connection.execute(update(table).where(mine).values(n=table.c.n + 1))
    return 0
