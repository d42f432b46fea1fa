"""How a program declares who runs its jobs: decorators on a queue, or a class of processors.

Declaring checks the function's signature and fills the registry. It runs
nothing and opens nothing.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, cast, overload

from muskox.core.backoff import Backoff, CustomBackoff, Exponential, Fixed, Steps
from muskox.core.batching import bind_batch
from muskox.core.binding import bind
from muskox.core.errors import DeclarationError, OptionError
from muskox.core.events import check_kind
from muskox.core.job import Job, NewJob, Options, check_queue_name, seconds
from muskox.queue import AddOptions, Queue
from muskox.runtime.active import ActiveJob, SyncActiveJob
from muskox.runtime.registry import Declaration, Listener, Registry, mode_of
from muskox.sync import SyncQueue

__all__ = [
    "TIMED_MARK",
    "AppQueue",
    "BoundProcessor",
    "Decorate",
    "Processor",
    "ProcessorOptions",
    "checked",
    "declaration",
    "include",
    "name_of",
    "on",
    "process",
    "process_others",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_PROCESS, _ON = "__muskox_process__", "__muskox_on__"
MOST_IN_BATCH = 10_000
LONGEST_WAIT = 60.0
TIMED_MARK = "__muskox_timed__"
"""What `timed.py` marks methods with."""


class ProcessorOptions(TypedDict, total=False):
    """What may be said about a processor; jobs may say otherwise for themselves.

    `attempts` (runs in all, default 1), `backoff` (also a function of attempt and error), `timeout` (seconds),
    `priority`, `max_stalls`, `keep_for` (seconds after the end), `expires_in` (seconds within which a job must
    begin), `final_on` (exceptions after which another attempt would be useless), `isolated` (run in a child process
    that a timeout can kill).
    """

    attempts: int | None
    backoff: Backoff | CustomBackoff | None
    timeout: float | timedelta | None
    priority: int
    max_stalls: int | None
    keep_for: float | timedelta | None
    expires_in: float | timedelta | None
    final_on: type[BaseException] | tuple[type[BaseException], ...]
    isolated: bool


class BatchOptions(ProcessorOptions, total=False):
    """What may be said about a processor that takes many jobs at once.

    `batch` (how many at most), `wait` (for how many seconds a batch that is not full is gathered, default 0).
    """

    batch: int
    wait: float | timedelta


class BoundOptions(AddOptions, total=False):
    """What may be said to `BoundProcessor.options`: what `Queue.add` takes."""

    within: Any
    patience: float | timedelta


_HOW = BoundOptions.__annotations__.keys() - AddOptions.__annotations__.keys()


class Decorate(Protocol):
    """The decorator that `processor` gives: the run's parameter is not one of `.add`'s."""

    @overload
    def __call__(self, function: Callable[Concatenate[ActiveJob, P], Awaitable[R]]) -> BoundProcessor[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[SyncActiveJob, P], R]) -> BoundProcessor[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]]) -> BoundProcessor[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> BoundProcessor[P, R]: ...


class DecorateBatch(Protocol):
    """The decorator that `processor` gives with `batch`: its `add` adds one job."""

    @overload
    def __call__(self, function: Callable[[list[ActiveJob]], Awaitable[R]]) -> BoundProcessor[..., R]: ...
    @overload
    def __call__(self, function: Callable[[list[SyncActiveJob]], R]) -> BoundProcessor[..., R]: ...
    @overload
    def __call__(self, function: Callable[[list[T]], Awaitable[R]]) -> BoundProcessor[[T], R]: ...
    @overload
    def __call__(self, function: Callable[[list[T]], R]) -> BoundProcessor[[T], R]: ...


class BoundProcessor(Generic[P, R]):
    """A declared processor: still the plain function when called, and a typed way to add its jobs."""

    def __init__(self, queue: AppQueue, declared: Declaration, options: BoundOptions | None = None) -> None:
        functools.update_wrapper(self, declared.function)
        self.queue = queue
        self.declared = declared
        self.function = declared.function
        self._options: BoundOptions = options or {}

    def __repr__(self) -> str:
        return f"<BoundProcessor {self.queue.name}/{self.declared.name or '*'} {self.declared.where}>"

    @property
    def name(self) -> str:
        """The job name that it is for; the function's own name for a default processor."""
        return self.declared.name or self.function.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def options(self, **options: Unpack[BoundOptions]) -> BoundProcessor[P, R]:
        """The same processor, whose `add` says so about its jobs; see `Queue.add`. Checked at once."""
        merged: BoundOptions = {**self._options, **options}
        bound: BoundProcessor[P, R] = BoundProcessor(self.queue, self.declared, merged)
        self.queue.new(self.name, None, **bound._said())
        return bound

    async def add(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Add a job with these arguments as its data; raises `DataError` when they do not fit the annotations."""
        [job] = await self.queue.add_many([self.new(*args, **kwargs)], **self._how)
        return job

    def add_sync(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """`add` for blocking code."""
        [job] = self.queue.sync.add_many([self.new(*args, **kwargs)], **self._how)
        return job

    def new(self, *args: P.args, **kwargs: P.kwargs) -> NewJob:
        """Make a job with these arguments, to be added later with `add_many`; raises as `add` does."""
        job = self.queue.new(self.name, self.declared.binding.data(args, kwargs), **self._said())
        self.declared.binding.check(job.data)
        return job

    def _said(self) -> AddOptions:
        return cast(AddOptions, {name: said for name, said in self._options.items() if name not in _HOW})

    @property
    def _how(self) -> dict[str, Any]:
        """What was said of the adding, and not of the job."""
        return {name: said for name, said in self._options.items() if name in _HOW}


class AppQueue(Queue):
    """A queue of a program that can declare processors; what `Muskox.queue` gives."""

    def __init__(self, *args: Any, registry: Registry, sync: Callable[[AppQueue], SyncQueue], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._registry = registry
        self.sync = sync(self)
        """The same verbs for blocking code."""

    @overload
    def processor(self, name: str | None = None, **options: Unpack[ProcessorOptions]) -> Decorate: ...
    @overload
    def processor(
        self, name: str | None = None, *, batch: int, wait: float | timedelta = ..., **options: Unpack[ProcessorOptions]
    ) -> DecorateBatch: ...
    def processor(self, name: str | None = None, **options: Any) -> Any:
        """Declare the decorated function as the processor for a job name of this queue.

        Without a name, the function's own with `-` for `_`. Its parameters are the fields of the job's data; one
        annotated `ActiveJob` (`SyncActiveJob` in a plain `def`) is given the run. With `batch` it is given a list of
        as many runs, or data, at most, and may return a list of results. Raises `DeclarationError` for a name that
        is taken or a signature that JSON cannot fill, `OptionError` for options.
        """

        def decorate(function: Callable[..., Any]) -> BoundProcessor[Any, Any]:
            return self._declare(name_of(function) if name is None else name, function, cast(BatchOptions, options))

        return decorate

    def default_processor(self, **options: Unpack[ProcessorOptions]) -> Decorate:
        """Declare the decorated function for all job names of this queue that have no processor of their own."""

        def decorate(function: Callable[..., Any]) -> BoundProcessor[Any, Any]:
            return self._declare(None, function, options)

        return decorate

    def _declare(
        self, name: str | None, function: Callable[..., Any], options: BatchOptions | ProcessorOptions
    ) -> BoundProcessor[Any, Any]:
        if isinstance(function, BoundProcessor):
            function = function.function  # one function may run the jobs of several names
        declared = declaration(self.name, name, function, options)
        self._registry.declare(declared)
        return BoundProcessor(self, declared)


def declaration(
    queue: str, name: str | None, function: Callable[..., Any], options: BatchOptions | ProcessorOptions
) -> Declaration:
    """Check a function and its options and make a declaration of them."""
    where = checked(function)
    unknown = options.keys() - BatchOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(BatchOptions.__annotations__)
        raise OptionError(f"{where}: there is no option {min(unknown)!r} for a processor; the options are {known}")
    backoff = options.get("backoff")
    stored = backoff if isinstance(backoff, Fixed | Exponential | Steps) else None
    custom = None if backoff is stored else backoff
    if custom is not None and not callable(custom):
        raise OptionError(f"{where}: backoff must be Fixed, Exponential, Steps or a function, not {custom!r}")
    timeout, keep_for, expires_in = options.get("timeout"), options.get("keep_for"), options.get("expires_in")
    batch, wait = _batch(cast(BatchOptions, options), name, where)
    binding = bind_batch(function, where) if batch else bind(function, where)
    isolated = options.get("isolated", False)
    _check_run(function, binding.run_type, where)
    if isolated and not function.__qualname__.isidentifier():
        raise DeclarationError(
            f"{where} cannot be isolated: a child process must find it by its name; define it at module level"
        )
    # Checked now as its jobs will be, and not when the first is added.
    like_its_jobs = NewJob("-", queue, "-" if name is None else name, priority=options.get("priority", 0))
    return Declaration(
        queue=queue,
        name=name,
        function=function,
        binding=binding,
        mode=mode_of(function, isolated=isolated),
        options=Options(
            attempts=options.get("attempts"),
            backoff=stored,
            timeout=None if timeout is None else seconds(timeout, "timeout"),
            max_stalls=options.get("max_stalls"),
            keep_for=None if keep_for is None else seconds(keep_for, "keep_for"),
            expires_in=None if expires_in is None else seconds(expires_in, "expires_in"),
        ),
        priority=like_its_jobs.priority,
        backoff=custom if callable(custom) else None,
        final_on=_exceptions(options.get("final_on", ()), where),
        batch=batch,
        wait=wait,
    )


def _batch(options: BatchOptions, name: str | None, where: str) -> tuple[int, float]:
    """How many jobs a processor takes at once (0: one by one), and for how many seconds they are gathered."""
    if "batch" not in options:
        if "wait" in options:
            raise OptionError(f"{where}: wait says how long a batch is gathered; say batch= too")
        return 0, 0.0
    batch, wait = options["batch"], seconds(options.get("wait", 0.0), "wait")
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= MOST_IN_BATCH:
        raise OptionError(f"{where}: batch must be between 1 and {MOST_IN_BATCH} jobs, not {batch!r}")
    if not 0 <= wait <= LONGEST_WAIT:
        raise OptionError(f"{where}: wait must be between 0 and {LONGEST_WAIT:g} seconds, not {wait:g}")
    if name is None:
        raise DeclarationError(f"{where}: a default processor takes no batches, as its jobs have many names; name one")
    if options.get("isolated"):
        raise DeclarationError(f"{where}: a processor that takes batches cannot be isolated; leave one of the two out")
    return batch, wait


def checked(function: Callable[..., Any]) -> str:
    """The full name of what shall be a processor, which must be a function that returns its result."""
    if not inspect.isroutine(function):
        raise DeclarationError(f"a processor is a function or a method, not {function!r}; wrap it in a def")
    where = f"{function.__module__}.{function.__qualname__}"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DeclarationError(f"{where} yields, and nobody would take what it gives; return a list, or tell progress")
    return where


def _check_run(function: Callable[..., Any], run_type: Any, where: str) -> None:
    # Else the verbs of the run would be coroutines that nobody awaits, or None that somebody does.
    fitting = ActiveJob if inspect.iscoroutinefunction(function) else SyncActiveJob
    if run_type in (ActiveJob, SyncActiveJob) and run_type is not fitting:
        kind = "an async def" if fitting is ActiveJob else "a plain def"
        raise DeclarationError(f"{where} is {kind}: annotate its run as {fitting.__name__}, not {run_type.__name__}")


def _exceptions(given: Any, where: str) -> tuple[type[BaseException], ...]:
    found = given if isinstance(given, tuple | list) else (given,)
    for one in found:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise OptionError(f"{where}: final_on takes classes of exceptions, not {one!r}")
    return tuple(found)


def name_of(function: Callable[..., Any]) -> str:
    """The name that a function gives its jobs: its own with `-` for `_`."""
    name: str = getattr(function, "__name__", "")
    return name.replace("_", "-")


class Processor:
    """Base of classes that group the processors and listeners of one queue: `class Emails(Processor, queue="email")`.

    Mark methods with `process` and `on`, take dependencies through the constructor, and hand an instance to
    `Muskox.include`.
    """

    queue_name: str = ""

    def __init_subclass__(cls, queue: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if queue is not None:
            cls.queue_name = check_queue_name(queue)


def process(name: str | None = None, **options: Unpack[BatchOptions]) -> Callable[[F], F]:
    """Mark a method of a `Processor` as the processor for a job name; options as for `AppQueue.processor`."""

    def mark(method: F) -> F:
        setattr(method, _PROCESS, (name_of(method) if name is None else name, options))
        return method

    return mark


def process_others(**options: Unpack[ProcessorOptions]) -> Callable[[F], F]:
    """Mark a method of a `Processor` as the one for all job names of its queue that have no processor of their own."""

    def mark(method: F) -> F:
        setattr(method, _PROCESS, (None, options))
        return method

    return mark


def on(kind: str) -> Callable[[F], F]:
    """Mark a method of a `Processor` as a listener for a kind of event in its queue."""
    check_kind(kind)

    def mark(method: F) -> F:
        setattr(method, _ON, (*getattr(method, _ON, ()), kind))
        return method

    return mark


def include(registry: Registry, processor: Processor) -> None:
    """Declare everything that is marked in an instance of a processor class."""
    kind = type(processor)
    if isinstance(processor, type):
        raise DeclarationError(f"include takes an instance: include({processor.__name__}(…)), not the class")
    if not isinstance(processor, Processor) or not kind.queue_name:
        raise DeclarationError(
            f"{kind.__qualname__} is not a processor class with a queue; "
            f"write class {kind.__name__}(Processor, queue=…)"
        )
    marked = [getattr(processor, name) for name, member in inspect.getmembers_static(kind) if _is_marked(member)]
    if not marked:
        raise DeclarationError(f"{kind.__qualname__} has no method marked with process, on or a schedule; mark one")
    for method in marked:
        if hasattr(method, _PROCESS):
            name, options = getattr(method, _PROCESS)
            if options.get("isolated"):
                raise DeclarationError(
                    f"{kind.__qualname__}.{method.__name__} cannot be isolated: a child process has no such "
                    "instance; declare a function at module level"
                )
            registry.declare(declaration(kind.queue_name, name, method, options))
        for event in getattr(method, _ON, ()):
            registry.listen(event, kind.queue_name, cast(Listener, method))


def _is_marked(member: object) -> bool:
    # Looked up without calling properties of the class, which may do anything.
    inner = getattr(member, "__func__", member)
    return any(hasattr(inner, mark) for mark in (_PROCESS, _ON, TIMED_MARK))
