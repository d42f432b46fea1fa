"""One thread that owns one connection and runs steps on it, many in one transaction.

A step is a function of a `Tx`. Everything that waits when a transaction begins
joins it, so that many callers share one commit and one hop between threads. It
does not know what the steps do.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from muskox.core.errors import StoreError, StoreUnavailable
from muskox.core.seam import World
from muskox.store.sqlite.database import Location, connect, is_busy, is_undecodable, translate
from muskox.store.sqlite.tx import Again, Lane, Tx

__all__ = ["Line"]

T = TypeVar("T")

Step = Callable[[Tx], Any]


class _Waiting(NamedTuple):
    step: Step
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    last: bool


_Answer = tuple["asyncio.Future[Any]", Any, BaseException | None]

MOST_STEPS = 500
SELDOM = 100
"""One in so many steps that could run in the caller's thread goes through the line all the same."""
CHECKPOINT_BYTES = 64 * 1024 * 1024
"""A write-ahead log longer than this is moved into the database, which takes some 0.1 s each time."""
IDLE_BYTES = 1024 * 1024
"""When nobody has come for a while, a shorter one is too."""
IDLE = 0.5
PATIENCE_TO_CHECKPOINT = 1000
"""Milliseconds: without the writer's lock SQLite would fall back to a checkpoint beside other writers."""


def _nothing(tx: Tx) -> None:
    pass


class Line:
    """A line of steps before one connection; steps are run in the order in which they came."""

    def __init__(
        self,
        location: Location,
        world: World,
        *,
        writing: bool,
        begun: Callable[[Tx], object] = _nothing,
        committed: Callable[[Tx], object] = _nothing,
    ) -> None:
        """`begun` comes before the steps of a transaction, but not in `run_here`; `committed` after it."""
        self._location = location
        self._world = world
        self._writing = writing
        self._begun = begun
        self._committed = committed
        self._inbox: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._turn = threading.Lock()
        self._pause = threading.Event()
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._serve, name="muskox-sqlite", daemon=True)
        self._closed = False
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._changes = 0
        self._unmoved: float | None = None
        """When something was last written that is still in the write-ahead log."""
        self._here = 0

    def open(self, prepare: Callable[[sqlite3.Connection], object] = lambda db: None) -> None:
        """Connect and `prepare` in the caller's thread, then start the line's own; raises `StoreError` and its kin."""
        self._connection = connect(self._location, writing=self._writing)
        try:
            prepare(self._db)
            # From here on the line itself waits for the lock, in shorter steps than SQLite's.
            self._db.execute("PRAGMA busy_timeout = 0")
        except sqlite3.Error as error:
            raise translate(error, self._location) from error
        self._thread.start()

    def close(self) -> None:
        """Run what is already in the line, then let go of the connection; blocks until that is done."""
        if self._closed:
            return
        self._closed = True
        self._inbox.put(None)
        if self._thread.is_alive():
            self._thread.join()

    async def run(self, step: Callable[[Tx], T], *, last: bool = False) -> T:
        """Have `step` run in the next transaction; its exception is raised here, its writes then undone.

        `last`: what comes after it waits for the transaction after that, so that its answer is not kept waiting.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._closed:
            raise StoreUnavailable("the store is closed; open a new one")
        self._inbox.put(_Waiting(step, loop, future, last))
        return await future

    def run_here(self, step: Callable[[Tx], T]) -> T | None:
        """Run `step` at once in the caller's thread if nobody is in the line and nobody holds the lock; else None.

        None too when the transaction would have to write more than its step does, whose answer must not be None.
        A short step costs about as much as the hop to the line's thread and back, so that a lone caller is served in
        half the time (docs/decisions/sqlite.md has the figures).
        """
        if self._location.durability != "default" or self._closed or not self._inbox.empty():
            return None
        self._here += 1
        if self._here % SELDOM == 0:  # through the line, which looks after the write-ahead log
            return None
        if not self._turn.acquire(blocking=False):
            return None
        try:
            tx = Tx(self._db, self._world, self._lanes)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                tx.begin()
                if tx.changed:
                    self._undo()
                    return None
                answer = self._finish(tx, step)
            except BaseException:
                self._undo()
                raise
        except sqlite3.Error as error:
            if is_busy(error) or is_undecodable(error):
                return None
            raise translate(error, self._location) from error
        finally:
            self._turn.release()
        self._committed(tx)
        return answer

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None, "a line is opened before it is used"
        return self._connection

    def _serve(self) -> None:
        while (first := self._next()) is not None:
            batch, last = self._gather(first)
            with self._turn:
                answers = self._run_together(batch)
                self._deliver(answers)
                if self._writing:
                    self._look_after_log()
            if last:
                break
        with self._turn:
            if self._writing:
                self._checkpoint(0)
            self._db.close()

    def _next(self) -> _Waiting | None:
        if self._unmoved is not None:
            try:
                return self._inbox.get(timeout=IDLE)
            except queue.Empty:
                with self._turn:
                    self._look_after_log()
        return self._inbox.get()

    def _look_after_log(self) -> None:
        """Move the write-ahead log into the database when it is long, or when nothing has been written for a while."""
        now, changes = self._world.monotonic(), self._db.total_changes
        if changes != self._changes:
            self._changes, self._unmoved = changes, now
            self._checkpoint(CHECKPOINT_BYTES)
        elif self._unmoved is not None and now - self._unmoved >= IDLE / 2:
            self._unmoved = None
            self._checkpoint(IDLE_BYTES)

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        batch = [first]
        try:
            while len(batch) < MOST_STEPS and not batch[-1].last:
                item = self._inbox.get_nowait()
                if item is None:
                    return batch, True
                batch.append(item)
        except queue.Empty:
            pass
        return batch, False

    def _run_together(self, batch: list[_Waiting]) -> list[tuple[asyncio.AbstractEventLoop, _Answer]]:
        """Run the steps in one transaction; where one of them fails, each again in one of its own."""
        wanted = [waiting for waiting in batch if not waiting.future.cancelled()]
        try:
            tx, values = self._transact([waiting.step for waiting in wanted])
        except Again:
            return self._run_together(wanted)
        except BaseException as error:  # noqa: BLE001 - whatever a step raised belongs to its caller
            if len(wanted) > 1 and not isinstance(error, StoreUnavailable):
                return [answer for one in wanted for answer in self._run_together([one])]
            return [(waiting.loop, (waiting.future, None, error)) for waiting in wanted]
        self._committed(tx)
        return [(waiting.loop, (waiting.future, value, None)) for waiting, value in zip(wanted, values, strict=True)]

    def _transact(self, steps: list[Step]) -> tuple[Tx, list[Any]]:
        """Run steps under the lock, asking for it again while others hold it."""
        attempt, waited = 0, 0.0
        while True:
            tx = Tx(self._db, self._world, self._lanes)
            try:
                self._db.execute("BEGIN IMMEDIATE" if self._writing else "BEGIN")
                if self._writing:
                    tx.begin()
                    self._begun(tx)
                else:
                    tx.look()
                return tx, self._finish(tx, partial(_run_all, steps))
            except sqlite3.Error as error:
                self._undo()
                if is_undecodable(error) and self._db.text_factory is str:
                    # One damaged text must not stop a queue. From here on all texts are read the slow, patient way.
                    self._db.text_factory = _lenient
                    continue
                if not is_busy(error) or waited >= self._location.patience:
                    raise translate(error, self._location) from error
            except BaseException:
                self._undo()
                raise
            attempt += 1
            waited += self._wait_for_lock(attempt)

    def _finish(self, tx: Tx, step: Callable[[Tx], T]) -> T:
        answer = step(tx)
        tx.write()
        self._db.execute("COMMIT")
        if tx.met:
            self._lanes.update(tx.met)
        return answer

    def _wait_for_lock(self, attempt: int) -> float:
        """Wait a moment and give its length: patience is real time, also in a world whose clock stands still."""
        # SQLite's own waiting grows to 100 ms a step, which lets one process starve another.
        moment = min(0.0002 * attempt, 0.005) * (0.5 + self._world.chance())
        self._pause.wait(moment)
        return moment

    def _undo(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:  # the first error is the one to tell; SQLite has rolled back by itself
            pass

    def _deliver(self, answers: list[tuple[asyncio.AbstractEventLoop, _Answer]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
        for loop, answer in answers:
            by_loop.setdefault(loop, []).append(answer)
        for loop, its in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve, its)
            except RuntimeError:  # the caller's loop has ended: nobody waits any more
                continue

    def _checkpoint(self, most: int) -> None:
        """Move the write-ahead log into the database when it is longer than `most` bytes.

        TRUNCATE takes the writer's lock first; while a reader is in the way it does what it can.
        """
        if self._location.path is None:
            return
        try:
            if Path(f"{self._location.path}-wal").stat().st_size > most:
                self._db.execute(f"PRAGMA busy_timeout = {PATIENCE_TO_CHECKPOINT}")
                try:
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                finally:
                    self._db.execute("PRAGMA busy_timeout = 0")
        except (sqlite3.Error, OSError):  # locked or full: the next commit tries again
            return


def _run_all(steps: list[Step], tx: Tx) -> list[Any]:
    return [step(tx) for step in steps]


def _lenient(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _resolve(answers: list[_Answer]) -> None:
    for future, value, error in answers:
        if future.done():
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error if isinstance(error, Exception) else StoreError(repr(error)))
