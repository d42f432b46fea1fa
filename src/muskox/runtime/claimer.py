"""Fetches jobs while there is room for them, a little ahead of the slots when runs are short.

Two of its turns may be on their way at once, so that one batch runs while the
store looks for the next. What is done with the jobs is not its business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

from muskox.core.errors import StoreError
from muskox.core.job import Job
from muskox.core.seam import World
from muskox.store.protocol import Store, Want

__all__ = ["Claimer", "GiveBack", "InTurn", "Lookout"]

MOST = 400
"""Jobs in one claim; larger ones gain little and take longer to run out."""

AHEAD = 6
"""At most so many times the slots are claimed beyond them."""

LONGEST_WAIT = 0.5
"""Seconds that a claimed job may wait for a slot before another worker gets its chance."""

Arrived = Callable[[list[Job], float], None]
"""Given the claimed jobs and the moment, by the monotonic clock, at which they were asked for."""


class _Ask(NamedTuple):
    """A claim, by its ticket: for how many jobs, and since when."""

    ticket: str
    room: int
    since: float


class Claimer:
    """A duty that is run by two loops at once: each turn is one claim.

    `mark` tells the tickets of several claimers of one worker apart.
    """

    def __init__(
        self,
        store: Store,
        world: World,
        *,
        wants: Sequence[Want],
        worker: str,
        lease: float,
        slots: int,
        held: Callable[[], int],
        arrived: Arrived,
        starved: Callable[[], None],
        mark: str = "",
    ) -> None:
        self._mark = mark
        self._store = store
        self._world = world
        self._wants = list(wants)
        self._worker = worker
        self._lease = lease
        self._slots = slots
        self._held = held
        self._arrived = arrived
        self._starved = starved
        self._tickets = count(1)
        self._unanswered: list[_Ask] = []
        self._asked = 0
        self._ended = 0
        self._ended_before = 0
        self._ahead = 0
        self.hungry = True
        """Whether there may be jobs to claim."""
        self.closed = False

    @property
    def idle(self) -> bool:
        """Whether no claim is on its way."""
        return self._asked == 0

    def count(self, ended: int) -> None:
        """Take note of how many runs have ended."""
        self._ended += ended

    def stay_behind(self) -> None:
        """Claim no more than there are slots, until runs are short again."""
        self._ahead = 0

    def room(self) -> int:
        """How many more jobs may be claimed now."""
        # Half of all at most, so that there are two claims on their way and not one.
        share = max(1, (self._slots + self._ahead) // 2) if self._ahead else self._slots
        return min(MOST, share, self._slots + self._ahead - self._held() - self._asked)

    async def turn(self) -> float | None:
        ask = self._next_ask()
        if ask is None:
            return None
        room = ask.room
        self._asked += room
        try:
            jobs = await self._store.claim(
                self._wants, limit=room, worker=self._worker, lease=self._lease, ticket=ask.ticket
            )
        except StoreError:
            # It may have been done all the same: the same ticket finds out.
            self._unanswered.append(ask)
            raise
        finally:
            self._asked -= room
        # About as many runs as ended since the claim before will end until the next. For each of the two claims
        # twice as many may be fetched ahead, so that some are left to run while the next are fetched. While runs are
        # long none end, and nothing is fetched only to wait here. It goes down by halves, since two claims may be
        # answered at once.
        self._ahead = min(self._slots * AHEAD, max(4 * (self._ended - self._ended_before), self._ahead // 2))
        self._ended_before = self._ended
        if len(jobs) < room:
            self.hungry = False
            self._starved()
        if jobs:
            # Also after a stop: what arrives then is given back by whoever takes it.
            self._arrived(jobs, ask.since)
        return 0.0

    def _next_ask(self) -> _Ask | None:
        """A claim that had no answer while that may matter, else a new one if there is room and reason for it."""
        now = self._world.monotonic()
        while self._unanswered:
            ask = self._unanswered.pop()
            if now - ask.since < self._lease / 2:
                return ask
        room = self.room() if self.hungry and self._wants and not self.closed else 0
        return _Ask(f"{self._mark}{next(self._tickets)}", room, now) if room > 0 else None


class InTurn:
    """A duty: several claimers one after another, so that one claim of theirs is on its way at a time."""

    def __init__(self, claimers: Sequence[Claimer]) -> None:
        self._claimers = list(claimers)

    async def turn(self) -> float | None:
        rests = [await claimer.turn() for claimer in self._claimers]
        return min((rest for rest in rests if rest is not None), default=None)


class GiveBack:
    """A duty: gives back what was claimed ahead and waits behind runs that turned out to be long."""

    def __init__(self, world: World, claimer: Claimer, take_back: Callable[[float], int]) -> None:
        self._world = world
        self._claimer = claimer
        self._take_back = take_back

    async def turn(self) -> float:
        if self._take_back(self._world.monotonic() - LONGEST_WAIT):
            self._claimer.stay_behind()
        return LONGEST_WAIT / 2


class Lookout:
    """A duty for the times when there is nothing to claim: waits for the store's hint, then lets it be tried again."""

    def __init__(
        self, store: Store, world: World, queues: Sequence[str], *, poll: float, retry: Callable[[], None]
    ) -> None:
        self._store = store
        self._world = world
        self._queues = list(queues)
        self._poll = poll
        self._retry = retry
        self.starved = False

    async def turn(self) -> float | None:
        if not self.starved:
            return None
        self.starved = False
        hint = self._world.spawn(self._store.wait(self._queues, seconds=self._poll), name="muskox-hint")
        try:
            # The wait has begun before the store is asked once more, so that no job can slip in between.
            await self._world.sleep(0)
            self._retry()
            await hint
        finally:
            hint.cancel()
        self._retry()
        return 0.0
