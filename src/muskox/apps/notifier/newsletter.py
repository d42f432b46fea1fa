"""The weekly newsletter: a schedule, and the job that writes the issue to every user.

An issue is a text file that the operator puts there; without one nobody is
written to. Subscriptions, and links to end them, are not here yet.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import select

from muskox import ActiveJob, Exponential
from muskox.apps.mail.sending import Mail
from muskox.apps.notifier import tables

__all__ = ["SCHEDULE", "Newsletter"]

SCHEDULE = "weekly-newsletter"
QUEUE = "newsletter"
BATCH = 100
LATEST = 6 * 3_600.0
"""Seconds after its moment at which an issue is still worth sending."""

log = logging.getLogger("muskox.notifier")


class Newsletter:
    """Declares the schedule. `issue` is the file: the subject in its first line, then the text; None: no issue."""

    def __init__(self, mail: Mail, issue: Path | None, *, cron: str, tz: str) -> None:
        self._mail = mail
        self._issue = issue
        mail.ox.cron(
            cron, tz=tz, queue=QUEUE, name=SCHEDULE, attempts=8, backoff=Exponential(60), overlap="skip",
            catch_up="none", grace=LATEST,
        )(self.send)  # fmt: skip

    async def send(self, job: ActiveJob) -> dict[str, int]:
        """Add a mail for each user, in batches; again from the start after a failure, which adds none twice."""
        issue = await self._mail.in_thread(self._read)
        if issue is None:
            log.info("no issue of the newsletter is there: nobody is written to")
            return {"users": 0, "added": 0}
        users, added, last = 0, 0, ""
        while True:
            ids, created = await self._mail.in_thread(self._add_batch, issue, job.id, last)
            if not ids:
                return {"users": users, "added": added}
            users, added, last = users + len(ids), added + created, ids[-1]
            await job.progress({"users": users})

    def _read(self) -> tuple[str, str] | None:
        """The subject and the text."""
        if self._issue is None or not self._issue.is_file():
            return None
        subject, _, text = self._issue.read_text("utf-8").strip().partition("\n")
        return (subject.strip(), text.strip()) if subject.strip() else None

    def _add_batch(self, issue: tuple[str, str], occurrence: str, after: str) -> tuple[list[str], int]:
        """Add the mails for the users whose ids follow `after`; their mails have keys, so that each gets one."""
        subject, text = issue
        users = tables.users
        with self._mail.engine.begin() as connection:
            found = connection.execute(
                select(users.c.id, users.c.email, users.c.name)
                .where(users.c.id > after)
                .order_by(users.c.id)
                .limit(BATCH)
            ).all()
            created = 0
            for user in found:
                sent = self._mail.send(
                    "newsletter",
                    to=user.email,
                    display=user.name,
                    context={"name": user.name, "headline_text": subject, "paragraphs": text.split("\n\n")},
                    kind="newsletter",
                    key=f"{occurrence}/{user.id}",
                    scope="newsletter",
                    user_id=user.id,
                    within=connection,
                )
                created += sent.created
        return [user.id for user in found], created
