"""Looks after messages whose run or job ended without them: taken over, given up or withdrawn.

A worker may die at any point, and a job may be cancelled or removed by hand. What
its message becomes depends only on how far the last attempt had come.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from muskox import JobState, Muskox
from muskox.apps.mail import store, tables
from muskox.apps.mail.kinds import QUEUES
from muskox.apps.mail.replies import Phase
from muskox.apps.mail.sending import Mail
from muskox.apps.mail.states import MessageState, Reason
from muskox.apps.mail.store import Message
from muskox.apps.mail.worlds import moment_now

__all__ = ["Abandoned", "take_over"]

_OPEN = (MessageState.QUEUED, MessageState.SENDING, MessageState.DEFERRED)
log = logging.getLogger("muskox.mail")


def take_over(connection: Connection, message: Message, now: datetime) -> Message:
    """End the attempt that a lost run has left open.

    Before `commit` nothing can have been delivered: back to queued, the attempt does not count. After it nobody
    knows: unknown, with the event `ambiguous`.
    """
    attempt = store.open_attempt_of(connection, message)
    if attempt is not None and attempt.phase is Phase.COMMIT:
        store.end_attempt(connection, attempt, attempt.phase, MessageState.UNKNOWN, now)
        return store.move(
            connection,
            message,
            MessageState.UNKNOWN,
            now,
            reason=Reason.AMBIGUOUS,
            attempt=message.attempts,
            event="ambiguous",
            reason_detail="the run was lost after the end of the mail may have been sent",
        )
    if attempt is not None:
        store.end_attempt(connection, attempt, attempt.phase, "lost", now)
    return store.move(
        connection,
        message,
        MessageState.QUEUED,
        now,
        attempt=message.attempts,
        attempts=max(0, message.attempts - 1),
        detail={"text": "the run was lost before the mail was sent"},
    )


class Abandoned:
    """Hears of mail jobs that end without their processor, and finds those that nobody told of."""

    def __init__(self, mail: Mail) -> None:
        self._mail = mail
        for name in QUEUES:
            _listen(mail.ox, name, self)

    async def reconcile(self, limit: int = 1_000) -> int:
        """Compare open messages with their jobs; returns how many had none any more and were given up."""
        found = 0
        for id, queue, job_id in await self._mail.in_thread(self._open_messages, limit):
            job = await self._mail.ox.queue(queue).get(job_id)
            if job is None:
                if await self._mail.in_thread(self._is_on_its_way, job_id):
                    continue
                job = await self._mail.ox.queue(queue).get(job_id)  # it may have arrived between the two looks
            if job is None or job.state is JobState.CANCELLED:
                found += await self.give_up(id, withdrawn=True)
            elif job.settled:
                found += await self.give_up(id, withdrawn=False)
        return found

    async def give_up(self, message_id: str, *, withdrawn: bool) -> bool:
        """End a message whose job has ended; returns whether it was still open."""
        ended = await self._mail.in_thread(self._give_up, message_id, withdrawn=withdrawn)
        self._mail.bell.ring(message_id)
        return ended

    async def job_ended(self, job_id: str, *, withdrawn: bool) -> None:
        """End the message of a job, if it has not ended by itself."""
        id = await self._mail.in_thread(self._message_of, job_id)
        if id is not None:
            await self.give_up(id, withdrawn=withdrawn)

    def _give_up(self, message_id: str, *, withdrawn: bool) -> bool:
        with self._mail.engine.begin() as connection:
            message = store.get(connection, message_id)
            if message is None or message.state not in _OPEN:
                return False
            now = moment_now(self._mail.ox.world)
            if message.state is MessageState.SENDING:
                message = take_over(connection, message, now)
                if message.state is MessageState.UNKNOWN:
                    return True
            if withdrawn:
                store.move(connection, message, MessageState.CANCELLED, now, reason=Reason.MANUAL)
            else:
                store.move(connection, message, MessageState.FAILED, now, reason=Reason.ATTEMPTS)
            log.info("message %s ended with its job", message_id)
            return True

    def _is_on_its_way(self, job_id: str) -> bool:
        with self._mail.engine.connect().execution_options(reading=True) as connection:
            return self._mail.jobs.is_on_its_way(connection, job_id)

    def _open_messages(self, limit: int) -> list[tuple[str, str, str]]:
        table = tables.messages.c
        # A message without a job is held: its campaign is paused.
        query = select(table.id, table.queue, table.job_id).where(table.state.in_(_OPEN), table.job_id != "")
        with self._mail.engine.connect().execution_options(reading=True) as connection:
            rows = connection.execute(query.order_by(table.created_at).limit(limit))
            return [(row.id, row.queue, row.job_id) for row in rows]

    def _message_of(self, job_id: str) -> str | None:
        table = tables.messages.c
        query = select(table.id).where(table.job_id == job_id, table.state.in_(_OPEN))
        with self._mail.engine.connect().execution_options(reading=True) as connection:
            return connection.execute(query).scalar()


def _listen(ox: Muskox, name: str, abandoned: Abandoned) -> None:
    @ox.on("failed", queue=name)
    async def failed(event: Any) -> None:
        await abandoned.job_ended(event.job_id, withdrawn=False)

    @ox.on("cancelled", queue=name)
    async def cancelled(event: Any) -> None:
        await abandoned.job_ended(event.job_id, withdrawn=True)

    @ox.on("removed", queue=name)
    async def removed(event: Any) -> None:
        await abandoned.job_ended(event.job_id, withdrawn=True)
