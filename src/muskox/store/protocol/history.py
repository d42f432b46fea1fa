"""The verbs for figures of the past; `core/history.py` says what the values mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from muskox.core.history import History, Sample, Sums

__all__ = ["HistoryVerbs"]


class HistoryVerbs(Protocol):
    """What was counted, by the minute, ten minutes and hour; part of `Store`.

    Nothing that becomes of a job depends on it.
    """

    async def record(self, sums: Sequence[Sums], samples: Sequence[Sample] = ()) -> bool:
        """Add what a worker counted to the cells of this moment; returns whether the samples were taken too.

        Samples count only when the latest are `SAMPLED_EACH` seconds old: so any number of workers may offer them.
        What was added since the latest is then added to the cells as `added`, and cells past their time are deleted.
        The one verb that may not be repeated: what was recorded twice is counted twice.
        """
        ...

    async def history(self, step: int, *, seconds: float, queue: str | None = None, names: bool = False) -> History:
        """Give the cells of `step` seconds, one of `KEPT`, that cover the last `seconds`, by moment, queue and name.

        Of one queue or of all; of whole queues, or with `names` of the names in them. Where nothing was recorded
        there is no cell. Raises `OptionError` for another step.
        """
        ...
