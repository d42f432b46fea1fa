"""Lists and who is on them: asked for, confirmed by a link, left by one click.

Only who has confirmed is written to. Links are derived from rows and kept
nowhere; what a page or a header looks like is not decided here.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, RowMapping, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from muskox.apps.mail.addresses import Address
from muskox.apps.mail.errors import Refused
from muskox.apps.mail.headers import check_text
from muskox.apps.mail.list_tables import lists, subscriptions
from muskox.apps.mail.suppressions import BULK, Suppressed, lift, list_scope

__all__ = [
    "MailingList",
    "Status",
    "Subscription",
    "Tokens",
    "add_list",
    "ask",
    "confirm",
    "find_list",
    "find_lists",
    "find_subscription",
    "leave",
    "members",
    "of_address",
    "on_list",
]

CONFIRM_WITHIN = timedelta(days=7)
_ASK_AGAIN = timedelta(minutes=10)
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_NOBODY = bytes(16)
_MAC = 13


class Status(StrEnum):
    """Where somebody stands with a list."""

    PENDING = "pending"
    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"


@dataclass(frozen=True, slots=True)
class MailingList:
    """A list that one can be on."""

    id: str
    name: str
    about: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """One address on one list."""

    id: str
    list_id: str
    address: str
    address_key: str
    name: str
    status: Status
    asked_at: datetime
    confirmed_at: datetime | None
    changed_at: datetime


class Tokens:
    """Makes the tokens of links from ids, and reads them: opaque, 60 characters, valid as long as the secret.

    A token to leave names the subscription and perhaps the campaign that led to it; one to confirm does nothing
    else than that.
    """

    def __init__(self, *secrets: bytes) -> None:
        self._secrets = secrets

    def make(self, purpose: str, subscription_id: str, campaign_id: str | None = None) -> str:
        ids = _octets(subscription_id) + (_octets(campaign_id) if campaign_id else _NOBODY)
        return base64.urlsafe_b64encode(ids + self._mac(self._secrets[0], purpose, ids)).decode()

    def read(self, purpose: str, token: str) -> tuple[str, str | None] | None:
        """Give the ids of the subscription and the campaign; None for what is no token of ours."""
        try:
            octets = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        ids, mac = octets[:32], octets[32:]
        fits = [hmac.compare_digest(mac, self._mac(secret, purpose, ids)) for secret in self._secrets]
        if len(octets) != 32 + _MAC or not any(fits):
            return None
        return _written(ids[:16]), None if ids[16:] == _NOBODY else _written(ids[16:])

    def _mac(self, secret: bytes, purpose: str, ids: bytes) -> bytes:
        return hmac.digest(secret, purpose.encode() + b"\x00" + ids, "sha256")[:_MAC]


def add_list(connection: Connection, id: str, name: str, now: datetime, about: str = "") -> bool:
    """Make a list; returns whether there was none of that id."""
    if not _ID.fullmatch(id):
        raise Refused("the id of a list consists of a-z, 0-9 and hyphens, 64 at most")
    check_text("the name of a list", name, longest=200)
    check_text("the text about a list", about)
    try:
        with connection.begin_nested():
            connection.execute(insert(lists).values(id=id, name=name, about=about, created_at=now))
    except IntegrityError:
        return False
    return True


def find_list(connection: Connection, id: str) -> MailingList | None:
    """Give a list by its id."""
    row = connection.execute(select(lists).where(lists.c.id == id)).one_or_none()
    return None if row is None else MailingList(row.id, row.name, row.about)


def find_lists(connection: Connection) -> list[tuple[MailingList, dict[str, int]]]:
    """Give all lists, each with how many stand how with it."""
    table = subscriptions.c
    counted: dict[str, dict[str, int]] = {}
    for id, status, n in connection.execute(
        select(table.list_id, table.status, func.count()).group_by(table.list_id, table.status)
    ):
        counted.setdefault(id, {})[status] = n
    rows = connection.execute(select(lists).order_by(lists.c.id)).all()
    return [(MailingList(row.id, row.name, row.about), counted.get(row.id, {})) for row in rows]


def ask(
    connection: Connection, id: str, list_id: str, address: Address, now: datetime, *, name: str = "", source: str = ""
) -> Subscription | None:
    """Note that somebody asks to be on a list; gives the subscription if a link to confirm is to be sent.

    None: already on it, or asked a moment ago. `id` is for a new row.
    """
    check_text("the name", name, longest=200)
    found = on_list(connection, list_id, address.key)
    values = {"name": name, "status": Status.PENDING, "asked_at": now, "changed_at": now, "source": source[:64]}
    if found is None:
        known = {"id": id, "list_id": list_id, "address": str(address), "address_key": address.key}
        connection.execute(insert(subscriptions).values(**known, **values))
    elif found.status is Status.SUBSCRIBED or (found.status is Status.PENDING and found.asked_at > now - _ASK_AGAIN):
        return None
    else:
        connection.execute(update(subscriptions).where(subscriptions.c.id == found.id).values(values))
    return on_list(connection, list_id, address.key)


def confirm(connection: Connection, id: str, now: datetime) -> Subscription | None:
    """Put somebody on the list who has used the link; None when it is too old, or they have left since.

    Once more does no harm. It lifts what their own leaving had suppressed, and no complaint or bounce.
    """
    found = find_subscription(connection, id)
    if found is None or found.status is Status.SUBSCRIBED:
        return found
    if found.status is not Status.PENDING or found.asked_at + CONFIRM_WITHIN < now:
        return None
    connection.execute(
        update(subscriptions)
        .where(subscriptions.c.id == id)
        .values(status=Status.SUBSCRIBED, confirmed_at=now, changed_at=now)
    )
    for scope in (list_scope(found.list_id), BULK):
        lift(connection, found.address_key, scope, Suppressed.UNSUBSCRIBE)
    return find_subscription(connection, id)


def leave(connection: Connection, id: str, now: datetime, *, status: Status = Status.UNSUBSCRIBED) -> bool:
    """Take somebody off a list; returns whether they were on it or about to be."""
    changed = connection.execute(
        update(subscriptions)
        .where(subscriptions.c.id == id, subscriptions.c.status.in_([Status.SUBSCRIBED, Status.PENDING]))
        .values(status=status, changed_at=now)
    )
    return bool(changed.rowcount)


def find_subscription(connection: Connection, id: str) -> Subscription | None:
    """Give a subscription by its id."""
    row = connection.execute(select(subscriptions).where(subscriptions.c.id == id)).mappings().one_or_none()
    return None if row is None else _subscription(row)


def on_list(connection: Connection, list_id: str, address_key: str) -> Subscription | None:
    """Give how an address stands with a list."""
    table = subscriptions.c
    query = select(subscriptions).where(table.list_id == list_id, table.address_key == address_key)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _subscription(row)


def of_address(connection: Connection, address_key: str) -> list[Subscription]:
    """Give all subscriptions of an address."""
    table = subscriptions.c
    rows = connection.execute(select(subscriptions).where(table.address_key == address_key).order_by(table.list_id))
    return [_subscription(row) for row in rows.mappings()]


def members(
    connection: Connection, list_id: str, *, status: Status | None = None, after: str = "", limit: int = 100
) -> list[Subscription]:
    """Give who stands how with a list, in the order of asking; `after` is the id of the last one seen."""
    table = subscriptions.c
    query = select(subscriptions).where(table.list_id == list_id, table.id > after).order_by(table.id).limit(limit)
    if status is not None:
        query = query.where(table.status == status)
    return [_subscription(row) for row in connection.execute(query).mappings()]


def _subscription(row: RowMapping) -> Subscription:
    return Subscription(
        row["id"],
        row["list_id"],
        row["address"],
        row["address_key"],
        row["name"],
        Status(row["status"]),
        row["asked_at"],
        row["confirmed_at"],
        row["changed_at"],
    )


def _octets(id: str) -> bytes:
    return bytes.fromhex(id.replace("-", ""))


def _written(octets: bytes) -> str:
    digits = octets.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
