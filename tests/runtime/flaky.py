"""A store that fails when it is told to, around a real one: before a step took effect, or after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from muskox.core.errors import StoreUnavailable
from muskox.store.protocol import Store

Fault = Callable[[str], bool]


class FlakyStore:
    """Passes every verb on. `away` refuses them all; `fail` makes single ones fail or hang."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.traits = store.traits
        self.away = False
        self.calls: list[tuple[str, Any]] = []
        self._before: dict[str, int] = {}
        self._after: dict[str, int] = {}
        self._gates: dict[str, asyncio.Event] = {}

    def fail(self, verb: str, *, times: int = 1) -> None:
        """Let the next calls of a verb fail before anything was done."""
        self._before[verb] = times

    def lose_answer(self, verb: str, *, times: int = 1) -> None:
        """Let the next calls of a verb do their work and fail all the same."""
        self._after[verb] = times

    def hold(self, verb: str) -> asyncio.Event:
        """Have answers that say something wait until the event is set; what they tell has happened by then."""
        gate = self._gates[verb] = asyncio.Event()
        return gate

    def called(self, verb: str) -> int:
        return sum(1 for name, _ in self.calls if name == verb)

    def add_within(self, jobs: Any, connection: Any) -> Any:
        return self.store.add_within(jobs, connection)

    def __getattr__(self, verb: str) -> Any:
        work = getattr(self.store, verb)

        async def call(*args: Any, **named: Any) -> Any:
            self.calls.append((verb, args))
            if verb == "close":
                return await work()
            self._refuse(verb)
            if self._spend(self._before, verb):
                raise StoreUnavailable(f"{verb} failed on purpose; nothing was done")
            answer = await work(*args, **named)
            if answer and verb in self._gates:
                await self._gates[verb].wait()
            if self._spend(self._after, verb):
                raise StoreUnavailable(f"the answer to {verb} was lost on purpose")
            self._refuse(verb)
            return answer

        return call

    def _refuse(self, verb: str) -> None:
        if self.away:
            raise StoreUnavailable(f"the store is away on purpose: no {verb}")

    @staticmethod
    def _spend(faults: dict[str, int], verb: str) -> bool:
        left = faults.get(verb, 0)
        faults[verb] = max(0, left - 1)
        return left > 0
