"""Delivers messages: the processor behind the mail queues, and what each outcome leads to.

Two short transactions surround the conversation with the server, and one in its
middle writes `commit` down before the end-of-data marker may leave. Whoever finds
an attempt without an end therefore knows whether a repetition is safe.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from muskox import ActiveJob, FinalError, Muskox
from muskox.apps.mail import store
from muskox.apps.mail.abandoned import take_over
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.compose import Composed
from muskox.apps.mail.errors import Overtaken, Refused
from muskox.apps.mail.kinds import HIGH, KINDS, NORMAL, Kind, OnAmbiguity
from muskox.apps.mail.outcomes import Deferred, Outcome, Then, decide, next_delay
from muskox.apps.mail.replies import Phase, Reply, judge
from muskox.apps.mail.sending import JOB_NAME, Mail
from muskox.apps.mail.smtp import Envelope
from muskox.apps.mail.standing import withhold
from muskox.apps.mail.states import FINAL, Cause, MessageState, Reason
from muskox.apps.mail.store import Attempt, Message
from muskox.apps.mail.worlds import moment_now

__all__ = ["LARGEST", "Delivery"]

LARGEST = 10 * 1024 * 1024
"""No mail may have more bytes than this."""

_STALLS = 5
log = logging.getLogger("muskox.mail")


@dataclass(frozen=True, slots=True)
class _Begun:
    """An attempt that has been opened, with all that its mail says."""

    message: Message
    attempt: Attempt
    context: dict[str, Any]
    last: bool


class Delivery:
    """Puts the mail queues of a program to work; made once, before the worker starts."""

    def __init__(self, mail: Mail) -> None:
        self._mail = mail
        self._world = mail.ox.world
        for name in (HIGH, NORMAL):
            _declare(mail.ox, name, self)

    async def deliver(self, job: ActiveJob, message_id: str) -> dict[str, Any]:
        """Try to deliver one message. Running again does no harm: what is sent stays sent."""
        begun = await self._mail.in_thread(self._begin, job, message_id)
        self._mail.bell.ring(message_id)
        if not isinstance(begun, _Begun):
            return _told(begun)
        message = begun.message
        try:
            composed = await asyncio.to_thread(self._compose, begun)
        except Refused as error:
            outcome = Outcome(MessageState.FAILED, Reason.RENDER, Then.GIVE_UP, str(error))
            return await self._finish(job, begun, outcome, None, None)
        if len(composed.raw) > LARGEST:
            text = f"the mail has {len(composed.raw)} bytes, at most {LARGEST} are allowed"
            outcome = Outcome(MessageState.FAILED, Reason.TOO_LARGE, Then.GIVE_UP, text)
            return await self._finish(job, begun, outcome, None, composed)

        async def before_commit() -> None:
            await self._mail.in_thread(self._enter_commit, begun)

        try:
            reply = await self._mail.transport.deliver(_envelope(message, composed), before_commit)
        except Overtaken:
            log.warning("message %s was taken over by another run; this one did not send it", message_id)
            return {"state": "overtaken"}
        outcome = decide(
            judge(reply),
            reply,
            _kind(message),
            attempt=message.attempts,
            last=begun.last,
            left=(message.expires_at - moment_now(self._world)).total_seconds(),
            chance=self._world.chance(),
        )
        return await self._finish(job, begun, outcome, reply, composed)

    # --- the transactions ------------------------------------------------------

    def _begin(self, job: ActiveJob, message_id: str) -> _Begun | Message:
        """Open an attempt, or give the message for which there is nothing to do."""
        with self._mail.engine.begin() as connection:
            message = store.get(connection, message_id)
            if message is None:
                raise FinalError(f"there is no message {message_id}")
            now = moment_now(self._world)
            if message.state is MessageState.SENDING:
                message = take_over(connection, message, now)
            message = withhold(connection, message, now)
            if message.state in FINAL or not message.job_id:
                return message
            if message.state is MessageState.UNKNOWN:
                if _kind(message).on_ambiguity is OnAmbiguity.ASSUME_SENT:
                    return store.move(connection, message, MessageState.SENT, now, reason=Reason.AMBIGUOUS)
            elif message.expires_at <= now:
                return store.move(connection, message, MessageState.FAILED, now, reason=Reason.EXPIRED)
            context = self._mail.unsealed(connection, message)
            if context is None:
                if message.state is MessageState.UNKNOWN:
                    return message
                return store.move(connection, message, MessageState.CANCELLED, now, reason=Reason.MANUAL)
            count = message.attempts + 1
            message = store.move(
                connection,
                message,
                MessageState.SENDING,
                now,
                attempt=count,
                attempts=count,
                date_header=message.date_header or now.replace(microsecond=0),
                transport=self._mail.transport.name,
            )
            attempt = store.open_attempt(connection, message, now, job_id=job.id, fence=job.fence)
            last = count >= message.max_attempts or job.attempt >= job.attempts
            return _Begun(message, attempt, context, last)

    def _compose(self, begun: _Begun) -> Composed:
        message = begun.message
        assert message.date_header is not None
        composed = self._mail.composed(message, begun.context, message.date_header)
        if message.content_sha256 not in {None, composed.sha256}:
            log.warning("message %s reads differently than at its last attempt: its template changed", message.id)
        return composed

    def _enter_commit(self, begun: _Begun) -> None:
        with self._mail.engine.begin() as connection:
            store.enter_phase(connection, begun.message, begun.attempt, Phase.COMMIT)

    def _record(self, begun: _Begun, outcome: Outcome, reply: Reply | None, composed: Composed | None) -> Message:
        """Write down how an attempt ended, and add the next job where the old one cannot go on."""
        message, now = begun.message, moment_now(self._world)
        changes: dict[str, Any] = {"reason_detail": outcome.detail}
        if composed is not None:
            changes |= {"content_sha256": composed.sha256, "size_bytes": len(composed.raw)}
        if outcome.then in {Then.AGAIN, Then.ANEW}:
            changes["next_attempt_at"] = now + timedelta(seconds=outcome.delay)
        if outcome.state is MessageState.SENT:
            changes["first_sent_at"] = message.first_sent_at or now
        if outcome.then is Then.ANEW:
            changes |= {"attempts": message.attempts - 1, "job_id": self._world.new_id()}
        with self._mail.engine.begin() as connection:
            after = store.move(
                connection,
                message,
                outcome.state,
                now,
                reason=outcome.reason,
                cause=Cause.SMTP if reply else Cause.APP,
                reply=reply,
                attempt=message.attempts,
                event="ambiguous" if outcome.state is MessageState.UNKNOWN else None,
                detail=_detail(outcome),
                **changes,
            )
            phase = reply.phase if reply else begun.attempt.phase
            store.end_attempt(connection, begun.attempt, phase, outcome.state, now)
            if outcome.state is MessageState.UNKNOWN and outcome.then is Then.DONE:
                after = store.move(
                    connection, after, MessageState.SENT, now, reason=Reason.AMBIGUOUS, first_sent_at=now
                )
            if outcome.state is MessageState.SENT and self._mail.transport.proves_delivery:
                after = store.move(connection, after, MessageState.DELIVERED, now, attempt=message.attempts)
            if outcome.then is Then.ANEW:
                self._add_anew(connection, after, outcome.delay)
        return after

    def _add_anew(self, connection: Any, message: Message, delay: float) -> None:
        self._mail.jobs.add(
            connection,
            message.queue,
            JOB_NAME,
            {"message_id": message.id},
            id=message.job_id,
            priority=message.priority,
            attempts=max(1, message.max_attempts - message.attempts),
            delay=delay,
        )

    def _take_evidence(self, begun: _Begun, reply: Reply) -> Message | None:
        """Use a late acceptance: the message was taken over meanwhile, and must not be sent once more."""
        with self._mail.engine.begin() as connection:
            message = store.get(connection, begun.message.id)
            now = moment_now(self._world)
            if message is None or message.state not in {MessageState.UNKNOWN, MessageState.SENDING}:
                return message
            return store.move(
                connection, message, MessageState.SENT, now, cause=Cause.SMTP, reply=reply, first_sent_at=now
            )

    # --- what becomes of the job -----------------------------------------------

    async def _finish(
        self, job: ActiveJob, begun: _Begun, outcome: Outcome, reply: Reply | None, composed: Composed | None
    ) -> dict[str, Any]:
        id = begun.message.id
        try:
            message = await self._mail.in_thread(self._record, begun, outcome, reply, composed)
        except Overtaken:
            late = await self._mail.in_thread(self._take_evidence, begun, reply) if reply and reply.accepted else None
            self._mail.bell.ring(id)
            return _told(late) if late else {"state": "overtaken"}
        self._mail.bell.ring(id)
        match outcome.then:
            case Then.AGAIN:
                raise Deferred(f"message {id} {outcome.state}: {outcome.detail}", outcome.delay)
            case Then.GIVE_UP:
                log.info("message %s %s for %s, attempt %d", id, outcome.state, outcome.reason, message.attempts)
                raise FinalError(f"message {id} {outcome.state}, {outcome.reason}: {outcome.detail}")
            case Then.DONE | Then.ANEW:
                return _told(message)


def _declare(ox: Muskox, name: str, delivery: Delivery) -> None:
    @ox.queue(name).processor(JOB_NAME, attempts=5, backoff=next_delay, max_stalls=_STALLS)
    async def deliver(job: ActiveJob, message_id: str) -> dict[str, Any]:
        return await delivery.deliver(job, message_id)


def _envelope(message: Message, composed: Composed) -> Envelope:
    recipient = parse_address(message.to_address)
    return Envelope(message.id, message.envelope_from, recipient, composed.raw, composed.needs_smtputf8)


def _kind(message: Message) -> Kind:
    return KINDS.get(message.kind, KINDS["custom"])


def _told(message: Message) -> dict[str, Any]:
    return {"state": message.state, "reason": message.reason}


def _detail(outcome: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {"text": outcome.detail} if outcome.detail else {}
    return told | ({"delay": round(outcome.delay, 3)} if outcome.then in {Then.AGAIN, Then.ANEW} else {})
