"""Declares functions that run at moments: `cron`, `every` and `once`, on an app or in a class of processors.

Each makes a processor and the schedule that adds its jobs, or with
`per_process` what every worker process calls for itself. It opens nothing.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar, Unpack, cast, overload

import msgspec

from muskox.core import codec, dedup
from muskox.core.binding import bind
from muskox.core.cron import Cron
from muskox.core.dedup import Dedup
from muskox.core.errors import DataError, DeclarationError, OptionError
from muskox.core.job import NO_OPTIONS, Options
from muskox.core.schedule import Overlap, Owner
from muskox.processors import (
    TIMED_MARK,
    AppQueue,
    BoundProcessor,
    Decorate,
    Processor,
    ProcessorOptions,
    checked,
    declaration,
    name_of,
)
from muskox.rules import TimeOptions, Timing, intent, time_options, timed_every, timed_once
from muskox.runtime.registry import Beside, Declaration, Registry
from muskox.schedules import Schedules
from muskox.sync import SyncSchedules

__all__ = ["AppSchedules", "Timed", "TimedOptions", "cron", "every", "include_timed", "once"]

F = TypeVar("F", bound=Callable[..., Any])


class TimedOptions(ProcessorOptions, TimeOptions, total=False):
    """What may be said about a function that runs at moments: `TimeOptions` and `ProcessorOptions`.

    `name` (of the schedule and its jobs; the function's own with `-` for `_`), `data`, `key` and `dedup` (of the jobs
    that the schedule adds, as for `Queue.add`).
    """

    name: str
    data: Any
    key: str | None
    dedup: Dedup | str | None


class AppSchedules(Schedules):
    """What `Muskox.schedules` is: with the same verbs for blocking code under `sync`."""

    sync: SyncSchedules


class _Spec(msgspec.Struct, frozen=True):
    """What a decorator was told, for when the function is there."""

    timing: Timing
    per_process: bool
    options: dict[str, Any]


class Timed(ABC):
    """The decorators of an app."""

    registry: Registry
    data_limit: int

    @abstractmethod
    def queue(self, name: str) -> AppQueue:
        """The queue of that name."""

    @overload
    def cron(
        self, expression: str, *, tz: str = ..., queue: str = ..., gap: Literal["after", "skip"] = ...,
        fold: Literal["first", "second", "both"] = ..., per_process: Literal[False] = ...,
        **options: Unpack[TimedOptions],
    ) -> Decorate: ...  # fmt: skip
    @overload
    def cron(
        self, expression: str, *, tz: str = ..., queue: str = ..., gap: Literal["after", "skip"] = ...,
        fold: Literal["first", "second", "both"] = ..., per_process: Literal[True],
        **options: Unpack[TimedOptions],
    ) -> Callable[[F], F]: ...  # fmt: skip
    def cron(
        self, expression: str, *, tz: str = "UTC", queue: str = "default",
        gap: Literal["after", "skip"] = "after", fold: Literal["first", "second", "both"] = "first",
        per_process: bool = False, **options: Unpack[TimedOptions],
    ) -> Any:  # fmt: skip
        """Run the decorated function whenever the wall clock of a zone matches: once in the cluster, as a job.

        It becomes the processor of a job of its own name, with a schedule of that name. `per_process`: called in
        every worker process instead, without a job.
        """
        return self._at(Timing(Cron(expression, tz, gap, fold)), queue, options, per_process=per_process)

    @overload
    def every(
        self, interval: float | timedelta, *, queue: str = ..., per_process: Literal[False] = ...,
        **options: Unpack[TimedOptions],
    ) -> Decorate: ...  # fmt: skip
    @overload
    def every(
        self, interval: float | timedelta, *, queue: str = ..., per_process: Literal[True],
        **options: Unpack[TimedOptions],
    ) -> Callable[[F], F]: ...  # fmt: skip
    def every(
        self, interval: float | timedelta, *, queue: str = "default", per_process: bool = False,
        **options: Unpack[TimedOptions],
    ) -> Any:  # fmt: skip
        """Run the decorated function each interval, in seconds, counted from its first declaration; as `cron`."""
        timing = timed_every(interval, options.get("starts_at"))
        return self._at(timing, queue, options, per_process=per_process)

    @overload
    def once(
        self, *, after: float | timedelta | None = ..., at: datetime | None = ..., queue: str = ...,
        per_process: Literal[False] = ..., **options: Unpack[TimedOptions],
    ) -> Decorate: ...  # fmt: skip
    @overload
    def once(
        self, *, after: float | timedelta | None = ..., at: datetime | None = ..., queue: str = ...,
        per_process: Literal[True], **options: Unpack[TimedOptions],
    ) -> Callable[[F], F]: ...  # fmt: skip
    def once(
        self, *, after: float | timedelta | None = None, at: datetime | None = None, queue: str = "default",
        per_process: bool = False, **options: Unpack[TimedOptions],
    ) -> Any:  # fmt: skip
        """Run the decorated function once in the life of the store: `at` a moment, or `after` its first declaration.

        With `per_process`, `after` counts from the start of each process; otherwise as `cron`.
        """
        return self._at(timed_once(after, at), queue, options, per_process=per_process)

    def _at(self, timing: Timing, queue: str, options: TimedOptions, *, per_process: bool) -> Callable[[Any], Any]:
        spec = _Spec(timing, per_process, cast(dict[str, Any], options))

        def decorate(function: Any) -> Any:
            function = function.function if isinstance(function, BoundProcessor) else function
            declared = _declare(self.registry, queue, function, spec, self.data_limit)
            return function if declared is None else BoundProcessor(self.queue(queue), declared)

        return decorate


def cron(
    expression: str, *, tz: str = "UTC", gap: Literal["after", "skip"] = "after",
    fold: Literal["first", "second", "both"] = "first", per_process: bool = False, **options: Unpack[TimedOptions],
) -> Callable[[F], F]:  # fmt: skip
    """Mark a method of a `Processor` to run whenever a wall clock matches; as `Muskox.cron`."""
    return _mark(Timing(Cron(expression, tz, gap, fold)), options, per_process=per_process)


def every(
    interval: float | timedelta, *, per_process: bool = False, **options: Unpack[TimedOptions]
) -> Callable[[F], F]:
    """Mark a method of a `Processor` to run each interval; as `Muskox.every`."""
    return _mark(timed_every(interval, options.get("starts_at")), options, per_process=per_process)


def once(
    *, after: float | timedelta | None = None, at: datetime | None = None, per_process: bool = False,
    **options: Unpack[TimedOptions],
) -> Callable[[F], F]:  # fmt: skip
    """Mark a method of a `Processor` to run once; as `Muskox.once`."""
    return _mark(timed_once(after, at), options, per_process=per_process)


def include_timed(registry: Registry, processor: Processor, data_limit: int) -> None:
    """Declare the methods of an instance that are marked with `cron`, `every` or `once`."""
    kind = type(processor)
    for name, member in inspect.getmembers_static(kind):
        spec = getattr(getattr(member, "__func__", member), TIMED_MARK, None)
        if isinstance(spec, _Spec):
            _declare(registry, kind.queue_name, getattr(processor, name), spec, data_limit)


def _mark(timing: Timing, options: TimedOptions, *, per_process: bool) -> Callable[[F], F]:
    spec = _Spec(timing, per_process, cast(dict[str, Any], options))

    def mark(method: F) -> F:
        if hasattr(method, TIMED_MARK):
            raise DeclarationError(
                f"{method.__qualname__} is marked with a schedule already; write a second method that calls it"
            )
        setattr(method, TIMED_MARK, spec)
        return method

    return mark


def _declare(
    registry: Registry, queue: str, function: Callable[..., Any], spec: _Spec, data_limit: int
) -> Declaration | None:
    """Check it all, then take the processor and its schedule; None for what runs in each process."""
    options = dict(spec.options)
    name, data = options.pop("name", None) or name_of(function), options.pop("data", None)
    key, rule = options.pop("key", None), dedup.read(options.pop("dedup", None))
    fields = {"name": name, "queue": queue, "job": name, "owner": Owner.CODE, **time_options(options)}
    rest = {key: said for key, said in options.items() if key not in TimeOptions.__annotations__}
    unknown = rest.keys() - ProcessorOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(TimedOptions.__annotations__)
        raise OptionError(f"there is no option {min(unknown)!r} for a schedule; the options are {known}")
    if spec.per_process:
        of_jobs = {"data": data, "key": key, "dedup": rule}
        rest |= {what: said for what, said in of_jobs.items() if said is not None}
        _beside(registry, function, spec, fields, [*rest])
        return None
    declared = declaration(queue, name, function, cast(ProcessorOptions, rest))
    text = codec.encode(data, limit=data_limit)
    try:
        declared.binding.check(text)
    except DataError as error:
        raise DeclarationError(
            f"schedule {name!r} cannot call its function: {error}; give data=, or defaults"
        ) from None
    own = NO_OPTIONS if rule is None else Options(dedup=rule)
    wanted = intent(spec.timing, **fields, data=text, priority=declared.priority, options=own, key=key)
    registry.schedule(wanted)
    registry.declare(declared)
    return declared


def _beside(
    registry: Registry, function: Callable[..., Any], spec: _Spec, fields: dict[str, Any], jobs_own: list[str]
) -> None:
    name, where = fields["name"], checked(function)
    jobs_own += [option for option in ("catch_up", "grace") if option in fields]
    if jobs_own:
        raise OptionError(f"{where} runs in each process without a job, so {jobs_own[0]} says nothing; leave it out")
    fields.setdefault("overlap", Overlap.SKIP)
    if fields["overlap"] is Overlap.QUEUE:
        raise OptionError(f'{where} runs in each process without a job, so overlap is "skip" or "allow", not "queue"')
    try:
        bind(function, where).check("null")
    except DataError as error:
        raise DeclarationError(f"schedule {name!r} cannot call its function without data: {error}") from None
    registry.run_beside(Beside(intent(spec.timing, **fields), function))
