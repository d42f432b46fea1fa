"""Reads the store's events once for all who watch: live figures, and streams with bounded buffers.

Figures are in memory and begin with what the store still remembers. It judges
no rights, and hides what may be secret by telling of a failure only its kind.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from muskox import Event, JobEvent, Muskox, MuskoxError, events
from muskox.web.metrics import Counts
from muskox.web.pulse import Pulse

__all__ = ["Hub", "Told", "Watch"]

log = logging.getLogger("muskox.web")

_PAGE = 1000
_BUFFER = 500
"""So many events wait for a client that does not read; then it is told of a gap."""
_REMEMBERED = 20_000
"""With so many of the latest events the figures begin, and so many are given again to a client that was away.

A reader that is further behind leaves events out, and its figures become estimates.
"""
_RUSH = 10
"""So many full pages are read before it is asked how many are left."""
_LINGER = 30.0
"""Seconds for which reading goes on when nobody watches any more."""


class Told(msgspec.Struct, frozen=True):
    """An event as it is sent: one of `KINDS`, or gap and reset, after which a client looks for itself.

    `at` is in seconds since 1970, 0 for gap and reset.
    """

    kind: str
    offset: int
    queue: str = ""
    name: str = ""
    job: str = ""
    text: str = ""
    at: float = 0.0


class Watch:
    """What one client has yet to be sent, of the events after an offset.

    Events beyond its buffer are dropped and told of as one gap.
    """

    def __init__(self, wants: Callable[[Told], bool], after: int = 0) -> None:
        self._wants = wants
        self._after = after
        self._waiting: deque[Told] = deque()
        self._bell = asyncio.Event()
        self._dropped = 0
        self._over = False

    def begin_anew(self, after: int) -> None:
        """Want the events after another offset."""
        self._after = after

    def put(self, told: Told) -> None:
        """Give an event; never waits."""
        if told.kind not in {"reset", "gap"} and (told.offset <= self._after or not self._wants(told)):
            return
        if len(self._waiting) >= _BUFFER:
            self._dropped += len(self._waiting)
            self._waiting.clear()
        self._waiting.append(told)
        self._bell.set()

    def end(self) -> None:
        """Let the stream end."""
        self._over = True
        self._bell.set()

    def wants(self, told: Told) -> bool:
        """Whether the client asked for such events."""
        return self._wants(told)

    async def stream(self) -> AsyncGenerator[Told, None]:
        """Give what comes, until the end."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            while self._waiting:
                if self._dropped:
                    said = f"{self._dropped} events were dropped, since they were not read in time"
                    dropped, self._dropped = Told("gap", self._waiting[0].offset - 1, text=said), 0
                    yield dropped
                yield self._waiting.popleft()
            if self._over:
                return


class Hub:
    """Follows the store while somebody watches, or always once it is started."""

    def __init__(self, ox: Muskox, tally: Counts | None = None) -> None:
        self._ox = ox
        self._tally = tally
        self.counted_after: int | None = None
        """The offset from which on events are counted for metrics; None until the store was asked."""
        self.pulse = Pulse(ox.world.now)
        self._watches: set[Watch] = set()
        self._following: Any = None
        self._always = False
        self._left_at = 0.0
        self.offset = 0
        """The latest event that was read."""
        self.away = False
        """Whether the store gave no answer when it was last asked."""

    def start(self) -> None:
        """Follow from now on, whether anybody watches or not."""
        self._always = True
        self.touch()

    async def stop(self) -> None:
        """End all streams and follow no more."""
        self.end_streams()
        self._always = False
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def end_streams(self) -> None:
        """Let those who watch go."""
        for watch in self._watches:
            watch.end()

    def touch(self) -> None:
        """Say that somebody looks at the figures: follow for a while."""
        self._left_at = self._ox.world.monotonic()
        if self._following is None or self._following.done():
            self._following = self._ox.world.spawn(self._follow(), name="muskox dashboard events")

    @property
    def watching(self) -> int:
        """How many streams are open."""
        return len(self._watches)

    @contextmanager
    def watch(self, wants: Callable[[Told], bool], after: int) -> Iterator[Watch]:
        """Have what is wanted of the events after an offset put into a watch, as far as they are still to be read."""
        self.touch()
        watch = Watch(wants, after)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            self._left_at = self._ox.world.monotonic()

    async def latest(self) -> int:
        """The offset of the latest event there is."""
        [latest] = await (await self._ox.store()).events(after=-1)
        return max(latest.offset, self.offset)

    async def missed(self, after: int, watch: Watch) -> list[Told]:
        """What a client wants of the events since `after`, the last it had; a reset where that cannot be told."""
        store = await self._ox.store()
        [latest] = await store.events(after=-1)
        if after > latest.offset or latest.offset - after > _REMEMBERED:
            watch.begin_anew(latest.offset)
            return [Told("reset", latest.offset, text="what happened since then is not known any more")]
        found: list[Told] = []
        while after < latest.offset:
            page = await store.events(after=after, limit=_PAGE)
            if not page:
                break
            if isinstance(page[0], events.Trimmed):
                return [Told("reset", latest.offset, text="what happened since then has been cleared")]
            after = page[-1].offset
            found += [told for event in page if watch.wants(told := tell(event))]
        return found

    # --- following -------------------------------------------------------------------

    async def _follow(self) -> None:
        after = await self._begin()
        while self._always or self._watches or self._ox.world.monotonic() - self._left_at < _LINGER:
            try:
                after = await self._read(after)
                self.away = False
            except MuskoxError as error:
                self.away = True
                log.warning("events cannot be read, they will be asked for again: %s", error)
                await self._ox.world.sleep(1.0)

    async def _begin(self) -> int:
        """From where to follow: where it ended, or for the figures' sake some time before now."""
        while True:
            try:
                store = await self._ox.store()
                [latest] = await store.events(after=-1)
            except MuskoxError as error:
                self.away = True
                log.warning("events cannot be read, they will be asked for again: %s", error)
                await self._ox.world.sleep(1.0)
                continue
            if self.counted_after is None:
                self.counted_after = latest.offset
            known = 0 < self.offset <= latest.offset and latest.offset - self.offset < _REMEMBERED
            return self.offset if known else max(0, latest.offset - _REMEMBERED)

    async def _read(self, after: int) -> int:
        store = await self._ox.store()
        for _ in range(_RUSH):
            page = await store.events(after=after, limit=_PAGE, seconds=2.0)
            for event in page:
                self._take(event)
            after = self.offset = page[-1].offset if page else after
            if len(page) < _PAGE:
                break
            await self._ox.world.sleep(0)
        else:
            after = await self._skip(after)
        # Events come by the thousand when there is much to do; a short rest makes few large reads of many small ones.
        await self._ox.world.sleep(0.05)
        return after

    async def _skip(self, after: int) -> int:
        """Leave out what cannot be kept up with."""
        [latest] = await (await self._ox.store()).events(after=-1)
        left = latest.offset - after
        if left <= _REMEMBERED:
            return after
        self.pulse.skip(left)
        if self._tally is not None:
            self._tally.miss(left)
        for watch in self._watches:
            watch.put(Told("gap", latest.offset, text=f"{left} events were skipped: there are too many to follow"))
        self.offset = latest.offset
        return latest.offset

    def _take(self, event: Event) -> None:
        self.pulse.take(event)
        # What happened before this process began is counted by no one: a restart would count it again.
        if self._tally is not None and event.offset > (self.counted_after or 0):
            self._tally.take(event)
        if self._watches:
            told = tell(event)
            for watch in self._watches:
                watch.put(told)


def tell(event: Event) -> Told:
    """Put an event into what is sent."""
    if isinstance(event, events.Trimmed):
        return Told("reset", event.offset, text="events were cleared before they were read")
    name, job, text = getattr(event, "name", ""), "", ""
    if isinstance(event, JobEvent):
        job = event.job_id
    match event:
        case events.Failed(failure=failure) | events.Retrying(failure=failure) if failure is not None:
            # Its message may quote data; the page of the job shows it with secrets hidden.
            text = failure.type or failure.kind
        case events.Progress(value=value) if isinstance(value, int | float):
            text = f"{value:g}"
        case events.Held(waiting=waiting):
            text = f"{waiting} wait, and no live worker has this name"
        case events.Stalled(stalls=stalls):
            text = f"stall {stalls}"
        case _:
            pass
    return Told(event.kind, event.offset, event.queue, name, job, text, event.at_us / 1e6)
