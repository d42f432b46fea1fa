"""The built-in inbox: where mail lands when no SMTP server is configured, to be looked at.

It is a transport like any other, with one difference: what lies in it is
delivered, and that is known. Nothing leaves the machine.
"""

from __future__ import annotations

import asyncio
import email.policy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser

from sqlalchemy import Connection, Engine, RowMapping, delete, func, insert, select

from muskox.apps.mail import tables
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.bell import Bell
from muskox.apps.mail.errors import AddressRefused
from muskox.apps.mail.replies import Phase, Reply
from muskox.apps.mail.smtp import Envelope
from muskox.apps.mail.worlds import World, moment_now

__all__ = ["MOST", "TOPIC", "Inbox", "InboxMail", "Opened", "open_mail"]

TOPIC = "inbox"
"""What the bell rings for when a mail has landed."""

MOST = 5_000
"""How many mails are kept; the oldest make room."""

_COLUMNS = [column for column in tables.inbox.c if column.name != "raw"]


@dataclass(frozen=True, slots=True)
class InboxMail:
    """A mail in the inbox, without its bytes."""

    id: str
    message_id: str
    received_at: datetime
    sender: str
    recipient: str
    subject: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A mail taken apart for reading."""

    text: str
    html: str
    headers: list[tuple[str, str]]


class Inbox:
    """Mail kept in the application's own database."""

    name = "inbox"
    proves_delivery = True

    def __init__(self, engine: Engine, world: World, bell: Bell) -> None:
        self._engine = engine
        self._world = world
        self._bell = bell

    async def deliver(self, envelope: Envelope, before_commit: Callable[[], Awaitable[None]]) -> Reply:
        """Put a mail into the inbox; handing the same message over again changes nothing."""
        await before_commit()
        await asyncio.to_thread(self._keep, envelope)
        self._bell.ring(TOPIC)
        return Reply(Phase.DONE, 250, "2.0.0", "in the built-in inbox")

    async def probe(self) -> Reply:
        """Say whether mail can land here: it can."""
        return Reply(Phase.DONE, 250)

    async def close(self) -> None:
        """Nothing is held open here."""

    def find(self, *, to: str = "", subject: str = "", limit: int = 100, before: str = "") -> list[InboxMail]:
        """Give the latest mails first, those to an address and with a text in their subject when asked."""
        table = tables.inbox
        query = select(*_COLUMNS).order_by(table.c.id.desc()).limit(limit)
        if to:
            query = query.where(table.c.address_key == _key(to))
        if subject:
            query = query.where(func.lower(table.c.subject).contains(subject.lower(), autoescape=True))
        if before:
            query = query.where(table.c.id < before)
        with self._reading() as connection:
            return [_mail(row) for row in connection.execute(query).mappings()]

    def get(self, id: str) -> tuple[InboxMail, bytes] | None:
        """Give a mail with its bytes."""
        with self._reading() as connection:
            row = connection.execute(select(tables.inbox).where(tables.inbox.c.id == id)).mappings().one_or_none()
        return None if row is None else (_mail(row), bytes(row["raw"]))

    def find_message(self, message_id: str) -> InboxMail | None:
        """Give the mail that a message became."""
        query = select(*_COLUMNS).where(tables.inbox.c.message_id == message_id)
        with self._reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else _mail(row)

    def remove(self, id: str | None = None) -> int:
        """Throw away one mail, or all of them; returns how many."""
        query = delete(tables.inbox)
        if id is not None:
            query = query.where(tables.inbox.c.id == id)
        with self._engine.begin() as connection:
            removed = connection.execute(query).rowcount
        self._bell.ring(TOPIC)
        return removed

    def _reading(self) -> Connection:
        return self._engine.connect().execution_options(reading=True)

    def _keep(self, envelope: Envelope) -> None:
        known = select(tables.inbox.c.id).where(tables.inbox.c.message_id == envelope.message_id)
        subject = BytesParser(policy=email.policy.default).parsebytes(envelope.raw, headersonly=True)["Subject"]
        with self._engine.begin() as connection:
            if connection.execute(known).first() is not None:
                return
            connection.execute(
                insert(tables.inbox).values(
                    id=self._world.new_id(),
                    message_id=envelope.message_id,
                    received_at=moment_now(self._world),
                    sender=envelope.sender,
                    recipient=str(envelope.recipient),
                    address_key=envelope.recipient.key,
                    subject=str(subject or ""),
                    size_bytes=len(envelope.raw),
                    raw=envelope.raw,
                )
            )
            oldest = (
                select(tables.inbox.c.id).order_by(tables.inbox.c.id.desc()).offset(MOST).limit(1).scalar_subquery()
            )
            connection.execute(delete(tables.inbox).where(tables.inbox.c.id <= oldest))


def open_mail(raw: bytes) -> Opened:
    """Take a mail apart; what cannot be decoded is shown with replacement characters."""
    message = BytesParser(policy=email.policy.default).parsebytes(raw)
    headers = [(name, str(value)) for name, value in message.items()]
    return Opened(_part(message, "plain"), _part(message, "html"), headers)


def _part(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    if part is None:
        return ""
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    try:
        text = octets.decode(part.get_content_charset("utf-8"), "replace")
    except LookupError:  # a character set that nobody knows
        text = octets.decode("latin-1")
    return text.replace("\r\n", "\n")


def _mail(row: RowMapping) -> InboxMail:
    return InboxMail(
        row["id"],
        row["message_id"],
        row["received_at"].astimezone(UTC),
        row["sender"],
        row["recipient"],
        row["subject"],
        row["size_bytes"],
    )


def _key(address: str) -> str:
    try:
        return parse_address(address).key
    except AddressRefused:
        return address.casefold()
