"""Takes in what comes back about mail: finds the message that a report speaks of, and lets it count as evidence.

What belongs to no message of ours is kept as unmatched, and never guessed at.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, select

from muskox.apps.mail import evidence, store, tables
from muskox.apps.mail.errors import Refused
from muskox.apps.mail.evidence import Evidence, Taken
from muskox.apps.mail.heeding import heed, heed_complaint
from muskox.apps.mail.kinds import NORMAL
from muskox.apps.mail.replies import Phase, Reply, Verdict, judge
from muskox.apps.mail.reports import Action, Recipient, Report, ReportKind, read_report
from muskox.apps.mail.sending import Mail
from muskox.apps.mail.states import Cause, MessageState, Reason
from muskox.apps.mail.store import Message
from muskox.apps.mail.worlds import moment_now

__all__ = ["Inbound", "Told", "read_bounces"]

_READ_EVERY = 30.0
log = logging.getLogger("muskox.mail")

_TYPES = frozenset({
    "queued", "sent", "delivered", "delayed", "bounced", "complained", "opened", "clicked", "unsubscribed",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a provider, in our words. `id` names it at its source; `text` is what the far server said."""

    id: str
    type: str
    message: str
    at: datetime
    code: int | None = None
    text: str = ""


class Inbound:
    """Takes reports and events; made once per program."""

    def __init__(self, mail: Mail) -> None:
        self.ox = mail.ox
        self._mail = mail

    async def take_report(self, raw: bytes, *, sent_to: str = "") -> str:
        """Take one report as it came; returns what became of it, in the words of `Taken`."""
        report = await asyncio.to_thread(read_report, raw, sent_to=sent_to)
        return await self._counted(partial(self._take_report, report))

    async def take_told(self, told: Told) -> str:
        """Take one event of a provider; returns what became of it. Raises `Refused` for a type that is none."""
        if told.type not in _TYPES:
            raise Refused(f"there is no event {told.type!r}; there are {', '.join(sorted(_TYPES))}")
        return await self._counted(partial(self._take_told, told))

    async def read_maildir(self, folder: Path, limit: int = 500) -> int:
        """Take the reports that lie in `new` of a Maildir, and move each to `cur` when it has counted; how many."""
        names = await asyncio.to_thread(_names_in, folder / "new", limit)
        for name in names:
            try:
                raw = await asyncio.to_thread((folder / "new" / name).read_bytes)
            except FileNotFoundError:
                continue  # another process was quicker
            try:
                await self.take_report(raw)
            except Refused as error:
                log.warning("the report %s was not read: %s", name, error)
            await asyncio.to_thread(_put_away, folder, name)
        return len(names)

    async def _counted(self, take: partial[tuple[str, str | None]]) -> str:
        taken, message_id = await self._mail.writer.run(take)
        if message_id is not None:
            self._mail.bell.ring(message_id)
        else:
            log.info("a report belongs to no message: kept as unmatched")
        return taken

    # --- within the transaction --------------------------------------------------

    def _take_report(self, report: Report, connection: Connection) -> tuple[str, str | None]:
        now = moment_now(self._mail.ox.world)
        message = _find(connection, report)
        if message is None:
            return evidence.store_unmatched(connection, _unmatched(report, now), now), None
        taken = Taken.IGNORED
        match report.kind:
            case ReportKind.DELIVERY:
                for recipient in report.recipients:
                    taken = _take_recipient(connection, message, report, recipient, now)
                    message = store.get(connection, message.id) or message
            case ReportKind.COMPLAINT:
                found = Evidence("complained", Cause.ARF, report.key, now, Reason.COMPLAINT)
                taken = evidence.take(connection, message, found, now)
                heed_complaint(connection, message, now)
            case ReportKind.AUTO_REPLY:
                taken = evidence.take(connection, message, Evidence("autoresponded", Cause.DSN, report.key, now), now)
            case ReportKind.OTHER:
                taken = evidence.take(connection, message, Evidence("report", Cause.DSN, report.key, now), now)
        return taken, message.id

    def _take_told(self, told: Told, connection: Connection) -> tuple[str, str | None]:
        now = moment_now(self._mail.ox.world)
        message = _by_name(connection, told.message)
        verdict = _verdict_of(told)
        found = Evidence(
            told.type,
            Cause.WEBHOOK,
            told.id,
            told.at,
            verdict.reason if verdict else Reason.COMPLAINT if told.type == "complained" else Reason.NONE,
            {"text": told.text} if told.text else {},
        )
        if message is None:
            return evidence.store_unmatched(connection, found, now), None
        taken = evidence.take(connection, message, found, now)
        if taken in {Taken.MOVED, Taken.WAITS} and verdict is not None:
            heed(connection, store.get(connection, message.id) or message, verdict, now)
        if told.type == "complained":
            heed_complaint(connection, message, now)
        return taken, message.id


def read_bounces(inbound: Inbound, folder: Path) -> None:
    """Declare the schedule that reads a Maildir; every worker must see the folder."""

    @inbound.ox.every(_READ_EVERY, queue=NORMAL, name="mail-bounces", overlap="skip", catch_up="none")
    async def read() -> int:
        return await inbound.read_maildir(folder)


def _take_recipient(
    connection: Connection, message: Message, report: Report, recipient: Recipient, now: datetime
) -> str:
    detail = {"status": recipient.status, "text": recipient.reply.text, "remote_mta": recipient.remote_mta}
    key = f"{report.key[:40]}:{recipient.action}"
    if recipient.action is not Action.FAILED:
        return evidence.take(connection, message, Evidence(recipient.action, Cause.DSN, key, now, detail=detail), now)
    verdict = _as_bounce(judge(recipient.reply))
    found = Evidence("bounced", Cause.DSN, key, now, verdict.reason, detail)
    taken = evidence.take(connection, message, found, now)
    if taken in {Taken.MOVED, Taken.WAITS}:
        heed(connection, store.get(connection, message.id) or message, verdict, now)
    return taken


def _as_bounce(verdict: Verdict) -> Verdict:
    """A server that has given up makes a bounce of whatever it had met, also of what was only temporary."""
    return Verdict(MessageState.BOUNCED, verdict.reason, replied=True, suppress=verdict.suppress)


def _verdict_of(told: Told) -> Verdict | None:
    if told.type != "bounced":
        return None
    return _as_bounce(judge(Reply.of(Phase.RCPT, told.code or 550, told.text)))


def _find(connection: Connection, report: Report) -> Message | None:
    """By the address that the report was sent to, then by the envelope id, then by the Message-ID it sends back."""
    table = tables.messages.c
    for token in report.tokens:
        id = connection.execute(select(table.id).where(table.bounce_token == token)).scalar()
        if id is not None:
            return store.get(connection, id)
    if report.envelope_id:
        message = store.get(connection, report.envelope_id)
        if message is not None:
            return message
    for message_id in report.message_ids:
        message = _by_name(connection, message_id)
        if message is not None:
            return message
    return None


def _by_name(connection: Connection, name: str) -> Message | None:
    """Find a message by its id or by its Message-ID header, with or without angle brackets."""
    message = store.get(connection, name)
    if message is not None:
        return message
    table = tables.messages.c
    header = name if name.startswith("<") else f"<{name}>"
    id = connection.execute(select(table.id).where(table.message_id_header == header)).scalar()
    return None if id is None else store.get(connection, id)


def _unmatched(report: Report, now: datetime) -> Evidence:
    cause = Cause.ARF if report.kind is ReportKind.COMPLAINT else Cause.DSN
    said = [{"action": one.action, "status": one.status, "text": one.reply.text} for one in report.recipients[:5]]
    return Evidence(report.kind, cause, report.key, now, detail={"recipients": said})


def _names_in(folder: Path, limit: int) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))[:limit]


def _put_away(folder: Path, name: str) -> None:
    (folder / "cur").mkdir(exist_ok=True)
    try:
        (folder / "new" / name).rename(folder / "cur" / f"{name}:2,S")
    except FileNotFoundError:
        pass
