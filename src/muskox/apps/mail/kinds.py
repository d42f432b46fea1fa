"""The kinds of mail: queue, priority, attempts, delays, deadline, and what to do when nobody knows.

A table of values and the arithmetic of delays; the dice are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = [
    "BULK",
    "HIGH",
    "KINDS",
    "NORMAL",
    "QUEUES",
    "Growth",
    "Kind",
    "OnAmbiguity",
    "Stream",
    "delay_after",
    "kind_of",
]

HIGH = "mail-high"
NORMAL = "mail"
BULK = "mail-bulk"
QUEUES = (HIGH, NORMAL, BULK)
"""The queues in which mail waits. Bulk mail has its own, so that its limits hold up nothing else."""

_HOUR = 3_600.0
_CAP = 6 * _HOUR


class Stream(StrEnum):
    """Mail that somebody's action asked for, or mail to many."""

    TRANSACTIONAL = "transactional"
    BULK = "bulk"


class OnAmbiguity(StrEnum):
    """What follows when the server may or may not have taken the mail."""

    RETRY = "retry"
    ASSUME_SENT = "assume_sent"


@dataclass(frozen=True, slots=True)
class Growth:
    """Seconds before attempt k + 1: `first` · `factor` to the power of k − 1, at most `cap`."""

    first: float
    factor: float
    cap: float = _CAP

    def after(self, attempt: int) -> float:
        return float(min(self.first * self.factor ** (min(attempt, 64) - 1), self.cap))


@dataclass(frozen=True, slots=True)
class Kind:
    """How mails of one kind are sent. `deadline` is seconds from the request; later the mail is not sent.

    `hold` is for how many seconds a message whose fate nobody knows waits for evidence before a policy decides.
    """

    name: str
    stream: Stream
    queue: str
    priority: int
    attempts: int
    network: Growth
    reply: Growth
    deadline: float
    greylisted: float = 300.0
    hold: float = 0.0
    policy: OnAmbiguity | None = None

    @property
    def on_ambiguity(self) -> OnAmbiguity:
        """A second copy of a transactional mail is harmless and none is not; of bulk mail it is the other way."""
        if self.policy is not None:
            return self.policy
        return OnAmbiguity.RETRY if self.stream is Stream.TRANSACTIONAL else OnAmbiguity.ASSUME_SENT


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "password_reset",
            Stream.TRANSACTIONAL,
            HIGH,
            priority=10,
            attempts=5,
            network=Growth(2.0, 2.0),
            reply=Growth(60.0, 2.0),
            deadline=_HOUR - 300.0,
        ),
        Kind(
            "welcome",
            Stream.TRANSACTIONAL,
            NORMAL,
            priority=5,
            attempts=8,
            network=Growth(60.0, 3.0),
            reply=Growth(60.0, 3.0),
            deadline=24 * _HOUR,
        ),
        Kind(
            "newsletter",
            Stream.BULK,
            BULK,
            priority=1,
            attempts=8,
            network=Growth(300.0, 2.0),
            reply=Growth(300.0, 2.0),
            deadline=72 * _HOUR,
        ),
        Kind(
            "custom",
            Stream.TRANSACTIONAL,
            NORMAL,
            priority=3,
            attempts=5,
            network=Growth(60.0, 2.0),
            reply=Growth(60.0, 2.0),
            deadline=24 * _HOUR,
        ),
    )
}


def kind_of(name: str, stream: str) -> Kind:
    """Give the rules for a mail of a kind in a stream; a kind that is not known any more counts as custom."""
    kind = KINDS.get(name, KINDS["custom"])
    if kind.stream == stream:
        return kind
    queue = BULK if stream == Stream.BULK else NORMAL if kind.queue == BULK else kind.queue
    return replace(kind, stream=Stream(stream), queue=queue)


def delay_after(
    kind: Kind, attempt: int, *, replied: bool, greylisted: bool, hint: float | None, chance: float
) -> float:
    """Seconds until the attempt after the failed `attempt`; `hint` is what the server asked for.

    Spread by ±20 % above five seconds, and never below what a server asked for.
    """
    if hint is not None:
        return hint * (1 + 0.2 * chance)
    if greylisted:
        return kind.greylisted * (1 + 0.2 * chance)
    seconds = (kind.reply if replied else kind.network).after(attempt)
    return seconds if seconds <= 5 else seconds * (1 + 0.2 * (2 * chance - 1))
