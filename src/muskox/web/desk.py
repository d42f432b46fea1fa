"""What the routes of one dashboard share, and how they are given it. It answers no request."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Self

from fastapi import Depends, Request

from muskox import AppQueue, Muskox, MuskoxError
from muskox.web.access import Access, Principal
from muskox.web.hub import Hub
from muskox.web.masking import Masks
from muskox.web.metrics import Served
from muskox.web.operations import Operations
from muskox.web.problems import Problem
from muskox.web.sessions import Brake, Sessions
from muskox.web.ticker import Ticker
from muskox.web.trail import Deed, Trail

__all__ = ["Desk", "Given"]


@dataclass
class Desk:
    """The parts of a dashboard."""

    ox: Muskox
    access: Access
    masks: Masks
    trail: Trail
    hub: Hub
    sessions: Sessions
    brake: Brake
    operations: Operations
    read_only: bool = False
    title: str = "Muskox"
    metrics: Served | None = None
    ticker: Ticker = field(init=False)
    _known: set[str] = field(default_factory=set)

    def let_go(self) -> None:
        """Let all streams end, so that a server can stop."""
        self.hub.end_streams()
        self.ticker.end()

    async def stop(self) -> None:
        """End what goes on beside requests."""
        await self.ticker.stop()
        await self.operations.stop()
        await self.hub.stop()

    async def queue(self, name: str) -> AppQueue:
        """The queue of that name, if a program on this store has declared it or a job was ever in it."""
        if name not in self._known:
            declared = {queue.name for queue in self.ox.queues()}
            self._known = declared | {counts.queue for counts in await self.ox.counts()}
        if name not in self._known:
            raise Problem(404, "queue_unknown", f"no job was ever in a queue {name!r}, and no program here declares it")
        return self.ox.queue(name)

    def deed(self, by: Principal, request: Request, verb: str, **what: object) -> Doing:
        """Record what is done in a `with` block, and how it ended."""
        return Doing(self, by, request, verb, what)


_LONGEST = 300


class Doing:
    """A change under way; `detail` may be added to until it is over."""

    def __init__(self, desk: Desk, by: Principal, request: Request, verb: str, what: dict[str, object]) -> None:
        self._desk = desk
        self._by = by
        self._address = request.client.host if request.client else ""
        self._verb = verb
        self._what = {name: str(what.pop(name))[:_LONGEST] for name in ("queue", "job", "schedule") if what.get(name)}
        self.detail = {name: value for name, value in what.items() if value is not None}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        outcome = "done" if error is None else _code(error)
        at = datetime.fromtimestamp(self._desk.ox.world.now(), UTC)
        self._desk.trail.write(
            Deed(
                at=at, who=self._by.name, role=self._by.role, means=self._by.means,
                address=self._address, verb=self._verb, detail=self.detail, outcome=outcome, **self._what,
            )
        )  # fmt: skip


def _code(error: BaseException) -> str:
    if isinstance(error, Problem):
        return error.code
    return type(error).__name__ if isinstance(error, MuskoxError) else "broken off"


def _desk(request: Request) -> Desk:
    desk = request.app.state.desk
    assert isinstance(desk, Desk)
    return desk


Given = Annotated[Desk, Depends(_desk)]
"""Annotate a route's parameter with it to be given the desk."""
