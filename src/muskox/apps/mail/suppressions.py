"""Who is not written to any more, for which mail, and why: kept, asked, lifted.

Asked twice for each message: when it is accepted and again in the transaction
that opens an attempt. Who suppresses an address is decided elsewhere: by what
servers answer, by reports, by the person, by an operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, RowMapping, delete, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from muskox.apps.mail.addresses import Address
from muskox.apps.mail.errors import Refused
from muskox.apps.mail.kinds import Stream
from muskox.apps.mail.list_tables import suppressions
from muskox.apps.mail.states import Reason

__all__ = [
    "ALL",
    "BULK",
    "Suppressed",
    "Suppression",
    "check_scope",
    "find",
    "lift",
    "list_scope",
    "suppress",
    "suppression_of",
]

ALL = "all"
"""No mail at all, not even one that the person asked for."""

BULK = "stream:bulk"
"""No newsletters; mail that the person's own acts ask for still goes out."""

_LIST = "list:"


class Suppressed(StrEnum):
    """Why an address is suppressed; the first that fits is told."""

    INVALID = "invalid"
    HARD_BOUNCE = "hard_bounce"
    SOFT_BOUNCE_LIMIT = "soft_bounce_limit"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"

    @property
    def reason(self) -> Reason:
        """What a message says that was not sent for it."""
        return _REASONS[self]


_REASONS = {
    Suppressed.INVALID: Reason.INVALID_ADDRESS,
    Suppressed.HARD_BOUNCE: Reason.PRIOR_BOUNCE,
    Suppressed.SOFT_BOUNCE_LIMIT: Reason.PRIOR_BOUNCE,
    Suppressed.COMPLAINT: Reason.COMPLAINT,
    Suppressed.UNSUBSCRIBE: Reason.UNSUBSCRIBED,
    Suppressed.MANUAL: Reason.MANUAL,
}


@dataclass(frozen=True, slots=True)
class Suppression:
    """One row: `source` names what it follows from (an event, a person), `expires_at` None: for good."""

    address: str
    address_key: str
    scope: str
    reason: Suppressed
    created_at: datetime
    expires_at: datetime | None
    source: str
    note: str


def list_scope(list_id: str) -> str:
    """Give the scope of one list."""
    return f"{_LIST}{list_id}"


def check_scope(scope: str) -> str:
    """Return `scope` if it is one, else raise `Refused`."""
    if scope in {ALL, BULK} or (scope.startswith(_LIST) and len(_LIST) < len(scope) <= 80 and scope.isprintable()):
        return scope
    raise Refused("the scope of a suppression is all, stream:bulk, or list: and the id of a list")


def suppress(
    connection: Connection,
    address: Address,
    reason: Suppressed,
    now: datetime,
    *,
    scope: str = ALL,
    expires_at: datetime | None = None,
    source: str = "",
    note: str = "",
) -> bool:
    """Write to an address no more; returns whether it was not suppressed so before.

    Again for the same scope and reason: the later end counts, and none is the latest.
    """
    key = {"address_key": address.key, "scope": check_scope(scope), "reason": reason}
    values = {
        **key,
        "address": str(address),
        "source": source[:128],
        "note": note[:1_000],
        "created_at": now,
        "expires_at": expires_at,
    }
    table = suppressions.c
    try:
        with connection.begin_nested():
            connection.execute(insert(suppressions), values)
            return True
    except IntegrityError:
        pass
    same = [table[name] == value for name, value in key.items()]
    over = connection.execute(
        update(suppressions).where(*same, table.expires_at <= now).values(values)
    ).rowcount  # an earlier one that has ended is as good as none
    if not over:
        later = table.expires_at.is_not(None) if expires_at is None else table.expires_at < expires_at
        connection.execute(update(suppressions).where(*same, later).values(expires_at=expires_at))
    return bool(over)


def lift(connection: Connection, address_key: str, scope: str, reason: Suppressed | None = None) -> int:
    """Write to an address again, for one reason or for all; returns how many rows went."""
    table = suppressions.c
    query = delete(suppressions).where(table.address_key == address_key, table.scope == scope)
    if reason is not None:
        query = query.where(table.reason == reason)
    return connection.execute(query).rowcount


def suppression_of(
    connection: Connection, address_key: str, stream: str, now: datetime, *, list_id: str | None = None
) -> Suppression | None:
    """Say why an address may not be written to at `now`; None when it may.

    Mail that somebody's own act asks for heeds the scope `all` only: who left a newsletter still gets a reset.
    """
    scopes = [ALL]
    if stream == Stream.BULK:
        scopes += [BULK, *([list_scope(list_id)] if list_id else [])]
    table = suppressions.c
    rows = connection.execute(
        select(suppressions).where(
            table.address_key == address_key,
            table.scope.in_(scopes),
            or_(table.expires_at.is_(None), table.expires_at > now),
        )
    ).mappings()
    order = list(Suppressed)
    found = sorted((_suppression(row) for row in rows), key=lambda one: order.index(one.reason))
    return found[0] if found else None


def find(
    connection: Connection,
    *,
    address_key: str = "",
    scope: str = "",
    reason: Suppressed | None = None,
    after: tuple[datetime, str, str, str] | None = None,
    limit: int = 100,
) -> list[Suppression]:
    """Give suppressions, latest first; `after` is (created_at, address_key, scope, reason) of the last one seen."""
    table = suppressions.c
    place = (table.created_at, table.address_key, table.scope, table.reason)
    query = select(suppressions).order_by(*(column.desc() for column in place)).limit(limit)
    if address_key:
        query = query.where(table.address_key == address_key)
    if scope:
        query = query.where(table.scope == scope)
    if reason is not None:
        query = query.where(table.reason == reason)
    if after is not None:
        query = query.where(tuple_(*place) < tuple_(*after, types=[column.type for column in place]))
    return [_suppression(row) for row in connection.execute(query).mappings()]


def _suppression(row: RowMapping) -> Suppression:
    return Suppression(
        row["address"],
        row["address_key"],
        row["scope"],
        Suppressed(row["reason"]),
        row["created_at"],
        row["expires_at"],
        row["source"],
        row["note"],
    )
