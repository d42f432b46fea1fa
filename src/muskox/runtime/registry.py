"""Who runs what and who hears what: (queue, name) → processor, event → listeners.

Filled while a program is imported, read while it runs. It calls nobody.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from muskox.core.backoff import CustomBackoff
from muskox.core.binding import Binding
from muskox.core.errors import DeclarationError
from muskox.core.events import Event, check_kind
from muskox.core.intent import Intent
from muskox.core.job import Options, Retention, check_job_name, check_queue_name
from muskox.core.kept import Kept
from muskox.core.limits import Limits
from muskox.core.schedule import Owner
from muskox.core.tracing import Tracing
from muskox.store.protocol import Want

__all__ = ["Beside", "Declaration", "Listener", "Mode", "Registry"]

Listener = Callable[[Any], Awaitable[None] | None]
"""Called with an `Event`; what it returns is dropped, what it raises is reported."""


class Mode(StrEnum):
    """Where a processor runs: on the loop, in a thread, or in a child process."""

    ASYNC = "async"
    THREAD = "thread"
    ISOLATED = "isolated"


@dataclass(frozen=True, slots=True)
class Declaration:
    """A processor as it was declared. `name` None: for names without one of their own."""

    queue: str
    name: str | None
    function: Callable[..., Any]
    binding: Binding
    mode: Mode
    options: Options
    priority: int = 0
    backoff: CustomBackoff | None = None
    final_on: tuple[type[BaseException], ...] = ()
    batch: int = 0
    """So many jobs at once at most; 0 for a processor that takes them one by one."""
    wait: float = 0.0
    """For so many seconds a batch is gathered that is not full."""

    @property
    def where(self) -> str:
        """The function's full name, for messages."""
        return f"{self.function.__module__}.{self.function.__qualname__}"


@dataclass(frozen=True, slots=True)
class Beside:
    """A function that every worker process calls at its moments, without a job."""

    intent: Intent
    function: Callable[..., Any]

    @property
    def where(self) -> str:
        """The function's full name, for messages."""
        return f"{self.function.__module__}.{self.function.__qualname__}"


def mode_of(function: Callable[..., Any], *, isolated: bool) -> Mode:
    """Tell how a function must be run from what kind of function it is."""
    if isolated:
        return Mode.ISOLATED
    return Mode.ASYNC if inspect.iscoroutinefunction(function) else Mode.THREAD


@dataclass(slots=True)
class Registry:
    """What one program has declared."""

    _processors: dict[tuple[str, str | None], Declaration] = field(default_factory=dict)
    _listeners: list[tuple[str, str | None, Listener]] = field(default_factory=list)
    _retentions: dict[str, Retention] = field(default_factory=dict)
    limits: dict[str, Limits] = field(default_factory=dict)
    """What queues shall be limited to, as far as the program says anything of it."""
    _schedules: dict[str, Intent] = field(default_factory=dict)
    takes_batches: bool = False
    """Whether any processor does."""
    _beside: dict[str, Beside] = field(default_factory=dict)
    tracing: Tracing | None = None
    """Who follows the runs of workers that begin from now on."""

    def declare(self, declaration: Declaration) -> None:
        """Take a processor; raises `DeclarationError` when its name is taken in its queue."""
        check_queue_name(declaration.queue)
        if declaration.name is not None:
            check_job_name(declaration.name)
        key = declaration.queue, declaration.name
        taken = self._processors.get(key)
        if taken is not None:
            what = "a default processor" if declaration.name is None else f"a processor for {declaration.name!r}"
            raise DeclarationError(
                f"queue {declaration.queue!r} already has {what}: {taken.where}; give {declaration.where} another name"
            )
        self._processors[key] = declaration
        self.takes_batches = self.takes_batches or declaration.batch > 0

    def schedule(self, intent: Intent) -> None:
        """Take a schedule; raises `DeclarationError` when its name is taken."""
        self._check_schedule(intent.schedule.name)
        self._schedules[intent.schedule.name] = intent

    def schedules(self) -> list[Intent]:
        """The schedules that were declared, in that order."""
        return list(self._schedules.values())

    def is_orphan(self, kept: Kept) -> bool:
        """Whether a schedule was declared by code that is not there any more.

        Only for queues of this program: what other programs on the same store declare is theirs.
        """
        schedule = kept.schedule
        return schedule.owner is Owner.CODE and schedule.name not in self._schedules and schedule.queue in self.queues()

    def run_beside(self, beside: Beside) -> None:
        """Take a function that runs in each process; raises `DeclarationError` when its name is taken."""
        self._check_schedule(beside.intent.schedule.name)
        self._beside[beside.intent.schedule.name] = beside

    def beside(self) -> list[Beside]:
        """The functions that run in each process, in the order of declaration."""
        return list(self._beside.values())

    def _check_schedule(self, name: str) -> None:
        if name in self._schedules or name in self._beside:
            raise DeclarationError(f"a schedule named {name!r} is declared already; give one of them another name=")

    def find(self, queue: str, name: str) -> Declaration | None:
        """The processor for a job name, the default one of the queue, or None."""
        return self._processors.get((queue, name)) or self._processors.get((queue, None))

    def queues(self) -> list[str]:
        """The queues that have a processor, in the order of declaration."""
        return list(dict.fromkeys(queue for queue, _ in self._processors))

    def wants(self, queues: Iterable[str]) -> list[Want]:
        """What a worker for these queues can run; queues without a processor are left out."""
        wants = []
        for queue in queues:
            its = {name: declared for (owner, name), declared in self._processors.items() if owner == queue}
            names = None if None in its else frozenset(name for name in its if name is not None)
            stalls = {name or "": said for name, one in its.items() if (said := one.options.max_stalls) is not None}
            if its:
                wants.append(Want(queue, names, stalls))
        return wants

    def single_wants(self, queues: Iterable[str]) -> list[Want]:
        """As `wants`, without the names of processors that take batches, where names are said at all."""
        queues = list(queues)
        batches = {(one.queue, one.name) for one in self.batched(queues)}
        found = []
        for want in self.wants(queues):
            if want.names is None:
                found.append(want)
            elif names := frozenset(name for name in want.names if (want.queue, name) not in batches):
                found.append(Want(want.queue, names, want.max_stalls))
        return found

    def want_of(self, declaration: Declaration) -> Want:
        """What a worker for one processor can run."""
        assert declaration.name is not None, "default processors want many names"
        stalls = declaration.options.max_stalls
        named = {} if stalls is None else {declaration.name: stalls}
        return Want(declaration.queue, frozenset({declaration.name}), named)

    def batched(self, queues: Iterable[str]) -> list[Declaration]:
        """The processors of these queues that take batches, in the order of declaration."""
        asked = set(queues)
        return [one for (queue, _), one in self._processors.items() if queue in asked and one.batch]

    def listen(self, kind: str, queue: str | None, listener: Listener) -> None:
        """Have `listener` called for events of a kind, of one queue or of all."""
        check_kind(kind)
        self._listeners.append((kind, queue, listener))

    def listeners(self, event: Event) -> list[Listener]:
        """Who hears this event, in the order of declaration."""
        return [
            listener for kind, queue, listener in self._listeners if kind == event.kind and queue in (None, event.queue)
        ]

    def hears(self, kind: str, queue: str) -> bool:
        """Whether any listener hears such an event."""
        return any(of == kind and owner in {None, queue} for of, owner, _ in self._listeners)

    def heard(self) -> set[str]:
        """The kinds of event that have a listener."""
        return {kind for kind, _, _ in self._listeners}

    def keep(self, queue: str, retention: Retention) -> None:
        """Set how long ended jobs of a queue are kept."""
        self._retentions[queue] = retention

    def limit(self, queue: str, limits: Limits) -> None:
        """Say which limits a queue shall have."""
        self.limits[queue] = limits

    def retention(self, queue: str) -> Retention:
        return self._retentions.get(queue) or _DEFAULT_RETENTION

    def retentions(self) -> dict[str, Retention]:
        """The rules that were set, by queue."""
        return dict(self._retentions)


_DEFAULT_RETENTION = Retention()
