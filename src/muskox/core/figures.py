"""How many jobs there are: the figures of a queue as a store gives them.

It counts nothing; stores keep figures up to date with every move.
"""

from __future__ import annotations

import msgspec

from muskox.core.job import JobState

__all__ = ["NameCount", "QueueCounts"]


class NameCount(msgspec.Struct, frozen=True):
    """How many jobs of one name are in each state."""

    name: str
    states: dict[JobState, int]


class QueueCounts(msgspec.Struct, frozen=True):
    """How many jobs of a queue are in each state; every state has its figure.

    `held` are those among the waiting whose name no live worker can run.
    `oldest_waiting` is the age in seconds of the job that has waited longest, None when none waits. `added` is how
    many jobs were ever added, those that are gone included.
    """

    queue: str
    paused: bool
    states: dict[JobState, int]
    names: list[NameCount]
    held: int = 0
    oldest_waiting: float | None = None
    added: int = 0

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def waiting(self) -> int:
        return self.states[JobState.WAITING]

    @property
    def delayed(self) -> int:
        return self.states[JobState.DELAYED]

    @property
    def active(self) -> int:
        return self.states[JobState.ACTIVE]

    @property
    def completed(self) -> int:
        return self.states[JobState.COMPLETED]

    @property
    def failed(self) -> int:
        return self.states[JobState.FAILED]
