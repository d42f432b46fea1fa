"""Schedules as programs see them: add, look, pause, run, change, delete, in the store, while workers run.

What is due is said in the core, and fired by workers. Nothing is kept here:
each verb reads, decides, and writes where nobody was faster.
"""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Unpack, cast

import msgspec

from muskox.core import codec
from muskox.core.cron import Cron
from muskox.core.errors import NameTaken, OptionError, ScheduleNotFound, WrongState
from muskox.core.intent import Intent, first, resumed, revised
from muskox.core.job import Job, JobState, NewJob, moment
from muskox.core.kept import Entry, Kept
from muskox.core.schedule import Once, Owner, Schedule, Told, check_schedule_name
from muskox.core.seam import World
from muskox.core.tracing import untraced
from muskox.queue import AddOptions, Queue
from muskox.rules import (
    ScheduleOptions,
    TimeOptions,
    Timing,
    intent,
    microseconds,
    time_options,
    timed_every,
    timed_once,
)
from muskox.store.protocol import Change, Firing, Looked, Store

__all__ = ["Scheduled", "Schedules"]

MOST = 10_000
_ATTEMPTS = 100
_KEEP: Any = object()


class Scheduled(msgspec.Struct, frozen=True):
    """A schedule as it was when it was read: what it says, when next, and what became of it last.

    `outcome` is the state of its last job; None before the first, and when that job has been cleared.
    """

    schedule: Schedule
    paused: bool
    next_us: int | None
    last_us: int | None
    last_job: str | None
    outcome: JobState | None = None

    @property
    def name(self) -> str:
        return self.schedule.name

    @property
    def queue(self) -> str:
        return self.schedule.queue

    @property
    def job(self) -> str:
        """The name of the jobs that it adds."""
        return self.schedule.job

    @property
    def data(self) -> Any:
        """The data of the jobs that it adds."""
        return codec.decode(self.schedule.data)

    @property
    def owner(self) -> Owner:
        """Who made it: code, by declaring it, or a user."""
        return self.schedule.owner

    @property
    def next_at(self) -> datetime | None:
        """When it fires next; None when it is paused or over."""
        return None if self.paused or self.next_us is None else moment(self.next_us)

    @property
    def last_at(self) -> datetime | None:
        """The moment that fired last."""
        return None if self.last_us is None else moment(self.last_us)

    def explain(self) -> str:
        """Say in words when it fires."""
        return self.schedule.when.explain()


class Schedules:
    """The schedules of a store, those of all programs on it. Made by `Muskox`; good for any number of tasks at once."""

    def __init__(
        self,
        store: Callable[[], Awaitable[Store]],
        queue: Callable[[str], Queue],
        world: World,
        declared: Callable[[], Sequence[Intent]],
        is_orphan: Callable[[Kept], bool],
    ) -> None:
        self._store = store
        self._queue = queue
        self._world = world
        self._declared = declared
        self._is_orphan = is_orphan

    # --- add ---------------------------------------------------------------------

    async def add_cron(
        self, name: str, expression: str, *, queue: str, job: str, data: Any = None, tz: str = "UTC",
        gap: Literal["after", "skip"] = "after", fold: Literal["first", "second", "both"] = "first",
        replace: bool = False, **options: Unpack[ScheduleOptions],
    ) -> Scheduled:  # fmt: skip
        """Have a job added whenever the wall clock of a zone matches the expression; `Cron` says how it is read.

        Raises `NameTaken` when there is a schedule of that name, unless `replace` is True. `OptionError` tells of
        what cannot be meant. Options: those of `TimeOptions`, and of `Queue.add` what is not about time.
        """
        timing = Timing(Cron(expression, tz, gap, fold))
        return await self._add(name, timing, queue, job, data, options, replace=replace)

    async def add_every(
        self, name: str, interval: float | timedelta, *, queue: str, job: str, data: Any = None,
        replace: bool = False, **options: Unpack[ScheduleOptions],
    ) -> Scheduled:  # fmt: skip
        """Have a job added each interval: the first one interval from now, or at `starts_at`; see `add_cron`."""
        timing = timed_every(interval, options.get("starts_at"))
        return await self._add(name, timing, queue, job, data, options, replace=replace)

    async def add_once(
        self, name: str, *, after: float | timedelta | None = None, at: datetime | None = None, queue: str,
        job: str, data: Any = None, replace: bool = False, **options: Unpack[ScheduleOptions],
    ) -> Scheduled:  # fmt: skip
        """Have one job added, `after` seconds from now or `at` a moment to come; see `add_cron`.

        Unlike a job with a delay it has a name, under which it is seen, changed and deleted until then.
        """
        return await self._add(name, timed_once(after, at), queue, job, data, options, replace=replace)

    async def _add(
        self, name: str, timing: Timing, queue: str, job: str, data: Any, options: ScheduleOptions, *, replace: bool
    ) -> Scheduled:
        fields = self._fields(queue, job, data, options)
        wanted = intent(timing, name=check_schedule_name(name), owner=Owner.USER, **fields)

        def change(kept: Kept | None, now_us: int) -> Kept:
            if kept is None:
                schedule = wanted.at(now_us)
                _check_ahead(schedule, now_us)
                return first(schedule, now_us)
            if not replace:
                raise NameTaken(
                    f"there is a schedule {name!r} already; say replace=True to have this one in its place, "
                    "or give another name"
                )
            _check_is_users(kept)
            schedule = wanted.at(now_us)
            _check_ahead(schedule, now_us)
            return msgspec.structs.replace(revised(kept, schedule, now_us), paused=False)

        return await self._change(name, change)

    # --- look --------------------------------------------------------------------

    async def get(self, name: str) -> Scheduled | None:
        """The schedule of that name as it is now, or None."""
        found = await self._outcomes(await (await self._store()).schedules([check_schedule_name(name)]))
        return found[0] if found else None

    async def list(self, *, limit: int = 1000) -> builtins.list[Scheduled]:
        """The schedules in the order of their names, each with its next and last moment, last job and its outcome."""
        if not 1 <= limit <= MOST:
            raise OptionError(f"limit must be between 1 and {MOST}, not {limit}")
        return await self._outcomes(await (await self._store()).schedules(limit=limit))

    async def ledger(self, name: str, *, limit: int = 100) -> builtins.list[Entry]:
        """What became of the latest moments, latest first: fired, late, skipped, missed or run, and why."""
        return await (await self._store()).ledger(check_schedule_name(name), limit=limit)

    def preview(
        self, expression: str, n: int = 5, *, tz: str = "UTC", after: datetime | None = None,
        gap: Literal["after", "skip"] = "after", fold: Literal["first", "second", "both"] = "first",
    ) -> builtins.list[datetime]:  # fmt: skip
        """The next `n` moments of an expression, after a moment or else from now, in its zone. Asks no store."""
        if after is not None:
            microseconds(after, "after")
        now = datetime.fromtimestamp(self._world.now(), UTC)
        return Cron(expression, tz, gap, fold).preview(n, after=now if after is None else after)

    async def _outcomes(self, looked: Looked) -> builtins.list[Scheduled]:
        store = await self._store()
        last: dict[str, builtins.list[str]] = {}
        for kept in looked.kept:
            if kept.last_job is not None:
                last.setdefault(kept.schedule.queue, []).append(kept.last_job)
        states = {
            (queue, job.id): job.state for queue, ids in last.items() for job in await store.get(queue, ids) if job
        }
        return [
            Scheduled(
                kept.schedule, kept.paused, kept.next_us, kept.last_us, kept.last_job,
                states.get((kept.schedule.queue, kept.last_job or "")),
            )
            for kept in looked.kept
        ]  # fmt: skip

    # --- manage ------------------------------------------------------------------

    async def pause(self, name: str) -> Scheduled:
        """Have it fire no more until `resume`; holds over restarts and deploys."""
        return await self._change(name, lambda kept, _: msgspec.structs.replace(_there(kept, name), paused=True))

    async def resume(self, name: str) -> Scheduled:
        """Have it go on with the moments to come; those of the pause are not made up for."""
        return await self._change(name, lambda kept, now_us: resumed(_there(kept, name), now_us))

    async def update(
        self, name: str, *, expression: str | None = None, tz: str | None = None,
        every: float | timedelta | None = None, after: float | timedelta | None = None, at: datetime | None = None,
        queue: str | None = None, job: str | None = None, data: Any = _KEEP, **options: Unpack[ScheduleOptions],
    ) -> Scheduled:  # fmt: skip
        """Change what is given and leave the rest; once it has returned, nothing fires by the old rule any more.

        One that is declared in code is changed there: `WrongState`.
        """

        def change(kept: Kept | None, now_us: int) -> Kept:
            old = _there(kept, name)
            _check_is_users(old)
            said = old.schedule
            timing = _other_timing(said, expression, tz, every, after, at, options)
            fields = self._fields(queue or said.queue, job or said.job, None, options, old=said)
            if data is not _KEEP:
                fields["data"] = self._queue(fields["queue"]).new(fields["job"], data).data
            changed = msgspec.structs.replace(said, **fields)
            if timing is not None:
                changed = Intent(msgspec.structs.replace(changed, when=timing.when), timing.floating, timing.after).at(
                    now_us
                )
                _check_ahead(changed, now_us)
            return revised(old, changed, now_us)

        return await self._change(name, change)

    async def delete(self, name: str) -> bool:
        """Delete it with its ledger; returns whether it was there. Jobs that it added are left alone.

        One that is declared in code is put again by the next worker that starts; pause it instead.
        """
        store = await self._store()
        for _ in range(_ATTEMPTS):
            looked = await store.schedules([check_schedule_name(name)])
            if not looked.kept:
                return False
            if (await store.put_schedules([Change(name, looked.kept[0].version, None)]))[0]:
                return True
        raise _busy(name)

    async def run_now(self, name: str) -> Job | None:
        """Add its job now, whatever its next moment, which stays; also when it is paused.

        None when its `overlap` does not allow that yet, since the last job has not ended; the ledger says so.
        """
        store, run = await self._store(), self._world.new_id()
        for _ in range(_ATTEMPTS):
            looked = await store.schedules([check_schedule_name(name)])
            kept = _there(looked.kept[0] if looked.kept else None, name)
            said, id = kept.schedule, f"schedule:{name}:run:{run}"
            job = NewJob(id, said.queue, said.job, said.data, said.priority, 0.0, said.options, said.key)
            entry = Entry(looked.now_us, Told.RUN, id)
            [added] = await store.fire([Firing(name, kept.version, kept.next_us, kept.last_us, (job,), (entry,))])
            if added is not None:
                [stored] = await store.get(said.queue, [id])
                return stored
        raise _busy(name)

    # --- what code has declared -----------------------------------------------------

    def declared(self) -> builtins.list[str]:
        """The names of the schedules that this program declares."""
        return [one.schedule.name for one in self._declared()]

    async def orphans(self) -> builtins.list[Scheduled]:
        """Those that code has declared for queues of this program, and does not declare any more."""
        looked = await (await self._store()).schedules(limit=MOST)
        left = [kept for kept in looked.kept if self._is_orphan(kept)]
        return await self._outcomes(Looked(looked.now_us, left))

    async def prune(self) -> builtins.list[str]:
        """Delete the `orphans`; returns their names."""
        return [one.name for one in await self.orphans() if await self.delete(one.name)]

    # --- parts -------------------------------------------------------------------------

    def _fields(
        self, queue: str, job: str, data: Any, options: ScheduleOptions, old: Schedule | None = None
    ) -> dict[str, Any]:
        """The fields of a schedule but its name and moments; with `old` only those that change."""
        unknown = options.keys() - ScheduleOptions.__annotations__.keys()
        if unknown:
            known = ", ".join(ScheduleOptions.__annotations__)
            raise OptionError(f"there is no option {min(unknown)!r} for a schedule; the options are {known}")
        about_jobs = {name: said for name, said in options.items() if name not in TimeOptions.__annotations__}
        made = self._queue(queue).new(job, data, **cast(AddOptions, about_jobs))
        options_made = untraced(made.options)  # its jobs are of their own time, and not of this moment
        fields = {**time_options(options), "queue": queue, "job": job}
        if old is None:
            return {**fields, "data": made.data, "priority": made.priority, "options": options_made, "key": made.key}
        if "priority" in about_jobs:
            fields["priority"] = made.priority
        if "key" in about_jobs:
            fields["key"] = made.key
        if about_jobs.keys() - {"priority", "key"}:
            fields["options"] = options_made.over(old.options)
        return fields

    async def _change(self, name: str, change: Callable[[Kept | None, int], Kept]) -> Scheduled:
        """Read, decide and write, again until nobody else has written between."""
        store = await self._store()
        for _ in range(_ATTEMPTS):
            looked = await store.schedules([check_schedule_name(name)])
            kept = looked.kept[0] if looked.kept else None
            wanted = change(kept, looked.now_us)
            version = 0 if kept is None else kept.version
            if wanted == kept or (await store.put_schedules([Change(name, version, wanted)]))[0]:
                [found] = await self._outcomes(Looked(looked.now_us, [wanted]))
                return found
        raise _busy(name)


def _other_timing(
    said: Schedule, expression: str | None, tz: str | None, every: float | timedelta | None,
    after: float | timedelta | None, at: datetime | None, options: ScheduleOptions,
) -> Timing | None:  # fmt: skip
    """The other moments that an update asks for; None when it asks for none."""
    kinds = [expression is not None or tz is not None, every is not None, after is not None or at is not None]
    if sum(kinds) > 1:
        raise OptionError("an update can give one kind of moments only: expression and tz, or every, or after or at")
    if every is not None:
        return timed_every(every, options.get("starts_at"))
    if after is not None or at is not None:
        return timed_once(after, at)
    if expression is None and tz is None:
        return None
    old = said.when if isinstance(said.when, Cron) else None
    if expression is None and old is None:
        raise OptionError(f"schedule {said.name!r} is no cron, so a zone alone says nothing; give an expression too")
    usual = old or Cron("* * * * *")
    return Timing(Cron(expression or usual.expression, tz or usual.tz, usual.gap, usual.fold))


def _check_ahead(schedule: Schedule, now_us: int) -> None:
    if schedule.first_after(now_us) is not None:
        return
    if isinstance(schedule.when, Once) and schedule.when.at_us <= now_us:
        raise OptionError(
            f"{moment(schedule.when.at_us):%Y-%m-%d %H:%M:%S} UTC is past; give a moment to come, or add the job itself"
        )
    raise OptionError(f"schedule {schedule.name!r} would never fire: it has no moment before it ends; mend ends_at")


def _check_is_users(kept: Kept) -> None:
    if kept.schedule.owner is Owner.CODE:
        raise WrongState(
            f"schedule {kept.schedule.name!r} is declared in code, which would undo this; change it there, "
            "or give yours another name"
        )


def _there(kept: Kept | None, name: str) -> Kept:
    if kept is None:
        raise ScheduleNotFound(f"there is no schedule {name!r}; it was never added, or deleted")
    return kept


def _busy(name: str) -> WrongState:
    return WrongState(f"schedule {name!r} was changed by others each of {_ATTEMPTS} times it was tried; try it again")
