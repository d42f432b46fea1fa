"""What an app tells of its past: figures by the minute, from the store. Who counts them is in the runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta

from muskox.core.history import History
from muskox.core.job import seconds as read_seconds
from muskox.store.protocol import Store

__all__ = ["Past"]


class Past(ABC):
    """A part of `Muskox`."""

    @abstractmethod
    async def store(self) -> Store:
        """The store, opened if it was not."""

    async def history(
        self, last: float | timedelta = 3600.0, *, step: int = 60, queue: str | None = None, names: bool = False
    ) -> History:
        """What queues did lately, in cells of `step` seconds: 60 for a day back, 600 for a week, 3600 for 30 days.

        Of one queue or of all; with `names` of the job names in them. Counted by workers every few seconds, so that
        one which is killed takes the figures of its last seconds with it.
        """
        store = await self.store()
        return await store.history(step, seconds=read_seconds(last, "last"), queue=queue, names=names)
