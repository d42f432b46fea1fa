"""Runs what a program has declared: a worker in this process, or several processes that are kept alive.

The runtime is loaded when it is first needed, so that a producer never loads it.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from muskox.core.errors import OptionError
from muskox.core.seam import World
from muskox.store.protocol import Store
from muskox.timed import Timed

if TYPE_CHECKING:
    from muskox.runtime.worker import Worker

__all__ = ["Running"]


class Running(Timed):
    """The part of an app that is about workers."""

    world: World

    @abstractmethod
    def _new_store(self) -> Store: ...

    @abstractmethod
    async def close(self) -> None: ...

    # --- working -----------------------------------------------------------------

    def worker(
        self,
        queues: Sequence[str] | None = None,
        *,
        concurrency: int = 10,
        lease: float = 30.0,
        shutdown_timeout: float = 25.0,
        poll: float = 1.0,
    ) -> Worker:
        """Make a worker for queues of this program, all that have a processor unless they are named.

        `concurrency` is how many jobs run at once; `lease` for how many seconds a claimed job is safe from other
        workers without a sign of life; `shutdown_timeout` how long a gentle stop waits for runs. It is started by
        `await worker.run()` or `async with worker:`.
        """
        runtime = importlib.import_module("muskox.runtime.worker")
        settings = runtime.Settings(concurrency, lease, shutdown_timeout, poll, self.data_limit)
        chosen = self.wanted(queues)
        worker: Worker = runtime.Worker(self._new_store, self.world, self.registry, chosen, settings)
        return worker

    def wanted(self, queues: Sequence[str] | None = None) -> list[str]:
        """The queues that a worker takes jobs from: all that have a processor, or those that are named.

        Raises `OptionError` for one that has no processor.
        """
        known = self.registry.queues()
        chosen = known if queues is None else [queues] if isinstance(queues, str) else list(queues)
        missing = [queue for queue in chosen if queue not in known]
        if missing:
            raise OptionError(
                f"no processor is declared for the queue {missing[0]!r}; declare one, "
                f"or use a queue that has one ({', '.join(known) or 'there is none yet'})"
            )
        if not chosen:
            raise OptionError("no processor is declared for any queue of this worker; declare one first")
        return chosen

    def run_worker(
        self,
        queues: Sequence[str] | None = None,
        *,
        concurrency: int = 10,
        lease: float = 30.0,
        shutdown_timeout: float = 25.0,
    ) -> None:
        """Run a worker in this process until SIGTERM or SIGINT; from the main thread, blocking.

        The first signal lets runs end, the second gives their jobs back at once, the third ends the process.
        Uses uvloop where it is installed.
        """
        signals = importlib.import_module("muskox.runtime.signals")

        async def work() -> None:
            try:
                worker = self.worker(queues, concurrency=concurrency, lease=lease, shutdown_timeout=shutdown_timeout)
                await signals.run_until_signal(worker)
            finally:
                await self.close()

        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(work())

    def run_processes(self, commands: Sequence[Sequence[str]], *, reload: Collection[Path] = ()) -> int:
        """Keep a process alive for each of the commands; returns the exit code. Blocking.

        With `reload`, a change to a Python file under these paths restarts them (needs watchfiles).
        """
        supervisor = importlib.import_module("muskox.runtime.supervisor")
        code: int = supervisor.run_processes(commands, reload=reload, world=self.world)
        return code

    def follow_supervisor(self) -> None:
        """Die with the process that `run_processes` runs in, where it has started this one. A worker does it itself."""
        importlib.import_module("muskox.runtime.parent").follow_supervisor()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory
