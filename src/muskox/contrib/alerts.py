"""Alerts: rules that are looked at once in the cluster, and who is told when one is broken and when that is over.

An incident is a job of the engine itself. Its dedup key is the rule, so that
there is one however many look; it runs until the rule is kept again; and each
telling is a step of it, so that it is done once and tried again where it
failed. Nothing here decides what becomes of other jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import msgspec

from muskox import ActiveJob, DeclarationError, Exponential, Muskox, OptionError, RateLimited
from muskox.contrib._webhook import Webhook

__all__ = ["Alert", "Alerts", "Backlog", "Failures", "LateSchedule", "NoWorker", "Rule", "Webhook", "log_alert"]

log = logging.getLogger("muskox.alerts")


class Alert(msgspec.Struct, frozen=True):
    """What is told: that a rule is broken, or that it is kept again."""

    rule: str
    state: Literal["fired", "over"]
    text: str
    incident: str
    """The id of the job that stands for it: the same when it fires and when it is over."""
    since: datetime
    at: datetime
    """When it is told."""


Tell = Callable[[Alert], Awaitable[object]]
"""Somebody who is told. What it raises is logged, and it is told again."""


class Rule(Protocol):
    """Something that can be broken. One's own needs only these."""

    @property
    def name(self) -> str:
        """What the rule is called; the only one of that name."""
        ...

    @property
    def lasting(self) -> float:
        """For how many seconds it must be broken before somebody is told."""
        ...

    async def broken(self, ox: Muskox) -> str | None:
        """Say how the rule is broken; None where it is kept."""
        ...


@dataclass(frozen=True)
class Failures:
    """More than `most` jobs of a queue failed for good within the last `within` seconds, an hour at most a day."""

    queue: str
    most: int
    within: float = 600.0
    lasting: float = 0.0

    @property
    def name(self) -> str:
        return f"failures in {self.queue}"

    async def broken(self, ox: Muskox) -> str | None:
        history = await ox.history(self.within, queue=self.queue)
        since = history.now_us - self.within * 1e6 - 60e6
        failed = sum(cell.failed for cell in history.cells if cell.begin_us > since)
        if failed <= self.most:
            return None
        return f"{failed} jobs of queue {self.queue} failed within {self.within:g} seconds, more than {self.most}"


@dataclass(frozen=True)
class Backlog:
    """A job of a queue has waited for more than `older` seconds."""

    queue: str
    older: float
    lasting: float = 0.0

    @property
    def name(self) -> str:
        return f"backlog of {self.queue}"

    async def broken(self, ox: Muskox) -> str | None:
        counts = await ox.queue(self.queue).counts()
        oldest = counts.oldest_waiting or 0.0
        if oldest <= self.older:
            return None
        return f"{counts.waiting} jobs wait in queue {self.queue}, the oldest for {oldest:.0f} seconds"


@dataclass(frozen=True)
class NoWorker:
    """No live worker takes jobs from a queue, or from any but that of the alerts where none is named."""

    queue: str | None = None
    lasting: float = 60.0

    @property
    def name(self) -> str:
        return "no worker" if self.queue is None else f"no worker for {self.queue}"

    async def broken(self, ox: Muskox) -> str | None:
        taken = {want.queue for worker in await ox.workers() if not worker.stopping for want in worker.wants}
        if self.queue in taken or (self.queue is None and taken - {QUEUE}):
            return None
        return "no worker is alive" if self.queue is None else f"no live worker takes jobs from queue {self.queue}"


@dataclass(frozen=True)
class LateSchedule:
    """The moment of a schedule, or of any where none is named, is over for more than `late` seconds, and not fired."""

    schedule: str | None = None
    late: float = 60.0
    lasting: float = 0.0

    @property
    def name(self) -> str:
        return "late schedules" if self.schedule is None else f"late schedule {self.schedule}"

    async def broken(self, ox: Muskox) -> str | None:
        names = () if self.schedule is None else (self.schedule,)
        due = await (await ox.store()).schedules(names, due=not names)
        before = due.now_us - self.late * 1e6
        late = [kept.schedule.name for kept in due.kept if kept.next_us is not None and kept.next_us < before]
        if not late:
            return None
        return f"schedules were not fired when they were due: {', '.join(late[:10])}"


QUEUE = "muskox-alerts"


class Alerts:
    """The rules of a program, and who is told.

    Made where the program declares its processors: workers of all its queues then look every `every` seconds, one of
    them at a time. Where no worker may be left, run one for this queue alone somewhere else.
    """

    def __init__(self, ox: Muskox, rules: Sequence[Rule], tell: Sequence[Tell], *, every: float = 15.0) -> None:
        self._ox = ox
        self._rules = {rule.name: rule for rule in rules}
        self._tell = list(tell)
        self._every = every
        if len(self._rules) < len(rules):
            raise DeclarationError("two rules have one name; rules of one kind for one queue are one rule")
        if not rules or not tell:
            raise OptionError("alerts need a rule that can be broken and somebody to tell")
        queue = ox.queue(QUEUE)
        ox.every(every, name="muskox-alerts", queue=QUEUE, overlap="skip", keep_for=0)(self._look)
        queue.processor("incident", attempts=20, backoff=Exponential(2.0, cap=300.0))(self._incident)
        self._queue = queue

    async def _look(self) -> None:
        for rule in self._rules.values():
            said = await rule.broken(self._ox)
            if said is not None:
                data = {"rule": rule.name, "said": said, "since": self._ox.world.now()}
                await self._queue.add("incident", data, dedup=rule.name)

    async def _incident(self, job: ActiveJob, rule: str, said: str, since: float, told: bool = False) -> dict[str, Any]:
        """One incident from its beginning to its end; given back in between."""
        its = self._rules.get(rule)
        now = None if its is None else await its.broken(self._ox)
        if its is not None and now is not None:
            if not told and self._ox.world.now() - since >= its.lasting:
                await self._tell_all(job, self._alert(job, rule, "fired", now, since))
                await job.update({"rule": rule, "said": now, "since": since, "told": True})
            raise RateLimited(f"{rule}: {now}", retry_after=self._every)
        if told:
            await self._tell_all(job, self._alert(job, rule, "over", f"over: {said}", since))
        return {"rule": rule, "told": told}

    def _alert(self, job: ActiveJob, rule: str, state: Literal["fired", "over"], text: str, since: float) -> Alert:
        since_at, at = (datetime.fromtimestamp(moment, UTC) for moment in (since, self._ox.world.now()))
        return Alert(rule, state, text, job.id, since_at, at)

    async def _tell_all(self, job: ActiveJob, alert: Alert) -> None:
        """Tell everybody, each once, whatever becomes of the others; raises where somebody could not be told."""
        problem: Exception | None = None
        for number, tell in enumerate(self._tell):

            async def once(tell: Tell = tell) -> None:
                await tell(alert)

            try:
                await job.step(f"{alert.state} {number}", once)
            except Exception as error:  # noqa: BLE001 - a function of the user's
                log.warning("alert %s could not be told, it is tried again: %s", alert.rule, type(error).__name__)
                problem = error
        if problem is not None:
            raise problem


async def log_alert(alert: Alert) -> None:
    """Tell the log."""
    level = logging.ERROR if alert.state == "fired" else logging.INFO
    log.log(level, "alert %s %s: %s", alert.rule, alert.state, alert.text)
