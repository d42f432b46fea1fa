"""Delivers messages: the processor behind the mail queues, and what each outcome leads to.

Two short transactions surround the conversation with the server, and one in its
middle writes `commit` down before the end-of-data marker may leave. Whoever finds
an attempt without an end therefore knows whether a repetition is safe.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from muskox import ActiveJob, FinalError, Muskox, Rate, RateLimited
from muskox.apps.mail import evidence, store
from muskox.apps.mail.abandoned import take_over
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.breaker import BreakerRules, Gate
from muskox.apps.mail.compose import Composed
from muskox.apps.mail.domains import DomainRules, Domains
from muskox.apps.mail.errors import Overtaken, Refused
from muskox.apps.mail.gate import Gatekeeper
from muskox.apps.mail.heeding import heed
from muskox.apps.mail.kinds import QUEUES, Kind, OnAmbiguity, Stream, kind_of
from muskox.apps.mail.outcomes import Deferred, Outcome, Then, decide, next_delay
from muskox.apps.mail.replies import Phase, Reply, Verdict, judge
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


@dataclass(frozen=True, slots=True)
class _Ended:
    """How an attempt ended: what follows, and what the server said if it was asked."""

    outcome: Outcome
    reply: Reply | None = None
    verdict: Verdict | None = None
    composed: Composed | None = None
    opens: str | None = None


class Delivery:
    """Puts the mail queues of a program to work; made once, before the worker starts.

    `rate` is how many mails may start in some time, over all workers; `domains` what holds per recipient domain, and
    `breaker` when a transport that refuses us is left alone.
    """

    def __init__(
        self,
        mail: Mail,
        *,
        rate: Rate | None = None,
        domains: DomainRules | None = None,
        breaker: BreakerRules | None = None,
    ) -> None:
        self._mail = mail
        self._world = mail.ox.world
        self._worker = f"{platform.node()}:{os.getpid()}"[:128]
        self._gate = Gatekeeper(mail, breaker or BreakerRules(), rate)
        self._domains = Domains(mail, domains or DomainRules())
        for name in QUEUES:
            _declare(mail.ox, name, self)

    async def deliver(self, job: ActiveJob, message_id: str) -> dict[str, Any]:
        """Try to deliver one message. Running again does no harm: what is sent stays sent."""
        await self._gate.enter()
        begun = await self._mail.writer.run(partial(self._begin, job, message_id))
        self._mail.bell.ring(message_id)
        if isinstance(begun, RateLimited):
            raise begun
        if not isinstance(begun, _Begun):
            return _told(begun)
        try:
            composed = await asyncio.to_thread(self._compose, begun)
        except Refused as error:
            return await self._finish(begun, _Ended(_gave_up(Reason.RENDER, str(error))))
        if len(composed.raw) > LARGEST:
            text = f"the mail has {len(composed.raw)} bytes, at most {LARGEST} are allowed"
            return await self._finish(begun, _Ended(_gave_up(Reason.TOO_LARGE, text), composed=composed))
        try:
            reply = await self._mail.transport.deliver(
                _envelope(begun.message, composed), partial(self._mail.writer.run, partial(self._enter_commit, begun))
            )
        except Overtaken:
            log.warning("message %s was taken over by another run; this one did not send it", message_id)
            return {"state": "overtaken"}
        return await self._finish(begun, self._judged(begun, reply, composed))

    def _judged(self, begun: _Begun, reply: Reply, composed: Composed) -> _Ended:
        message, verdict = begun.message, judge(reply)
        outcome = decide(
            verdict,
            reply,
            _kind(message),
            attempt=message.attempts,
            last=begun.last,
            left=(message.expires_at - moment_now(self._world)).total_seconds(),
            chance=self._world.chance(),
        )
        return _Ended(outcome, reply, verdict, composed, self._gate.may_open(verdict, reply))

    # --- the transactions ------------------------------------------------------

    def _begin(self, job: ActiveJob, message_id: str, connection: Connection) -> _Begun | Message | RateLimited:
        """Open an attempt, or give the message for which there is nothing to do, or what the job has to raise."""
        message = store.get(connection, message_id)
        if message is None:
            raise FinalError(f"there is no message {message_id}")
        now = moment_now(self._world)
        if message.state is MessageState.SENDING:
            message = take_over(connection, message, now)
        message = withhold(connection, message, now)
        if message.state in FINAL or not message.job_id:
            return message
        unknown = message.state is MessageState.UNKNOWN
        if unknown and _kind(message).on_ambiguity is OnAmbiguity.ASSUME_SENT:
            return store.move(connection, message, MessageState.SENT, now, reason=Reason.AMBIGUOUS, first_sent_at=now)
        if not unknown and message.expires_at <= now:
            return store.move(connection, message, MessageState.FAILED, now, reason=Reason.EXPIRED)
        context = self._mail.unsealed(connection, message)
        if context is None and unknown:
            return message
        if context is None:
            return store.move(connection, message, MessageState.CANCELLED, now, reason=Reason.MANUAL)
        held = self._gate.take_turn(connection, now)
        return held or self._open(job, connection, message, context)

    def _open(self, job: ActiveJob, connection: Connection, message: Message, context: dict[str, Any]) -> _Begun:
        now, count = moment_now(self._world), message.attempts + 1
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
        attempt = store.open_attempt(connection, message, now, job_id=job.id, fence=job.fence, worker=self._worker)
        last = count >= message.max_attempts or job.attempt >= job.attempts
        return _Begun(message, attempt, context, last)

    def _compose(self, begun: _Begun) -> Composed:
        message = begun.message
        assert message.date_header is not None
        composed = self._mail.composed(message, begun.context, message.date_header)
        if message.content_sha256 not in {None, composed.sha256}:
            log.warning(
                "message %s reads differently than at its last attempt: its template or signature changed", message.id
            )
        return composed

    def _enter_commit(self, begun: _Begun, connection: Connection) -> None:
        store.enter_phase(connection, begun.message, begun.attempt, Phase.COMMIT)

    def _record(self, begun: _Begun, ended: _Ended, connection: Connection) -> tuple[Message, Gate | None]:
        """Write down how an attempt ended, what it says of the mailbox, and that the server refuses us, if it does."""
        message, now, outcome, reply = begun.message, moment_now(self._world), ended.outcome, ended.reply
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
            **_changes(message, ended, now),
        )
        phase = reply.phase if reply else begun.attempt.phase
        store.end_attempt(connection, begun.attempt, phase, outcome.state, now, reply.line if reply else None)
        if outcome.state is MessageState.UNKNOWN and outcome.then is Then.DONE:
            after = store.move(connection, after, MessageState.SENT, now, reason=Reason.AMBIGUOUS, first_sent_at=now)
        if outcome.state is MessageState.SENT and self._mail.transport.proves_delivery:
            after = store.move(connection, after, MessageState.DELIVERED, now, attempt=message.attempts)
        after = evidence.apply_waiting(connection, after, now)
        if ended.verdict is not None:
            heed(connection, after, ended.verdict, now)
        gate = self._gate.open(connection, ended.opens, reply, now) if ended.opens and reply else None
        return after, gate

    def _take_evidence(self, begun: _Begun, reply: Reply, connection: Connection) -> Message | None:
        """Use a late acceptance: the message was taken over meanwhile, and must not be sent once more."""
        message = store.get(connection, begun.message.id)
        now = moment_now(self._world)
        if message is None or message.state not in {MessageState.UNKNOWN, MessageState.SENDING}:
            return message
        return store.move(connection, message, MessageState.SENT, now, cause=Cause.SMTP, reply=reply, first_sent_at=now)

    # --- what becomes of the job -----------------------------------------------

    async def _finish(self, begun: _Begun, ended: _Ended) -> dict[str, Any]:
        id, outcome, reply = begun.message.id, ended.outcome, ended.reply
        try:
            message, gate = await self._mail.writer.run(partial(self._record, begun, ended))
        except Overtaken:
            taken = partial(self._take_evidence, begun)
            late = await self._mail.writer.run(partial(taken, reply)) if reply and reply.accepted else None
            self._mail.bell.ring(id)
            return _told(late) if late else {"state": "overtaken"}
        self._mail.bell.ring(id)
        if gate is not None:
            self._gate.opened(gate)
        if ended.verdict is not None:
            await self._domains.learn(message.queue, self._mail.limit_key(message.to_domain), ended.verdict)
        match outcome.then:
            case Then.AGAIN:
                raise Deferred(f"message {id} {outcome.state}: {outcome.detail}", outcome.delay)
            case Then.HELD:
                raise self._gate.held_for(gate, outcome.delay, whole=outcome.state is MessageState.QUEUED)
            case Then.GIVE_UP:
                log.info("message %s %s for %s, attempt %d", id, outcome.state, outcome.reason, message.attempts)
                raise FinalError(f"message {id} {outcome.state}, {outcome.reason}: {outcome.detail}")
            case Then.DONE:
                return _told(message)


def _declare(ox: Muskox, name: str, delivery: Delivery) -> None:
    @ox.queue(name).processor(JOB_NAME, attempts=5, backoff=next_delay, max_stalls=_STALLS)
    async def deliver(job: ActiveJob, message_id: str) -> dict[str, Any]:
        return await delivery.deliver(job, message_id)


def _envelope(message: Message, composed: Composed) -> Envelope:
    recipient = parse_address(message.to_address)
    notify = ""
    if message.bounce_token is not None:
        notify = "FAILURE,DELAY" if message.stream == Stream.BULK else "SUCCESS,FAILURE,DELAY"
    return Envelope(message.id, message.envelope_from, recipient, composed.raw, composed.needs_smtputf8, notify)


def _kind(message: Message) -> Kind:
    return kind_of(message.kind, message.stream)


def _told(message: Message) -> dict[str, Any]:
    return {"state": message.state, "reason": message.reason}


def _gave_up(reason: Reason, text: str) -> Outcome:
    return Outcome(MessageState.FAILED, reason, Then.GIVE_UP, text)


def _changes(message: Message, ended: _Ended, now: datetime) -> dict[str, Any]:
    """What a message says after an attempt, beside its state."""
    outcome, composed = ended.outcome, ended.composed
    changes: dict[str, Any] = {"reason_detail": outcome.detail}
    if composed is not None:
        changes |= {"content_sha256": composed.sha256, "size_bytes": len(composed.raw)}
    if outcome.then in {Then.AGAIN, Then.HELD}:
        changes["next_attempt_at"] = now + timedelta(seconds=outcome.delay)
    if outcome.state is MessageState.SENT:
        changes["first_sent_at"] = message.first_sent_at or now
    if outcome.state is MessageState.QUEUED:
        changes["attempts"] = message.attempts - 1
    return changes


def _detail(outcome: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {"text": outcome.detail} if outcome.detail else {}
    return told | ({"delay": round(outcome.delay, 3)} if outcome.then in {Then.AGAIN, Then.HELD} else {})
