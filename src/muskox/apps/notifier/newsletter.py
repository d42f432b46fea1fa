"""The weekly newsletter: a schedule, and the job that makes a campaign of the issue.

An issue is a text file that the operator puts there; without one nobody is
written to. Who gets it is on the list `newsletter`.
"""

from __future__ import annotations

import logging
from pathlib import Path

from muskox import ActiveJob, Exponential
from muskox.apps.mail.sending import Mail
from muskox.apps.mail.spreading import Campaigns
from muskox.apps.notifier.lists import NEWSLETTER

__all__ = ["SCHEDULE", "Newsletter"]

SCHEDULE = "weekly-newsletter"
QUEUE = "newsletter"
LATEST = 6 * 3_600.0
"""Seconds after its moment at which an issue is still worth sending."""

log = logging.getLogger("muskox.notifier")


class Newsletter:
    """Declares the schedule. `issue` is the file: the subject in its first line, then the text; None: no issue."""

    def __init__(self, mail: Mail, campaigns: Campaigns, issue: Path | None, *, cron: str, tz: str) -> None:
        self._mail = mail
        self._campaigns = campaigns
        self._issue = issue
        mail.ox.cron(
            cron, tz=tz, queue=QUEUE, name=SCHEDULE, attempts=8, backoff=Exponential(60), overlap="skip",
            catch_up="none", grace=LATEST,
        )(self.send)  # fmt: skip

    async def send(self, job: ActiveJob) -> dict[str, str | bool | None]:
        """Start the campaign of this moment; again after a failure, which finds the campaign that is there."""
        return await self._mail.in_thread(self._start, job.id)

    def _start(self, job_id: str) -> dict[str, str | bool | None]:
        issue = self._read()
        if issue is None:
            log.info("no issue of the newsletter is there: nobody is written to")
            return {"campaign": None, "created": False}
        subject, text = issue
        context = {"headline_text": subject, "paragraphs": text.split("\n\n")}
        with self._mail.engine.begin() as connection:
            found, created = self._campaigns.start(
                connection, NEWSLETTER, "newsletter", context, occurrence=_occurrence(job_id)
            )
        return {"campaign": found.id, "created": created}

    def _read(self) -> tuple[str, str] | None:
        """The subject and the text."""
        if self._issue is None or not self._issue.is_file():
            return None
        subject, _, text = self._issue.read_text("utf-8").strip().partition("\n")
        return (subject.strip(), text.strip()) if subject.strip() else None


def _occurrence(job_id: str) -> str:
    """Name the moment that the job was added for, whatever became of the schedule since; by hand, the job."""
    moment = job_id.rpartition(":")[2] if job_id.startswith("schedule:") else job_id
    return f"{NEWSLETTER}/{moment}"
