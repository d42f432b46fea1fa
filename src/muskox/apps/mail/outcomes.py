"""Decides what follows from a verdict: done, again later, held without using an attempt, or given up.

A plain calculation; `delivery.py` brings the figures and writes the answer down.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from muskox.apps.mail.kinds import Kind, OnAmbiguity, delay_after
from muskox.apps.mail.replies import Reply, Verdict
from muskox.apps.mail.states import MessageState, Reason

__all__ = ["Deferred", "Outcome", "Then", "decide", "next_delay"]

_SERVER_PAUSE = 10.0
"""Seconds until a message is tried again whose server does not let us in; the breaker may ask for more."""

_UNFORESEEN = 5.0
"""Seconds until another attempt after an error that no reply explains, such as a locked database."""


class Deferred(Exception):
    """The attempt failed and another one may succeed, `delay` seconds from now."""

    def __init__(self, text: str, delay: float) -> None:
        super().__init__(text)
        self.delay = delay


class Then(StrEnum):
    """What becomes of the job."""

    DONE = "done"
    AGAIN = "again"
    HELD = "held"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The new state of the message, why, what becomes of its job, and after how many seconds."""

    state: MessageState
    reason: Reason
    then: Then
    detail: str = ""
    delay: float = 0.0


def decide(
    verdict: Verdict, reply: Reply, kind: Kind, *, attempt: int, last: bool, left: float, chance: float
) -> Outcome:
    """Turn the verdict on attempt number `attempt` into an outcome.

    `last` says that no attempt is left, `left` how many seconds remain until the message is useless.
    """
    detail = f"{verdict.reason}: {reply.text}" if reply.text else str(verdict.reason)
    match verdict.state:
        case MessageState.SENT | MessageState.BOUNCED:
            return Outcome(verdict.state, verdict.reason, Then.DONE)
        case MessageState.QUEUED:
            return Outcome(MessageState.QUEUED, verdict.reason, Then.HELD, detail, _SERVER_PAUSE)
        case MessageState.DEFERRED | MessageState.UNKNOWN:
            delay = delay_after(
                kind,
                attempt,
                replied=verdict.replied,
                greylisted=verdict.reason is Reason.GREYLISTED,
                hint=verdict.hint,
                chance=chance,
            )
            return _later(verdict, kind, detail, delay, last=last, late=delay >= left)
        case _:
            return Outcome(MessageState.FAILED, verdict.reason, Then.GIVE_UP, detail)


def _later(verdict: Verdict, kind: Kind, detail: str, delay: float, *, last: bool, late: bool) -> Outcome:
    if verdict.state is MessageState.UNKNOWN:
        if kind.hold > 0:
            return Outcome(MessageState.UNKNOWN, verdict.reason, Then.HELD, detail, kind.hold)
        if kind.on_ambiguity is OnAmbiguity.ASSUME_SENT:
            return Outcome(MessageState.UNKNOWN, verdict.reason, Then.DONE, detail)
        then = Then.GIVE_UP if last or late else Then.AGAIN
        return Outcome(MessageState.UNKNOWN, verdict.reason, then, detail, delay)
    if last:
        return Outcome(MessageState.FAILED, Reason.ATTEMPTS, Then.GIVE_UP, detail)
    if late:
        return Outcome(MessageState.FAILED, Reason.EXPIRED, Then.GIVE_UP, detail)
    return Outcome(MessageState.DEFERRED, verdict.reason, Then.AGAIN, detail, delay)


def next_delay(attempt: int, error: BaseException | None) -> float:
    """Give the backoff of the delivery job: what the outcome said, else a growing pause."""
    if isinstance(error, Deferred):
        return error.delay
    return float(min(_UNFORESEEN * 2 ** (min(attempt, 20) - 1), 900.0))
